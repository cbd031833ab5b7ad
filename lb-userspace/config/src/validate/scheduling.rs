//! Schedulers: their names, their flags, and what they do not go with.

use lb_model::{Hashing, Protocol, Scheduler, Service, Stray};

use super::{Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

const SCHEDULERS: [(&str, Scheduler); Scheduler::ALL.len()] = {
    let mut named = [("", Scheduler::Rr); Scheduler::ALL.len()];
    let mut index = 0;
    while index < named.len() {
        let scheduler = Scheduler::ALL[index];
        named[index] = (scheduler.name(), scheduler);
        index += 1;
    }
    named
};

/// Where packets in mid-connection that nobody knows go by default: where the scheduler would send
/// them, if their connection went there, too.
pub(super) const fn usual_stray(scheduler: Scheduler) -> Stray {
    if scheduler.hashes() { Stray::Hash } else { Stray::Pass }
}

/// Schedulers of IPVS that are not among ours on purpose.
fn scheduler(text: &str) -> Result<Scheduler, String> {
    match text {
        "lblc" | "lblcr" => Err("it is for caches that see the addresses of all sites, while the packets of a \
                                 service have one destination, its VIP, so it would be wlc: expected wlc, or mh for \
                                 caches behind one VIP"
            .to_owned()),
        text => values::choice(text, &SCHEDULERS),
    }
}

impl Validator {
    pub(super) fn scheduler(
        &mut self,
        service: &yaml::Service,
        span: SourceSpan<'_>,
        default: Scheduler,
    ) -> Scheduler {
        let value = Value::of(&service.scheduler, "scheduler", span);
        self.optional(value, scheduler).unwrap_or(default)
    }

    pub(super) fn hashing(
        &mut self,
        service: &yaml::Service,
        span: SourceSpan<'_>,
        scheduler: Scheduler,
    ) -> Hashing {
        let Some(yaml::Hash { port, fallback }) = &service.hash else { return Hashing::default() };
        let span = span.key("hash");
        let mut switch = |scalar, key| {
            let value = Value::of(scalar, key, span);
            let on = self.one_of(value, &values::SWITCH, false);
            if on && !scheduler.has_flags() {
                let name = scheduler.name();
                let wrong =
                    format!("{name} does not hash clients: expected `scheduler: sh` or mh beside it, or off");
                self.wrong(value, &wrong);
            }
            on
        };
        Hashing { port: switch(port, "port"), fallback: switch(fallback, "fallback") }
    }

    /// One-packet scheduling works for UDP only, and not with schedulers that go by connections: it
    /// creates none to count.
    pub(super) fn datagrams_can_be_spread(
        &mut self,
        given: &[yaml::Service],
        services: &[Service],
        span: SourceSpan<'_>,
    ) {
        let each = given.iter().zip(services).enumerate();
        for (index, (given, service)) in each.filter(|(_, (_, service))| service.ops) {
            let value = Value::of(&given.ops, "ops", span.item(index));
            if service.key.protocol == Protocol::Tcp {
                let wrong = "one-packet scheduling picks a server for every packet, which would break TCP \
                             connections: expected `protocol: udp` beside it, or off";
                self.wrong(value, wrong);
            } else if service.scheduler.counts() {
                let wrong = format!(
                    "one-packet scheduling creates no connections that {} could count, so all packets would go to \
                     one server: expected `scheduler: rr`, wrr, sh, dh, mh, fo or twos beside it, or off",
                    service.scheduler.name()
                );
                self.wrong(value, &wrong);
            }
        }
    }
}

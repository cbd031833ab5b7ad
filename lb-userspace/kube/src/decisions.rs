//! What the leader writes to the cluster: pure. Each Service gets what it lacks, one write at a
//! time; the watch tells when that has been done, and then follows the next one.
//!
//! The order of things: our finalizer, then addresses in the status, then (from all directors) the
//! service itself, then the condition that says so. Back: the service goes, then the addresses,
//! then the finalizer.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::cluster::{FINALIZER, Name, Service};
use crate::config::Config;
use crate::pools::{Claim, assign};

/// The type of our condition in a Service's status.
pub(crate) const SERVED: &str = "lb-kube/Served";

/// What the director beside the leader says of what it was last given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Services that it was given.
    pub given: BTreeSet<Name>,
    /// Those of them that it does not serve, or not all of them; and why.
    pub left_out: BTreeMap<Name, String>,
}

/// A change of a Service. All are refused by the API server if it has changed meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub name: Name,
    pub uid: String,
    /// The resource version that it follows from.
    pub version: String,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    Finalizers(Vec<String>),
    Status {
        addresses: Vec<IpAddr>,
        /// All that there are to be.
        conditions: Vec<Condition>,
        /// OngoingTrouble as an event, if it is news.
        news: Option<Verdict>,
    },
}

/// What our condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub is_well: bool,
    pub reason: &'static str,
    pub message: String,
}

/// Addresses that were written, or sent at least, and that the watch has not shown yet; each with
/// the version of the Service that its write follows from. Nobody else gets them meanwhile. Another
/// version of the Service tells what has come of the write.
#[derive(Debug, Default)]
pub(crate) struct Unseen(BTreeMap<Name, (String, Vec<IpAddr>)>);

impl Unseen {
    /// The Services with these addresses in their status.
    fn shown<'a>(&mut self, services: &'a BTreeMap<Name, Service>) -> Cow<'a, BTreeMap<Name, Service>> {
        self.0.retain(|name, (version, _)| services.get(name).is_some_and(|known| known.version == *version));
        let mut services = Cow::Borrowed(services);
        for (name, (_, addresses)) in &self.0 {
            if let Some(service) = services.to_mut().get_mut(name) {
                service.addresses.clone_from(addresses);
            }
        }
        services
    }

    fn note(&mut self, writes: &[Write]) {
        for Write { name, version, what, .. } in writes {
            if let What::Status { addresses, .. } = what
                && !addresses.is_empty()
            {
                self.0.insert(name.clone(), (version.clone(), addresses.clone()));
            }
        }
    }
}

/// What is to be written now. `unseen` has what these writes were before; `answer`: `None` as long
/// as the director has not said anything.
pub(crate) fn writes(
    services: &BTreeMap<Name, Service>,
    config: &Config,
    unseen: &mut Unseen,
    answer: Option<&Answer>,
    now: Timestamp,
) -> Vec<Write> {
    let claims = assign(&unseen.shown(services), config);
    let writes = services.iter().filter_map(|(name, service)| {
        let what = match claims.get(name) {
            Some(claim) => of_ours(name, service, claim, answer, now),
            None => of_former(name, service, answer),
        };
        let (uid, version) = (service.uid.clone(), service.version.clone());
        Some(Write { name: name.clone(), uid, version, what: what? })
    });
    let writes: Vec<Write> = writes.collect();
    unseen.note(&writes);
    writes
}

fn of_ours(
    name: &Name,
    service: &Service,
    claim: &Claim,
    answer: Option<&Answer>,
    now: Timestamp,
) -> Option<What> {
    if !service.has_finalizer() {
        let finalizers = service.finalizers.iter().cloned().chain([FINALIZER.to_owned()]);
        return Some(What::Finalizers(finalizers.collect()));
    }
    let known = service.conditions.iter().find(|condition| condition.type_ == SERVED);
    let news = verdict(name, service, claim, answer).filter(|verdict| !verdict.is_told_by(known));
    if service.addresses == claim.addresses && news.is_none() {
        return None;
    }
    let conditions = match &news {
        Some(verdict) => with(&service.conditions, verdict.condition(known, now)),
        None => service.conditions.clone(),
    };
    Some(What::Status { addresses: claim.addresses.clone(), conditions, news })
}

/// Of a Service that is not ours any more, or goes.
fn of_former(name: &Name, service: &Service, answer: Option<&Answer>) -> Option<What> {
    // As long as the director may serve it, nobody else may have the address.
    let is_served = answer.is_none_or(|answer| answer.given.contains(name));
    if !service.has_finalizer() || is_served {
        return None;
    }
    let others: Vec<Condition> = without(&service.conditions).cloned().collect();
    let has_ours = others.len() < service.conditions.len();
    if !service.is_deleted && (has_ours || !service.addresses.is_empty()) {
        return Some(What::Status { addresses: Vec::new(), conditions: others, news: None });
    }
    let others = service.finalizers.iter().filter(|finalizer| *finalizer != FINALIZER);
    Some(What::Finalizers(others.cloned().collect()))
}

/// `None`: there is nothing to say yet.
fn verdict(name: &Name, service: &Service, claim: &Claim, answer: Option<&Answer>) -> Option<Verdict> {
    let ill = |reason, message: String| Some(Verdict { is_well: false, reason, message });
    if let Some(trouble) = &claim.trouble {
        return ill(trouble.reason(), trouble.to_string());
    }
    let is_unknown = |protocol: &str| !matches!(protocol, "TCP" | "UDP");
    if let Some(port) = service.ports.iter().find(|port| is_unknown(&port.protocol)) {
        let message = format!("port {} is of {}, and lb balances TCP and UDP", port.port, port.protocol);
        return ill("ProtocolNotSupported", message);
    }
    let answer = answer?;
    if let Some(why) = answer.left_out.get(name) {
        return ill("RefusedByDirector", format!("the director does not serve it: {why}"));
    }
    if !answer.given.contains(name) || service.addresses != claim.addresses {
        return None;
    }
    let addresses: Vec<String> = claim.addresses.iter().map(ToString::to_string).collect();
    let message = format!("the directors serve it at {}", addresses.join(", "));
    Some(Verdict { is_well: true, reason: "Served", message })
}

impl Verdict {
    const fn status(&self) -> &'static str {
        if self.is_well { "True" } else { "False" }
    }

    fn is_told_by(&self, known: Option<&Condition>) -> bool {
        known.is_some_and(|known| {
            known.status == self.status() && known.reason == self.reason && known.message == self.message
        })
    }

    fn condition(&self, known: Option<&Condition>, now: Timestamp) -> Condition {
        let since = known.filter(|known| known.status == self.status());
        Condition {
            type_: SERVED.to_owned(),
            status: self.status().to_owned(),
            reason: self.reason.to_owned(),
            message: self.message.clone(),
            last_transition_time: since.map_or(Time(now), |known| known.last_transition_time.clone()),
            observed_generation: None,
        }
    }
}

/// Those of others.
fn without(conditions: &[Condition]) -> impl Iterator<Item = &Condition> {
    conditions.iter().filter(|condition| condition.type_ != SERVED)
}

fn with(conditions: &[Condition], ours: Condition) -> Vec<Condition> {
    without(conditions).cloned().chain([ours]).collect()
}

#[cfg(test)]
mod tests;

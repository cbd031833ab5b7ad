//! Which service has which ports of a VIP, and what does not go with several of them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use lb_model::{Fallback, Ports, Protocol, Service, ServiceKey};

use super::probe::Kind;
use super::{Validator, Value};
use crate::source_map::SourceSpan;
use crate::yaml;

/// The ports of the services so far, each with the `vip` of its service.
#[derive(Default)]
pub(super) struct Taken<'a> {
    keys: HashMap<ServiceKey, SourceSpan<'a>>,
    single: HashMap<(IpAddr, Protocol, u16), SourceSpan<'a>>,
    /// By the first port of a range: its last one.
    ranges: BTreeMap<(IpAddr, Protocol, u16), (u16, SourceSpan<'a>)>,
}

impl<'a> Taken<'a> {
    /// Notes the service's ports, or says which of them another one has.
    pub(super) fn insert(&mut self, service: &Service, vip_at: SourceSpan<'a>) -> Result<(), String> {
        let Service { key, ports, .. } = service;
        let ServiceKey { vip, protocol, port } = *key;
        let name = protocol.name();
        let begins = ports.ranges().first().is_some_and(|range| !range.is_one());
        for range in ports.ranges() {
            if !range.is_one() {
                self.insert_range(*key, (range.first, range.last), vip_at)?;
            } else if let Some(other) = self.single.insert((vip, protocol, range.first), vip_at) {
                let other = other.line_seen_from(vip_at);
                let what = match ports.is_one() {
                    true => format!("this address, port and protocol ({name})"),
                    false => format!("port {} of this address ({name})", range.first),
                };
                return Err(format!("the service in line {other} already has {what}"));
            }
        }
        match self.keys.insert(*key, vip_at).map(|other| other.line_seen_from(vip_at)) {
            None => Ok(()),
            Some(other) if port == 0 => {
                Err(format!("the service in line {other} already has all ports of this address ({name})"))
            }
            Some(other) => {
                let next = port.saturating_add(1);
                Err(match begins {
                    true => format!(
                        "the range begins with port {port}, which the service in line {other} has by itself: expected it \
                         to begin with {next}, which comes to the same"
                    ),
                    false => format!(
                        "the range of the service in line {other} begins with port {port}: expected it to begin with \
                         {next} there, which comes to the same"
                    ),
                })
            }
        }
    }

    fn insert_range(
        &mut self,
        key: ServiceKey,
        (first, last): (u16, u16),
        vip_at: SourceSpan<'a>,
    ) -> Result<(), String> {
        let ServiceKey { vip, protocol, .. } = key;
        let upto = (vip, protocol, 0)..=(vip, protocol, last);
        if let Some(((_, _, begin), (end, other))) = self.ranges.range(upto).next_back()
            && *end >= first
        {
            let other = other.line_seen_from(vip_at);
            return Err(format!(
                "the service in line {other} already has ports {begin}-{end} of this address ({}), expected ranges that \
                 do not overlap",
                protocol.name()
            ));
        }
        self.ranges.insert((vip, protocol, first), (last, vip_at));
        Ok(())
    }
}

impl Validator {
    /// What a service with several ports cannot have.
    pub(super) fn ports_suffice(
        &mut self,
        given: &[yaml::Service],
        services: &[Service],
        span: SourceSpan<'_>,
    ) {
        for (index, (given, service)) in given.iter().zip(services).enumerate() {
            let span = span.item(index);
            if service.ports.listed().is_some() || service.key.vip.is_unspecified() {
                continue;
            }
            if matches!(service.fallback, Fallback::Sorry(_)) {
                let wrong = format!(
                    "expected another fallback: the sorry page listens on each port by itself, and {} are too many; \
                     give those of the site as a list, such as 80,443",
                    of_ports(&service.ports)
                );
                self.wrong(Value::of(&given.fallback, "fallback", span), &wrong);
            }
            self.checks_know_their_port(given.check.as_ref(), &service.ports, span.key("check"));
            let servers = given.servers.iter().flatten().enumerate();
            for (index, server) in servers {
                let span = span.key("servers").item(index).key("check");
                self.checks_know_their_port(server.check.as_ref(), &service.ports, span);
            }
        }
    }

    /// Of a list of ports the first one is probed; a range tells nothing.
    fn checks_know_their_port(&mut self, checks: Option<&yaml::Checks>, ports: &Ports, span: SourceSpan<'_>) {
        match checks {
            None => {}
            Some(yaml::Checks::One(check)) => self.check_knows_its_port(check, ports, span),
            Some(yaml::Checks::Several(checks)) => {
                for (index, check) in checks.iter().enumerate() {
                    self.check_knows_its_port(check, ports, span.item(index));
                }
            }
        }
    }

    fn check_knows_its_port(&mut self, check: &yaml::Check, ports: &Ports, span: SourceSpan<'_>) {
        let kind = Value::of(&check.r#type, "type", span).text.and_then(|text| Kind::read(text).ok());
        if check.port.is_given() || !kind.is_some_and(Kind::connects) {
            return;
        }
        let ports = of_ports(ports);
        let by_vip = Value::of(&check.via, "via", span).text == Some("vip");
        let message = match by_vip {
            true => format!(
                "a check through the VIP connects to the service's port, and this service is {ports}: expected \
                 `via: server` with a `port`"
            ),
            false => format!("`port` is missing, expected the port to probe: the service is {ports}"),
        };
        self.mistake(span.key_at(), message);
    }
}

fn of_ports(ports: &Ports) -> String {
    if ports.is_all() { "of all ports".to_owned() } else { format!("of ports {ports}") }
}

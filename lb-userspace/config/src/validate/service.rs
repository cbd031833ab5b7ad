//! Services: each by itself, then all of them together.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use lb_model::{Damping, Fallback, Protocol, Quorum, Server, Service, ServiceKey, Stray, Timeouts};

use super::scheduling::usual_stray;
use super::server::Around;
use super::{DAY, SECOND, Unique, Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

/// Limits of the data path's maps.
const MOST_SERVICES: usize = 65_000;
const MOST_SERVERS: usize = 65_000;

const PROTOCOLS: [(&str, Protocol); 2] =
    [(Protocol::Tcp.name(), Protocol::Tcp), (Protocol::Udp.name(), Protocol::Udp)];
const STRAYS: [(&str, Stray); 2] = [("hash", Stray::Hash), ("pass", Stray::Pass)];
const MINUTE: Duration = Duration::from_secs(60);

/// Placeholder for the address and port of a service whose `vip` is missing or wrong. No valid VIP
/// has port 0.
const NO_VIP: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Validator {
    pub(super) fn services(
        &mut self,
        services: Option<&[yaml::Service]>,
        span: SourceSpan<'_>,
        timeouts: Timeouts,
    ) -> Vec<Service> {
        let services = services.unwrap_or_default();
        if services.is_empty() {
            self.mistake(span.key_at(), "`services` is missing or empty, expected at least one service");
        }
        let each = services.iter().enumerate();
        let checked: Vec<_> =
            each.map(|(index, service)| self.service(service, span.item(index), timeouts)).collect();
        self.limits(&checked, span);
        self.distinct_services(services, &checked, span);
        self.servers_are_not_vips(&checked, span);
        self.fallbacks_are_others(services, &checked, span);
        self.weights_can_grow(services, &checked, span);
        self.datagrams_can_be_spread(services, &checked, span);
        self.families_can(services, &checked, span);
        self.tunnels_have_servers(services, &checked, span);
        self.servers_have_one_interface(&checked, span);
        checked
    }

    fn service(&mut self, service: &yaml::Service, span: SourceSpan<'_>, timeouts: Timeouts) -> Service {
        let value = |scalar, key| Value::of(scalar, key, span);
        let (vip, port) = self.needed(value(&service.vip, "vip"), values::VIP, values::vip).unwrap_or(NO_VIP);
        let protocol = self.one_of(value(&service.protocol, "protocol"), &PROTOCOLS, Protocol::Tcp);
        let name = self.optional(value(&service.name, "name"), values::name);
        let drain =
            self.optional(value(&service.drain, "drain"), |text| values::time(text, Duration::ZERO..=DAY));
        let name = name.unwrap_or_else(|| format!("{}/{}", protocol.name(), SocketAddr::new(vip, port)));
        let default = Service::new(name, ServiceKey { vip, port, protocol });
        let slow_start = self.optional(value(&service.slow_start, "slow_start"), |text| {
            values::time(text, Duration::ZERO..=DAY)
        });
        let checks = self.checks(service.check.as_ref(), span.key("check"));
        let servers = service.servers.as_deref().unwrap_or_default();
        let scheduler = self.scheduler(service, span, default.scheduler);
        let forwarding = self.forwarding_defaults(service, span, vip);
        let around = Around { port, checks: &checks, forwarding };
        Service {
            scheduler,
            hashing: self.hashing(service, span, scheduler),
            fallback: self.fallback(service, span, protocol),
            quiescent: self.one_of(
                value(&service.quiescent, "quiescent"),
                &values::SWITCH,
                default.quiescent,
            ),
            slow_start: slow_start.unwrap_or(default.slow_start),
            damping: service.damping.as_ref().map(|damping| self.damping(damping, span.key("damping"))),
            quorum: self.quorum(service, span),
            hooks: self.service_hooks(service.hooks.as_ref(), span.key("hooks")),
            stray: self.one_of(value(&service.stray, "stray"), &STRAYS, usual_stray(scheduler)),
            ops: self.one_of(value(&service.ops, "ops"), &values::SWITCH, default.ops),
            timeouts: self.timeouts(service.timeouts.as_ref(), span.key("timeouts"), timeouts),
            vlan: self.optional(value(&service.vlan, "vlan"), values::vlan),
            drain: drain.unwrap_or(default.drain),
            servers: self.servers(servers, span.key("servers"), &around),
            ..default
        }
    }

    fn damping(&mut self, damping: &yaml::Damping, span: SourceSpan<'_>) -> Damping {
        let yaml::Damping { falls, within, hold } = damping;
        let falls = self.optional(Value::of(falls, "falls", span), |text| values::whole(text, 2..=100));
        let mut time = |scalar, key| {
            let value = Value::of(scalar, key, span);
            self.optional(value, |text| values::time(text, SECOND..=DAY)).unwrap_or(MINUTE)
        };
        Damping { falls: falls.unwrap_or(3), within: time(within, "within"), hold: time(hold, "hold") }
    }

    fn quorum(&mut self, service: &yaml::Service, span: SourceSpan<'_>) -> Quorum {
        let weight = Value::of(&service.quorum, "quorum", span);
        let weight = self.optional(weight, |text| values::whole(text, 1..=1_000_000_000)).unwrap_or(1);
        let hysteresis = Value::of(&service.hysteresis, "hysteresis", span);
        let most = u64::from(weight - 1);
        let hysteresis = self.optional(hysteresis, |text| {
            let less = |_| format!("expected a whole number below `quorum`, which is {weight}");
            values::whole(text, 0..=most).map_err(less)
        });
        Quorum { weight, hysteresis: hysteresis.unwrap_or_default() }
    }

    /// A service without servers needs a fallback that serves.
    fn fallback(&mut self, service: &yaml::Service, span: SourceSpan<'_>, protocol: Protocol) -> Fallback {
        let page = Value::of(&service.sorry_page, "sorry_page", span);
        let file = self.optional(page, |text| values::file_path(text, "/etc/lb/sorry.html"));
        let given = Value::of(&service.fallback, "fallback", span);
        let read = self.optional(given, |text| values::fallback(text, file));
        if page.text.is_some() && !matches!(read, Some(Fallback::Sorry(_))) {
            let message = "`sorry_page` belongs to `fallback: sorry`";
            self.mistake(page.span().key_at(), message);
        }
        if protocol == Protocol::Udp && matches!(read, Some(Fallback::Sorry(_))) {
            let wrong =
                "expected another fallback: the sorry page is served over HTTP, and this service is of UDP";
            self.wrong(given, wrong);
        }
        let nobody = matches!(read, Some(Fallback::None | Fallback::Refuse)) || given.text.is_none();
        if nobody && service.servers.as_ref().is_none_or(Vec::is_empty) {
            let message = "a service without servers serves nobody, expected `servers` or `fallback: local`";
            self.mistake(span.key("servers").key_at(), message);
        }
        read.unwrap_or(Fallback::None)
    }

    fn limits(&mut self, services: &[Service], span: SourceSpan<'_>) {
        self.at_most(MOST_SERVICES, services.len(), "services", span);
        let mut sum = 0;
        let crosses = services.iter().position(|service| {
            sum += service.servers.len();
            sum > MOST_SERVERS
        });
        if let Some(index) = crosses {
            let all: usize = services.iter().map(|service| service.servers.len()).sum();
            let message = format!("found {all} servers in all services, expected at most {MOST_SERVERS}");
            self.mistake(span.item(index).key("servers").key_at(), message);
        }
    }

    /// What services of IPv6 cannot do yet.
    fn families_can(&mut self, given: &[yaml::Service], services: &[Service], span: SourceSpan<'_>) {
        for (index, (given, service)) in given.iter().zip(services).enumerate() {
            let span = span.item(index);
            if service.key.vip.is_ipv4() {
                continue;
            }
            if service.fallback == Fallback::Refuse {
                let fallback = Value::of(&given.fallback, "fallback", span);
                self.wrong(fallback, "expected another fallback: `refuse` answers clients of IPv4 only");
            }
        }
    }

    fn distinct_services(&mut self, given: &[yaml::Service], services: &[Service], span: SourceSpan<'_>) {
        let mut keys = Unique::default();
        let mut names = Unique::default();
        for (index, (given, service)) in given.iter().zip(services).enumerate() {
            let span = span.item(index);
            let vip = Value::of(&given.vip, "vip", span);
            let known_key = service.key.port != NO_VIP.1;
            if known_key && let Err(line) = keys.insert(service.key, vip.span().at()) {
                let protocol = service.key.protocol.name();
                let same = format!("already has this address, port and protocol ({protocol})");
                self.wrong(vip, &format!("the service in line {line} {same}"));
            } else if known_key || given.name.0.is_some() {
                self.distinct_name(&mut names, &service.name, Value::of(&given.name, "name", span));
            }
        }
    }

    /// `name` is the effective name, `value` the key in the file, which may be absent.
    pub(super) fn distinct_name<'n>(&mut self, names: &mut Unique<&'n str>, name: &'n str, value: Value<'_>) {
        if let Err(line) = names.insert(name, value.span().at()) {
            let message = format!("name {name:?}: already taken in line {line}, expected another one");
            self.mistake(value.span().at(), message);
        }
    }

    /// A director would receive the packets that it sends to a server with a VIP's address.
    fn servers_are_not_vips(&mut self, services: &[Service], span: SourceSpan<'_>) {
        let vips: HashSet<IpAddr> = services
            .iter()
            .filter(|service| service.key.port != NO_VIP.1)
            .map(|service| service.key.vip)
            .collect();
        for (index, service) in services.iter().enumerate() {
            let span = span.item(index).key("servers");
            for (index, server) in service.servers.iter().enumerate() {
                if vips.contains(&server.address) {
                    let address = server.address;
                    let message = format!(
                        "address {address} is a VIP of this file, expected a real server's own address"
                    );
                    self.mistake(span.item(index).key("address").at(), message);
                }
            }
        }
    }

    /// The fallback must not be one of the servers that it replaces, nor a VIP, whose packets
    /// return to the director.
    fn fallbacks_are_others(&mut self, given: &[yaml::Service], services: &[Service], span: SourceSpan<'_>) {
        for (index, (given, service)) in given.iter().zip(services).enumerate() {
            let Some(Server { address, .. }) = service.fallback_server() else { continue };
            let value = Value::of(&given.fallback, "fallback", span.item(index));
            if service.servers.iter().any(|server| server.address == address) {
                self.wrong(value, "expected a server that is not among the service's own");
            } else if services.iter().any(|other| other.key.vip == address) {
                self.wrong(value, "found a VIP of this file, expected a real server's own address");
            }
        }
    }

    /// Slow start begins at weight 1, so it needs weights above 1.
    fn weights_can_grow(&mut self, given: &[yaml::Service], services: &[Service], span: SourceSpan<'_>) {
        for (index, (given, service)) in given.iter().zip(services).enumerate() {
            let advised = |server: &Server| server.checks.iter().any(|check| check.probe.advises());
            let none_can = service.servers.iter().all(|server| server.weight <= 1 && !advised(server));
            if !service.slow_start.is_zero() && !service.servers.is_empty() && none_can {
                let value = Value::of(&given.slow_start, "slow_start", span.item(index));
                let wrong = "slow start raises weights from 1 to the configured ones, expected servers with weights \
                             above 1, such as 100";
                self.wrong(value, wrong);
            }
        }
    }
}

//! Services: each by itself, then all of them together.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lb_model::{
    Damping, DeadServer, Fallback, MAX_SERVERS, MAX_SERVICES, Ports, Protocol, Quorum, Server, Service,
    ServiceKey, Stray, Timeouts,
};

use super::clients::ClientDefaults;
use super::ports::Taken;
use super::scheduling::usual_stray;
use super::server::Around;
use super::{DAY, SECOND, Unique, Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

const PROTOCOLS: [(&str, Protocol); 2] =
    [(Protocol::Tcp.name(), Protocol::Tcp), (Protocol::Udp.name(), Protocol::Udp)];
const STRAYS: [(&str, Stray); 2] = [("hash", Stray::Hash), ("pass", Stray::Pass)];
const MINUTE: Duration = Duration::from_secs(60);

/// Placeholder for the address and ports of a service whose `vip` is missing or wrong.
const NO_VIP: (IpAddr, Ports) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), Ports::ALL);

/// What services have that say nothing else.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    pub timeouts: Timeouts,
    pub clients: ClientDefaults,
}

impl Validator {
    pub(super) fn services(
        &mut self,
        services: Option<&[yaml::Service]>,
        span: SourceSpan<'_>,
        defaults: Defaults,
    ) -> Vec<Service> {
        let services = services.unwrap_or_default();
        if services.is_empty() && !self.at_run_time {
            self.mistake(span.key_at(), "`services` is missing or empty, expected at least one service");
        }
        let each = services.iter().enumerate();
        let checked: Vec<_> =
            each.map(|(index, service)| self.service(service, span.item(index), defaults)).collect();
        self.services_together(services, &checked, span);
        self.weights_can_grow(services, &checked, span);
        self.datagrams_can_be_spread(services, &checked, span);
        self.tunnels_have_servers(services, &checked, span);
        self.quic_names_servers(services, &checked, span);
        self.ports_suffice(services, &checked, span);
        self.groups_agree(services, &checked, span);
        checked
    }

    /// What services must not have in common, but for `source_nat` and groups of `persistence`.
    /// Mistakes show what `given` has.
    pub(super) fn services_together<'g>(
        &mut self,
        given: impl IntoIterator<Item = &'g yaml::Service> + Clone,
        services: &[Service],
        span: SourceSpan<'_>,
    ) {
        self.limits(services, span);
        self.distinct_services(given.clone(), services, span);
        self.servers_are_not_vips(services, span);
        self.fallbacks_are_others(given, services, span);
        self.masq_servers_are_told_apart(services, span);
        self.datagrams_are_told_apart(services, span);
        self.servers_have_one_interface(services, span);
    }

    fn service(&mut self, service: &yaml::Service, span: SourceSpan<'_>, defaults: Defaults) -> Service {
        let value = |scalar, key| Value::of(scalar, key, span);
        let (vip, ports) =
            self.needed(value(&service.vip, "vip"), values::VIP, values::vip).unwrap_or(NO_VIP);
        let protocol = self.one_of(value(&service.protocol, "protocol"), &PROTOCOLS, Protocol::Tcp);
        let name = self.optional(value(&service.name, "name"), values::name);
        let drain =
            self.optional(value(&service.drain, "drain"), |text| values::time(text, Duration::ZERO..=DAY));
        let key = ServiceKey { vip, port: ports.key(), protocol };
        let name = name.unwrap_or_else(|| format!("{}/{}", protocol.name(), ports.after(vip)));
        let default = Service { ports, ..Service::new(name, key) };
        let slow_start = self.optional(value(&service.slow_start, "slow_start"), |text| {
            values::time(text, Duration::ZERO..=DAY)
        });
        let checks = self.checks(service.check.as_ref(), span.key("check"));
        let servers = service.servers.as_deref().unwrap_or_default();
        let scheduler = self.scheduler(service, span, default.scheduler);
        let forwarding = self.forwarding_defaults(service, span, vip);
        let quic = self.quic(service, span);
        let around = Around { ports, is_known: vip != NO_VIP.0, checks: &checks, forwarding, quic: &quic };
        Service {
            scheduler,
            hashing: self.hashing(service, span, scheduler),
            fallback: self.fallback(service, span, protocol),
            dead_server: self.dead_server(service, span, protocol),
            slow_start: slow_start.unwrap_or(default.slow_start),
            damping: service.damping.as_ref().map(|damping| self.damping(damping, span.key("damping"))),
            quorum: self.quorum(service, span),
            hooks: self.service_hooks(service.hooks.as_ref(), span.key("hooks")),
            stray: self.one_of(value(&service.stray, "stray"), &STRAYS, usual_stray(scheduler)),
            ops: self.one_of(value(&service.ops, "ops"), &values::SWITCH, default.ops),
            timeouts: self.timeouts(service.timeouts.as_ref(), span.key("timeouts"), defaults.timeouts),
            persistence: service
                .persistence
                .as_ref()
                .map(|given| self.persistence(given, span.key("persistence"), vip)),
            clients: self.clients(service.clients.as_ref(), span.key("clients"), vip, defaults.clients),
            vlan: self.optional(value(&service.vlan, "vlan"), values::vlan),
            source_nat: self.source_nat(service, span, vip),
            drain: drain.unwrap_or(default.drain),
            servers: self.servers(servers, span.key("servers"), &around),
            quic,
            ..default
        }
    }

    /// `quiescent` is ldirectord's word for two of the choices.
    fn dead_server(
        &mut self,
        service: &yaml::Service,
        span: SourceSpan<'_>,
        protocol: Protocol,
    ) -> DeadServer {
        let [quiescent, dead] = [(&service.quiescent, "quiescent"), (&service.dead_server, "dead_server")]
            .map(|(scalar, key)| Value::of(scalar, key, span));
        if service.quiescent.is_given() && service.dead_server.is_given() {
            self.wrong(dead, "expected no `quiescent` beside it: `on` is `keep`, `off` is `expire`");
        }
        let quiescent = self.one_of(quiescent, &values::SWITCH, true);
        let default = if quiescent { DeadServer::Keep } else { DeadServer::Expire };
        let chosen = self.one_of(dead, &DeadServer::ALL.map(|dead| (dead.name(), dead)), default);
        if chosen == DeadServer::Reset && protocol == Protocol::Udp {
            self.wrong(dead, "expected keep, expire or move: UDP has no resets");
        }
        chosen
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

    /// A service without servers needs a fallback that serves. One that is made at run time may say
    /// that its clients are refused until there are some.
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
        let waits = self.at_run_time && matches!(read, Some(Fallback::Refuse));
        if nobody && !waits && service.servers.as_ref().is_none_or(Vec::is_empty) {
            let message = "a service without servers serves nobody, expected `servers` or `fallback: local`";
            self.mistake(span.key("servers").key_at(), message);
        }
        read.unwrap_or(Fallback::None)
    }

    fn limits(&mut self, services: &[Service], span: SourceSpan<'_>) {
        self.at_most(MAX_SERVICES, services.len(), "services", span);
        let mut places = 0;
        let crosses = services.iter().position(|service| {
            places += service.ports.places();
            places > MAX_SERVICES
        });
        if let Some(index) = crosses.filter(|_| services.len() <= MAX_SERVICES) {
            let message = format!(
                "with the ranges of ports up to here the table of services is full (a range takes a place for each 256 \
                 ports, and up to 510 for its ends): expected {MAX_SERVICES} places at most, or `*` for all ports"
            );
            self.mistake(span.item(index).key("vip").at(), message);
        }
        let mut sum = 0;
        let crosses = services.iter().position(|service| {
            sum += service.servers.len();
            sum > MAX_SERVERS
        });
        if let Some(index) = crosses {
            let all: usize = services.iter().map(|service| service.servers.len()).sum();
            let message = format!("found {all} servers in all services, expected at most {MAX_SERVERS}");
            self.mistake(span.item(index).key("servers").key_at(), message);
        }
    }

    fn distinct_services<'g>(
        &mut self,
        given: impl IntoIterator<Item = &'g yaml::Service>,
        services: &[Service],
        span: SourceSpan<'_>,
    ) {
        let mut taken = Taken::default();
        let mut names = Unique::default();
        for (index, (given, service)) in given.into_iter().zip(services).enumerate() {
            let span = span.item(index);
            let vip = Value::of(&given.vip, "vip", span);
            let known_key = service.key.vip != NO_VIP.0;
            if known_key && let Err(wrong) = taken.insert(service, vip.span()) {
                self.wrong(vip, &wrong);
            } else if known_key || given.name.is_given() {
                self.distinct_name(&mut names, &service.name, Value::of(&given.name, "name", span));
            }
        }
    }

    /// `name` is the effective name, `value` the key in the file, which may be absent.
    pub(super) fn distinct_name<'n, 'm>(
        &mut self,
        names: &mut Unique<'m, &'n str>,
        name: &'n str,
        value: Value<'m>,
    ) {
        if let Err(line) = names.insert(name, value.span()) {
            let message = format!("name {name:?}: already taken in line {line}, expected another one");
            self.mistake(value.span().at(), message);
        }
    }

    /// A director would receive the packets that it sends to a server with a VIP's address.
    fn servers_are_not_vips(&mut self, services: &[Service], span: SourceSpan<'_>) {
        let vips: HashSet<IpAddr> = services
            .iter()
            .filter(|service| service.key.vip != NO_VIP.0)
            .map(|service| service.key.vip)
            .collect();
        for (index, service) in services.iter().enumerate() {
            let span = span.item(index).key("servers");
            for (index, server) in service.servers.iter().enumerate() {
                if vips.contains(&server.address) {
                    let address = server.address;
                    let message = format!(
                        "address {address} is a VIP of this configuration, expected a real server's own address"
                    );
                    self.mistake(span.item(index).key("address").at(), message);
                }
            }
        }
    }

    /// The fallback must not be one of the servers that it replaces, nor a VIP, whose packets
    /// return to the director.
    fn fallbacks_are_others<'g>(
        &mut self,
        given: impl IntoIterator<Item = &'g yaml::Service>,
        services: &[Service],
        span: SourceSpan<'_>,
    ) {
        for (index, (given, service)) in given.into_iter().zip(services).enumerate() {
            let Some(Server { address, .. }) = service.fallback_server() else { continue };
            let value = Value::of(&given.fallback, "fallback", span.item(index));
            if service.servers.iter().any(|server| server.address == address) {
                self.wrong(value, "expected a server that is not among the service's own");
            } else if services.iter().any(|other| other.key.vip == address) {
                self.wrong(value, "found a VIP of this configuration, expected a real server's own address");
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

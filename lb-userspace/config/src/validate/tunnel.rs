//! How packets get to servers: `forward` and the keys of tunnels, of a server or of its service.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_model::{
    Cluster, LEAST_MTU_V6, PortRange, Protocol, Server, Service, SourcePrefix, Tunnel, TunnelKind, Via,
};

use super::{Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

/// The least that an outer packet must carry of an IPv4 packet: every host takes so much (RFC 791).
const LEAST_MTU_V4: u32 = 576;

/// A method of `forward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Direct,
    Tunnel(TunnelKind),
    Masq,
}

const METHODS: [(&str, Method); 7] = {
    let [ipip, gue, gre] = TunnelKind::ALL;
    [
        ("direct", Method::Direct),
        (ipip.name(), Method::Tunnel(ipip)),
        (gue.name(), Method::Tunnel(gue)),
        (gre.name(), Method::Tunnel(gre)),
        // The words of ldirectord and ipvsadm.
        ("gate", Method::Direct),
        ("masq", Method::Masq),
        ("nat", Method::Masq),
    ]
};

fn method(text: &str) -> Result<Method, String> {
    values::choice(text, &METHODS).map_err(|_| "expected one of direct, masq, ipip, gue, gre".to_owned())
}

/// How packets get to a server.
pub(super) enum Way {
    Direct,
    Tunnel(Tunnel),
    Masq,
    /// The file's word is wrong, which has been told.
    Unknown,
}

/// The keys of a server or of a service.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    forward: Value<'a>,
    port: Value<'a>,
    mtu: Value<'a>,
    source: Value<'a>,
}

impl<'a> Keys<'a> {
    fn of_server(server: &'a yaml::Server, span: SourceSpan<'a>) -> Self {
        let yaml::Server { forward, gue_port, tunnel_mtu, tunnel_source, .. } = server;
        Self::of(forward, gue_port, tunnel_mtu, tunnel_source, span)
    }

    fn of_service(service: &'a yaml::Service, span: SourceSpan<'a>) -> Self {
        let yaml::Service { forward, gue_port, tunnel_mtu, tunnel_source, .. } = service;
        Self::of(forward, gue_port, tunnel_mtu, tunnel_source, span)
    }

    fn of(
        forward: &'a yaml::Scalar,
        port: &'a yaml::Scalar,
        mtu: &'a yaml::Scalar,
        source: &'a yaml::Scalar,
        span: SourceSpan<'a>,
    ) -> Self {
        Self {
            forward: Value::of(forward, "forward", span),
            port: Value::of(port, "gue_port", span),
            mtu: Value::of(mtu, "tunnel_mtu", span),
            source: Value::of(source, "tunnel_source", span),
        }
    }
}

/// What keys say; `None`: not given, or wrong.
#[derive(Debug, Clone, Copy)]
struct Said {
    method: Option<Method>,
    port: Option<u16>,
    mtu: Option<u16>,
    source: Option<SourcePrefix>,
}

/// What a service says of all its servers.
#[derive(Clone, Copy)]
pub(super) struct Defaults<'a> {
    keys: Keys<'a>,
    said: Said,
    vip: IpAddr,
}

impl Validator {
    /// `vip` is the service's.
    pub(super) fn forwarding_defaults<'a>(
        &mut self,
        service: &'a yaml::Service,
        span: SourceSpan<'a>,
        vip: IpAddr,
    ) -> Defaults<'a> {
        let keys = Keys::of_service(service, span);
        Defaults { keys, said: self.read_forwarding(keys), vip }
    }

    fn read_forwarding(&mut self, keys: Keys<'_>) -> Said {
        Said {
            method: self.optional(keys.forward, method),
            port: self.optional(keys.port, |text| values::whole(text, 1..=65535)),
            mtu: self.optional(keys.mtu, |text| values::whole(text, LEAST_MTU_V4.into()..=65535)),
            source: self.optional(keys.source, values::source_prefix),
        }
    }

    /// How packets get to the server at `address`.
    pub(super) fn way(
        &mut self,
        server: &yaml::Server,
        span: SourceSpan<'_>,
        address: IpAddr,
        defaults: &Defaults<'_>,
    ) -> Way {
        let keys = Keys::of_server(server, span);
        let own = self.read_forwarding(keys);
        let method = own.method.or(defaults.said.method).unwrap_or(Method::Direct);
        if keys.forward.text.is_some() && own.method.is_none() {
            // What belongs to it cannot be told.
            return Way::Unknown;
        }
        self.surplus_keys(keys, method, "which this server does not have");
        let kind = match method {
            Method::Tunnel(kind) => kind,
            Method::Direct => return Way::Direct,
            Method::Masq => {
                self.masq_fits(keys.forward, defaults, address);
                return Way::Masq;
            }
        };
        let inherited = &defaults.said;
        let tunnel = Tunnel {
            kind,
            port: own.port.or(inherited.port).unwrap_or(lb_model::GUE_PORT),
            mtu: own.mtu.or(inherited.mtu),
            source: own.source.or(inherited.source),
        };
        let of = |own: Value<'_>| own.text.is_some();
        let mtu = if of(keys.mtu) { keys.mtu } else { defaults.keys.mtu };
        let source = if of(keys.source) { keys.source } else { defaults.keys.source };
        self.mtu_suffices(&tunnel, mtu, address, defaults.vip);
        self.source_fits(&tunnel, source, address);
        Way::Tunnel(tunnel)
    }

    /// Addresses of one family are not rewritten to those of the other one.
    fn masq_fits(&mut self, own: Value<'_>, defaults: &Defaults<'_>, address: IpAddr) {
        if address.is_unspecified()
            || defaults.vip.is_unspecified()
            || address.is_ipv4() == defaults.vip.is_ipv4()
        {
            return;
        }
        let value = if own.text.is_some() { own } else { defaults.keys.forward };
        let family = if defaults.vip.is_ipv4() { "IPv4" } else { "IPv6" };
        let wrong = format!(
            "expected a server with an {family} address, because the VIP {} has one: addresses of one family are not \
             rewritten to those of the other one",
            defaults.vip
        );
        self.wrong_once(value, "masq", &wrong);
    }

    /// Keys that mean nothing with this method.
    fn surplus_keys(&mut self, keys: Keys<'_>, method: Method, lacking: &str) {
        let tunnelled = matches!(method, Method::Tunnel(_));
        for (value, belongs, to) in [
            (keys.port, method == Method::Tunnel(TunnelKind::Gue), "`forward: gue`"),
            (keys.mtu, tunnelled, "`forward: ipip`, `gue` or `gre`"),
            (keys.source, tunnelled, "`forward: ipip`, `gue` or `gre`"),
        ] {
            if value.text.is_some() && !belongs {
                let message =
                    format!("`{}` belongs to {to}, {lacking}: remove the key, or set `forward`", value.key);
                self.mistake(value.span().key_at(), message);
            }
        }
    }

    fn mtu_suffices(&mut self, tunnel: &Tunnel, value: Value<'_>, address: IpAddr, vip: IpAddr) {
        let overhead = tunnel.kind.overhead(address.is_ipv4()) as u32;
        let inner = if vip.is_ipv4() { LEAST_MTU_V4 } else { LEAST_MTU_V6 };
        let least = inner + overhead;
        if let Some(mtu) = tunnel.mtu.filter(|mtu| u32::from(*mtu) < least) {
            let wrong = format!(
                "expected at least {least}: the headers of {} take {overhead} bytes, and {inner} must be left for \
                 the clients' packets",
                tunnel.kind.name()
            );
            self.wrong_once(value, &mtu.to_string(), &wrong);
        }
    }

    fn source_fits(&mut self, tunnel: &Tunnel, value: Value<'_>, address: IpAddr) {
        let Some(source) = tunnel.source else { return };
        let text = format!("{}/{}", source.address, source.length);
        if source.address.is_ipv4() != address.is_ipv4() {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let wrong = format!(
                "expected a prefix of {family}, because the server {address} has an {family} address"
            );
            self.wrong_once(value, &text, &wrong);
        } else if source.contains(address) {
            let wrong = format!("expected a prefix that does not contain the server {address}");
            self.wrong_once(value, &text, &wrong);
        }
    }

    /// A service's value may be wrong for several servers.
    fn wrong_once(&mut self, value: Value<'_>, text: &str, wrong: &str) {
        let before = self.found.len();
        self.wrong_at(value.span().at(), value.key, text, wrong);
        let (earlier, new) = self.found.split_at(before);
        if new.iter().any(|new| earlier.iter().any(|earlier| earlier.0 == new.0)) {
            self.found.truncate(before);
        }
    }

    /// What a service says of tunnels means something for one server at least.
    pub(super) fn tunnels_have_servers(
        &mut self,
        given: &[yaml::Service],
        services: &[Service],
        span: SourceSpan<'_>,
    ) {
        for (index, (given, service)) in given.iter().zip(services).enumerate() {
            let span = span.item(index);
            let keys = Keys::of_service(given, span);
            let mut kinds = service.servers.iter().filter_map(|server| server.tunnel);
            let gue = kinds.clone().any(|tunnel| tunnel.kind == TunnelKind::Gue);
            let kind = kinds.next().map(|tunnel| tunnel.kind);
            let method = match kind {
                Some(_) if gue => Method::Tunnel(TunnelKind::Gue),
                Some(kind) => Method::Tunnel(kind),
                None => Method::Direct,
            };
            if keys.forward.text.is_none() || kind.is_some() || !service.servers.is_empty() {
                self.surplus_keys(keys, method, "which no server of this service has");
            }
            self.vips_are_with_servers(given, service, span);
            self.datagrams_have_answers(given, service, span);
        }
    }

    /// A server behind address translation does not hold the VIP.
    fn vips_are_with_servers(&mut self, given: &yaml::Service, service: &Service, span: SourceSpan<'_>) {
        let servers = given.servers.as_deref().unwrap_or_default();
        for (index, (given, server)) in servers.iter().zip(&service.servers).enumerate() {
            let through_vip = server.checks.iter().any(|check| check.via == Via::Vip);
            if server.masq && through_vip {
                let check = match given.check {
                    Some(_) => span.key("servers").item(index).key("check"),
                    None => span.key("check"),
                };
                let message = "checks with `via: vip` need servers that hold the VIP, and those of `forward: masq` do not: they \
                               get clients' packets at their own address and port, which `via: server` asks; expected that";
                let at = check.key_at();
                if !self.found.iter().any(|(found, _)| *found == at) {
                    self.mistake(at, message);
                }
            }
        }
    }

    /// With `ops` an answer is found by its server alone: whatever that sends from a port of the
    /// service is one.
    fn datagrams_have_answers(&mut self, given: &yaml::Service, service: &Service, span: SourceSpan<'_>) {
        if !service.ops || !service.servers.iter().any(|server| server.masq) {
            return;
        }
        let wrong = if !service.source_nat.is_empty() {
            "expected off beside `source_nat`: its ports are given back when a connection ends, and with `ops` there is none"
        } else if service.ports.is_all() {
            "expected off beside all ports: whatever a server of `forward: masq` sends would be taken for an answer, and it \
             could ask nobody itself; or name the service's ports in `vip`"
        } else {
            return;
        };
        self.wrong(Value::of(&given.ops, "ops", span), wrong);
    }

    /// Of services with `ops` one alone may have a port of a machine.
    pub(super) fn datagrams_are_told_apart(&mut self, services: &[Service], span: SourceSpan<'_>) {
        let mut taken: HashMap<IpAddr, Vec<(PortRange, SourceSpan<'_>)>> = HashMap::new();
        for (index, service) in services.iter().enumerate().filter(|(_, service)| service.ops) {
            for (number, server) in service.servers.iter().enumerate().filter(|(_, server)| server.masq) {
                let at = span.item(index).key("servers").item(number).key("address");
                let own = match service.ports.is_one() {
                    true => vec![PortRange::one(server.port)],
                    false => service.ports.ranges().to_vec(),
                };
                let earlier = taken.entry(server.address).or_default();
                let meet =
                    |one: PortRange, other: PortRange| one.first <= other.last && other.first <= one.last;
                let shared = own.iter().find_map(|one| earlier.iter().find(|(other, _)| meet(*one, *other)));
                if let Some((ports, other)) = shared.copied()
                    && !server.address.is_unspecified()
                {
                    let message = format!(
                        "address {}: line {} has port {ports} of it with `ops` and `forward: masq` too, and answers would not \
                         be told apart: expected another port or address, or `ops: off`",
                        server.address,
                        other.line_seen_from(at)
                    );
                    self.mistake(at.at(), message);
                }
                earlier.extend(own.into_iter().map(|ports| (ports, at)));
            }
        }
    }

    /// What comes from one port of a machine may belong to so many services.
    pub(super) fn masq_servers_are_told_apart(&mut self, services: &[Service], span: SourceSpan<'_>) {
        let most = lb_model::MOST_OF_A_BACKEND;
        let mut users: HashMap<(IpAddr, u16, Protocol), u32> = HashMap::new();
        for (index, service) in services.iter().enumerate() {
            for (number, server) in service.servers.iter().enumerate().filter(|(_, server)| server.masq) {
                // Packets of a service with several ports keep theirs.
                let port = if service.ports.is_one() { server.port } else { 0 };
                let key = (server.address, port, service.key.protocol);
                let users = users.entry(key).or_default();
                *users += 1;
                if *users == most + 1 && !server.address.is_unspecified() {
                    let message = format!(
                        "address {}: more than {most} services use its {} by `forward: masq`, and its answers would not be told \
                         apart: expected another port or address",
                        server.address,
                        if port == 0 { "ports, several each,".to_owned() } else { format!("port {port}") }
                    );
                    self.mistake(span.item(index).key("servers").item(number).key("address").at(), message);
                }
            }
        }
    }

    /// Directors hand packets to each other on the segment, and know each other by their MACs.
    pub(super) fn tunnels_lead_to_no_director(
        &mut self,
        cluster: &Cluster,
        services: &[Service],
        span: SourceSpan<'_>,
    ) {
        let is_director = |server: &Server| cluster.nodes.iter().find(|node| node.address == server.address);
        for (index, service) in services.iter().enumerate() {
            for (number, server) in service.servers.iter().enumerate() {
                if !server.is_routed() {
                    continue;
                }
                let Some(node) = is_director(server) else { continue };
                let what = if server.masq { "address translation" } else { "a tunnel" };
                let message = format!(
                    "address {} is the director {}'s: {what} to a director leads nowhere, expected `forward: direct`",
                    server.address, node.name
                );
                self.mistake(span.item(index).key("servers").item(number).key("address").at(), message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn datagrams_of_masq_are_scheduled_by_themselves_where_answers_are_told() {
        let told = |services: &str| {
            let text = format!("interface: eth0\nservices:\n{services}");
            match crate::parse(&text, "test.yaml") {
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            }
        };
        let service = |vip: &str, rest: &str, server: &str| {
            format!(
                "  - {{ vip: '{vip}', protocol: udp, scheduler: rr, ops: on, forward: masq{rest}, servers: [{{ address: \
                 '{server}' }}] }}\n"
            )
        };
        let dns = service("192.0.2.10:53", "", "10.20.0.21");
        let other = |vip: &str, server: &str| format!("{dns}{}", service(vip, "", server));
        for (right, services) in [
            (true, dns.clone()),
            (true, service("192.0.2.10:53,5353", "", "10.20.0.21")),
            (true, other("192.0.2.11:53", "10.20.0.22")),
            (true, other("192.0.2.11:53", "10.20.0.21:5353")),
            (false, other("192.0.2.11:53", "10.20.0.21")),
            (false, other("192.0.2.11:50-60", "10.20.0.21")),
        ] {
            let found = told(&services);
            assert_eq!(found.is_empty(), right, "{services}: {found}");
            assert!(right || found.contains(":4:"), "the second one, and the first one's line: {found}");
            assert!(right || found.contains("line 3 has port 53 of it"), "{found}");
        }
        for (vip, rest, why) in [
            ("192.0.2.10:*", "", "beside all ports"),
            ("192.0.2.10:53", ", source_nat: [192.0.2.20]", "beside `source_nat`"),
        ] {
            let found = told(&service(vip, rest, "10.20.0.21"));
            assert!(found.contains(why), "{vip}{rest}: {found}");
        }
    }

    #[test]
    fn servers_of_masq_may_have_several_ports_and_vlans() {
        let text = "
interface: eth0
services:
  - vip: 192.0.2.10:21,30000-31000
    forward: masq
    persistence: { timeout: 5m }
    servers: [{ address: 10.20.0.21, vlan: 120, check: { type: tcp, port: 21 } }]
  - { vip: '192.0.2.11:*', forward: masq, source_nat: [192.0.2.20], servers: [{ address: 10.20.0.21 }] }
  - { vip: '192.0.2.12:80', servers: [{ address: '10.20.0.22:8080', forward: masq, vlan: '100.200', interface: eth1 }] }
";
        let config = crate::parse(text, "test.yaml").unwrap_or_else(|error| panic!("{error}"));
        let [several, all, one] = &config.services[..] else { panic!("{config:?}") };
        assert!(!several.ports.is_one() && several.servers[0].masq);
        assert_eq!(several.servers[0].vlan, Some(lb_model::Vlan::single(120)));
        assert!(all.ports.is_all() && all.servers[0].masq);
        assert_eq!(
            (one.servers[0].port, one.servers[0].vlan),
            (8080, Some(lb_model::Vlan::double(100, 200)))
        );
    }
}

//! The real servers of a service.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use lb_model::{Check, Ports, QuicEncoding, Server, Service, Thresholds};

use super::tunnel::{Defaults, Way};
use super::{Unique, Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

/// Placeholder for a missing or wrong address.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What a service says of its servers.
pub(super) struct Around<'a> {
    pub ports: Ports,
    /// Whether these are the service's ports: its `vip` is right.
    pub is_known: bool,
    pub checks: &'a Arc<[Check]>,
    pub forwarding: Defaults<'a>,
    pub quic: &'a [QuicEncoding],
}

impl Validator {
    pub(super) fn servers(
        &mut self,
        servers: &[yaml::Server],
        span: SourceSpan<'_>,
        around: &Around<'_>,
    ) -> Vec<Server> {
        self.at_most(lb_model::MAX_SERVERS_OF_ONE, servers.len(), "servers of one service", span);
        let each = servers.iter().enumerate();
        let checked: Vec<_> =
            each.map(|(index, server)| self.server(server, span.item(index), around)).collect();
        self.distinct_servers(servers, &checked, span);
        checked
    }

    fn server(&mut self, server: &yaml::Server, span: SourceSpan<'_>, around: &Around<'_>) -> Server {
        let Around { ports, is_known, checks, ref forwarding, quic } = *around;
        let port = ports.key();
        let address = Value::of(&server.address, "address", span);
        let read = self.needed(address, values::SERVER, values::server_address);
        let (ip, own_port) = read.unwrap_or((NO_ADDRESS, None));
        let way = self.way(server, span, ip, forwarding);
        let rewritten = matches!(way, Way::Unknown) || matches!(way, Way::Masq) && ports.is_one();
        let differs = |own_port: &u16| is_known && !rewritten && Ports::of_key(*own_port) != ports;
        if let Some(own_port) = own_port.filter(differs) {
            let method = match way {
                Way::Tunnel(_) => "in a tunnel packets stay as they are",
                Way::Masq => "packets to several ports keep theirs",
                _ => "direct routing rewrites MAC addresses only",
            };
            let (own, mend) = match ports.is_one() {
                true => (format!("the service's port {port} or none"), "; `forward: masq` can"),
                false if matches!(way, Way::Masq) => {
                    ("no port: the service has several".to_owned(), "; a service of one port can")
                }
                false => ("no port: the service has several".to_owned(), ""),
            };
            let wrong =
                format!("expected {own}: {method}, so packets cannot change to port {own_port}{mend}");
            self.wrong(address, &wrong);
        }
        let name = self.optional(Value::of(&server.name, "name", span), values::name);
        let weight =
            self.optional(Value::of(&server.weight, "weight", span), |text| values::whole(text, 0..=65535));
        Server {
            name: name.unwrap_or_else(|| ip.to_string()),
            address: ip,
            port: own_port.filter(|_| matches!(way, Way::Masq)).unwrap_or(port),
            masq: matches!(way, Way::Masq),
            tunnel: match way {
                Way::Tunnel(tunnel) => Some(tunnel),
                Way::Direct | Way::Masq | Way::Unknown => None,
            },
            quic_ids: self.quic_server_ids(server, span, quic),
            interface: self.optional(Value::of(&server.interface, "interface", span), values::interface),
            vlan: self.optional(Value::of(&server.vlan, "vlan", span), values::vlan),
            weight: weight.unwrap_or(1),
            thresholds: self.thresholds(server, span),
            checks: match &server.check {
                None => Arc::clone(checks),
                own => self.checks(own.as_ref(), span.key("check")),
            },
        }
    }

    /// As ipvsadm's -x and -y.
    fn thresholds(&mut self, server: &yaml::Server, span: SourceSpan<'_>) -> Thresholds {
        const MOST: u64 = 1_000_000_000;
        let upper = Value::of(&server.upper_threshold, "upper_threshold", span);
        let lower = Value::of(&server.lower_threshold, "lower_threshold", span);
        let most = self.optional(upper, |text| values::whole::<u32>(text, 0..=MOST));
        let least = self.optional(lower, |text| values::whole::<u32>(text, 0..=MOST));
        match (most, least) {
            (None | Some(0), Some(1..)) if upper.text.is_none() || most.is_some() => {
                let message = "`lower_threshold` is below how many connections a full server takes new ones again, expected \
                               `upper_threshold`, from which it is full";
                self.mistake(lower.span().key_at(), message);
            }
            (Some(most), Some(least)) if least > most => {
                self.wrong(lower, &format!("expected at most `upper_threshold`, which is {most}"));
            }
            _ => {}
        }
        Thresholds::new(most.unwrap_or(0), least.unwrap_or(0))
    }

    /// A server is behind one interface, whatever services it has.
    pub(super) fn servers_have_one_interface(&mut self, services: &[Service], span: SourceSpan<'_>) {
        let mut known: BTreeMap<IpAddr, (Option<&str>, SourceSpan<'_>)> = BTreeMap::new();
        for (index, service) in services.iter().enumerate() {
            let span = span.item(index).key("servers");
            for (index, server) in
                service.servers.iter().enumerate().filter(|(_, one)| one.address != NO_ADDRESS)
            {
                let span = span.item(index);
                let address = span.key("address");
                let here = (server.interface.as_deref(), address);
                let (there, other) = *known.entry(server.address).or_insert(here);
                if there != here.0 {
                    let named =
                        |name: Option<&str>| name.map_or("none".to_owned(), |name| format!("{name:?}"));
                    let message = format!(
                        "`interface` of {}: found {}, and {} in line {}, expected the same",
                        server.address,
                        named(here.0),
                        named(there),
                        other.line_seen_from(address)
                    );
                    self.mistake(span.key("interface").key_at(), message);
                }
            }
        }
    }

    fn distinct_servers(&mut self, given: &[yaml::Server], servers: &[Server], span: SourceSpan<'_>) {
        let mut addresses = Unique::default();
        let mut names = Unique::default();
        for (index, (given, server)) in given.iter().zip(servers).enumerate() {
            let span = span.item(index);
            let address = Value::of(&given.address, "address", span);
            let known = server.address != NO_ADDRESS;
            if known && let Err(line) = addresses.insert(server.address, address.span()) {
                self.wrong(address, &format!("the server in line {line} already has this address"));
            } else if known || given.name.is_given() {
                self.distinct_name(&mut names, &server.name, Value::of(&given.name, "name", span));
            }
        }
    }
}

//! What operators call the numbers and addresses of an event, or of an entry of the connection
//! table.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_api::trace::{Outcome, Packet, Way};
use lb_common::addr::V6;
use lb_common::program::trace::{self, Event};
use lb_common::reason::{Fate, Reason};
use lb_common::service::Protocol;
use lb_datapath::plan::Target;
use lb_model::{Config, Forwarding as Method, Server, Service, ServiceKey};

use crate::controller::draining::Draining;
use crate::controller::forwarder::Forwarder;

/// Of one moment.
#[derive(Debug, Default)]
pub(in crate::controller) struct Names {
    /// Name and scheduler.
    services: BTreeMap<ServiceKey, (String, &'static str)>,
    /// By number.
    servers: BTreeMap<u16, Named>,
}

/// A server of a service.
#[derive(Debug)]
pub(in crate::controller) struct Named {
    pub service: ServiceKey,
    pub server: Server,
    /// How packets get there.
    pub method: Method,
}

impl Names {
    pub(in crate::controller) fn of(config: &Config, draining: &Draining, forwarder: &Forwarder) -> Self {
        let mut names = Self::default();
        let own = forwarder.mac();
        for (key, applied) in &forwarder.applied().services {
            let mut services = config.services.iter().chain(draining.services());
            let service = services.find(|service| service.key == *key);
            let name = service.map_or_else(|| key.to_string(), |service| service.name.clone());
            names.services.insert(*key, (name, applied.scheduler.name()));
            for server in &applied.servers {
                let Some(id) = forwarder.server_id(key, server.target) else { continue };
                let method = server.forwarding(own);
                let server = self::server(service, draining, key, server.target);
                names.servers.insert(id.0, Named { service: *key, server, method });
            }
        }
        names
    }

    /// Those of the server that goes by this name or address, of all services.
    pub(super) fn numbers(&self, name: &str) -> Vec<u16> {
        self.servers
            .iter()
            .filter(|(_, named)| named.server.is_called(name))
            .map(|(number, _)| *number)
            .collect()
    }

    /// Each server's number.
    pub(in crate::controller) fn servers(&self) -> impl Iterator<Item = (u16, &Named)> {
        self.servers.iter().map(|(number, named)| (*number, named))
    }

    pub(in crate::controller) fn of_number(&self, number: u16) -> Option<&Named> {
        self.servers.get(&number)
    }

    /// The service's name.
    pub(in crate::controller) fn service(&self, key: &ServiceKey) -> Option<&str> {
        self.services.get(key).map(|(name, _)| name.as_str())
    }

    /// `None`: the event says nothing of what became of the packet.
    pub(super) fn packet(&self, event: &Event, time: String) -> Option<Packet> {
        let protocol = Protocol::from_number(event.protocol);
        let has_ports = protocol.is_some() && (event.client_port != 0 || event.port != 0);
        let port = |port: u16| has_ports.then(|| u16::from_be(port));
        let vip = address(event.destination);
        let key = vip.zip(protocol).zip(port(event.port));
        let key = key.map(|((vip, protocol), port)| ServiceKey { vip, port, protocol });
        let service = key.and_then(|key| self.services.get(&key));
        let server = self.servers.get(&event.server).filter(|_| event.server != 0);
        let unnamed = (event.server != 0).then(|| format!("number {}", event.server));
        let reason = event.reason();
        Some(Packet {
            time,
            protocol: match (protocol, event.protocol) {
                (Some(protocol), _) => Some(protocol.name().to_owned()),
                (None, 0) => None,
                (None, number) => Some(number.to_string()),
            },
            flags: (protocol == Some(Protocol::Tcp) && has_ports).then(|| flags(event.tcp_flags)),
            client: address(event.client),
            client_port: port(event.client_port),
            vip,
            port: port(event.port),
            length: event.length,
            service: service.map(|(name, _)| name.clone()),
            scheduler: service.map(|(_, scheduler)| (*scheduler).to_owned()),
            way: event.way().filter(|_| event.server != 0).map(way),
            server: server.map(|named| named.server.name.clone()).or(unnamed),
            forwarding: server.map(|named| method(named.method)),
            outcome: outcome(event, reason)?,
            reason: reason.map(|reason| reason.label().to_owned()),
            text: reason.map(|reason| reason.text().to_owned()),
        })
    }
}

/// As the configuration names it, or did before it left.
fn server(service: Option<&Service>, draining: &Draining, key: &ServiceKey, target: Target) -> Server {
    let Target::Real(address) = target else {
        let host = Server::new(key.vip, key.port);
        return Server { name: "this host".to_owned(), ..host };
    };
    let configured = service.into_iter().flat_map(|service| &service.servers);
    let mut known = configured.chain(draining.of(key));
    let found = known.find(|server| server.address == address).cloned();
    found.unwrap_or_else(|| Server::new(address, key.port))
}

/// In the word of the configuration.
fn method(forwarding: Method) -> String {
    match forwarding {
        Method::Direct => "direct".to_owned(),
        other => other.name().to_lowercase(),
    }
}

fn address(address: V6) -> Option<IpAddr> {
    (address != V6::UNSPECIFIED).then(|| address.into())
}

fn way(way: trace::Way) -> Way {
    match way {
        trace::Way::Known => Way::Known,
        trace::Way::New => Way::New,
        trace::Way::Stray => Way::StrayByHash,
        trace::Way::Full => Way::FullByHash,
        trace::Way::Answer => Way::Answer,
    }
}

fn outcome(event: &Event, reason: Option<Reason>) -> Option<Outcome> {
    Some(match event.outcome()? {
        trace::Outcome::Forwarded if event.server == 0 => Outcome::Relayed,
        trace::Outcome::Forwarded => Outcome::Forwarded,
        trace::Outcome::Redirected => Outcome::Redirected,
        trace::Outcome::Passed => Outcome::Passed,
        trace::Outcome::Delivered => Outcome::Delivered,
        trace::Outcome::Refused => match reason?.fate() {
            Fate::Drop => Outcome::Dropped,
            Fate::Hold => Outcome::Held,
            Fate::Pass => Outcome::Passed,
            Fate::Answer => Outcome::Answered,
        },
    })
}

/// By their first letters; RFC 9293, section 3.1, from the one that says most on.
fn flags(bits: u8) -> String {
    const LETTERS: [(u8, char); 8] =
        [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (16, 'A'), (32, 'U'), (64, 'E'), (128, 'C')];
    let set = LETTERS.iter().filter(|(bit, _)| bits & bit != 0);
    let letters: String = set.map(|(_, letter)| *letter).collect();
    if letters.is_empty() { "-".to_owned() } else { letters }
}

#[cfg(test)]
mod tests {
    use lb_common::program::trace::NO_REASON;

    use super::*;

    fn names() -> Names {
        let vip = "211.58.250.6".parse().expect("an address");
        let key = ServiceKey { vip, port: 80, protocol: Protocol::Tcp };
        let www2 = Server::new("192.0.2.22".parse().expect("an address"), 80);
        let www2 = Server { name: "www2".to_owned(), ..www2 };
        Names {
            services: BTreeMap::from([(key, ("web".to_owned(), "wrr"))]),
            servers: BTreeMap::from([(7, Named { service: key, server: www2, method: Method::Direct })]),
        }
    }

    fn event() -> Event {
        let address = |text: &str| V6::from(text.parse::<IpAddr>().expect("an address"));
        Event {
            time_ns: 1,
            client: address("10.0.0.7"),
            destination: address("211.58.250.6"),
            client_port: 41_234_u16.to_be(),
            port: 80_u16.to_be(),
            server: 7,
            length: 60,
            protocol: 6,
            tcp_flags: 2,
            way: trace::Way::New as u8,
            outcome: trace::Outcome::Forwarded as u8,
            reason: NO_REASON,
            ..Event::default()
        }
    }

    fn packet(event: &Event) -> Packet {
        names().packet(event, String::new()).expect("a packet")
    }

    #[test]
    fn numbers_become_names() {
        let some = |text: &str| Some(text.to_owned());
        let expected = Packet {
            time: String::new(),
            protocol: some("tcp"),
            flags: some("S"),
            client: "10.0.0.7".parse().ok(),
            client_port: Some(41_234),
            vip: "211.58.250.6".parse().ok(),
            port: Some(80),
            length: 60,
            service: some("web"),
            scheduler: some("wrr"),
            way: Some(Way::New),
            server: some("www2"),
            forwarding: some("direct"),
            outcome: Outcome::Forwarded,
            reason: None,
            text: None,
        };
        assert_eq!(packet(&event()), expected);
        assert_eq!(names().numbers("www2"), [7]);
        assert_eq!(names().numbers("192.0.2.22"), [7]);
        assert!(names().numbers("www1").is_empty());
    }

    #[test]
    fn what_has_no_name_has_a_number_and_what_is_not_told_is_left_out() {
        let unnamed = packet(&Event { server: 9, port: 81_u16.to_be(), ..event() });
        assert_eq!((unnamed.server.as_deref(), unnamed.service), (Some("number 9"), None));
        let relayed = packet(&Event { server: 0, way: trace::Way::Known as u8, ..event() });
        assert_eq!((relayed.outcome, relayed.server, relayed.way), (Outcome::Relayed, None, None));
        let fragment = Event {
            client_port: 0,
            port: 0,
            server: 0,
            protocol: 17,
            outcome: trace::Outcome::Refused as u8,
            reason: Reason::FragmentUnknown as u8,
            ..event()
        };
        let fragment = packet(&fragment);
        assert_eq!((fragment.outcome, fragment.port, fragment.flags), (Outcome::Passed, None, None));
        assert_eq!(fragment.reason.as_deref(), Some("fragment_unknown"));
        assert!(names().packet(&Event { outcome: 77, ..event() }, String::new()).is_none());
    }

    #[test]
    fn each_fate_is_an_outcome() {
        for (reason, expected) in [
            (Reason::NoServer, Outcome::Dropped),
            (Reason::Stray, Outcome::Passed),
            (Reason::Refused, Outcome::Answered),
        ] {
            let outcome = trace::Outcome::Refused as u8;
            let packet = packet(&Event { outcome, reason: reason as u8, server: 0, ..event() });
            assert_eq!((packet.outcome, packet.reason.as_deref()), (expected, Some(reason.label())));
        }
    }

    #[test]
    fn flags_are_letters() {
        for (bits, letters) in [(0, "-"), (2, "S"), (0x12, "SA"), (0x10, "A"), (0x18, "PA"), (0x11, "FA")] {
            assert_eq!(flags(bits), letters);
        }
    }
}

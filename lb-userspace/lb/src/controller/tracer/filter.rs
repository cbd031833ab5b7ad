//! Which packets are asked for, in the operator's words and in the program's.

use std::net::{IpAddr, SocketAddr};

use lb_api::trace::Filter;
use lb_common::addr::V6;
use lb_common::program::trace::Settings;
use lb_common::reason::Reason;
use lb_common::service::Protocol;
use lb_common::shared::Shared;
use lb_model::{Service, canonical};

use crate::controller::prefix::prefix;

/// Reasons of packets that the host gets because it is the server.
const SERVED: [Reason; 3] = [Reason::LocalFallback, Reason::LocalServer, Reason::PeerBalanced];

/// A filter whose names are known.
#[derive(Debug)]
pub(super) struct Asked {
    /// All but the servers' numbers, which may change.
    settings: Settings,
    server: Option<String>,
}

impl Asked {
    pub(super) fn new(filter: &Filter, sample: u32, services: &[&Service]) -> Result<Self, String> {
        let Filter { client, service, server, protocol, refused, reasons } = filter;
        let mut settings = Settings { sample: Shared::new(sample.max(1)), ..Settings::OFF };
        if let Some(client) = client {
            let [address, mask] = prefix(client)?;
            settings.client = address.map(Shared::new);
            settings.client_mask = mask.map(Shared::new);
        }
        if let Some(protocol) = protocol {
            set_protocol(&mut settings, self::protocol(protocol)?);
        }
        if let Some(name) = service {
            set_service(&mut settings, name, protocol.is_some(), services)?;
        }
        if let Some(name) = server
            && !services.iter().any(|service| service.servers.iter().any(|server| server.is_called(name)))
        {
            return Err(format!("there is no server {name:?}; `lb status` lists those there are"));
        }
        let bits = match (reasons.is_empty(), refused) {
            (true, false) => 0,
            (true, true) => {
                Settings::bits(Reason::ALL.iter().copied().filter(|reason| !SERVED.contains(reason)))
            }
            (false, _) => {
                let reasons: Result<Vec<Reason>, String> = reasons.iter().map(|name| reason(name)).collect();
                Settings::bits(reasons?)
            }
        };
        settings.reasons = Shared::new(bits);
        Ok(Self { settings, server: server.clone() })
    }

    /// `numbers`: those that a server has now.
    pub(super) fn settings(&self, numbers: impl FnOnce(&str) -> Vec<u16>) -> Settings {
        let mut settings = self.settings;
        if let Some(server) = &self.server {
            settings.set_servers(numbers(server));
        }
        settings
    }
}

fn set_protocol(settings: &mut Settings, protocol: Protocol) {
    settings.protocol = Shared::new(protocol.number().into());
}

fn protocol(name: &str) -> Result<Protocol, String> {
    let protocols = [Protocol::Tcp, Protocol::Udp];
    let found = protocols.into_iter().find(|protocol| protocol.name() == name);
    found.ok_or_else(|| format!("the protocol is tcp or udp, not {name:?}"))
}

/// By the service's name, its VIP, or its VIP and port: those two also where there is no service,
/// as long as the VIP is one. A protocol that was asked for stays.
fn set_service(
    settings: &mut Settings,
    name: &str,
    has_protocol: bool,
    services: &[&Service],
) -> Result<(), String> {
    let mut set = |vip: IpAddr, port: u16| {
        settings.vip = V6::from(vip).0.map(Shared::new);
        settings.port = Shared::new(port.to_be());
    };
    let address = canonical(name);
    let is_vip = |vip: IpAddr| services.iter().any(|service| service.key.vip == vip);
    if let Ok(vip) = address.parse::<IpAddr>()
        && is_vip(vip)
    {
        set(vip, 0);
    } else if let Ok(address) = name.parse::<SocketAddr>()
        && is_vip(address.ip())
    {
        set(address.ip(), address.port());
    } else if let Some(service) = services.iter().find(|service| service.name == name) {
        // Of a service with several ports, whatever goes to its VIP.
        set(service.key.vip, if service.ports.is_one() { service.key.port } else { 0 });
        if !has_protocol {
            set_protocol(settings, service.key.protocol);
        }
    } else {
        let first = services.first().map_or("", |service| service.name.as_str());
        return Err(format!(
            "there is no service {name:?}: name one as `lb status` does (the first is {first:?}), or a VIP, or VIP:PORT"
        ));
    }
    Ok(())
}

fn reason(label: &str) -> Result<Reason, String> {
    let found = Reason::ALL.iter().copied().find(|reason| reason.label() == label);
    found.ok_or_else(|| {
        let labels: Vec<&str> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        format!("there is no reason {label:?}, there are {}", labels.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use lb_common::program::trace::{Event, NO_REASON, Outcome};
    use lb_model::{Server, ServiceKey};
    use proptest::prelude::*;

    use super::*;

    fn services() -> Vec<Service> {
        let key = ServiceKey {
            vip: "211.58.250.6".parse().expect("an address"),
            port: 80,
            protocol: Protocol::Tcp,
        };
        let mut service = Service::new("web".to_owned(), key);
        let address = "192.0.2.21".parse().expect("an address");
        service.servers.push(Server { name: "www1".to_owned(), ..Server::new(address, 80) });
        vec![service]
    }

    fn asked(filter: &Filter) -> Result<Asked, String> {
        Asked::new(filter, 1, &Vec::from_iter(&services()))
    }

    fn event(client: &str, vip: &str, port: u16) -> Event {
        let address = |text: &str| V6::from(text.parse::<IpAddr>().expect("an address"));
        Event {
            time_ns: 1,
            client: address(client),
            destination: address(vip),
            port: port.to_be(),
            server: 3,
            protocol: 6,
            outcome: Outcome::Forwarded as u8,
            reason: NO_REASON,
            ..Event::default()
        }
    }

    #[track_caller]
    fn assert_matches(filter: Filter, event: &Event, expected: bool) {
        let asked = asked(&filter).expect("a filter");
        assert_eq!(asked.settings(|_| vec![3]).matches(event), expected, "{filter:?}");
    }

    #[test]
    fn each_word_finds_its_packets() {
        let some = |text: &str| Some(text.to_owned());
        let web = event("10.0.0.7", "211.58.250.6", 80);
        let other = event("10.0.1.7", "211.58.250.7", 443);
        for (filter, is_other) in [
            (Filter { client: some("10.0.0.7"), ..Filter::default() }, false),
            (Filter { client: some("10.0.0.0/24"), ..Filter::default() }, false),
            (Filter { client: some("10.0.0.0/8"), ..Filter::default() }, true),
            (Filter { client: some("0.0.0.0/0"), ..Filter::default() }, true),
            (Filter { service: some("web"), ..Filter::default() }, false),
            (Filter { service: some("211.58.250.6"), ..Filter::default() }, false),
            (Filter { service: some("211.58.250.6:80"), ..Filter::default() }, false),
            (Filter { server: some("www1"), ..Filter::default() }, true),
            (Filter { server: some("192.0.2.21"), ..Filter::default() }, true),
            (Filter { protocol: some("tcp"), ..Filter::default() }, true),
        ] {
            assert_matches(filter.clone(), &web, true);
            assert_matches(filter, &other, is_other);
        }
        let ipv6 = event("2001:db8::7", "2001:db8::6", 80);
        assert_matches(Filter { client: some("0.0.0.0/0"), ..Filter::default() }, &ipv6, false);
        assert_matches(Filter { client: some("2001:db8::/32"), ..Filter::default() }, &ipv6, true);
        assert_matches(Filter { client: some("2001:db9::/32"), ..Filter::default() }, &ipv6, false);
        assert_matches(
            Filter { server: some("www1"), ..Filter::default() },
            &Event { server: 4, ..web },
            false,
        );
        let udp = Event { protocol: 17, ..web };
        assert_matches(Filter { service: some("web"), ..Filter::default() }, &udp, false);
        let both = Filter { service: some("web"), protocol: some("udp"), ..Filter::default() };
        assert_matches(both, &udp, true);
    }

    #[test]
    fn refused_is_whatever_no_server_got() {
        let web = event("10.0.0.7", "211.58.250.6", 80);
        let with = |reason: Reason| Event { reason: reason as u8, ..web };
        let refused = Filter { refused: true, ..Filter::default() };
        assert_matches(refused.clone(), &web, false);
        for reason in Reason::ALL {
            assert_matches(refused.clone(), &with(*reason), !SERVED.contains(reason));
            let one = Filter { reasons: vec![reason.label().to_owned()], ..Filter::default() };
            assert_matches(one.clone(), &with(*reason), true);
            assert_matches(one, &web, false);
        }
    }

    #[test]
    fn what_is_not_there_is_told_in_words() {
        let some = |text: &str| Some(text.to_owned());
        for (filter, wanted) in [
            (Filter { service: some("wev"), ..Filter::default() }, "there is no service \"wev\""),
            (Filter { service: some("10.0.0.1:80"), ..Filter::default() }, "there is no service"),
            (Filter { server: some("www9"), ..Filter::default() }, "there is no server \"www9\""),
            (Filter { protocol: some("sctp"), ..Filter::default() }, "the protocol is tcp or udp"),
            (Filter { client: some("10.0.0.0/33"), ..Filter::default() }, "\"10.0.0.0/33\" is neither"),
            (Filter { client: some("ten"), ..Filter::default() }, "\"ten\" is neither"),
            (
                Filter { reasons: vec!["bored".to_owned()], ..Filter::default() },
                "there is no reason \"bored\", there are truncated_ip",
            ),
        ] {
            let error = asked(&filter).expect_err("nothing like that");
            assert!(error.starts_with(wanted), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_has_the_addresses_that_begin_with_it(
            network in any::<u32>(),
            length in 0..=32_u32,
            client in any::<u32>(),
        ) {
            let text = format!("{}/{length}", std::net::Ipv4Addr::from(network));
            let expected = network.checked_shr(32 - length) == client.checked_shr(32 - length);
            let client = std::net::Ipv4Addr::from(client).to_string();
            let filter = Filter { client: Some(text), ..Filter::default() };
            let asked = asked(&filter).expect("a filter");
            let event = event(&client, "211.58.250.6", 80);
            prop_assert_eq!(asked.settings(|_| Vec::new()).matches(&event), expected);
        }
    }
}

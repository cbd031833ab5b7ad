//! What operators call servers and services: by name, or by address.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::overlay::{NewServer, NewService};
use crate::{PortRange, Ports, Protocol, Server, Service};

/// Maximum length of a name of a service or a server, in characters.
pub const LONGEST_NAME: usize = 64;

/// An address in the one spelling that it has here, with or without ports; without them
/// `[fd00::25]` is the address, too. Any other text stays.
pub fn canonical(text: &str) -> Cow<'_, str> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().map(IpAddr::from),
        None => text.parse::<IpAddr>(),
    };
    match (address, text.parse::<SocketAddr>()) {
        (Ok(address), _) => Cow::Owned(address.to_string()),
        (_, Ok(address)) => Cow::Owned(address.to_string()),
        _ => with_ports(text).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

/// A VIP with several ports, as a service with them is named.
fn with_ports(text: &str) -> Option<String> {
    let (host, ports) = text.rsplit_once(':')?;
    let vip: IpAddr = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(bare) => bare.parse::<Ipv6Addr>().ok()?.into(),
        None => host.parse::<Ipv4Addr>().ok()?.into(),
    };
    if ports == "*" {
        return Some(Ports::ALL.after(vip));
    }
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(PortRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
    };
    let ranges: Vec<PortRange> = ports.split(',').map(range).collect::<Option<_>>()?;
    Some(Ports::of(&ranges)?.after(vip))
}

impl Server {
    /// What the server can be called; addresses are [`canonical`].
    pub fn names(&self) -> [String; 4] {
        let Self { name, address, port, .. } = self;
        let (address, whole) = (address.to_string(), SocketAddr::new(*address, *port).to_string());
        // fd00::25:80 is another address.
        let with_port = if *name == address { whole.clone() } else { format!("{name}:{port}") };
        [name.clone(), address, with_port, whole]
    }

    pub fn is_called(&self, text: &str) -> bool {
        let text = canonical(text);
        self.names().iter().any(|name| *name == text)
    }
}

impl Service {
    /// By its name, or by `VIP:PORTS`; by its first port, too.
    pub fn is_called(&self, text: &str) -> bool {
        let place = canonical(text);
        self.name == text
            || self.ports.after(self.key.vip) == place
            || self.key.address().to_string() == place
    }
}

/// Services by what they are called, for whoever looks up many: see [`Service::is_called`].
#[derive(Debug)]
pub struct ServiceNames<'a> {
    services: &'a [Service],
    names: HashMap<&'a str, usize>,
    /// By `PROTOCOL/VIP:PORTS`, and by the same with the first port. Most lookups are by name.
    places: OnceCell<HashMap<String, usize>>,
}

impl<'a> ServiceNames<'a> {
    pub fn of(services: &'a [Service]) -> Self {
        // From behind: the first one of a name stays.
        let each = services.iter().enumerate().rev();
        let names = each.map(|(index, service)| (service.name.as_str(), index)).collect();
        Self { services, names, places: OnceCell::new() }
    }

    pub const fn services(&self) -> &'a [Service] {
        self.services
    }

    /// The index of the one that is meant: of that name, or else the first one of that address.
    pub fn index(&self, text: &str) -> Option<usize> {
        let by_name = self.names.get(text).copied();
        let by_place = || {
            let protocols = [Protocol::Tcp, Protocol::Udp].into_iter();
            protocols.filter_map(|protocol| self.index_at(protocol.name(), text)).min()
        };
        by_name.or_else(by_place)
    }

    pub fn find(&self, text: &str) -> Option<&'a Service> {
        self.services.get(self.index(text)?)
    }

    /// The index of the one that a new service is once it is there, or with which it collides.
    pub fn index_of_new(&self, new: &NewService) -> Option<usize> {
        let by_name = || self.names.get(new.name.as_deref()?).copied();
        self.index_at(new.protocol(), &new.vip).or_else(by_name)
    }

    fn index_at(&self, protocol: &str, address: &str) -> Option<usize> {
        let places = self.places.get_or_init(|| places(self.services));
        let at = |address: &str| places.get(&format!("{protocol}/{address}")).copied();
        [at(address), at(&canonical(address))].into_iter().flatten().min()
    }
}

fn places(services: &[Service]) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(services.len());
    for (index, Service { key, ports, .. }) in services.iter().enumerate() {
        for address in [ports.after(key.vip), key.address().to_string()] {
            places.entry(format!("{}/{address}", key.protocol.name())).or_insert(index);
        }
    }
    places
}

impl NewService {
    /// Its protocol, VIP and ports in their one spelling.
    pub fn place(&self) -> String {
        format!("{}/{}", self.protocol(), canonical(&self.vip))
    }

    /// What it can be called.
    pub fn names(&self) -> BTreeSet<String> {
        BTreeSet::from([self.called(), self.vip.clone(), canonical(&self.vip).into_owned()])
    }

    /// The index of its server of that name or address.
    pub fn server_index(&self, text: &str) -> Option<usize> {
        let port = self.first_port();
        self.servers.iter().position(|server| server.is_called(text, port))
    }

    /// Of its ports; 0 where that is no number.
    pub fn first_port(&self) -> u16 {
        let vip = canonical(&self.vip);
        let ports = vip.rsplit_once(':').map_or("", |(_, ports)| ports);
        let digits =
            ports.find(|character: char| !character.is_ascii_digit()).map_or(ports, |end| &ports[..end]);
        digits.parse().unwrap_or_default()
    }
}

impl NewServer {
    /// What it can be called at a service with this port, see [`Server::names`].
    pub fn names(&self, port: u16) -> Vec<String> {
        let address = canonical(&self.address);
        let known = match (address.parse::<IpAddr>(), address.parse::<SocketAddr>()) {
            (Ok(address), _) => Server::new(address, port),
            (_, Ok(address)) => Server::new(address.ip(), address.port()),
            // Validation says what is wrong with it.
            _ => return [Some(&self.address), self.name.as_ref()].into_iter().flatten().cloned().collect(),
        };
        let name = self.name.clone().unwrap_or_else(|| known.name.clone());
        Server { name, ..known }.names().to_vec()
    }

    /// Whether it is called so at a service with this port, see [`Server::is_called`].
    pub fn is_called(&self, text: &str, port: u16) -> bool {
        let text = canonical(text);
        self.names(port).iter().any(|name| *name == text)
    }
}

#[cfg(test)]
mod tests {
    use crate::{PortRange, Ports, ServiceKey};

    use super::*;

    fn service(name: &str, port: u16, protocol: Protocol) -> Service {
        Service::new(name.to_owned(), ServiceKey { vip: [192, 0, 2, 10].into(), port, protocol })
    }

    #[test]
    fn services_are_found_by_all_that_they_are_called() {
        let ranges = [PortRange { first: 8000, last: 8010 }];
        let range =
            Service { ports: Ports::of(&ranges).expect("ports"), ..service("range", 8000, Protocol::Tcp) };
        let services = [
            service("dns", 53, Protocol::Udp),
            service("tcp/192.0.2.10:53", 53, Protocol::Tcp),
            range,
            // Its name is another one's address.
            service("192.0.2.10:8000", 80, Protocol::Tcp),
        ];
        let names = ServiceNames::of(&services);
        for (text, index) in [
            ("dns", Some(0)),
            ("192.0.2.10:53", Some(0)),
            ("tcp/192.0.2.10:53", Some(1)),
            ("192.0.2.10:8000-8010", Some(2)),
            ("192.0.2.10:8000 - 8010", Some(2)),
            ("192.0.2.10:8000", Some(3)),
            ("192.0.2.10:80", Some(3)),
            ("192.0.2.10:81", None),
            ("udp/192.0.2.10:53", None),
        ] {
            assert_eq!(names.index(text), index, "{text}");
            let by_service = services.iter().position(|service| service.name == text);
            let by_service = by_service.or_else(|| services.iter().position(|one| one.is_called(text)));
            assert_eq!(by_service, index, "{text}");
            assert_eq!(names.find(text), index.map(|index| &services[index]), "{text}");
        }
        let new = |vip: &str, protocol: Option<&str>, name: Option<&str>| {
            let [protocol, name] = [protocol, name].map(|text| text.map(str::to_owned));
            let new = NewService { vip: vip.to_owned(), protocol, name, ..NewService::default() };
            names.index_of_new(&new)
        };
        assert_eq!(new("192.0.2.10:53", None, None), Some(1));
        assert_eq!(new("192.0.2.10:53", Some("udp"), None), Some(0));
        assert_eq!(new("192.0.2.10:54", Some("udp"), Some("dns")), Some(0));
        assert_eq!(new("192.0.2.10:54", None, Some("other")), None);
        assert_eq!(new("192.0.2.10:8000 - 8010", None, None), Some(2));
    }

    #[test]
    fn a_new_service_has_one_name_in_any_spelling() {
        let new = |vip: &str| NewService { vip: vip.to_owned(), ..NewService::default() };
        let service = new("[2001:DB8::10]: 80, 443");
        assert_eq!(service.called(), "tcp/[2001:db8::10]:80,443");
        assert_eq!((service.place(), service.first_port()), (service.called(), 80));
        let names = ["[2001:DB8::10]: 80, 443", "[2001:db8::10]:80,443", "tcp/[2001:db8::10]:80,443"];
        assert_eq!(service.names(), BTreeSet::from(names.map(str::to_owned)));
        let named = NewService { name: Some("web".to_owned()), ..new("192.0.2.10:80") };
        assert_eq!(named.names(), BTreeSet::from(["192.0.2.10:80", "web"].map(str::to_owned)));
        assert_eq!(new("192.0.2.10:*").first_port(), 0);
    }

    #[test]
    fn a_new_server_is_called_as_it_will_be() {
        let server = |address: &str| NewServer { address: address.to_owned(), ..NewServer::default() };
        let named = NewServer { name: Some("www1".to_owned()), ..server("192.0.2.22:8080") };
        let servers = vec![server("192.0.2.21"), named, server("nowhere")];
        let service = NewService { vip: "192.0.2.10:80-90".to_owned(), servers, ..NewService::default() };
        for (text, index) in [
            ("192.0.2.21", Some(0)),
            ("192.0.2.21:80", Some(0)),
            ("192.0.2.21:81", None),
            ("www1", Some(1)),
            ("192.0.2.22", Some(1)),
            ("192.0.2.22:8080", Some(1)),
            ("nowhere", Some(2)),
        ] {
            assert_eq!(service.server_index(text), index, "{text}");
        }
    }

    #[test]
    fn an_address_has_one_spelling() {
        for (text, expected) in [
            ("192.0.2.10:80, 443", "192.0.2.10:80,443"),
            ("[2001:DB8::10]:80,8000-8999", "[2001:db8::10]:80,8000-8999"),
            ("[2001:DB8::10]:*", "[2001:db8::10]:*"),
            ("2001:DB8:0:0::25", "2001:db8::25"),
            ("[2001:db8::0:25]", "2001:db8::25"),
            ("[2001:DB8::25]:80", "[2001:db8::25]:80"),
            ("192.0.2.21:80", "192.0.2.21:80"),
            ("[192.0.2.21]", "[192.0.2.21]"),
            ("www1", "www1"),
            ("www1:80", "www1:80"),
            ("", ""),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn a_server_goes_by_its_name_or_address_with_or_without_the_port() {
        let six = Server::new("fd00::25".parse().expect("an address"), 80);
        for name in ["fd00::25", "FD00:0::25", "[fd00::25]", "[fd00::25]:80"] {
            assert!(six.is_called(name), "{name}");
        }
        for name in ["fd00::25:80", "[fd00::25]:81", "fd00::2", ""] {
            assert!(!six.is_called(name), "{name}");
        }
        let named = Server { name: "www1".to_owned(), ..six };
        for name in ["www1", "www1:80", "fd00::25", "[fd00::25]:80"] {
            assert!(named.is_called(name), "{name}");
        }
        let four = Server::new([192, 0, 2, 21].into(), 80);
        assert!(four.is_called("192.0.2.21:80") && !four.is_called("192.0.2.21:8"));
    }
}

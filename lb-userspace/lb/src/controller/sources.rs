//! The source of this host's own packets to the servers: checks, and the kernel's questions for
//! MACs. Servers hold the VIPs themselves, so they answer nothing that comes from one.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use lb_api::findings::{Finding, Findings, Kind};
use lb_model::{Config, Server};
use lb_net::{neighbours, vips};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::{masq, placement};

/// From one check to the next.
const EVERY: Duration = Duration::from_secs(5);

/// Checks the sources now and then.
#[derive(Debug, Default)]
pub(super) struct Sources(Option<Instant>);

impl Sources {
    pub(super) fn check(&mut self, config: &Config, findings: &Findings, now: Instant) {
        if self.0.is_none_or(|last| now - last >= EVERY) {
            self.0 = Some(now);
            findings.set(Kind::VipIsSource, self::findings(config));
            let (near, missing) =
                masq::findings(config).into_iter().partition(|found| found.kind == Kind::MasqNearVip);
            findings.set(Kind::MasqNearVip, near);
            findings.set(Kind::SourceNatMissing, missing);
            findings.set(Kind::VipMisplaced, placement::findings(config));
        }
    }
}

/// What is wrong with the sources of this host's packets to the servers. Nothing if it has no such
/// interface, as a machine on which a configuration is merely checked.
pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    let Some(on_interface) = addresses(|name| name == config.interface) else { return Vec::new() };
    let elsewhere = addresses(|name| name != config.interface).unwrap_or_default();
    let services = config.services.iter();
    let vips: HashSet<IpAddr> =
        services.clone().map(|service| service.key.vip).chain(config.grouped_vips().into_keys()).collect();
    let own: Vec<Own> = on_interface.into_iter().filter(|own| !vips.contains(&own.address)).collect();
    let servers =
        services.flat_map(|service| service.servers.iter().cloned().chain(service.fallback_server()));
    judge(&config.interface, &own, &elsewhere, &vips, servers, source_to).into_iter().collect()
}

/// An address of the interface, with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Own {
    pub(super) address: IpAddr,
    pub(super) prefix: u32,
}

impl Own {
    /// Whether the address is of the same network.
    pub(super) fn is_beside(&self, other: IpAddr) -> bool {
        let (differs, bits) = match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits() ^ other.to_bits()), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits() ^ other.to_bits(), 128),
            _ => return false,
        };
        differs.checked_shr(bits - self.prefix.min(bits)).unwrap_or(0) == 0
    }
}

/// Pure. `own` are the interface's addresses, `elsewhere` those of others; `source_to` is what the
/// kernel would pick towards an address.
fn judge(
    interface: &str,
    own: &[Own],
    elsewhere: &[Own],
    vips: &HashSet<IpAddr>,
    servers: impl Iterator<Item = Server>,
    source_to: impl Fn(IpAddr) -> Option<IpAddr>,
) -> Option<Finding> {
    // One server of a network stands for all of them, if the director has an address there.
    let mut known: HashMap<Own, Option<IpAddr>> = HashMap::new();
    let mut wrong: Vec<(String, IpAddr, Option<IpAddr>)> = Vec::new();
    let mut seen = HashSet::new();
    for server in servers {
        let address = server.address;
        if !seen.insert(address) {
            continue;
        }
        let network = own.iter().copied().find(|own| own.is_beside(address));
        let source = match network {
            Some(network) => *known.entry(network).or_insert_with(|| source_to(address)),
            None => source_to(address),
        };
        let vip = source.filter(|source| vips.contains(source));
        let is_own = source.is_some_and(|source| own.iter().any(|own| own.address == source));
        // One behind another interface is asked from that one's address.
        let is_there =
            elsewhere.iter().any(|there| source == Some(there.address) && there.is_beside(address));
        // To one with a tunnel, behind address translation or with a named interface there may be
        // no way now, which is a finding of its own.
        let may_be_away = is_there || server.is_routed() || server.interface.is_some();
        let astray = network.is_none() && !is_own && !may_be_away;
        if vip.is_some() || astray {
            let name = match server.name == address.to_string() {
                true => server.name,
                false => format!("{} ({address})", server.name),
            };
            wrong.push((name, address, vip));
        }
    }
    let (first, address, vip) = wrong.first()?;
    let questions = match address {
        IpAddr::V4(_) => "ARP requests",
        IpAddr::V6(_) => neighbours::protocol(*address),
    };
    let more = if wrong.len() > 1 { format!(" and {} more", wrong.len() - 1) } else { String::new() };
    let (text, mend) = match vip {
        Some(vip) => (
            format!(
                "checks and {questions} to server {first}{more} carry the VIP {vip} as their source, which servers do not answer"
            ),
            match vip {
                IpAddr::V4(_) => {
                    format!(
                        "take {vip} out of the host's own network configuration: lb adds it as {vip}/{}",
                        vips::HOST
                    )
                }
                IpAddr::V6(_) => format!("give {interface} an address of its own there, besides the VIPs"),
            },
        ),
        None => (
            format!(
                "{interface} has no address of its own in the network of server {first}{more}: checks and {questions} have no \
                 source that servers answer"
            ),
            format!("give {interface} an address of its own there, besides the VIPs"),
        ),
    };
    Some(Finding { kind: Kind::VipIsSource, subject: interface.to_owned(), text, mend })
}

/// The addresses of interfaces. `None`: there is no such interface.
pub(super) fn addresses(is_one: impl Fn(&str) -> bool) -> Option<Vec<Own>> {
    // getifaddrs(3) calls an address by its label, such as eth0:0.
    let is_its = |name: &str| name.split(':').next().is_some_and(&is_one);
    let mut entries = getifaddrs().ok()?.filter(|entry| is_its(&entry.interface_name)).peekable();
    entries.peek()?;
    let ip = |storage: &SockaddrStorage| match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (None, v6) => v6.map(|v6| IpAddr::V6(v6.ip())),
    };
    let addresses = entries.filter_map(|entry| {
        let address = ip(entry.address.as_ref()?)?;
        let prefix = match ip(entry.netmask.as_ref()?)? {
            IpAddr::V4(mask) => mask.to_bits().leading_ones(),
            IpAddr::V6(mask) => mask.to_bits().leading_ones(),
        };
        Some(Own { address, prefix })
    });
    Some(addresses.collect())
}

/// The source that the kernel picks for packets to `address`, which are not sent.
fn source_to(address: IpAddr) -> Option<IpAddr> {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((address, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|source| !source.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 6);
    const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 5);
    const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);

    /// What is told of servers 10.77.0.21 and 10.77.0.22, by a director with these addresses.
    fn told(own: &[Ipv4Addr], source: Option<Ipv4Addr>) -> Option<String> {
        let own: Vec<_> = own.iter().map(|own| Own { address: (*own).into(), prefix: 24 }).collect();
        let servers = [21, 22].map(|last| Server::new(Ipv4Addr::new(10, 77, 0, last).into(), 80));
        let vips = HashSet::from([IpAddr::V4(VIP)]);
        judge("eth0", &own, &[], &vips, servers.into_iter(), |_| source.map(IpAddr::from))
            .map(|finding| finding.text)
    }

    #[test]
    fn a_director_with_an_address_among_the_servers_is_as_it_should_be() {
        assert_eq!(told(&[OWN], Some(OWN)), None);
        assert_eq!(
            told(&[ELSEWHERE], Some(ELSEWHERE)),
            None,
            "there is a route to them, from its own address"
        );
    }

    #[test]
    fn servers_behind_another_interface_are_asked_from_there() {
        let servers = || [Server::new(Ipv4Addr::new(192, 0, 2, 21).into(), 80)].into_iter();
        let beside = |address: Ipv4Addr| Own { address: address.into(), prefix: 24 };
        let judge = |elsewhere: &[_]| {
            let source = |_| Some(IpAddr::from(ELSEWHERE));
            judge("eth0", &[beside(OWN)], elsewhere, &HashSet::new(), servers(), source).is_some()
        };
        assert!(judge(&[]) && !judge(&[beside(ELSEWHERE)]));
    }

    #[test]
    fn a_vip_as_the_source_is_told_and_so_is_none_at_all() {
        let text = told(&[OWN], Some(VIP)).expect("a finding");
        assert!(text.contains("10.77.0.21 and 1 more carry the VIP 10.77.0.6 as their source"), "{text}");
        for (own, source) in [(&[][..], None), (&[ELSEWHERE], None), (&[], Some(ELSEWHERE))] {
            let text = told(own, source).expect("a finding");
            assert!(text.starts_with("eth0 has no address of its own in the network of server"), "{text}");
        }
    }

    #[test]
    fn a_vip_of_ipv6_is_the_source_where_nothing_else_is() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let vips = HashSet::from([address("fd00::6")]);
        let told = |own: &[&str], source: &str| {
            let own: Vec<_> = own.iter().map(|own| Own { address: address(own), prefix: 64 }).collect();
            let servers = [Server::new(address("fd00::25"), 80)];
            judge("eth0", &own, &[], &vips, servers.into_iter(), |_| Some(address(source)))
        };
        for (own, source) in [("fd00::5", "fd00::5"), ("fe80::5", "fe80::5"), ("fd01::5", "fd01::5")] {
            assert_eq!(told(&[own], source), None, "{source}");
        }
        let finding = told(&["fe80::5"], "fd00::6").expect("a finding");
        assert!(
            finding
                .text
                .starts_with("checks and neighbour discovery to server fd00::25 carry the VIP fd00::6")
        );
        assert_eq!(finding.mend, "give eth0 an address of its own there, besides the VIPs");
    }
}

//! The source of this host's own packets to the servers: checks, and the kernel's questions for
//! MACs. Servers hold the VIPs themselves, so they answer nothing that comes from one.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use lb_api::findings::{Finding, Findings, Kind};
use lb_model::{Config, Server};
use lb_net::vips::{HOST, Network};
use nix::ifaddrs::getifaddrs;

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
    let own: Vec<(Ipv4Addr, Network)> =
        on_interface.into_iter().filter(|(address, _)| !vips.contains(&IpAddr::V4(*address))).collect();
    let servers =
        services.flat_map(|service| service.servers.iter().cloned().chain(service.fallback_server()));
    judge(&config.interface, &own, &elsewhere, &vips, servers, source_to).into_iter().collect()
}

/// Pure. `own` are the interface's addresses, `elsewhere` those of others; `source_to` is what the
/// kernel would pick towards an address.
fn judge(
    interface: &str,
    own: &[(Ipv4Addr, Network)],
    elsewhere: &[(Ipv4Addr, Network)],
    vips: &HashSet<IpAddr>,
    servers: impl Iterator<Item = Server>,
    source_to: impl Fn(Ipv4Addr) -> Option<Ipv4Addr>,
) -> Option<Finding> {
    // One server of a network stands for all of them, if the director has an address there.
    let mut known: HashMap<Network, Option<Ipv4Addr>> = HashMap::new();
    let mut wrong: Vec<(String, Option<Ipv4Addr>)> = Vec::new();
    let mut seen = HashSet::new();
    for server in servers {
        let IpAddr::V4(address) = server.address else { continue };
        if !seen.insert(address) {
            continue;
        }
        let network = own.iter().map(|(_, network)| *network).find(|network| network.contains(address));
        let source = match network {
            Some(network) => *known.entry(network).or_insert_with(|| source_to(address)),
            None => source_to(address),
        };
        let vip = source.filter(|source| vips.contains(&IpAddr::V4(*source)));
        let is_own = source.is_some_and(|source| own.iter().any(|(own, _)| *own == source));
        // One behind another interface is asked from that one's address.
        let is_there = elsewhere.iter().any(|(there, of)| source == Some(*there) && of.contains(address));
        // To one with a tunnel or a named interface there may be no way now, which is a finding of
        // its own.
        let may_be_away = is_there || server.tunnel.is_some() || server.interface.is_some();
        let astray = network.is_none() && !is_own && !may_be_away;
        if vip.is_some() || astray {
            let name = match server.name == address.to_string() {
                true => server.name,
                false => format!("{} ({address})", server.name),
            };
            wrong.push((name, vip));
        }
    }
    let (first, vip) = wrong.first()?;
    let more = if wrong.len() > 1 { format!(" and {} more", wrong.len() - 1) } else { String::new() };
    let (text, mend) = match vip {
        Some(vip) => (
            format!(
                "checks and ARP requests to server {first}{more} carry the VIP {vip} as their source, which servers do not answer"
            ),
            format!("take {vip} out of the host's own network configuration: lb adds it as {vip}/{HOST}"),
        ),
        None => (
            format!(
                "{interface} has no address of its own in the network of server {first}{more}: checks and ARP requests have no \
                 source that servers answer"
            ),
            format!("give {interface} an address of its own there, besides the VIPs"),
        ),
    };
    Some(Finding { kind: Kind::VipIsSource, subject: interface.to_owned(), text, mend })
}

/// The IPv4 addresses of interfaces. `None`: there is no such interface.
fn addresses(is_one: impl Fn(&str) -> bool) -> Option<Vec<(Ipv4Addr, Network)>> {
    // getifaddrs(3) calls an address by its label, such as eth0:0.
    let is_its = |name: &str| name.split(':').next().is_some_and(&is_one);
    let mut entries = getifaddrs().ok()?.filter(|entry| is_its(&entry.interface_name)).peekable();
    entries.peek()?;
    let addresses = entries.filter_map(|entry| {
        let address = entry.address?.as_sockaddr_in()?.ip();
        let mask = entry.netmask?.as_sockaddr_in()?.ip();
        let prefix = u8::try_from(u32::from(mask).leading_ones()).ok()?;
        Some((address, Network::of(address, prefix)))
    });
    Some(addresses.collect())
}

/// The source that the kernel picks for packets to `address`, which are not sent.
fn source_to(address: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((address, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(source) if !source.is_unspecified() => Some(source),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 6);
    const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 5);
    const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);

    /// What is told of servers 10.77.0.21 and 10.77.0.22, by a director with these addresses.
    fn told(own: &[Ipv4Addr], source: Option<Ipv4Addr>) -> Option<String> {
        let own: Vec<_> = own.iter().map(|own| (*own, Network::of(*own, 24))).collect();
        let servers = [21, 22].map(|last| Server::new(Ipv4Addr::new(10, 77, 0, last).into(), 80));
        let vips = HashSet::from([IpAddr::V4(VIP)]);
        judge("eth0", &own, &[], &vips, servers.into_iter(), |_| source).map(|finding| finding.text)
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
        let own = [(OWN, Network::of(OWN, 24))];
        let judge = |elsewhere: &[_]| {
            judge("eth0", &own, elsewhere, &HashSet::new(), servers(), |_| Some(ELSEWHERE)).is_some()
        };
        assert!(judge(&[]) && !judge(&[(ELSEWHERE, Network::of(ELSEWHERE, 24))]));
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
}

//! Machines that are more than one thing: directors that are real servers, real servers that are
//! gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_api::findings::{Finding, Findings, Kind};
use lb_common::mac::Mac;
use lb_common::reason::Reason;
use lb_model::{Cluster, Config};
use lb_net::vips;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use super::desired::RuntimeState as _;
use super::forwarder::Forwarder;
use super::masq;
use super::runtime::Runtime;

/// A packet that came back is worth a finding for so long.
const LOOPS_LAST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Topology {
    /// Of the other nodes, as last known: the kernel forgets MACs when the interface loses its
    /// link.
    directors: BTreeMap<IpAddr, Mac>,
    /// Packets that had come back from their servers at the last look.
    loops: u64,
    /// Packets of clients in the subnet of their server, the same.
    near: u64,
    /// Packets for which `source_nat` had no port, the same.
    without_port: u64,
}

impl Topology {
    /// A neighbour has this MAC. If it is another director whose MAC is new, returns the MACs of
    /// all of them: the data path tells what those send.
    pub(super) fn director_is_at(
        &mut self,
        address: IpAddr,
        mac: Mac,
        config: &Config,
    ) -> Option<BTreeSet<Mac>> {
        let mut others = config.cluster.iter().flat_map(Cluster::others);
        let known = self.directors.get(&address) == Some(&mac);
        if known || !others.any(|node| node.address == address) {
            return None;
        }
        self.directors.insert(address, mac);
        Some(self.directors.values().copied().collect())
    }

    /// Looks whether servers send packets on that they should serve.
    pub(super) fn check_loops(
        &mut self,
        config: &Config,
        runtime: &Runtime,
        forwarder: &Forwarder,
        findings: &Findings,
    ) {
        if let Ok(near) = forwarder.counters().reason(Reason::ClientNearServer)
            && std::mem::replace(&mut self.near, near) < near
        {
            findings.raise_for(client_near_server(config), LOOPS_LAST);
        }
        if let Ok(without) = forwarder.counters().reason(Reason::NoSourcePort)
            && std::mem::replace(&mut self.without_port, without) < without
        {
            findings.raise_for(masq::ports_exhausted(config), LOOPS_LAST);
        }
        let Ok(loops) = forwarder.counters().reason(Reason::Loop) else { return };
        if std::mem::replace(&mut self.loops, loops) == loops {
            return;
        }
        let mac = forwarder.came_back();
        let at = |server: &IpAddr| runtime.mac(*server) == Some(mac);
        findings.raise_for(server_forwards(config, mac, at), LOOPS_LAST);
    }
}

/// Looks whether this host, where it is a real server, holds the VIPs also while it is on standby.
/// `own` is its MAC.
pub(super) fn check_own_vips(config: &Config, runtime: &Runtime, own: Mac, findings: &Findings) {
    let is_here = |server: IpAddr| runtime.mac(server) == Some(own);
    let served: BTreeSet<IpAddr> = match config.cluster {
        Some(_) => vips_served_by(config, is_here),
        None => BTreeSet::new(),
    };
    let lacking = if served.is_empty() { served } else { &served - &on_loopback() };
    let lacking = lacking.into_iter().map(|vip| Finding {
        kind: Kind::VipNotOnLoopback,
        subject: vip.to_string(),
        text: format!(
            "this host is a real server of {vip}, but does not hold it on its loopback: it cannot serve what another \
             director sends it"
        ),
        mend: match vip {
            IpAddr::V4(_) => format!("{}, and arp_ignore=1, arp_announce=2 as on any real server", vips::on_loopback(vip)),
            IpAddr::V6(_) => vips::on_loopback(vip),
        },
    });
    findings.set(Kind::VipNotOnLoopback, lacking.collect());
}

fn client_near_server(config: &Config) -> Finding {
    let text =
        "clients in the own subnet of a server of `forward: masq` are refused: the server would answer them \
                directly, from an address that they do not know"
            .to_owned();
    let mend = "set `source_nat`, move the servers into a network of their own, or serve these clients by `forward: direct`";
    let (kind, subject) = (Kind::ClientNearServer, config.interface.clone());
    Finding { kind, subject, text, mend: mend.to_owned() }
}

fn server_forwards(config: &Config, mac: Mac, at: impl Fn(&IpAddr) -> bool) -> Finding {
    let servers = config.services.iter().flat_map(|service| &service.servers);
    let names: BTreeSet<&str> = servers
        .filter(|server| !server.is_routed() && at(&server.address))
        .map(|server| server.name.as_str())
        .collect();
    let who = match names.first() {
        Some(name) => format!("{name} ({mac})"),
        None => mac.to_string(),
    };
    let vips = vips_served_by(config, |server| at(&server));
    let vips: Vec<String> = vips.iter().map(IpAddr::to_string).collect();
    Finding {
        kind: Kind::ServerForwards,
        subject: mac.to_string(),
        text: format!("{who} sends packets for {} on instead of serving them", vips.join(", ")),
        mend: "does it hold the VIP? ip address add VIP/32 dev lo".to_owned(),
    }
}

/// The VIPs of services that have a server of which this holds.
fn vips_served_by(config: &Config, is_one: impl Fn(IpAddr) -> bool) -> BTreeSet<IpAddr> {
    let services = config.services.iter();
    let served = services
        .filter(|service| service.servers.iter().any(|server| !server.is_routed() && is_one(server.address)));
    served.map(|service| service.key.vip).collect()
}

fn on_loopback() -> BTreeSet<IpAddr> {
    let Ok(addresses) = getifaddrs() else { return BTreeSet::new() };
    let of_loopback = addresses.filter(|entry| entry.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    let address = |storage: SockaddrStorage| match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (None, v6) => v6.map(|v6| IpAddr::V6(v6.ip())),
    };
    of_loopback.filter_map(|entry| address(entry.address?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_forwards_is_named_with_its_vips() {
        let text = "
interface: eth0
services:
  - { vip: '192.0.2.10:80', servers: [{ name: www1, address: 192.0.2.21 }, { address: 192.0.2.22 }] }
  - { vip: '192.0.2.11:80', servers: [{ name: www1, address: 192.0.2.21 }] }
  - { vip: '192.0.2.12:80', servers: [{ address: 192.0.2.22 }] }
";
        let config = lb_config::parse(text, "test.yaml").expect("a configuration");
        let www1: IpAddr = [192, 0, 2, 21].into();
        let finding = server_forwards(&config, Mac::new([2, 0, 0, 0, 0, 21]), |server| *server == www1);
        assert_eq!(
            finding.text,
            "www1 (02:00:00:00:00:15) sends packets for 192.0.2.10, 192.0.2.11 on instead of serving them"
        );
    }
}

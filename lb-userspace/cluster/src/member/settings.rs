//! From the configuration to what the machine and the paths need.

use std::net::SocketAddr;
use std::time::Duration;

use lb_model::ids::NodeId;
use lb_model::{Cluster, Config, HeartbeatPath};

use crate::machine::{Anycast, Change, GroupSettings, Settings};
use crate::transport::Open;
use crate::transport::serial::Serial;
use crate::transport::udp::{To, Udp};

/// How long the addresses of a group may take to be on the interface, a fence command apart.
const TAKEOVER: Duration = Duration::from_secs(2);
/// And for each address, on a machine that is busy with other things.
const TAKEOVER_OF_ONE: Duration = Duration::from_millis(1);

/// `session` is new with each start of this node; `maintenance` is what an earlier life was told to
/// remember.
pub(super) fn machine(config: &Config, cluster: &Cluster, session: u64, maintenance: bool) -> Settings {
    let Cluster { interval, dead, .. } = *cluster;
    let nodes = u8::try_from(cluster.nodes.len()).unwrap_or(u8::MAX);
    let Change { config_digest, takeover, groups } = change(config, cluster);
    Settings {
        config_digest,
        interval,
        dead,
        initial_dead: cluster.initial_dead,
        lease: Settings::longest_lease(interval, dead),
        late: cluster.late,
        takeover,
        references: u8::try_from(cluster.references.len()).unwrap_or(u8::MAX),
        maintenance,
        groups,
        ..Settings::new(cluster.me, nodes, session)
    }
}

/// What a reload may change.
pub(super) fn change(config: &Config, cluster: &Cluster) -> Change {
    let fence = cluster.fence.as_ref().map_or(Duration::ZERO, |fence| fence.timeout);
    let vips = config.groups.iter().map(|group| group.vips.len()).sum::<usize>();
    let vips = u32::try_from(vips).unwrap_or(u32::MAX);
    Change {
        config_digest: config.digest(),
        takeover: TAKEOVER + TAKEOVER_OF_ONE * vips + fence,
        groups: config.groups.iter().map(group).collect(),
    }
}

fn group(group: &lb_model::Group) -> GroupSettings {
    let anycast = group.anycast();
    GroupSettings {
        id: group.id(),
        preference: group.nodes.clone(),
        failback: group.failback,
        anycast: anycast
            .map(|anycast| Anycast { number: group.number, withdraw_wait: anycast.withdraw_wait }),
    }
}

/// Name and opener of each path.
pub(super) fn paths(cluster: &Cluster) -> Vec<(String, Box<dyn Open>)> {
    cluster.paths.iter().map(|path| (name(path), opener(path, cluster.me))).collect()
}

/// What listings and metrics call it.
fn name(path: &HeartbeatPath) -> String {
    let via =
        |interface: &Option<String>| interface.as_ref().map_or(String::new(), |name| format!(" {name}"));
    match path {
        HeartbeatPath::Unicast { interface, port, .. } => format!("unicast{} port {port}", via(interface)),
        HeartbeatPath::Multicast { interface, group } => format!("multicast {interface} {group}"),
        HeartbeatPath::Broadcast { interface, address } => format!("broadcast{} {address}", via(interface)),
        HeartbeatPath::Serial { device, baud } => format!("serial {} {baud} baud", device.display()),
    }
}

fn opener(path: &HeartbeatPath, me: NodeId) -> Box<dyn Open> {
    match path.clone() {
        HeartbeatPath::Unicast { interface, port, addresses } => {
            let address = |index: usize| SocketAddr::new(addresses[index], port);
            let me = me.index();
            let peers = (0..addresses.len()).filter(|&node| node != me).map(address).collect();
            Box::new(Udp { to: To::Unicast { local: address(me), peers }, interface })
        }
        HeartbeatPath::Multicast { interface, group } => {
            Box::new(Udp { to: To::Multicast { group }, interface: Some(interface) })
        }
        HeartbeatPath::Broadcast { interface, address } => {
            Box::new(Udp { to: To::Broadcast { address }, interface })
        }
        HeartbeatPath::Serial { device, baud } => Box::new(Serial { device, baud }),
    }
}

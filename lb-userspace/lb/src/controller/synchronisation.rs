//! Connections that the other directors of the cluster know, too.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use lb_api::status::{Count, SyncPeer, SyncStatus};
use lb_cluster::auth::{self, ClusterId, Keys};
use lb_cluster::session_at;
use lb_common::addr::V6;
use lb_common::forward::nat::source::{Client, Endpoint};
use lb_common::server::{ServerEntry, ServerId};
use lb_common::service::ServiceInfo;
use lb_common::service::binding::{self, Binding};
use lb_common::table::connection::{Entry, Generation, Key, KeyV4, KeyV6, Tick};
use lb_datapath::bindings::Bindings;
use lb_datapath::mapped::Mapped;
use lb_datapath::plan::{State, Target};
use lb_datapath::sources::Ports;
use lb_datapath::table::{PageView, Pages, Table};
use lb_model::ids::{GroupNumber, NodeId};
use lb_model::lease::Leases;
use lb_model::{Cluster, ConnectionSync, Group, HeartbeatPath, ServiceKey};
use lb_sync::backend::Backend;
use lb_sync::directory::{Directory, Known, KnownGroup, SharedDirectory};
use lb_sync::engine::Me;
use lb_sync::service::{Path, Settings, Synchroniser};
use lb_sync::status::{Drops, PeerStatus, Status};
use lb_sync::table::{Bound, Entered};
use lb_system::clock::{now, now_ns};
use lb_system::vital_signs::Pulse;

pub(super) struct Synchronisation {
    synchroniser: Synchroniser,
    directory: SharedDirectory,
    port: u16,
}

impl Synchronisation {
    /// # Errors
    /// The keys cannot be read, or the thread cannot be started.
    pub(super) fn start(cluster: &Cluster, sync: ConnectionSync, connections: Connections) -> Result<Self> {
        let keys = auth::file::read(&cluster.key_file).context("heartbeat keys")?;
        let (session, node) = (session_at(SystemTime::now()), cluster.me);
        let me = Me { node, session, cluster: ClusterId::of(&cluster.name), keys };
        let others = nodes(cluster).map(|(other, _)| other).filter(|other| *other != node).collect();
        let paths = paths(cluster, sync.port);
        let settings = Settings { me, others, paths, rate: sync.rate };
        let directory = SharedDirectory::default();
        let synchroniser = Synchroniser::start(settings, Arc::new(connections), directory.clone())
            .context("cannot start the thread that tells other directors about connections")?;
        Ok(Self { synchroniser, directory, port: sync.port })
    }

    /// The thread, by its name, gives signs of life.
    pub(super) fn pulse(&self) -> (&'static str, Pulse) {
        self.synchroniser.pulse()
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the node answers.
    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.synchroniser.status().get().peers.iter().any(|peer| peer.node == node && peer.is_up)
    }

    pub(super) fn set_keys(&self, keys: Keys) {
        self.synchroniser.set_keys(keys);
    }

    /// What the maps hold now, and by which number.
    pub(super) fn set_servers(
        &self,
        state: &State,
        groups: &[Group],
        number: impl Fn(&ServiceKey, Target) -> Option<ServerId>,
    ) {
        self.directory.set(directory(state, groups, number));
    }

    /// Nodes that do not know yet what this one knows, a bit each.
    pub(super) fn behind(&self, cluster: &Cluster) -> u16 {
        self.without(cluster, |peer| peer.knows_ours)
    }

    /// Nodes of which this one does not know yet what they know, a bit each.
    pub(super) fn unlearned(&self, cluster: &Cluster) -> u16 {
        self.without(cluster, |peer| peer.knows_theirs)
    }

    /// The other nodes that do not answer, or of which that is not so: a bit each.
    fn without(&self, cluster: &Cluster, is_so: impl Fn(&PeerStatus) -> bool) -> u16 {
        let peers = self.synchroniser.status().get().peers;
        let has = |node: NodeId| peers.iter().any(|peer| peer.node == node && peer.is_up && is_so(peer));
        let others = nodes(cluster).map(|(node, _)| node).filter(|node| *node != cluster.me);
        others.filter(|node| !has(*node)).fold(0, |bits, node| bits | 1 << node.0)
    }

    pub(super) fn status(&self, name: impl Fn(NodeId) -> String) -> SyncStatus {
        let Status { peers, drops, busy } = self.synchroniser.status().get();
        SyncStatus {
            peers: peers.iter().map(|peer| sync_peer(peer, &name)).collect(),
            dropped: drop_counts(&drops),
            busy_s: busy.as_secs_f64(),
        }
    }
}

fn nodes(cluster: &Cluster) -> impl Iterator<Item = (NodeId, IpAddr)> + '_ {
    (0..=u8::MAX).map(NodeId).zip(cluster.nodes.iter().map(|node| node.address))
}

/// The ways of heartbeats that lead to single nodes, and the nodes' own addresses.
fn paths(cluster: &Cluster, port: u16) -> Vec<Path> {
    let me = cluster.me.index();
    let path = |interface: &Option<String>, addresses: &[IpAddr]| {
        let with_port = |address: &IpAddr| SocketAddr::new(*address, port);
        let peers = (0..=u8::MAX).map(NodeId).zip(addresses.iter().map(with_port));
        Some(Path {
            interface: interface.clone(),
            local: with_port(addresses.get(me)?),
            peers: peers.filter(|(node, _)| *node != cluster.me).collect(),
        })
    };
    let own: Vec<IpAddr> = cluster.nodes.iter().map(|node| node.address).collect();
    let of_heartbeats = cluster.paths.iter().filter_map(|heartbeats| match heartbeats {
        HeartbeatPath::Unicast { interface, addresses, .. } => path(interface, addresses),
        HeartbeatPath::Multicast { .. } | HeartbeatPath::Broadcast { .. } | HeartbeatPath::Serial { .. } => {
            None
        }
    });
    let mut paths: Vec<Path> = Vec::new();
    for path in of_heartbeats.chain(path(&None, &own)) {
        if !paths.iter().any(|other| other.local == path.local) {
            paths.push(path);
        }
    }
    paths
}

fn directory(
    state: &State,
    groups: &[Group],
    number: impl Fn(&ServiceKey, Target) -> Option<ServerId>,
) -> Directory {
    let group = |number: GroupNumber| groups.iter().find(|group| group.number == number);
    let mut servers: Vec<(ServerId, Known)> = Vec::new();
    for (key, service) in &state.services {
        let Some(group) = service.settings.group.and_then(group) else { continue };
        for server in &service.servers {
            if let Target::Real(address) = server.target
                && let Some(id) = number(key, server.target)
            {
                let sourced = service.settings.source_nat.is_some() && server.translation.is_some();
                servers.push((id, known(key, address, group, sourced)));
            }
        }
    }
    let bindings = state.services.values().filter_map(|service| {
        let settings = &service.settings;
        settings.persistence.as_ref().map(|persistence| persistence.group).zip(settings.group)
    });
    Directory::new(servers).with_bindings(bindings)
}

/// `sourced`: own addresses stand in the place of its clients.
fn known(service: &ServiceKey, server: IpAddr, group: &Group, sourced: bool) -> Known {
    let ServiceKey { vip, port, protocol } = *service;
    let group = KnownGroup::new(group.number, group.id(), group.anycast().is_some());
    Known {
        backend: Backend { vip: V6::from(vip), port, protocol, server: V6::from(server) },
        group: if sourced { group.sourced() } else { group },
    }
}

fn sync_peer(peer: &PeerStatus, name: impl Fn(NodeId) -> String) -> SyncPeer {
    SyncPeer {
        node: name(peer.node),
        up: peer.is_up,
        knows_ours: peer.knows_ours,
        knows_theirs: peer.knows_theirs,
        learned: peer.learned,
        told_again: peer.told_again,
        lag_ms: peer.lag.as_secs_f64() * 1000.0,
        backlog: peer.backlog as u64,
        agreement: peer.agreement,
        told: peer.told,
        taken: peer.taken,
        sent: peer.sent,
        sent_bytes: peer.sent_bytes,
        sent_again: peer.sent_again,
        received: peer.received,
    }
}

fn drop_counts(drops: &Drops) -> Vec<Count> {
    let Drops {
        not_ours,
        foreign_cluster,
        signature,
        unknown_node,
        malformed,
        unknown_server,
        balanced_here,
        without_slot,
        without_source,
    } = *drops;
    let count = |(reason, count): (&str, u64)| Count { reason: reason.to_owned(), count };
    [
        ("not_ours", not_ours),
        ("foreign_cluster", foreign_cluster),
        ("signature", signature),
        ("unknown_node", unknown_node),
        ("malformed", malformed),
        ("unknown_server", unknown_server),
        ("balanced_here", balanced_here),
        ("without_slot", without_slot),
        ("without_source", without_source),
    ]
    .map(count)
    .into()
}

/// The connection table as the synchronisation sees it.
pub(super) struct Connections {
    table: Arc<Table>,
    servers: Arc<Mapped<ServerEntry>>,
    /// Never change while the maps are there.
    hash_keys: [u64; 2],
    leases: Leases,
    bindings: Mutex<Bindings>,
    ports: Mutex<Ports>,
    v4: FamilyPages<KeyV4>,
    v6: FamilyPages<KeyV6>,
}

impl Connections {
    pub(super) fn new(
        table: Arc<Table>,
        servers: Arc<Mapped<ServerEntry>>,
        hash_keys: [u64; 2],
        leases: Leases,
        bindings: Bindings,
        ports: Ports,
    ) -> Self {
        let v4 = FamilyPages { table: Arc::clone(&table), pages: |table| &table.v4 };
        let v6 = FamilyPages { table: Arc::clone(&table), pages: |table| &table.v6 };
        let (bindings, ports) = (Mutex::new(bindings), Mutex::new(ports));
        Self { table, servers, hash_keys, leases, bindings, ports, v4, v6 }
    }
}

/// The pages of one family.
pub(super) struct FamilyPages<K> {
    table: Arc<Table>,
    pages: fn(&Table) -> &Pages<K>,
}

impl<K: Key> lb_sync::table::Pages<K> for FamilyPages<K> {
    type Page<'a>
        = PageView<'a, K>
    where
        K: 'a;

    fn count(&self) -> usize {
        (self.pages)(&self.table).count()
    }
    fn page(&self, index: usize) -> PageView<'_, K> {
        (self.pages)(&self.table).page(index)
    }
    fn take_changed(&self, changed: &mut Vec<usize>) {
        (self.pages)(&self.table).take_changed(|page| changed.push(page));
    }
}

impl lb_sync::table::Table for Connections {
    type V4 = FamilyPages<KeyV4>;
    type V6 = FamilyPages<KeyV6>;

    fn v4(&self) -> &Self::V4 {
        &self.v4
    }
    fn v6(&self) -> &Self::V6 {
        &self.v6
    }
    fn hash_keys(&self) -> [u64; 2] {
        self.hash_keys
    }
    fn service(&self, server: ServerId) -> ServiceInfo {
        self.servers.read(usize::from(server.0)).service
    }
    fn count(&self, entry: Entry, before: Entry) {
        self.table.exchange(entry, before);
    }
    fn balances(&self, group: GroupNumber) -> bool {
        self.leases.balance_until(group).is_some_and(|until| now() < until)
    }
    fn holds(&self, group: GroupNumber) -> bool {
        self.leases.answer_until(group).is_some_and(|until| now() < until)
    }
    fn generation(&self, group: GroupNumber) -> Generation {
        Generation::from_number(self.leases.generation(group))
    }
    fn now(&self) -> Tick {
        Tick::from_ns(now_ns())
    }

    fn source(&self, client: &Client) -> Option<Endpoint> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).of(client)
    }

    fn enter_source(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        gives_way: &dyn Fn(&Client) -> bool,
    ) -> Entered {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        match ports.enter(client, endpoint, gives_way) {
            Ok(None) => Entered::WasFree,
            Ok(Some(other)) => Entered::InPlaceOf(other),
            Err(error) => {
                tracing::debug!("{error:#}");
                Entered::Refused
            }
        }
    }

    fn bindings(&self) -> Vec<(binding::Key, Bound)> {
        let now = now();
        let listed = self.bindings.lock().unwrap_or_else(PoisonError::into_inner).list(now_ns());
        let bound = |Binding { server, until_ns }| {
            let until = Duration::from_nanos(until_ns);
            Bound { server, until, timeout: until.saturating_sub(now) }
        };
        let listed = listed.unwrap_or_else(|error| {
            tracing::warn!("{error:#}");
            Vec::new()
        });
        listed.into_iter().map(|(key, binding)| (key, bound(binding))).collect()
    }

    fn bind(&self, key: binding::Key, server: V6, until: Duration) {
        let until_ns = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        let binding = Binding { server, until_ns };
        if let Err(error) = self.bindings.lock().unwrap_or_else(PoisonError::into_inner).set(key, binding) {
            tracing::debug!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::controller::desired;
    use crate::controller::runtime::Runtime;

    const CONFIGURATION: &str = "
interface: lo
groups: [{ name: web, vips: [192.0.2.10/24, 192.0.2.20/24] }]
services:
  - { vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }] }
  - { vip: '192.0.2.10:81', forward: masq, source_nat: [192.0.2.20], servers: [{ address: 192.0.2.21 }] }
  - { vip: '192.0.2.30:80', servers: [{ address: 192.0.2.21 }] }
";

    /// Those whose clients have other addresses at the servers are a group of their own.
    #[test]
    fn others_are_told_of_servers_of_groups() {
        let config = lb_config::parse(CONFIGURATION, "test.yaml").unwrap_or_else(|error| panic!("{error}"));
        let state = desired::state(&config, &Runtime::default());
        assert_eq!(state.services.len(), 3);
        let number = |key: &ServiceKey, _| Some(ServerId(key.port));
        let told = directory(&state, &config.groups, number);
        let vip = Ipv4Addr::new(192, 0, 2, 10).into();
        let known = |port, sourced| {
            let key = ServiceKey { vip, port, protocol: lb_model::Protocol::Tcp };
            known(&key, Ipv4Addr::new(192, 0, 2, 21).into(), &config.groups[0], sourced)
        };
        let [plain, sourced] = [known(80, false), known(81, true)];
        assert_ne!(plain.group.id, sourced.group.id);
        assert_eq!(told, Directory::new([(ServerId(80), plain), (ServerId(81), sourced)]));
    }
}

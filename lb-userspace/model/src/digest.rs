//! The configuration digest: a hash of every value that must be equal on all nodes of a cluster.
//! Heartbeats carry it, so that nodes detect different configurations.
//!
//! The hash covers an encoding defined here, so that the digest does not depend on the compiler.
//! Every value has a fixed length or is preceded by its length, so two different configurations
//! never have the same encoding. Each struct is destructured in full: whoever adds a field decides
//! here whether nodes may differ in it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clients::{ClientPrefix, Clients, Listed, Rate, Rates};
use crate::cluster::{Cluster, ConnectionSync, HeartbeatPath, Node};
use crate::config::{
    Config, Damping, DeadServer, Failback, Fallback, Group, GroupVip, Hashing, Persistence, Quorum, Server,
    Service, ServiceKey, Stray, Timeouts,
};

use crate::group::{Anycast, GroupKind};
use crate::quic::{QuicEncoding, QuicKey};
use crate::tunnel::Tunnel;

mod check;

/// The encoding's version: every change of the encoding needs another one.
const FORMAT: &str = "lb configuration 7";

impl Config {
    /// Equal on two nodes if they agree on the cluster, the groups and the services. The digest
    /// ignores what belongs to one machine (interfaces, devices, files, hooks), what only operators
    /// see (labels, names of services and servers), services that are kept elsewhere, and the order
    /// of services.
    pub fn digest(&self) -> u64 {
        let Self {
            interface: _,
            other_interfaces: _,
            xdp_mode: _,
            connections: _,
            bindings: _,
            control: _,
            metrics: _,
            web: _,
            alerts: _,
            timeouts: _,
            maintenance: _,
            zero_copy: _,
            announce_rate: _,
            cluster,
            groups,
            denied,
            services,
            kept_elsewhere,
        } = self;
        let mut writer = Writer::default();
        writer.text(FORMAT);
        writer.option(cluster.as_ref(), Writer::cluster);
        writer.list(groups, Writer::group);
        writer.listed(denied);
        let services = services.iter().filter(|service| !kept_elsewhere.contains(&service.key));
        let mut services: Vec<_> = services.collect();
        services.sort_by_key(|service| service.key);
        writer.list(services, Writer::service);
        writer.digest()
    }
}

#[derive(Default)]
struct Writer(Sha256);

impl Writer {
    fn digest(self) -> u64 {
        let bytes: [u8; 32] = self.0.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = bytes;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    fn number(&mut self, number: impl Into<u64>) {
        self.0.update(number.into().to_be_bytes());
    }

    fn length(&mut self, length: usize) {
        self.number(u64::try_from(length).unwrap_or(u64::MAX));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.update(text);
    }

    /// The model's times are whole milliseconds, except those in which nodes may differ.
    fn time(&mut self, time: Duration) {
        self.number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.number(4_u8);
                self.0.update(address.octets());
            }
            IpAddr::V6(address) => {
                self.number(6_u8);
                self.0.update(address.octets());
            }
        }
    }

    fn socket_address(&mut self, address: SocketAddr) {
        self.address(address.ip());
        self.number(address.port());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.number(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        let items = items.into_iter();
        self.length(items.len());
        items.for_each(|item| write(self, item));
    }

    fn cluster(&mut self, cluster: &Cluster) {
        let Cluster {
            name,
            me: _,
            nodes,
            key_file: _,
            interval,
            dead,
            late: _,
            initial_dead: _,
            linger: _,
            paths,
            references: _,
            state: _,
            hooks: _,
            fence: _,
            sync,
        } = cluster;
        self.text(name);
        self.list(nodes, Self::node);
        self.time(*interval);
        self.time(*dead);
        self.list(paths, Self::path);
        self.option(sync.as_ref(), |writer, ConnectionSync { port, rate: _ }| writer.number(*port));
    }

    fn node(&mut self, node: &Node) {
        let Node { name, address } = node;
        self.text(name);
        self.address(*address);
    }

    fn path(&mut self, path: &HeartbeatPath) {
        match path {
            HeartbeatPath::Unicast { interface: _, port, addresses } => {
                self.text("unicast");
                self.number(*port);
                self.list(addresses, |writer, address| writer.address(*address));
            }
            HeartbeatPath::Multicast { interface: _, group } => {
                self.text("multicast");
                self.socket_address(*group);
            }
            HeartbeatPath::Broadcast { interface: _, address } => {
                self.text("broadcast");
                self.socket_address(*address);
            }
            HeartbeatPath::Serial { device: _, baud } => {
                self.text("serial");
                self.number(*baud);
            }
        }
    }

    fn group(&mut self, group: &Group) {
        let Group { number: _, name, vips, interface: _, label: _, refresh: _, nodes, failback, kind } =
            group;
        self.text(name);
        self.list(vips, |writer, GroupVip { address, prefix }| {
            writer.address(*address);
            writer.number(*prefix);
        });
        self.list(nodes, |writer, node| writer.number(node.0));
        // Nothing more than ever for one of the kind that there has always been.
        match kind {
            GroupKind::Failover => {}
            GroupKind::Anycast(Anycast { device: _, withdraw_wait: _ }) => self.text("anycast"),
        }
        match failback {
            Failback::Auto { delay } => {
                self.text("auto");
                self.time(*delay);
            }
            Failback::Manual => self.text("manual"),
        }
    }

    fn service(&mut self, service: &Service) {
        let Service {
            name: _,
            key,
            ports,
            scheduler,
            hashing,
            quic,
            fallback,
            dead_server,
            slow_start,
            damping,
            quorum,
            hooks: _,
            stray,
            ops,
            timeouts,
            persistence,
            clients,
            vlan,
            source_nat,
            drain,
            servers,
        } = service;
        let ServiceKey { vip, port, protocol } = key;
        self.address(*vip);
        self.number(*port);
        self.list(ports.ranges(), |writer, range| {
            writer.number(range.first);
            writer.number(range.last);
        });
        self.text(protocol.name());
        self.text(scheduler.name());
        let Hashing { port: hashes_port, fallback: goes_on } = hashing;
        self.number(*hashes_port);
        self.number(*goes_on);
        self.list(quic, Self::quic);
        match fallback {
            Fallback::None => self.text("none"),
            Fallback::Refuse => self.text("refuse"),
            Fallback::Local => self.text("local"),
            Fallback::Server(address) => {
                self.text("server");
                self.address(*address);
            }
            Fallback::Sorry(_) => self.text("sorry"),
        }
        // The first two are those that `quiescent` has always had.
        self.number(match dead_server {
            DeadServer::Expire => 0_u8,
            DeadServer::Keep => 1,
            DeadServer::Move => 2,
            DeadServer::Reset => 3,
        });
        self.time(*slow_start);
        self.option(damping.as_ref(), |writer, Damping { falls, within, hold }| {
            writer.number(*falls);
            writer.time(*within);
            writer.time(*hold);
        });
        let Quorum { weight, hysteresis } = quorum;
        self.number(*weight);
        self.number(*hysteresis);
        self.text(match stray {
            Stray::Hash => "hash",
            Stray::Pass => "pass",
        });
        self.number(*ops);
        self.timeouts(timeouts);
        self.option(persistence.as_ref(), Self::persistence);
        self.option(clients.as_ref(), Self::clients);
        self.option(*vlan, |writer, vlan| writer.number(vlan.0));
        self.list(source_nat, |writer, address| writer.address(*address));
        self.time(*drain);
        self.list(servers, Self::server);
    }

    fn clients(&mut self, clients: &Clients) {
        let Clients { listed, prefix, of_each, connections, of_all } = clients;
        self.listed(listed);
        self.number(*prefix);
        self.option(*connections, |writer, most| writer.number(most));
        for Rates { new, packets } in [of_each, of_all] {
            for rate in [new, packets] {
                self.option(rate.as_ref(), |writer, Rate { per_second, burst }| {
                    writer.number(*per_second);
                    writer.number(*burst);
                });
            }
        }
    }

    /// What is in files, each node reads for itself.
    fn listed(&mut self, listed: &Listed) {
        let Listed { given, allow_file, deny_file, lists: _ } = listed;
        for (list, file) in [(&given.allow, allow_file), (&given.deny, deny_file)] {
            self.number(file.is_some());
            self.list(list, |writer, ClientPrefix { address, length }| {
                writer.address(*address);
                writer.number(*length);
            });
        }
    }

    fn persistence(&mut self, persistence: &Persistence) {
        let Persistence { timeout, prefix, group, keeps } = persistence;
        self.time(*timeout);
        self.number(*prefix);
        self.option(group.as_deref(), Self::text);
        self.number(*keeps);
    }

    fn timeouts(&mut self, timeouts: &Timeouts) {
        let Timeouts { syn_recv, unproven, established, fin_wait, closed, udp } = timeouts;
        for time in [syn_recv, unproven, established, fin_wait, closed, udp] {
            self.time(*time);
        }
    }

    /// Nodes may have links of different MTUs, and addresses of their own.
    fn tunnel(&mut self, tunnel: &Tunnel) {
        let Tunnel { kind, port, mtu: _, source: _ } = tunnel;
        self.text(kind.name());
        self.number(*port);
    }

    fn quic(&mut self, encoding: &QuicEncoding) {
        let QuicEncoding { rotation, server_id_length, nonce_length, key } = encoding;
        self.number(*rotation);
        self.number(*server_id_length);
        self.number(*nonce_length);
        self.option(*key, |writer, QuicKey(key)| key.iter().for_each(|byte| writer.number(*byte)));
    }

    /// Nodes name their interfaces each in its own way.
    fn server(&mut self, server: &Server) {
        let Server {
            name: _,
            address,
            port,
            tunnel,
            masq,
            interface: _,
            vlan,
            quic_ids,
            weight,
            thresholds,
            checks,
        } = server;
        self.address(*address);
        self.number(*port);
        self.option(tunnel.as_ref(), Self::tunnel);
        self.number(*masq);
        self.option(*vlan, |writer, vlan| writer.number(vlan.0));
        self.list(quic_ids, |writer, (rotation, id)| {
            writer.number(*rotation);
            writer.list(id, |writer, byte| writer.number(*byte));
        });
        self.number(*weight);
        self.number(thresholds.0);
        self.list(checks.iter(), Self::check);
    }
}

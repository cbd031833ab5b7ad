//! Prometheus metrics, made anew from a snapshot for every scrape.
//!
//! The numbers live in the data plane; a registry that outlives the scrape would be a second copy
//! of them, with the labels of servers that are long gone.

use anyhow::Context;
use lb_api::findings::Kind;
use lb_api::status::{
    ClusterStatus, Count, FindingStatus, GroupStatus, NodeStatus, PathStatus, ServerStatus, ServiceStatus,
    Status, SyncPeer, SyncStatus,
};
use lb_model::Health;
use prometheus::{Counter, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// The content type of [`encode`]'s text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Name, help and value of a metric of `T`.
type Metric<T, V = u64> = (&'static str, &'static str, fn(&T) -> V);

const SERVER_COUNTERS: [Metric<ServerStatus>; 3] = [
    ("lb_server_connections_total", "Connections given to the server", |s| s.connections),
    ("lb_server_packets_total", "Packets forwarded to the server", |s| s.packets),
    ("lb_server_bytes_total", "Bytes forwarded to the server, from the Ethernet header on", |s| s.bytes),
];

const SERVER_GAUGES: [Metric<ServerStatus>; 7] = [
    ("lb_server_active_connections", "Connections in state ESTABLISHED", |s| s.active.into()),
    ("lb_server_inactive_connections", "Connections in any other state", |s| s.inactive.into()),
    ("lb_server_up", "1 if the server's check says that it is up, or if it has none", |s| is_up(s).into()),
    ("lb_server_weight", "Configured weight; 0 while the server drains", |s| {
        if is_draining(s) { 0 } else { s.weight.into() }
    }),
    ("lb_server_effective_weight", "The weight that the server has now", |s| s.effective_weight.into()),
    ("lb_server_maintenance", "1 while an operator keeps the server out", |s| {
        (s.health == Health::Maintenance).into()
    }),
    (
        "lb_server_drained_since_seconds",
        "Unix time of the operator's order to drain the server; 0 without",
        |s| s.orders.iter().find(|order| order.weight.is_none()).map_or(0, |order| order.since),
    ),
];

const SERVICE_COUNTERS: [Metric<ServiceStatus>; 3] = [
    ("lb_service_connections_total", "Connections given to the service's servers", |s| {
        s.departed.connections + sum_all(s, |server| server.connections)
    }),
    ("lb_service_packets_total", "Packets forwarded to the service's servers", |s| {
        s.departed.packets + sum_all(s, |server| server.packets)
    }),
    ("lb_service_bytes_total", "Bytes forwarded, from the Ethernet header on", |s| {
        s.departed.bytes + sum_all(s, |server| server.bytes)
    }),
];

const SERVICE_GAUGES: [Metric<ServiceStatus>; 10] = [
    ("lb_service_active_connections", "Connections in state ESTABLISHED", |s| {
        sum_all(s, |server| server.active.into())
    }),
    ("lb_service_inactive_connections", "Connections in any other state", |s| {
        sum_all(s, |server| server.inactive.into())
    }),
    ("lb_service_bound_clients", "Clients bound to their server (persistence)", |s| {
        s.persistence.as_ref().map_or(0, |persistence| persistence.bound)
    }),
    ("lb_service_servers", "Configured servers", |s| sum(s, |server| (!is_draining(server)).into())),
    ("lb_service_servers_up", "Configured servers that are up", |s| sum(s, |server| is_up(server).into())),
    ("lb_service_on_fallback", "1 while the service's own servers do not serve", |s| s.on_fallback.into()),
    ("lb_service_fallback_ready", "1 if the fallback serves or could", |s| s.fallback_ready.into()),
    ("lb_service_quorum", "Weight of usable servers that the service needs", |s| s.quorum.weight.into()),
    ("lb_service_quorum_won", "1 while the service has its quorum", |s| s.quorum.won.into()),
    ("lb_service_usable_weight", "Sum of the weights of usable servers", |s| s.quorum.usable),
];

const COUNTERS: [Metric<Status>; 13] = [
    ("lb_table_inserted_total", "Entries made in the connection table", |s| s.table.inserted),
    ("lb_table_expired_total", "Entries whose idle time ran out", |s| s.table.expired),
    ("lb_table_evicted_total", "Entries given up for a new connection", |s| s.table.evicted),
    ("lb_table_contended_total", "Slots that another CPU claimed first", |s| s.table.contended),
    (
        "lb_quic_moved_packets_total",
        "QUIC packets sent by their connection ID after an address change",
        |s| s.quic_moved,
    ),
    ("lb_partial_checksums_total", "First packets with a checksum that was left to hardware", |s| {
        s.partial_checksums
    }),
    ("lb_fragments_held_total", "Fragments that came too early and were held", |s| s.fragments.held),
    ("lb_fragments_sent_total", "Held fragments that were sent in their turn", |s| s.fragments.sent),
    ("lb_fragments_passed_total", "Held fragments that went to the host, as nobody else claimed them", |s| {
        s.fragments.passed
    }),
    ("lb_relayed_packets_total", "Frames sent to the other director of a hand-over", |s| s.relayed),
    ("lb_check_probes_total", "Probes that health checks have started", |s| s.checks.started),
    ("lb_check_late_probes_total", "Probes that came more than 10 ms after they were due", |s| s.checks.late),
    ("lb_table_full_total", "New connections that found no slot", |s| s.table.full),
];

const GAUGES: [Metric<Status>; 8] = [
    ("lb_checks", "Health checks that are made", |s| s.checks.running),
    ("lb_table_slots", "Slots of the connection table for IPv4", |s| s.table.capacity),
    ("lb_table_used_slots", "Slots for IPv4 in use at the last sweep", |s| s.table.used),
    ("lb_table_ipv6_slots", "Slots of the connection table for IPv6", |s| s.table.capacity_v6),
    ("lb_table_ipv6_used_slots", "Slots for IPv6 in use at the last sweep", |s| s.table.used_v6),
    ("lb_table_memory_bytes", "Memory of the connection table", |s| s.table.memory_bytes),
    ("lb_uptime_seconds", "Time since the controller started", |s| s.uptime_s),
    ("lb_config_reload_ok", "1 while the running state is the configuration file's", |s| {
        s.config_error.is_none().into()
    }),
];

const GROUP_GAUGES: [Metric<GroupStatus>; 5] = [
    ("lb_cluster_group_active", "1 while this node is active for the group", |g| (g.role == "active").into()),
    ("lb_cluster_group_ready", "1 while this node has the group or could take it", |g| {
        (g.role != "fault").into()
    }),
    ("lb_cluster_group_has_successor", "1 while another node is ready to take the group", |g| {
        g.has_successor.into()
    }),
    ("lb_cluster_group_serving_nodes", "Nodes that serve the group; several with `kind: anycast`", |g| {
        g.serving.len() as u64
    }),
    ("lb_cluster_group_at_home", "1 while the group is on its preferred node", |g| {
        (g.holder.as_ref() == Some(&g.preferred)).into()
    }),
];

const NODE_GAUGES: [Metric<NodeStatus>; 3] = [
    ("lb_cluster_node_up", "1 while the node is heard, on any path", |n| n.alive.into()),
    ("lb_cluster_node_servers", "Real servers that the node last said it finds healthy", |n| {
        n.readiness.map_or(0, |readiness| readiness.servers.into())
    }),
    ("lb_cluster_node_config_agrees", "1 while the node's configuration is the same", |n| {
        n.config_agrees.into()
    }),
];

const PATH_COUNTERS: [Metric<PathStatus>; 3] = [
    ("lb_heartbeat_sent_total", "Heartbeats sent on the path", |p| p.sent),
    ("lb_heartbeat_send_errors_total", "Heartbeats that could not be sent on the path", |p| p.send_errors),
    ("lb_heartbeat_received_total", "Heartbeats that came on the path first", |p| p.received),
];

const PATH_GAUGES: [Metric<PathStatus>; 1] =
    [("lb_heartbeat_path_open", "1 while the path is open", |p| p.open.into())];

const SYNC_GAUGES: [Metric<SyncPeer>; 4] = [
    ("lb_sync_peer_up", "1 while the node answers to what it is told of connections", |p| p.up.into()),
    ("lb_sync_peer_knows", "1 while the node knows the connections that this one knows", |p| {
        p.knows_ours.into()
    }),
    ("lb_sync_knows_peer", "1 while this node knows the connections that the node knows", |p| {
        p.knows_theirs.into()
    }),
    ("lb_sync_backlog_datagrams", "Datagrams that the node has not confirmed yet", |p| p.backlog),
];

const SYNC_RATIOS: [Metric<SyncPeer, f64>; 2] = [
    ("lb_sync_lag_seconds", "From when a connection was told until the node said that it has it", |p| {
        p.lag_ms / 1000.0
    }),
    (
        "lb_sync_agreement_ratio",
        "Share of connections that both nodes know, when they compared last; NaN: the node balances nothing",
        |p| p.agreement.unwrap_or(f64::NAN),
    ),
];

const SYNC_COUNTERS: [Metric<SyncPeer>; 6] = [
    ("lb_sync_told_total", "Connections and changes of them that the node was told of", |p| p.told),
    ("lb_sync_taken_total", "Connections and changes of them that the node has told of", |p| p.taken),
    ("lb_sync_sent_datagrams_total", "Datagrams sent to the node", |p| p.sent),
    ("lb_sync_sent_bytes_total", "Bytes of these datagrams", |p| p.sent_bytes),
    ("lb_sync_sent_again_total", "Datagrams sent again because they were not confirmed", |p| p.sent_again),
    ("lb_sync_received_datagrams_total", "Datagrams received from the node", |p| p.received),
];

/// The snapshot in Prometheus' text format.
///
/// # Errors
/// Only if two metrics had the same name, or one an impossible one.
pub(crate) fn encode(status: &Status) -> anyhow::Result<String> {
    let page = Page(Registry::new());
    page.gauge("lb_build_info", "Version of the running lb", &["version"], [(vec![&*status.version], 1)])?;
    for (name, help, value) in COUNTERS {
        page.counter(name, help, &[], [(vec![], value(status))])?;
    }
    for (name, help, value) in GAUGES {
        page.gauge(name, help, &[], [(vec![], value(status))])?;
    }
    page.findings(&status.findings)?;
    page.reasons("lb_dropped_packets_total", "Frames dropped, by reason", &status.drops)?;
    page.reasons(
        "lb_passed_packets_total",
        "Frames for a VIP handed to the host's own stack",
        &status.passes,
    )?;
    page.reasons(
        "lb_answered_packets_total",
        "Frames answered in a service's name, by reason",
        &status.answers,
    )?;
    if let Some(cluster) = &status.cluster {
        page.cluster(cluster)?;
    }
    page.services(&status.services)?;
    page.servers(&status.services)?;
    TextEncoder::new().encode_to_string(&page.0.gather()).context("encoding the metrics")
}

fn is_draining(server: &ServerStatus) -> bool {
    server.health == Health::Draining
}

fn is_up(server: &ServerStatus) -> bool {
    matches!(server.health, Health::Up | Health::Unchecked)
}

fn sum(service: &ServiceStatus, value: fn(&ServerStatus) -> u64) -> u64 {
    service.servers.iter().map(value).sum()
}

fn sum_all(service: &ServiceStatus, value: fn(&ServerStatus) -> u64) -> u64 {
    all_servers(service).map(value).sum()
}

/// With the one of the fallback, which is no configured server.
fn all_servers(service: &ServiceStatus) -> impl Iterator<Item = &ServerStatus> {
    service.servers.iter().chain(&service.fallback_server)
}

/// The metrics of one scrape.
struct Page(Registry);

impl Page {
    fn services(&self, services: &[ServiceStatus]) -> anyhow::Result<()> {
        const LABELS: [&str; 1] = ["service"];
        let rows = |value: fn(&ServiceStatus) -> u64| {
            services.iter().map(move |service| (vec![&*service.name], value(service)))
        };
        for (name, help, value) in SERVICE_COUNTERS {
            self.counter(name, help, &LABELS, rows(value))?;
        }
        for (name, help, value) in SERVICE_GAUGES {
            self.gauge(name, help, &LABELS, rows(value))?;
        }
        Ok(())
    }

    fn servers(&self, services: &[ServiceStatus]) -> anyhow::Result<()> {
        const LABELS: [&str; 2] = ["service", "server"];
        let rows = |value: fn(&ServerStatus) -> u64| {
            services.iter().flat_map(move |service| {
                let servers = all_servers(service);
                servers.map(move |server| (vec![&*service.name, &*server.name], value(server)))
            })
        };
        for (name, help, value) in SERVER_COUNTERS {
            self.counter(name, help, &LABELS, rows(value))?;
        }
        for (name, help, value) in SERVER_GAUGES {
            self.gauge(name, help, &LABELS, rows(value))?;
        }
        self.check_latencies(services)
    }

    /// Seconds as Prometheus wants them, of whole microseconds.
    fn check_latencies(&self, services: &[ServiceStatus]) -> anyhow::Result<()> {
        let opts =
            Opts::new("lb_server_check_latency_seconds", "How long the last good probe of the check took");
        let family = GaugeVec::new(opts, &["service", "server", "check", "type"])?;
        for service in services {
            for server in &service.servers {
                for (place, check) in (1..).zip(&server.checks) {
                    if let Some(latency) = check.latencies_us.first() {
                        let labels = [&*service.name, &*server.name, &*u32::to_string(&place), &*check.check];
                        family.get_metric_with_label_values(&labels)?.set(*latency as f64 / 1e6);
                    }
                }
            }
        }
        Ok(self.0.register(Box::new(family))?)
    }

    fn cluster(&self, cluster: &ClusterStatus) -> anyhow::Result<()> {
        for (name, help, value) in GROUP_GAUGES {
            self.gauge(
                name,
                help,
                &["group"],
                cluster.groups.iter().map(|group| (vec![&*group.name], value(group))),
            )?;
        }
        for (name, help, value) in NODE_GAUGES {
            self.gauge(
                name,
                help,
                &["node"],
                cluster.nodes.iter().map(|node| (vec![&*node.name], value(node))),
            )?;
        }
        let paths = |value: fn(&PathStatus) -> u64| {
            cluster.paths.iter().map(move |path| (vec![&*path.name], value(path)))
        };
        for (name, help, value) in PATH_COUNTERS {
            self.counter(name, help, &["path"], paths(value))?;
        }
        for (name, help, value) in PATH_GAUGES {
            self.gauge(name, help, &["path"], paths(value))?;
        }
        let dropped = cluster.paths.iter().flat_map(|path| {
            path.dropped.iter().map(|count| (vec![&*path.name, &*count.reason], count.count))
        });
        self.counter(
            "lb_heartbeat_dropped_total",
            "Messages dropped, by path and reason",
            &["path", "reason"],
            dropped,
        )?;
        cluster.sync.as_ref().map_or(Ok(()), |sync| self.sync(sync))
    }

    fn sync(&self, sync: &SyncStatus) -> anyhow::Result<()> {
        fn rows<T>(sync: &SyncStatus, value: fn(&SyncPeer) -> T) -> impl Iterator<Item = (Vec<&str>, T)> {
            sync.peers.iter().map(move |peer| (vec![&*peer.node], value(peer)))
        }
        for (name, help, value) in SYNC_GAUGES {
            self.gauge(name, help, &["node"], rows(sync, value))?;
        }
        for (name, help, value) in SYNC_RATIOS {
            let family = GaugeVec::new(Opts::new(name, help), &["node"])?;
            for (values, value) in rows(sync, value) {
                family.get_metric_with_label_values(&values)?.set(value);
            }
            self.0.register(Box::new(family))?;
        }
        for (name, help, value) in SYNC_COUNTERS {
            self.counter(name, help, &["node"], rows(sync, value))?;
        }
        self.reasons(
            "lb_sync_dropped_total",
            "What came of other nodes about connections and was not used, by reason",
            &sync.dropped,
        )?;
        let busy = Counter::with_opts(Opts::new(
            "lb_sync_cpu_seconds_total",
            "Processor time of the thread that tells and hears of connections",
        ))?;
        busy.inc_by(sync.busy_s);
        Ok(self.0.register(Box::new(busy))?)
    }

    /// Every kind is there, so that an alert can be written on one that was never seen.
    fn findings(&self, findings: &[FindingStatus]) -> anyhow::Result<()> {
        let rows = Kind::ALL.iter().map(|kind| {
            let count = findings.iter().filter(|finding| finding.finding == kind.label()).count();
            (vec![kind.label()], count as u64)
        });
        self.gauge(
            "lb_finding",
            "What is wrong around the director: findings that last, by kind",
            &["finding"],
            rows,
        )
    }

    fn reasons(&self, name: &str, help: &str, counts: &[Count]) -> anyhow::Result<()> {
        self.counter(name, help, &["reason"], counts.iter().map(|count| (vec![&*count.reason], count.count)))
    }

    /// Rows with the same labels are added up: a server that drains may have a successor of its
    /// name.
    fn counter<'a>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        rows: impl IntoIterator<Item = (Vec<&'a str>, u64)>,
    ) -> anyhow::Result<()> {
        let family = IntCounterVec::new(Opts::new(name, help), labels)?;
        for (values, value) in rows {
            family.get_metric_with_label_values(&values)?.inc_by(value);
        }
        Ok(self.0.register(Box::new(family))?)
    }

    /// As [`Self::counter`].
    fn gauge<'a>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        rows: impl IntoIterator<Item = (Vec<&'a str>, u64)>,
    ) -> anyhow::Result<()> {
        let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
        for (values, value) in rows {
            family.get_metric_with_label_values(&values)?.add(i64::try_from(value).unwrap_or(i64::MAX));
        }
        Ok(self.0.register(Box::new(family))?)
    }
}

#[cfg(test)]
mod tests;

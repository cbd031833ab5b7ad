//! Prometheus metrics, made anew from a snapshot for every scrape.
//!
//! The numbers live in the data plane; a registry that outlives the scrape would be a second copy
//! of them, with the labels of servers that are long gone.
//!
//! - [`page`]: families of series, as text
//! - [`ipvs`]: connections and servers by the names of Prometheus' node exporter

mod ipvs;
mod page;

use lb_api::events::Level;
use lb_api::findings::Kind;
use lb_api::status::{
    ClusterStatus, Count, FindingStatus, GroupStatus, NodeStatus, PathStatus, ReceiverStatus, ServerStatus,
    ServiceStatus, Status, SyncPeer, SyncStatus, Transitions,
};
use lb_model::Health;
use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;

use self::page::{COUNTER, GAUGE, Labels, Page, Series};

/// The content type of [`encode`]'s text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Name, help and value of a metric of `T`.
type Metric<T, V = u64> = (&'static str, &'static str, fn(&T) -> V);

const SERVER_COUNTERS: [Metric<ServerStatus>; 3] = [
    ("lb_server_connections_total", "Connections given to the server", |s| s.connections),
    ("lb_server_packets_total", "Packets forwarded to the server", |s| s.packets),
    ("lb_server_bytes_total", "Bytes forwarded to the server, from the Ethernet header on", |s| s.bytes),
];

const SERVER_GAUGES: [Metric<ServerStatus>; 8] = [
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
        "lb_server_warning",
        "1 while a check warns of something, such as a certificate that expires soon",
        |s| s.warning.is_some().into(),
    ),
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

const COUNTERS: [Metric<Status>; 14] = [
    ("lb_table_inserted_total", "Entries made in the connection table", |s| s.table.inserted),
    ("lb_table_expired_total", "Entries whose idle time ran out", |s| s.table.expired),
    ("lb_table_evicted_total", "Entries given up for a new connection", |s| s.table.evicted),
    ("lb_table_contended_total", "Slots that another CPU claimed first", |s| s.table.contended),
    (
        "lb_quic_moved_packets_total",
        "QUIC packets sent by their connection ID after an address change",
        |s| s.quic_moved,
    ),
    (
        "lb_bindings_lost_total",
        "Clients of open connections that a full map of bindings had forgotten",
        |s| s.bindings_lost,
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

const GAUGES: [Metric<Status>; 9] = [
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
    (
        "lb_config_last_reload_success_timestamp_seconds",
        "Unix time at which the running configuration was read",
        |s| s.config_since,
    ),
];

const GROUP_GAUGES: [Metric<GroupStatus>; 6] = [
    ("lb_cluster_group_active", "1 while this node is active for the group", |g| (g.role == "active").into()),
    ("lb_cluster_group_ready", "1 while this node has the group or could take it", |g| {
        (g.role != "fault").into()
    }),
    ("lb_cluster_group_has_successor", "1 while another node is ready to take the group", |g| {
        g.has_successor.into()
    }),
    (
        "lb_cluster_group_anycast",
        "1 for a group of `kind: anycast`, which several nodes serve at once",
        |g| (g.kind == "anycast").into(),
    ),
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

const SYNC_RATIOS: [Metric<SyncPeer, f64>; 4] = [
    ("lb_sync_lag_seconds", "From when a connection was told until the node said that it has it", |p| {
        p.lag_ms / 1000.0
    }),
    (
        "lb_sync_agreement_ratio",
        "Share of connections that both nodes know, when they compared last; NaN: the node balances nothing",
        |p| p.agreement.unwrap_or(f64::NAN),
    ),
    (
        "lb_sync_learned_ratio",
        "Share that has come of what the node tells this one again; NaN: nothing is told again",
        |p| p.learned.unwrap_or(f64::NAN),
    ),
    (
        "lb_sync_told_again_ratio",
        "Share of the table that was gone through for what the node lacks; NaN: it lacks nothing",
        |p| p.told_again.unwrap_or(f64::NAN),
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

const RECEIVER_COUNTERS: [Metric<ReceiverStatus>; 2] = [
    ("lb_alerts_held_total", "Messages that waited because of the receiver's limit", |r| r.held),
    ("lb_alerts_dropped_total", "Events that the receiver was not told of: too many, or too old", |r| {
        r.dropped
    }),
];

const RECEIVER_GAUGES: [Metric<ReceiverStatus>; 1] =
    [("lb_alerts_waiting_events", "Events that wait for the receiver", |r| r.waiting)];

/// The value of a further label, and the count of `T` that belongs to it.
type Labelled<T> = (&'static str, fn(&T) -> u64);

/// What may become of a message, by the label `result`.
const RESULTS: [Labelled<ReceiverStatus>; 2] =
    [("delivered", |receiver| receiver.delivered), ("failed", |receiver| receiver.failed)];

/// States in which a server may be.
const STATES: [Health; 6] =
    [Health::Unknown, Health::Up, Health::Down, Health::Unchecked, Health::Maintenance, Health::Draining];

/// What a server's state has become, by the label `to`.
const TRANSITIONS: [Labelled<Transitions>; 3] =
    [("up", |count| count.up), ("down", |count| count.down), ("maintenance", |count| count.maintenance)];

/// The snapshot in Prometheus' text format; with `ipvs_names` also by the names of [`ipvs`].
///
/// # Errors
/// Only if the crate cannot encode what it has collected of the process.
pub(crate) fn encode(status: &Status, ipvs_names: bool) -> anyhow::Result<String> {
    let mut page = Page::default();
    let version = [([(&*status.version).into()], ())];
    Series::new(["version"], version).info(&mut page, "lb_build_info", "Version of the running lb");
    let whole = Series::new([], [([], status)]);
    counters(&mut page, &whole, &COUNTERS);
    gauges(&mut page, &whole, &GAUGES);
    findings(&mut page, &status.findings);
    alerts(&mut page, &status.alerts);
    reasons(&mut page, "lb_dropped_packets_total", "Frames dropped, by reason", &status.drops);
    reasons(
        &mut page,
        "lb_passed_packets_total",
        "Frames for a VIP handed to the host's own stack",
        &status.passes,
    );
    reasons(
        &mut page,
        "lb_answered_packets_total",
        "Frames answered in a service's name, by reason",
        &status.answers,
    );
    if let Some(directors) = &status.cluster {
        cluster(&mut page, directors, status.uptime_s);
    }
    services(&mut page, &status.services);
    servers(&mut page, &status.services);
    if ipvs_names {
        ipvs::write(&mut page, &status.services);
    }
    page.families(&ProcessCollector::for_self().collect())?;
    Ok(page.into_text())
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

fn counters<T>(page: &mut Page, series: &Series<&T>, metrics: &[Metric<T>]) {
    for (name, help, value) in metrics {
        series.counter(page, name, help, |item| value(item) as f64);
    }
}

fn gauges<T>(page: &mut Page, series: &Series<&T>, metrics: &[Metric<T>]) {
    for (name, help, value) in metrics {
        series.gauge(page, name, help, |item| value(item) as f64);
    }
}

fn services(page: &mut Page, services: &[ServiceStatus]) {
    let rows = services.iter().map(|service| ([(&*service.name).into()], service));
    let series = Series::new(["service"], rows);
    counters(page, &series, &SERVICE_COUNTERS);
    gauges(page, &series, &SERVICE_GAUGES);
}

/// Each server with its service.
fn each_server(services: &[ServiceStatus]) -> impl Iterator<Item = (&ServiceStatus, &ServerStatus)> {
    services.iter().flat_map(|service| all_servers(service).map(move |server| (service, server)))
}

fn servers(page: &mut Page, services: &[ServiceStatus]) {
    let rows = each_server(services)
        .map(|(service, server)| ([(&*service.name).into(), (&*server.name).into()], server));
    let series = Series::new(["service", "server"], rows);
    counters(page, &series, &SERVER_COUNTERS);
    gauges(page, &series, &SERVER_GAUGES);

    let help = "1 for the state that the server is in, 0 for all others";
    let states = STATES.map(|state| (state.word(), state));
    series.by_label(page, ("lb_server_state", help, GAUGE), ("state", &states), |server, state| {
        u8::from(server.health == *state).into()
    });
    let help = "How often the server's state has changed, by what it became; the first verdict is no change";
    let transitions = ("lb_server_transitions_total", help, COUNTER);
    series
        .by_label(page, transitions, ("to", &TRANSITIONS), |server, count| count(&server.transitions) as f64);

    let infos = each_server(services).map(|(service, server)| {
        let labels: Labels<'_, 6> = [
            (&*service.name).into(),
            (&*server.name).into(),
            server.address.to_string().into(),
            server.port.to_string().into(),
            server.mac.as_deref().unwrap_or_default().into(),
            server.method.name().into(),
        ];
        (labels, ())
    });
    let names = ["service", "server", "address", "port", "mac", "method"];
    Series::new(names, infos).info(page, "lb_server_info", "Where the server is, and how it is reached");
    checks(page, services);
}

fn checks(page: &mut Page, services: &[ServiceStatus]) {
    const LABELS: [&str; 4] = ["service", "server", "check", "type"];
    let each = || {
        let servers =
            services.iter().flat_map(|service| service.servers.iter().map(move |server| (service, server)));
        servers.flat_map(|(service, server)| {
            (1..).zip(&server.checks).map(move |(place, check)| {
                let labels: Labels<'_, 4> = [
                    (&*service.name).into(),
                    (&*server.name).into(),
                    u32::to_string(&place).into(),
                    (&*check.check).into(),
                ];
                (labels, check)
            })
        })
    };
    let help = "Probes of the check that have failed";
    let failures = Series::new(LABELS, each());
    failures.counter(page, "lb_check_failures_total", help, |check| check.failures as f64);
    // Seconds as Prometheus wants them, of whole microseconds.
    let latencies = each().filter_map(|(labels, check)| Some((labels, *check.latencies_us.first()?)));
    let help = "How long the last good probe of the check took";
    let latencies = Series::new(LABELS, latencies);
    latencies.gauge(page, "lb_server_check_latency_seconds", help, |latency| *latency as f64 / 1e6);
}

/// `uptime_s`: seconds since this node's start.
fn cluster(page: &mut Page, cluster: &ClusterStatus, uptime_s: u64) {
    let names = [([(&*cluster.name).into(), (&*cluster.node).into()], ())];
    let help = "Name of the cluster, and of this node";
    Series::new(["cluster", "node"], names).info(page, "lb_cluster_info", help);

    let groups = cluster.groups.iter().map(|group| ([(&*group.name).into()], group));
    gauges(page, &Series::new(["group"], groups), &GROUP_GAUGES);
    let takeovers = cluster.groups.iter().flat_map(|group| {
        let counts = group.takeovers.iter();
        counts.map(|count| ([(&*group.name).into(), (&*count.reason).into()], count.count))
    });
    let help = "How often this node has taken the group, by cause";
    let takeovers = Series::new(["group", "cause"], takeovers);
    takeovers.counter(page, "lb_cluster_takeovers_total", help, |count| *count as f64);

    let nodes = cluster.nodes.iter().map(|node| ([(&*node.name).into()], node));
    gauges(page, &Series::new(["node"], nodes), &NODE_GAUGES);
    paths(page, &cluster.paths);
    ages(page, cluster, uptime_s);
    if let Some(status) = &cluster.sync {
        sync(page, status);
    }
}

fn paths(page: &mut Page, paths: &[PathStatus]) {
    let rows = paths.iter().map(|path| ([(&*path.name).into()], path));
    let series = Series::new(["path"], rows);
    counters(page, &series, &PATH_COUNTERS);
    gauges(page, &series, &PATH_GAUGES);

    let dropped = paths.iter().flat_map(|path| {
        let counts = path.dropped.iter();
        counts.map(|count| ([(&*path.name).into(), (&*count.reason).into()], count.count))
    });
    let help = "Messages dropped, by path and reason";
    let dropped = Series::new(["path", "reason"], dropped);
    dropped.counter(page, "lb_heartbeat_dropped_total", help, |count| *count as f64);
}

/// Each other node is to be heard on each path.
fn ages(page: &mut Page, cluster: &ClusterStatus, uptime_s: u64) {
    let ages = cluster.paths.iter().flat_map(|path| {
        let others = cluster.nodes.iter().filter(|node| node.name != cluster.node);
        others.map(move |node| {
            let heard = path.heard.iter().find(|heard| heard.node == node.name);
            let age = heard.map_or(uptime_s as f64, |heard| heard.ago_ms as f64 / 1e3);
            ([(&*path.name).into(), (&*node.name).into()], age)
        })
    });
    let help = "Time since the node's last heartbeat on the path; since the start where none has come";
    Series::new(["path", "node"], ages).gauge(page, "lb_heartbeat_age_seconds", help, |age| *age);
}

fn sync(page: &mut Page, sync: &SyncStatus) {
    let peers = sync.peers.iter().map(|peer| ([(&*peer.node).into()], peer));
    let series = Series::new(["node"], peers);
    gauges(page, &series, &SYNC_GAUGES);
    for (name, help, value) in SYNC_RATIOS {
        series.gauge(page, name, help, |peer| value(peer));
    }
    counters(page, &series, &SYNC_COUNTERS);
    let help = "What came of other nodes about connections and was not used, by reason";
    reasons(page, "lb_sync_dropped_total", help, &sync.dropped);
    let help = "Processor time of the thread that tells and hears of connections";
    Series::new([], [([], sync.busy_s)]).counter(page, "lb_sync_cpu_seconds_total", help, |busy| *busy);
}

/// Every kind is there, so that an alert can be written on one that was never seen.
fn findings(page: &mut Page, findings: &[FindingStatus]) {
    let rows = Kind::ALL.iter().map(|kind| {
        let count = findings.iter().filter(|finding| finding.finding == kind.label()).count();
        ([kind.label().into(), level(kind.level()).into()], count as u64)
    });
    let help = "What is wrong around the director: findings that last, by kind";
    Series::new(["finding", "level"], rows).gauge(page, "lb_finding", help, |count| *count as f64);
}

fn alerts(page: &mut Page, receivers: &[ReceiverStatus]) {
    let rows = receivers.iter().map(|status| ([(&*status.receiver).into()], status));
    let series = Series::new(["receiver"], rows);
    let help = "Messages to the receiver of alerts: those that it took, and attempts that failed";
    let sent = ("lb_alerts_sent_total", help, COUNTER);
    series.by_label(page, sent, ("result", &RESULTS), |status, count| count(status) as f64);
    counters(page, &series, &RECEIVER_COUNTERS);
    gauges(page, &series, &RECEIVER_GAUGES);
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

fn reasons(page: &mut Page, name: &str, help: &str, counts: &[Count]) {
    let rows = counts.iter().map(|count| ([(&*count.reason).into()], count.count));
    Series::new(["reason"], rows).counter(page, name, help, |count| *count as f64);
}

#[cfg(test)]
mod tests;

//! Prometheus metrics, made anew from a snapshot for every scrape.
//!
//! The numbers live in the data plane; a registry that outlives the scrape would be a second copy of them, with the
//! labels of servers that are long gone.

use anyhow::Context;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use super::view::{
    ClusterStatus, Count, GroupStatus, Health, NodeStatus, PathStatus, ServerStatus, ServiceStatus, Status,
};

/// The content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Name, help and value of a metric of `T`.
type Metric<T> = (&'static str, &'static str, fn(&T) -> u64);

const SERVER_COUNTERS: [Metric<ServerStatus>; 3] = [
    ("lb_server_connections_total", "Connections given to the server", |s| s.connections),
    ("lb_server_packets_total", "Packets forwarded to the server", |s| s.packets),
    ("lb_server_bytes_total", "Bytes forwarded to the server, from the Ethernet header on", |s| s.bytes),
];

const SERVER_GAUGES: [Metric<ServerStatus>; 4] = [
    ("lb_server_active_connections", "Connections in state ESTABLISHED", |s| s.active.into()),
    ("lb_server_inactive_connections", "Connections in any other state", |s| s.inactive.into()),
    ("lb_server_up", "1 if the server's check says that it is up, or if it has none", |s| is_up(s).into()),
    ("lb_server_weight", "Configured weight; 0 while the server drains", |s| {
        if is_draining(s) { 0 } else { s.weight.into() }
    }),
];

const SERVICE_COUNTERS: [Metric<ServiceStatus>; 3] = [
    ("lb_service_connections_total", "Connections given to the service's servers", |s| {
        s.former.connections + sum(s, |server| server.connections)
    }),
    ("lb_service_packets_total", "Packets forwarded to the service's servers", |s| {
        s.former.packets + sum(s, |server| server.packets)
    }),
    ("lb_service_bytes_total", "Bytes forwarded, from the Ethernet header on", |s| {
        s.former.bytes + sum(s, |server| server.bytes)
    }),
];

const SERVICE_GAUGES: [Metric<ServiceStatus>; 5] = [
    ("lb_service_active_connections", "Connections in state ESTABLISHED", |s| {
        sum(s, |server| server.active.into())
    }),
    ("lb_service_inactive_connections", "Connections in any other state", |s| {
        sum(s, |server| server.inactive.into())
    }),
    ("lb_service_servers", "Configured servers", |s| sum(s, |server| (!is_draining(server)).into())),
    ("lb_service_servers_up", "Configured servers that are up", |s| sum(s, |server| is_up(server).into())),
    ("lb_service_on_fallback", "1 while no server is usable", |s| s.on_fallback.into()),
];

const COUNTERS: [Metric<Status>; 5] = [
    ("lb_table_inserted_total", "Entries made in the connection table", |s| s.table.inserted),
    ("lb_table_expired_total", "Entries whose idle time ran out", |s| s.table.expired),
    ("lb_table_evicted_total", "Entries given up for a new connection", |s| s.table.evicted),
    ("lb_relayed_packets_total", "Frames sent to the other director of a hand-over", |s| s.relayed),
    ("lb_table_full_total", "New connections that found no slot", |s| s.table.full),
];

const GAUGES: [Metric<Status>; 5] = [
    ("lb_table_slots", "Slots of the connection table", |s| s.table.capacity),
    ("lb_table_used_slots", "Slots in use at the last sweep", |s| s.table.used),
    ("lb_table_memory_bytes", "Memory of the connection table", |s| s.table.memory_bytes),
    ("lb_uptime_seconds", "Time since the controller started", |s| s.uptime_s),
    ("lb_config_reload_ok", "1 while the running state is the configuration file's", |s| {
        s.config_error.is_none().into()
    }),
];

const GROUP_GAUGES: [Metric<GroupStatus>; 4] = [
    ("lb_cluster_group_active", "1 while this node is active for the group", |g| (g.role == "active").into()),
    ("lb_cluster_group_ready", "1 while this node has the group or could take it", |g| {
        (g.role != "fault").into()
    }),
    ("lb_cluster_group_has_successor", "1 while another node is ready to take the group", |g| {
        g.has_successor.into()
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

/// The snapshot in Prometheus' text format.
///
/// # Errors
/// Only if two metrics had the same name, or one an impossible one.
pub fn encode(status: &Status) -> anyhow::Result<String> {
    let page = Page(Registry::new());
    page.gauge("lb_build_info", "Version of the running lb", &["version"], [(vec![&*status.version], 1)])?;
    for (name, help, value) in COUNTERS {
        page.counter(name, help, &[], [(vec![], value(status))])?;
    }
    for (name, help, value) in GAUGES {
        page.gauge(name, help, &[], [(vec![], value(status))])?;
    }
    page.reasons("lb_dropped_packets_total", "Frames dropped, by reason", &status.drops)?;
    page.reasons(
        "lb_passed_packets_total",
        "Frames for a VIP handed to the host's own stack",
        &status.passes,
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
                let servers = service.servers.iter();
                servers.map(move |server| (vec![&*service.name, &*server.name], value(server)))
            })
        };
        for (name, help, value) in SERVER_COUNTERS {
            self.counter(name, help, &LABELS, rows(value))?;
        }
        for (name, help, value) in SERVER_GAUGES {
            self.gauge(name, help, &LABELS, rows(value))?;
        }
        Ok(())
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
        )
    }

    fn reasons(&self, name: &str, help: &str, counts: &[Count]) -> anyhow::Result<()> {
        self.counter(name, help, &["reason"], counts.iter().map(|count| (vec![&*count.reason], count.count)))
    }

    /// Rows with the same labels are added up: a server that drains may have a successor of its name.
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
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::observe::samples;
    use crate::observe::view::Totals;

    /// Every sample of the page, by name and labels.
    fn samples_of(page: &str) -> BTreeMap<String, f64> {
        let mut samples = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect(line);
            let value = value.parse().expect(line);
            assert_eq!(samples.insert(name.to_owned(), value), None, "twice: {line}");
        }
        samples
    }

    fn encoded(status: &Status) -> BTreeMap<String, f64> {
        samples_of(&encode(status).expect("metrics"))
    }

    #[test]
    fn says_what_the_snapshot_says() {
        let mut status = samples::cluster();
        status.services[0].servers[1].health = Health::Down;
        status.services[0].former = Totals { connections: 5, packets: 50, bytes: 500 };
        let wanted: BTreeMap<String, f64> = [
            (r#"lb_build_info{version="0.1.0"}"#, 1.0),
            ("lb_config_reload_ok", 1.0),
            (r#"lb_dropped_packets_total{reason="malformed"}"#, 3.0),
            (r#"lb_dropped_packets_total{reason="no_server"}"#, 0.0),
            (r#"lb_passed_packets_total{reason="not_a_service"}"#, 12.0),
            ("lb_relayed_packets_total", 0.0),
            (r#"lb_server_active_connections{server="www1",service="web"}"#, 3.0),
            (r#"lb_server_active_connections{server="www2",service="web"}"#, 3.0),
            (r#"lb_server_bytes_total{server="www1",service="web"}"#, 64000.0),
            (r#"lb_server_bytes_total{server="www2",service="web"}"#, 64000.0),
            (r#"lb_server_connections_total{server="www1",service="web"}"#, 100.0),
            (r#"lb_server_connections_total{server="www2",service="web"}"#, 100.0),
            (r#"lb_server_inactive_connections{server="www1",service="web"}"#, 12.0),
            (r#"lb_server_inactive_connections{server="www2",service="web"}"#, 12.0),
            (r#"lb_server_packets_total{server="www1",service="web"}"#, 1000.0),
            (r#"lb_server_packets_total{server="www2",service="web"}"#, 1000.0),
            (r#"lb_server_up{server="www1",service="web"}"#, 1.0),
            (r#"lb_server_up{server="www2",service="web"}"#, 0.0),
            (r#"lb_server_weight{server="www1",service="web"}"#, 1.0),
            (r#"lb_server_weight{server="www2",service="web"}"#, 1.0),
            (r#"lb_service_active_connections{service="web"}"#, 6.0),
            (r#"lb_service_bytes_total{service="web"}"#, 128_500.0),
            (r#"lb_service_connections_total{service="web"}"#, 205.0),
            (r#"lb_service_inactive_connections{service="web"}"#, 24.0),
            (r#"lb_service_on_fallback{service="web"}"#, 0.0),
            (r#"lb_service_packets_total{service="web"}"#, 2050.0),
            (r#"lb_service_servers_up{service="web"}"#, 1.0),
            (r#"lb_service_servers{service="web"}"#, 2.0),
            ("lb_table_evicted_total", 7.0),
            ("lb_table_expired_total", 3000.0),
            ("lb_table_full_total", 2.0),
            ("lb_table_inserted_total", 5000.0),
            ("lb_table_memory_bytes", 33_554_432.0),
            ("lb_table_slots", 2_097_152.0),
            ("lb_table_used_slots", 1024.0),
            ("lb_uptime_seconds", 192.0),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        assert_eq!(encoded(&status), wanted);
    }

    #[test]
    fn says_what_the_cluster_says() {
        let status = Status { cluster: Some(samples::directors()), ..samples::cluster() };
        let samples = encoded(&status);
        let path = "serial /dev/ttyS0 19200 baud";
        for (name, value) in [
            (r#"lb_cluster_group_active{group="web"}"#, 1.0),
            (r#"lb_cluster_group_at_home{group="web"}"#, 1.0),
            (r#"lb_cluster_group_has_successor{group="web"}"#, 0.0),
            (r#"lb_cluster_group_ready{group="web"}"#, 1.0),
            (r#"lb_cluster_node_up{node="ha1"}"#, 1.0),
            (r#"lb_cluster_node_up{node="ha2"}"#, 0.0),
            (r#"lb_cluster_node_servers{node="ha1"}"#, 2.0),
            (r#"lb_cluster_node_config_agrees{node="ha2"}"#, 1.0),
            (&format!("lb_heartbeat_sent_total{{path=\"{path}\"}}"), 3000.0),
            (&format!("lb_heartbeat_send_errors_total{{path=\"{path}\"}}"), 1.0),
            (&format!("lb_heartbeat_received_total{{path=\"{path}\"}}"), 2900.0),
            (&format!("lb_heartbeat_path_open{{path=\"{path}\"}}"), 1.0),
            (&format!("lb_heartbeat_dropped_total{{path=\"{path}\",reason=\"bad_mac\"}}"), 4.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn each_metric_has_help_and_type() {
        let status = Status { cluster: Some(samples::directors()), ..samples::cluster() };
        let page = encode(&status).expect("metrics");
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().expect(line);
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            assert!(page.contains(&format!("# HELP {name} ")), "{name}");
            assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut status = samples::cluster();
        status.services[0].name = "a \"b\" \\ c\nd".into();
        let page = encode(&status).expect("metrics");
        assert!(page.contains(r#"lb_service_servers{service="a \"b\" \\ c\nd"} 2"#), "{page}");
    }

    #[test]
    fn a_draining_server_and_its_successor_share_a_name() {
        let mut status = samples::cluster();
        let draining = ServerStatus { health: Health::Draining, weight: 9, ..samples::server(1, Health::Up) };
        status.services[0].servers.push(draining);
        let samples = encoded(&status);
        for (name, value) in [
            (r#"lb_server_connections_total{server="www1",service="web"}"#, 200.0),
            (r#"lb_server_up{server="www1",service="web"}"#, 1.0),
            (r#"lb_server_weight{server="www1",service="web"}"#, 1.0),
            (r#"lb_service_servers{service="web"}"#, 2.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn fallback_and_refused_reload() {
        let mut status = samples::cluster();
        status.services[0].on_fallback = true;
        status.config_error = Some("line 3: …".into());
        let samples = encoded(&status);
        assert_eq!(samples[r#"lb_service_on_fallback{service="web"}"#], 1.0);
        assert_eq!(samples["lb_config_reload_ok"], 0.0);
    }

    #[test]
    fn nothing_configured() {
        let mut status = samples::cluster();
        status.services.clear();
        assert!(!encoded(&status).keys().any(|name| name.starts_with("lb_service")));
    }
}

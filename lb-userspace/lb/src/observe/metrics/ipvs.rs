//! Connections and servers by the names that Prometheus' node exporter gives those of IPVS, with
//! its labels: dashboards and alerts that were made for it live on.
//!
//! What servers send past the director is 0, as IPVS counts it in direct routing. A service of
//! several ports stands under its first one.

use lb_api::status::{ServerStatus, ServiceStatus};

use super::page::{Labels, Page, Series};
use super::{Metric, all_servers, each_server, gauges};

/// Bytes of a frame that IPVS does not count.
const ETHERNET: u64 = 14;

const LABELS: [&str; 6] =
    ["local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark"];

/// The node exporter calls a real server a backend.
const REAL_SERVER_GAUGES: [Metric<ServerStatus>; 3] = [
    ("node_ipvs_backend_connections_active", "Connections of the real server in state ESTABLISHED", |s| {
        s.active.into()
    }),
    ("node_ipvs_backend_connections_inactive", "Connections of the real server in any other state", |s| {
        s.inactive.into()
    }),
    ("node_ipvs_backend_weight", "The weight that the real server has now", |s| s.effective_weight.into()),
];

pub(super) fn write(page: &mut Page, services: &[ServiceStatus]) {
    let mut all = [0; 3];
    for service in services {
        let departed = service.departed;
        let servers = all_servers(service).map(|server| (server.connections, server.packets, server.bytes));
        let departed = (departed.connections, departed.packets, departed.bytes);
        for (connections, packets, bytes) in servers.chain([departed]) {
            all[0] += connections;
            all[1] += packets;
            all[2] += bytes.saturating_sub(packets * ETHERNET);
        }
    }
    let [connections, packets, bytes] = all;
    for (name, help, value) in [
        ("node_ipvs_connections_total", "Connections given to servers", connections),
        ("node_ipvs_incoming_packets_total", "Packets forwarded to servers", packets),
        ("node_ipvs_outgoing_packets_total", "Always 0: what servers send is not counted", 0),
        ("node_ipvs_incoming_bytes_total", "Bytes forwarded to servers, from the IP header on", bytes),
        ("node_ipvs_outgoing_bytes_total", "Always 0: what servers send is not counted", 0),
    ] {
        Series::new([], [([], value)]).counter(page, name, help, |value| *value as f64);
    }
    let rows = each_server(services).map(|(service, server)| {
        let labels: Labels<'_, 6> = [
            service.vip.to_string().into(),
            service.port.to_string().into(),
            server.address.to_string().into(),
            server.port.to_string().into(),
            service.protocol.to_uppercase().into(),
            "".into(),
        ];
        (labels, server)
    });
    gauges(page, &Series::new(LABELS, rows), &REAL_SERVER_GAUGES);
}

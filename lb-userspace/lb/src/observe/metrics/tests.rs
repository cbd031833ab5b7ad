//! The page as Prometheus reads it.

use std::collections::BTreeMap;

use lb_api::status::{FragmentsStatus, StandingOrder};
use lb_model::Totals;

use super::*;
use crate::observe::samples;

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
    samples_of(&encode(status, false).expect("metrics"))
}

/// What the snapshot of [`says_what_the_snapshot_says`] becomes, besides the states of servers.
const WANTED: [(&str, f64); 74] = [
    (r#"lb_build_info{version="0.1.0"}"#, 1.0),
    ("lb_config_reload_ok", 1.0),
    ("lb_config_last_reload_success_timestamp_seconds", 1_700_000_000.0),
    (r#"lb_dropped_packets_total{reason="malformed"}"#, 3.0),
    (r#"lb_dropped_packets_total{reason="no_server"}"#, 0.0),
    (r#"lb_passed_packets_total{reason="not_a_service"}"#, 12.0),
    ("lb_fragments_held_total", 40.0),
    ("lb_fragments_passed_total", 4.0),
    ("lb_fragments_sent_total", 30.0),
    ("lb_partial_checksums_total", 22.0),
    ("lb_quic_moved_packets_total", 21.0),
    ("lb_bindings_lost_total", 24.0),
    ("lb_table_contended_total", 23.0),
    ("lb_relayed_packets_total", 0.0),
    (r#"lb_server_active_connections{server="www1",service="web"}"#, 3.0),
    (r#"lb_server_active_connections{server="www2",service="web"}"#, 3.0),
    (r#"lb_server_bytes_total{server="www1",service="web"}"#, 64000.0),
    (r#"lb_server_bytes_total{server="www2",service="web"}"#, 64000.0),
    (r#"lb_server_connections_total{server="www1",service="web"}"#, 100.0),
    (r#"lb_server_connections_total{server="www2",service="web"}"#, 100.0),
    (r#"lb_server_check_latency_seconds{check="1",server="www1",service="web",type="http"}"#, 0.000_412),
    (r#"lb_server_check_latency_seconds{check="1",server="www2",service="web",type="http"}"#, 0.000_412),
    (r#"lb_check_failures_total{check="1",server="www1",service="web",type="http"}"#, 4.0),
    (r#"lb_check_failures_total{check="1",server="www2",service="web",type="http"}"#, 4.0),
    (
        r#"lb_server_info{address="211.58.250.25",mac="02:00:d3:3a:fa:19",method="Route",port="80",server="www1",service="web"}"#,
        1.0,
    ),
    (
        r#"lb_server_info{address="211.58.250.27",mac="02:00:d3:3a:fa:1b",method="Route",port="80",server="www2",service="web"}"#,
        1.0,
    ),
    (r#"lb_server_transitions_total{server="www1",service="web",to="down"}"#, 2.0),
    (r#"lb_server_transitions_total{server="www1",service="web",to="maintenance"}"#, 0.0),
    (r#"lb_server_transitions_total{server="www1",service="web",to="up"}"#, 2.0),
    (r#"lb_server_transitions_total{server="www2",service="web",to="down"}"#, 2.0),
    (r#"lb_server_transitions_total{server="www2",service="web",to="maintenance"}"#, 0.0),
    (r#"lb_server_transitions_total{server="www2",service="web",to="up"}"#, 2.0),
    (r#"lb_server_warning{server="www1",service="web"}"#, 0.0),
    (r#"lb_server_warning{server="www2",service="web"}"#, 0.0),
    (r#"lb_server_effective_weight{server="www1",service="web"}"#, 1.0),
    (r#"lb_server_effective_weight{server="www2",service="web"}"#, 1.0),
    (r#"lb_server_maintenance{server="www1",service="web"}"#, 0.0),
    (r#"lb_server_drained_since_seconds{server="www1",service="web"}"#, 0.0),
    (r#"lb_server_drained_since_seconds{server="www2",service="web"}"#, 0.0),
    (r#"lb_server_maintenance{server="www2",service="web"}"#, 0.0),
    (r#"lb_server_inactive_connections{server="www1",service="web"}"#, 12.0),
    (r#"lb_server_inactive_connections{server="www2",service="web"}"#, 12.0),
    (r#"lb_server_packets_total{server="www1",service="web"}"#, 1000.0),
    (r#"lb_server_packets_total{server="www2",service="web"}"#, 1000.0),
    (r#"lb_server_up{server="www1",service="web"}"#, 1.0),
    (r#"lb_server_up{server="www2",service="web"}"#, 0.0),
    (r#"lb_server_weight{server="www1",service="web"}"#, 1.0),
    (r#"lb_server_weight{server="www2",service="web"}"#, 1.0),
    (r#"lb_service_active_connections{service="web"}"#, 6.0),
    (r#"lb_service_bound_clients{service="web"}"#, 0.0),
    (r#"lb_service_bytes_total{service="web"}"#, 128_500.0),
    (r#"lb_service_connections_total{service="web"}"#, 205.0),
    (r#"lb_service_fallback_ready{service="web"}"#, 1.0),
    (r#"lb_service_quorum{service="web"}"#, 1.0),
    (r#"lb_service_quorum_won{service="web"}"#, 1.0),
    (r#"lb_service_usable_weight{service="web"}"#, 2.0),
    (r#"lb_service_inactive_connections{service="web"}"#, 24.0),
    (r#"lb_service_on_fallback{service="web"}"#, 0.0),
    (r#"lb_service_packets_total{service="web"}"#, 2050.0),
    (r#"lb_service_servers_up{service="web"}"#, 1.0),
    (r#"lb_service_servers{service="web"}"#, 2.0),
    ("lb_table_evicted_total", 7.0),
    ("lb_table_expired_total", 3000.0),
    ("lb_check_probes_total", 380.0),
    ("lb_check_late_probes_total", 1.0),
    ("lb_checks", 2.0),
    ("lb_table_full_total", 2.0),
    ("lb_table_inserted_total", 5000.0),
    ("lb_table_memory_bytes", 33_554_432.0),
    ("lb_table_slots", 2_097_152.0),
    ("lb_table_used_slots", 1024.0),
    ("lb_table_ipv6_slots", 1_048_576.0),
    ("lb_table_ipv6_used_slots", 512.0),
    ("lb_uptime_seconds", 192.0),
];

#[test]
fn says_what_the_snapshot_says() {
    let mut status = samples::cluster();
    status.services[0].servers[1].health = Health::Down;
    (status.quic_moved, status.partial_checksums, status.table.contended) = (21, 22, 23);
    status.bindings_lost = 24;
    status.fragments = FragmentsStatus { held: 40, sent: 30, passed: 4, given_up: 6 };
    status.services[0].departed = Totals { connections: 5, packets: 50, bytes: 500 };
    let mut wanted: BTreeMap<String, f64> = WANTED.map(|(name, value)| (name.to_owned(), value)).into();
    let states = ["unknown", "up", "down", "unchecked", "maintenance", "draining"];
    let state = |server: &str, state: &str, is: &str| {
        let name = format!("lb_server_state{{server=\"{server}\",service=\"web\",state=\"{state}\"}}");
        (name, if state == is { 1.0 } else { 0.0 })
    };
    for (server, is) in [("www1", "up"), ("www2", "down")] {
        wanted.extend(states.map(|one| state(server, one, is)));
    }
    let mut samples = encoded(&status);
    samples.retain(|name, _| !name.starts_with("lb_finding{") && !name.starts_with("process_"));
    assert_eq!(samples, wanted);
}

#[test]
fn every_kind_of_finding_is_there_and_counts_those_that_last() {
    let finding = samples::finding("vip_claimed", "10.77.0.6");
    let other = samples::finding("vip_claimed", "10.77.0.7");
    let samples = encoded(&Status { findings: vec![finding, other], ..samples::cluster() });
    for kind in Kind::ALL {
        let name = format!("lb_finding{{finding=\"{}\",level=\"{}\"}}", kind.label(), level(kind.level()));
        let wanted = if *kind == Kind::VipClaimed { 2.0 } else { 0.0 };
        assert_eq!(samples.get(&name), Some(&wanted), "{name}");
    }
}

#[test]
fn receivers_of_alerts_are_counted() {
    let receiver = ReceiverStatus {
        receiver: "mail".into(),
        via: "email".into(),
        delivered: 7,
        failed: 2,
        held: 1,
        waiting: 4,
        dropped: 3,
        trouble: None,
    };
    let samples = encoded(&Status { alerts: vec![receiver], ..samples::cluster() });
    for (name, value) in [
        (r#"lb_alerts_sent_total{receiver="mail",result="delivered"}"#, 7.0),
        (r#"lb_alerts_sent_total{receiver="mail",result="failed"}"#, 2.0),
        (r#"lb_alerts_held_total{receiver="mail"}"#, 1.0),
        (r#"lb_alerts_dropped_total{receiver="mail"}"#, 3.0),
        (r#"lb_alerts_waiting_events{receiver="mail"}"#, 4.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
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
        (r#"lb_cluster_group_serving_nodes{group="web"}"#, 1.0),
        (r#"lb_cluster_group_anycast{group="web"}"#, 0.0),
        (r#"lb_cluster_node_up{node="ha1"}"#, 1.0),
        (r#"lb_cluster_node_up{node="ha2"}"#, 0.0),
        (r#"lb_cluster_node_servers{node="ha1"}"#, 2.0),
        (r#"lb_cluster_node_config_agrees{node="ha2"}"#, 1.0),
        (&format!("lb_heartbeat_sent_total{{path=\"{path}\"}}"), 3000.0),
        (&format!("lb_heartbeat_send_errors_total{{path=\"{path}\"}}"), 1.0),
        (&format!("lb_heartbeat_received_total{{path=\"{path}\"}}"), 2900.0),
        (&format!("lb_heartbeat_path_open{{path=\"{path}\"}}"), 1.0),
        (&format!("lb_heartbeat_age_seconds{{node=\"ha2\",path=\"{path}\"}}"), 9.12),
        (r#"lb_cluster_info{cluster="wowlinux",node="ha1"}"#, 1.0),
        (r#"lb_cluster_takeovers_total{cause="peer_dead",group="web"}"#, 1.0),
        (&format!("lb_heartbeat_dropped_total{{path=\"{path}\",reason=\"bad_mac\"}}"), 4.0),
        (r#"lb_sync_peer_up{node="ha2"}"#, 1.0),
        (r#"lb_sync_peer_knows{node="ha2"}"#, 1.0),
        (r#"lb_sync_knows_peer{node="ha2"}"#, 0.0),
        (r#"lb_sync_lag_seconds{node="ha2"}"#, 0.0065),
        (r#"lb_sync_agreement_ratio{node="ha2"}"#, 0.9987),
        (r#"lb_sync_learned_ratio{node="ha2"}"#, 0.439),
        (r#"lb_sync_backlog_datagrams{node="ha2"}"#, 3.0),
        (r#"lb_sync_told_total{node="ha2"}"#, 70.0),
        (r#"lb_sync_dropped_total{reason="unknown_server"}"#, 2.0),
        ("lb_sync_cpu_seconds_total", 1.5),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
}

/// Alerts tell by it a group that several serve and should.
#[test]
fn a_group_that_every_node_serves_is_told_from_others() {
    let mut directors = samples::directors();
    directors.groups[0].kind = "anycast".to_owned();
    let samples = encoded(&Status { cluster: Some(directors), ..samples::cluster() });
    assert_eq!(samples[r#"lb_cluster_group_anycast{group="web"}"#], 1.0);
}

/// As long as the director runs, so that an alert can tell it from a path that works.
#[test]
fn a_path_that_nobody_was_ever_heard_on_has_an_age() {
    let mut directors = samples::directors();
    directors.paths[0].heard.clear();
    let samples = encoded(&Status { cluster: Some(directors), ..samples::cluster() });
    let ages = samples.iter().filter(|(name, _)| name.starts_with("lb_heartbeat_age_seconds"));
    let ages: Vec<_> = ages.collect();
    let path = "serial /dev/ttyS0 19200 baud";
    let name = format!("lb_heartbeat_age_seconds{{node=\"ha2\",path=\"{path}\"}}");
    assert_eq!(ages, [(&name, &192.0)], "and none of its own");
}

#[test]
fn each_metric_has_help_and_type() {
    let status = Status { cluster: Some(samples::directors()), ..samples::cluster() };
    let page = encode(&status, false).expect("metrics");
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
    let page = encode(&status, false).expect("metrics");
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

#[test]
fn the_fallback_server_is_counted_but_is_none_of_the_servers() {
    let mut status = samples::cluster();
    status.services[0].fallback_server = Some(samples::server(9, Health::Unchecked));
    let samples = encoded(&status);
    for (name, value) in [
        (r#"lb_server_connections_total{server="www9",service="web"}"#, 100.0),
        (r#"lb_service_connections_total{service="web"}"#, 300.0),
        (r#"lb_service_active_connections{service="web"}"#, 9.0),
        (r#"lb_service_servers{service="web"}"#, 2.0),
        (r#"lb_service_servers_up{service="web"}"#, 2.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
}

#[test]
fn since_when_a_server_is_drained_is_told() {
    let mut status = samples::cluster();
    status.services[0].servers[0].orders = vec![StandingOrder {
        order: "drain".to_owned(),
        weight: None,
        by: "kim on ha1".to_owned(),
        reason: None,
        since: 1_700_000_000,
    }];
    let samples = encoded(&status);
    assert_eq!(samples[r#"lb_server_drained_since_seconds{server="www1",service="web"}"#], 1_700_000_000.0);
}

#[test]
fn ipvs_names_are_there_if_wanted_with_what_ipvs_counts() {
    let mut status = samples::cluster();
    status.services[0].departed = Totals { connections: 5, packets: 50, bytes: 5000 };
    assert!(!encoded(&status).keys().any(|name| name.starts_with("node_ipvs_")));
    let samples = samples_of(&encode(&status, true).expect("metrics"));
    let backend = r#"{local_address="211.58.250.6",local_mark="",local_port="80",proto="TCP",remote_address="211.58.250.25",remote_port="80"}"#;
    for (name, value) in [
        ("node_ipvs_connections_total", 205.0),
        ("node_ipvs_incoming_packets_total", 2050.0),
        ("node_ipvs_incoming_bytes_total", 133_000.0 - 2050.0 * 14.0),
        ("node_ipvs_outgoing_packets_total", 0.0),
        ("node_ipvs_outgoing_bytes_total", 0.0),
        (&format!("node_ipvs_backend_connections_active{backend}"), 3.0),
        (&format!("node_ipvs_backend_connections_inactive{backend}"), 12.0),
        (&format!("node_ipvs_backend_weight{backend}"), 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
}

/// A server's labels are made once for all its metrics; its part of the page stays the same however
/// many others there are.
#[test]
fn a_page_grows_with_the_servers_and_no_faster() {
    let page = |servers: u8| {
        let mut status = samples::cluster();
        status.services[0].servers =
            (100..100 + servers).map(|one| samples::server(one % 100, Health::Up)).collect();
        let servers = status.services[0].servers.iter_mut().enumerate();
        servers.for_each(|(place, server)| server.name = format!("www{place:03}"));
        encoded(&status).len()
    };
    let [none, ten, hundred] = [0, 10, 100].map(page);
    assert_eq!(hundred - none, 10 * (ten - none));
}

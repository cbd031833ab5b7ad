//! Snapshots for the tests of whoever shows them.

use lb_model::{Forwarding, Health, Totals};

use crate::events::Level;
use crate::status::{
    CheckStatus, ChecksStatus, ClusterStatus, Count, FindingStatus, FragmentsStatus, GroupStatus, HashStatus,
    Heard, NodeReadiness, NodeStatus, PathStatus, QuorumStatus, ServerStatus, ServiceStatus, Status,
    SyncPeer, SyncStatus, TableStatus, TimeoutsStatus, Transitions,
};

pub fn server(number: u8, health: Health) -> ServerStatus {
    ServerStatus {
        name: format!("www{number}"),
        address: [211, 58, 250, 23 + 2 * number].into(),
        port: 80,
        method: Forwarding::Direct,
        tunnel: None,
        tunnel_port: None,
        weight: 1,
        effective_weight: u16::from(health == Health::Up),
        upper_threshold: 0,
        lower_threshold: 0,
        full: false,
        orders: Vec::new(),
        weight_reason: None,
        active: 3,
        inactive: 12,
        bound: 0,
        health,
        source: None,
        reason: None,
        warning: None,
        checks: vec![CheckStatus { check: "http".into(), latencies_us: vec![412, 388], failures: 4 }],
        transitions: Transitions { up: 2, down: 2, maintenance: 0 },
        since_s: 130,
        mac: Some(format!("02:00:d3:3a:fa:{:02x}", 23 + 2 * number)),
        connections: 100,
        packets: 1000,
        bytes: 64000,
        zeroed: Totals::default(),
    }
}

/// Both directors of the talk, seen from ha1; ha2 has died.
pub fn directors() -> ClusterStatus {
    let readiness =
        |servers| NodeReadiness { data_path: true, link: true, maintenance: false, servers, references: 1 };
    let node = |name: &str, last, alive, servers| NodeStatus {
        name: name.into(),
        address: [211, 58, 250, last].into(),
        alive,
        readiness: Some(readiness(servers)),
        config_agrees: true,
    };
    ClusterStatus {
        name: "wowlinux".into(),
        node: "ha1".into(),
        nodes: vec![node("ha1", 5, true, 2), node("ha2", 7, false, 1)],
        groups: vec![GroupStatus {
            name: "web".into(),
            vips: vec![[211, 58, 250, 6].into()],
            role: "active".into(),
            since_s: 75,
            cause: "done".into(),
            kind: "failover".into(),
            serving: vec!["ha1".into()],
            holder: Some("ha1".into()),
            preferred: "ha1".into(),
            has_successor: false,
            serves_on: false,
            takeovers: vec![Count { reason: "peer_dead".into(), count: 1 }],
        }],
        paths: vec![PathStatus {
            name: "serial /dev/ttyS0 19200 baud".into(),
            open: true,
            sent: 3000,
            send_errors: 1,
            received: 2900,
            heard: vec![Heard { node: "ha2".into(), ago_ms: 9120 }],
            dropped: vec![Count { reason: "bad_mac".into(), count: 4 }],
        }],
        sync: Some(SyncStatus {
            peers: vec![SyncPeer {
                node: "ha2".into(),
                up: true,
                knows_ours: true,
                knows_theirs: false,
                learned: Some(0.439),
                told_again: None,
                lag_ms: 6.5,
                backlog: 3,
                agreement: Some(0.9987),
                told: 70,
                taken: 50,
                sent: 30,
                sent_bytes: 9000,
                sent_again: 1,
                received: 29,
            }],
            dropped: vec![Count { reason: "unknown_server".into(), count: 2 }],
            busy_s: 1.5,
        }),
    }
}

/// A finding about `subject`.
pub fn finding(id: &str, subject: &str) -> FindingStatus {
    FindingStatus {
        finding: id.into(),
        subject: subject.into(),
        level: Level::Error,
        text: format!("www1 (02:00:d3:3a:fa:19) answers ARP for the VIP {subject}"),
        mend: "on www1: sysctl net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2".into(),
        since_s: 75,
    }
}

/// The talk's cluster, all well.
pub fn cluster() -> Status {
    let count = |reason: &str, count| Count { reason: reason.into(), count };
    Status {
        version: "0.1.0".into(),
        pid: 4711,
        interface: "eth0".into(),
        other_interfaces: vec![],
        mode: "native".into(),
        stopping: false,
        uptime_s: 192,
        config: "/etc/lb/lb.yaml".into(),
        config_error: None,
        config_since: 1_700_000_000,
        findings: Vec::new(),
        overlay: Vec::new(),
        table: TableStatus {
            capacity: 2_097_152,
            capacity_v6: 1_048_576,
            configured: 1_000_000,
            used: 1024,
            used_v6: 512,
            memory_bytes: 33_554_432,
            inserted: 5000,
            expired: 3000,
            evicted: 7,
            full: 2,
            contended: 0,
        },
        timeouts: TimeoutsStatus { established_s: 900, ..TimeoutsStatus::default() },
        checks: ChecksStatus { running: 2, started: 380, late: 1 },
        alerts: Vec::new(),
        cluster: None,
        services: vec![ServiceStatus {
            name: "web".into(),
            vip: [211, 58, 250, 6].into(),
            port: 80,
            ports: "80".into(),
            protocol: "tcp".into(),
            scheduler: "rr".into(),
            hash: HashStatus::default(),
            ops: false,
            fallback: "local".into(),
            on_fallback: false,
            fallback_ready: true,
            fallback_error: None,
            persistence: None,
            draining: false,
            source: None,
            quorum: QuorumStatus { weight: 1, hysteresis: 0, usable: 2, won: true, since_s: 180 },
            fallback_server: None,
            servers: vec![server(1, Health::Up), server(2, Health::Up)],
            departed: Totals::default(),
            zeroed_departed: Totals::default(),
        }],
        drops: vec![count("malformed", 3), count("no_server", 0)],
        passes: vec![count("not_a_service", 12)],
        answers: Vec::new(),
        relayed: 0,
        fragments: FragmentsStatus::default(),
        quic_moved: 0,
        bindings_lost: 0,
        partial_checksums: 0,
    }
}

//! The same table as ipvsadm had it, see `recorded/README.md`.

use super::super::options::{Address, parse};
use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn server(socket: (&str, u16), method: Forwarding, weight: u16, counts: [u64; 5]) -> Server {
    Server {
        address: address(socket.0),
        port: socket.1,
        method,
        tunnel: None,
        weight,
        active: 0,
        inactive: 0,
        bound: 0,
        upper: 0,
        lower: 0,
        counts: Counts(counts),
    }
}

fn service(protocol: Protocol, socket: (&str, u16), scheduler: &str, servers: Vec<Server>) -> Service {
    Service {
        protocol,
        address: address(socket.0),
        port: socket.1,
        scheduler: scheduler.to_owned(),
        flags: Vec::new(),
        persistence: None,
        ops: false,
        counts: Counts::default(),
        servers,
    }
}

const NONE: [u64; 5] = [0; 5];

fn dns() -> Service {
    let tunnel = |last: u8, weight, kind, counts| Server {
        tunnel: Some(kind),
        ..server((&format!("198.51.100.{last}"), 53), Forwarding::Tunnel, weight, counts)
    };
    let servers = vec![
        tunnel(6, 3, Tunnel::Ipip, [0, 0, 0, 1_000_000_000, 0]),
        Server { inactive: 12, ..tunnel(7, 1, Tunnel::Gue(6080), [41, 1_234_000, 0, 99_999_999, 0]) },
        tunnel(8, 2, Tunnel::Gre, [1, 567, 0, 100_000_000, 0]),
    ];
    let counts = Counts([42, 1_234_567, 0, 123_456_789_012, 0]);
    Service { ops: true, counts, ..service(Protocol::Udp, ("192.0.2.10", 53), "rr", servers) }
}

fn web() -> Service {
    let first = [3_294_967_297, 98_999_999_999, 2, 23_456_789_012_346, 0];
    let second = [999_999_999, 1_000_000_000, 3, 99_999_999_999_999, 7];
    let servers = vec![
        Server {
            active: 123_456_789,
            inactive: 12,
            bound: 2,
            ..server(("192.0.2.21", 80), Forwarding::Direct, 65_535, first)
        },
        Server {
            active: 7,
            inactive: 4_000_000_000,
            bound: 3,
            upper: 1000,
            lower: 750,
            ..server(("192.0.2.22", 80), Forwarding::Direct, 0, second)
        },
    ];
    Service {
        persistence: Some(Persistence { timeout: 300, prefix: 32 }),
        counts: Counts([4_294_967_296, 99_999_999_999, 5, 123_456_789_012_345, 0]),
        ..service(Protocol::Tcp, ("192.0.2.10", 80), "wlc", servers)
    }
}

fn table() -> Table {
    let six = "2001:db8:1234:5678:9abc:def0:1234";
    let local = server(("127.0.0.1", 443), Forwarding::Local, 1, NONE);
    let tls = vec![
        server(("10.0.0.5", 8443), Forwarding::Masq, 1, NONE),
        Server { active: 1, inactive: 2, ..local },
    ];
    let ntp = vec![server(("192.0.2.23", 123), Forwarding::Direct, 1, NONE)];
    let far = server(("192.0.2.24", 80), Forwarding::Tunnel, 1, NONE);
    let web6 = vec![
        Server { tunnel: Some(Tunnel::Ipip), ..far },
        Server {
            active: 1,
            inactive: 2,
            bound: 1,
            upper: 9,
            lower: 7,
            ..server((&format!("{six}:21"), 80), Forwarding::Direct, 3, NONE)
        },
    ];
    let persistent = |timeout, prefix| Some(Persistence { timeout, prefix });
    let services = vec![
        Service {
            persistence: persistent(360, 32),
            ..service(Protocol::Tcp, ("192.0.2.9", 0), "wrr", Vec::new())
        },
        web(),
        Service {
            flags: vec!["sh-fallback".into(), "sh-port".into()],
            ..service(Protocol::Tcp, ("192.0.2.10", 443), "sh", tls)
        },
        dns(),
        Service {
            persistence: persistent(600, 24),
            flags: vec!["mh-port".into()],
            ..service(Protocol::Udp, ("192.0.2.11", 123), "mh", ntp)
        },
        Service {
            persistence: persistent(60, 64),
            ..service(Protocol::Tcp, (&format!("{six}:10"), 80), "wrr", web6)
        },
    ];
    Table { size: 4096, services }
}

/// The hundredth part, which the rates were.
fn rates() -> Table {
    let mut table = table();
    for service in &mut table.services {
        service.counts.0.iter_mut().for_each(|count| *count /= 100);
        service
            .servers
            .iter_mut()
            .for_each(|server| server.counts.0.iter_mut().for_each(|count| *count /= 100));
    }
    table
}

fn listing(line: &str) -> Listing {
    let words = line.split_whitespace().map(str::to_owned).collect();
    parse("ipvsadm", words).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}")).listing
}

#[test]
fn listings_are_ipvsadms() {
    for (line, recorded) in [
        ("-L -n", include_str!("../recorded/list.txt")),
        ("-Ln --stats", include_str!("../recorded/stats.txt")),
        ("-Ln --stats --exact", include_str!("../recorded/stats-exact.txt")),
        ("-Ln --stats --rate", include_str!("../recorded/stats-rate.txt")),
        ("-Ln --thresholds", include_str!("../recorded/thresholds.txt")),
        ("-Ln --persistent-conn", include_str!("../recorded/persistent-conn.txt")),
        ("-Ln --tun-info", include_str!("../recorded/tun-info.txt")),
    ] {
        let text = list(&table(), &listing(line), &mut Names::new(true));
        assert_eq!(text, recorded, "{line}");
    }
    for (line, recorded) in [
        ("-Ln --rate", include_str!("../recorded/rate.txt")),
        ("-Ln --rate --exact", include_str!("../recorded/rate-exact.txt")),
    ] {
        let text = list(&rates(), &listing(line), &mut Names::new(true));
        assert_eq!(text, recorded, "{line}");
    }
}

#[test]
fn one_service_has_no_line_on_top() {
    let wanted = Address { protocol: Protocol::Tcp, address: address("192.0.2.10"), port: 80 };
    let mut table = table();
    table.services.retain(|service| service.is(&wanted));
    let text = list(&table, &listing("-Ln -t 192.0.2.10:80"), &mut Names::new(true));
    assert_eq!(text, include_str!("../recorded/service.txt"));
}

#[test]
fn rules_are_ipvsadms() {
    assert_eq!(rules(&table(), &mut Names::new(true)), include_str!("../recorded/save.txt"));
}

#[test]
fn timeouts_are_ipvsadms() {
    let timeouts =
        TimeoutsStatus { established_s: 900, fin_wait_s: 120, udp_s: 300, ..TimeoutsStatus::default() };
    assert_eq!(timeout(&timeouts), include_str!("../recorded/timeout.txt"));
}

#[test]
fn connections_are_ipvsadms() {
    let entry = |protocol: &str, sockets: [(&str, u16); 3], state: &str, expires_in_s| Connection {
        protocol: protocol.into(),
        client: address(sockets[0].0),
        client_port: sockets[0].1,
        vip: address(sockets[1].0),
        port: sockets[1].1,
        server_address: Some(address(sockets[2].0)),
        server_port: Some(sockets[2].1),
        service: None,
        server: String::new(),
        method: None,
        state: state.into(),
        expires_in_s,
    };
    let part = [
        entry("tcp", [("10.0.0.7", 41_234), ("192.0.2.10", 80), ("192.0.2.21", 80)], "ESTABLISHED", 899),
        entry("tcp", [("198.51.100.1", 49_153), ("192.0.2.10", 443), ("10.0.0.5", 8443)], "SYN_RECV", 7),
        entry("udp", [("10.0.0.8", 53), ("192.0.2.10", 53), ("198.51.100.7", 53)], "UDP", 6007),
        entry("tcp", [("2001:db8::7", 41_234), ("2001:db8::10", 80), ("2001:db8::21", 80)], "FIN_WAIT", 120),
    ];
    for (line, recorded) in [
        ("-Lnc", include_str!("../recorded/connections.txt")),
        ("-Lnc --persistent-conn", include_str!("../recorded/connections-persistent.txt")),
    ] {
        let text = connection_head(&listing(line)) + &connections(&part, &mut Names::new(true));
        assert_eq!(text, recorded, "{line}");
    }
}

#[test]
fn names_stand_for_numbers_where_there_are_some() {
    let mut names = Names::new(false);
    let text = names.socket(address("127.0.0.1"), 80, Protocol::Tcp);
    assert!(text.ends_with(":http") || text.ends_with(":80"), "{text}");
    let unknown = names.socket(address("192.0.2.10"), 65_001, Protocol::Udp);
    assert_eq!(unknown, "192.0.2.10:65001");
}

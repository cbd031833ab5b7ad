//! Listings as an operator sees them.

use std::time::Duration;

use lb_api::status::{CheckStatus, PersistenceStatus, QuorumStatus, StandingOrder};

use super::*;
use crate::observe::samples;

/// Compares with a literal whose first line is empty.
#[track_caller]
fn assert_listing(status: &Status, wanted: &str) {
    let listing = render(status, false);
    assert_eq!(listing, wanted.trim_start_matches('\n'), "listing was:\n{listing}");
}

#[test]
fn the_talks_cluster() {
    let mut status = samples::cluster();
    let www2 = &mut status.services[0].servers[1];
    (www2.health, www2.since_s, www2.reason) = (Health::Down, 4, Some("connection refused".into()));
    assert_listing(
        &status,
        "
lb 0.1.0 on eth0 (XDP native), up 3m12s, 1,024 of 2,097,152 connection slots used
Prot VIP:Port        Scheduler       Fallback
  -> Server:Port             Forward Weight ActiveConn InActConn Health  Check  MAC
TCP  211.58.250.6:80 rr        (web) local
  -> 211.58.250.25:80 (www1) Route   1      3          12        up 2m   0.4 ms 02:00:d3:3a:fa:19
  -> 211.58.250.27:80 (www2) Route   1      3          12        down 4s 0.4 ms 02:00:d3:3a:fa:1b connection refused
Dropped packets: malformed 3
Passed to the host: not_a_service 12
",
    );
}

#[test]
fn findings_come_first_with_what_to_do() {
    let findings = vec![samples::finding("vip_claimed", "211.58.250.6")];
    let status = Status { findings, services: Vec::new(), ..samples::cluster() };
    assert_listing(
        &status,
        "
lb 0.1.0 on eth0 (XDP native), up 3m12s, 1,024 of 2,097,152 connection slots used
ERROR vip_claimed, for 1m: www1 (02:00:d3:3a:fa:19) answers ARP for the VIP 211.58.250.6
    on www1: sysctl net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
(no services)
",
    );
}

#[test]
fn thousands_of_changes_are_a_line() {
    let change = |number: u16, unused: bool| {
        let source = if number < 3 { "cli" } else { "kubernetes" };
        let unused = unused.then(|| "the file has it".to_owned());
        OverlayStatus { source: source.to_owned(), change: format!("+ service s{number}"), unused }
    };
    let overlay: Vec<OverlayStatus> = (0..2_000).map(|number| change(number, number % 200 == 2)).collect();
    let listing = render(&Status { overlay, ..samples::cluster() }, false);
    let told: Vec<&str> = listing.lines().skip(1).take(10).collect();
    let wanted = [
        "Changed at run time (cli): + service s0",
        "Changed at run time (cli): + service s1",
        "Changed at run time (cli): + service s2, without effect: the file has it",
        "Changed at run time (kubernetes): 1,988 changes, see `lb overlay show`",
        "Changed at run time (kubernetes): + service s202, without effect: the file has it",
    ];
    assert_eq!(told[..5], wanted, "{listing}");
    assert_eq!(told[9], "    and 4 more without effect", "{listing}");
}

#[test]
fn columns_are_as_wide_as_what_is_in_them() {
    let mut status = samples::cluster();
    let mut dns = status.services[0].clone();
    dns.name = "udp/[2001:db8::53]:53".into();
    (dns.vip, dns.ports) = ("2001:db8::53".parse().expect("an address"), "53".into());
    (dns.protocol, dns.scheduler, dns.fallback) = ("udp".into(), "wlc".into(), "none".into());
    let server = &mut dns.servers[0];
    server.address = "2001:db8:1234:5678::1001".parse().expect("an address");
    server.name = server.address.to_string();
    (server.port, server.weight, server.active, server.inactive) = (53, 65535, 123_456_789, 4_000_000_000);
    (server.health, server.mac, server.effective_weight) = (Health::Unchecked, None, 65535);
    server.checks.clear();
    server.reason = Some("waits for its MAC".into());
    dns.servers.truncate(1);
    status.services.push(dns);
    assert_listing(
        &status,
        "
lb 0.1.0 on eth0 (XDP native), up 3m12s, 1,024 of 2,097,152 connection slots used, 512 of 1,048,576 for IPv6
Prot VIP:Port          Scheduler       Fallback
  -> Server:Port                   Forward Weight ActiveConn InActConn  Health    Check  MAC
TCP  211.58.250.6:80   rr        (web) local
  -> 211.58.250.25:80 (www1)       Route   1      3          12         up 2m     0.4 ms 02:00:d3:3a:fa:19
  -> 211.58.250.27:80 (www2)       Route   1      3          12         up 2m     0.4 ms 02:00:d3:3a:fa:1b
UDP  [2001:db8::53]:53 wlc             none
  -> [2001:db8:1234:5678::1001]:53 Route   65535  123456789  4000000000 unchecked        unresolved        waits for its MAC
Dropped packets: malformed 3
Passed to the host: not_a_service 12
",
    );
}

#[test]
fn fallback_and_refused_reload_stand_out() {
    let mut status = samples::cluster();
    status.config_error = Some("/etc/lb/lb.yaml:7:5: unknown field `wieght`\nexpected one of …".into());
    let mut second = status.services[0].clone();
    (second.name, second.ports, second.fallback) = ("tls".into(), "443".into(), "none".into());
    second.servers.clear();
    status.services[0].on_fallback = true;
    second.on_fallback = true;
    status.services[0].quorum = QuorumStatus { weight: 4, usable: 3, ..second.quorum };
    second.quorum.usable = 0;
    second.fallback_ready = false;
    status.services[0].servers.truncate(1);
    status.services[0].servers[0].health = Health::Draining;
    status.services.push(second);
    assert_listing(
        &status,
        "
RELOAD FAILED: /etc/lb/lb.yaml is not in force; lb still runs the previous configuration:
    /etc/lb/lb.yaml:7:5: unknown field `wieght`
    expected one of …
lb 0.1.0 on eth0 (XDP native), up 3m12s, 1,024 of 2,097,152 connection slots used
Prot VIP:Port         Scheduler       Fallback
  -> Server:Port             Forward Weight ActiveConn InActConn Health      Check  MAC
TCP  211.58.250.6:80  rr        (web) local: SERVING, usable servers weigh 3, the quorum is 4
  -> 211.58.250.25:80 (www1) Route   1      3          12        draining 2m 0.4 ms 02:00:d3:3a:fa:19
TCP  211.58.250.6:443 rr        (tls) none: NOBODY SERVES, new connections are dropped or refused: no server is usable
Dropped packets: malformed 3
Passed to the host: not_a_service 12
",
    );
}

#[test]
fn weights_warnings_and_the_fallback_server() {
    let mut status = samples::cluster();
    let service = &mut status.services[0];
    service.quorum.weight = 2;
    let [www1, www2] = &mut service.servers[..] else { panic!("two servers") };
    (www1.weight, www1.effective_weight, www1.weight_reason) = (10, 3, Some("slow start".into()));
    www1.checks.push(CheckStatus { check: "tcp".into(), latencies_us: vec![31_400, 80], failures: 0 });
    www1.warning = Some("its certificate ends in 3days".into());
    (www2.health, www2.effective_weight, www2.reason) = (Health::Maintenance, 0, Some("new disk".into()));
    let order = StandingOrder {
        order: "drain".into(),
        weight: None,
        by: "kim on ha1".into(),
        reason: Some("new disk".into()),
        since: 1_700_000_000,
    };
    www2.orders = vec![order.clone(), StandingOrder { order: "weight".into(), weight: Some(5), ..order }];
    let fallback = samples::server(9, Health::Unchecked);
    service.fallback = fallback.address.to_string();
    service.fallback_server = Some(samples::server(9, Health::Unchecked));
    assert_listing(
        &status,
        "
lb 0.1.0 on eth0 (XDP native), up 3m12s, 1,024 of 2,097,152 connection slots used
Prot VIP:Port        Scheduler       Fallback
  -> Server:Port             Forward Weight  ActiveConn InActConn Health         Check  MAC
TCP  211.58.250.6:80 rr        (web) 211.58.250.41, quorum 2: usable servers weigh 2
  -> 211.58.250.25:80 (www1) Route   3 of 10 3          12        up 2m          31 ms  02:00:d3:3a:fa:19 slow start; warning: its certificate ends in 3days
  -> 211.58.250.27:80 (www2) Route   0 of 1  3          12        maintenance 2m 0.4 ms 02:00:d3:3a:fa:1b new disk; by kim on ha1 since 2023-11-14T22:13:20Z; weight 5 by kim on ha1 since 2023-11-14T22:13:20Z: new disk
  -> 211.58.250.41:80 (www9) Route           3          12        fallback       0.4 ms 02:00:d3:3a:fa:29
Dropped packets: malformed 3
Passed to the host: not_a_service 12
",
    );
    let service = &mut status.services[0];
    service.on_fallback = true;
    service.quorum.usable = 0;
    service.fallback_server.as_mut().expect("it is there").effective_weight = 1;
    let serving = render(&status, false);
    assert!(serving.contains("211.58.250.41: SERVING, no server is usable\n"), "{serving}");
    assert!(serving.contains(" SERVING        0.4 ms"), "{serving}");
    status.services[0].fallback_ready = false;
    status.services[0].fallback_error = Some("no answer to ARP for 211.58.250.41 on eth0".into());
    let dead = render(&status, false);
    assert!(dead.contains("211.58.250.41: NOBODY SERVES"), "{dead}");
    assert!(dead.contains("no server is usable; no answer to ARP for 211.58.250.41 on eth0\n"), "{dead}");
    status.services[0].on_fallback = false;
    assert!(render(&status, false).contains("211.58.250.41; no answer to ARP"));
}

#[test]
fn nothing_configured() {
    let mut status = samples::cluster();
    status.services.clear();
    assert!(render(&status, false).ends_with(" connection slots used\n(no services)\n"));
}

#[test]
fn colours_change_no_column() {
    let mut status = samples::cluster();
    status.services[0].servers[1].health = Health::Down;
    status.services[0].servers[1].mac = None;
    let coloured = render(&status, true);
    assert!(coloured.contains("\x1b[32mup 2m\x1b[0m") && coloured.contains("\x1b[1;31mdown 2m\x1b[0m"));
    let mut plain = coloured;
    for tone in [Tone::Strong, Tone::Good, Tone::Warning, Tone::Bad] {
        plain = plain.replace(&format!("\x1b[{}m", tone.code().expect("a code")), "");
    }
    assert_eq!(plain.replace("\x1b[0m", ""), render(&status, false));
}

#[test]
fn what_a_server_says_cannot_play_with_the_terminal() {
    let mut status = samples::cluster();
    status.services[0].servers[0].reason = Some("\x1b[2J\nall is well".into());
    let listing = render(&status, true);
    assert!(!listing.contains("\x1b[2J") && listing.contains("[2J all is well"), "{listing}");
}

#[test]
fn two_directors() {
    let mut status = Status { cluster: Some(samples::directors()), ..samples::cluster() };
    status.services.clear();
    assert_listing(
        &status,
        "
lb 0.1.0 on eth0 (XDP native), up 3m12s, 1,024 of 2,097,152 connection slots used
Cluster wowlinux
Node            Address      State Servers
ha1 (this node) 211.58.250.5 up    2
ha2             211.58.250.7 DEAD
Heartbeats by                State Last heard
serial /dev/ttyS0 19200 baud open  ha2 9120 ms ago
Connections with State             Lag  Alike  Waiting
ha2              catching up, 43 % 6 ms 99.8 % 3 datagrams
Group VIPs         Is on Preferred Here
web   211.58.250.6 ha1   ha1       active 1m no other node is ready
(no services)
",
    );
}

#[test]
fn a_standby_that_could_not_take_over_says_why() {
    let mut cluster = samples::directors();
    cluster.nodes[1].alive = true;
    (cluster.nodes[1].config_agrees, cluster.nodes[0].readiness.as_mut().expect("told").link) =
        (false, false);
    let group = &mut cluster.groups[0];
    (group.role, group.cause) = ("fault".into(), "the interface has no link".into());
    (group.holder, group.since_s) = (None, 4);
    let listing = render(&Status { cluster: Some(cluster), ..samples::cluster() }, false);
    for wanted in [
        "ha1 (this node) 211.58.250.5 up: no link               2\n",
        "ha2             211.58.250.7 up: ANOTHER CONFIGURATION 1\n",
        "web   211.58.250.6 NOBODY ha1       fault 4s the interface has no link\n",
    ] {
        assert!(listing.contains(wanted), "{listing}");
    }
}

#[test]
fn a_director_that_stops_says_what_it_waits_for() {
    let mut cluster = samples::directors();
    let group = &mut cluster.groups[0];
    (group.role, group.serves_on) = ("fault".into(), true);
    (group.holder, group.since_s) = (Some("ha2".into()), 2);
    let listing = render(&Status { cluster: Some(cluster), stopping: true, ..samples::cluster() }, false);
    for wanted in [
        "slots used\nSTOPPING: it hands its groups over",
        "ha2   ha1       stopping 2s serves its earlier connections on\n",
    ] {
        assert!(listing.contains(wanted), "{listing}");
    }
}

#[test]
fn several_ports_bound_clients_and_full_servers_are_told() {
    let mut status = samples::cluster();
    let service = &mut status.services[0];
    service.ports = "80,443".into();
    service.persistence = Some(PersistenceStatus {
        timeout_s: 360,
        prefix: 24,
        group: None,
        keeps_at_weight_zero: true,
        bound: 1234,
        clients: Vec::new(),
    });
    let server = &mut service.servers[0];
    (server.upper_threshold, server.lower_threshold, server.full) = (20, 15, true);
    let listing = render(&status, false);
    for part in [
        "TCP  211.58.250.6:80,443 rr persistent 360s (1,234 bound) ",
        " full: 20 connections and more, new ones again below 15\n",
    ] {
        assert!(listing.contains(part), "{part}: {listing}");
    }
}

#[test]
fn fragments_that_came_too_early_are_told_apart() {
    let fragments = FragmentsStatus { held: 40, sent: 30, passed: 4, given_up: 6 };
    let status = Status { fragments, ..samples::cluster() };
    let line = "\nFragments held: 40 (sent in their turn 30, passed to the host 4, given up 6)\n";
    assert!(render(&status, false).contains(line), "{}", render(&status, false));
}

#[test]
fn rates_stand_beside_the_connections() {
    let before = samples::cluster();
    let mut after = samples::cluster();
    let www1 = &mut after.services[0].servers[0];
    (www1.connections, www1.packets, www1.bytes) = (130, 41_000, 64_000 + 5_000_000);
    let rates = Rates::between(&before, &after, Duration::from_secs(2)).expect("rates");
    let view = View { colour: false, rates: Some(&rates) };
    let listing = render_with(&after, &view);
    let wanted = "
lb 0.1.0 on eth0 (XDP native), up 3m12s, 1,024 of 2,097,152 connection slots used
Prot VIP:Port        Scheduler       Fallback
  -> Server:Port             Forward Weight ActiveConn InActConn Conn/s Packets/s Bytes/s Health Check  MAC
TCP  211.58.250.6:80 rr        (web) local
  -> 211.58.250.25:80 (www1) Route   1      3          12        15     20k       2.5M    up 2m  0.4 ms 02:00:d3:3a:fa:19
  -> 211.58.250.27:80 (www2) Route   1      3          12        0      0         0       up 2m  0.4 ms 02:00:d3:3a:fa:1b
Dropped packets: malformed 3
Passed to the host: not_a_service 12
";
    assert_eq!(listing, wanted.trim_start_matches('\n'), "listing was:\n{listing}");
    let listing = brief(&after, &view);
    let wanted = "
Service Prot VIP:Port        State Up  ActiveConn InActConn Conn/s Packets/s Bytes/s
web     TCP  211.58.250.6:80 up    2/2 6          24        15     20k       2.5M
";
    assert_eq!(listing, wanted.trim_start_matches('\n'), "listing was:\n{listing}");
    let restarted = Status { uptime_s: 3, ..after };
    assert_eq!(Rates::between(&before, &restarted, Duration::from_secs(2)), None);
}

#[test]
fn a_service_is_one_line() {
    let mut status = samples::cluster();
    let mut second = status.services[0].clone();
    (second.name, second.on_fallback) = ("mail".into(), true);
    second.servers.iter_mut().for_each(|server| (server.health, server.effective_weight) = (Health::Down, 0));
    let third = ServiceStatus { name: "news".into(), fallback_ready: false, ..second.clone() };
    let www2 = &mut status.services[0].servers[1];
    (www2.health, www2.effective_weight) = (Health::Down, 0);
    status.services.extend([second, third]);
    status.findings = vec![samples::finding("vip_claimed", "211.58.250.6")];
    let listing = brief(&status, &View::default());
    let wanted = "
ERROR vip_claimed, for 1m: www1 (02:00:d3:3a:fa:19) answers ARP for the VIP 211.58.250.6
    on www1: sysctl net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
Service Prot VIP:Port        State    Up  ActiveConn InActConn
web     TCP  211.58.250.6:80 degraded 1/2 6          24
mail    TCP  211.58.250.6:80 fallback 0/2 6          24
news    TCP  211.58.250.6:80 DOWN     0/2 6          24
";
    assert_eq!(listing, wanted.trim_start_matches('\n'), "listing was:\n{listing}");
}

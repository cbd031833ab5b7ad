//! Listings as an operator sees them.

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
  -> Server:Port             Forward Weight ActiveConn InActConn Health  MAC
TCP  211.58.250.6:80 rr        (web) local
  -> 211.58.250.25:80 (www1) Route   1      3          12        up 2m   02:00:d3:3a:fa:19
  -> 211.58.250.27:80 (www2) Route   1      3          12        down 4s 02:00:d3:3a:fa:1b connection refused
Dropped packets: malformed 3
Passed to the host: not_a_service 12
",
    );
}

#[test]
fn columns_are_as_wide_as_what_is_in_them() {
    let mut status = samples::cluster();
    let mut dns = status.services[0].clone();
    dns.name = "udp/[2001:db8::53]:53".into();
    (dns.vip, dns.port) = ("2001:db8::53".parse().expect("an address"), 53);
    (dns.protocol, dns.scheduler, dns.fallback) = ("udp".into(), "wlc".into(), "none".into());
    let server = &mut dns.servers[0];
    server.address = "2001:db8:1234:5678::1001".parse().expect("an address");
    server.name = server.address.to_string();
    (server.port, server.weight, server.active, server.inactive) = (53, 65535, 123_456_789, 4_000_000_000);
    (server.health, server.mac) = (Health::Unchecked, None);
    server.reason = Some("waits for its MAC".into());
    dns.servers.truncate(1);
    status.services.push(dns);
    assert_listing(
        &status,
        "
lb 0.1.0 on eth0 (XDP native), up 3m12s, 1,024 of 2,097,152 connection slots used
Prot VIP:Port          Scheduler       Fallback
  -> Server:Port                   Forward Weight ActiveConn InActConn  Health    MAC
TCP  211.58.250.6:80   rr        (web) local
  -> 211.58.250.25:80 (www1)       Route   1      3          12         up 2m     02:00:d3:3a:fa:19
  -> 211.58.250.27:80 (www2)       Route   1      3          12         up 2m     02:00:d3:3a:fa:1b
UDP  [2001:db8::53]:53 wlc             none
  -> [2001:db8:1234:5678::1001]:53 Route   65535  123456789  4000000000 unchecked unresolved        waits for its MAC
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
    (second.name, second.port, second.fallback) = ("tls".into(), 443, "none".into());
    second.servers.clear();
    status.services[0].on_fallback = true;
    second.on_fallback = true;
    status.services[0].servers.truncate(1);
    status.services[0].servers[0].health = Health::Draining;
    status.services.push(second);
    assert_listing(
        &status,
        "
RELOAD REFUSED: /etc/lb/lb.yaml was not taken over, the configuration before it runs on:
    /etc/lb/lb.yaml:7:5: unknown field `wieght`
    expected one of …
lb 0.1.0 on eth0 (XDP native), up 3m12s, 1,024 of 2,097,152 connection slots used
Prot VIP:Port         Scheduler       Fallback
  -> Server:Port             Forward Weight ActiveConn InActConn Health      MAC
TCP  211.58.250.6:80  rr        (web) local: SERVING, no server is usable
  -> 211.58.250.25:80 (www1) Route   1      3          12        draining 2m 02:00:d3:3a:fa:19
TCP  211.58.250.6:443 rr        (tls) none: NOBODY SERVES, new connections are dropped
Dropped packets: malformed 3
Passed to the host: not_a_service 12
",
    );
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
        "slots used\nSTOPPING: its groups go to",
        "ha2   ha1       stopping 2s serves its earlier connections on\n",
    ] {
        assert!(listing.contains(wanted), "{listing}");
    }
}

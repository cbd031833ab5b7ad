//! Groups that every director serves at once: routers spread clients over three directors, and
//! whatever becomes of one of them, no connection is lost.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lb_lab::cluster::pair::PATIENCE;
use lb_lab::lab::director::wait_for;
use lb_lab::lab::routing::{Daemon, Routing};
use lb_lab::lab::{Lab, Link, unique_name};
use lb_lab::scenario::anycast::{Anycast, GROUP, SERVICE, TWO, VIP};
use lb_lab::scenario::steady::Steady;

const CONNECTIONS: usize = 300;
const PACE: Duration = Duration::from_millis(200);
const TABLE: u32 = 10_000;

fn start(purpose: &str, daemons: [Daemon; 3]) -> Anycast {
    Anycast::start_here(purpose, TABLE, daemons).unwrap_or_else(|error| panic!("{error:#}"))
}

#[track_caller]
fn clients(anycast: &Anycast) -> Steady {
    let clients = anycast.clients(CONNECTIONS, PACE);
    clients.unwrap_or_else(|error| panic!("{error:#}\n{}", anycast.shown()))
}

#[track_caller]
fn spread_over(anycast: &Anycast, wanted: &[&str]) {
    anycast.wait_until_spread_over(wanted).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Everybody has spoken since.
#[track_caller]
fn assert_intact(anycast: &Anycast, clients: &Steady, after: &str) {
    sleep(3 * PACE);
    let outcome = clients.look();
    assert_eq!((outcome.lost, outcome.wrong), (0, 0), "after {after}: {outcome:?}\n{}", anycast.shown());
}

#[test]
fn directors_leave_and_join_and_no_connection_is_lost() {
    let mut anycast = start("anycast", [Daemon::Bird; 3]);
    let answer = anycast.router.who_has(VIP).expect("arping");
    assert!(answer.is_empty(), "somebody answers ARP for the VIP: {answer:?}");
    let clients = clients(&anycast);
    anycast.assert_all_balance().unwrap_or_else(|error| panic!("{error:#}"));

    anycast.directors[1].stop().expect("lb stops");
    assert!(!anycast.is_announced_by(1).expect("ip works"), "the device has gone with the process");
    spread_over(&anycast, &["d1", "d3"]);
    assert_intact(&anycast, &clients, "a stop");

    anycast.directors[1].restart().expect("lb starts again");
    spread_over(&anycast, &["d1", "d2", "d3"]);
    assert_intact(&anycast, &clients, "a director that joins");

    anycast.directors[2].kill().expect("lb is killed");
    spread_over(&anycast, &["d1", "d2"]);
    assert_intact(&anycast, &clients, "a kill");
    anycast.directors[2].restart().expect("lb starts again");
    spread_over(&anycast, &["d1", "d2", "d3"]);
    assert_intact(&anycast, &clients, "a director that comes back");

    // One after the other, until a director has all that began elsewhere.
    anycast.directors[0].order(&["standby"]).expect("a standby");
    spread_over(&anycast, &["d2", "d3"]);
    anycast.directors[1].order(&["standby"]).expect("a standby");
    spread_over(&anycast, &["d3"]);
    assert_intact(&anycast, &clients, "two standbys");
    for place in [0, 1] {
        anycast.directors[place].order(&["resume"]).expect("it resumes");
    }
    spread_over(&anycast, &["d1", "d2", "d3"]);
    assert_intact(&anycast, &clients, "their return");
    clients.finish_intact();
}

#[test]
fn servers_change_and_a_cable_is_out_and_no_connection_is_lost() {
    let anycast = start("anycastcut", [Daemon::Bird; 3]);
    let clients = clients(&anycast);
    anycast.set_servers(TWO + 1).unwrap_or_else(|error| panic!("{error:#}"));
    anycast.directors[0].order(&["drain", "www1"]).expect("a drain");
    assert_intact(&anycast, &clients, "another server");

    // The process stands still, and its program goes on with all that it knows.
    anycast.directors[1].freeze();
    sleep(Duration::from_secs(3));
    assert_intact(&anycast, &clients, "a director that stands still");
    anycast.directors[1].thaw();
    spread_over(&anycast, &["d1", "d2", "d3"]);

    let d2 = anycast.directors[1].node();
    d2.set_carrier("eth0", Link::Down).expect("the cable is out");
    spread_over(&anycast, &["d1", "d3"]);
    assert_intact(&anycast, &clients, "a cable");
    d2.set_carrier("eth0", Link::Up).expect("the cable is in again");
    spread_over(&anycast, &["d1", "d2", "d3"]);
    assert_intact(&anycast, &clients, "its return");
    clients.finish_intact();
}

#[test]
fn each_routing_daemon_of_the_examples_announces_and_withdraws() {
    let mut anycast = start("anycastall", [Daemon::Bird, Daemon::Frr, Daemon::ExaBgp]);
    let clients = clients(&anycast);
    anycast.assert_all_balance().unwrap_or_else(|error| panic!("{error:#}"));
    for place in [1, 2] {
        let others: Vec<&str> = ["d1", "d2", "d3"]
            .into_iter()
            .enumerate()
            .filter(|(at, _)| *at != place)
            .map(|(_, name)| name)
            .collect();
        for kill in [true, false] {
            let director = &anycast.directors[place];
            if kill { director.kill() } else { director.stop() }.expect("lb ends");
            spread_over(&anycast, &others);
            assert_intact(&anycast, &clients, director_ends(kill));
            anycast.directors[place].restart().expect("lb starts again");
            spread_over(&anycast, &["d1", "d2", "d3"]);
        }
    }
    assert_intact(&anycast, &clients, "their return");
    clients.finish_intact();
}

const fn director_ends(kill: bool) -> &'static str {
    if kill { "a kill" } else { "a stop" }
}

#[test]
fn frr_announces_the_ipv6_vips_of_the_device_and_nothing_else() {
    let lab = Lab::new(&unique_name("frrsix")).expect("a lab");
    let node = |name: &str, address: &str| {
        let node = lab.node(name, address.parse().expect("an address")).expect("a node");
        node.add_ipv6(&format!("{}/64", node.ipv6())).expect("an IPv6 address");
        node
    };
    let (router, director) = (node("router", "10.8.0.1/24"), node("d1", "10.8.0.11/24"));
    director.ip("link add lb-anycast type veth peer name far-end").expect("a device");
    for device in ["lb-anycast", "far-end"] {
        director.ip(&format!("link set {device} up")).expect("it is up");
    }
    for address in ["2001:db8:53::53/128", "2001:db8:54::1/64"] {
        director.add_ipv6_to("lb-anycast", address).expect("an address");
    }
    let bird = Routing::on_router_over_ipv6(&router, &director).expect("BIRD starts");
    let frr = Routing::frr_over_ipv6(&director, &router).expect("FRR starts");
    let is_announced = |wanted: bool| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let routes = router.ip("-6 route show proto bird").expect("ip works");
            assert!(!routes.contains("2001:db8:54:"), "what is no VIP is announced: {routes}");
            if routes.contains("2001:db8:53::53 ") == wanted {
                return;
            }
            let logs = || [&bird, &frr].map(Routing::log_tail).join("\n");
            assert!(Instant::now() < deadline, "announced: {}; {routes}\n{}", !wanted, logs());
            sleep(Duration::from_millis(50));
        }
    };
    is_announced(true);
    director.ip("address delete 2001:db8:53::53/128 dev lb-anycast").expect("it goes");
    is_announced(false);
}

#[test]
fn operators_see_who_serves_and_are_told_what_to_do_instead() {
    let anycast = start("anycastseen", [Daemon::Bird; 3]);
    let [d1, ..] = &anycast.directors[..] else { panic!("three directors") };
    let listing = d1.order(&["status"]).expect("a listing");
    assert!(listing.contains("d1, d2, d3") && listing.contains("every node"), "{listing}");
    assert!(d1.status().expect("a status").findings.is_empty(), "{:?}", d1.status());
    for order in ["failover", "failback"] {
        let refused = d1.try_order(&[order]).expect("it runs");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("`lb standby` takes a node out"), "{said}");
    }
    // Without a server nobody should be sent here.
    d1.node().drop_own_tcp(SERVICE.port()).expect("its checks get nowhere");
    let status =
        wait_for(d1, "it has left", |status| status.group(GROUP).is_some_and(|it| it.role == "fault"));
    let group = status.group(GROUP).expect("a group");
    assert!(group.cause.contains("no server"), "{group:?}");
    spread_over(&anycast, &["d2", "d3"]);
    d1.node().pass_own_tcp().expect("its checks get through");
    spread_over(&anycast, &["d1", "d2", "d3"]);
    let events = d1.events().expect("events");
    let of = |id: &str| events.iter().filter(|event| event.event == id).count();
    assert_eq!((of("vip_announced"), of("vip_withdrawn"), of("split_brain")), (2, 1, 0), "{events:?}");
}

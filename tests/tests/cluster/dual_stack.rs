//! A group with an IPv6 VIP: the active director's own host serves it, and it moves as the IPv4 one
//! does.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use lb_common::lease::LAPSE_NS;
use lb_lab::cluster::{FALLBACK_PAGE, HA2_FALLBACK_PAGE, VIP};
use lb_lab::lab::Node;

use crate::harness::*;

const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 6);
const URL6: &str = "http://[fd00::6]/index.html";

fn start(purpose: &str) -> Cluster {
    let groups = "groups: [{ name: web, vips: [211.58.250.6/25, 'fd00::6/64'], label: 'eth0:0' }]";
    Cluster::start(purpose, &Plan { groups, ipv6: true, ..Plan::default() })
}

/// The line of `ip` that shows the IPv6 VIP on the node.
fn shown_on(node: &Node) -> Option<String> {
    let addresses = node.ip("-6 -oneline address show dev eth0").expect("ip works");
    addresses.lines().find(|line| line.contains("fd00::6/64")).map(str::to_owned)
}

/// The client reaches the web server of `holder` by IPv6, has its MAC for the VIP, and nobody else
/// answers for that.
#[track_caller]
fn assert_served_by(cluster: &Cluster, holder: &Node, page: &str) {
    let client = &cluster.talk.client;
    // The advertisement has come, or comes in a moment.
    wait_for(&format!("{page} by IPv6"), || client.get(URL6).is_ok_and(|found| found.trim() == page));
    let entry = client.ip("-6 neighbour show fd00::6").expect("ip works");
    assert!(entry.contains(&holder.mac()), "the client sends to another one: {entry}");
    for vip in [IpAddr::from(VIP), VIP6.into()] {
        cluster.holder_answers_alone(holder, vip);
    }
}

#[test]
fn both_vips_of_a_group_move_together() {
    let mut cluster = start("dual");
    let (ha1, ha2) = (cluster.talk.ha1.clone(), cluster.talk.ha2.clone());
    assert_served_by(&cluster, &ha1, FALLBACK_PAGE);
    let shown = shown_on(&ha1).expect("on the interface");
    assert!(shown.contains("nodad") && !shown.contains("tentative"), "{shown}");
    assert_eq!(shown_on(&ha2), None);

    cluster.directors[0].kill().expect("it dies");
    cluster.wait_until_held_by("ha2");
    assert!(shown_on(&ha1).is_some(), "a killed director cannot take its address off");
    assert_served_by(&cluster, &ha2, HA2_FALLBACK_PAGE);

    cluster.directors[0].restart().expect("it starts");
    cluster.wait_until_held_by("ha1");
    assert_served_by(&cluster, &ha1, FALLBACK_PAGE);
    assert_eq!(shown_on(&ha2), None);
    assert_eq!(cluster.directors[1].takes(VIP6).expect("events"), 1, "ha2 had it once");
}

/// Its host is as well as ever, and still has the address.
#[test]
fn a_frozen_director_is_silent_about_its_ipv6_vip_and_drops_its_packets() {
    let cluster = start("dualfrozen");
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let client = &cluster.talk.client;
    assert_served_by(&cluster, ha1.node(), FALLBACK_PAGE);
    ha1.freeze();
    let lapsed_for = Instant::now();
    ha2.wait_until("ha2 active", PATIENCE, |status| status.held_by("ha2")).expect("it takes over");

    // As a client that has not heard the news.
    let send_to = |state: &str| {
        let entry = format!("-6 neighbour replace fd00::6 lladdr {} dev eth0 nud {state}", ha1.node().mac());
        client.ip(&entry).expect("ip works");
    };
    send_to("permanent");
    let answer = client.get(URL6);
    let in_time = lapsed_for.elapsed() < Duration::from_nanos(LAPSE_NS);
    assert!(!in_time || answer.is_err(), "its host has answered: {answer:?}");
    send_to("stale");
    assert_served_by(&cluster, ha2.node(), HA2_FALLBACK_PAGE);

    ha1.thaw();
    cluster.wait_until_held_by("ha1");
    assert_served_by(&cluster, ha1.node(), FALLBACK_PAGE);
}

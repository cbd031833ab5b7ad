//! A cluster without IPv4: nodes, heartbeats, reference hosts, VIPs, servers.

use std::net::{IpAddr, Ipv6Addr};

use lb_api::events::Record;

use crate::harness::*;

const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 6);
const URL6: &str = "http://[fd00::6]/index.html";

const PATHS: &str = "[{ type: unicast, interface: eth0 }, \
                     { type: multicast, interface: eth0, group: '[ff02::4c42]:695' }, \
                     { type: unicast, interface: eth0, port: 696, addresses: { ha1: 'fe80::5', ha2: 'fe80::7' } }]";

#[test]
fn two_directors_without_ipv4_take_over_and_hand_back() {
    let cluster = "  references: ['fd00::100']".to_owned();
    let plan = Plan { ipv6_only: true, paths: PATHS, cluster, ..Plan::default() };
    let mut cluster = Cluster::start("sixonly", &plan);
    let client = cluster.talk.client.clone();
    let (ha1, ha2) = (cluster.talk.ha1.clone(), cluster.talk.ha2.clone());
    for director in &cluster.directors {
        let heard = director.wait_until("all paths heard", PATIENCE, |status| {
            let paths = status.cluster.as_ref().map_or(&[][..], |cluster| &cluster.paths);
            paths.len() == 3 && paths.iter().all(|path| path.heard.iter().any(|heard| heard.ago_ms < 500))
        });
        if let Err(error) = heard {
            panic!("{error:#}");
        }
    }
    client.get(URL6).expect("the VIP serves");

    cluster.directors[0].kill().expect("it dies");
    cluster.wait_until_held_by("ha2");
    cluster.holder_answers_alone(&ha2, VIP6);
    client.get(URL6).expect("the VIP serves");
    // Its host answers neighbour discovery, so its program serves on what ha2 relays.
    wait_for_event(&cluster.directors[1], "served_on", |_| true);
    cluster.directors[0].restart().expect("it starts");
    cluster.wait_until_held_by("ha1");

    ha1.ip("-6 route add blackhole fd00::100/128").expect("a route");
    cluster.wait_until_held_by("ha2");
    let given_way = |event: &Record| event.cause_id.as_deref() == Some("better_placed");
    wait_for_event(&cluster.directors[0], "role_changed", given_way);
    client.get(URL6).expect("the VIP serves");
    let addresses = cluster.directors[1].status().expect("a status").cluster.expect("a cluster").nodes;
    let addresses: Vec<IpAddr> = addresses.iter().map(|node| node.address).collect();
    let expected = [5, 7].map(|last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)));
    assert_eq!(addresses, expected);
}

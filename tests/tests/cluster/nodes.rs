//! Which node has a group: more than two nodes, several groups, restarts, reference hosts.

use std::net::Ipv4Addr;

use lb_api::events::Record;
use lb_lab::cluster::{URL, VIP};
use lb_lab::lab::Director;

use crate::harness::*;

/// The session of its second life is smaller than that of the first.
#[test]
fn a_node_whose_clock_was_set_back_a_day_is_heard_after_its_restart() {
    let mut cluster = Cluster::start("clock", &Plan::default());
    cluster.directors[0].stop().expect("it stops");
    cluster.wait_until_held_by("ha2");
    cluster.directors[0].restart_a_day_earlier().expect("it starts");
    cluster.wait_until_held_by("ha1");
    cluster.directors[0].stop().expect("it stops");
    cluster.directors[0].restart().expect("it starts, a day later");
    cluster.wait_until_held_by("ha1");
}

#[test]
fn of_three_nodes_the_next_in_order_takes_over() {
    let mut cluster = Cluster::start("three", &Plan { nodes: &["ha1", "ha2", "ha3"], ..Plan::default() });
    cluster.directors[0].kill().expect("it dies");
    cluster.wait_until_held_by("ha2");
    cluster.holder_answers_alone(cluster.directors[1].node(), VIP);
    cluster.directors[1].kill().expect("it dies");
    cluster.wait_until_held_by("ha3");
    cluster.holder_answers_alone(cluster.directors[2].node(), VIP);
    cluster.directors[0].restart().expect("it starts");
    cluster.wait_until_held_by("ha1");
    cluster.directors[1].restart().expect("it starts");
    cluster.wait_until_held_by("ha1");
    cluster.holder_answers_alone(cluster.directors[0].node(), VIP);
}

#[test]
fn with_two_groups_both_directors_work() {
    const SECOND: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 8);
    let groups = "groups:\n  - { name: web, vips: [211.58.250.6/25], nodes: [ha1, ha2] }\n  \
                  - { name: second, vips: [211.58.250.8/25], nodes: [ha2, ha1] }";
    let services = "  - { vip: '211.58.250.8:80', scheduler: rr, servers: [{ address: 211.58.250.25 }] }\n";
    let cluster = Cluster::start("groups", &Plan { groups, services, ..Plan::default() });
    cluster.talk.www1.node().ip("address add 211.58.250.8/32 dev lo").expect("www1 holds the second VIP");
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let on = |director: &Director, group: &str| director.role_of(group).expect("a status");
    wait_for("the second group on ha2", || on(ha2, "second") == "active");
    assert_eq!(
        (on(ha1, "web"), on(ha1, "second"), on(ha2, "web")),
        ("active".into(), "standby".into(), "standby".into())
    );
    cluster.holder_answers_alone(ha1.node(), VIP);
    cluster.holder_answers_alone(ha2.node(), SECOND);
    let client = &cluster.talk.client;
    client.get(URL).expect("the first group serves");
    client.get("http://211.58.250.8/index.html").expect("the second group serves");

    ha2.kill().expect("it dies");
    wait_for("both groups on ha1", || on(ha1, "second") == "active");
    cluster.holder_answers_alone(ha1.node(), SECOND);
    client.get("http://211.58.250.8/index.html").expect("ha1 serves both");
}

#[test]
fn the_node_that_loses_its_reference_hosts_gives_way() {
    let cluster_lines = "  references: [211.58.250.100]".to_owned();
    let cluster = Cluster::start("references", &Plan { cluster: cluster_lines, ..Plan::default() });
    cluster.talk.ha1.ip("route add blackhole 211.58.250.100/32").expect("a route");
    cluster.wait_until_held_by("ha2");
    let given_way = |event: &Record| event.cause_id.as_deref() == Some("better_placed");
    wait_for_event(&cluster.directors[0], "role_changed", given_way);
    cluster.talk.ha1.ip("route del blackhole 211.58.250.100/32").expect("no route");
    cluster.wait_until_held_by("ha1");
}

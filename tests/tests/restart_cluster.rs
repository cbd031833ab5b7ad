//! State that outlives the process of one of two directors: connections over its stop, its kill and
//! its return.

use std::time::Duration;

use lb_lab::busy::measured;
use lb_lab::cluster::VIP;
use lb_lab::cluster::pair::{PATIENCE, Settings};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Link, Node, cleanup};
use lb_lab::scenario::methods::Method;
use lb_lab::scenario::several::Several;
use lb_lab::scenario::steady::{self, Steady};

const CONNECTIONS: usize = 300;
const PACE: Duration = Duration::from_millis(200);

/// A process that stands still for half a second on a busy machine is not dead.
const SETTINGS: Settings =
    Settings { interval: Duration::from_millis(50), dead: Duration::from_secs(1), serial: false };

fn start(purpose: &str, cluster: &str) -> Several {
    Several::start(purpose, 10_000, SETTINGS, cluster).unwrap_or_else(|error| panic!("{error:#}"))
}

fn clients(several: &Several) -> Steady {
    several.clients(CONNECTIONS, PACE).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Nor any datagram: the flow was there before, or began when somebody was active.
#[track_caller]
fn assert_no_packet_lost(clients: Steady) {
    let outcome = clients.finish_intact();
    assert_eq!(outcome.datagrams_lost, 0, "{outcome:?}");
}

#[track_caller]
fn take_over(several: &Several) {
    several.pair.wait_for_take_over().unwrap_or_else(|error| panic!("{error:#}\n{}", several.pair.shown()));
}

#[track_caller]
fn ha1_returns(several: &mut Several) {
    several.returns().unwrap_or_else(|error| panic!("{error:#}"));
    several.ha1_has_taken_over().unwrap_or_else(|error| panic!("{error:#}"));
}

/// Until ha2 has said that ha1's program serves on, or that it is not relied on any more, and why.
#[track_caller]
fn wait_for_event_of_ha2(several: &Several, id: &str, cause: Option<&str>) {
    let about_ha1 = |event: &lb_api::events::Record| {
        event.node.as_deref() == Some("ha1") && event.cause_id.as_deref() == cause
    };
    several.pair.ha2.wait_for_event(id, PATIENCE, about_ha1).unwrap_or_else(|error| panic!("{error:#}"));
}

fn has_program(node: &Node) -> bool {
    node.has_xdp_program().expect("ip works")
}

fn has_vip(node: &Node) -> bool {
    node.has_address(VIP).expect("ip works")
}

#[test]
fn a3_connections_go_on_while_the_active_director_is_restarted() {
    let mut several = start("restarted", "");
    let clients_of_ha1 = clients(&several);
    several.pair.ha1.stop().expect("lb stops");
    let ha1 = several.talk.ha1.clone();
    assert!(has_program(&ha1) && !has_vip(&ha1), "the program stays, and nobody answers for the VIP");
    several.pair.ha1.wait_for_logged("left_forwarding", 1, Duration::ZERO).expect("it says so");
    take_over(&several);
    let clients_of_ha2 = clients(&several);
    wait_for_event_of_ha2(&several, "served_on", None);
    ha1_returns(&mut several);
    let more = clients(&several);
    for clients in [clients_of_ha1, clients_of_ha2, more] {
        assert_no_packet_lost(clients);
    }
}

/// Runs a scenario again in which a packet was lost on a busy machine: a ring that nobody empties
/// loses some.
#[track_caller]
fn scenario(what: &str, run: impl Fn()) {
    measured(what, || {
        run();
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn a3_connections_go_on_while_the_active_director_is_killed_and_comes_back() {
    scenario("packets over a kill", || {
        let mut several = start("killed", "");
        let mut all = vec![clients(&several)];
        for _ in 0..2 {
            several.pair.ha1.kill().expect("lb is killed");
            take_over(&several);
            all.push(clients(&several));
            ha1_returns(&mut several);
        }
        all.into_iter().for_each(assert_no_packet_lost);
    });
}

#[test]
fn a3_connections_go_on_while_the_active_director_is_frozen() {
    scenario("packets over a freeze", || {
        let several = start("frozen", "");
        let clients_of_ha1 = clients(&several);
        several.pair.ha1.freeze();
        take_over(&several);
        let clients_of_ha2 = clients(&several);
        several.pair.ha1.thaw();
        several.pair.wait_until_held_by("ha1").unwrap_or_else(|error| panic!("{error:#}"));
        [clients_of_ha1, clients_of_ha2].into_iter().for_each(assert_no_packet_lost);
    });
}

#[test]
fn i10_connections_go_on_while_the_active_director_gets_another_table_and_another_build() {
    scenario("packets over another table and another build", || {
        let mut several = start("larger", "");
        let mut all = vec![clients(&several)];
        several.pair.ha1.stop().expect("lb stops");
        take_over(&several);
        all.push(clients(&several));
        several.resize_ha1(40_000).expect("a new file");
        ha1_returns(&mut several);
        assert_eq!(several.pair.ha1.status().expect("a status").table.configured, 40_000);

        let build = several.talk.lab.state().folder().join("lb-upgraded");
        std::fs::copy(several.pair.ha1.build(), &build).expect("the same build by another path");
        several.pair.ha1.stop().expect("lb stops");
        take_over(&several);
        all.push(clients(&several));
        several.pair.ha1.restart_as(&build).expect("the other build starts");
        several.pair.wait_until_held_by("ha1").unwrap_or_else(|error| panic!("{error:#}"));
        several.ha1_has_taken_over().unwrap_or_else(|error| panic!("{error:#}"));
        all.into_iter().for_each(assert_no_packet_lost);
    });
}

/// Both are active, and clients turn to the one that has announced last: it relays what it does not
/// know to the other one, whose heartbeats it does not hear, but whose host answers.
#[test]
fn a3_connections_go_on_while_the_directors_do_not_hear_each_other() {
    let several = start("cut", "");
    let clients_of_ha1 = clients(&several);
    ["eth0", "eth1"].iter().for_each(|path| several.talk.cut_heartbeats(path).expect("nftables works"));
    take_over(&several);
    let clients_of_ha2 = clients(&several);
    ["eth0", "eth1"].iter().for_each(|path| several.talk.heal_heartbeats(path).expect("nftables works"));
    // ha2 has taken it later, so ha1 gives way; and then it is preferred.
    several.pair.wait_until_held_by("ha1").unwrap_or_else(|error| panic!("{error:#}"));
    clients_of_ha1.finish_intact();
    clients_of_ha2.finish_intact();
}

/// It has connections from the time when it was the active one.
#[test]
fn a3_connections_go_on_while_the_standby_director_is_restarted_and_killed() {
    let mut several = start("standby", "");
    let clients_of_ha1 = clients(&several);
    several.pair.ha1.failover().expect("it goes");
    several.pair.wait_until_held_by("ha2").unwrap_or_else(|error| panic!("{error:#}"));
    let clients_of_ha2 = clients(&several);
    for kill in [false, true] {
        let ha1 = &mut several.pair.ha1;
        if kill { ha1.kill() } else { ha1.stop() }.expect("lb ends");
        ha1.restart().expect("lb starts again");
        several.ha1_has_taken_over().unwrap_or_else(|error| panic!("{error:#}"));
        let shown = several.pair.wait_until_held_by_one_of(&["ha1", "ha2"]);
        shown.unwrap_or_else(|error| panic!("{error:#}"));
    }
    clients_of_ha1.finish_intact();
    clients_of_ha2.finish_intact();
}

/// Answers of servers behind address translation come to whoever has the group.
#[test]
fn a_planned_move_keeps_connections_by_address_translation() {
    let several = Several::start_by(Method::Masq, "masqmoves", 10_000, SETTINGS, "", steady::echo);
    let several = several.unwrap_or_else(|error| panic!("{error:#}"));
    let clients = clients(&several);
    several.ha2_knows(CONNECTIONS as u64).unwrap_or_else(|error| panic!("{error:#}"));
    for (from, to) in [(&several.pair.ha1, "ha2"), (&several.pair.ha2, "ha1")] {
        wait_for(from, "another one is ready", |status| {
            status.cluster.as_ref().is_some_and(|cluster| cluster.groups[0].has_successor)
        });
        from.failover().expect("the group moves");
        several.pair.wait_until_held_by(to).unwrap_or_else(|error| panic!("{error:#}"));
        std::thread::sleep(3 * PACE);
    }
    clients.finish_intact();
}

/// What a machine would swallow that is gone follows its service's rule: the connections are reset,
/// if nobody else knows them.
#[test]
fn a3_nothing_is_relayed_to_a_machine_that_is_gone() {
    let several = start("machinegone", "  sync: off\n");
    let clients = clients(&several);
    several.pair.ha1.kill().expect("lb is killed");
    several.talk.ha1.set_carrier("eth0", Link::Down).expect("the cable is out");
    take_over(&several);
    wait_for_event_of_ha2(&several, "served_on_ended", Some("unreachable"));
    let outcome = clients.finish();
    assert_eq!((outcome.lost, outcome.wrong), (CONNECTIONS as u64, 0), "{outcome:?}");
}

#[test]
fn a3_nothing_is_relayed_to_a_node_that_was_fenced() {
    let several = start("fenced", "  sync: off\n  fence: { command: [/bin/true], timeout: 5s }\n");
    let clients = clients(&several);
    several.pair.ha1.kill().expect("lb is killed");
    take_over(&several);
    wait_for_event_of_ha2(&several, "served_on_ended", Some("fenced"));
    let outcome = clients.finish();
    assert_eq!((outcome.lost, outcome.wrong), (CONNECTIONS as u64, 0), "{outcome:?}");
}

#[test]
fn a3_a_release_in_a_cluster_leaves_nothing_and_nobody_counts_on_it() {
    let mut several = start("released", "  sync: off\n  linger: 1s\n");
    let clients = clients(&several);
    several.pair.ha1.order(&["stop", "--release"]).expect("lb stops for good");
    let ha1 = several.talk.ha1.clone();
    let left = cleanup::pins(&ha1.state().namespace("ha1"));
    assert!(!has_program(&ha1) && !has_vip(&ha1) && left.is_empty(), "{left:?}");
    take_over(&several);
    let outcome = clients.finish();
    assert_eq!((outcome.lost, outcome.wrong), (CONNECTIONS as u64, 0), "reset: {outcome:?}");
    several.returns().unwrap_or_else(|error| panic!("{error:#}"));
    // What a process has left that is gone already is taken away too.
    several.pair.ha1.stop().expect("lb stops");
    assert!(has_program(&ha1));
    several.pair.ha1.release().expect("what is left is taken away");
    assert!(!has_program(&ha1));
}

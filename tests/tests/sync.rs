//! Connections that two directors know: a take-over by a machine that is gone, and its return,
//! breaks none.

use std::time::Duration;

use lb_api::status::{Status, SyncPeer};
use lb_lab::cluster::pair::Settings;
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Link, Node};
use lb_lab::scenario::methods::Method;
use lb_lab::scenario::several::Several;
use lb_lab::scenario::steady::{self, Steady};

const CONNECTIONS: usize = 1000;
const PACE: Duration = Duration::from_millis(200);

/// A process that stands still for half a second on a busy machine is not dead.
const SETTINGS: Settings =
    Settings { interval: Duration::from_millis(50), dead: Duration::from_secs(1), serial: false };

fn start(purpose: &str, cluster: &str) -> Several {
    Several::start(purpose, 10_000, SETTINGS, cluster).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Connections of clients, which the other director knows.
fn known_clients(several: &Several) -> Steady {
    let clients = several.clients(CONNECTIONS, PACE).unwrap_or_else(|error| panic!("{error:#}"));
    several.ha2_knows(CONNECTIONS as u64).unwrap_or_else(|error| panic!("{error:#}"));
    clients
}

fn peer(status: &Status) -> Option<&SyncPeer> {
    status.cluster.as_ref()?.sync.as_ref()?.peers.first()
}

#[track_caller]
fn take_over(several: &Several) {
    several.pair.wait_for_take_over().unwrap_or_else(|error| panic!("{error:#}\n{}", several.pair.shown()));
}

#[test]
fn a_machine_that_is_gone_takes_no_connection_with_it_nor_does_its_return() {
    goes_and_comes_back(start("syncgone", ""));
}

#[test]
fn nor_where_servers_are_reached_by_tunnels_or_address_translation() {
    for method in [Method::Ipip, Method::Masq] {
        let purpose = format!("syncgone{}", method.name());
        let several = Several::start_by(method, &purpose, 10_000, SETTINGS, "", steady::echo);
        goes_and_comes_back(several.unwrap_or_else(|error| panic!("{}: {error:#}", method.name())));
    }
}

#[track_caller]
fn goes_and_comes_back(mut several: Several) {
    let clients = known_clients(&several);
    several.pair.ha1.kill().expect("lb is killed");
    several.talk.ha1.set_carrier("eth0", Link::Down).expect("the cable is out");
    take_over(&several);
    std::thread::sleep(3 * PACE);
    let before = clients.look();
    assert_eq!((before.lost, before.wrong), (0, 0), "{before:?}");
    // The machine comes back as one that knows nothing.
    several.pair.ha1.release().expect("nothing is left on it");
    several.talk.ha1.set_carrier("eth0", Link::Up).expect("the cable is in again");
    several.returns().unwrap_or_else(|error| panic!("{error:#}\n{}", several.pair.shown()));
    std::thread::sleep(3 * PACE);
    clients.finish_intact();
}

/// It balances on what still comes to it, and learns what the holder tells all the same.
#[test]
fn a_director_that_gave_the_group_back_learns_what_begins_then() {
    let several = start("syncback", "");
    for (from, to) in [(&several.pair.ha1, "ha2"), (&several.pair.ha2, "ha1")] {
        wait_for(from, "another one is ready", |status| {
            status.cluster.as_ref().is_some_and(|cluster| cluster.groups[0].has_successor)
        });
        from.failover().expect("the group moves");
        several.pair.wait_until_held_by(to).unwrap_or_else(|error| panic!("{error:#}"));
    }
    let clients = known_clients(&several);
    several.pair.ha1.kill().expect("lb is killed");
    several.talk.ha1.set_carrier("eth0", Link::Down).expect("the cable is out");
    take_over(&several);
    std::thread::sleep(3 * PACE);
    clients.finish_intact();
}

#[test]
fn a_fenced_director_takes_no_connection_with_it() {
    let several = start("syncfenced", "  fence: { command: [/bin/true], timeout: 5s }\n");
    let clients = known_clients(&several);
    several.pair.ha1.kill().expect("lb is killed");
    several.talk.ha1.set_carrier("eth0", Link::Down).expect("the cable is out");
    take_over(&several);
    std::thread::sleep(3 * PACE);
    clients.finish_intact();
}

#[test]
fn a_release_leaves_connections_with_the_other_director() {
    let several = start("syncreleased", "  linger: 1s\n");
    let clients = known_clients(&several);
    several.pair.ha1.order(&["stop", "--release"]).expect("lb stops for good");
    take_over(&several);
    std::thread::sleep(3 * PACE);
    clients.finish_intact();
}

#[test]
fn the_listing_says_how_it_stands() {
    let several = start("synclisting", "");
    let clients = known_clients(&several);
    for director in [&several.pair.ha1, &several.pair.ha2] {
        wait_for(director, "in step", |status| {
            peer(status).is_some_and(|peer| peer.up && peer.knows_ours && peer.knows_theirs)
        });
        let listing = director.order(&["status"]).expect("a listing");
        assert!(listing.contains("in step"), "{listing}");
    }
    wait_for(&several.pair.ha2, "alike", |status| {
        peer(status).is_some_and(|peer| peer.agreement.is_some_and(|share| share > 0.99))
    });
    clients.finish_intact();
}

/// What the firewall of a node lets through of the synchronisation.
fn let_through(node: &Node, all: bool) {
    let table = if all {
        "delete table inet lab"
    } else {
        "table inet lab { chain in { type filter hook input priority 0; udp dport 8848 drop; }; }"
    };
    node.nft(table).expect("nft works");
}

#[test]
fn a_node_that_does_not_learn_is_told_of_and_gets_the_group_back_once_it_has() {
    let several = start("syncsilent", "");
    wait_for(&several.pair.ha1, "in step", |status| peer(status).is_some_and(|peer| peer.knows_ours));
    let_through(&several.talk.ha1, false);
    several.pair.ha1.kill().expect("lb is killed");
    take_over(&several);
    let mut several = several;
    several.pair.ha1.restart().expect("lb starts again");
    let is_silent = |status: &Status| status.finding("sync_silent").is_some();
    let status = wait_for(&several.pair.ha2, "it is told", is_silent);
    let group = &status.cluster.expect("a cluster").groups[0];
    assert_eq!(group.holder.as_deref(), Some("ha2"), "automatic failback waits");
    let_through(&several.talk.ha1, true);
    several.pair.wait_until_held_by("ha1").unwrap_or_else(|error| panic!("{error:#}"));
    wait_for(&several.pair.ha2, "the finding has gone", |status| !is_silent(status));
}

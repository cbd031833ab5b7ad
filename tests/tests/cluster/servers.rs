//! A director that finds no server, or too few, gives way to one that does.

use std::fs;

use lb_lab::cluster::URL;
use lb_lab::scenario::traffic::Answer;

use super::harness::{Cluster, PATIENCE, Plan, wait_for_event};

/// The servers' web servers answer ha2's checks, and not ha1's.
fn ha1_is_cut_off(cluster: &Cluster) {
    cluster.talk.ha1.drop_own_tcp(80).expect("nft works");
}

#[track_caller]
fn wait_until_both_see(cluster: &Cluster, holder: &str) {
    for director in &cluster.directors {
        let seen =
            director.wait_until(&format!("{holder} active"), PATIENCE, |status| status.held_by(holder));
        seen.unwrap_or_else(|error| panic!("{error:#}\n{}", director.log_tail()));
    }
}

#[test]
fn a_director_that_reaches_no_server_gives_way_to_one_that_does() {
    let cluster = Cluster::start("reach", &Plan::default());
    ha1_is_cut_off(&cluster);
    wait_until_both_see(&cluster, "ha2");
    let page = cluster.talk.client.get(URL).expect("a page");
    assert!(Answer::SERVERS.contains(&Answer::of_page(&page)), "{page}");
    let [ha1, _] = &cluster.directors[..] else { panic!("two directors") };
    let down = ha1.status().expect("a status");
    assert!(!down.serves("www1") && !down.serves("www2") && down.on_fallback());
    for server in ["www1", "www2"] {
        wait_for_event(ha1, "server_down", |event| event.server.as_deref() == Some(server));
    }
    wait_for_event(ha1, "quorum_lost", |_| true);

    cluster.talk.ha1.pass_own_tcp().expect("nft works");
    cluster.wait_until_held_by("ha1");
}

/// One server is left to ha1, which is fewer than the service needs: as good as none.
#[test]
fn a_director_without_the_quorum_gives_way_to_one_that_has_it() {
    let plan = Plan { services: "    quorum: 2\n", ..Plan::default() };
    let cluster = Cluster::start("noquorum", &plan);
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    // A file is this director's alone.
    let disabled = ha1.node().folder().expect("a folder").join("disabled");
    fs::create_dir_all(&disabled).expect("a folder");
    fs::write(disabled.join("www1"), "memory test\n").expect("a file");
    wait_until_both_see(&cluster, "ha2");
    assert!(ha1.status().expect("a status").serves("www2") && ha2.status().expect("a status").serves("www1"));
    ha1.order(&["enable", "www1"]).expect("www1 is known");
    cluster.wait_until_held_by("ha1");
}

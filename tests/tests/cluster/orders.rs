//! What operators order, and what becomes of it.

use std::thread::sleep;
use std::time::Duration;

use lb_api::events::Record;
use lb_api::status::Status;
use lb_lab::cluster::VIP;
use lb_lab::scenario::open_loop::Outage;
use lb_lab::scenario::traffic::Answer;

use crate::harness::*;

#[test]
fn maintenance_survives_a_restart() {
    let mut cluster = Cluster::start("maintain", &Plan::default());
    let outage = Outage::during(&cluster.talk.client, Answer::SERVERS, || {
        cluster.directors[0].order(&["maintenance", "on"]).map(drop)
    });
    assert_eq!(outage.expect("the client can ask").failed(), 0);
    cluster.wait_until_held_by("ha2");
    let ha1 = &mut cluster.directors[0];
    ha1.stop().expect("it stops");
    ha1.restart().expect("it starts");
    wait_for_event(ha1, "node_maintenance", |_| true);
    sleep(Duration::from_secs(3)); // it would have taken the group back long ago
    cluster.wait_until_held_by("ha2");
    cluster.directors[0].order(&["maintenance", "off"]).expect("the order is taken");
    cluster.wait_until_held_by("ha1");
    cluster.holder_answers_alone(&cluster.talk.ha1, VIP);
}

#[test]
fn standby_resume_and_orders_to_the_wrong_node() {
    let cluster = Cluster::start("standby", &Plan::default());
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let refused = ha2.order(&["failover"]).expect_err("the group is on ha1").to_string();
    assert!(refused.contains("it is on ha1"), "{refused}");
    let refused = ha1.order(&["failover", "nothing"]).expect_err("no such group").to_string();
    assert!(refused.contains("there are: web"), "{refused}");
    let moved = ha1.order(&["standby"]).expect("the order is taken");
    assert!(moved.contains("web: ha1 -> ha2"), "{moved}");
    cluster.wait_until_held_by("ha2");
    let refused = ha2.order(&["failover"]).expect_err("nobody else is ready").to_string();
    assert!(refused.contains("no other node is ready"), "{refused}");
    ha1.order(&["resume"]).expect("the order is taken");
    cluster.wait_until_held_by("ha1");
    let moves = count_events(ha1, "role_changed", |event| event.to.as_deref() == Some("active"));
    assert_eq!(moves, 2, "at start and now: {}", ha1.log_tail());
}

/// Each director announces the VIP while it has it, and the other one reads that later.
#[test]
fn moves_to_and_fro_are_no_split_brain() {
    let groups = "groups: [{ name: web, vips: [211.58.250.6/25, 211.58.250.101/25, 211.58.250.102/25] }]";
    let cluster = Cluster::start("toandfro", &Plan { groups, ..Plan::default() });
    for _ in 0..5 {
        cluster.directors[0].failover().expect("ha2 takes it");
        cluster.directors[0].failback().expect("ha1 takes it back");
    }
    // What is announced two seconds after the last take-over is read, too.
    sleep(Duration::from_secs(3));
    cluster.wait_until_held_by("ha1");
    for director in &cluster.directors {
        let claimed = |event: &Record| event.finding.as_deref() == Some("vip_claimed");
        let alarms =
            [count_events(director, "split_brain", |_| true), count_events(director, "finding", claimed)];
        assert_eq!(alarms, [0, 0], "{}", director.log_tail());
    }
}

/// Its lease was over before ha2 took the group: nobody was served by both.
#[test]
fn a_director_that_was_frozen_and_goes_on_is_no_split_brain() {
    let cluster = Cluster::start("thawed", &Plan::default());
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    ha1.freeze();
    ha2.wait_until("ha2 active", PATIENCE, |status| status.held_by("ha2")).expect("it takes over");
    // Heartbeats and announcements wait in the sockets of ha1.
    sleep(Duration::from_secs(4));
    ha1.thaw();
    let lost = |event: &Record| matches!(event.cause_id.as_deref(), Some("lease_lost" | "peer_took_over"));
    wait_for_event(ha1, "role_changed", lost);
    cluster.wait_until_held_by("ha1");
    for director in &cluster.directors {
        assert_eq!(count_events(director, "split_brain", |_| true), 0, "{}", director.log_tail());
    }
}

#[test]
fn with_manual_failback_a_group_stays_until_told() {
    let groups = "groups: [{ name: web, vips: [211.58.250.6/25], failback: manual }]";
    let mut cluster = Cluster::start("manual", &Plan { groups, ..Plan::default() });
    cluster.directors[0].kill().expect("it dies");
    cluster.wait_until_held_by("ha2");
    let ha1 = cluster.talk.ha1.clone();
    let vip_is_on_ha1 =
        move || ha1.ip("-oneline address show dev eth0").expect("ip works").contains(" 211.58.250.6/");
    assert!(vip_is_on_ha1(), "a killed director cannot take its address off");
    cluster.directors[0].restart().expect("it starts");
    sleep(Duration::from_secs(3)); // automatic failback would have happened
    cluster.wait_until_held_by("ha2");
    assert!(!vip_is_on_ha1(), "what the earlier life left on the interface is removed at start");
    cluster.directors[0].failback().expect("the order is taken");
    cluster.wait_until_held_by("ha1");
}

#[test]
fn the_last_node_that_is_ready_leaves_only_if_that_is_meant() {
    let cluster = Cluster::start("lastready", &Plan::default());
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    ha2.order(&["standby"]).expect("nothing is on ha2");
    let ha2_is_out = |status: &Status| {
        let mut nodes = status.cluster.iter().flat_map(|cluster| &cluster.nodes);
        let ha2 = nodes.find(|node| node.name == "ha2").and_then(|node| node.readiness.as_ref());
        ha2.is_some_and(|readiness| readiness.maintenance)
    };
    ha1.wait_until("ha1 to know", PATIENCE, ha2_is_out).expect("it is told by ha2's heartbeats");
    for order in [&["standby"][..], &["maintenance", "on"]] {
        let refused = ha1.order(order).expect_err("nobody else is ready").to_string();
        assert!(
            refused.contains("no other node is ready for web") && refused.contains("--force"),
            "{refused}"
        );
    }
    assert!(!state_folder(ha1.node()).join("maintenance").exists(), "remembered although refused");
    cluster.wait_until_held_by("ha1");

    ha1.order(&["maintenance", "on", "--force"]).expect("it is meant");
    ha1.wait_until("nobody has it", PATIENCE, Status::is_held_by_nobody).expect("it goes");
    ha2.order(&["resume"]).expect("the order is taken");
    cluster.wait_until_held_by("ha2");
}

#[test]
fn who_ends_one_of_standby_and_maintenance_is_told_of_the_other() {
    let cluster = Cluster::start("both", &Plan::default());
    let ha1 = &cluster.directors[0];
    let order = |words: &[&str]| ha1.order(words).expect("the order is taken");
    let back = "this node takes groups again";
    order(&["standby"]);
    order(&["maintenance", "on"]);
    let told = order(&["resume"]);
    assert!(told.contains("maintenance still keeps this node out") && !told.contains(back), "{told}");
    order(&["standby"]);
    let told = order(&["maintenance", "off"]);
    assert!(told.contains("standby still keeps this node out") && !told.contains(back), "{told}");
    cluster.wait_until_held_by("ha2");
    let told = order(&["resume"]);
    assert!(told.contains(back), "{told}");
    cluster.wait_until_held_by("ha1");
}

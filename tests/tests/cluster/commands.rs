//! Hooks and the fence command.

use std::fs;

use lb_api::events::Record;
use lb_lab::cluster::VIP;

use crate::harness::*;

#[test]
fn hooks_are_told_what_happened() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    let hook = script(
        folder.path(),
        "hook",
        &format!(
            "echo \"$LB_NODE $LB_GROUP $LB_PREVIOUS_ROLE $LB_ROLE $LB_VIPS: $LB_CAUSE\" >> {}",
            told.display()
        ),
    );
    let cluster = format!("  hooks: {{ active: [{hook}], standby: [{hook}], fault: [{hook}] }}");
    let cluster = Cluster::start("hooks", &Plan { cluster, ..Plan::default() });
    let has_told =
        |line: &str| fs::read_to_string(&told).unwrap_or_default().lines().any(|told| told == line);
    wait_for("ha2 standby", || has_told("ha2 web fault standby 211.58.250.6: ready"));
    cluster.directors[0].kill().expect("it dies");
    wait_for("ha2 active", || has_told("ha2 web standby active 211.58.250.6: node ha1 is dead"));
    let all = fs::read_to_string(&told).expect("told");
    assert!(!all.contains(" fault 211"), "nothing was wrong with either: {all}");
}

#[test]
fn a_dead_node_is_fenced_before_its_group_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let permission = folder.path().join("permission");
    let fence = script(
        folder.path(),
        "fence",
        &format!("echo fencing $LB_DEAD_NODE for $LB_GROUP; sleep 0.5; test -e {}", permission.display()),
    );
    let cluster = format!("  fence: {{ command: [{fence}], timeout: 5s }}");
    let cluster = Cluster::start("fence", &Plan { cluster, ..Plan::default() });
    let ha2 = &cluster.directors[1];
    // At the start ha1, which did not hear ha2 yet, has waited for a fence too, and ha2 may have
    // been first.
    let at_start = ha2.takes(VIP).expect("events");
    cluster.directors[0].kill().expect("it dies");
    wait_for("the fence to have failed twice", || {
        let failed = |event: &Record| event.cause_id.as_deref() == Some("takeover_failed");
        count_events(ha2, "fencing_failed", about("ha1")) >= 2
            && count_events(ha2, "role_changed", failed) >= 2
    });
    assert_eq!(ha2.takes(VIP).expect("events"), at_start, "taken although the fence failed");
    fs::write(&permission, "").expect("a file");
    cluster.wait_until_held_by("ha2");
    cluster.holder_answers_alone(ha2.node(), VIP);
}

#[test]
fn a_node_that_had_two_groups_is_fenced_once_each_time_it_dies() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    let fence =
        script(folder.path(), "fence", &format!("echo $LB_DEAD_NODE >> {}; sleep 0.2", told.display()));
    let groups =
        "groups: [{ name: web, vips: [211.58.250.6/25] }, { name: second, vips: [211.58.250.8/25] }]";
    let cluster = format!("  fence: {{ command: [{fence}], timeout: 5s }}");
    let mut cluster = Cluster::start("fenceonce", &Plan { groups, cluster, ..Plan::default() });
    let fenced = || fs::read_to_string(&told).unwrap_or_default().matches("ha1").count();
    // At the start the two may not have heard each other in time.
    let mut expected = fenced();
    for _ in 0..2 {
        cluster.directors[0].kill().expect("it dies");
        cluster.wait_until_held_by("ha2");
        expected += 1;
        assert_eq!(fenced(), expected);
        cluster.directors[0].restart().expect("it starts");
        cluster.wait_until_held_by("ha1");
    }
}

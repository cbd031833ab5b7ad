//! What lies on the machine: key files, the configuration, the BPF file system.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;
use lb_api::events::Record;
use lb_api::status::Status;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Director, unique_name};
use lb_lab::scenario::open_loop::Outage;
use lb_lab::scenario::traffic::Answer;

use crate::harness::*;

#[test]
fn keys_are_changed_without_a_stop() {
    let cluster = Cluster::start("keys", &Plan::default());
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let steps = [
        ("both accept the new key", format!("{OLD_KEY}{NEW_KEY}sign 1\n")),
        ("both sign with it", format!("{OLD_KEY}{NEW_KEY}sign 2\n")),
        ("the old one is gone", NEW_KEY.to_owned()),
    ];
    let outage = Outage::during(&cluster.talk.client, Answer::SERVERS, || {
        for (done, (step, keys)) in steps.iter().enumerate() {
            for director in [ha1, ha2] {
                write_keys(director.node(), keys);
                director.wait_for_events("keys_reloaded", done + 1, PATIENCE, |_| true).context(*step)?;
            }
        }
        Ok(())
    });
    assert_eq!(outage.expect("the client can ask").failed(), 0);
    cluster.wait_until_held_by("ha1");
    assert_eq!(ha2.takes(VIP).expect("events"), 0, "ha2 has taken the VIP in between");

    // The check of the check: with another key the two are strangers, and say why.
    write_keys(ha2.node(), OLD_KEY);
    let unknown = |event: &Record| event.cause.as_deref() == Some("unknown_key");
    wait_for_event(ha1, "message_dropped", unknown);
    wait_for_event(ha2, "node_dead", about("ha1"));
    write_keys(ha2.node(), NEW_KEY);
    cluster.wait_until_held_by("ha1");
    cluster.holder_answers_alone(ha1.node(), VIP);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let talk = Talk::new(&unique_name("keymode")).expect("the cluster comes up");
    write_keys(&talk.ha1, OLD_KEY);
    fs::set_permissions(key_file(&talk.ha1), fs::Permissions::from_mode(0o644)).expect("chmod");
    let started = Director::start(&talk.ha1, &Plan::default().configuration(&talk.ha1));
    let error = Director::refusal(started).expect("lb must not start");
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn without_a_bpf_file_system_a_cluster_does_not_start() {
    let talk = Talk::new(&unique_name("nobpffs")).expect("the cluster comes up");
    write_keys(&talk.ha1, OLD_KEY);
    let started = Director::start_without_bpffs(&talk.ha1, &Plan::default().configuration(&talk.ha1));
    let error = Director::refusal(started).expect("lb must not start");
    assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    let link = talk.ha1.ip("link show dev eth0").expect("ip works");
    assert!(!link.contains("xdp"), "a program is left behind: {link}");
}

#[test]
fn different_configurations_are_told_on_both_sides() {
    let plan = Plan::default();
    let cluster = Cluster::start("differs", &plan);
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let same = plan.configuration(ha2.node());
    ha2.reconfigure(&same.replace("scheduler: rr", "scheduler: wlc")).expect("a new file");
    wait_for_event(ha1, "config_differs", about("ha2"));
    wait_for_event(ha2, "config_differs", about("ha1"));
    let shown = ha1.status().expect("a status").cluster.expect("a cluster");
    let agrees = shown.nodes.iter().find(|node| node.name == "ha2").map(|node| node.config_agrees);
    assert_eq!(agrees, Some(false), "{shown:?}");
    ha2.reconfigure(&same).expect("the old file");
    wait_for_event(ha1, "config_agrees", about("ha2"));
    wait_for_event(ha2, "config_agrees", about("ha1"));
    cluster.wait_until_held_by("ha1");
}

#[test]
fn b10_keys_that_differ_are_told_in_words_and_once() {
    let cluster = Cluster::start("twokeys", &Plan::default());
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    // The same id, another key.
    write_keys(ha2.node(), &NEW_KEY.replacen('2', "1", 1));
    for (director, other) in [(ha1, "ha2"), (ha2, "ha1")] {
        let told = director.wait_until("the other's key to be named", PATIENCE, |status| {
            status.finding("key_mismatch").is_some_and(|finding| {
                finding.text.starts_with(&format!("messages from {other} are signed with another key"))
                    && finding.mend.contains("copy ")
            })
        });
        told.unwrap_or_else(|error| panic!("{error:#}"));
    }
    // Both are active and announce by turns, which each says once and not each second.
    for director in [ha1, ha2] {
        let claimed = |status: &Status| status.finding("vip_claimed").is_some();
        director.wait_until("the other's announcements to be seen", PATIENCE, claimed).expect("they are");
    }
    sleep(Duration::from_secs(5));
    for director in [ha1, ha2] {
        // By what somebody announces; one that a node's heartbeat shows names that node.
        let by_announcement = count_events(director, "split_brain", |event| event.node.is_none());
        assert!(by_announcement <= 1, "{}", director.log_tail());
        let mismatch = |event: &Record| event.finding.as_deref() == Some("key_mismatch");
        assert_eq!(count_events(director, "finding", mismatch), 1, "{}", director.log_tail());
    }
    write_keys(ha2.node(), OLD_KEY);
    cluster.wait_until_held_by("ha1");
    for director in [ha1, ha2] {
        let over = |status: &Status| status.finding("key_mismatch").is_none();
        director.wait_until("the finding to end", PATIENCE, over).expect("it ends");
    }
}

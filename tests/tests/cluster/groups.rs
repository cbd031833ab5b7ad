//! Groups that are added, removed and renamed by reload, on one director after the other, under
//! traffic.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_api::events::Record;
use lb_api::status::Status;
use lb_lab::busy::measured;
use lb_lab::cluster::VIP;
use lb_lab::lab::Director;
use lb_lab::scenario::open_loop::Outage;
use lb_lab::scenario::traffic::Answer;

use crate::harness::*;

const MAIL: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 8);

/// In front of the group that was there before, and preferring the other node.
const TWO_GROUPS: &str = "groups: [{ name: mail, vips: [211.58.250.8/25], nodes: [ha2, ha1] }, { name: web, vips: [211.58.250.6/25] }]";
const RENAMED: &str = "groups: [{ name: www, vips: [211.58.250.6/25] }]";
const MAIL_SERVICE: &str = "  - vip: 211.58.250.8:80\n    servers: [{ address: 211.58.250.25 }]\n";

fn holder<'a>(status: &'a Status, group: &str) -> Option<&'a str> {
    status.group(group)?.holder.as_deref()
}

#[track_caller]
fn wait_until(director: &Director, what: &str, holds: impl Fn(&Status) -> bool) {
    if let Err(error) = director.wait_until(what, PATIENCE, holds) {
        panic!("{}: {error:#}\n{}", director.node().name(), director.log_tail());
    }
}

#[test]
fn a6_groups_come_and_go_by_reload_on_one_director_after_the_other() {
    measured("groups that come and go", come_and_go).unwrap_or_else(|error| panic!("{error:#}"));
}

/// The client waits for an answer as long as it does on a calm machine.
fn come_and_go() -> Result<()> {
    let one = Plan::default();
    let two = Plan { groups: TWO_GROUPS, services: MAIL_SERVICE, ..Plan::default() };
    let cluster = Cluster::start("groups", &one);
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    cluster.talk.www1.node().hold_vip(MAIL).expect("the server holds the second VIP");
    let client = &cluster.talk.client;
    let url = format!("http://{MAIL}/index.html");

    let is_mail = |event: &Record| event.group.as_deref() == Some("mail");
    let outage = Outage::during(client, Answer::SERVERS, || {
        ha1.reconfigure(&two.configuration(ha1.node()))?;
        // Only one knows it: that one takes it, whoever is preferred.
        wait_until(ha1, "mail on ha1", |status| holder(status, "mail") == Some("ha1"));
        wait_until(ha2, "ha2 without mail", |status| status.group("mail").is_none());
        cluster.holder_answers_alone(ha1.node(), MAIL);
        client.get(&url)?;

        ha2.reconfigure(&two.configuration(ha2.node()))?;
        for director in [ha1, ha2] {
            wait_until(director, "mail on ha2, which is preferred", |status| {
                holder(status, "mail") == Some("ha2") && holder(status, "web") == Some("ha1")
            });
        }
        cluster.holder_answers_alone(ha2.node(), MAIL);
        client.get(&url)?;
        wait_for_event(ha1, "config_agrees", about("ha2"));

        // The one that has it forgets it first, and the other takes it over until it forgets it
        // too.
        ha2.reconfigure(&one.configuration(ha2.node()))?;
        wait_for_event(ha2, "group_removed", is_mail);
        wait_until(ha1, "mail on ha1 again", |status| holder(status, "mail") == Some("ha1"));
        wait_until(ha2, "ha2 without mail again", |status| status.group("mail").is_none());
        cluster.holder_answers_alone(ha1.node(), MAIL);
        client.get(&url)?;
        ha1.reconfigure(&one.configuration(ha1.node()))?;
        wait_for_event(ha1, "group_removed", is_mail);
        Ok(())
    });
    let outage = outage?;
    ensure!(outage.failed() == 0, "of the group that was there all the time: {outage:?}");
    assert_eq!(ha2.takes(VIP).expect("events"), 0, "the other group has not moved");
    assert_eq!(client.who_has(MAIL).expect("arping works").len(), 0, "nobody answers for what is gone");
    for director in [ha1, ha2] {
        let addresses = director.node().ip("-oneline address show dev eth0").expect("ip works");
        assert!(!addresses.contains(" 211.58.250.8/"), "{addresses}");
    }
    cluster.wait_until_held_by("ha1");
    Ok(())
}

#[test]
fn a6_a_vip_that_would_change_its_group_is_refused_in_words() {
    let plan = Plan::default();
    let cluster = Cluster::start("renamed", &plan);
    let ha1 = &cluster.directors[0];
    let renamed = Plan { groups: RENAMED, ..Plan::default() };
    ha1.reconfigure(&renamed.configuration(ha1.node())).expect("a new file");
    wait_for_event(ha1, "config_refused", |_| true);
    assert!(ha1.status().expect("a status").config_error.is_some());
    sleep(Duration::from_secs(1));
    cluster.wait_until_held_by("ha1");
    cluster.holder_answers_alone(ha1.node(), VIP);
    ha1.reconfigure(&plan.configuration(ha1.node())).expect("the old file");
    wait_until(ha1, "the complaint to end", |status| status.config_error.is_none());
}

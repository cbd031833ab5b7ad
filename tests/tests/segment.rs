//! Others on the segment that answer for a VIP, around a director that is alone.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lb_api::events::Record;
use lb_api::status::FindingStatus;
use lb_lab::busy::measured;
use lb_lab::cluster::{Talk, URL, VIP};
use lb_lab::lab::{Director, unique_name};
use lb_lab::scenario::traffic::{Answer, Spread};

/// A question every ten seconds, and three without an answer end a finding.
const PATIENCE: Duration = Duration::from_secs(90);

fn started(talk: &Talk) -> Director {
    let director = talk.start_director().expect("lb starts on ha1");
    let ready = director
        .wait_until("both servers up", PATIENCE, |status| status.serves("www1") && status.serves("www2"));
    ready.expect("both servers come up");
    director
}

fn start(purpose: &str) -> (Talk, Director) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let director = started(&talk);
    (talk, director)
}

#[track_caller]
fn wait_for_finding(director: &Director, id: &str) -> FindingStatus {
    let status = director.wait_until(id, PATIENCE, |status| status.finding(id).is_some());
    status.expect("it is found").finding(id).cloned().expect("it was there")
}

#[track_caller]
fn wait_for_end(director: &Director, id: &str) {
    let over = director.wait_until("the end of it", PATIENCE, |status| status.finding(id).is_none());
    over.expect("the finding ends");
}

fn metric(talk: &Talk, name: &str) -> Option<f64> {
    let page = talk.ha1.get("http://127.0.0.1:9105/metrics").expect("the metrics");
    let line = page.lines().find(|line| line.starts_with(name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// The classic mistake of direct routing. Its answers are unicast: only who asks hears of them, so
/// the director asks.
#[test]
fn b1_a_real_server_that_answers_arp_for_the_vip_is_named_with_the_mend() {
    const METRIC: &str = "lb_finding{finding=\"vip_claimed\",";
    let (talk, director) = start("b1arp");
    assert_eq!(metric(&talk, METRIC), Some(0.0));
    let www1 = talk.www1.node();
    www1.answer_arp_for_all().expect("sysctl");
    let found = wait_for_finding(&director, "vip_claimed");
    let text = format!("real server www1 (211.58.250.25, MAC {}) answers ARP for VIP {VIP}", www1.mac());
    assert!(found.text.starts_with(&text), "{found:?}");
    assert!(found.mend.contains("net.ipv4.conf.all.arp_ignore=1"), "{found:?}");
    assert_eq!(metric(&talk, METRIC), Some(1.0));
    assert!(director.listing().expect("a listing").contains("ERROR vip_claimed"));
    let begun = |event: &Record| event.finding.as_deref() == Some("vip_claimed");
    let event = director.wait_for_event("finding", PATIENCE, begun).expect("its beginning is an event");
    assert!(event.text.starts_with(&found.text), "{event:?}");

    www1.answer_arp_for_own().expect("sysctl");
    wait_for_end(&director, "vip_claimed");
    assert_eq!(metric(&talk, METRIC), Some(0.0));
}

#[test]
fn b1_a_server_that_announces_the_vip_misleads_clients_for_a_moment_only() {
    let (talk, director) = start("b1announce");
    let client = &talk.client;
    client.get(URL).expect("the VIP serves");
    let www1 = talk.www1.node();
    let told = measured("clients are told where the VIP is", || {
        let announce = ["-A", "-c", "1", "-I", "eth0", "211.58.250.6"];
        let output = www1.command("arping").args(announce).output()?;
        ensure!(String::from_utf8_lossy(&output.stdout).contains("ARPING"), "{output:?}");
        let announced = Instant::now();
        while !client.ip("neighbour show 211.58.250.6")?.contains(&talk.ha1.mac()) {
            ensure!(announced.elapsed() < Duration::from_millis(500), "the client is not told better");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    told.unwrap_or_else(|error| panic!("{error:#}"));
    wait_for_finding(&director, "vip_claimed");
    let spread = Spread::of_requests(client, 4);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (2, 2), "the director serves again");
}

fn one_mac_answers(talk: &Talk) {
    let answers = talk.client.who_has(VIP).expect("arping works");
    assert_eq!(Vec::from_iter(answers), [talk.ha1.mac()], "who answers for {VIP}");
}

#[test]
fn b2_a_second_interface_on_the_segment_never_answers_for_the_vip() {
    let talk = Talk::new(&unique_name("b2start")).expect("the cluster comes up");
    talk.ha1.plug_into_shared_segment("eth1").expect("a cable");
    let director = started(&talk);
    one_mac_answers(&talk);
    let spread = Spread::of_requests(&talk.client, 6);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (3, 3));
    director.kill().expect("it ends");
    one_mac_answers(&talk);
}

#[test]
fn b2_a_second_interface_that_joins_the_segment_is_found_and_kept_from_answering() {
    let (talk, director) = start("b2later");
    one_mac_answers(&talk);
    let soon = measured("one that joins is kept from answering", || {
        talk.ha1.sysctl("net/ipv4/conf/eth1/arp_ignore", "0")?;
        talk.ha1.plug_into_shared_segment("eth1")?;
        thread::sleep(Duration::from_millis(1500));
        let answers = talk.client.who_has(VIP)?;
        talk.ha1.plug_into_heartbeat_segment("eth1")?;
        ensure!(answers == BTreeSet::from([talk.ha1.mac()]), "after a second and a half: {answers:?}");
        Ok(())
    });
    soon.unwrap_or_else(|error| panic!("{error:#}"));
    let found = wait_for_finding(&director, "vip_on_other_interface");
    assert!(
        found.text.starts_with("interface eth1 of this host is on the same segment as eth0"),
        "{found:?}"
    );
    assert!(found.mend.contains("lb has set net.ipv4.conf.eth1.arp_ignore=1"), "{found:?}");
    one_mac_answers(&talk);
    wait_for_end(&director, "vip_on_other_interface");
    one_mac_answers(&talk);
}

//! What the operator of the director's host meets: a container's veth that loses what the program
//! sends, checksums that were left to hardware, a firewall that sees nothing.

use std::time::{Duration, Instant};

use anyhow::ensure;
use lb_api::events::Level;
use lb_lab::busy::measured;
use lb_lab::cluster::{Talk, URL, VIP};
use lb_lab::lab::{Director, unique_name};
use lb_lab::scenario::traffic::{Answer, Spread};
use nix::sys::signal::Signal;

/// How long a check, a reload or a look at the interface may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The talk's service without a fallback, with these lines beside `interface`.
fn configuration(lines: &str) -> String {
    format!(
        "\
interface: eth0
{lines}
metrics: off
groups: [{{ vips: [{VIP}/25] }}]
services:
  - name: web
    vip: {VIP}:80
    scheduler: rr
    check: {{ type: http, request: /index.html, receive: Test Page, interval: 300ms, timeout: 3s }}
    servers: [{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: 211.58.250.27 }}]
"
    )
}

/// A director on ha1, and both servers up.
fn start(talk: &Talk, lines: &str) -> Director {
    let director = Director::start(&talk.ha1, &configuration(lines)).expect("lb starts on ha1");
    director
        .wait_until("both servers up", PATIENCE, |status| status.serves("www1") && status.serves("www2"))
        .expect("both servers come up");
    director
}

fn assert_served(talk: &Talk) {
    let spread = Spread::of_requests(&talk.client, 4);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (2, 2), "{spread:?}");
}

#[test]
fn b3_a_plain_veth_is_served_at_once() {
    let talk = Talk::new(&unique_name("plain")).expect("the cluster comes up");
    talk.ha1.make_plain_veth().expect("ip works");
    let director = start(&talk, "");
    let status = director.status().expect("a status");
    assert_eq!((status.mode.as_str(), status.findings.len()), ("generic", 0), "{status:?}");
    assert_served(&talk);
    director.wait_for_events("veth_without_program", 1, PATIENCE, |_| true).expect("a warning");
}

/// Ping and checks work all the while.
#[test]
fn b3_native_mode_on_a_plain_veth_is_told_of_with_the_frames_it_lost() {
    let talk = Talk::new(&unique_name("lost")).expect("the cluster comes up");
    talk.ha1.make_plain_veth().expect("ip works");
    let director = start(&talk, "xdp_mode: native");
    assert_eq!(director.status().expect("a status").mode, "native");
    talk.client.get(URL).expect_err("nothing gets through");
    let status = director
        .wait_until("a finding that counts the frames", PATIENCE, |status| {
            status.finding("frames_lost").is_some_and(|finding| finding.text.contains("xdp_tx_errors"))
        })
        .expect("lb counts what is lost");
    let finding = status.finding("frames_lost").expect("just seen");
    assert_eq!((finding.subject.as_str(), finding.level), ("eth0", Level::Error));
    assert!(finding.text.contains("the far end of the veth eth0 has no XDP program"), "{}", finding.text);
    assert!(finding.mend.contains("xdp_mode: auto"), "{}", finding.mend);

    director.reconfigure(&configuration("xdp_mode: auto")).expect("the file is written");
    director
        .wait_until("generic mode without a finding", PATIENCE, |status| {
            status.mode == "generic" && status.finding("frames_lost").is_none()
        })
        .expect("a reload changes the mode");
    assert_served(&talk);
}

#[test]
fn b3_a_veth_that_loses_frames_later_is_told_of_within_a_second() {
    let talk = Talk::new(&unique_name("later")).expect("the cluster comes up");
    let director = start(&talk, "xdp_mode: native");
    assert_served(&talk);
    let told = measured("frames that get lost are told of", || {
        director.wait_until("no finding", PATIENCE, |status| status.findings.is_empty())?;
        let begun = Instant::now();
        talk.ha1.make_plain_veth()?;
        director.wait_until("the finding", PATIENCE, |status| status.finding("frames_lost").is_some())?;
        let took = begun.elapsed();
        talk.ha1.undo_plain_veth()?;
        ensure!(took < Duration::from_secs(1), "told of after {took:?}");
        Ok(())
    });
    told.unwrap_or_else(|error| panic!("{error:#}"));
}

/// With auto it goes over to generic mode by itself, and says so.
#[test]
fn b3_auto_goes_over_to_generic_mode_when_the_far_end_loses_its_program() {
    let talk = Talk::new(&unique_name("auto")).expect("the cluster comes up");
    let mut director = start(&talk, "xdp_mode: auto");
    assert_eq!(director.status().expect("a status").mode, "native");
    assert_served(&talk);
    talk.ha1.make_plain_veth().expect("ip works");
    director
        .wait_until("generic mode", PATIENCE, |status| status.mode == "generic")
        .expect("the mode changes");
    assert_served(&talk);
    let changed = director.wait_for_events("xdp_mode", 1, PATIENCE, |_| true).expect("an event");
    assert_eq!((changed.from.as_deref(), changed.to.as_deref()), (Some("native"), Some("generic")));
    let events = director.events().expect("events");
    assert!(!events.iter().any(|event| event.event == "config_reloaded"), "it did so by itself: {events:?}");
    // What outlives the process has gone over too.
    director.kill().expect("lb is killed");
    director.restart().expect("lb starts again");
    director.wait_for_events("taken_over", 1, PATIENCE, |_| true).expect("connections go on");
    director.order(&["stop", "--release"]).expect("lb stops");
    let left = talk.ha1.ip("-details link show dev eth0").expect("ip works");
    assert!(!left.contains("prog/xdp"), "{left}");
}

/// The client's host is a container of the same machine: nobody finishes its checksums. Only the
/// program's far end makes native mode possible here, see the lab's switch.
#[test]
fn b4_checksums_that_were_left_to_hardware_are_told_of_with_client_and_mend() {
    let talk = Talk::new(&unique_name("offload")).expect("the cluster comes up");
    let director = start(&talk, "");
    assert_served(&talk);
    assert_eq!(director.status().expect("a status").mode, "native");
    talk.client.set_checksum_offload(true).expect("ethtool works");
    talk.client.get(URL).expect_err("servers drop what the client sends");
    let status = director
        .wait_until("the finding", PATIENCE, |status| status.finding("checksums_unfinished").is_some())
        .expect("lb sees it");
    let finding = status.finding("checksums_unfinished").expect("just seen");
    assert_eq!((finding.subject.as_str(), finding.level), ("211.58.250.100", Level::Error));
    assert!(
        finding.mend.contains("xdp_mode: generic") && finding.mend.contains("tx off"),
        "{}",
        finding.mend
    );

    // The mend that it names.
    director.reconfigure(&configuration("xdp_mode: generic")).expect("the file is written");
    let status = director
        .wait_until("generic mode", PATIENCE, |status| status.mode == "generic")
        .expect("a reload changes the mode");
    assert!(status.finding("checksums_unfinished").is_none(), "{status:?}");
    assert_served(&talk);
    assert!(director.status().expect("a status").finding("checksums_unfinished").is_none());
}

/// The other mend: the far end, a port of the host's bridge, has the kernel finish the checksums.
#[test]
fn b4_the_far_end_can_finish_checksums_for_native_mode() {
    let talk = Talk::new(&unique_name("finish")).expect("the cluster comes up");
    let director = start(&talk, "");
    talk.client.set_checksum_offload(true).expect("ethtool works");
    talk.ha1.finish_checksums_at_far_end().expect("ethtool works");
    assert_served(&talk);
    let status = director.status().expect("a status");
    assert_eq!((status.mode.as_str(), status.findings.len()), ("native", 0), "{status:?}");
}

/// As in docker's default network: a plain veth, and nobody has touched an offload.
#[test]
fn b4_containers_with_their_offloads_on_are_served_by_auto() {
    let talk = Talk::new(&unique_name("docker")).expect("the cluster comes up");
    talk.ha1.make_plain_veth().expect("ip works");
    for node in [&talk.client, &talk.ha1, talk.www1.node(), talk.www2.node()] {
        node.set_checksum_offload(true).expect("ethtool works");
    }
    let director = start(&talk, "");
    assert_served(&talk);
    assert!(director.status().expect("a status").findings.is_empty());
}

#[test]
fn b9_rules_of_the_hosts_firewall_about_a_vip_are_told_of() {
    let talk = Talk::new(&unique_name("firewall")).expect("the cluster comes up");
    let rules = |rule: &str| {
        let client = talk.client.address();
        let table = format!(
            "table inet lab {{ chain input {{ type filter hook input priority 0; \
             ip daddr {VIP} tcp dport 22 drop; ip saddr {client} tcp dport 8080 drop; {rule} }}; }}"
        );
        talk.ha1.nft(&format!("add table inet lab; delete table inet lab; {table}")).expect("nft works");
    };
    rules("counter;");
    let director = start(&talk, "");
    assert_served(&talk);
    assert!(
        director.status().expect("a status").finding("firewall_bypassed").is_none(),
        "none is about the service"
    );

    rules(&format!("ip saddr {} ip daddr {VIP} drop;", talk.client.address()));
    director.process().signal(Signal::SIGHUP);
    let status = director
        .wait_until("the finding", PATIENCE, |status| status.finding("firewall_bypassed").is_some())
        .expect("lb sees the rule");
    let finding = status.finding("firewall_bypassed").expect("just seen");
    assert_eq!((finding.subject.as_str(), finding.level), ("211.58.250.6", Level::Warning));
    assert!(
        finding.text.contains("a rule about VIP 211.58.250.6")
            && finding.text.contains("table inet lab, chain input")
    );
    assert_served(&talk); // which is what the finding says

    rules("ip6 daddr fd00::/64 tcp dport 80 drop;");
    let text = std::fs::read_to_string(director.configuration().expect("a file")).expect("readable");
    let six = "services:\n  - { vip: '[fd00::6]:80', servers: [{ address: 211.58.250.25 }] }\n";
    director.reconfigure(&text.replace("services:\n", six)).expect("a new file");
    let of_ipv6 = director.wait_until("the finding of IPv6", PATIENCE, |status| {
        status.finding("firewall_bypassed").is_some_and(|finding| finding.subject == "fd00::6")
    });
    of_ipv6.expect("lb sees that rule");

    rules("counter;");
    director.process().signal(Signal::SIGHUP);
    director
        .wait_until("no finding", PATIENCE, |status| status.finding("firewall_bypassed").is_none())
        .expect("lb sees that the rule is gone");
}

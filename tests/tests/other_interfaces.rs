//! Servers that packets do not leave to as they have come, with real clients: behind another
//! interface, over a restart and while that interface goes and comes back; and in a VLAN of their
//! own.

use lb_api::status::Status;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Director, Link, VlanEnd, unique_name};
use lb_lab::scenario::traffic::{Answer, Spread};

const CHECK: &str = "{ type: http, request: /index.html, receive: Test Page, interval: 300ms, timeout: 1s }";

fn configuration(servers: &str) -> String {
    format!(
        "\
interface: eth0
metrics: off
groups: [{{ vips: [{VIP}/25] }}]
services:
  - {{ name: web, vip: '{VIP}:80', scheduler: rr, check: {CHECK}, servers: {servers} }}
"
    )
}

fn both_serve(status: &Status) -> bool {
    status.serves("www1") && status.serves("www2")
}

#[track_caller]
fn assert_both_serve(talk: &Talk) {
    let spread = Spread::of_requests(&talk.client, 6);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (3, 3), "{spread:?}");
}

#[test]
fn a_server_behind_another_interface_serves() {
    let talk = Talk::new(&unique_name("otherif")).expect("the cluster comes up");
    let (ha1, www2) = (&talk.ha1, talk.www2.node());
    talk.lab
        .join_heartbeat_segment(www2, "10.0.0.27/24".parse().expect("a prefix"))
        .expect("a second interface");
    // Found by the host's own networks, without a word in the file.
    let servers = "[{ name: www1, address: 211.58.250.25 }, { name: www2, address: 10.0.0.27 }]";
    let mut director = Director::start(ha1, &configuration(servers)).expect("lb starts");
    wait_for(&director, "both serve", both_serve);
    assert_eq!(director.status().expect("a status").mode, "native");
    assert_both_serve(&talk);
    for kill in [false, true] {
        if kill { director.kill() } else { director.stop() }.expect("lb ends");
        if kill {
            assert_both_serve(&talk);
        }
        director.restart().expect("lb starts again");
        wait_for(&director, "both serve", both_serve);
        assert_both_serve(&talk);
    }
    // Named, and by another address of the same machine's.
    director
        .reconfigure(&configuration(&servers.replace("10.0.0.27", "10.0.0.27, interface: eth1")))
        .expect("a new file");
    ha1.set_link("eth1", Link::Down).expect("ip works");
    wait_for(&director, "the interface is down", |status| {
        let found = status.findings.iter().find(|finding| finding.finding == "interface_unusable");
        found.is_some_and(|found| found.text == "no packets get to www2: eth1 is down")
            && !status.serves("www2")
    });
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www1), 4, "clients notice nothing");
    ha1.set_link("eth1", Link::Up).expect("ip works");
    wait_for(&director, "www2 is back", |status| both_serve(status) && status.findings.is_empty());
    assert_both_serve(&talk);
    // A driver that takes nothing is told of; the kernel's own stack needs none that does.
    ha1.make_plain_veth_of("eth1").expect("the far end loses its program");
    wait_for(&director, "what is redirected gets lost", |status| {
        let found = status.findings.iter().find(|finding| finding.finding == "redirects_lost");
        found.is_some_and(|found| found.text.starts_with("the far end of the veth eth1 has no XDP program"))
    });
    let generic = configuration(servers).replace("metrics: off", "metrics: off\nxdp_mode: generic");
    director.reconfigure(&generic).expect("a new file");
    wait_for(&director, "generic mode", |status| status.mode == "generic" && both_serve(status));
    assert_both_serve(&talk);
}

/// www1 takes nothing but what has its tag.
#[test]
fn a_server_in_a_vlan_of_its_own_serves() {
    let talk = Talk::new(&unique_name("vlan")).expect("the cluster comes up");
    let end = VlanEnd::start(talk.www1.node(), 120).expect("the end of a VLAN");
    let servers =
        "[{ name: www1, address: 211.58.250.25, vlan: 120 }, { name: www2, address: 211.58.250.27 }]";
    let mut director = Director::start(&talk.ha1, &configuration(servers)).expect("lb starts");
    wait_for(&director, "both serve", both_serve);
    assert_eq!(end.packets(), 0);
    assert_both_serve(&talk);
    assert!(end.packets() > 3 * 4, "{} packets of the VLAN", end.packets());
    director.kill().expect("lb ends");
    director.restart().expect("lb starts again");
    assert_both_serve(&talk);
    // Clients do not come from the VLAN that the service is said to have them in.
    let elsewhere = configuration(servers).replace("name: web,", "name: web, vlan: 7,");
    director.reconfigure(&elsewhere).expect("a new file");
    let refused = || director.status().expect("a status").dropped("foreign_vlan");
    let before = end.packets();
    wait_for(&director, "packets of another VLAN are dropped", |_| {
        let _ = talk.client.get(&format!("http://{VIP}/index.html"));
        refused() > 3
    });
    let after = end.packets();
    let _ = talk.client.get(&format!("http://{VIP}/index.html"));
    assert_eq!(end.packets(), after, "none gets into the VLAN ({before} before)");
}

//! Clients that come in by two interfaces, with VIPs in the networks of both: real clients, over
//! restarts, while one of the interfaces goes and comes back, and to the end.

use std::net::Ipv4Addr;

use lb_api::status::Status;
use lb_lab::cluster::pair::{PATIENCE, Pair, Settings};
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Director, Node, Prefix, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;
use lb_lab::scenario::traffic::{Answer, Spread};

/// The VIP in the network of eth1.
const OTHER_VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);

const CHECK: &str = "{ type: http, request: /index.html, receive: Test Page, interval: 300ms, timeout: 1s }";

/// Through the VIP: to www1 by eth0, to www2 by eth1.
const VIA_VIP: &str =
    "{ type: http, via: vip, request: /index.html, receive: Test Page, interval: 300ms, timeout: 1s }";

/// With www1 behind eth0, and www2 behind eth0 and eth1.
fn configuration(interfaces: &str, of_group: &str) -> String {
    format!(
        "\
{interfaces}
metrics: off
groups:
  - {{ name: here, vips: [{VIP}/25] }}
  - {{ name: there, vips: [{OTHER_VIP}/24]{of_group} }}
services:
  - {{ name: web, vip: '{VIP}:80', scheduler: rr, check: {CHECK}, servers: [{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: 211.58.250.27 }}] }}
  - {{ name: other, vip: '{OTHER_VIP}:80', scheduler: rr, check: {VIA_VIP}, servers: [{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: 10.0.0.27 }}] }}
"
    )
}

const BOTH: &str = "interfaces: [eth0, eth1]";
const ON_ETH1: &str = ", interface: eth1";

fn prefix(text: &str) -> Prefix {
    text.parse().expect("an address with its prefix length")
}

/// A client on eth1's network alone, which reaches that of eth0 by the director.
fn join(talk: &Talk) -> Node {
    let far = talk.lab.node("far", prefix("211.58.250.101/25")).expect("a node");
    far.ip("link set eth0 down").expect("it can");
    talk.lab.join_heartbeat_segment(&far, prefix("10.0.0.100/24")).expect("an eth1");
    far.ip("route add 211.58.250.0/25 via 10.0.0.5").expect("a route");
    for (server, address) in [(talk.www1.node(), "10.0.0.25/24"), (talk.www2.node(), "10.0.0.27/24")] {
        talk.lab.join_heartbeat_segment(server, prefix(address)).expect("an eth1");
        server.hold_vip(OTHER_VIP).expect("the server holds the VIP");
        // What comes in by eth0 is answered by eth1.
        for interface in ["all", "eth0", "eth1"] {
            server.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0").expect("it can be set");
        }
    }
    far
}

fn all_serve(status: &Status) -> bool {
    status.serves("www1") && status.serves("www2")
}

/// The client gets as many answers from either server.
#[track_caller]
fn assert_both_serve(client: &Node, vip: Ipv4Addr) {
    let answer = |_| client.get(&format!("http://{vip}/index.html"));
    let answers: Spread =
        (0..6).map(answer).map(|page| page.map_or(Answer::None, |page| Answer::of_page(&page))).collect();
    assert_eq!((answers.by(Answer::Www1), answers.by(Answer::Www2)), (3, 3), "{vip}: {answers}");
}

#[track_caller]
fn assert_all_are_served(talk: &Talk, far: &Node) {
    assert_both_serve(&talk.client, VIP);
    assert_both_serve(far, OTHER_VIP);
    // By eth1 to the VIP on eth0.
    assert_both_serve(far, VIP);
}

fn addresses(node: &Node, interface: &str) -> String {
    node.ip(&format!("-oneline address show dev {interface}")).expect("ip works")
}

fn has_program(node: &Node, interface: &str) -> bool {
    node.ip(&format!("link show dev {interface}")).expect("ip works").contains("xdp")
}

#[test]
fn clients_are_served_by_either_interface() {
    let talk = Talk::new(&unique_name("uplinks")).expect("the cluster comes up");
    let (far, ha1) = (join(&talk), &talk.ha1);
    let mut director = Director::start(ha1, &configuration(BOTH, ON_ETH1)).expect("lb starts");
    wait_for(&director, "all serve", all_serve);
    let status = director.status().expect("a status");
    let others = status.other_interfaces.iter().map(|other| (&*other.name, &*other.mode));
    assert_eq!((&*status.interface, &*status.mode), ("eth0", "native"));
    assert_eq!(Vec::from_iter(others), [("eth1", "native")]);
    assert!(status.findings.is_empty(), "{:?}", status.findings);
    // Each VIP is where its network is.
    for (interface, vip, other) in [("eth0", VIP, OTHER_VIP), ("eth1", OTHER_VIP, VIP)] {
        let shown = addresses(ha1, interface);
        assert!(shown.contains(&format!(" {vip}/")) && !shown.contains(&format!(" {other}/")), "{shown}");
    }
    assert_all_are_served(&talk, &far);
    let known = far.ip(&format!("neighbour show {OTHER_VIP}")).expect("ip works");
    assert!(known.contains("02:00:0a:00:00:05"), "eth1's MAC answers: {known}");

    for kill in [true, false] {
        if kill { director.kill() } else { director.stop() }.expect("lb ends");
        assert_all_are_served(&talk, &far);
        director.restart().expect("lb starts again");
        wait_for(&director, "all serve", all_serve);
        assert_all_are_served(&talk, &far);
    }

    // Without eth1 clients on eth0 notice nothing.
    ha1.ip("link delete eth1").expect("ip works");
    wait_for(&director, "eth1 is gone", |status| status.finding("ingress_gone").is_some());
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::None), 0);
    talk.lab.join_heartbeat_segment(ha1, prefix("10.0.0.5/24")).expect("an eth1");
    director.wait_for_logged("interface_back", 1, PATIENCE).expect("it begins anew");
    director.wait_for_logged("taken_over", 2, PATIENCE).expect("it goes on with the connections");
    director.wait_until_ready().expect("it answers");
    wait_for(&director, "eth1 is there again", |status| {
        status.findings.is_empty() && all_serve(status) && status.other_interfaces[0].mode == "native"
    });
    assert_all_are_served(&talk, &far);

    director.stop().expect("lb ends");
    director.release().expect("lb ends for good");
    for interface in ["eth0", "eth1"] {
        assert!(!has_program(ha1, interface), "no program is left on {interface}");
        let shown = addresses(ha1, interface);
        assert!(
            !shown.contains(&format!(" {VIP}/")) && !shown.contains(&format!(" {OTHER_VIP}/")),
            "{shown}"
        );
    }
}

/// The servers are in eth0's network, the VIP and its clients in that of eth1; the servers' way
/// back leads by the director.
#[test]
fn servers_behind_address_translation_answer_clients_of_the_other_interface() {
    let talk = Talk::new(&unique_name("masquplinks")).expect("the cluster comes up");
    let far = talk.lab.node("far", prefix("211.58.250.101/25")).expect("a node");
    far.ip("link set eth0 down").expect("it can");
    talk.lab.join_heartbeat_segment(&far, prefix("10.0.0.100/24")).expect("an eth1");
    for server in [talk.www1.node(), talk.www2.node()] {
        server.ip("route add 10.0.0.0/24 via 211.58.250.5").expect("a route");
    }
    let configuration = format!(
        "\
{BOTH}
metrics: off
groups:
  - {{ name: here, vips: [{VIP}/25] }}
  - {{ name: there, vips: [{OTHER_VIP}/24]{ON_ETH1} }}
services:
  - {{ name: web, vip: '{OTHER_VIP}:80', forward: masq, scheduler: rr, check: {CHECK}, servers: [{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: 211.58.250.27 }}] }}
"
    );
    let mut director = Director::start(&talk.ha1, &configuration).expect("lb starts");
    wait_for(&director, "all serve", all_serve);
    // The host's routes are copied a moment later.
    wait_for(&director, "answers find their way", |_| {
        far.get(&format!("http://{OTHER_VIP}/index.html")).is_ok()
    });
    assert_both_serve(&far, OTHER_VIP);
    for kill in [true, false] {
        if kill { director.kill() } else { director.stop() }.expect("lb ends");
        assert_both_serve(&far, OTHER_VIP);
        director.restart().expect("lb starts again");
        wait_for(&director, "all serve", all_serve);
        assert_both_serve(&far, OTHER_VIP);
    }
}

#[test]
fn an_interface_that_is_not_named_any_more_is_left_alone() {
    let talk = Talk::new(&unique_name("oneuplink")).expect("the cluster comes up");
    let (far, ha1) = (join(&talk), &talk.ha1);
    let mut director = Director::start(ha1, &configuration(BOTH, "")).expect("lb starts");
    // The second group's VIP is where nobody looks for it.
    wait_for(&director, "the VIP is misplaced", |status| {
        let found = status.findings.iter().find(|finding| finding.finding == "vip_misplaced");
        found.is_some_and(|found| {
            found.subject == OTHER_VIP.to_string() && found.mend.contains("interface: eth1")
        })
    });
    wait_for(&director, "all serve", all_serve);
    assert_both_serve(&far, VIP);
    director.stop().expect("lb ends");
    assert!(has_program(ha1, "eth1"), "it serves on");
    director.reconfigure(&configuration("interface: eth0", "")).expect("a new file");
    director.restart().expect("lb starts again");
    wait_for(&director, "all serve", all_serve);
    wait_for(&director, "eth1 is nobody's", |_| !has_program(ha1, "eth1"));
    assert_both_serve(&talk.client, VIP);
}

/// Both groups move to the other director, each on its own interface, and with them a connection
/// that was opened by eth1.
#[test]
fn two_directors_move_the_vips_of_both_interfaces() {
    let talk = Talk::new(&unique_name("uplinkpair")).expect("the cluster comes up");
    let far = join(&talk);
    let pair = Pair::start_with(&talk, Settings::DEFAULT, &configuration(BOTH, ON_ETH1)).expect("both run");
    let mut kept = KeptOpen::open_to(&far, OTHER_VIP);
    let page = kept.get();
    assert_all_are_served(&talk, &far);
    pair.ha1.failover().expect("ha1 gives its groups away");
    pair.wait_until_held_by("ha2").expect("ha2 has them");
    for (node, there) in [(&talk.ha1, false), (&talk.ha2, true)] {
        let shown = addresses(node, "eth1");
        assert_eq!(shown.contains(&format!(" {OTHER_VIP}/")), there, "{}: {shown}", node.name());
    }
    assert_both_serve(&talk.client, VIP);
    assert_both_serve(&far, OTHER_VIP);
    let known = far.ip(&format!("neighbour show {OTHER_VIP}")).expect("ip works");
    assert!(known.contains("02:00:0a:00:00:07"), "ha2's eth1 answers: {known}");
    assert_eq!(kept.get(), page, "the connection goes on");
}

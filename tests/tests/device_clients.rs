//! Interfaces that stand on others, with real clients: bridges, macvlan, VLAN devices, bonds and
//! teams, as far as the kernel has them. What `lb` says of each is tested without them, too
//! (`lb/src/device.rs`, `net/src/links`).

use lb_api::status::Status;
use lb_lab::cluster::pair::PATIENCE;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Director, Node, unique_name};
use lb_lab::scenario::traffic::{Answer, Spread};

const CHECK: &str = "{ type: http, request: /index.html, receive: Test Page, interval: 300ms, timeout: 1s }";

fn configuration(interface: &str) -> String {
    format!(
        "\
interface: {interface}
metrics: off
groups: [{{ vips: [{VIP}/25] }}]
services:
  - name: web
    vip: '{VIP}:80'
    scheduler: rr
    check: {CHECK}
    servers: [{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: 211.58.250.27 }}]
"
    )
}

/// Runs these commands of ip. `false`: the kernel has no such device, which is said.
fn make(node: &Node, kind: &str, commands: &[&str]) -> bool {
    let (first, rest) = commands.split_first().expect("the one that makes it");
    if let Err(error) = node.ip(first) {
        let unknown = format!("{error:#}").contains("Unknown device type");
        assert!(unknown, "ip {first}: {error:#}");
        println!("NOT RUN: this kernel has no devices of type {kind}");
        return false;
    }
    rest.iter()
        .for_each(|command| drop(node.ip(command).unwrap_or_else(|error| panic!("ip {command}: {error:#}"))));
    true
}

/// The node's address goes from eth0 to the device.
fn move_address(node: &Node, device: &str) {
    let address = format!("{}/25", node.address());
    for command in [
        "address flush dev eth0".to_owned(),
        format!("address add {address} dev {device}"),
        format!("link set {device} up"),
    ] {
        node.ip(&command).unwrap_or_else(|error| panic!("ip {command}: {error:#}"));
    }
}

/// Clients are served, over a kill, too; returns the status.
fn serve(talk: &Talk, interface: &str) -> Status {
    let mut director = Director::start(&talk.ha1, &configuration(interface)).expect("lb starts");
    let both = |status: &Status| status.serves("www1") && status.serves("www2");
    let wait = |director: &Director| {
        director.wait_until("both servers up", PATIENCE, both).unwrap_or_else(|error| {
            panic!("{interface}: {error:#}\n{}", director.log_tail());
        })
    };
    wait(&director);
    for kill in [false, true] {
        if kill {
            director.kill().expect("lb ends");
        }
        let spread = Spread::of_requests(&talk.client, 6);
        assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (3, 3), "{interface}: {spread}");
    }
    director.restart().expect("lb starts again");
    wait(&director);
    let told = |status: &Status| status.finding("interface_unsuited").is_some() || status.mode == "native";
    let status = director.wait_until("the interface was looked at", PATIENCE, told).expect("a status");
    director.stop().expect("lb ends");
    director.release().expect("nothing is left");
    status
}

/// What lb says that the interface is.
#[track_caller]
fn assert_unsuited(status: &Status, text: &str) {
    let found = status.finding("interface_unsuited").expect("a finding");
    assert!(found.text.starts_with(text), "{found:?}");
    assert_eq!(status.mode, "generic");
}

#[test]
fn a_bridge_serves_and_is_told_of() {
    let talk = Talk::new(&unique_name("bridge")).expect("the cluster comes up");
    let made = ["link add br0 type bridge", "link set eth0 master br0", "link set br0 up"];
    if make(&talk.ha1, "bridge", &made) {
        move_address(&talk.ha1, "br0");
        assert_unsuited(&serve(&talk, "br0"), "br0 is a bridge");
    }
}

#[test]
fn a_macvlan_serves_and_is_told_of() {
    let talk = Talk::new(&unique_name("macvlan")).expect("the cluster comes up");
    if make(&talk.ha1, "macvlan", &["link add mv0 link eth0 type macvlan mode bridge"]) {
        move_address(&talk.ha1, "mv0");
        // The card hears what clients ask, and nothing of what the macvlan sends: lb cannot find
        // out that it answers, too.
        talk.ha1.sysctl("net/ipv4/conf/eth0/arp_ignore", "1").expect("it can be set");
        assert_unsuited(&serve(&talk, "mv0"), "mv0 shares the network card eth0");
    }
}

/// All machines are in VLAN 7.
#[test]
fn a_vlan_device_serves_and_is_told_of() {
    let talk = Talk::new(&unique_name("vlandev")).expect("the cluster comes up");
    for node in [&talk.client, &talk.ha1, talk.www1.node(), talk.www2.node()] {
        if !make(node, "vlan", &["link add link eth0 name eth0.7 type vlan id 7"]) {
            return;
        }
        move_address(node, "eth0.7");
    }
    assert_unsuited(&serve(&talk, "eth0.7"), "eth0.7 is a VLAN device");
}

#[test]
fn a_bond_serves_in_native_mode() {
    let talk = Talk::new(&unique_name("bond")).expect("the cluster comes up");
    let made = [
        "link add bond0 type bond mode active-backup miimon 100",
        "link set eth0 down",
        "link set eth0 master bond0",
    ];
    if make(&talk.ha1, "bond", &made) {
        move_address(&talk.ha1, "bond0");
        let status = serve(&talk, "bond0");
        assert!(status.finding("interface_unsuited").is_none(), "{:?}", status.findings);
        assert_eq!(status.mode, "native");
    }
}

/// `lb` knows nothing of teams, and takes them as any interface.
#[test]
fn a_team_serves() {
    let talk = Talk::new(&unique_name("team")).expect("the cluster comes up");
    let made = ["link add team0 type team", "link set eth0 down", "link set eth0 master team0"];
    if make(&talk.ha1, "team", &made) {
        move_address(&talk.ha1, "team0");
        let mut director = Director::start(&talk.ha1, &configuration("team0")).expect("lb starts");
        let both = |status: &Status| status.serves("www1") && status.serves("www2");
        director.wait_until("both servers up", PATIENCE, both).expect("both serve");
        assert_eq!(Spread::of_requests(&talk.client, 6).by(Answer::None), 0);
        director.kill().expect("lb ends");
        director.restart().expect("lb starts again");
    }
}

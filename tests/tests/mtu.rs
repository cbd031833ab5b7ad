//! What is larger than a link carries: path MTU discovery, with real clients and servers.

use std::fs;
use std::time::Duration;

use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Director, Node, unique_name};

const PATIENCE: Duration = Duration::from_secs(60);
const CHECK: &str = "type: http, request: /index.html, interval: 500ms, timeout: 2s";
/// Of the page that is downloaded.
const BYTES: usize = 3 << 20;

/// A director with a service of each VIP.
fn director(talk: &Talk, protocol: &str, port: u16) -> Director {
    let service = |vip: &str, [www1, www2]: [String; 2]| {
        format!(
            "  - vip: '{vip}:{port}'\n    protocol: {protocol}\n    scheduler: rr\n    check: {{ {CHECK}, port: 80 }}\n    \
             servers: [{{ name: www1, address: '{www1}' }}, {{ name: www2, address: '{www2}' }}]\n"
        )
    };
    let servers = [talk.www1.node(), talk.www2.node()];
    let four = service(&VIP.to_string(), servers.map(|node| node.address().to_string()));
    let six = service("[fd00::6]", servers.map(|node| node.ipv6().to_string()));
    let groups = format!("groups: [{{ vips: [{VIP}/25, 'fd00::6/64'] }}]");
    let configuration = format!("interface: eth0\nmetrics: off\n{groups}\nservices:\n{four}{six}");
    let director = Director::start(&talk.ha1, &configuration).expect("lb starts");
    let all_up = director
        .wait_until("all servers up", PATIENCE, |status| status.serves("www1") && status.serves("www2"));
    if let Err(error) = all_up {
        panic!("{error:#}\n{}", director.log_tail());
    }
    director
}

/// A client behind a router, whose link to the client carries packets of 1,400 bytes.
fn behind_a_narrow_link(talk: &Talk) -> Node {
    let node =
        |name, address: &str| talk.lab.node(name, address.parse().expect("an address")).expect("a node");
    let (router, far) = (node("router", "211.58.250.101/25"), node("far", "211.58.250.102/25"));
    for (node, address) in [(&router, "10.0.0.101/24"), (&far, "10.0.0.102/24")] {
        talk.lab.join_heartbeat_segment(node, address.parse().expect("an address")).expect("an eth1");
    }
    router.add_ipv6(&format!("{}/64", router.ipv6())).expect("an address");
    router.add_ipv6_to("eth1", "fd01::101/64").expect("an address");
    far.add_ipv6_to("eth1", "fd01::102/64").expect("an address");
    for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        router.sysctl(setting, "1").expect("it routes");
    }
    router.ip("link set eth1 mtu 1400").expect("a narrow link");
    far.ip("link set eth0 down").expect("it can");
    far.ip("route add default via 10.0.0.101").expect("a route");
    far.ip("-6 route add default via fd01::101").expect("a route");
    for server in [talk.www1.node(), talk.www2.node()] {
        server.ip("route add 10.0.0.0/24 via 211.58.250.101").expect("a route");
        server.ip("-6 route add fd01::/64 via fd00::101").expect("a route");
    }
    far
}

fn download(client: &Node, url: &str) -> Vec<u8> {
    let options = ["-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60", url];
    let output = client.command("curl").args(options).output().expect("curl runs");
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A server's first full segments do not fit into the router's link. What that says goes to the
/// VIP, and must reach the very server that sent them.
#[test]
fn a_download_goes_on_after_the_router_has_said_that_packets_are_too_big() {
    let talk = Talk::with_ipv6(&unique_name("pathmtu")).expect("the cluster comes up");
    let far = behind_a_narrow_link(&talk);
    let page: Vec<u8> = (0..BYTES).map(|index| (index * 31 / 7) as u8).collect();
    for server in [&talk.www1, &talk.www2] {
        let file = server.node().folder().expect("a folder").join("html/large.bin");
        fs::write(file, &page).expect("a page");
    }
    let director = director(&talk, "tcp", 80);
    for host in [VIP.to_string(), "[fd00::6]".to_owned()] {
        for _ in 0..2 {
            assert!(download(&far, &format!("http://{host}/large.bin")) == page, "the page of {host}");
        }
    }
    for server in [talk.www1.node(), talk.www2.node()] {
        for route in ["route get 10.0.0.102", "-6 route get fd01::102"] {
            let route = server.ip(route).expect("a route");
            assert!(route.contains("mtu 1400"), "{} has not learnt it: {route}", server.name());
        }
    }
    assert_eq!(director.status().expect("a status").dropped("icmp_unknown"), 0);
}

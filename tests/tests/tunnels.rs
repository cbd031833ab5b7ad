//! Servers that are reached by tunnels, with real clients: what they send and get is intact, over
//! every kind and family, through routers, and while paths carry less than clients think.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};

use lb_api::status::{ServerStatus, Status};
use lb_lab::cluster::pair::PATIENCE;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::echo;
use lb_lab::lab::{Director, Node, TunnelEnd, unique_name};
use lb_model::Health;

const PORT: u16 = 7000;
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 6);
/// The second server's address, behind the router.
const FAR: &str = "192.0.2.27";
const FAR6: &str = "fd01::27";
/// Each way.
const BYTES: usize = 3 << 20;

/// The talk's cluster, where both servers take packets out of tunnels and www2 is behind a router.
struct Tunnelled {
    talk: Talk,
    router: Node,
    ends: [TunnelEnd; 2],
}

impl Tunnelled {
    fn new(purpose: &str) -> Self {
        let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
        let router =
            talk.lab.node("router", "211.58.250.99/25".parse().expect("a prefix")).expect("a router");
        for (node, host) in [
            (&talk.client, 100),
            (&talk.ha1, 5),
            (talk.www1.node(), 25),
            (talk.www2.node(), 27),
            (&router, 99),
        ] {
            node.add_ipv6(&format!("fd00::{host}/64")).expect("an address");
        }
        router.sysctl("net/ipv4/ip_forward", "1").expect("it can be set");
        // Host and router share a segment, and the host shall go on asking the router.
        router.sysctl("net/ipv4/conf/all/send_redirects", "0").expect("it can be set");
        router.sysctl("net/ipv4/conf/eth0/send_redirects", "0").expect("it can be set");
        router.sysctl("net/ipv6/conf/all/forwarding", "1").expect("it can be set");
        for (node, by) in [(&talk.ha1, "99"), (&router, "27")] {
            node.ip(&format!("route add {FAR}/32 via 211.58.250.{by}")).expect("a route");
            node.ip(&format!("-6 route add {FAR6}/128 via fd00::{by}")).expect("a route");
        }
        let www2 = talk.www2.node();
        for server in [talk.www1.node(), www2] {
            server.sysctl("net/ipv6/conf/lo/disable_ipv6", "0").expect("it can be set");
            server.ip(&format!("-6 address add {VIP6}/128 dev lo nodad")).expect("the server holds the VIP");
            echo::serve(server, PORT).expect("it starts");
        }
        www2.ip(&format!("address add {FAR}/32 dev lo")).expect("an address");
        www2.ip(&format!("-6 address add {FAR6}/128 dev lo nodad")).expect("an address");
        let ends = [talk.www1.node(), www2].map(|node| TunnelEnd::start(node).expect("the end of tunnels"));
        Self { talk, router, ends }
    }

    fn director(&self, servers: &str) -> Director {
        let director = Director::start(&self.talk.ha1, &configuration(servers)).expect("lb starts");
        wait_for(&director, "servers up", all_in_use);
        director
    }

    fn connect(&self, vip: impl Into<IpAddr>) -> TcpStream {
        let to = SocketAddr::new(vip.into(), PORT);
        let connected = self.talk.client.run(|| TcpStream::connect_timeout(&to, PATIENCE));
        let connection = connected.expect("the client runs").expect("the VIP serves");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        connection
    }
}

/// A service of each family with these servers.
fn configuration(servers: &str) -> String {
    let service = |vip: &str| {
        format!(
            "  - vip: '{vip}:{PORT}'\n    scheduler: rr\n    \
             check: {{ type: tcp, interval: 500ms, timeout: 2s }}\n    servers: {servers}\n"
        )
    };
    let services = [service(&VIP.to_string()), service(&format!("[{VIP6}]"))].concat();
    let groups = format!("[{{ vips: ['{VIP}/25', '{VIP6}/64'] }}]");
    format!("interface: eth0\nmetrics: off\ngroups: {groups}\nservices:\n{services}")
}

/// All but those that have left the configuration.
fn all_in_use(status: &Status) -> bool {
    let mut servers = status.services.iter().flat_map(|service| &service.servers);
    servers.all(|server| in_use(server) || server.health == Health::Draining)
}

fn in_use(server: &ServerStatus) -> bool {
    server.effective_weight > 0
}

/// Full frames do not fit into the tunnel, and clients learn that from `lb` alone.
#[test]
fn megabytes_are_intact_over_every_tunnel() {
    let lab = Tunnelled::new("tunnels");
    let servers = |kind, far| format!("[{{ name: www2, address: '{far}', forward: {kind} }}]");
    let director = lab.director(&servers("ipip", FAR));
    let mut answers = 0;
    for kind in ["ipip", "gue", "gre"] {
        for far in [FAR, FAR6] {
            director.reconfigure(&configuration(&servers(kind, far))).expect("a new file");
            wait_for(&director, "the tunnel in use", |status| {
                let found = |server: &ServerStatus| {
                    server.tunnel.as_deref() == Some(kind) && server.address.to_string() == far
                };
                all_in_use(status) && status.services.iter().all(|service| service.servers.iter().any(found))
            });
            let before = lab.ends[1].packets();
            for vip in [IpAddr::from(VIP), VIP6.into()] {
                echo::exchange(&lab.connect(vip), BYTES);
            }
            let packets = lab.ends[1].packets() - before;
            assert!(packets > 2 * BYTES as u64 / 1500, "{packets} packets by {kind} to {far}");
            let status = director.status().expect("a status");
            let server = &status.services[0].servers[0];
            assert_eq!(server.method.name(), "Tunnel");
            let too_big = status.answers.iter().find(|answer| answer.reason == "too_big").expect("counted");
            assert!(too_big.count > answers, "the client learns what fits by {kind} to {far}");
            answers = too_big.count;
            for family in ["-4", "-6"] {
                lab.talk.client.ip(&format!("{family} route flush cache")).expect("the client forgets");
            }
        }
    }
}

/// Frames of up to 9,000 bytes, which the driver hands to XDP in several buffers: to a server on
/// the segment, and through tunnels of both families to one behind a router, whose IPv6 address is
/// a link-local one, as routers announce them.
#[test]
fn jumbo_frames_reach_servers_directly_and_by_tunnels() {
    let lab = Tunnelled::new("jumbo");
    let talk = &lab.talk;
    lab.router.add_ipv6("fe80::99/64").expect("an address");
    talk.ha1.ip(&format!("-6 route replace {FAR6}/128 via fe80::99 dev eth0")).expect("a route");
    for node in [&talk.ha1, talk.www1.node(), talk.www2.node(), &lab.router] {
        node.set_mtu(9_000).expect("a segment of jumbo frames");
    }
    // What comes from the client fits into the tunnels.
    talk.client.set_mtu(8_900).expect("jumbo frames");
    let servers = format!(
        "[{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: {FAR}, forward: ipip }}, \
         {{ name: www3, address: '{FAR6}', forward: gue }}]"
    );
    let director = lab.director(&servers);
    for vip in [IpAddr::from(VIP), VIP6.into()] {
        (0..3).for_each(|_| echo::exchange(&lab.connect(vip), BYTES));
    }
    let status = director.status().expect("a status");
    for server in status.services.iter().flat_map(|service| &service.servers) {
        assert!(server.bytes > BYTES as u64 && server.bytes / server.packets > 4_000, "{server:?}");
    }
    let dropped: u64 = status.drops.iter().map(|drop| drop.count).sum();
    assert_eq!(dropped, 0, "{:?}", status.drops);
}

/// Connections go on over a stop, a kill and the next start, whose `lb` finds the tunnels in the
/// maps; one server is reached directly and the other by a tunnel.
#[test]
fn connections_through_tunnels_outlive_a_restart() {
    let lab = Tunnelled::new("tunstart");
    let servers = format!(
        "[{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: {FAR}, forward: ipip, \
         tunnel_source: 172.16.0.0/16 }}]"
    );
    let mut director = lab.director(&servers);
    let connections: Vec<TcpStream> = (0..10).map(|_| lab.connect(VIP)).collect();
    let exchange_all = || connections.iter().for_each(|connection| echo::exchange(connection, 50_000));
    exchange_all();
    let status = director.status().expect("a status");
    let active: Vec<u32> = status.services[0].servers.iter().map(|server| server.active).collect();
    assert_eq!(active, [5, 5]);
    assert!(lab.ends[1].packets() > 100 && lab.ends[0].packets() == 0);
    for kill in [false, true] {
        if kill { director.kill() } else { director.stop() }.expect("lb ends");
        exchange_all();
        director.restart().expect("lb starts again");
        exchange_all();
        wait_for(&director, "servers up", |status| status.services[0].servers.iter().all(in_use));
        exchange_all();
    }
    // A removed server drains by its tunnel.
    let one = "[{ name: www1, address: 211.58.250.25 }]";
    let path = director.configuration().expect("a file");
    let text = std::fs::read_to_string(path).expect("readable").replace(&servers, one);
    director.reconfigure(&text).expect("a new file");
    wait_for(&director, "www2 drains", |status| {
        status.services[0].servers.iter().any(|server| server.health == Health::Draining)
    });
    exchange_all();
}

/// The way changes while a connection is open: another router, another interface, no route.
#[test]
fn routes_are_followed() {
    let lab = Tunnelled::new("tunroute");
    let director = lab.director(&format!("[{{ name: www2, address: {FAR}, forward: gre }}]"));
    let connection = lab.connect(VIP);
    echo::exchange(&connection, 10_000);
    let ha1 = &lab.talk.ha1;
    let mac_is = |mac: String| {
        wait_for(&director, "another next hop", move |status| {
            let found = &status.services[0].servers[0].mac;
            found.as_ref() == Some(&mac)
        });
    };
    mac_is(lab.router.mac());
    ha1.ip(&format!("route replace {FAR}/32 via 211.58.250.27")).expect("a route");
    mac_is(lab.talk.www2.node().mac());
    echo::exchange(&connection, 10_000);
    // By another interface, by which nothing has come in.
    let by_eth1 = "10.0.0.27/24".parse().expect("a prefix");
    lab.talk.lab.join_heartbeat_segment(lab.talk.www2.node(), by_eth1).expect("a second interface");
    ha1.ip(&format!("route replace {FAR}/32 via 10.0.0.27")).expect("a route");
    mac_is("02:00:0a:00:00:1b".to_owned());
    echo::exchange(&connection, 10_000);

    for (change, words) in [
        (format!("route replace unreachable {FAR}/32"), "no route"),
        (format!("route replace {FAR}/32 dev lo"), "lo is no Ethernet interface"),
        (format!("route replace local {FAR}/32 dev lo table local"), "own address"),
    ] {
        ha1.ip(&change).expect("a route");
        wait_for(&director, words, |status| {
            let found = status.findings.iter().find(|finding| finding.finding == "tunnel_unusable");
            found.is_some_and(|found| found.text.contains(words)) && !in_use(&status.services[0].servers[0])
        });
    }
    ha1.ip(&format!("route del local {FAR}/32 dev lo table local")).expect("the address goes");
    ha1.ip(&format!("route replace {FAR}/32 via 211.58.250.99")).expect("a route");
    wait_for(&director, "the way is back", |status| {
        status.findings.iter().all(|finding| finding.finding != "tunnel_unusable")
            && in_use(&status.services[0].servers[0])
    });
    echo::exchange(&connection, 10_000);
}

/// The server's own address answers all the time: only what goes through the tunnel finds out that
/// it lacks the VIP.
#[test]
fn checks_go_through_the_tunnel() {
    let lab = Tunnelled::new("tunvip");
    let servers = format!("[{{ name: www2, address: '{FAR6}', forward: gue }}]");
    let configuration = configuration(&servers);
    let configuration = configuration.replace("{ type: tcp, interval: 500ms, timeout: 2s }", CHECK);
    const CHECK: &str = "{ type: tcp, via: vip, interval: 300ms, timeout: 1s }";
    let checked = |status: &Status| {
        let mut servers = status.services.iter().flat_map(|service| &service.servers);
        servers.all(|server| in_use(server) && server.reason.is_none())
    };
    let director = Director::start(&lab.talk.ha1, &configuration).expect("lb starts");
    wait_for(&director, "checked", checked);
    let www2 = lab.talk.www2.node();
    let before = lab.ends[1].packets();
    www2.ip(&format!("address del {VIP}/32 dev lo")).expect("ip works");
    www2.ip(&format!("-6 address del {VIP6}/128 dev lo")).expect("ip works");
    wait_for(&director, "both VIPs are missed", |status| {
        let misses = |server: &ServerStatus| {
            server.health == Health::Down
                && server.reason.as_ref().is_some_and(|reason| reason.contains("no answer at the VIP"))
        };
        status.services.iter().all(|service| service.servers.iter().any(misses))
    });
    assert!(lab.ends[1].packets() > before, "probes come through the tunnel");
    www2.ip(&format!("address add {VIP}/32 dev lo")).expect("ip works");
    www2.ip(&format!("-6 address add {VIP6}/128 dev lo nodad")).expect("ip works");
    wait_for(&director, "back", checked);
    echo::exchange(&lab.connect(VIP6), 10_000);
}

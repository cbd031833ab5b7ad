//! Servers that are reached by address translation, with real clients: near ones and those behind
//! a router, both families, other ports than the services', closes by either side, a restart;
//! servers beside the clients, and behind another interface of the director.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use lb_api::status::{ServerStatus, Status};
use lb_lab::cluster::VIP;
use lb_lab::cluster::pair::PATIENCE;
use lb_lab::lab::director::wait_for;
use lb_lab::lab::echo;
use lb_lab::lab::{Director, Lab, Link, Node, Prefix, Responder, WebServer, cleanup, unique_name, xdp_pass};
use lb_model::Health;

const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 6);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 25);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, 0x25);
/// Ports of services, and of the server behind each.
const ECHO: (u16, u16) = (7000, 7001);
const WEB: (u16, u16) = (8000, 80);
const NAMES: (u16, u16) = (5353, 5300);
/// Nobody listens there.
const CLOSED: (u16, u16) = (7009, 7999);
/// Each way.
const BYTES: usize = 12 << 20;

/// Where the servers' network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Servers {
    /// On the clients' segment; their gateway is a VIP of the group.
    BesideClients,
    /// Behind eth1; their gateway is the director's own address there.
    BehindEth1,
}

impl Servers {
    const fn interface(self) -> &'static str {
        match self {
            Self::BesideClients => "eth0",
            Self::BehindEth1 => "eth1",
        }
    }

    /// Of both families.
    const fn gateways(self) -> [&'static str; 2] {
        match self {
            Self::BesideClients => ["10.20.0.6", "fd20::6"],
            Self::BehindEth1 => ["10.20.0.5", "fd20::5"],
        }
    }

    /// Gives the director its place in the servers' network.
    fn join(self, lab: &Lab, director: &Node) {
        match self {
            Self::BesideClients => drop(director.ip("address add 10.20.0.5/24 dev eth0").expect("ip works")),
            Self::BehindEth1 => {
                let own = "10.20.0.5/24".parse().expect("a prefix");
                lab.join_heartbeat_segment(director, own).expect("an eth1");
            }
        }
        director.add_ipv6_to(self.interface(), "fd20::5/64").expect("an address");
    }

    /// A machine of that network alone: 10.20.0.`last`.
    fn node(self, lab: &Lab, name: &str, last: u8) -> Node {
        let prefix = |text: String| text.parse::<Prefix>().expect("a prefix");
        let own = format!("10.20.0.{last}/24");
        let node = match self {
            Self::BesideClients => lab.node(name, prefix(own)).expect("the node comes up"),
            Self::BehindEth1 => {
                let node = lab.node(name, prefix(format!("198.18.0.{last}/24"))).expect("the node comes up");
                node.set_link("eth0", Link::Down).expect("ip works");
                lab.join_heartbeat_segment(&node, prefix(own)).expect("an eth1");
                node
            }
        };
        node.add_ipv6_to(self.interface(), &format!("fd20::{last}/64")).expect("an address");
        let [gateway, gateway6] = self.gateways();
        node.ip(&format!("route add default via {gateway}")).expect("a route");
        node.ip(&format!("-6 route add default via {gateway6}")).expect("a route");
        node
    }
}

/// The server's network is another one of IP than the clients'.
struct Masqueraded {
    lab: Lab,
    /// On the director's own network, and behind a router.
    clients: [Node; 2],
    director: Node,
    /// In the server's network.
    neighbour: Node,
    web: WebServer,
}

impl Masqueraded {
    fn new(purpose: &str, servers: Servers) -> Self {
        let lab = Lab::new(&unique_name(purpose)).expect("the lab comes up");
        let node = |name: &str, prefix: &str| {
            lab.node(name, prefix.parse().expect(prefix)).expect("the node comes up")
        };
        let near = node("client", "211.58.250.100/25");
        let far = node("far", "192.0.2.100/24");
        let router = node("router", "211.58.250.99/25");
        let director = node("ha1", "211.58.250.5/25");
        for (node, address) in [
            (&near, "fd00::100/64"),
            (&far, "fd99::100/64"),
            (&router, "fd00::99/64"),
            (&router, "fd99::1/64"),
            (&director, "fd00::5/64"),
        ] {
            node.add_ipv6(address).expect("an address");
        }
        servers.join(&lab, &director);
        let server = servers.node(&lab, "www1", 25);
        let neighbour = servers.node(&lab, "www2", 27);
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/eth0/send_redirects", "0"),
        ] {
            router.sysctl(key, value).expect("it can be set");
        }
        for (node, command) in [
            (&router, "address add 192.0.2.1/24 dev eth0"),
            (&far, "route add default via 192.0.2.1"),
            (&far, "-6 route add default via fd99::1"),
            (&director, "route add default via 211.58.250.99"),
            (&director, "-6 route add default via fd00::99"),
        ] {
            node.ip(command).expect(command);
        }
        echo::serve(&server, ECHO.1).expect("it starts");
        let web = server.web_server("Behind address translation").expect("a web server");
        web.start().expect("nginx starts");
        Self { lab, clients: [near, far], director, neighbour, web }
    }

    fn answer_names(&self) -> [Responder; 2] {
        [IpAddr::from(SERVER), SERVER6.into()].map(|address| {
            let answer = |question: &[u8]| question.to_ascii_uppercase();
            Responder::start(self.web.node(), (address, NAMES.1), answer).expect("a free port")
        })
    }
}

fn configuration() -> String {
    configuration_with("", "", 100_000)
}

/// Clients' packets come from addresses that move with the VIP, in the server's network.
fn with_source_nat(connections: u32) -> String {
    configuration_with("[10.20.0.7]", "['fd20::7']", connections)
}

/// With the server behind eth1, which the file says with these words.
fn behind_eth1(words: &str) -> String {
    let gateways = ", 10.20.0.6/24, 'fd20::6/64', 10.20.0.7/24, 'fd20::7/64'";
    configuration().replace(gateways, "").replace("' }]", &format!("'{words} }}]"))
}

/// The addresses of `source_nat` of both families, if there are any.
fn configuration_with(v4: &str, v6: &str, connections: u32) -> String {
    let service = |vip: &str, server: &str, protocol: &str, (port, server_port): (u16, u16), check: &str| {
        let sources = if vip.contains(':') { v6 } else { v4 };
        let sources = if sources.is_empty() { String::new() } else { format!("    source_nat: {sources}\n") };
        format!(
            "  - vip: '{vip}:{port}'\n    protocol: {protocol}\n    forward: masq\n{sources}{check}    \
             servers: [{{ name: www1, address: '{server}:{server_port}' }}]\n"
        )
    };
    let check = "    check: { type: tcp, interval: 500ms, timeout: 2s }\n";
    let services = [(VIP.to_string(), SERVER.to_string()), (format!("[{VIP6}]"), format!("[{SERVER6}]"))];
    let services = services.iter().flat_map(|(vip, server)| {
        [
            service(vip, server, "tcp", ECHO, check),
            service(vip, server, "tcp", WEB, check),
            service(vip, server, "udp", NAMES, ""),
            service(vip, server, "tcp", CLOSED, ""),
            service(vip, server, "udp", CLOSED, ""),
        ]
    });
    let groups = format!(
        "[{{ vips: ['{VIP}/25', '{VIP6}/64', 10.20.0.6/24, 'fd20::6/64', 10.20.0.7/24, 'fd20::7/64'] }}]"
    );
    let services: String = services.collect();
    format!(
        "interface: eth0\nmetrics: off\nconnections: {connections}\ngroups: {groups}\nservices:\n{services}"
    )
}

fn in_use(server: &ServerStatus) -> bool {
    server.effective_weight > 0
}

fn connect(client: &Node, vip: IpAddr, port: u16) -> std::io::Result<TcpStream> {
    let to = SocketAddr::new(vip, port);
    let connection = client.run(|| TcpStream::connect_timeout(&to, PATIENCE)).expect("the client runs")?;
    connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    Ok(connection)
}

/// Asks by UDP from a socket that takes answers of the VIP alone.
fn ask(client: &Node, vip: IpAddr, port: u16) -> std::io::Result<Vec<u8>> {
    let any = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = client.run(|| UdpSocket::bind(any)).expect("the client runs")?;
    socket.connect(SocketAddr::new(vip, port))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.send(b"who?")?;
    let mut answer = [0; 64];
    let length = lb_lab::uninterrupted(|| socket.recv(&mut answer))?;
    Ok(answer[..length].to_vec())
}

fn echo_service(status: &Status, vip: IpAddr) -> &ServerStatus {
    let service = status.services.iter().find(|service| (service.vip, service.port) == (vip, ECHO.0));
    &service.expect("the service is listed").servers[0]
}

fn all_in_use(status: &Status) -> bool {
    status.services.iter().all(|service| service.servers.iter().all(in_use))
}

/// Clients near and far, of both families.
fn all_are_served(lab: &Masqueraded) {
    let vips = [IpAddr::from(VIP), VIP6.into()];
    for (client, vip) in lab.clients.iter().flat_map(|client| vips.map(|vip| (client, vip))) {
        let page = client.get(&format!("http://{}/index.html", SocketAddr::new(vip, WEB.0))).expect("a page");
        assert!(page.contains("Behind address translation"), "{page}");
        // All of it once for each family: behind the router.
        let bytes = if client.name() == "far" { BYTES } else { BYTES / 8 };
        echo::exchange(&connect(client, vip, ECHO.0).expect("it serves"), bytes);
        assert_eq!(ask(client, vip, NAMES.0).expect("an answer"), b"WHO?");
        // What the server and its kernel refuse, clients hear of.
        let refused = connect(client, vip, CLOSED.0).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let unreachable = ask(client, vip, CLOSED.0).expect_err("nobody listens");
        assert_eq!(unreachable.kind(), ErrorKind::ConnectionRefused, "{vip}: an ICMP error");
    }
}

/// A client in the server's own network would get answers from the server itself.
fn the_neighbour_is_refused(lab: &Masqueraded, director: &Director) {
    let near = lab
        .neighbour
        .run(|| TcpStream::connect_timeout(&SocketAddr::new(VIP.into(), ECHO.0), Duration::from_millis(300)));
    assert!(near.expect("the neighbour runs").is_err());
    wait_for(director, "the neighbour is told of", |status| {
        status.findings.iter().any(|finding| finding.finding == "client_near_server")
    });
}

#[test]
fn clients_near_and_far_are_served_through_both_halves() {
    let lab = Masqueraded::new("nat", Servers::BesideClients);
    let _responders = lab.answer_names();
    let mut director = Director::start(&lab.director, &configuration()).expect("lb starts");
    wait_for(&director, "servers up", all_in_use);
    assert_eq!(echo_service(&director.status().expect("a status"), VIP.into()).method.name(), "Masq");
    all_are_served(&lab);
    either_side_closes(&lab, &director);
    outlives_restarts(&lab, &mut director);
    the_neighbour_is_refused(&lab, &director);
}

/// The director is between two networks: its program is on both interfaces, and nobody forwards IP.
#[test]
fn servers_behind_another_interface_serve_clients_near_and_far() {
    let lab = Masqueraded::new("nat2", Servers::BehindEth1);
    let _responders = lab.answer_names();
    let mut director = Director::start(&lab.director, &behind_eth1("")).expect("lb starts");
    // Nobody has said that what comes in there is to be translated.
    wait_for(&director, "the server is out of reach", |status| {
        let found = status.findings.iter().find(|finding| finding.finding == "tunnel_unusable");
        found.is_some_and(|found| found.text.contains("an interface that lb takes no packets from"))
    });
    director.stop().expect("lb ends");
    director.reconfigure(&behind_eth1(", interface: eth1")).expect("a new file");
    director.restart().expect("lb starts again");
    let is_well = |status: &Status| all_in_use(status) && status.findings.is_empty();
    let status = wait_for(&director, "servers up, and nothing is wrong", is_well);
    let others = status.other_interfaces.iter().map(|other| (&*other.name, &*other.mode));
    assert_eq!((&*status.mode, Vec::from_iter(others)), ("native", vec![("eth1", "native")]));
    all_are_served(&lab);
    either_side_closes(&lab, &director);
    outlives_restarts(&lab, &mut director);
    the_neighbour_is_refused(&lab, &director);

    // Connections outlive the interface, too.
    let connection = connect(&lab.clients[0], VIP.into(), ECHO.0).expect("it serves");
    echo::exchange(&connection, 1000);
    lab.director.ip("link delete eth1").expect("ip works");
    wait_for(&director, "eth1 is gone", |status| {
        status.findings.iter().any(|finding| finding.finding == "ingress_gone")
    });
    Servers::BehindEth1.join(&lab.lab, &lab.director);
    director.wait_for_logged("interface_back", 1, PATIENCE).expect("it begins anew");
    director.wait_until_ready().expect("it answers");
    wait_for(&director, "servers up again", all_in_use);
    echo::exchange(&connection, 1000);
}

/// Packets keep their port, and so the server listens on the service's own.
#[test]
fn a_service_with_several_ports_is_served_on_each() {
    let lab = Masqueraded::new("nat5", Servers::BesideClients);
    let vips = [IpAddr::from(VIP), VIP6.into()];
    let service = |vip: IpAddr, server: IpAddr| {
        let vip = SocketAddr::new(vip, WEB.1);
        let servers = format!("[{{ name: www1, address: '{server}', check: {{ type: tcp }} }}]");
        format!("  - {{ vip: '{vip},{}', forward: masq, servers: {servers} }}\n", ECHO.1)
    };
    let services = service(vips[0], SERVER.into()) + &service(vips[1], SERVER6.into());
    let usual = configuration();
    let (head, _) = usual.split_once("  - vip").expect("services");
    let director = Director::start(&lab.director, &[head, &services].concat()).expect("lb starts");
    wait_for(&director, "servers up", all_in_use);
    for (client, vip) in lab.clients.iter().flat_map(|client| vips.map(|vip| (client, vip))) {
        let url = format!("http://{}/index.html", SocketAddr::new(vip, WEB.1));
        assert!(client.get(&url).expect("a page").contains("Behind address translation"), "{vip}");
        echo::exchange(&connect(client, vip, ECHO.1).expect("it serves"), BYTES / 8);
    }
}

fn has_program(node: &Node, interface: &str) -> bool {
    node.ip(&format!("link show dev {interface}")).expect("ip works").contains("xdp")
}

#[test]
fn an_interface_of_servers_with_another_program_is_refused_and_nothing_is_left() {
    let lab = Masqueraded::new("nat3", Servers::BehindEth1);
    xdp_pass::attach(&lab.director, "eth1").expect("another program");
    let configuration = behind_eth1(", interface: eth1");
    let error = Director::refusal(Director::start(&lab.director, &configuration)).expect("lb does not start");
    for words in
        ["interface eth1: XDP cannot be attached", "is another XDP program on it? `ip link show eth1` tells"]
    {
        assert!(error.contains(words), "{error}");
    }
    assert!(!has_program(&lab.director, "eth0"), "it is on neither");
    assert!(has_program(&lab.director, "eth1"), "the other one stays");
    assert!(!lab.director.has_address(VIP).expect("ip works"), "nobody serves the VIP");
    let left = cleanup::pins(&lab.director.state().namespace("ha1"));
    assert!(left.is_empty(), "{left:?}");

    // As the message says.
    lab.director.ip("link set eth1 xdp off").expect("ip works");
    let director = Director::start(&lab.director, &configuration).expect("lb starts");
    wait_for(&director, "servers up", all_in_use);
}

/// The last servers that name eth1 leave the file, and what they have goes on over restarts.
#[test]
fn servers_that_have_left_the_file_drain_behind_their_interface() {
    let lab = Masqueraded::new("nat4", Servers::BehindEth1);
    let configuration = behind_eth1(", interface: eth1");
    let mut director = Director::start(&lab.director, &configuration).expect("lb starts");
    wait_for(&director, "servers up", all_in_use);
    let vips = [IpAddr::from(VIP), VIP6.into()];
    let sides = lab.clients.iter().flat_map(|client| vips.map(|vip| (client, vip)));
    let connections: Vec<TcpStream> =
        sides.map(|(client, vip)| connect(client, vip, ECHO.0).expect("it serves")).collect();
    let exchange_all = || connections.iter().for_each(|connection| echo::exchange(connection, 50_000));
    exchange_all();
    let (head, _) = configuration.split_once("services:\n").expect("services");
    let other = |vip: &str, server: &str| {
        let servers = format!("[{{ name: other, address: '{server}' }}]");
        format!("  - {{ vip: '{vip}:{}', drain: 10m, servers: {servers} }}\n", ECHO.0)
    };
    let others =
        [other(&VIP.to_string(), "211.58.250.100"), other(&format!("[{VIP6}]"), "fd00::100")].concat();
    for kill in [false, true] {
        if kill { director.kill() } else { director.stop() }.expect("lb ends");
        director.reconfigure(&format!("{head}services:\n{others}")).expect("a new file");
        director.restart().expect("lb starts again");
        exchange_all();
        let status = director.status().expect("a status");
        let interfaces = status.other_interfaces.iter().map(|other| (&*other.name, &*other.mode));
        assert_eq!(Vec::from_iter(interfaces), [("eth1", "native")]);
        let drains = |server: &ServerStatus| server.health == Health::Draining;
        let all_drain = status.services.iter().all(|service| service.servers.iter().any(drains));
        assert!(all_drain && status.services.len() == 2, "{:?}", director.listing());
    }
    // Without their connections nobody needs it.
    director.stop().expect("lb ends");
    director.restart_with(&["--fresh"]).expect("lb starts anew");
    assert!(has_program(&lab.director, "eth0") && !has_program(&lab.director, "eth1"));
    assert_eq!(director.status().expect("a status").other_interfaces.len(), 0);
}

fn either_side_closes(lab: &Masqueraded, director: &Director) {
    let counts_are = |what: &str, active: u32, inactive: u32| {
        wait_for(director, what, |status| {
            let server = echo_service(status, VIP.into());
            (server.active, server.inactive) == (active, inactive)
        });
    };
    let before = echo_service(&director.status().expect("a status"), VIP.into()).inactive;
    let open = |number: usize| connect(&lab.clients[number % 2], VIP.into(), ECHO.0).expect("it serves");
    let mut connections: Vec<TcpStream> = (0..10).map(open).collect();
    connections.iter().for_each(|connection| echo::exchange(connection, 1000));
    counts_are("ten are open", 10, before);
    connections.truncate(6);
    counts_are("the client has closed four", 6, before + 4);
    for connection in &mut connections[..4] {
        connection.write_all(&[echo::BYE]).expect("it can be sent");
        assert_eq!(connection.read(&mut [0]).expect("an end"), 0, "the server closes");
    }
    counts_are("the server has closed four", 2, before + 8);
    for connection in connections.drain(..2) {
        // Nothing unread is there: a plain close.
        drop(connection);
    }
    counts_are("those are closed on both sides", 2, before + 8);
    for connection in &connections[2..] {
        echo::exchange(connection, 1000);
    }
}

fn outlives_restarts(lab: &Masqueraded, director: &mut Director) {
    let vips = [IpAddr::from(VIP), VIP6.into()];
    let sides = lab.clients.iter().flat_map(|client| vips.map(|vip| (client, vip)));
    let connections: Vec<TcpStream> =
        sides.map(|(client, vip)| connect(client, vip, ECHO.0).expect("it serves")).collect();
    let exchange_all = || connections.iter().for_each(|connection| echo::exchange(connection, 50_000));
    for kill in [false, true] {
        if kill { director.kill() } else { director.stop() }.expect("lb ends");
        exchange_all();
        director.restart().expect("lb starts again");
        exchange_all();
        wait_for(director, "servers up", |status| in_use(echo_service(status, VIP.into())));
        exchange_all();
    }
    assert_eq!(echo_service(&director.status().expect("a status"), VIP.into()).method.name(), "Masq");
}

/// All of a page, by curl.
#[track_caller]
fn download(client: &Node, url: &str) -> Vec<u8> {
    let options = ["-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "120", url];
    let output = client.command("curl").args(options).output().expect("curl runs");
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The server knows no way to any client, and one client is beside it.
#[test]
fn with_source_nat_the_server_may_be_anywhere() {
    const LARGE: usize = 100 << 20;
    let lab = Masqueraded::new("snat", Servers::BesideClients);
    for command in ["route del default", "-6 route del default"] {
        lab.web.node().ip(command).expect(command);
    }
    let page: Vec<u8> = (0..LARGE).map(|index| (index * 31 / 7) as u8).collect();
    let file = lab.web.page("large.bin").expect("a folder");
    std::fs::write(file, &page).expect("a page");
    let _responders = lab.answer_names();
    let mut director = Director::start(&lab.director, &with_source_nat(100_000)).expect("lb starts");
    wait_for(&director, "servers up", all_in_use);
    let vips = [IpAddr::from(VIP), VIP6.into()];
    let clients = [&lab.neighbour, &lab.clients[0], &lab.clients[1]];
    let sides = || clients.into_iter().flat_map(|client| vips.map(|vip| (client, vip)));
    let open = || sides().map(|(client, vip)| connect(client, vip, ECHO.0).expect("it serves"));
    for (client, vip) in sides() {
        echo::exchange(&connect(client, vip, ECHO.0).expect("it serves"), BYTES / 8);
        assert_eq!(ask(client, vip, NAMES.0).expect("an answer"), b"WHO?");
        let refused = connect(client, vip, CLOSED.0).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let unreachable = ask(client, vip, CLOSED.0).expect_err("nobody listens");
        assert_eq!(unreachable.kind(), ErrorKind::ConnectionRefused, "{vip}: an ICMP error");
    }
    for vip in vips {
        let url = format!("http://{}/large.bin", SocketAddr::new(vip, WEB.0));
        assert!(download(&lab.neighbour, &url) == page, "{vip}: the page of the server beside the client");
    }
    // Its connections go on while the director is stopped, killed, and begins with another table.
    let connections: Vec<TcpStream> = open().collect();
    let exchange_all = || connections.iter().for_each(|connection| echo::exchange(connection, 50_000));
    exchange_all();
    for (kill, table) in [(false, 100_000), (true, 100_000), (false, 300_000)] {
        if kill { director.kill() } else { director.stop() }.expect("lb ends");
        exchange_all();
        std::fs::write(director.configuration().expect("a file"), with_source_nat(table))
            .expect("a new file");
        director.restart().expect("lb starts again");
        exchange_all();
        wait_for(&director, "servers up", all_in_use);
        // Long enough for ports to be given back whose connections are not known.
        thread::sleep(Duration::from_secs(5));
        exchange_all();
    }
    let findings = director.status().expect("a status").findings;
    let wrong = |id: &str| findings.iter().any(|finding| finding.finding == id);
    assert!(!wrong("source_nat_missing") && !wrong("client_near_server"), "{findings:?}");
}

//! Persistence with real clients and servers: a site over HTTP and HTTPS as one service of two
//! ports, and FTP, whose data go to another port and must come to the same server.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use lb_api::status::{ServiceStatus, Status};
use lb_lab::lab::servers::catalog;
use lb_lab::lab::{Director, Lab, Node, RealServer, unique_name};

const PATIENCE: Duration = Duration::from_secs(40);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);

const HTTP: &str = "http://10.9.0.100/index.html";
const HTTPS: &str = "https://10.9.0.100/index.html";

const CONFIGURATION: &str = "\
interface: eth0
groups: [{ vips: [10.9.0.100/24] }]
services:
  - name: site
    vip: 10.9.0.100:80,443
    scheduler: rr
    persistence: { timeout: 5m }
    check: { type: tcp, interval: 200ms, timeout: 1s }
    servers: &servers [{ name: s1, address: 10.9.0.11 }, { name: s2, address: 10.9.0.12 }]
  - name: ftp
    vip: 10.9.0.100:21
    scheduler: rr
    persistence: { group: ftp }
    check: { type: ftp, interval: 200ms, timeout: 1s }
    servers: *servers
  - name: ftp-data
    vip: 10.9.0.100:30000-30099
    scheduler: rr
    persistence: { group: ftp }
    check: { type: ftp, port: 21, interval: 200ms, timeout: 1s }
    servers: *servers
";

/// A web and an FTP server that say their node's name.
struct Server {
    web: RealServer,
    ftp: RealServer,
}

impl Server {
    fn start(lab: &Lab, name: &str, octet: u8) -> Self {
        let node = lab.node(name, format!("10.9.0.{octet}/24").parse().expect("an address")).expect("a node");
        node.hold_vip(VIP).expect("the server holds the VIP");
        let new = |program| RealServer::new(&node, program).expect("a configured server");
        let server = Self { web: new(&catalog::NGINX), ftp: new(&catalog::VSFTPD) };
        server.web.write("page", name).expect("a page");
        server.ftp.write("name", name).expect("a file");
        let passive = "anonymous_enable=YES\npasv_min_port=30000\npasv_max_port=30099\n";
        server.ftp.write("who.conf", passive).expect("a configuration");
        server.web.start().expect("nginx starts");
        server.ftp.start().expect("vsftpd starts");
        server
    }
}

/// What curl fetches from one of the client's addresses, each URL over the connections that it
/// needs.
fn fetch(client: &Node, from: &str, urls: &[&str]) -> Vec<String> {
    let mut curl = client.command("curl");
    curl.args(["-q", "-sS", "--insecure", "--noproxy", "*", "--max-time", "10", "--interface", from]);
    let output = curl.args(urls).output().expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{urls:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    // Each answer is a name of two letters.
    text.as_bytes().chunks(2).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

fn of<'s>(status: &'s Status, name: &str) -> &'s ServiceStatus {
    status.services.iter().find(|service| service.name == name).expect("a service")
}

fn connections(service: &ServiceStatus, server: &str) -> u64 {
    service.servers.iter().find(|one| one.name == server).expect("a server").connections
}

#[test]
fn a_site_and_ftp_come_to_one_server_each_client() {
    let lab = Lab::new(&unique_name("persistence")).expect("a lab");
    let client = lab.node("client", "10.9.0.50/24".parse().expect("an address")).expect("a node");
    client.ip("address add 10.9.0.51/24 dev eth0").expect("another client");
    let ha1 = lab.node("ha1", "10.9.0.1/24".parse().expect("an address")).expect("a node");
    let servers = [Server::start(&lab, "s1", 11), Server::start(&lab, "s2", 12)];
    let mut director = Director::start(&ha1, CONFIGURATION).expect("lb starts");
    let all_up = |status: &Status| {
        let servers = status.services.iter().flat_map(|service| &service.servers);
        servers.filter(|server| server.effective_weight > 0).count() == 6
    };
    director.wait_until("all servers up", PATIENCE, all_up).expect("the servers come up");

    let site = [HTTP, HTTPS];
    let files = ["ftp://10.9.0.100//srv/name"; 3];
    let mut homes = BTreeSet::new();
    for from in ["10.9.0.50", "10.9.0.51"] {
        let names: BTreeSet<String> =
            (0..4).flat_map(|round| fetch(&client, from, &[site[round % 2]])).collect();
        assert_eq!(names.len(), 1, "HTTP and HTTPS of {from}: {names:?}");
        homes.extend(names);
    }
    assert_eq!(homes.len(), 2, "two clients, two servers: {homes:?}");

    let before = director.status().expect("a status");
    for from in ["10.9.0.50", "10.9.0.51"] {
        let names: BTreeSet<String> = (0..2).flat_map(|_| fetch(&client, from, &files)).collect();
        assert_eq!(names.len(), 1, "FTP of {from}: {names:?}");
    }
    let status = director.status().expect("a status");
    for server in ["s1", "s2"] {
        let [control, data] = ["ftp", "ftp-data"]
            .map(|name| connections(of(&status, name), server) - connections(of(&before, name), server));
        assert_eq!((control, data), (2, 6), "{server}: two sessions, a data connection for each file");
    }
    let bound = |status: &Status, name: &str| of(status, name).persistence.as_ref().expect("it binds").bound;
    assert_eq!(["site", "ftp", "ftp-data"].map(|name| bound(&status, name)), [2, 2, 2]);
    let clients = &of(&status, "site").persistence.as_ref().expect("it binds").clients;
    let listed: Vec<String> = clients.iter().map(|bound| bound.client.to_string()).collect();
    assert_eq!(listed, ["10.9.0.50", "10.9.0.51"]);
    assert!(clients.iter().all(|bound| (200..=330).contains(&bound.expires_in_s)), "{clients:?}");
    let listing = director.listing().expect("a listing");
    assert!(
        listing.contains("10.9.0.100:80,443") && listing.contains("rr persistent 300s (2 bound)"),
        "{listing}"
    );

    // Another process knows who is bound where.
    let home = fetch(&client, "10.9.0.50", &[site[0]]);
    director.kill().expect("lb dies");
    director.restart().expect("lb starts again");
    director.wait_until("all servers up", PATIENCE, all_up).expect("the servers are up");
    assert_eq!(bound(&director.status().expect("a status"), "site"), 2);
    for round in 0..4 {
        assert_eq!(fetch(&client, "10.9.0.50", &[site[round % 2]]), home);
    }
    // Its server goes: another one at once, for good.
    let (gone, stays) = if home[0] == "s1" { (0, "s2") } else { (1, "s1") };
    servers[gone].web.stop().expect("nginx stops");
    director
        .wait_until("a web server down", PATIENCE, |status| {
            !of(status, "site").servers[gone].effective_weight.gt(&0)
        })
        .expect("the check notices");
    assert_eq!(fetch(&client, "10.9.0.50", &[site[0]]), [stays]);
    servers[gone].web.start().expect("nginx starts");
    director.wait_until("all servers up", PATIENCE, all_up).expect("the server comes back");
    assert_eq!(fetch(&client, "10.9.0.50", &[site[1]]), [stays], "it stays where it is now");
    s1_is_full(&director, &client);
}

/// Thresholds below what each server of the site has, and none again.
fn s1_is_full(director: &Director, client: &Node) {
    let site = [HTTP, HTTPS];
    // Each server has more connections than this, most of them on their way to their end.
    let site_servers = "servers: &servers [{ name: s1, address: 10.9.0.11 }";
    let limited =
        "servers: [{ name: s1, address: 10.9.0.11, upper_threshold: 1 }, { name: s2, address: 10.9.0.12 }]";
    let rest = CONFIGURATION.split_once(site_servers).expect("the servers of the site").1;
    let (_, others) = rest.split_once('\n').expect("more lines");
    let others = others.replacen(
        "*servers",
        "&servers [{ name: s1, address: 10.9.0.11 }, { name: s2, address: 10.9.0.12 }]",
        1,
    );
    let head = CONFIGURATION.split_once(site_servers).expect("the servers of the site").0;
    director.reconfigure(&format!("{head}{limited}\n{others}")).expect("a file is written");
    let full = director.wait_for_events("server_full", 1, PATIENCE, |_| true).expect("s1 is full");
    assert_eq!((full.service.as_deref(), full.server.as_deref()), (Some("site"), Some("10.9.0.11")));
    let status = director.status().expect("a status");
    let s1 = of(&status, "site").servers.iter().find(|server| server.name == "s1").expect("a server");
    assert!(s1.full && s1.upper_threshold == 1 && s1.lower_threshold == 1, "{s1:?}");
    assert!(director.listing().expect("a listing").contains("full: 1 connections and more"));
    client.ip("address add 10.9.0.52/24 dev eth0").expect("a third client");
    for round in 0..4 {
        assert_eq!(fetch(client, "10.9.0.52", &[site[round % 2]]), ["s2"], "s1 gets nobody new");
    }
    director.reconfigure(CONFIGURATION).expect("a file is written");
    director
        .wait_until("room again", PATIENCE, |status| {
            of(status, "site").servers.iter().all(|server| !server.full)
        })
        .expect("s1 has room");
    director.wait_for_events("server_has_room", 1, PATIENCE, |_| true).expect("that is told");
    director.wait_for_events("server_full", 1, PATIENCE, |_| true).expect("it was told once");
}

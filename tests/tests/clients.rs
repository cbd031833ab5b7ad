//! Clients with limits and lists, with real sockets: whoever is beyond its limit is refused while
//! another one is served, and whoever is denied is so in mid-conversation.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use lb_api::status::Status;
use lb_api::top::TopClient;
use lb_lab::lab::{Director, Lab, Node, Responder, unique_name};
use lb_lab::uninterrupted;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
const PORT: u16 = 5353;
const ONE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 50);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 51);
const PATIENCE: Duration = Duration::from_secs(60);
const PREFIXES: u32 = 100_000;

fn configuration(deny: &Path) -> String {
    format!(
        "interface: eth0\nclients: {{ deny_file: {} }}\ngroups: [{{ vips: [{VIP}/24] }}]\nservices:\n  - name: names\n    \
         vip: {VIP}:{PORT}\n    protocol: udp\n    scheduler: rr\n    \
         clients: {{ each: {{ new_per_second: 1, new_burst: 5 }} }}\n    \
         servers: [{{ name: s1, address: 10.9.0.11 }}]\n",
        deny.display()
    )
}

/// So many prefixes from this one on, which have nobody of the lab.
fn prefixes(first: u32) -> String {
    (first..first + PREFIXES).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{}/28", Ipv4Addr::from(0x0b00_0000 + number * 16));
        text
    })
}

fn socket(client: &Node, from: Ipv4Addr) -> UdpSocket {
    let socket = client.run(|| UdpSocket::bind((from, 0))).expect("in the client's namespace");
    let socket = socket.expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a read time-out");
    socket
}

fn ask(socket: &UdpSocket) {
    socket.send_to(b"who?", (VIP, PORT)).expect("a question is sent");
}

/// Whether somebody answers within 2 s.
fn is_answered(socket: &UdpSocket) -> bool {
    let mut answer = [0; 64];
    uninterrupted(|| socket.recv(&mut answer)).is_ok()
}

fn dropped(status: &Status, reason: &str) -> u64 {
    status.drops.iter().find(|count| count.reason == reason).expect("every reason is listed").count
}

fn top(director: &Director) -> Vec<TopClient> {
    let lines = director.order(&["top-clients", "--json"]).expect("lb top-clients");
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    lines.lines().map(parse).collect()
}

#[test]
fn a_client_beyond_its_limit_is_refused_and_another_one_served() {
    let lab = Lab::new(&unique_name("clients")).expect("a lab");
    let client = lab.node("client", "10.9.0.50/24".parse().expect("an address")).expect("a node");
    client.ip("address add 10.9.0.51/24 dev eth0").expect("another client");
    let ha1 = lab.node("ha1", "10.9.0.1/24".parse().expect("an address")).expect("a node");
    let server = lab.node("s1", "10.9.0.11/24".parse().expect("an address")).expect("a node");
    server.hold_vip(VIP).expect("the server holds the VIP");
    let _responder = Responder::start(&server, (VIP, PORT), |_| b"s1".to_vec()).expect("a server");
    let deny = ha1.folder().expect("a folder").join("deny");
    fs::write(&deny, prefixes(0)).expect("a file");
    let director = Director::start(&ha1, &configuration(&deny)).expect("lb starts");
    let is_up = |status: &Status| {
        status.server("s1").is_some_and(|server| server.effective_weight > 0 && server.mac.is_some())
    };
    director.wait_until("s1 up", PATIENCE, is_up).expect("the server is up");

    // Thirty flows of one client at once, of which five are served; three of the other one.
    let one: Vec<UdpSocket> = (0..30).map(|_| socket(&client, ONE)).collect();
    one.iter().for_each(ask);
    let other: Vec<UdpSocket> = (0..3).map(|_| socket(&client, OTHER)).collect();
    other.iter().for_each(ask);
    assert!(other.iter().all(is_answered), "another client is served");
    assert!(one[..5].iter().all(is_answered), "so is the first one as far as it may");
    let refused = dropped(&director.status().expect("a status"), "client_new_limit");
    assert!((15..=25).contains(&refused), "{refused} of 30 were refused");

    let clients = top(&director);
    let [first, second] = &clients[..] else { panic!("two clients: {clients:?}") };
    assert_eq!((&*first.client, &*first.service, first.limited), ("10.9.0.50", "names", refused));
    assert_eq!((first.connections, first.denied), (30 - refused, 0));
    assert_eq!((&*second.client, second.connections, second.limited), ("10.9.0.51", 3, 0));
    let table = director.order(&["top-clients", "--count", "1"]).expect("lb top-clients");
    assert!(table.contains("10.9.0.50") && !table.contains("10.9.0.51"), "{table}");

    // What is known goes on, until its client is denied.
    ask(&one[0]);
    assert!(is_answered(&one[0]), "a known flow");
    fs::write(&deny, format!("{}10.9.0.50\n", prefixes(5))).expect("a file");
    let told = director.order(&["reload"]).expect("lb reload");
    assert!(told.contains("deny: 100000 prefixes -> 100001 prefixes, of them 6 new"), "{told}");
    ask(&one[0]);
    ask(&other[0]);
    assert!(is_answered(&other[0]), "the other one goes on");
    assert!(!is_answered(&one[0]), "the first one is denied");
    assert_eq!(dropped(&director.status().expect("a status"), "client_denied"), 1);
    let clients = top(&director);
    let denied = clients.iter().find(|one| one.client == "10.9.0.50").expect("it is known");
    assert_eq!(denied.denied, 1);
    // The list is watched, too.
    fs::write(&deny, prefixes(5)).expect("a file");
    director
        .wait_for_event("config_reloaded", PATIENCE, |event| {
            event.cause.as_deref() == Some("the file changed")
        })
        .expect("a list that changes is read again");
    ask(&one[0]);
    assert!(is_answered(&one[0]), "not any more");
}

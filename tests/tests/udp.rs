//! UDP through the director: real sockets on the client and on the real servers.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Director, Node, Responder, unique_name};
use lb_lab::uninterrupted;

const PORT: u16 = 5353;
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers each datagram to the VIP with its own name.
fn responder(node: &Node) -> Responder {
    let name = node.name().to_owned();
    let answer = move |_: &[u8]| name.clone().into_bytes();
    Responder::start(node, (VIP, PORT), answer).expect("the node holds the VIP")
}

struct Client(UdpSocket);

impl Client {
    fn new(node: &Node) -> Self {
        let socket = node.run(|| UdpSocket::bind("0.0.0.0:0")).expect("in the client's namespace");
        let socket = socket.expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a read time-out");
        Self(socket)
    }

    /// Who answers; `None` if nobody does within 2 s.
    fn ask(&self) -> Option<String> {
        self.0.send_to(b"who?", (VIP, PORT)).expect("a question is sent");
        let mut answer = [0; 64];
        let length = uninterrupted(|| self.0.recv(&mut answer)).ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    }
}

fn configuration(check: &str) -> String {
    format!(
        "interface: eth0\ngroups: [{{ vips: [{VIP}/25] }}]\nservices:\n  - name: names\n    vip: {VIP}:{PORT}\n    \
         protocol: udp\n    scheduler: rr\n    check: {check}\n    servers:\n      \
         - {{ name: www1, address: 211.58.250.25 }}\n      - {{ name: www2, address: 211.58.250.27 }}\n"
    )
}

#[test]
fn c8_with_ops_the_datagrams_of_one_client_are_spread() {
    let talk = Talk::new(&unique_name("ops")).expect("the cluster comes up");
    let _responders = [responder(talk.www1.node()), responder(talk.www2.node())];
    let check = "{ type: tcp, port: 80, interval: 200ms, timeout: 1s }\n    ops: on";
    let director = Director::start(&talk.ha1, &configuration(check)).expect("lb starts");
    director
        .wait_until("both servers up", PATIENCE, |status| status.serves("www1") && status.serves("www2"))
        .expect("both servers come up");
    let client = Client::new(&talk.client);
    let answers: Vec<String> = (0..10).map(|_| client.ask().expect("an answer")).collect();
    let by_www1 = answers.iter().filter(|answer| *answer == "www1").count();
    assert_eq!(by_www1, 5, "{answers:?}");
    let status = director.status().expect("a status");
    let www1 = status.server("www1").expect("it is listed");
    assert_eq!((www1.active, www1.inactive, www1.connections), (0, 0, 5));
}

#[test]
fn datagrams_of_a_client_go_to_one_server_and_clients_are_spread() {
    let talk = Talk::new(&unique_name("udp")).expect("the cluster comes up");
    let _responders = [responder(talk.www1.node()), responder(talk.www2.node())];
    // The servers' health is told by their web servers: a check may go to another port.
    let check = "{ type: tcp, port: 80, interval: 200ms, timeout: 1s }";
    let director = Director::start(&talk.ha1, &configuration(check)).expect("lb starts");
    director
        .wait_until("both servers up", PATIENCE, |status| status.serves("www1") && status.serves("www2"))
        .expect("both servers come up");

    let clients: Vec<Client> = (0..10).map(|_| Client::new(&talk.client)).collect();
    let mut spread: BTreeMap<String, u32> = BTreeMap::new();
    for client in &clients {
        let first = client.ask().expect("an answer");
        assert_eq!(client.ask().as_ref(), Some(&first), "the next datagram goes to the same server");
        *spread.entry(first).or_default() += 1;
    }
    assert_eq!(spread, BTreeMap::from([("www1".to_owned(), 5), ("www2".to_owned(), 5)]));

    // UDP has no connection to lose: when a server goes, its clients are served by the other one.
    talk.www1.stop().expect("www1's web server stops");
    director.wait_until("www1 down", PATIENCE, |status| !status.serves("www1")).expect("the check notices");
    for client in &clients {
        assert_eq!(client.ask().as_deref(), Some("www2"));
    }
}

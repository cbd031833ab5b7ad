//! Services of IPv6 with real clients and servers: balanced, checked, taken over.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use lb_api::status::Status;
use lb_lab::cluster::Talk;
use lb_lab::cluster::pair::PATIENCE;
use lb_lab::lab::{Director, Node, unique_name};
use lb_lab::scenario::traffic::Answer;

const URL: &str = "http://[fd00::6]/index.html";

fn address(node: &Node) -> String {
    node.ipv6().to_string()
}

fn talk(purpose: &str) -> Talk {
    Talk::with_ipv6(&unique_name(purpose)).expect("the cluster comes up")
}

fn configuration(talk: &Talk, second: &str) -> String {
    let first = address(talk.www1.node());
    format!(
        "interface: eth0\nmetrics: off\ngroups: [{{ vips: ['fd00::6/64'] }}]\nservices:\n  - vip: '[fd00::6]:80'\n    \
         scheduler: rr\n    check: {{ type: http, request: /index.html, receive: Test Page, interval: 500ms, timeout: 2s }}\n    \
         servers: [{{ name: www1, address: '{first}' }}, {{ name: www2, address: '{second}' }}]\n"
    )
}

/// A director whose second server is named by `second`.
fn director(talk: &Talk, second: &str) -> Director {
    let director = Director::start(&talk.ha1, &configuration(talk, second)).expect("lb starts");
    wait_for(&director, "both servers up", |status| status.serves("www1") && status.serves("www2"));
    director
}

#[track_caller]
fn wait_for(director: &Director, what: &str, holds: impl Fn(&Status) -> bool) {
    if let Err(error) = director.wait_until(what, PATIENCE, holds) {
        panic!("{error:#}\n{}", director.log_tail());
    }
}

/// Who answers so many requests, one after the other.
fn answers(talk: &Talk, requests: usize) -> Vec<Answer> {
    let get = |_| Answer::of_page(&talk.client.get(URL).expect("the VIP serves"));
    (0..requests).map(get).collect()
}

#[track_caller]
fn assert_shared_equally(talk: &Talk) {
    let answers = answers(talk, 20);
    for server in Answer::SERVERS {
        let count = answers.iter().filter(|answer| *answer == server).count();
        assert_eq!(count, 10, "{server:?} in {answers:?}");
    }
}

#[test]
fn clients_of_ipv6_are_balanced_and_servers_checked() {
    let talk = talk("six");
    let director = director(&talk, &address(talk.www2.node()));
    assert_shared_equally(&talk);
    let ping = talk.client.ip("-6 neighbour show fd00::6").expect("ip works");
    assert!(ping.contains(&talk.ha1.mac()), "no server answers for the VIP: {ping}");

    talk.www1.stop().expect("nginx stops");
    wait_for(&director, "www1 down", |status| !status.serves("www1"));
    assert!(answers(&talk, 10).iter().all(|answer| *answer == Answer::SERVERS[1]));
    talk.www1.start().expect("nginx starts");
    wait_for(&director, "www1 up again", |status| status.serves("www1"));
    assert_shared_equally(&talk);
}

/// Only the MAC of a server is needed to send it a packet, and ARP tells that as well.
#[test]
fn servers_of_both_families_serve_one_vip() {
    let talk = talk("mixed");
    let _director = director(&talk, &talk.www2.node().address().to_string());
    assert_shared_equally(&talk);
}

/// Asks for a page over a connection that stays open; returns who answered.
fn ask(connection: &mut TcpStream) -> Answer {
    connection.write_all(b"GET /index.html HTTP/1.1\r\nHost: lb\r\n\r\n").expect("it can be sent");
    let mut answer = [0; 2048];
    let length = lb_lab::uninterrupted(|| connection.read(&mut answer)).expect("an answer");
    let text = String::from_utf8_lossy(&answer[..length]);
    Answer::of_page(text.split("\r\n\r\n").nth(1).expect("a page"))
}

#[test]
fn connections_of_ipv6_outlive_a_restart() {
    let talk = talk("sixrestart");
    let mut director = director(&talk, &address(talk.www2.node()));
    let open = |_| {
        let connected = talk.client.run(|| TcpStream::connect("[fd00::6]:80")).expect("the client runs");
        let mut connection = connected.expect("the VIP serves");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let server = ask(&mut connection);
        (connection, server)
    };
    let mut connections: Vec<(TcpStream, Answer)> = (0..20).map(open).collect();
    for kill in [false, true] {
        if kill { director.kill() } else { director.stop() }.expect("lb ends");
        for (connection, server) in &mut connections {
            assert_eq!(ask(connection), *server, "without lb");
        }
        director.restart().expect("lb starts again");
        wait_for(&director, "both servers up", |status| status.serves("www1") && status.serves("www2"));
        for (connection, server) in &mut connections {
            assert_eq!(ask(connection), *server, "with the next lb");
        }
    }
    assert_shared_equally(&talk);
}

/// The table of IPv6 is small until `lb` starts with such a service, and it says so.
#[test]
fn the_first_service_of_ipv6_may_come_by_reload() {
    let talk = talk("sixlater");
    let six = configuration(&talk, &address(talk.www2.node()));
    let four = six
        .replace("fd00::6/64", "211.58.250.6/25")
        .replace("[fd00::6]:80", "211.58.250.6:80")
        .replace("fd00::", "211.58.250.");
    let mut director = Director::start(&talk.ha1, &four).expect("lb starts");
    let small = director.status().expect("a status").table.capacity_v6;
    director.reconfigure(&six).expect("a new file");
    director.wait_for_event("ipv6_table_small", PATIENCE, |_| true).expect("it is said");
    wait_for(&director, "both servers up", |status| status.serves("www1") && status.serves("www2"));
    assert_shared_equally(&talk);
    director.stop().expect("lb stops");
    director.restart().expect("lb starts again");
    wait_for(&director, "both servers up", |status| status.serves("www1") && status.serves("www2"));
    assert!(director.status().expect("a status").table.capacity_v6 > small);
    assert_shared_equally(&talk);
    wait_for(&director, "slots of IPv6 alone in use", |status| {
        status.table.used_v6 > 0 && status.table.used == 0
    });
}

/// The check's own connection goes the way of clients: to the VIP, at the server's MAC.
#[test]
fn checks_through_a_vip_of_ipv6_know_whether_the_server_holds_it() {
    let talk = talk("sixvia");
    let configuration = configuration(&talk, &address(talk.www2.node()));
    let director = Director::start(&talk.ha1, &configuration.replace("type: http,", "type: http, via: vip,"))
        .expect("lb starts");
    let is_checked = |status: &Status, name: &str| {
        status.serves(name) && status.server(name).is_some_and(|server| server.reason.is_none())
    };
    let both = |status: &Status| is_checked(status, "www1") && is_checked(status, "www2");
    wait_for(&director, "both servers checked and up", both);
    assert_shared_equally(&talk);

    talk.www1.node().ip("-6 address del fd00::6/128 dev lo").expect("the server gives the VIP up");
    let says_why = |status: &Status| {
        let reason = status.server("www1").and_then(|server| server.reason.as_deref());
        !status.serves("www1")
            && reason.is_some_and(|reason| reason.contains("ip address add fd00::6/128 dev lo"))
    };
    wait_for(&director, "www1 down because it lacks the VIP", says_why);
    assert!(answers(&talk, 4).iter().all(|answer| *answer == Answer::Www2), "clients notice nothing");

    talk.www1.node().ip("-6 address add fd00::6/128 dev lo nodad").expect("the server holds the VIP");
    wait_for(&director, "www1 up again", both);
}

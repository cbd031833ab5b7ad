//! Checks through the VIP over AF_XDP: what they find wrong with a server that answers at its own
//! address, and that nothing but the server decides.

use std::time::Duration;

use lb_api::status::Status;
use lb_lab::cluster::pair::{Pair, Settings};
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Director, Node, Responder, unique_name};
use lb_lab::scenario::open_loop::{OpenLoop, Outcome};
use lb_lab::scenario::traffic::{Answer, Spread};

/// How long a verdict may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const HTTP: &str =
    "{ type: http, via: vip, request: /index.html, receive: Test Page, interval: 300ms, timeout: 1s }";

const NOT_ON_LOOPBACK: &str = "no answer at the VIP 211.58.250.6, but the server's own address 211.58.250.25:80 \
     accepts connections: is the VIP on the server's loopback? (ip address add 211.58.250.6/32 dev lo)";

const NOT_LISTENING: &str = "refuses connections to the VIP 211.58.250.6, but the server's own address \
     211.58.250.25:80 accepts them: the service does not listen on the VIP";

const SILENT: &str = "no answer at the VIP 211.58.250.6, but the server's own address 211.58.250.25:5353 \
     answers: does the service listen on the VIP, and is the VIP on the server's loopback? (ip address \
     add 211.58.250.6/32 dev lo)";

/// The talk's service with another check.
fn configuration(check: &str) -> String {
    service("tcp", 80, check)
}

fn service(protocol: &str, port: u16, check: &str) -> String {
    format!(
        "\
interface: eth0
metrics: off
groups: [{{ vips: [{VIP}/25] }}]
services:
  - name: web
    vip: {VIP}:{port}
    protocol: {protocol}
    scheduler: rr
    check: {check}
    servers: [{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: 211.58.250.27 }}]
"
    )
}

/// A director on ha1, and both servers up.
fn start(purpose: &str, check: &str) -> (Talk, Director) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let director = Director::start(&talk.ha1, &configuration(check)).expect("lb starts on ha1");
    wait_until_up(&director, &["www1", "www2"]);
    (talk, director)
}

/// A server that has not been checked yet is up as well, with a reason why.
fn wait_until_up(director: &Director, servers: &[&str]) {
    let is_checked = |name: &&str, status: &Status| {
        status.serves(name) && status.server(name).is_some_and(|server| server.reason.is_none())
    };
    let what = format!("checked and up: {servers:?}");
    director
        .wait_until(&what, PATIENCE, |status| servers.iter().all(|name| is_checked(name, status)))
        .expect("servers that are well come up");
}

/// Waits until www1 is down for exactly this reason, after steps or at once, and sees that www2 is
/// left alone.
#[track_caller]
fn wait_until_www1_is_out(director: &Director, reason: &str) {
    let is_out = |status: &Status| {
        let www1 = status.server("www1").filter(|www1| www1.health.word() == "down");
        let told = www1.and_then(|www1| www1.reason.as_deref());
        told.is_some_and(|told| told == reason || told.ends_with(&format!(", then {reason}")))
    };
    let status = director.wait_until(&format!("www1 down: {reason}"), PATIENCE, is_out);
    assert!(status.expect("www1 is taken out").serves("www2"));
}

fn take_vip_away(server: &Node) {
    server.ip(&format!("address del {VIP}/32 dev lo")).expect("ip works");
}

fn give_vip_back(server: &Node) {
    server.ip(&format!("address add {VIP}/32 dev lo")).expect("ip works");
}

#[test]
fn a_server_without_the_vip_is_out_for_that_reason_until_it_has_it_again() {
    let (talk, director) = start("novip", HTTP);
    take_vip_away(talk.www1.node());
    wait_until_www1_is_out(&director, NOT_ON_LOOPBACK);
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www2), 4, "clients notice nothing");
    give_vip_back(talk.www1.node());
    wait_until_up(&director, &["www1", "www2"]);
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www1), 2);
}

/// Its probe comes back to the director, which could send it to www2 and be content with the
/// answer.
#[test]
fn a_server_without_the_vip_that_forwards_packets_is_out_for_the_same_reason() {
    let (talk, director) = start("forwards", HTTP);
    talk.www1.node().sysctl("net/ipv4/ip_forward", "1").expect("a setting changes");
    take_vip_away(talk.www1.node());
    wait_until_www1_is_out(&director, NOT_ON_LOOPBACK);
    assert!(director.status().expect("lb answers").dropped("probe_astray") > 0);
}

#[test]
fn a_service_that_listens_on_its_own_address_only_is_told_from_that() {
    let (talk, director) = start("listens", HTTP);
    talk.www1.stop().expect("nginx stops");
    talk.www1.listen_on_own_address().expect("its configuration changes");
    talk.www1.start().expect("nginx starts");
    wait_until_www1_is_out(&director, NOT_LISTENING);
}

#[test]
fn a_server_that_answers_nowhere_is_out_for_the_plain_reason() {
    let (talk, director) = start("nowhere", "{ type: tcp, via: vip, interval: 300ms, timeout: 1s }");
    talk.www1.stop().expect("nginx stops");
    wait_until_www1_is_out(&director, "connection refused");
    talk.www1.start().expect("nginx starts");
    wait_until_up(&director, &["www1", "www2"]);
}

#[test]
fn the_standby_director_sees_the_same() {
    let talk = Talk::new(&unique_name("vippair")).expect("the cluster comes up");
    let pair = Pair::start_with(&talk, Settings::DEFAULT, &configuration(HTTP)).expect("both start");
    for director in [&pair.ha1, &pair.ha2] {
        wait_until_up(director, &["www1", "www2"]);
    }
    talk.www1.node().sysctl("net/ipv4/ip_forward", "1").expect("a setting changes");
    take_vip_away(talk.www1.node());
    for director in [&pair.ha1, &pair.ha2] {
        wait_until_www1_is_out(director, NOT_ON_LOOPBACK);
    }
    give_vip_back(talk.www1.node());
    pair.ha1.failover().expect("ha1 gives the VIP up");
    pair.wait_until_held_by("ha2").expect("ha2 takes it, with both servers");
    for director in [&pair.ha1, &pair.ha2] {
        wait_until_up(director, &["www1", "www2"]);
    }
}

/// Nothing is known of the servers when the new program takes the old one's place. Requests under
/// way at that moment are strays to it; that is no matter of checks.
#[test]
fn a_restart_after_a_crash_turns_no_client_away() {
    let (talk, mut director) = start("viprestart", HTTP);
    let requests = OpenLoop::start(&talk.client, Answer::SERVERS);
    director.kill().expect("lb ends");
    director.restart().expect("it starts again");
    wait_until_up(&director, &["www1", "www2"]);
    let status = director.status().expect("lb answers");
    assert_eq!(status.dropped("no_server"), 0, "clients found no server");
    let requests = requests.finish().expect("the client can ask");
    let served = requests.iter().filter(|request| matches!(request.outcome, Outcome::Page(_))).count();
    assert!(served > requests.len() / 2, "{served} of {}", requests.len());
}

/// A DNS answer (RFC 1035): whatever is asked for is at 192.0.2.80.
fn dns_answer(question: &[u8]) -> Vec<u8> {
    let header = [0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 80];
    [&question[..2], &header, &question[12..], &record].concat()
}

#[test]
fn datagrams_are_checked_through_the_vip_as_well() {
    const PORT: u16 = 5353;
    let limits = "via: vip, interval: 300ms, timeout: 1s";
    let dns = format!("{{ type: dns, query: www.example.net, answer: 192.0.2.80, {limits} }}");
    let udp = format!("{{ type: udp, send: 'is anybody there?', {limits} }}");
    let talk = Talk::new(&unique_name("vipudp")).expect("the cluster comes up");
    let respond =
        |node: &Node, address| Responder::start(node, (address, PORT), dns_answer).expect("a responder");
    let [www1, www2] = [talk.www1.node(), talk.www2.node()];
    let _others = [respond(www1, www1.address()), respond(www2, www2.address()), respond(www2, VIP)];
    let mut at_vip = respond(www1, VIP);
    let director = Director::start(&talk.ha1, &service("udp", PORT, &dns)).expect("lb starts on ha1");
    for check in [dns, udp] {
        director.reconfigure(&service("udp", PORT, &check)).expect("the file is written");
        wait_until_up(&director, &["www1", "www2"]);
        drop(at_vip);
        wait_until_www1_is_out(&director, SILENT);
        at_vip = respond(www1, VIP);
        wait_until_up(&director, &["www1", "www2"]);
    }
}

/// macvlan has no native XDP.
#[test]
fn generic_mode_does_as_well() {
    let talk = Talk::new(&unique_name("vipgeneric")).expect("the cluster comes up");
    talk.ha1.ip("address flush dev eth0").expect("ip works");
    talk.ha1.ip("link add link eth0 name mac0 type macvlan mode bridge").expect("ip works");
    talk.ha1.ip("address add 211.58.250.5/25 dev mac0").expect("ip works");
    talk.ha1.ip("link set mac0 up").expect("ip works");
    let configuration = configuration(HTTP).replace("eth0", "mac0");
    let director = Director::start(&talk.ha1, &configuration).expect("lb starts on mac0");
    assert_eq!(director.status().expect("a status").mode, "generic");
    let is_told = |status: &Status| {
        let found = status.findings.iter().find(|finding| finding.finding == "interface_unsuited");
        found.is_some_and(|found| {
            found.text.starts_with("mac0 shares the network card eth0: XDP is in generic mode")
        })
    };
    director.wait_until("why it is generic is told", PATIENCE, is_told).expect("a finding");
    wait_until_up(&director, &["www1", "www2"]);
    take_vip_away(talk.www1.node());
    wait_until_www1_is_out(&director, NOT_ON_LOOPBACK);
}

#[test]
fn checks_through_the_vip_come_and_go_with_the_configuration() {
    let by_server = HTTP.replace("via: vip", "via: server");
    let (talk, director) = start("vipreload", &by_server);
    take_vip_away(talk.www1.node());
    director.reconfigure(&configuration(HTTP)).expect("the file is written");
    wait_until_www1_is_out(&director, NOT_ON_LOOPBACK);
    director.reconfigure(&configuration(&by_server)).expect("the file is written");
    wait_until_up(&director, &["www1", "www2"]);
    director.reconfigure(&configuration(HTTP)).expect("the file is written");
    wait_until_www1_is_out(&director, NOT_ON_LOOPBACK);
}

//! Machines that are more than one thing, with real clients: a server that is the clients' gateway,
//! directors that are real servers, and services that nobody serves.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lb_lab::busy::measured;
use lb_lab::cluster::pair::{PATIENCE, Pair, Settings};
use lb_lab::cluster::{FALLBACK_PAGE, HA2_FALLBACK_PAGE, Talk, VIP};
use lb_lab::lab::{Director, Node, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;
use lb_lab::scenario::traffic::{Answer, Spread, Stream};

/// A service of these servers on the talk's VIP, checked by `check`.
fn web(check: &str, servers: &str) -> String {
    format!(
        "interface: eth0\ngroups: [{{ vips: [{VIP}/25] }}]\nservices:\n  - name: web\n    vip: {VIP}:80\n    \
         scheduler: rr\n    check: {{ {check} }}\n    servers: [{servers}]\n"
    )
}

const HTTP: &str = "type: http, request: /index.html, interval: 500ms, timeout: 2s";
const BOTH_SERVERS: &str = "{ name: www1, address: 211.58.250.25 }, { name: www2, address: 211.58.250.27 }";

#[track_caller]
fn wait_for_servers(director: &Director) {
    let both = |status: &lb_api::status::Status| status.serves("www1") && status.serves("www2");
    if let Err(error) = director.wait_until("both servers up", PATIENCE, both) {
        panic!("{error:#}\n{}", director.log_tail());
    }
}

/// A client on another network, whose gateway is www1. As a real server that one holds the VIP, so
/// it would serve all that the client sends by itself; its rules have what comes from there go on
/// to the director.
fn behind_www1(talk: &Talk) -> Node {
    let far = talk.lab.node("far", "211.58.250.101/25".parse().expect("an address")).expect("a node");
    let join = |node: &Node, address: &str| {
        let address = address.parse().expect("an address");
        talk.lab.join_heartbeat_segment(node, address).expect("it has an eth1");
    };
    join(&far, "10.0.0.100/24");
    join(talk.www1.node(), "10.0.0.25/24");
    far.ip("link set eth0 down").expect("it can");
    far.ip("route add default via 10.0.0.25").expect("a route");
    let www1 = talk.www1.node();
    www1.sysctl("net/ipv4/ip_forward", "1").expect("it routes");
    // A packet for which the kernel has found a socket too early is not forwarded.
    www1.sysctl("net/ipv4/tcp_early_demux", "0").expect("it can be set");
    // As systemd sets it: a source must be reached by some interface, not by the one that it came
    // in by.
    www1.sysctl("net/ipv4/conf/eth0/rp_filter", "2").expect("it can be set");
    for rule in [
        format!("rule add priority 10 iif eth1 to {VIP} lookup main"),
        "rule add priority 20 lookup local".to_owned(),
        "rule delete priority 0".to_owned(),
    ] {
        www1.ip(&rule).expect("a rule");
    }
    talk.www2.node().ip("route add 10.0.0.0/24 via 211.58.250.25").expect("a route");
    far
}

#[test]
fn b7_a_real_server_may_be_the_gateway_of_clients() {
    let talk = Talk::new(&unique_name("gateway")).expect("the cluster comes up");
    let far = behind_www1(&talk);
    let director = Director::start(&talk.ha1, &web(HTTP, BOTH_SERVERS)).expect("lb starts");
    wait_for_servers(&director);
    let spread = Spread::of_requests(&far, 20);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (10, 10), "{spread}");
    let status = director.status().expect("a status");
    assert_eq!(status.dropped("loop"), 0);
    assert!(status.finding("server_forwards").is_none());
    let near = Spread::of_requests(&talk.client, 10);
    assert_eq!((near.by(Answer::Www1), near.by(Answer::Www2)), (5, 5), "{near}");

    // Without the VIP www1 sends what comes back to it to the director: once, and then that is
    // told.
    talk.www1.node().lose_vip(VIP).expect("it had it");
    let spread = Spread::of_requests(&far, 2);
    assert_eq!((spread.by(Answer::None), spread.by(Answer::Www2)), (1, 1), "{spread}");
    let seen =
        director.wait_until("the finding", PATIENCE, |status| status.finding("server_forwards").is_some());
    let seen = seen.expect("it is found");
    let text = &seen.finding("server_forwards").expect("it is there").text;
    assert!(text.contains("www1") && text.contains(&VIP.to_string()), "{text}");
    // curl gives up after 2 s: a SYN, and the same again after a second.
    let loops = seen.dropped("loop");
    assert!((1..=3).contains(&loops), "{loops} packets came back");
}

#[test]
fn b8_a_lone_director_is_a_server_of_its_own_service() {
    let talk = Talk::new(&unique_name("alone")).expect("the cluster comes up");
    let servers = "{ name: www1, address: 211.58.250.25 }, { name: www2, address: 211.58.250.5 }";
    for via in ["server", "vip"] {
        let configuration = web(&format!("{HTTP}, via: {via}"), servers);
        let director = Director::start(&talk.ha1, &configuration).expect("lb starts");
        wait_for_servers(&director);
        let spread = Spread::of_requests(&talk.client, 20);
        assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Fallback)), (10, 10), "{spread}");
        let status = director.status().expect("a status");
        let host = status.server("www2").expect("it is listed");
        assert_eq!(host.mac.as_deref(), Some(&*talk.ha1.mac()));
        assert_eq!(host.connections, 10);
        assert!(director.listing().expect("a listing").contains("Local"));

        talk.fallback.stop().expect("its web server stops");
        director
            .wait_until("its own host down", PATIENCE, |status| !status.serves("www2"))
            .expect("it is seen");
        let spread = Spread::of_requests(&talk.client, 4);
        assert_eq!(spread.by(Answer::Www1), 4, "{spread}");
        talk.fallback.start().expect("its web server starts");
        director.order(&["stop", "--release"]).expect("it stops");
    }
}

/// ha1 and ha2, called www1 and www2 as servers: what waits for servers in labs knows these names.
const BOTH_DIRECTORS: &str = "{ name: www1, address: 211.58.250.5 }, { name: www2, address: 211.58.250.7 }";
/// Requests before a move and after it.
const AROUND: Duration = Duration::from_millis(500);

const HOSTS: &[Answer] = &[Answer::Fallback, Answer::Ha2Fallback];

fn both_machines(purpose: &str, check: &str) -> (Talk, Pair) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    talk.ha1.hold_vip(VIP).expect("a VIP on its loopback");
    talk.ha2.hold_vip(VIP).expect("a VIP on its loopback");
    // It stays where it was moved to.
    let configuration = web(check, BOTH_DIRECTORS).replace("/25] }", "/25], failback: manual }");
    let pair = Pair::start_with(&talk, Settings::DEFAULT, &configuration);
    let pair = pair.unwrap_or_else(|error| panic!("{error:#}"));
    (talk, pair)
}

#[track_caller]
fn both_hosts_serve(talk: &Talk) {
    let spread = Spread::of_requests(&talk.client, 20);
    assert_eq!((spread.by(Answer::Fallback), spread.by(Answer::Ha2Fallback)), (10, 10), "{spread}");
}

/// Moves the group to and fro under traffic: no request fails, connections stay where they are, and
/// both hosts serve.
fn moves_lose_nothing(check: &str) -> Result<()> {
    let (talk, pair) = both_machines("both", check);
    both_hosts_serve(&talk);
    let mut kept: Vec<(KeptOpen, String)> = Vec::new();
    let mut holder = "ha1";
    for next in ["ha2", "ha1", "ha2", "ha1"] {
        for _ in 0..4 {
            let mut connection = KeptOpen::open(&talk.client);
            let page = connection.get();
            kept.push((connection, page));
        }
        let stream = Stream::start(&talk.client);
        thread::sleep(AROUND);
        if holder == "ha1" { pair.ha1.failover() } else { pair.ha2.failover() }?;
        pair.wait_until_held_by(next)?;
        thread::sleep(AROUND);
        let spread: Spread = stream.finish()?.iter().collect();
        let answered: u32 = HOSTS.iter().map(|host| spread.by(*host)).sum();
        ensure!(answered == spread.total(), "{holder} to {next}: {spread}\n{}", pair.shown());
        holder = next;
        for (connection, page) in &mut kept {
            let got = connection.try_get()?;
            ensure!(got == *page, "after the move to {next}: {got} in place of {page}");
        }
        both_hosts_serve(&talk);
    }
    for page in [FALLBACK_PAGE, HA2_FALLBACK_PAGE] {
        ensure!(kept.iter().any(|(_, served)| served == page), "no connection to {page}");
    }
    Ok(())
}

#[test]
fn b8_two_machines_are_both_director_and_server_through_planned_moves() {
    for check in [HTTP.to_owned(), format!("{HTTP}, via: vip")] {
        measured("planned moves of two machines that are both", || moves_lose_nothing(&check))
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn b8_a_director_that_is_killed_takes_no_server_along() {
    let (talk, mut pair) = both_machines("killed", HTTP);
    let mut kept: Vec<(KeptOpen, String)> = Vec::new();
    for _ in 0..6 {
        let mut connection = KeptOpen::open(&talk.client);
        let page = connection.get();
        kept.push((connection, page));
    }
    pair.ha1.kill().expect("lb on ha1 dies");
    pair.wait_for_take_over().expect("ha2 takes over");
    // The web server on ha1 lives, and the program that lb has left there lets through what ha2
    // sends.
    both_hosts_serve(&talk);
    for (connection, page) in kept.iter_mut().filter(|(_, page)| page == HA2_FALLBACK_PAGE) {
        assert_eq!(connection.get(), *page, "it was at ha2 all the time");
    }
    pair.ha1.restart().expect("lb starts again");
    pair.wait_until_held_by("ha2").expect("both agree");
    both_hosts_serve(&talk);
}

#[test]
fn b8_a_vip_that_is_not_on_the_loopback_is_told_of() {
    let (talk, pair) = both_machines("lacking", HTTP);
    assert!(pair.ha1.status().expect("a status").finding("vip_not_on_loopback").is_none());
    talk.ha2.lose_vip(VIP).expect("it had it");
    // A change of the servers makes it look.
    talk.fallback.stop().expect("the web server of ha1 stops");
    let found = |status: &lb_api::status::Status| status.finding("vip_not_on_loopback").is_some();
    pair.ha2.wait_until("the finding", PATIENCE, found).expect("it is found");
}

#[test]
fn c7_clients_of_a_service_without_a_server_are_refused_at_once() {
    let talk = Talk::new(&unique_name("refuse")).expect("the cluster comes up");
    let configuration = web(HTTP, BOTH_SERVERS)
        + "    fallback: refuse\n  - vip: 211.58.250.6:53\n    protocol: udp\n    \
                         check: { type: tcp, port: 80, interval: 500ms, timeout: 2s }\n    fallback: refuse\n    \
                         servers: [{ name: www1, address: 211.58.250.25 }]\n";
    let director = Director::start(&talk.ha1, &configuration).expect("lb starts");
    wait_for_servers(&director);
    assert_eq!(Spread::of_requests(&talk.client, 2).by(Answer::Www1), 1);
    talk.www1.stop().expect("www1 stops");
    talk.www2.stop().expect("www2 stops");
    let nobody = director.wait_until("nobody left", PATIENCE, |status| {
        status.services.iter().all(|service| service.on_fallback)
    });
    nobody.unwrap_or_else(|error| panic!("{error:#}"));

    // A client that got no answer would try for many times as long; a reset can only come from the
    // VIP.
    let refused = measured("both are refused at once", || {
        let begun = Instant::now();
        let refused = talk.client.run(|| std::net::TcpStream::connect((VIP, 80)).map(drop))?;
        assert_eq!(refused.expect_err("nobody serves").kind(), ErrorKind::ConnectionRefused);
        let asked = talk.client.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect((VIP, 53))?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.send(b"who?")?;
            lb_lab::uninterrupted(|| socket.recv(&mut [0; 64]))
        });
        let error = asked?.expect_err("nobody serves");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "an ICMP error");
        let took = begun.elapsed();
        ensure!(took < Duration::from_secs(1), "one lost SYN would take as long: {took:?}");
        Ok(())
    });
    refused.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(director.listing().expect("a listing").contains("refused"));

    talk.www1.start().expect("www1 starts");
    director.wait_until("www1 back", PATIENCE, |status| status.serves("www1")).expect("it is back");
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www1), 4);
}

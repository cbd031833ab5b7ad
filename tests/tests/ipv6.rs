//! Services of IPv6 with real clients and servers: balanced, checked, taken over.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use lb_api::status::Status;
use lb_lab::cluster::pair::PATIENCE;
use lb_lab::cluster::{FALLBACK_PAGE, Talk, VIP};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Director, Node, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;
use lb_lab::scenario::traffic::{Answer, Spread};

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

/// It holds the VIP on its interface instead of lo, and tells so only who asks.
#[test]
fn b1_a_real_server_that_answers_for_a_vip_of_ipv6_is_named_with_the_mend() {
    let talk = talk("sixclaim");
    let director = director(&talk, &address(talk.www2.node()));
    let www1 = talk.www1.node();
    www1.ip("-6 address add fd00::6/64 dev eth0 nodad").expect("ip works");
    let status = wait_for(&director, "it is found", |status| status.finding("vip_claimed").is_some());
    let found = status.finding("vip_claimed").expect("just seen");
    let text = format!(
        "real server www1 ({}, MAC {}) answers neighbour solicitations for VIP fd00::6",
        www1.ipv6(),
        www1.mac()
    );
    assert!(found.text.starts_with(&text), "{found:?}");
    assert!(found.mend.contains("ip -6 address add fd00::6/128 dev lo"), "{found:?}");
    www1.ip("-6 address del fd00::6/64 dev eth0").expect("ip works");
    wait_for(&director, "it is over", |status| status.finding("vip_claimed").is_none());
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

/// A connection that stays open, and who answers over it.
fn open(talk: &Talk) -> (TcpStream, Answer) {
    let connected = talk.client.run(|| TcpStream::connect("[fd00::6]:80")).expect("the client runs");
    let mut connection = connected.expect("the VIP serves");
    connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let server = ask(&mut connection);
    (connection, server)
}

#[test]
fn connections_of_ipv6_outlive_a_restart() {
    let talk = talk("sixrestart");
    let mut director = director(&talk, &address(talk.www2.node()));
    let mut connections: Vec<(TcpStream, Answer)> = (0..20).map(|_| open(&talk)).collect();
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

/// The VIPs of both families, a service of IPv4, and one of IPv6 if that is wanted. The servers of
/// IPv6 have names of their own.
fn of_both_families(talk: &Talk, with_ipv6: bool) -> String {
    let six = configuration(talk, &address(talk.www2.node()))
        .replace("['fd00::6/64']", &format!("['{VIP}/25', 'fd00::6/64']"))
        .replace("www1", "six1")
        .replace("www2", "six2");
    let (head, service) = six.split_once("services:\n").expect("services");
    let of_ipv6 = if with_ipv6 { service } else { "" };
    format!(
        "{head}services:\n  - vip: '{VIP}:80'\n    scheduler: rr\n    \
         check: {{ type: http, request: /index.html, receive: Test Page, interval: 500ms, timeout: 2s }}\n    \
         servers: [{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: 211.58.250.27 }}]\n{of_ipv6}"
    )
}

#[track_caller]
fn assert_go_on(connections: &mut [(KeptOpen, String)], when: &str) {
    for (connection, page) in connections {
        assert_eq!(connection.get(), *page, "{when}");
    }
}

/// While `lb` is away the file loses its only service of IPv6. What that service has drains, and
/// the next start does without its programs.
#[test]
fn a_service_of_ipv6_may_leave_over_a_restart_and_come_back_by_reload() {
    let talk = talk("sixleaves");
    let (both, alone) = (of_both_families(&talk, true), of_both_families(&talk, false));
    let serve = |names: &[&str], status: &Status| {
        names.iter().all(|name| status.serves(name)) && status.findings.is_empty()
    };
    let all = ["www1", "www2", "six1", "six2"];
    let mut director = Director::start(&talk.ha1, &both).expect("lb starts");
    wait_for(&director, "all serve, and nothing is wrong", |status| serve(&all, status));
    let open_four = |_| {
        let mut connection = KeptOpen::open(&talk.client);
        let page = connection.get();
        (connection, page)
    };
    let mut four: Vec<(KeptOpen, String)> = (0..6).map(open_four).collect();
    let mut six: Vec<(TcpStream, Answer)> = (0..6).map(|_| open(&talk)).collect();
    for server in Answer::SERVERS {
        assert_eq!(six.iter().filter(|(_, answer)| answer == server).count(), 3, "{server:?}");
    }

    director.stop().expect("lb stops");
    director.reconfigure(&alone).expect("a new file");
    director.restart().expect("lb starts again");
    let shown = director.status().expect("a status");
    let draining = shown.services.iter().filter(|service| service.draining).map(|service| service.vip);
    assert!(draining.eq(["fd00::6".parse::<IpAddr>().expect("an address")]), "{:?}", director.listing());
    for (connection, server) in &mut six {
        assert_eq!(ask(connection), *server, "a connection of a service that drains");
    }
    assert_go_on(&mut four, "without the service of IPv6");
    let new = || Answer::of_page(&talk.client.get(URL).expect("the host serves"));
    assert_eq!(new(), Answer::Fallback, "new connections of IPv6 are the host's");
    let is_well = |status: &Status| serve(&all[..2], status);
    wait_for(&director, "IPv4 is served, and nothing is wrong", is_well);

    // It is gone, and the next start knows nothing of it.
    drop(six);
    let deadline = Instant::now() + 2 * PATIENCE;
    while director.status().expect("a status").services.len() > 1 {
        assert!(Instant::now() < deadline, "the service of IPv6 drains on: {:?}", director.listing());
        assert_go_on(&mut four, "while IPv6 drains");
        thread::sleep(Duration::from_millis(500));
    }
    director.stop().expect("lb stops");
    assert_eq!(new(), Answer::Fallback, "without lb");
    director.restart().expect("lb starts again");
    assert_go_on(&mut four, "after another restart");
    assert_eq!(new(), Answer::Fallback, "with the next lb");
    wait_for(&director, "IPv4 is served, and nothing is wrong", is_well);

    director.reconfigure(&both).expect("a new file");
    wait_for(&director, "all serve, and nothing is wrong", |status| serve(&all, status));
    assert_shared_equally(&talk);
    assert_go_on(&mut four, "with a service of IPv6 again");
    let spread = Spread::of_requests(&talk.client, 4);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (2, 2), "{spread:?}");
    let (mut connection, server) = open(&talk);
    assert_eq!(ask(&mut connection), server, "a new connection of IPv6 stays with its server");
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

/// The whole answer to a request of the client's, and curl's exit code.
fn curl(talk: &Talk) -> (String, Option<i32>) {
    let options = ["-q", "--silent", "--include", "--noproxy", "*", "--max-time", "3", URL];
    let output = talk.client.command("curl").args(options).output().expect("curl runs");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

/// Names of servers in commands, files, labels and hooks' environments; every fallback.
#[test]
fn operators_find_of_ipv6_what_they_know_of_ipv4() {
    let talk = talk("sixops");
    let folder = talk.ha1.folder().expect("a folder");
    let (disabled, log, hook) = (folder.join("disabled"), folder.join("hooks.log"), folder.join("hook"));
    let tell = "echo $LB_SERVICE $LB_VIP $LB_PORT $LB_SERVER $LB_SERVER_ADDRESS";
    fs::write(&hook, format!("#!/bin/sh\n{tell} >> {}\n", log.display())).expect("a script");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("it can be run");
    let with_fallback = |fallback: &str| {
        let service = format!(
            "hooks: {{ server_down: [{}] }}\n    fallback: '{fallback}'\n    servers:",
            hook.display()
        );
        configuration(&talk, "fd00::27")
            .replace("metrics: off", &format!("maintenance_dir: {}", disabled.display()))
            .replace("name: www1, ", "")
            .replace("name: www2, ", "")
            .replace("servers:", &service)
    };
    let director = Director::start(&talk.ha1, &with_fallback("refuse")).expect("lb starts");
    let both_up = |status: &Status| status.serves("fd00::25") && status.serves("fd00::27");
    wait_for(&director, "both servers up", both_up);

    director.order(&["disable", "[fd00::25]:80", "--reason", "new disk"]).expect("it is known");
    wait_for(&director, "www1 in maintenance", |status| !status.serves("fd00::25"));
    director.order(&["enable", "FD00:0::25"]).expect("it is known");
    fs::create_dir_all(&disabled).expect("a folder");
    fs::write(disabled.join("FD00:0::27"), "new fan\n").expect("a file");
    wait_for(&director, "www2 in maintenance alone", |status| {
        status.serves("fd00::25") && !status.serves("fd00::27")
    });
    fs::remove_file(disabled.join("FD00:0::27")).expect("it is there");
    wait_for(&director, "both servers up", both_up);

    director.order(&["probe", "[fd00::6]:80", "[fd00::25]"]).expect("it answers");
    let filter = ["--client", "fd00::/64", "--service", "[fd00::6]:80", "--server", "[fd00::25]:80"];
    let trace = [&filter[..], &["--count", "1", "--seconds", "60"]].concat();
    let trace = director.start_trace(&trace).expect("lb trace starts");
    wait_for(&director, "a packet told", |_| {
        talk.client.get(URL).expect("the VIP serves");
        fs::metadata(format!("/proc/{}/exe", trace.id())).is_err()
    });
    let told = trace.wait_with_output().expect("it has ended").stdout;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("[fd00::100]:") && told.contains("-> fd00::25, direct"), "{told}");
    let metrics = talk.ha1.get("http://127.0.0.1:9105/metrics").expect("metrics");
    let label = "lb_server_up{server=\"fd00::25\",service=\"tcp/[fd00::6]:80\"} 1";
    assert!(metrics.contains(label), "{metrics}");

    for server in [&talk.www1, &talk.www2] {
        server.stop().expect("nginx stops");
    }
    wait_for(&director, "no server", |status| !status.serves("fd00::25") && !status.serves("fd00::27"));
    assert_eq!(curl(&talk).1, Some(7), "the client is told at once that it is refused");
    wait_for(&director, "hooks", |_| {
        let told = fs::read_to_string(&log).unwrap_or_default();
        let mut lines: Vec<&str> = told.lines().collect();
        lines.sort_unstable();
        lines == ["25", "27"].map(|last| format!("tcp/[fd00::6]:80 fd00::6 80 fd00::{last} fd00::{last}"))
    });

    let www3 = talk.lab.node("www3", "211.58.250.29/25".parse().expect("an address")).expect("a node");
    www3.add_ipv6("fd00::29/64").expect("an address");
    www3.sysctl("net/ipv6/conf/lo/disable_ipv6", "0").expect("it can be set");
    www3.ip("-6 address add fd00::6/128 dev lo nodad").expect("it holds the VIP");
    let web = www3.web_server("Fallback page of www3").expect("a web server");
    web.start().expect("nginx starts");
    let serves = |fallback: &str, page: &str| {
        director.reconfigure(&with_fallback(fallback)).expect("a new file");
        wait_for(&director, page, |_| curl(&talk).0.contains(page));
    };
    serves("fd00::29", "Fallback page of www3");
    serves("local", FALLBACK_PAGE);
    talk.fallback.stop().expect("nginx stops");
    serves("sorry", "503 Service Unavailable");
}

//! What becomes of servers and services as their health changes: quorum, fallbacks, maintenance,
//! slow start, hooks, quiescent mode. On the talk's cluster with the real `lb`, real servers and
//! curl.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lb_api::events::Record;
use lb_api::status::Status;
use lb_lab::cluster::{Talk, URL, VIP};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Director, Link, Node, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;
use lb_lab::scenario::traffic::{Answer, Spread};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const SERVERS: &str = "{ name: www1, address: 211.58.250.25 }, { name: www2, address: 211.58.250.27 }";

/// The talk's service, checked often, with `more` lines and these servers.
fn configuration(talk: &Talk, more: &str, servers: &str) -> String {
    format!(
        "\
interface: eth0
metrics: off
maintenance_dir: {}
groups: [{{ vips: [{VIP}/25] }}]
services:
  - name: web
    vip: {VIP}:80
    scheduler: rr
    check: {{ type: http, request: /index.html, receive: Test Page, interval: 200ms, timeout: 1s }}
{more}
    servers: [{servers}]
",
        maintenance(talk).display()
    )
}

fn maintenance(talk: &Talk) -> PathBuf {
    talk.ha1.folder().expect("a folder").join("disabled")
}

fn start(purpose: &str, more: &str, servers: &str) -> (Talk, Director) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let director =
        Director::start(&talk.ha1, &configuration(&talk, more, servers)).expect("lb starts on ha1");
    wait_for(&director, "both servers up", |status| status.serves("www1") && status.serves("www2"));
    (talk, director)
}

/// The whole answer to a request of the client's, header and body.
fn answer(client: &Node, options: &[&str]) -> String {
    let mut curl = client.command("curl");
    curl.args(["-q", "--silent", "--include", "--noproxy", "*", "--max-time", "3"]).args(options).arg(URL);
    String::from_utf8_lossy(&curl.output().expect("curl runs").stdout).into_owned()
}

fn health<'s>(status: &'s Status, server: &str) -> &'s str {
    status.server(server).map_or("", |server| server.health.word())
}

/// Kinds of the events so far, in their order.
/// What became of servers and services; who is in service follows from that, and is left out.
fn events(director: &Director) -> Vec<String> {
    const FOLLOWS: [&str; 6] =
        ["attached", "vip_taken", "service_added", "service_removed", "server_added", "server_removed"];
    let kinds = director.events().expect("lb events answers").into_iter().map(|event| event.event);
    kinds.filter(|kind| !FOLLOWS.contains(&&**kind)).collect()
}

#[test]
fn without_its_quorum_a_service_says_sorry() {
    let talk = Talk::new(&unique_name("sorry")).expect("the cluster comes up");
    let page = talk.ha1.folder().expect("a folder").join("sorry.html");
    let more = format!("    quorum: 2\n    fallback: sorry\n    sorry_page: {}", page.display());
    // The director's own web server has the port.
    let director =
        Director::start(&talk.ha1, &configuration(&talk, &more, SERVERS)).expect("lb starts on ha1");
    let status = wait_for(&director, "the port that is taken", |status| {
        status.services[0].fallback_error.is_some() && status.serves("www1") && status.serves("www2")
    });
    let error = status.services[0].fallback_error.as_deref().expect("it is there");
    assert!(error.contains("another program listens there"), "{error}");
    talk.fallback.stop().expect("nginx stops");
    wait_for(&director, "the port", |status| status.services[0].fallback_ready);
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::None), 0, "the quorum is there");

    talk.www2.stop().expect("nginx stops");
    wait_for(&director, "the fallback", Status::on_fallback);
    let built_in = answer(&talk.client, &[]);
    for wanted in
        ["HTTP/1.1 503 Service Unavailable", "retry-after: 10", "cache-control: no-store", "back soon"]
    {
        assert!(built_in.contains(wanted), "{wanted:?} is not in: {built_in}");
    }
    fs::write(&page, "<h1>Closed for stocktaking</h1>").expect("a page");
    assert!(answer(&talk.client, &[]).ends_with("<h1>Closed for stocktaking</h1>"));
    assert!(answer(&talk.client, &["--head"]).contains("503"), "HEAD is answered, too");
    let listing = director.listing().expect("a listing");
    assert!(listing.contains("sorry: SERVING, usable servers weigh 1, the quorum is 2"), "{listing}");

    talk.www2.start().expect("nginx starts");
    wait_for(&director, "the real servers", |status| !status.on_fallback());
    let spread = Spread::of_requests(&talk.client, 4);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (2, 2));
    let told = events(&director);
    let course =
        ["server_down", "quorum_lost", "fallback_started", "server_up", "quorum_won", "fallback_ended"];
    assert!(told.ends_with(&course.map(str::to_owned)), "{told:?}");
}

#[test]
fn a_server_can_be_the_fallback() {
    let (talk, director) = start("fallback", "    fallback: 211.58.250.29", SERVERS);
    let www3 = talk.lab.node("www3", "211.58.250.29/25".parse().expect("an address")).expect("a node");
    www3.hold_vip(VIP).expect("it holds the VIP");
    let web = www3.web_server("Fallback page of www3").expect("a web server");
    web.start().expect("nginx starts");
    let of_fallback = |status: &Status| status.services[0].fallback_server.clone().expect("it is listed");
    let status = wait_for(&director, "the fallback's MAC", |status| status.services[0].fallback_ready);
    assert_eq!((of_fallback(&status).effective_weight, status.on_fallback()), (0, false));
    talk.www1.stop().expect("nginx stops");
    talk.www2.stop().expect("nginx stops");
    let status = wait_for(&director, "the fallback", Status::on_fallback);
    assert_eq!(of_fallback(&status).effective_weight, 1);
    assert_eq!(talk.client.get(URL).expect("a page"), "Fallback page of www3\n");
    let counted = wait_for(&director, "its connection", |status| of_fallback(status).connections == 1);
    assert!(counted.services[0].servers.iter().all(|server| server.name != "211.58.250.29"));

    talk.www2.start().expect("nginx starts");
    wait_for(&director, "www2", |status| status.serves("www2") && !status.on_fallback());
    assert_eq!(Spread::of_requests(&talk.client, 3).by(Answer::Www2), 3);
    let is_of_web = |event: &Record| event.service.as_deref() == Some("web");
    director.wait_for_events("fallback_ended", 1, PATIENCE, is_of_web).expect("it serves no more");
}

#[test]
fn a_disabled_server_keeps_its_connections_until_it_is_enabled_again() {
    let (talk, mut director) = start("disable", "", SERVERS);
    let mut open = [KeptOpen::open(&talk.client), KeptOpen::open(&talk.client)];
    let pages = open.each_mut().map(KeptOpen::get);
    let told = director.order(&["disable", "www1", "--reason", "new disk"]).expect("www1 is known");
    assert_eq!(told, "drained until `lb enable www1`: www1 of web\n");
    let status = wait_for(&director, "maintenance", |status| health(status, "www1") == "maintenance");
    assert_eq!(status.server("www1").and_then(|server| server.reason.as_deref()), Some("new disk"));
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www2), 4, "new connections go elsewhere");
    assert_eq!(open.each_mut().map(KeptOpen::get), pages, "connections go on");
    assert_eq!(events(&director).last().map(String::as_str), Some("server_maintenance"));

    director.stop().expect("lb stops");
    director.restart().expect("lb starts again");
    wait_for(&director, "maintenance after a restart", |status| {
        health(status, "www1") == "maintenance" && status.serves("www2")
    });
    let wrong = director.order(&["disable", "www9"]).expect_err("there is none").to_string();
    assert!(wrong.contains("there is no server \"www9\", there are www1, www2"), "{wrong}");

    director.order(&["enable", "www1"]).expect("www1 is known");
    wait_for(&director, "www1", |status| status.serves("www1"));
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www1), 2);
}

#[test]
fn a_file_puts_a_server_into_maintenance() {
    let (talk, director) = start("files", "", SERVERS);
    let file = maintenance(&talk).join("211.58.250.27:80");
    fs::create_dir_all(maintenance(&talk)).expect("a folder");
    fs::write(&file, "memory test\nby Kim\n").expect("a file");
    let status = wait_for(&director, "maintenance", |status| health(status, "www2") == "maintenance");
    assert_eq!(status.server("www2").and_then(|server| server.reason.as_deref()), Some("memory test"));
    let held = director.order(&["enable", "www2:80"]).expect("its file covers nobody else");
    assert_eq!(held, "in maintenance no more: www2 of web\n");
    assert!(!file.exists());
    wait_for(&director, "www2", |status| status.serves("www2"));
}

#[test]
fn the_weight_of_a_server_that_comes_back_grows() {
    let servers = "{ name: www1, address: 211.58.250.25, weight: 100 }, \
                   { name: www2, address: 211.58.250.27, weight: 100 }";
    let (talk, director) = start("slow", "    slow_start: 4s\n    quorum: 1", servers);
    let weight = |status: &Status| status.server("www1").map_or(0, |server| server.effective_weight);
    assert_eq!(weight(&director.status().expect("a status")), 100, "lb's own start is none of www1's");
    talk.www1.stop().expect("nginx stops");
    wait_for(&director, "www1 out", |status| health(status, "www1") == "down");
    talk.www1.start().expect("nginx starts");
    let status = wait_for(&director, "www1 back", |status| status.serves("www1"));
    let (mut weights, deadline) = (vec![weight(&status)], Instant::now() + PATIENCE);
    while weights.last() != Some(&100) {
        assert!(Instant::now() < deadline, "it does not grow up: {weights:?}");
        let status = director.status().expect("a status");
        let server = status.server("www1").expect("it is there");
        let slow = server.weight_reason.as_deref() == Some("slow start");
        assert_eq!(slow, server.effective_weight < 100, "{server:?}");
        if weights.last() != Some(&server.effective_weight) {
            weights.push(server.effective_weight);
        }
        sleep(Duration::from_millis(20));
    }
    assert!(weights[0] < 50 && weights.is_sorted() && weights.len() > 3, "{weights:?}");
}

#[test]
fn hooks_are_run_and_a_stuck_one_holds_nobody_up() {
    let talk = Talk::new(&unique_name("hooks")).expect("the cluster comes up");
    let folder = talk.ha1.folder().expect("a folder");
    let log = folder.join("hooks.log");
    let tell = format!(
        "echo $1 $LB_SERVICE $LB_PROTOCOL $LB_VIP $LB_PORT $LB_SERVER $LB_SERVER_ADDRESS >> {}",
        log.display()
    );
    let (tells, stuck) = (script(&folder, "tells", &tell), script(&folder, "stuck", "exec sleep 60"));
    let more = format!(
        "    quorum: 2\n    hooks:\n      server_down: [{tells}, down]\n      server_up: [{stuck}]\n      \
         quorum_up: [{tells}, won]\n      quorum_down: [{tells}, lost]"
    );
    let _director =
        Director::start(&talk.ha1, &configuration(&talk, &more, SERVERS)).expect("lb starts on ha1");
    let wait_for_log = |wanted: &[&str]| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = fs::read_to_string(&log).unwrap_or_default();
            let mut lines: Vec<&str> = told.lines().collect();
            lines.sort_unstable();
            if lines == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "hooks have told: {told}");
            sleep(Duration::from_millis(20));
        }
    };
    let won = "won web tcp 211.58.250.6 80";
    wait_for_log(&[won]);
    talk.www1.stop().expect("nginx stops");
    let (down, lost) = ("down web tcp 211.58.250.6 80 www1 211.58.250.25", "lost web tcp 211.58.250.6 80");
    wait_for_log(&[down, lost, won]);
    talk.www1.start().expect("nginx starts");
    // Its own hook is stuck, which is www1's affair alone.
    wait_for_log(&[down, lost, won, won]);
    talk.www2.stop().expect("nginx stops");
    let other = "down web tcp 211.58.250.6 80 www2 211.58.250.27";
    wait_for_log(&[down, other, lost, lost, won, won]);
}

fn script(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
    path.to_str().expect("UTF-8").to_owned()
}

fn without_www1_its_client_alone_loses_its_connection(talk: &Talk, director: &Director) {
    let mut open = [KeptOpen::open(&talk.client), KeptOpen::open(&talk.client)];
    let pages = open.each_mut().map(KeptOpen::get);
    let place = pages.iter().position(|page| Answer::of_page(page) == Answer::Www1).expect("one is www1's");
    talk.www1.node().set_carrier("eth0", Link::Down).expect("the cable is pulled");
    wait_for(director, "www1 out", |status| health(status, "www1") == "down");
    let broken = open[place].try_get().expect_err("its server is gone");
    assert!(matches!(broken.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{broken}");
    assert_eq!(Answer::of_page(&KeptOpen::open(&talk.client).get()), Answer::Www2);
    assert_eq!(open[1 - place].get(), pages[1 - place], "the other one's connection goes on");
}

#[test]
fn without_quiescent_mode_clients_of_a_dead_server_can_connect_anew_at_once() {
    let (talk, director) = start("quiescent", "    quiescent: off", SERVERS);
    without_www1_its_client_alone_loses_its_connection(&talk, &director);

    talk.www1.node().set_carrier("eth0", Link::Up).expect("the cable is plugged in");
    wait_for(&director, "www1 back", |status| status.serves("www1"));
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www1), 2);
}

/// Strays go to a server by hash here, so nobody but the program would reset anything.
#[test]
fn clients_of_a_dead_server_are_told_by_a_reset_with_their_next_packet() {
    let (talk, director) = start("deadreset", "    stray: hash\n    dead_server: reset", SERVERS);
    without_www1_its_client_alone_loses_its_connection(&talk, &director);
    wait_for(&director, "it is counted", |status| {
        status.answers.iter().any(|answer| answer.reason == "server_dead" && answer.count > 0)
    });
}

#[test]
fn in_quiescent_mode_connections_wait_for_their_server() {
    let (talk, director) = start("keeps", "", SERVERS);
    let mut open = [KeptOpen::open(&talk.client), KeptOpen::open(&talk.client)];
    let pages = open.each_mut().map(KeptOpen::get);
    talk.www1.node().set_carrier("eth0", Link::Down).expect("the cable is pulled");
    wait_for(&director, "www1 out", |status| health(status, "www1") == "down");
    assert_eq!(Spread::of_requests(&talk.client, 2).by(Answer::Www2), 2);
    talk.www1.node().set_carrier("eth0", Link::Up).expect("the cable is plugged in");
    wait_for(&director, "www1 back", |status| status.serves("www1"));
    assert_eq!(open.each_mut().map(KeptOpen::get), pages, "they were never given up");
}

//! What becomes of clients while services and servers come, go and change by reload: on the talk's
//! cluster with the real `lb`, real servers and curl.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lb_api::status::Status;
use lb_lab::cluster::{Talk, URL, VIP};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Director, Link, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;
use lb_lab::scenario::traffic::{Answer, Spread};
use nix::sys::signal::Signal;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const WWW1: &str = "{ name: www1, address: 211.58.250.25 }";
const WWW2: &str = "{ name: www2, address: 211.58.250.27 }";

/// The head of a file, up to its services.
const HEAD: &str = "\
interface: eth0
metrics: off
groups: [{ vips: [211.58.250.6/25] }]
services:
";

/// A service that nobody asks for.
const OTHER: &str = "  - { name: other, vip: '211.58.250.6:8080', servers: [{ address: 211.58.250.27 }] }\n";

/// The talk's service, checked often, with `more` lines and these servers.
fn web(more: &str, servers: &str) -> String {
    format!(
        "  - name: web\n    vip: {VIP}:80\n    scheduler: rr\n    check: {{ type: http, request: /index.html, receive: \
         Test Page, interval: 200ms, timeout: 1s }}\n{more}    servers: [{servers}]\n"
    )
}

fn start(purpose: &str, services: &str) -> (Talk, Director) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let director = Director::start(&talk.ha1, &(HEAD.to_owned() + services)).expect("lb starts on ha1");
    (talk, director)
}

fn with_both(purpose: &str, more: &str) -> (Talk, Director) {
    let (talk, director) = start(purpose, &(OTHER.to_owned() + &web(more, &format!("{WWW1}, {WWW2}"))));
    wait_for(&director, "both servers up", |status| status.serves("www1") && status.serves("www2"));
    (talk, director)
}

fn reconfigure(director: &Director, services: &str) {
    director.reconfigure(&(HEAD.to_owned() + services)).expect("the file is written");
}

fn health<'s>(status: &'s Status, server: &str) -> &'s str {
    status.server(server).map_or("", |server| server.health.word())
}

fn has(status: &Status, service: &str) -> bool {
    status.services.iter().any(|seen| seen.name == service)
}

/// Two connections, and their pages; the first is www1's.
fn one_each(talk: &Talk) -> ([KeptOpen; 2], [String; 2]) {
    let mut open = [KeptOpen::open(&talk.client), KeptOpen::open(&talk.client)];
    if Answer::of_page(&open[0].get()) != Answer::Www1 {
        open.reverse();
    }
    let pages = open.each_mut().map(KeptOpen::get);
    assert_eq!(pages.each_ref().map(|page| Answer::of_page(page)), [Answer::Www1, Answer::Www2]);
    (open, pages)
}

/// Its entry is found by the sweep, a moment after its server is gone.
#[track_caller]
fn is_broken_soon(mut connection: KeptOpen) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connection.try_get() {
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return;
            }
            // Nobody has answered yet, or the server does still.
            _ => {}
        }
        assert!(Instant::now() < deadline, "its client still hangs");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn c1_a_file_that_is_written_slowly_is_taken_when_it_is_whole() {
    let (talk, director) = with_both("c1slow", "");
    let ([mut open, _other], [page, _]) = one_each(&talk);
    let path = director.configuration().expect("a path");
    let old = fs::read_to_string(&path).expect("the file as lb reads it");
    let (half, rest) = old.split_at(old.find("  - name: web").expect("the second service"));
    let mut writer = File::create(&path).expect("the file is opened");
    writer.write_all(half.as_bytes()).expect("the first half");
    let until = Instant::now() + Duration::from_secs(7);
    while Instant::now() < until {
        let status = director.status().expect("a status");
        assert!(has(&status, "web") && health(&status, "www1") == "up", "half a file was taken");
        assert_eq!(open.get(), page);
        sleep(Duration::from_millis(50));
    }
    let told = wait_for(&director, "a word of it", |status| status.config_error.is_some()).config_error;
    let told = told.expect("it is there");
    // Whose it is lb may not look up: it has given the right to look into others' processes up.
    assert!(told.contains("another program has it open for writing"), "{told}");

    writer.write_all(rest.replace("name: web", "name: www").as_bytes()).expect("the other half");
    drop(writer);
    wait_for(&director, "the whole file", |status| has(status, "www") && status.config_error.is_none());
    assert_eq!(open.get(), page);
    let events = director.events().expect("events");
    assert!(!events.iter().any(|event| event.event == "service_removed"), "{events:?}");
}

#[test]
fn c1_sighup_waits_for_whoever_writes_the_file() {
    let (talk, director) = with_both("c1hup", "");
    let path = director.configuration().expect("a path");
    let old = fs::read_to_string(&path).expect("the file as lb reads it");
    let (half, rest) = old.split_at(old.find("  - name: web").expect("the second service"));
    let mut writer = File::create(&path).expect("the file is opened");
    writer.write_all(half.as_bytes()).expect("the first half");
    director.process().signal(Signal::SIGHUP);
    let status = wait_for(&director, "a word of it", |status| status.config_error.is_some());
    let told = status.config_error.as_deref().expect("it is there");
    assert!(told.contains("has it open for writing") && has(&status, "web"), "{told}");
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::None), 0);
    writer.write_all(rest.as_bytes()).expect("the other half");
    drop(writer);
    wait_for(&director, "the whole file", |status| status.config_error.is_none() && has(status, "web"));
    director.process().signal(Signal::SIGHUP);
    director
        .wait_for_event("config_reloaded", PATIENCE, |event| event.cause.as_deref() == Some("SIGHUP"))
        .expect("SIGHUP reloads at once a file that nobody writes to");
}

#[test]
fn c1_a_service_that_leaves_drains_and_can_return() {
    let (talk, director) = with_both("c1drain", "    drain: 10m\n");
    let (mut open, pages) = one_each(&talk);
    reconfigure(&director, OTHER);
    let status = wait_for(&director, "web draining", |status| health(status, "www1") == "draining");
    assert!(has(&status, "web") && health(&status, "www2") == "draining");
    let listing = director.listing().expect("a listing");
    assert!(listing.contains("draining: it left the configuration"), "{listing}");
    assert_eq!(open.each_mut().map(KeptOpen::get), pages, "its connections live");
    // As at any port of the VIP that is nobody's service: ha1's own web server has this one.
    let spread = Spread::of_requests(&talk.client, 4);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (0, 0), "nobody takes new ones");

    reconfigure(&director, &(OTHER.to_owned() + &web("    drain: 10m\n", &format!("{WWW1}, {WWW2}"))));
    wait_for(&director, "web again", |status| status.serves("www1") && status.serves("www2"));
    assert_eq!(open.each_mut().map(KeptOpen::get), pages, "as if nothing had been");
    let spread = Spread::of_requests(&talk.client, 4);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (2, 2));

    reconfigure(&director, OTHER);
    wait_for(&director, "web draining", |status| health(status, "www1") == "draining");
    drop(open);
    reconfigure(&director, &(OTHER.to_owned() + &web("    drain: 0s\n", WWW2)));
    wait_for(&director, "web again", |status| status.serves("www2"));
    let mut last = KeptOpen::open(&talk.client);
    assert_eq!(Answer::of_page(&last.get()), Answer::Www2);
    reconfigure(&director, OTHER);
    wait_for(&director, "the end of www2's time", |status| health(status, "www2").is_empty());
    is_broken_soon(last);
}

#[test]
fn c5_whoever_uploads_to_the_sorry_page_sees_it() {
    let (talk, director) = start("c5", &web("    fallback: sorry\n", &format!("{WWW1}, {WWW2}")));
    for server in [&talk.fallback, &talk.www1, &talk.www2] {
        server.stop().expect("nginx stops");
    }
    wait_for(&director, "the sorry page", |status| status.on_fallback() && status.services[0].fallback_ready);
    let folder = talk.client.folder().expect("a folder");
    for (length, times) in [(200_000, 20), (5_000_000, 3)] {
        let body = folder.join(format!("body-{length}"));
        fs::write(&body, vec![b'x'; length]).expect("a body");
        let body = format!("@{}", body.display());
        for options in
            [&[][..], &["--header", "Expect:"], &["--header", "Expect: 100-continue"], &["--http1.0"]]
        {
            for turn in 0..times {
                let mut curl = talk.client.command("curl");
                curl.args([
                    "-q",
                    "--silent",
                    "--show-error",
                    "--noproxy",
                    "*",
                    "--max-time",
                    "20",
                    "--include",
                ]);
                curl.args(options).args(["--data-binary", &body, URL]);
                let output = curl.output().expect("curl runs");
                let [page, error] =
                    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
                let seen = page.contains("503 Service Unavailable") && page.contains("back soon");
                assert!(output.status.success() && seen, "{length} {options:?} {turn}: {error} {page}");
            }
        }
        for turn in 0..times {
            let answer = upload_all_first(&talk, length);
            assert!(answer.contains("503 Service Unavailable"), "{length} {turn}: {answer}");
        }
    }
}

/// As many clients do: nothing is read before everything is sent.
fn upload_all_first(talk: &Talk, length: usize) -> String {
    let stream = talk.client.run(|| TcpStream::connect((VIP, 80))).expect("in the client's namespace");
    let mut stream = stream.expect("the VIP takes connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
    let head = format!("POST / HTTP/1.1\r\nHost: {VIP}\r\nContent-Length: {length}\r\n\r\n");
    let mut answer = String::new();
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b'x'; length]));
    let done = sent.and_then(|()| stream.read_to_string(&mut answer));
    match done {
        Ok(_) => answer,
        Err(error) => format!("{error}, after {answer:?}"),
    }
}

#[test]
fn c6_the_weight_of_a_server_that_is_added_grows() {
    let more = "    slow_start: 5s\n";
    let heavy = |server: &str| server.replace(" }", ", weight: 100 }");
    let service = |servers: &str| web(more, servers).replace("scheduler: rr", "scheduler: wlc");
    let (_talk, director) = start("c6", &service(&heavy(WWW1)));
    let weight =
        |status: &Status, name: &str| status.server(name).map_or(0, |server| server.effective_weight);
    let status = wait_for(&director, "www1", |status| status.serves("www1"));
    assert_eq!(weight(&status, "www1"), 100, "the director's own start is none of www1's");

    reconfigure(&director, &service(&format!("{}, {}", heavy(WWW1), heavy(WWW2))));
    let status = wait_for(&director, "www2", |status| status.serves("www2"));
    let (mut weights, deadline) = (vec![weight(&status, "www2")], Instant::now() + PATIENCE);
    while weights.last() != Some(&100) {
        assert!(Instant::now() < deadline, "it does not grow up: {weights:?}");
        let status = director.status().expect("a status");
        assert_eq!(weight(&status, "www1"), 100);
        let now = weight(&status, "www2");
        if weights.last() != Some(&now) {
            weights.push(now);
        }
        sleep(Duration::from_millis(20));
    }
    assert!(weights[0] < 50 && weights.is_sorted() && weights.len() > 3, "{weights:?}");

    let other = OTHER.replace("name: other", "name: other, slow_start: 5s");
    let other = other.replace(" }]", ", name: new, weight: 100 }]");
    reconfigure(&director, &(service(&format!("{}, {}", heavy(WWW1), heavy(WWW2))) + &other));
    let status = wait_for(&director, "the new service", |status| weight(status, "new") > 0);
    assert_eq!(weight(&status, "new"), 100, "nobody could take the load off a service that begins");
}

#[test]
fn c7b_clients_of_a_server_that_dies_on_its_way_out_can_connect_anew() {
    let more = "    drain: 10m\n    quiescent: off\n";
    for dies_first in [true, false] {
        let (talk, director) = with_both("c7bdrain", more);
        let ([of_www1, mut of_www2], [_, page]) = one_each(&talk);
        let die = || talk.www1.node().set_carrier("eth0", Link::Down).expect("the cable is pulled");
        if dies_first {
            die();
        }
        reconfigure(&director, &(OTHER.to_owned() + &web(more, WWW2)));
        let left = |status: &Status| matches!(health(status, "www1"), "draining" | "");
        wait_for(&director, "www1 leaving", left);
        if !dies_first {
            assert_eq!(health(&director.status().expect("a status"), "www1"), "draining");
            die();
        }
        wait_for(&director, "www1 given up", |status| health(status, "www1").is_empty());
        is_broken_soon(of_www1);
        assert_eq!(of_www2.get(), page, "the other one's connection goes on");
    }
}

#[test]
fn c7b_clients_of_a_server_without_a_check_that_is_gone_can_connect_anew() {
    let talk = Talk::new(&unique_name("c7barp")).expect("the cluster comes up");
    // The kernel asks again after a second, not after half a minute.
    for key in ["base_reachable_time_ms=1000", "delay_first_probe_time=1"] {
        let set =
            talk.ha1.command("sysctl").args(["-q", "-w", &format!("net.ipv4.neigh.eth0.{key}")]).status();
        assert!(set.expect("sysctl runs").success(), "{key}");
    }
    let unchecked = |more: &str| {
        let service = web(&format!("    quiescent: off\n{more}"), &format!("{WWW1}, {WWW2}"));
        let lines = service.lines().filter(|line| !line.contains("check:"));
        HEAD.to_owned() + &lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let director = Director::start(&talk.ha1, &unchecked("")).expect("lb starts on ha1");
    let is_there = |status: &Status, name: &str| {
        status.server(name).is_some_and(|server| server.health.word() == "unchecked" && server.mac.is_some())
    };
    wait_for(&director, "both servers", |status| is_there(status, "www1") && is_there(status, "www2"));
    let ([of_www1, mut of_www2], [_, page]) = one_each(&talk);
    // Forgotten for a moment, as operators have it, is not gone.
    talk.ha1.ip("neighbour flush dev eth0").expect("ip works");
    assert_eq!(of_www2.get(), page);

    talk.www1.node().set_carrier("eth0", Link::Down).expect("the cable is pulled");
    let status = wait_for(&director, "www1 down", |status| health(status, "www1") == "down");
    let reason = status.server("www1").and_then(|server| server.reason.as_deref());
    assert_eq!(reason, Some("no answer to ARP for 211.58.250.25"));
    is_broken_soon(of_www1);
    assert_eq!(of_www2.get(), page, "the other one's connection goes on");
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www2), 4);

    talk.www1.node().set_carrier("eth0", Link::Up).expect("the cable is plugged in");
    wait_for(&director, "www1 back", |status| is_there(status, "www1"));
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www1), 2);
}

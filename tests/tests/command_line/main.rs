//! The command line as operators and their scripts use it, on the talk's cluster with a real
//! director, real servers and clients.
//!
//! - `exit_codes`: how commands end; `json`: what they print for programs, by its JSON schema

mod exit_codes;
mod json;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lb_api::connections::Connection;
use lb_api::events::Record;
use lb_api::status::Status;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::director::{binary, wait_for};
use lb_lab::lab::{Director, unique_name};
use lb_lab::scenario::alone::Alone;
use lb_lab::scenario::kept_open::KeptOpen;
use lb_tests::fill::fill;

const PATIENCE: Duration = Duration::from_secs(60);

fn start(purpose: &str) -> (Talk, Director) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let director = talk.start_serving().expect("lb starts on ha1, and both servers come up");
    (talk, director)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, standard output and standard error.
fn ended(director: &Director, words: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = director.try_order(words).expect("lb runs");
    (status.code(), text(&stdout), text(&stderr))
}

/// What a command prints that must succeed.
#[track_caller]
fn printed(director: &Director, words: &[&str]) -> String {
    director.order(words).unwrap_or_else(|error| panic!("{words:?}: {error:#}"))
}

#[track_caller]
fn connections(director: &Director, words: &[&str]) -> Vec<Connection> {
    let all = [&["connections", "--json"], words].concat();
    let lines = printed(director, &all);
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    lines.lines().map(parse).collect()
}

#[test]
fn connections_are_listed_and_filtered() {
    let (talk, director) = start("connections");
    let mut open: Vec<KeptOpen> = (0..6).map(|_| KeptOpen::open(&talk.client)).collect();
    open.iter_mut().for_each(|connection| drop(connection.get()));
    wait_for(&director, "six active connections", |status| {
        status.services.iter().flat_map(|service| &service.servers).map(|server| server.active).sum::<u32>()
            == 6
    });
    let established = connections(&director, &["--state", "established"]);
    assert_eq!(established.len(), 6);
    let client = talk.client.address().to_string();
    for connection in &established {
        assert_eq!(connection.client.to_string(), client);
        assert_eq!((connection.vip.to_string(), connection.port), (VIP.to_string(), 80));
        assert_eq!(connection.state, "ESTABLISHED");
        assert!(connection.expires_in_s > 0 && connection.service.is_some(), "{connection:?}");
    }
    let ports: BTreeSet<u16> = established.iter().map(|connection| connection.client_port).collect();
    assert_eq!(ports.len(), 6, "each is listed once");
    for (words, count) in [
        (vec!["--server", "www1"], 3),
        (vec!["--server", "211.58.250.27"], 3),
        (vec!["--client", &client], 6),
        (vec!["--client", "211.58.250.0/24"], 6),
        (vec!["--client", "10.0.0.0/8"], 0),
        (vec!["--service", "211.58.250.6:80"], 6),
        (vec!["--method", "direct"], 6),
        (vec!["--method", "masq"], 0),
        (vec!["--family", "ipv6"], 0),
        (vec!["--protocol", "udp"], 0),
    ] {
        let with_state = [vec!["--state", "ESTABLISHED"], words.clone()].concat();
        assert_eq!(connections(&director, &with_state).len(), count, "{words:?}");
    }
    let listing = printed(&director, &["connections", "--state", "established", "--server", "www1"]);
    let mut lines = listing.lines();
    assert!(lines.next().is_some_and(|head| head.starts_with("Pro expire state       source")), "{listing}");
    let rows: Vec<&str> = lines.collect();
    assert!(
        rows.len() == 3 && rows.iter().all(|row| row.starts_with("TCP ") && row.ends_with("/www1")),
        "{listing}"
    );
    let counted = printed(&director, &["connections", "--count", "--state", "established"]);
    assert_eq!(counted, "6\n");

    // The same by ipvsadm's words.
    let listing = printed(&director, &["ipvsadm", "-Lnc"]);
    let rows = listing.lines().skip(2).filter(|row| row.contains(" ESTABLISHED ")).count();
    assert!(listing.starts_with("IPVS connection entries\npro expire state"), "{listing}");
    assert_eq!(rows, 6, "{listing}");
}

/// A million entries are listed part by part while the director answers others.
#[test]
fn a_million_connections_keep_nobody_waiting() {
    const MILLION: u32 = 1_000_000;
    let alone = Alone::start("listing", MILLION).unwrap_or_else(|error| panic!("{error:#}"));
    fill(&alone.talk.ha1, "eth0", MILLION, MILLION).unwrap_or_else(|error| panic!("{error:#}"));
    let director = &alone.director;
    let mut listing =
        director.start_piped("connections", &["--json", "--client", "11.0.0.0/8"]).expect("lb starts");
    let lines = BufReader::new(listing.stdout.take().expect("a pipe")).lines();
    let mut sources = BTreeSet::new();
    let mut asked = 0;
    for line in lines {
        let line = line.expect("a line");
        let connection: Connection =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        sources.insert(connection.client);
        if sources.len() % 100_000 == 0 && asked < sources.len() / 100_000 {
            asked += 1;
            director.status().expect("the director answers meanwhile");
        }
    }
    assert!(listing.wait().expect("an end").success());
    assert_eq!((sources.len(), asked), (MILLION as usize, 10), "each client is listed");

    let (code, first, said) = ended(director, &["connections", "--json", "--limit", "1000"]);
    assert_eq!((code, first.lines().count()), (Some(0), 1000));
    let next =
        said.split("--from ").nth(1).and_then(|rest| rest.split('`').next()).expect("where it goes on");
    let second = printed(director, &["connections", "--json", "--limit", "1000", "--from", next]);
    let both: BTreeSet<&str> = first.lines().chain(second.lines()).collect();
    assert_eq!((second.lines().count(), both.len()), (1000, 2000), "the parts have nothing in common");
}

#[test]
fn a_reload_tells_what_has_changed_or_why_nothing_has() {
    let (_talk, director) = start("reloaded");
    let path = director.configuration().expect("a file");
    let before = fs::read_to_string(&path).expect("the file");
    assert_eq!(printed(&director, &["diff"]), "the file is what runs\n");

    // The director notices a new file by itself after a while; what `lb diff` and `lb reload` tell
    // must be right whoever is first, so the file is put in its place and asked about until then.
    let wrong = before.replace("scheduler: ", "schedulr: ");
    assert_ne!(wrong, before);
    fs::write(&path, &wrong).expect("writing");
    for word in ["diff", "reload"] {
        let (code, out, said) = ended(&director, &[word]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
        assert!(said.contains("lb.yaml:") && said.contains("schedulr"), "{said}");
    }
    let status = director.status().expect("a status");
    assert!(status.config_error.is_some_and(|error| error.contains("schedulr")), "lb status tells it, too");

    let other = before.clone() + "announce_rate: 500\n";
    fs::write(&path, &other).expect("writing");
    let found = printed(&director, &["diff"]);
    assert!(found == "~ announce_rate: 10000 -> 500\n" || found == "the file is what runs\n", "{found}");
    let told = printed(&director, &["reload"]);
    assert!(told.starts_with("reloaded"), "{told}");
    assert_eq!(printed(&director, &["diff"]), "the file is what runs\n");
    director.wait_for_event("config_reloaded", PATIENCE, |_| true).expect("an event");

    let json = printed(&director, &["reload", "--json"]);
    assert_eq!(json, "{\"schema\":\"lb/reload/1\",\"differences\":[]}\n");
}

#[test]
fn events_are_followed_from_a_time_on_and_over_a_restart() {
    let (talk, mut director) = start("follow");
    let mut follow =
        director.start_piped("events", &["--follow", "--json", "--since", "0s"]).expect("lb starts");
    let mut lines = BufReader::new(follow.stdout.take().expect("a pipe")).lines();
    let mut next = |wanted: &str| loop {
        let line = lines.next().expect("more events").expect("a line");
        let event: Record = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line.starts_with("{\"schema\":\"lb/event/1\","), "{line}");
        if event.event == wanted {
            return event;
        }
    };
    talk.www1.stop().expect("www1 stops");
    let down = next("server_down");
    assert_eq!(down.server.as_deref(), Some("www1"));
    director.stop().expect("lb stops");
    director.restart().expect("lb starts again");
    talk.www1.start().expect("www1 starts");
    let up = next("server_up");
    assert!(up.number > down.number, "numbers rise over restarts");
    follow.kill().expect("it still runs");
    follow.wait().expect("an end");

    let all = printed(&director, &["events", "--json"]);
    let later = printed(&director, &["events", "--json", "--since", &up.time, "--server", "www1"]);
    assert!(later.lines().count() >= 1 && later.lines().count() < all.lines().count(), "{later}");
    assert_eq!(printed(&director, &["events", "--since", "2100-01-01T00:00:00Z"]), "");
}

#[test]
fn the_status_is_shown_in_part_in_brief_and_with_rates() {
    let (talk, director) = start("watch");
    let service = director.status().expect("a status").services[0].name.clone();
    let brief = printed(&director, &["status", "--brief", &service]);
    let row = brief.lines().nth(1).unwrap_or_default().to_owned();
    assert!(row.contains("211.58.250.6:80") && row.contains(" up ") && row.contains(" 2/2 "), "{brief}");
    assert!(!brief.contains('\x1b'), "colours are for terminals");

    let mut watch = director.start_piped("status", &["--json", "--watch", "0.5"]).expect("lb starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no rate was told");
        drop(KeptOpen::open(&talk.client).get());
        let line = lines.next().expect("more").expect("a line");
        let _: Status = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["schema"], "lb/status/1");
        let rate = |name: &str| value["rates"][0][name].as_f64().unwrap_or_default();
        if rate("connections_per_s") > 0.0 && rate("packets_per_s") > 0.0 && rate("bytes_per_s") > 0.0 {
            break;
        }
    }
    watch.kill().expect("it still runs");
    watch.wait().expect("an end");
}

#[test]
fn health_is_told_in_the_way_of_monitoring_plugins() {
    let (talk, director) = start("plugin");
    let (code, out, _) = ended(&director, &["health"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.starts_with("LB OK: 1 services, 2 of 2 servers up | '"), "{out}");
    talk.www1.stop().expect("www1 stops");
    wait_for(&director, "www1 down", |status| !status.serves("www1"));
    let (code, out, _) = ended(&director, &["health"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.starts_with("LB WARNING: ") && out.contains("1 of 2 servers up (www1 down)"), "{out}");
    assert_eq!(ended(&director, &["health", "--critical", "60"]).0, Some(2));
    assert_eq!(ended(&director, &["health", "--warning", "50"]).0, Some(0));
}

/// What ldirectord and monitoring plugins read.
#[test]
fn lb_is_ipvsadm_under_that_name() {
    let (talk, director) = start("ipvsadm");
    let mut open: Vec<KeptOpen> = (0..4).map(|_| KeptOpen::open(&talk.client)).collect();
    open.iter_mut().for_each(|connection| drop(connection.get()));
    wait_for(&director, "two active connections each", |status| {
        ["www1", "www2"].iter().all(|name| status.server(name).is_some_and(|server| server.active == 2))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let ipvsadm = folder.path().join("ipvsadm");
    std::os::unix::fs::symlink(binary().expect("lb"), &ipvsadm).expect("a link");
    let ipvsadm = |words: &[&str]| {
        let output = Command::new(&ipvsadm).args(words).env("LB_SOCKET", director.socket()).output();
        let Output { status, stdout, stderr } = output.expect("it runs");
        assert!(status.success(), "{words:?}: {}", text(&stderr));
        text(&stdout)
    };
    let capacity = director.status().expect("a status").table.capacity;
    let scheduler = director.status().expect("a status").services[0].scheduler.clone();
    assert_eq!(
        ipvsadm(&["-L", "-n"]),
        format!(
            "IP Virtual Server version 1.2.1 (size={capacity})\n\
             Prot LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
             TCP  211.58.250.6:80 {scheduler}\n  \
             -> 211.58.250.25:80             Route   1      2          0         \n  \
             -> 211.58.250.27:80             Route   1      2          0         \n"
        )
    );
    assert_eq!(
        ipvsadm(&["-S", "-n"]),
        format!(
            "-A -t 211.58.250.6:80 -s {scheduler}\n\
             -a -t 211.58.250.6:80 -r 211.58.250.25:80 -g -w 1\n\
             -a -t 211.58.250.6:80 -r 211.58.250.27:80 -g -w 1\n"
        )
    );
    assert_eq!(ipvsadm(&["-L", "--timeout"]), "Timeout (tcp tcpfin udp): 900 120 300\n");
    let stats = ipvsadm(&["-L", "-n", "--stats", "--exact", "-t", "211.58.250.6:80"]);
    let row: Vec<&str> = stats.lines().nth(2).unwrap_or_default().split_whitespace().collect();
    let [_, _, connections, packets, answers, bytes, sent] = row[..] else { panic!("{stats}") };
    assert_eq!((connections, answers, sent), ("4", "0", "0"), "{stats}");
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|error| panic!("{error}: {stats}"));
    // A request has four packets and more of at least 40 bytes: IP, without Ethernet.
    assert!(number(packets) >= 12 && number(bytes) >= 40 * number(packets), "{stats}");
    assert!(ipvsadm(&["-L", "-n", "--rate"]).contains("CPS    InPPS   OutPPS    InBPS   OutBPS\n"));
}

#[test]
fn servers_and_services_come_and_go_at_run_time() {
    const WEB: &str = "tcp/211.58.250.6:7777";
    let mut alone = Alone::start("overlay", 10_000).unwrap_or_else(|error| panic!("{error:#}"));
    let path = alone.director.configuration().expect("a file");
    let before = fs::read_to_string(&path).expect("the file");
    let gone = |status: &Status, name: &str| {
        status.server(name).is_none_or(|server| server.health.word() == "draining")
    };
    let up = |status: &Status, name: &str| {
        let servers =
            status.services.iter().filter(|service| service.name == WEB).flat_map(|one| &one.servers);
        servers.into_iter().any(|server| server.name == name && server.effective_weight > 0)
    };
    let director = &alone.director;
    let told = printed(director, &["remove", "server", WEB, "www2"]);
    assert_eq!(told, format!("- server {WEB}/www2: 211.58.250.27, weight 1\n"));
    wait_for(director, "www2 gone", |status| gone(status, "www2"));
    let told = printed(director, &["add", "server", WEB, "211.58.250.27", "--name", "late", "--weight", "2"]);
    assert_eq!(told, format!("+ server {WEB}/late: 211.58.250.27, weight 2\n"));
    let status = wait_for(director, "the new server up", |status| up(status, "late"));
    assert_eq!(status.server("late").and_then(|server| server.source.as_deref()), Some("cli"));
    assert_eq!(status.server("www1").and_then(|server| server.source.as_deref()), None);
    let listing = director.listing().expect("a listing");
    assert!(listing.contains(&format!("Changed at run time (cli): + server {WEB}/late\n")), "{listing}");
    for words in [
        ["add", "server", WEB, "211.58.250.27"],
        ["add", "server", WEB, "nowhere"],
        ["add", "server", "mail", "211.58.250.28"],
        ["remove", "server", WEB, "www9"],
    ] {
        let (code, _, said) = ended(director, &words);
        assert_eq!(code, Some(1), "{words:?}: {said}");
    }
    assert_eq!(fs::read_to_string(&path).expect("the file"), before, "the file is the operator's");

    // Over a crash, and a reload of a file that has changed.
    director.kill().expect("lb is killed");
    alone.director.restart().expect("lb starts again");
    let director = &alone.director;
    wait_for(director, "the new server up again", |status| up(status, "late") && gone(status, "www2"));
    fs::write(&path, before.clone() + "# a comment of the operator's\n").expect("writing");
    printed(director, &["reload"]);
    assert!(up(&director.status().expect("a status"), "late"));

    printed(director, &["save"]);
    let saved = fs::read_to_string(&path).expect("the file");
    assert!(saved.contains("name: late") && saved.ends_with("# a comment of the operator's\n"), "{saved}");
    assert_eq!(printed(director, &["overlay", "show"]), "");
    let status =
        wait_for(director, "the file's server", |status| up(status, "late") && status.overlay.is_empty());
    assert_eq!(status.server("late").and_then(|server| server.source.as_deref()), None);

    // A service, by ipvsadm's words a server more, and all of it undone.
    printed(director, &["add", "service", "211.58.250.6:7778", "211.58.250.25", "--name", "other"]);
    printed(director, &["ipvsadm", "-a", "-t", "211.58.250.6:7778", "-r", "211.58.250.27", "-w", "3"]);
    let rules = printed(director, &["ipvsadm", "-S", "-n"]);
    assert!(rules.contains("-a -t 211.58.250.6:7778 -r 211.58.250.27:7778 -g -w 3\n"), "{rules}");
    let (code, _, said) =
        ended(director, &["ipvsadm", "-a", "-t", "211.58.250.6:7778", "-r", "211.58.250.27"]);
    assert_eq!((code, said.as_str()), (Some(255), "Destination already exists\n"));
    let edit = |words: &[&str]| {
        let server = ["ipvsadm", "-e", "-t", "211.58.250.6:7778", "-r", "211.58.250.27"];
        ended(director, &[&server, words].concat())
    };
    printed(director, &["weight", "211.58.250.27:7778", "9"]);
    assert_eq!(edit(&["-w", "5", "-x", "100"]), (Some(0), String::new(), String::new()));
    let listed = printed(director, &["ipvsadm", "-L", "-n", "-t", "211.58.250.6:7778"]);
    assert!(listed.contains("211.58.250.27:7778           Route   5 "), "{listed}");
    let orders = |status: &Status| -> usize {
        status.services.iter().flat_map(|service| &service.servers).map(|server| server.orders.len()).sum()
    };
    assert_eq!(orders(&director.status().expect("a status")), 0, "the order would have outweighed it");
    let full = printed(director, &["ipvsadm", "-L", "-n", "--thresholds", "-t", "211.58.250.6:7778"]);
    assert!(full.contains("211.58.250.27:7778           100 "), "{full}");
    let (code, _, said) = edit(&["-w", "5", "-y", "20"]);
    assert!(code == Some(1) && said.contains("upper_threshold"), "{said}");
    printed(director, &["ipvsadm", "-d", "-t", "211.58.250.6:7778", "-r", "211.58.250.27"]);
    assert_eq!(printed(director, &["overlay", "show"]), "cli: + service other\n");
    let told = printed(director, &["overlay", "clear"]);
    assert_eq!(told, "- service other: tcp/211.58.250.6:7778, 1 server\n");
    assert_eq!(fs::read_to_string(&path).expect("the file"), saved);
}

/// Nothing is lost: a file that somebody has edited may have a mistake.
#[test]
fn an_overlay_that_cannot_be_read_is_put_aside_and_told() {
    const WEB: &str = "tcp/211.58.250.6:7777";
    let mut alone = Alone::start("unreadable", 10_000).unwrap_or_else(|error| panic!("{error:#}"));
    let folder = alone.talk.ha1.folder().expect("a folder");
    let [file, aside] = ["overlay.eth0.json", "overlay.eth0.json.unreadable"].map(|name| folder.join(name));
    printed(&alone.director, &["remove", "server", WEB, "www2"]);
    let shown = format!("cli: - server {WEB}/www2\n");
    assert_eq!(printed(&alone.director, &["overlay", "show"]), shown);
    let kept = fs::read_to_string(&file).expect("the overlay");
    let torn = &kept[..kept.len() / 2];
    alone.director.kill().expect("lb is killed");
    fs::write(&file, torn).expect("the overlay");
    alone.director.restart().expect("lb starts all the same");
    let director = &alone.director;
    director.wait_for_event("overlay_unreadable", PATIENCE, |_| true).expect("it is told");
    let is_found = |status: &Status| status.finding("overlay_unreadable").is_some();
    wait_for(director, "the finding", is_found);
    assert_eq!(printed(director, &["overlay", "show"]), "");
    assert!(!file.exists(), "the next change writes a new one");
    assert_eq!(fs::read_to_string(&aside).expect("what was there"), torn);
    // Mended, and moved back.
    fs::write(&aside, &kept).expect("the overlay");
    fs::rename(&aside, &file).expect("it is moved");
    printed(director, &["reload"]);
    assert_eq!(printed(director, &["overlay", "show"]), shown);
    wait_for(director, "the end of the finding", |status| !is_found(status));
    // What somebody has changed in it is not written over.
    let other = kept.replace("www2", "www1");
    fs::write(&file, &other).expect("the overlay");
    let (code, _, said) = ended(director, &["add", "server", WEB, "211.58.250.29"]);
    assert!(code == Some(1) && said.contains("changed by somebody else"), "{said}");
    assert_eq!(fs::read_to_string(&file).expect("the overlay"), other);
    assert_eq!(printed(director, &["overlay", "show"]), shown);
    printed(director, &["reload"]);
    assert_eq!(printed(director, &["overlay", "show"]), shown.replace("www2", "www1"));
}

//! Standing orders for servers: `lb drain`, `lb weight` and what undoes them, on one director and
//! on two, over restarts, reloads, take-overs and partitions.

use std::fs;
use std::process::Command;
use std::time::Duration;

use lb_api::status::{ServerStatus, Status};
use lb_lab::cluster::pair::{PATIENCE, Pair, Settings};
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::director::{binary, wait_for};
use lb_lab::lab::{Director, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;
use lb_lab::scenario::traffic::{Answer, Spread};
use lb_model::Health;

/// A process that stands still for half a second on a busy machine is not dead.
const SETTINGS: Settings =
    Settings { interval: Duration::from_millis(50), dead: Duration::from_secs(1), serial: false };

fn server<'s>(status: &'s Status, name: &str) -> &'s ServerStatus {
    status.server(name).unwrap_or_else(|| panic!("{name} is not listed"))
}

fn is_drained(status: &Status, name: &str) -> bool {
    let server = server(status, name);
    server.health == Health::Maintenance && server.orders.iter().any(|order| order.order == "drain")
}

/// The talk's service without a cluster; ended connections are forgotten soon.
fn alone(purpose: &str) -> (Talk, Director) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let director = Director::start(&talk.ha1, &alone_configuration(&talk, "")).expect("lb starts");
    wait_for(&director, "both servers up", |status| status.serves("www1") && status.serves("www2"));
    (talk, director)
}

fn alone_configuration(talk: &Talk, more: &str) -> String {
    format!(
        "\
interface: eth0
metrics: off
maintenance_dir: {}
timeouts: {{ fin_wait: 1s, closed: 1s }}
groups: [{{ vips: [{VIP}/25] }}]
services:
  - name: web
    vip: {VIP}:80
    scheduler: rr
    check: {{ type: http, request: /index.html, receive: Test Page, interval: 200ms, timeout: 1s }}
    servers: [{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: 211.58.250.27 }}]
{more}",
        talk.ha1.folder().expect("a folder").join("disabled").display()
    )
}

fn pair(purpose: &str) -> (Talk, Pair) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let pair = Pair::start(&talk, SETTINGS);
    (talk, pair.unwrap_or_else(|error| panic!("{error:#}")))
}

/// `lb WORDS`, to its end.
fn lb(director: &Director, words: &[&str]) -> Command {
    let mut command = Command::new(binary().expect("lb is built"));
    command.args(words).arg("--socket").arg(director.socket()).env("SUDO_USER", "kim");
    command
}

#[test]
fn a_drain_is_waited_for_until_the_last_connection_has_ended() {
    let (talk, mut director) = alone("drainwait");
    let mut open = vec![KeptOpen::open(&talk.client), KeptOpen::open(&talk.client)];
    let pages: Vec<Answer> = open.iter_mut().map(|open| Answer::of_page(&open.get())).collect();
    let place = pages.iter().position(|page| *page == Answer::Www1).expect("one is www1's");

    let given_up = lb(&director, &["drain", "www1", "--wait", "--timeout", "1s"]).output().expect("lb runs");
    let [told, why] =
        [&given_up.stdout, &given_up.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert_eq!(given_up.status.code(), Some(1), "{told}{why}");
    assert!(told.contains("drained until `lb enable www1`: www1 of web"), "{told}");
    assert!(told.contains("www1 of web: 1 active, "), "{told}");
    assert!(why.contains("connections are left after"), "{why}");
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www2), 4, "new connections go elsewhere");
    assert_eq!(Answer::of_page(&open[place].get()), Answer::Www1, "the one there is goes on");

    // Neither a reload nor a restart ends the drain.
    director.reconfigure(&alone_configuration(&talk, "    drain: 1s\n")).expect("a new file");
    director.wait_for_event("config_reloaded", PATIENCE, |_| true).expect("it is taken");
    director.stop().expect("lb stops");
    director.restart().expect("lb starts again");
    let status = wait_for(&director, "it is drained still", |status| {
        is_drained(status, "www1") && status.serves("www2")
    });
    let order = &server(&status, "www1").orders[0];
    assert!(order.by.starts_with("kim on ") && order.since > 0, "{order:?}");

    let waiting = lb(&director, &["drain", "www1", "--reason", "new disk", "--wait"]);
    let waiting = { waiting }.stdout(std::process::Stdio::piped()).spawn().expect("lb runs");
    wait_for(&director, "the reason", |status| server(status, "www1").reason.as_deref() == Some("new disk"));
    assert_eq!(Answer::of_page(&open[place].get()), Answer::Www1);
    drop(open.remove(place));
    let ended = waiting.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success() && told.contains("no connection is left"), "{told}");
    let listing = director.listing().expect("a listing");
    assert!(listing.contains("new disk; by kim on ") && listing.contains(" since 20"), "{listing}");

    director.order(&["enable", "www1"]).expect("it is known");
    wait_for(&director, "www1", |status| status.serves("www1"));
}

#[test]
fn one_service_of_a_server_is_drained_and_weights_are_given() {
    let (talk, director) = alone("drainone");
    let more =
        "  - { name: alt, vip: '211.58.250.6:81', servers: [{ name: www1, address: 211.58.250.25 }] }\n";
    director.reconfigure(&alone_configuration(&talk, more)).expect("a new file");
    let of = |status: &Status, service: &str| {
        let service = status.services.iter().find(|known| known.name == service);
        service.and_then(|service| service.servers.first().cloned())
    };
    wait_for(&director, "both services", |status| {
        of(status, "alt").is_some_and(|server| server.effective_weight == 1) && status.serves("www2")
    });
    director.order(&["drain", "www1", "--service", "web"]).expect("it is known");
    wait_for(&director, "the drain of one", |status| {
        let [web, alt] = ["web", "alt"].map(|name| of(status, name).expect("it is listed"));
        web.health == Health::Maintenance && alt.health == Health::Unchecked
    });
    director.order(&["enable", "www1"]).expect("it is known");

    director.order(&["weight", "www2", "3", "--reason", "more memory"]).expect("it is known");
    wait_for(&director, "the weight", |status| server(status, "www2").effective_weight == 3);
    let listing = director.listing().expect("a listing");
    assert!(listing.contains("3 of 1") && listing.contains("weight 3 by "), "{listing}");
    director.order(&["weight", "www2", "0"]).expect("it is known");
    wait_for(&director, "no weight", |status| server(status, "www2").effective_weight == 0);
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www1), 4);
    director.order(&["weight", "www2", "configured"]).expect("it is known");
    wait_for(&director, "its own weight", |status| server(status, "www2").effective_weight == 1);
    let wrong =
        director.order(&["drain", "www1", "--service", "ftp"]).expect_err("there is none").to_string();
    assert!(wrong.contains("there is no service \"ftp\", there are web, alt"), "{wrong}");
}

#[test]
fn an_order_holds_on_all_directors_whoever_dies_and_returns() {
    let (talk, mut pair) = pair("drainpair");
    pair.ha1.order(&["drain", "www1", "--reason", "new disk"]).expect("it is known");
    pair.ha2.order(&["weight", "www2", "5"]).expect("it is known");
    for director in [&pair.ha1, &pair.ha2] {
        let status = wait_for(director, "both orders", |status| {
            is_drained(status, "www1") && server(status, "www2").effective_weight == 5
        });
        assert!(server(&status, "www1").orders[0].by.ends_with("on ha1"), "whose order it is");
        assert_eq!(server(&status, "www1").reason.as_deref(), Some("new disk"));
        assert!(server(&status, "www2").orders[0].by.ends_with("on ha2"));
    }
    pair.ha2
        .wait_for_event("orders_learnt", PATIENCE, |event| event.node.as_deref() == Some("ha1"))
        .expect("it is told");

    pair.ha1.kill().expect("lb is killed");
    pair.wait_for_take_over().unwrap_or_else(|error| panic!("{error:#}\n{}", pair.shown()));
    assert!(is_drained(&pair.ha2.status().expect("a status"), "www1"));
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www2), 4, "it holds after the take-over");

    // What is ordered while a director is away it learns when it returns, whatever is in its file.
    let told = pair.ha2.order(&["enable", "www1"]).expect("it is known");
    assert_eq!(told, "in maintenance no more: www1 of web\n");
    pair.ha2.order(&["weight", "www1", "7"]).expect("it is known");
    pair.ha1.restart().expect("lb starts again");
    wait_for(&pair.ha1, "what was ordered meanwhile", |status| {
        status.serves("www1") && server(status, "www1").effective_weight == 7
    });

    // One that has lost all it knew learns all of it.
    pair.ha1.stop().expect("lb stops");
    let state = talk.ha1.folder().expect("a folder").join("state");
    assert!(state.join("orders").is_file());
    fs::write(state.join("orders"), "rubbish").expect("it can be written");
    pair.ha1.restart().expect("lb starts again");
    pair.ha1.wait_for_event("orders_unreadable", PATIENCE, |_| true).expect("it is told");
    wait_for(&pair.ha1, "all orders", |status| {
        server(status, "www1").effective_weight == 7 && server(status, "www2").effective_weight == 5
    });
    for server in ["www1", "www2"] {
        pair.ha1.order(&["weight", server, "configured"]).expect("it is known");
    }
    wait_for(&pair.ha2, "the configured weights", |status| {
        ["www1", "www2"].iter().all(|name| server(status, name).effective_weight == 1)
    });
}

#[test]
fn directors_that_were_cut_apart_agree_on_the_newest_orders() {
    let (talk, pair) = pair("draincut");
    for interface in ["eth0", "eth1"] {
        talk.cut_heartbeats(interface).expect("nft works");
    }
    for (director, other) in [(&pair.ha1, "ha2"), (&pair.ha2, "ha1")] {
        wait_for(director, "it is alone", |status| !status.hears(other));
    }
    pair.ha1.order(&["drain", "www1"]).expect("it is known");
    pair.ha1.order(&["weight", "www2", "3"]).expect("it is known");
    pair.ha2.order(&["weight", "www2", "4"]).expect("it is known");
    assert!(!is_drained(&pair.ha2.status().expect("a status"), "www1"), "it cannot know");
    for interface in ["eth0", "eth1"] {
        talk.heal_heartbeats(interface).expect("nft works");
    }
    for director in [&pair.ha1, &pair.ha2] {
        wait_for(director, "the newest of both", |status| {
            is_drained(status, "www1") && server(status, "www2").effective_weight == 4
        });
    }
}

//! What operators do to a running `lb`, on the talk's cluster with real servers and clients.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lb_api::events::{Level, Record};
use lb_lab::busy::measured;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Director, Node, cleanup, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;
use lb_lab::scenario::traffic::{Answer, Spread};
use nix::sys::signal::Signal;

/// How long a check, a reload or a purge may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(purpose: &str) -> (Talk, Director) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let director = talk.start_serving().expect("lb starts on ha1, and both servers come up");
    (talk, director)
}

/// The talk's configuration with other servers, given as YAML.
fn with_servers(servers: &str) -> String {
    format!(
        "interface: eth0\ngroups: [{{ vips: [{VIP}/25] }}]\nservices:\n  - name: web\n    vip: {VIP}:80\n    scheduler: rr\n    fallback: local\n    \
         drain: 60s\n    check: {{ type: http, request: index.html, receive: Test Page, interval: 1s, timeout: 3s }}\n    \
         servers: [{servers}]\n"
    )
}

const WWW1: &str = "{ name: www1, address: 211.58.250.25 }";
const WWW2: &str = "{ name: www2, address: 211.58.250.27 }";

#[test]
fn a_reload_touches_no_connection_of_an_unchanged_server() {
    let (talk, director) = start("reload");
    let mut first = KeptOpen::open(&talk.client);
    let mut second = KeptOpen::open(&talk.client);
    let before = (first.get(), second.get());
    assert_ne!(before.0, before.1, "round robin gives each server one");

    // The order of servers, a weight, a second service: all but the servers that the connections
    // are on.
    let mut changed = with_servers(&format!("{WWW2}, {{ name: www1, address: 211.58.250.25, weight: 3 }}"));
    changed +=
        &format!("  - name: other\n    vip: {VIP}:8080\n    servers: [{{ address: 211.58.250.27 }}]\n");
    director.reconfigure(&changed).expect("the file is written");
    director
        .wait_until("the second service", PATIENCE, |status| status.services.len() == 2)
        .expect("the changed file is noticed");
    assert_eq!((first.get(), second.get()), before);

    director.reconfigure(&with_servers(&format!("{WWW1}, {WWW2}"))).expect("the file is written");
    director.process().signal(Signal::SIGHUP);
    director
        .wait_until("one service again", PATIENCE, |status| status.services.len() == 1)
        .expect("SIGHUP reloads");
    assert_eq!((first.get(), second.get()), before);
}

#[test]
fn a_bad_configuration_is_refused_and_told_and_the_old_one_serves_on() {
    let (talk, director) = start("refused");
    director.reconfigure(&with_servers(WWW1).replace("rr", "rrr")).expect("the file is written");
    let status = director
        .wait_until("the refusal", PATIENCE, |status| status.config_error.is_some())
        .expect("lb status tells of the refusal");
    let error = status.config_error.unwrap();
    assert!(error.contains("lb.yaml:6:16:") && error.contains("expected one of rr, wrr, lc, wlc"), "{error}");
    assert!(director.listing().expect("a listing").contains("rrr"), "the listing shows it too");
    let spread = Spread::of_requests(&talk.client, 4);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (2, 2), "the old configuration serves");

    director.reconfigure(&with_servers(WWW2)).expect("the file is written");
    director
        .wait_until("the mended file", PATIENCE, |status| status.config_error.is_none())
        .expect("a mended file is taken");
}

#[test]
fn a_server_that_leaves_the_configuration_keeps_the_connections_it_has() {
    let (talk, director) = start("drain");
    let mut connections = [KeptOpen::open(&talk.client), KeptOpen::open(&talk.client)];
    let before = connections.each_mut().map(KeptOpen::get);
    director.reconfigure(&with_servers(WWW2)).expect("the file is written");
    director
        .wait_until("www1 draining", PATIENCE, |status| {
            status.server("www1").is_some_and(|server| server.health.word() == "draining")
        })
        .expect("www1 drains");
    assert_eq!(connections.each_mut().map(KeptOpen::get), before, "both connections live");
    assert_eq!(Spread::of_requests(&talk.client, 6).by(Answer::Www2), 6, "new ones go to www2 alone");

    drop(connections);
    director
        .wait_until("www1 without active connections", PATIENCE, |status| {
            status.server("www1").is_none_or(|server| server.active == 0)
        })
        .expect("closed connections are no longer active");
}

#[test]
fn active_and_inactive_counts_are_those_of_the_clients() {
    let (talk, director) = start("counts");
    let open: Vec<KeptOpen> = (0..6).map(|_| KeptOpen::open(&talk.client)).collect();
    director
        .wait_until("three active connections each", PATIENCE, |status| {
            ["www1", "www2"].iter().all(|name| status.server(name).is_some_and(|server| server.active == 3))
        })
        .expect("open connections are active");
    drop(open);
    director
        .wait_until("no active connection", PATIENCE, |status| {
            let servers = || ["www1", "www2"].iter().filter_map(|name| status.server(name));
            servers().all(|server| server.active == 0)
                && servers().map(|server| server.inactive).sum::<u32>() == 6
        })
        .expect("closed connections are inactive");
}

#[test]
fn a_second_lb_on_the_interface_is_refused_with_the_pid_of_the_first() {
    let (talk, director) = start("second");
    let (code, said) = director.second().expect("the second lb runs");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("pid {}", director.process().pid())), "{said}");
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::None), 0, "the first one serves on");
}

#[test]
fn a_release_stops_cleanly_and_leaves_nothing_behind() {
    let (talk, director) = start("stop");
    let (socket, process) = (director.socket(), director.process());
    let attached = talk.ha1.ip("-details link show dev eth0").expect("ip works");
    assert!(attached.contains("prog/xdp"), "{attached}");
    director.order(&["stop", "--release"]).expect("lb stops");
    assert!(process.ends_within(Duration::from_secs(10)), "lb ends within 10 s");
    let detached = talk.ha1.ip("-details link show dev eth0").expect("ip works");
    assert!(!detached.contains("prog/xdp"), "{detached}");
    assert!(pins(&talk.ha1).is_empty(), "{:?}", pins(&talk.ha1));
    assert!(!socket.exists(), "the control socket is gone");
    let addresses = talk.ha1.ip("address show dev eth0").expect("ip works");
    assert!(!addresses.contains(&VIP.to_string()), "the VIP is released: {addresses}");
    talk.start_director().expect("another lb can start at once");
}

fn pins(node: &Node) -> Vec<PathBuf> {
    cleanup::pins(&node.state().namespace(node.name()))
}

/// Number of the program on the director's interface.
fn program(node: &Node) -> String {
    let shown = node.ip("-details link show dev eth0").expect("ip works");
    let (_, after) = shown.split_once("prog/xdp id ").unwrap_or_else(|| panic!("no program: {shown}"));
    after.split_whitespace().next().expect("a number").to_owned()
}

fn kill(director: &Director) {
    director.process().signal(Signal::SIGKILL);
    assert!(director.process().ends_within(Duration::from_secs(30)), "SIGKILL ends it");
}

#[test]
fn a_killed_lb_leaves_its_program_forwarding_and_the_next_one_takes_over() {
    let (talk, director) = start("killed");
    let mut open = KeptOpen::open(&talk.client);
    let page = open.get();
    let before = program(&talk.ha1);
    kill(&director);
    assert_eq!(open.get(), page, "a connection goes on");
    let spread = Spread::of_requests(&talk.client, 4);
    assert_eq!((spread.by(Answer::Www1), spread.by(Answer::Www2)), (2, 2), "and new ones are served");
    assert_eq!(program(&talk.ha1), before);

    let director = talk.start_director().expect("another lb starts");
    let taken_over = director.wait_for_events("taken_over", 1, PATIENCE, |_| true).expect("an event");
    assert_eq!(taken_over.from.as_ref(), Some(&before));
    assert_ne!(program(&talk.ha1), before);
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::None), 0);
    director.order(&["stop", "--release"]).expect("lb stops");
    assert!(pins(&talk.ha1).is_empty(), "{:?}", pins(&talk.ha1));
}

#[test]
fn the_next_lb_removes_the_pin_of_an_interface_that_is_gone() {
    let (talk, director) = start("defunct");
    kill(&director);
    assert_eq!(pins(&talk.ha1).len(), 2, "the link, and the folder of the maps");
    talk.ha1.ip("link delete eth0").expect("the interface is deleted");
    Director::start(talk.www1.node(), &with_servers(WWW2)).expect("lb starts on another node");
    assert!(pins(&talk.ha1).is_empty(), "{:?}", pins(&talk.ha1));
}

#[test]
fn the_lab_removes_the_pins_of_a_killed_lb() {
    let (talk, director) = start("pins");
    kill(&director);
    let left = pins(&talk.ha1);
    assert_eq!(left.len(), 2, "the link, and the folder of the maps");
    drop(talk);
    assert!(!left.iter().any(|pin| pin.exists()), "{left:?}");
}

#[test]
fn without_a_bpf_file_system_lb_runs_with_a_warning_and_takes_its_program_along() {
    let talk = Talk::new(&unique_name("nobpffs")).expect("the cluster comes up");
    let director = Director::start_without_bpffs(&talk.ha1, &with_servers(WWW1)).expect("lb starts");
    director.wait_for_events("not_pinned", 1, PATIENCE, |_| true).expect("a warning");
    program(&talk.ha1);
    kill(&director);
    // The kernel takes it off a moment after the process has ended.
    let deadline = Instant::now() + PATIENCE;
    while talk.ha1.ip("-details link show dev eth0").expect("ip works").contains("prog/xdp") {
        assert!(Instant::now() < deadline, "the program is still there");
    }
}

#[test]
fn a_server_with_a_new_mac_is_followed() {
    let (talk, director) = start("mac");
    talk.www1.node().ip("link set eth0 address 02:00:00:00:aa:25").expect("the MAC is changed");
    director
        .wait_until("the new MAC", PATIENCE, |status| {
            status.server("www1").is_some_and(|server| server.mac.as_deref() == Some("02:00:00:00:aa:25"))
        })
        .expect("the neighbour event is followed");
    let deadline = Instant::now() + PATIENCE;
    while Spread::of_requests(&talk.client, 4).by(Answer::Www1) != 2 {
        assert!(Instant::now() < deadline, "www1 does not serve at its new MAC");
    }
}

/// The talk's clients and routers change their ARP caches at once; so must ours.
#[test]
fn the_vip_is_taken_with_its_label_and_announced() {
    let talk = Talk::new(&unique_name("vip")).expect("the cluster comes up");
    // The client believes the VIP to be at ha2.
    talk.ha2.own_vip(VIP).expect("ha2 has the VIP");
    // Refused, but the address was asked for.
    let _ = talk.client.get(&format!("http://{VIP}/"));
    let cache = || talk.client.ip(&format!("neighbour show {VIP}")).expect("ip works");
    assert!(cache().contains(&talk.ha2.mac()), "{}", cache());
    talk.ha2.ip(&format!("address del {VIP}/32 dev eth0")).expect("ha2 gives the VIP up");

    let director = talk.start_director().expect("lb starts on ha1");
    let addresses = talk.ha1.ip("address show dev eth0").expect("ip works");
    assert!(addresses.contains("211.58.250.6/32") && addresses.contains("eth0:0"), "{addresses}");
    let deadline = Instant::now() + PATIENCE;
    while !cache().contains(&talk.ha1.mac()) {
        assert!(Instant::now() < deadline, "the client's ARP cache did not change: {}", cache());
    }
    assert_eq!(director.takes(VIP).expect("events"), 1);
}

#[test]
fn a_neighbour_entry_that_was_set_by_hand_stays_as_it_is() {
    let talk = Talk::new(&unique_name("byhand")).expect("the cluster comes up");
    let entry = format!("211.58.250.25 lladdr {} dev eth0 nud permanent", talk.www1.node().mac());
    talk.ha1.ip(&format!("neighbour replace {entry}")).expect("ip works");
    let director = talk.start_serving().expect("lb starts on ha1, and both servers come up");
    std::thread::sleep(Duration::from_secs(6)); // a round of the controller's own probing
    let shown = talk.ha1.ip("neighbour show 211.58.250.25").expect("ip works");
    assert!(shown.contains("PERMANENT"), "{shown}");
    let events = director.events().expect("events");
    let on_fallback = events.iter().any(|event| event.event == "fallback_started");
    assert!(!on_fallback, "a director looks around before it serves: {events:?}");
}

/// lo has no native XDP.
#[test]
fn an_interface_without_native_xdp_is_served_in_generic_mode_with_a_warning() {
    let talk = Talk::new(&unique_name("generic")).expect("the cluster comes up");
    let configuration =
        with_servers(WWW1).replace("interface: eth0\ngroups: [{ vips: [211.58.250.6/25] }]", "interface: lo");
    let director = Director::start(&talk.ha1, &configuration).expect("lb starts on lo");
    assert_eq!(director.status().expect("a status").mode, "generic");
    let warning = director.wait_for_events("generic_mode", 1, PATIENCE, |_| true).expect("a warning");
    assert_eq!(warning.level, Level::Warning);
}

#[test]
fn a_thousand_services_are_up_at_once() {
    let mut configuration = with_servers(&format!("{WWW1}, {WWW2}"));
    for port in 10_000..11_000 {
        configuration += &format!("  - vip: {VIP}:{port}\n    servers: [{{ address: 211.58.250.25 }}]\n");
    }
    let started = measured("a thousand services", || {
        let talk = Talk::new(&unique_name("many"))?;
        let begun = Instant::now();
        let director = Director::start(&talk.ha1, &configuration)?;
        director.wait_until("both servers up", PATIENCE, |status| {
            status.serves("www1") && status.serves("www2")
        })?;
        ensure!(begun.elapsed() < Duration::from_secs(20), "took {:?}", begun.elapsed());
        Ok((talk, director))
    });
    let (talk, director) = started.expect("both servers come up");
    assert_eq!(director.status().expect("a status").services.len(), 1001);
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www1), 2);
}

/// As ldirectord.log and ha-log did.
#[test]
fn c11_the_events_tell_the_story_from_the_start() {
    let (talk, director) = start("c11story");
    talk.www1.stop().expect("nginx stops");
    let down = |status: &lb_api::status::Status| !status.serves("www1");
    director.wait_until("www1 out", PATIENCE, down).expect("it is taken out");
    let story = director.events().expect("events");
    let has = |id: &str, wanted: &dyn Fn(&Record) -> bool| {
        story.iter().position(|event| event.event == id && wanted(event)).unwrap_or_else(|| {
            panic!("{id} is missing in: {story:#?}");
        })
    };
    has("attached", &|event| event.to.as_deref() == Some("native"));
    has("vip_taken", &|event| event.vip.as_deref() == Some("211.58.250.6"));
    let of_web = |event: &Record| event.service.as_deref() == Some("web");
    let of =
        |server: &'static str| move |event: &Record| of_web(event) && event.server.as_deref() == Some(server);
    let chapters = [
        has("service_added", &of_web),
        has("server_added", &of("211.58.250.25")),
        has("server_down", &of("www1")),
        has("server_removed", &of("211.58.250.25")),
    ];
    assert!(chapters.is_sorted(), "not in their places: {story:#?}");
}

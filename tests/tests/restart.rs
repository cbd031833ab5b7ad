//! State that outlives the process: connections over a stop, a kill, another size of the table,
//! another configuration.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use lb_common::control::LAYOUT;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Director, cleanup, unique_name};
use lb_lab::scenario::alone::{Alone, BOTH, ONE, configuration};
use lb_lab::scenario::steady::Steady;
use lb_tests::fill::fill;
use lb_tests::pinned::set_layout;

const CONNECTIONS: usize = 400;
const PACE: Duration = Duration::from_millis(200);

struct Bench(Alone);

impl Deref for Bench {
    type Target = Alone;
    fn deref(&self) -> &Alone {
        &self.0
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Alone {
        &mut self.0
    }
}

impl Bench {
    fn start(purpose: &str) -> Self {
        Self(Alone::start(purpose, 10_000).unwrap_or_else(|error| panic!("{error:#}")))
    }

    #[track_caller]
    fn wait_until_served(&self) {
        self.0.wait_until_served().unwrap_or_else(|error| panic!("{error:#}"));
    }

    fn clients(&self) -> Steady {
        self.0.clients(CONNECTIONS, PACE).expect("the clients connect")
    }

    #[track_caller]
    fn assert_has_taken_over(&self, connections: u64) {
        self.0.has_taken_over(connections).unwrap_or_else(|error| panic!("{error:#}"));
    }

    fn has_program(&self) -> bool {
        self.talk.ha1.has_xdp_program().expect("ip works")
    }

    fn has_vip(&self) -> bool {
        self.talk.ha1.has_address(VIP).expect("ip works")
    }
}

#[track_caller]
fn assert_nothing_lost(clients: Steady) {
    let outcome = clients.finish_intact();
    assert_eq!(outcome.datagrams_lost, 0, "{outcome:?}");
}

#[test]
fn a3_connections_go_on_over_a_stop_and_a_start() {
    let mut bench = Bench::start("restart");
    let clients = bench.clients();
    bench.director.stop().expect("lb stops");
    assert!(bench.has_program() && bench.has_vip(), "they stay behind");
    bench.director.wait_for_logged("left_forwarding", 1, Duration::ZERO).expect("it says so");
    // New ones are served meanwhile.
    let more = bench.clients();
    bench.director.restart().expect("lb starts again");
    bench.wait_until_served();
    bench.assert_has_taken_over(10_000);
    let status = bench.director.status().expect("a status");
    let active: u32 =
        status.services.iter().flat_map(|service| &service.servers).map(|server| server.active).sum();
    assert!(active as usize >= 2 * CONNECTIONS, "all are counted: {active}");
    assert_nothing_lost(clients);
    assert_nothing_lost(more);
}

#[test]
fn a3_connections_go_on_over_a_kill_and_a_start() {
    let mut bench = Bench::start("crash");
    let clients = bench.clients();
    for _ in 0..2 {
        bench.director.kill().expect("lb is killed");
        bench.director.restart().expect("lb starts again");
        bench.wait_until_served();
        bench.assert_has_taken_over(10_000);
    }
    assert_nothing_lost(clients);
}

#[test]
fn a3_connections_move_into_a_table_of_another_size() {
    let mut bench = Bench::start("resize");
    let clients = bench.clients();
    for connections in [100_000, 5_000] {
        bench.director.stop().expect("lb stops");
        bench.reconfigure(connections, BOTH).expect("a new file");
        bench.director.restart().expect("lb starts again");
        bench.wait_until_served();
        bench.assert_has_taken_over(connections.into());
    }
    let outcome = clients.finish();
    assert_eq!((outcome.lost, outcome.wrong), (0, 0), "{outcome:?}");
}

/// All of them, in a table of the same size and then in one of another.
#[test]
fn a3_a_million_connections_go_on() {
    const MILLION: u32 = 1_000_000;
    let mut bench = Bench(Alone::start("million", MILLION).unwrap_or_else(|error| panic!("{error:#}")));
    let clients = bench.clients();
    fill(&bench.talk.ha1, "eth0", MILLION, MILLION).unwrap_or_else(|error| panic!("{error:#}"));
    for connections in [MILLION, 2 * MILLION] {
        bench.director.kill().expect("lb is killed");
        bench.reconfigure(connections, BOTH).expect("a new file");
        bench.director.restart().expect("lb starts again");
        bench.wait_until_served();
        bench.assert_has_taken_over(connections.into());
        let status = bench.director.status().expect("a status");
        let active: u32 =
            status.services.iter().flat_map(|service| &service.servers).map(|server| server.active).sum();
        assert_eq!(active as usize, MILLION as usize + CONNECTIONS, "all are counted");
    }
    assert_nothing_lost(clients);
}

#[test]
fn a3_a_server_that_left_the_configuration_meanwhile_drains() {
    let mut bench = Bench::start("left");
    let clients = bench.clients();
    bench.director.stop().expect("lb stops");
    bench.reconfigure(10_000, ONE).expect("a new file");
    bench.director.restart().expect("lb starts again");
    bench.wait_until_served();
    let shown = bench.director.status().expect("a status");
    let www2 = shown.server("211.58.250.27").expect("it drains, by its address");
    assert!(www2.active >= 1, "{www2:?}");
    assert_nothing_lost(clients);
}

/// What `lb doctor` says on the director's machine.
fn doctor(bench: &Bench) -> String {
    let director = &bench.director;
    let lb = director.build().to_str().expect("UTF-8");
    let mut doctor = bench.talk.ha1.command(lb);
    doctor.args(["doctor", "--config"]).arg(director.configuration().expect("a path"));
    let said = doctor.arg("--socket").arg(director.socket()).output().expect("it runs");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

#[test]
fn i10_maps_of_another_layout_are_told_before_anything_is_touched() {
    const CANNOT: &str = "this one cannot take over from it";
    let mut bench = Bench::start("layout");
    let clients = bench.clients();
    assert!(!doctor(&bench).contains(CANNOT), "{}", doctor(&bench));
    let other = |bench: &Bench| set_layout(&bench.talk.ha1, "eth0", LAYOUT + 1).expect("maps are pinned");
    // Before the upgrade, while the other build still runs.
    other(&bench);
    assert!(doctor(&bench).contains(CANNOT), "{}", doctor(&bench));
    assert_eq!(clients.look().lost, 0, "looking does no harm");
    bench.director.stop().expect("lb stops");
    bench.director.restart().expect("lb starts");
    bench.wait_until_served();
    let events = bench.director.events().expect("events");
    let place = |id: &str| events.iter().position(|event| event.event == id);
    let told = place("connections_lost").expect("it is told");
    assert!(place("attached").is_some_and(|attached| told < attached), "first of all: {events:?}");
    assert_eq!(place("taken_over"), None, "{events:?}");
    assert!(clients.finish().lost > 0, "the host resets what nobody knows");

    // What it has left itself goes on.
    let clients = bench.clients();
    bench.director.stop().expect("lb stops");
    bench.director.restart().expect("lb starts");
    bench.wait_until_served();
    bench.assert_has_taken_over(10_000);
    assert_nothing_lost(clients);

    // Whoever wants to begin empty is told nothing.
    bench.director.stop().expect("lb stops");
    other(&bench);
    bench.director.restart_with(&["--fresh"]).expect("lb starts anew");
    bench.wait_until_served();
    let events = bench.director.events().expect("events");
    let is_about = |id: &str| ["connections_lost", "taken_over"].contains(&id);
    assert!(!events.iter().any(|event| is_about(&event.event)), "{events:?}");
    assert!(!doctor(&bench).contains(CANNOT), "{}", doctor(&bench));
}

#[test]
fn a3_a_fresh_start_and_a_release_leave_nothing() {
    let mut bench = Bench::start("fresh");
    let clients = bench.clients();
    bench.director.stop().expect("lb stops");
    bench.director.restart_with(&["--fresh"]).expect("lb starts anew");
    bench.wait_until_served();
    let events = bench.director.events().expect("events");
    assert!(!events.iter().any(|event| event.event == "taken_over"), "nothing is taken over: {events:?}");
    assert!(clients.finish().lost > 0, "the host resets what nobody knows");

    bench.director.order(&["stop", "--release"]).expect("lb stops for good");
    assert!(!bench.has_program() && !bench.has_vip());
    // Without a running director too.
    bench.director.restart().expect("lb starts");
    bench.director.kill().expect("lb is killed");
    assert!(bench.has_program() && bench.has_vip());
    bench.director.release().expect("what is left is taken away");
    assert!(!bench.has_program() && !bench.has_vip());
}

#[test]
fn a3_a_start_that_fails_leaves_no_maps_pinned() {
    let talk = Talk::new(&unique_name("nostart")).expect("the cluster comes up");
    let configuration = configuration(10_000, BOTH);
    // lo has no native XDP.
    let (_, services) = configuration.split_once("services:").expect("services");
    let wrong = format!("interface: lo\nxdp_mode: native\nmetrics: off\nservices:{services}");
    let error = Director::refusal(Director::start(&talk.ha1, &wrong)).expect("lb does not start");
    assert!(error.contains("XDP cannot be attached"), "{error}");
    let left = cleanup::pins(&talk.ha1.state().namespace("ha1"));
    assert!(left.is_empty(), "{left:?}");
}

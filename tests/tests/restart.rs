//! State that outlives the process: connections over a stop, a kill, another size of the table, another configuration.

use std::net::SocketAddrV4;
use std::time::Duration;

use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Director, Node, cleanup, unique_name};
use lb_lab::scenario::steady::{self, Outcome, Steady};

const PORT: u16 = 7777;
const TO: SocketAddrV4 = SocketAddrV4::new(VIP, PORT);
const CONNECTIONS: usize = 400;
const PACE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);

const BOTH: &str = "[{ name: www1, address: 211.58.250.25 }, { name: www2, address: 211.58.250.27 }]";
const ONE: &str = "[{ name: www1, address: 211.58.250.25 }]";

struct Bench {
    talk: Talk,
    director: Director,
}

fn configuration(node: &Node, connections: u32, servers: &str) -> String {
    format!(
        "\
interface: eth0
metrics: off
connections: {connections}
maintenance_dir: {}
groups: [{{ name: web, vips: [211.58.250.6/25] }}]
services:
  - vip: 211.58.250.6:{PORT}
    scheduler: rr
    drain: 20s
    check: {{ type: tcp, interval: 500ms, timeout: 2s }}
    servers: {servers}
  - vip: 211.58.250.6:{PORT}
    protocol: udp
    check: {{ type: tcp, port: {PORT}, interval: 500ms, timeout: 2s }}
    servers: [{{ name: www1, address: 211.58.250.25 }}]
",
        node.folder().expect("a folder").join("disabled").display()
    )
}

impl Bench {
    fn start(purpose: &str) -> Self {
        let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
        for server in [talk.www1.node(), talk.www2.node()] {
            steady::echo(server, TO).expect("a server");
        }
        let director =
            Director::start(&talk.ha1, &configuration(&talk.ha1, 10_000, BOTH)).expect("lb starts");
        let bench = Self { talk, director };
        bench.wait_until_served();
        bench
    }

    #[track_caller]
    fn wait_until_served(&self) {
        let up = self.director.wait_until("www1 up", PATIENCE, |status| status.serves("www1"));
        up.unwrap_or_else(|error| panic!("{error:#}\n{}", self.director.log_tail()));
    }

    fn clients(&self) -> Steady {
        Steady::open(&self.talk.client, TO, CONNECTIONS, PACE).expect("the clients connect")
    }

    fn says(&self, text: &str) {
        let log = self.director.log().expect("a log");
        assert!(log.contains(text), "{text:?} is not in the log:\n{log}");
    }

    fn has_program(&self) -> bool {
        self.talk.ha1.ip("link show dev eth0").expect("ip works").contains("xdp")
    }

    fn has_vip(&self) -> bool {
        self.talk.ha1.ip("-oneline address show dev eth0").expect("ip works").contains(" 211.58.250.6/")
    }
}

#[track_caller]
fn assert_nothing_lost(clients: Steady) {
    let outcome = clients.finish();
    let Outcome { connections, lost, wrong, blocks, .. } = outcome;
    assert_eq!((connections, lost, wrong), (CONNECTIONS as u64, 0, 0), "{outcome:?}");
    assert!(blocks >= connections * 2, "they went on: {outcome:?}");
    assert_eq!(outcome.datagrams_lost, 0, "{outcome:?}");
}

#[test]
fn a3_connections_go_on_over_a_stop_and_a_start() {
    let mut bench = Bench::start("restart");
    let clients = bench.clients();
    bench.director.stop().expect("lb stops");
    assert!(bench.has_program() && bench.has_vip(), "they stay behind");
    bench.says("forwards on until lb runs again");
    // New ones are served meanwhile.
    let more = bench.clients();
    bench.director.restart().expect("lb starts again");
    bench.wait_until_served();
    bench.says("connections go on");
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
        bench.says("connections go on");
    }
    assert_nothing_lost(clients);
}

#[test]
fn a3_connections_move_into_a_table_of_another_size() {
    let mut bench = Bench::start("resize");
    let clients = bench.clients();
    for connections in [100_000, 5_000] {
        bench.director.stop().expect("lb stops");
        bench.director.reconfigure(&configuration(&bench.talk.ha1, connections, BOTH)).expect("a new file");
        bench.director.restart().expect("lb starts again");
        bench.wait_until_served();
        bench.says(&format!("copied into a table for {connections}"));
    }
    let outcome = clients.finish();
    assert_eq!((outcome.lost, outcome.wrong), (0, 0), "{outcome:?}");
}

#[test]
fn a3_a_server_that_left_the_configuration_meanwhile_drains() {
    let mut bench = Bench::start("left");
    let clients = bench.clients();
    bench.director.stop().expect("lb stops");
    bench.director.reconfigure(&configuration(&bench.talk.ha1, 10_000, ONE)).expect("a new file");
    bench.director.restart().expect("lb starts again");
    bench.wait_until_served();
    let shown = bench.director.status().expect("a status");
    let www2 = shown.server("211.58.250.27").expect("it drains, by its address");
    assert!(www2.active >= 1, "{www2:?}");
    assert_nothing_lost(clients);
}

#[test]
fn a3_a_fresh_start_and_a_release_leave_nothing() {
    let mut bench = Bench::start("fresh");
    let clients = bench.clients();
    bench.director.stop().expect("lb stops");
    bench.director.restart_with(&["--fresh"]).expect("lb starts anew");
    bench.wait_until_served();
    assert!(!bench.director.log().expect("a log").contains("go on"), "nothing is taken over");
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
    let configuration = configuration(&talk.ha1, 10_000, BOTH);
    // lo has no native XDP.
    let (_, services) = configuration.split_once("services:").expect("services");
    let wrong = format!("interface: lo\nxdp_mode: native\nmetrics: off\nservices:{services}");
    let error = format!("{:#}", Director::start(&talk.ha1, &wrong).expect_err("lb does not start"));
    assert!(error.contains("XDP cannot be attached"), "{error}");
    let left = cleanup::pins(&talk.ha1.state().namespace("ha1"));
    assert!(left.is_empty(), "{left:?}");
}

//! Each kind of check against the real server of its protocol: it comes up; stopped, frozen and ill
//! in a way of its own it is down for the right reason, and each time it comes back.

mod cases;

use std::fs;
use std::thread;
use std::time::Duration;

use lb_api::status::Status;
use lb_lab::lab::servers::catalog;
use lb_lab::lab::{Director, Lab, Node, RealServer, cleanup, unique_name};

use cases::{CASES, Case, Illness, Told};

/// Checks are a quarter of a second apart and wait for two seconds; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(40);

/// All servers on one node, and a director that checks them.
struct Farm {
    node: Node,
    servers: Vec<RealServer>,
    director: Director,
    _lab: Lab,
}

impl Farm {
    fn new() -> Self {
        let lab = Lab::new(&unique_name("farm")).expect("a lab");
        let node = lab.node("servers", "10.9.0.2/24".parse().expect("an address")).expect("a node");
        // By default it says once in a second and to one host that a port is closed: many checks
        // ask.
        node.sysctl("net/ipv4/icmp_ratelimit", "0").expect("a setting changes");
        let new = |program| RealServer::new(&node, program).expect("a configured server");
        let servers: Vec<_> = catalog::ALL.into_iter().map(new).collect();
        at_once(&servers, RealServer::start);
        set_weight(&node, "1");
        let roots = servers[0].folder().expect("nginx has a folder").join("root.pem");
        let ha1 = lab.node("ha1", "10.9.0.1/24".parse().expect("an address")).expect("a node");
        let director = Director::start_trusting(&roots, &ha1, &configuration(&node)).expect("lb starts");
        Self { node, servers, director, _lab: lab }
    }

    fn server_of(&self, case: &Case) -> &RealServer {
        self.servers.iter().find(|server| server.program() == case.by).expect("all servers are there")
    }

    /// Waits until `wanted` is found of each server: `None`: it is up; else it is down, and the
    /// reason contains this.
    fn expect(&self, when: &str, wanted: impl Fn(&Case) -> Option<&'static str>) {
        let is_met = |status: &Status| CASES.iter().all(|case| meets(status, case, wanted(case)));
        if let Err(error) = self.director.wait_until(when, PATIENCE, is_met) {
            let status = self.director.status().expect("lb answers");
            let unmet = CASES.iter().filter(|case| !meets(&status, case, wanted(case)));
            let names: Vec<_> = unmet.map(|case| (case.name, wanted(case).unwrap_or("up"))).collect();
            panic!("{when}: not as expected are {names:?}: {error:#}");
        }
    }

    fn expect_all_up(&self, when: &str) {
        self.expect(when, |_| None);
    }

    /// Does to each server what makes it ill, or mends it.
    fn spread(&self, ill: bool) {
        for case in CASES {
            match case.illness {
                Illness::File(file, content, _) => {
                    let server = self.server_of(case);
                    if ill { server.write(file, content) } else { server.restore(file) }
                        .expect("a file changes");
                }
                Illness::NoEcho => {
                    let ignore = if ill { "1" } else { "0" };
                    self.node.sysctl("net/ipv4/icmp_echo_ignore_all", ignore).expect("a setting changes");
                }
                Illness::NoWeight => set_weight(&self.node, if ill { "soon" } else { "1" }),
            }
        }
        at_once(&self.servers, |server| match how_told(server) {
            Told::Nothing => Ok(()),
            Told::Reload => server.reload(),
            Told::Restart => server.restart(),
        });
    }
}

fn meets(status: &Status, case: &Case, wanted: Option<&str>) -> bool {
    let Some(server) = status.server(case.name) else { return false };
    match wanted {
        None => server.health.word() == "up",
        Some(words) => {
            server.health.word() == "down"
                && server.reason.as_ref().is_some_and(|reason| reason.contains(words))
        }
    }
}

/// A restart, if one of the server's illnesses takes it.
fn how_told(server: &RealServer) -> Told {
    let cases = CASES.iter().filter(|case| case.by == server.program());
    let told = cases.filter_map(|case| match case.illness {
        Illness::File(_, _, told) => Some(told),
        Illness::NoEcho | Illness::NoWeight => None,
    });
    told.max().unwrap_or(Told::Nothing)
}

fn at_once(servers: &[RealServer], work: impl Fn(&RealServer) -> anyhow::Result<()> + Sync) {
    thread::scope(|scope| {
        for server in servers {
            let work = &work;
            scope.spawn(move || work(server).unwrap_or_else(|error| panic!("{server:?}: {error:#}")));
        }
    });
}

fn set_weight(node: &Node, weight: &str) {
    fs::write(node.folder().expect("a folder").join("weight"), weight).expect("a file");
}

fn configuration(node: &Node) -> String {
    let folder = node.folder().expect("a folder");
    let folder = folder.to_str().expect("a path of ours");
    let services = CASES.iter().map(|Case { name, port, checks, .. }| {
        let (port, protocol) = port.split_once('/').expect("a port and a protocol");
        let one = |check: &&str| format!("{{ interval: 250ms, timeout: 2s, {check} }}");
        let checks: Vec<_> = checks.iter().map(one).collect();
        let checks = checks.join(", ").replace("FOLDER", folder);
        format!(
            "  - name: {name}\n    vip: 10.9.0.100:{port}\n    protocol: {protocol}\n    check: [{checks}]\n    \
             servers: [{{ name: {name}, address: {} }}]\n",
            node.address()
        )
    });
    format!("interface: eth0\nservices:\n{}", services.collect::<String>())
}

#[test]
fn every_check_knows_its_real_server_well_stopped_frozen_and_ill() {
    let farm = Farm::new();
    farm.expect_all_up("at first");

    at_once(&farm.servers, RealServer::stop);
    let namespace = farm.node.state().namespace(farm.node.name());
    assert!(cleanup::members(&namespace).is_empty(), "what was stopped has left nobody behind");
    farm.expect("stopped", |case| case.stopped);
    at_once(&farm.servers, RealServer::start);
    farm.expect_all_up("started again");

    at_once(&farm.servers, RealServer::freeze);
    farm.expect("frozen", |case| case.frozen);
    at_once(&farm.servers, RealServer::thaw);
    farm.expect_all_up("thawed");

    farm.spread(true);
    farm.expect("ill", |case| Some(case.ill));
    farm.spread(false);
    farm.expect_all_up("mended");
}

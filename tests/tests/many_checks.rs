//! Checks of hundreds of servers at once.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lb_api::status::Status;
use lb_lab::crowd::Crowd;
use lb_lab::lab::{Director, unique_name};

/// For what takes a second or two where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(60);
const SERVERS: usize = 500;

/// An address of the director that it would not choose by itself.
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 9);

/// Two checks a server: one by which lb is the first to close its connections, and keeps their
/// ports for a minute.
fn checks(interval: &str) -> String {
    let common = format!("interval: {interval}, timeout: 2s, source: {SOURCE}");
    format!(
        "[{{ type: tcp, {common} }}, {{ type: http, request: /index.html, receive: Test Page, {common} }}]"
    )
}

fn all_up(servers: usize) -> impl Fn(&Status) -> bool {
    move |status| {
        let health =
            status.services.iter().flat_map(|service| &service.servers).map(|server| server.health.word());
        health.filter(|health| *health == "up").count() == servers
            && status.checks.running == 2 * servers as u64
    }
}

#[test]
fn hundreds_of_servers_come_up_from_few_ports_of_one_address_and_reloads_leave_no_descriptor_open() {
    let crowd = Crowd::new(&unique_name("manychecks"), SERVERS, 50).expect("the crowd comes up");
    let node = &crowd.director;
    node.ip(&format!("address add {SOURCE}/16 dev eth0")).expect("a second address");
    // As many checks a second as 5,000 servers would make with the default range.
    node.sysctl("net/ipv4/ip_local_port_range", "40000 40063").expect("few ports");
    let few = crowd.configuration_of(&crowd.servers()[..2], &checks("1s"));
    let director = Director::start(node, &few).expect("lb starts");
    director.wait_until("two servers up", PATIENCE, all_up(2)).expect("both come up");
    let before = director.process().open_files().expect("lb runs");

    for interval in ["1s", "900ms", "1100ms"] {
        director.reconfigure(&crowd.configuration(&checks(interval))).expect("a new configuration");
        director.wait_until("all servers up", PATIENCE, all_up(SERVERS)).expect("all come up");
        // The next reload ends their checks while they wait.
        crowd.frail.freeze();
        let hangs = |status: &Status| !all_up(SERVERS)(status);
        director.wait_until("a server that hangs", PATIENCE, hangs).expect("it is noticed");
        crowd.frail.thaw();
    }
    let clients = crowd.steady.requests().expect("a log");
    assert!(clients.iter().all(|request| request.client == SOURCE), "{clients:?}");

    director.reconfigure(&few).expect("the first configuration");
    director.wait_until("two servers up", PATIENCE, all_up(2)).expect("both come up");
    // Probes of two servers may be under way.
    let deadline = Instant::now() + PATIENCE;
    let open = || director.process().open_files().expect("lb runs");
    while open() > before + 4 {
        assert!(Instant::now() < deadline, "{before} files were open, now {} are", open());
        std::thread::sleep(Duration::from_millis(50));
    }
}

//! Several directors, with the real `lb`: what operators do to them and what else happens. The talk's own scenario is in
//! scenario_two.rs.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lb_tests::cluster::{Talk, URL, VIP};
use lb_tests::lab::{Director, Node, unique_name};
use lb_tests::scenario::open_loop::Outage;
use lb_tests::scenario::traffic::Answer;

const PATIENCE: Duration = Duration::from_secs(20);

const OLD_KEY: &str = "1 6f6c64206f6c64206f6c64206f6c64206f6c64206f6c64206f6c64206f6c6420\n";
const NEW_KEY: &str = "2 6e6577206e6577206e6577206e6577206e6577206e6577206e6577206e657720\n";

/// One group, for all nodes in their order.
const WEB: &str = "groups: [{ name: web, vips: [211.58.250.6/25] }]";

/// The talk's cluster with as many directors as a test wants.
struct Cluster {
    talk: Talk,
    directors: Vec<Director>,
}

/// What a test's configuration has besides the ordinary.
struct Plan {
    /// Names of the nodes; ha3 is 211.58.250.9.
    nodes: &'static [&'static str],
    groups: &'static str,
    /// More lines of `cluster:`.
    cluster: String,
    /// More services.
    services: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Self { nodes: &["ha1", "ha2"], groups: WEB, cluster: String::new(), services: "" }
    }
}

impl Plan {
    fn configuration(&self, node: &Node) -> String {
        let Self { nodes, groups, cluster, services } = self;
        let nodes: Vec<String> = nodes
            .iter()
            .zip([5, 7, 9])
            .map(|(name, octet)| format!("{{ name: {name}, address: 211.58.250.{octet} }}"))
            .collect();
        format!(
            "\
interface: eth0
metrics: off
{groups}
cluster:
  node: {}
  key_file: {}
  state: {}
  nodes: [{}]
  paths: [{{ type: unicast, interface: eth0 }}]
{cluster}
services:
  - vip: 211.58.250.6:80
    scheduler: rr
    check: {{ type: http, request: /index.html, receive: Test Page, interval: 1s, timeout: 3s }}
    servers: [{{ address: 211.58.250.25, name: www1 }}, {{ address: 211.58.250.27, name: www2 }}]
{services}",
            node.name(),
            key_file(node).display(),
            state_folder(node).display(),
            nodes.join(", "),
        )
    }
}

fn key_file(node: &Node) -> PathBuf {
    node.folder().expect("a folder").join("keys")
}

fn state_folder(node: &Node) -> PathBuf {
    node.folder().expect("a folder").join("state")
}

fn write_keys(node: &Node, keys: &str) {
    let open = fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(key_file(node));
    std::io::Write::write_all(&mut open.expect("a key file"), keys.as_bytes()).expect("it can be written");
}

impl Cluster {
    /// Starts all nodes of the plan, and returns when the first one has the group `web`.
    fn start(purpose: &str, plan: &Plan) -> Self {
        let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
        let mut directors = Vec::new();
        for name in plan.nodes {
            let node = match *name {
                "ha1" => talk.ha1.clone(),
                "ha2" => talk.ha2.clone(),
                name => talk.lab.node(name, "211.58.250.9/25".parse().expect("an address")).expect("a node"),
            };
            write_keys(&node, OLD_KEY);
            directors.push(Director::start(&node, &plan.configuration(&node)).expect("lb starts"));
        }
        let cluster = Self { talk, directors };
        cluster.wait_until_held_by("ha1");
        cluster
    }

    /// Until all directors that run agree on who is active and know the servers.
    #[track_caller]
    fn wait_until_held_by(&self, holder: &str) {
        for director in self.directors.iter().filter(|director| director.process().is_alive()) {
            let agreed = director.wait_until(&format!("{holder} active"), PATIENCE, |status| {
                status.held_by(holder) && status.serves("www1") && status.serves("www2")
            });
            if let Err(error) = agreed {
                panic!("{}: {error:#}\n{}", director.node().name(), director.log_tail());
            }
        }
    }

    fn holder_answers_alone(&self, holder: &Node, vip: Ipv4Addr) {
        let answers = self.talk.client.who_has(vip).expect("arping works");
        assert_eq!(Vec::from_iter(answers), [holder.mac()], "who answers for {vip}");
    }
}

/// Until the director has logged `text`.
#[track_caller]
fn wait_for_log(director: &Director, text: &str) {
    wait_for(&format!("{text:?} in the log of {}", director.node().name()), || {
        director.log().expect("a log").contains(text)
    });
}

#[track_caller]
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for: {what}");
        sleep(Duration::from_millis(20));
    }
}

fn script(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn keys_are_changed_without_a_stop() {
    let cluster = Cluster::start("keys", &Plan::default());
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let steps = [
        ("both accept the new key", format!("{OLD_KEY}{NEW_KEY}sign 1\n")),
        ("both sign with it", format!("{OLD_KEY}{NEW_KEY}sign 2\n")),
        ("the old one is gone", NEW_KEY.to_owned()),
    ];
    let outage = Outage::during(&cluster.talk.client, Answer::SERVERS, || {
        for (done, (step, keys)) in steps.iter().enumerate() {
            for director in [ha1, ha2] {
                write_keys(director.node(), keys);
                wait_for(step, || {
                    let log = director.log().expect("a log");
                    log.matches("heartbeat keys reloaded").count() == done + 1
                });
            }
        }
        Ok(())
    });
    assert_eq!(outage.expect("the client can ask").failed(), 0);
    cluster.wait_until_held_by("ha1");
    assert_eq!(ha2.takes(VIP).expect("a log"), 0, "ha2 has taken the VIP in between");

    // The check of the check: with another key the two are strangers, and say why.
    write_keys(ha2.node(), OLD_KEY);
    wait_for_log(ha1, "unknown_key");
    wait_for_log(ha2, "node ha1 is dead");
    write_keys(ha2.node(), NEW_KEY);
    cluster.wait_until_held_by("ha1");
    cluster.holder_answers_alone(ha1.node(), VIP);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let talk = Talk::new(&unique_name("keymode")).expect("the cluster comes up");
    write_keys(&talk.ha1, OLD_KEY);
    fs::set_permissions(key_file(&talk.ha1), fs::Permissions::from_mode(0o644)).expect("chmod");
    let refused = Director::start(&talk.ha1, &Plan::default().configuration(&talk.ha1));
    let error = format!("{:#}", refused.expect_err("lb must not start"));
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn without_a_bpf_file_system_a_cluster_does_not_start() {
    let talk = Talk::new(&unique_name("nobpffs")).expect("the cluster comes up");
    write_keys(&talk.ha1, OLD_KEY);
    let refused = Director::start_without_bpffs(&talk.ha1, &Plan::default().configuration(&talk.ha1));
    let error = format!("{:#}", refused.expect_err("lb must not start"));
    assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    let link = talk.ha1.ip("link show dev eth0").expect("ip works");
    assert!(!link.contains("xdp"), "a program is left behind: {link}");
}

#[test]
fn different_configurations_are_told_on_both_sides() {
    let plan = Plan::default();
    let cluster = Cluster::start("differs", &plan);
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let same = plan.configuration(ha2.node());
    ha2.reconfigure(&same.replace("scheduler: rr", "scheduler: wlc")).expect("a new file");
    wait_for_log(ha1, "node ha2 has another configuration");
    wait_for_log(ha2, "node ha1 has another configuration");
    assert!(ha1.listing().expect("a listing").contains("ANOTHER CONFIGURATION"));
    ha2.reconfigure(&same).expect("the old file");
    wait_for_log(ha1, "node ha2 has the same configuration again");
    wait_for_log(ha2, "node ha1 has the same configuration again");
    cluster.wait_until_held_by("ha1");
}

#[test]
fn maintenance_survives_a_restart() {
    let mut cluster = Cluster::start("maintain", &Plan::default());
    let outage = Outage::during(&cluster.talk.client, Answer::SERVERS, || {
        cluster.directors[0].order(&["maintenance", "on"]).map(drop)
    });
    assert_eq!(outage.expect("the client can ask").failed(), 0);
    cluster.wait_until_held_by("ha2");
    let ha1 = &mut cluster.directors[0];
    ha1.stop().expect("it stops");
    ha1.restart().expect("it starts");
    wait_for_log(ha1, "this node is in maintenance");
    sleep(Duration::from_secs(3)); // it would have taken the group back long ago
    cluster.wait_until_held_by("ha2");
    cluster.directors[0].order(&["maintenance", "off"]).expect("the order is taken");
    cluster.wait_until_held_by("ha1");
    cluster.holder_answers_alone(&cluster.talk.ha1, VIP);
}

#[test]
fn standby_resume_and_orders_to_the_wrong_node() {
    let cluster = Cluster::start("standby", &Plan::default());
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let refused = ha2.order(&["failover"]).expect_err("the group is on ha1").to_string();
    assert!(refused.contains("it is on ha1"), "{refused}");
    let refused = ha1.order(&["failover", "nothing"]).expect_err("no such group").to_string();
    assert!(refused.contains("there are: web"), "{refused}");
    let moved = ha1.order(&["standby"]).expect("the order is taken");
    assert!(moved.contains("web: ha1 -> ha2"), "{moved}");
    cluster.wait_until_held_by("ha2");
    let refused = ha2.order(&["failover"]).expect_err("nobody else is ready").to_string();
    assert!(refused.contains("no other node is ready"), "{refused}");
    ha1.order(&["resume"]).expect("the order is taken");
    cluster.wait_until_held_by("ha1");
    let events = ha1.order(&["events", "--json"]).expect("events");
    let moves = events.lines().filter(|line| line.contains(r#""to":"active""#)).count();
    assert_eq!(moves, 2, "at start and now: {events}");
}

#[test]
fn with_manual_failback_a_group_stays_until_told() {
    let groups = "groups: [{ name: web, vips: [211.58.250.6/25], failback: manual }]";
    let mut cluster = Cluster::start("manual", &Plan { groups, ..Plan::default() });
    cluster.directors[0].kill().expect("it dies");
    cluster.wait_until_held_by("ha2");
    let ha1 = cluster.talk.ha1.clone();
    let vip_is_on_ha1 =
        move || ha1.ip("-oneline address show dev eth0").expect("ip works").contains(" 211.58.250.6/");
    assert!(vip_is_on_ha1(), "a killed director cannot take its address off");
    cluster.directors[0].restart().expect("it starts");
    sleep(Duration::from_secs(3)); // automatic failback would have happened
    cluster.wait_until_held_by("ha2");
    assert!(!vip_is_on_ha1(), "what the earlier life left on the interface is removed at start");
    cluster.directors[0].failback().expect("the order is taken");
    cluster.wait_until_held_by("ha1");
}

/// The session of its second life is smaller than that of the first.
#[test]
fn a_node_whose_clock_was_set_back_a_day_is_heard_after_its_restart() {
    let mut cluster = Cluster::start("clock", &Plan::default());
    cluster.directors[0].stop().expect("it stops");
    cluster.wait_until_held_by("ha2");
    cluster.directors[0].restart_a_day_earlier().expect("it starts");
    cluster.wait_until_held_by("ha1");
    cluster.directors[0].stop().expect("it stops");
    cluster.directors[0].restart().expect("it starts, a day later");
    cluster.wait_until_held_by("ha1");
}

#[test]
fn of_three_nodes_the_next_in_order_takes_over() {
    let mut cluster = Cluster::start("three", &Plan { nodes: &["ha1", "ha2", "ha3"], ..Plan::default() });
    cluster.directors[0].kill().expect("it dies");
    cluster.wait_until_held_by("ha2");
    cluster.holder_answers_alone(cluster.directors[1].node(), VIP);
    cluster.directors[1].kill().expect("it dies");
    cluster.wait_until_held_by("ha3");
    cluster.holder_answers_alone(cluster.directors[2].node(), VIP);
    cluster.directors[0].restart().expect("it starts");
    cluster.wait_until_held_by("ha1");
    cluster.directors[1].restart().expect("it starts");
    cluster.wait_until_held_by("ha1");
    cluster.holder_answers_alone(cluster.directors[0].node(), VIP);
}

#[test]
fn with_two_groups_both_directors_work() {
    const SECOND: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 8);
    let groups = "groups:\n  - { name: web, vips: [211.58.250.6/25], nodes: [ha1, ha2] }\n  \
                  - { name: second, vips: [211.58.250.8/25], nodes: [ha2, ha1] }";
    let services = "  - { vip: '211.58.250.8:80', scheduler: rr, servers: [{ address: 211.58.250.25 }] }\n";
    let cluster = Cluster::start("groups", &Plan { groups, services, ..Plan::default() });
    cluster.talk.www1.node().ip("address add 211.58.250.8/32 dev lo").expect("www1 holds the second VIP");
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let on = |director: &Director, group: &str| director.role_of(group).expect("a status");
    wait_for("the second group on ha2", || on(ha2, "second") == "active");
    assert_eq!(
        (on(ha1, "web"), on(ha1, "second"), on(ha2, "web")),
        ("active".into(), "standby".into(), "standby".into())
    );
    cluster.holder_answers_alone(ha1.node(), VIP);
    cluster.holder_answers_alone(ha2.node(), SECOND);
    let client = &cluster.talk.client;
    client.get(URL).expect("the first group serves");
    client.get("http://211.58.250.8/index.html").expect("the second group serves");

    ha2.kill().expect("it dies");
    wait_for("both groups on ha1", || on(ha1, "second") == "active");
    cluster.holder_answers_alone(ha1.node(), SECOND);
    client.get("http://211.58.250.8/index.html").expect("ha1 serves both");
}

#[test]
fn somebody_else_who_announces_the_vip_is_told_and_answered() {
    let cluster = Cluster::start("conflict", &Plan::default());
    cluster.talk.client.get(URL).expect("the VIP serves");
    let www1 = cluster.talk.www1.node();
    let mut arping = www1.command("arping");
    let output = arping.args(["-U", "-c", "1", "-I", "eth0", "211.58.250.6"]).output().expect("arping runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("ARPING"), "{output:?}");
    wait_for_log(&cluster.directors[0], "SPLIT BRAIN: somebody else announces one of its addresses");
    cluster.wait_until_held_by("ha1");
    let client = &cluster.talk.client;
    wait_for("the client to be told better", || {
        client.ip("neighbour show 211.58.250.6").expect("ip works").contains(&cluster.talk.ha1.mac())
    });
    client.get(URL).expect("the VIP serves");
}

#[test]
fn the_node_that_loses_its_reference_hosts_gives_way() {
    let cluster_lines = "  references: [211.58.250.100]".to_owned();
    let cluster = Cluster::start("references", &Plan { cluster: cluster_lines, ..Plan::default() });
    cluster.talk.ha1.ip("route add blackhole 211.58.250.100/32").expect("a route");
    cluster.wait_until_held_by("ha2");
    wait_for_log(&cluster.directors[0], "node ha2 reaches more");
    cluster.talk.ha1.ip("route del blackhole 211.58.250.100/32").expect("no route");
    cluster.wait_until_held_by("ha1");
}

#[test]
fn an_address_that_somebody_removes_is_put_back() {
    let cluster = Cluster::start("flushed", &Plan::default());
    cluster.talk.ha1.ip("address del 211.58.250.6/25 dev eth0").expect("it was there");
    wait_for("the address to be back", || {
        let shown = cluster.talk.ha1.ip("-oneline address show dev eth0").expect("ip works");
        shown.contains(" 211.58.250.6/")
    });
    cluster.wait_until_held_by("ha1");
}

#[test]
fn hooks_are_told_what_happened() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    let hook = script(
        folder.path(),
        "hook",
        &format!(
            "echo \"$LB_NODE $LB_GROUP $LB_PREVIOUS_ROLE $LB_ROLE $LB_VIPS: $LB_CAUSE\" >> {}",
            told.display()
        ),
    );
    let cluster = format!("  hooks: {{ active: [{hook}], standby: [{hook}], fault: [{hook}] }}");
    let cluster = Cluster::start("hooks", &Plan { cluster, ..Plan::default() });
    let has_told =
        |line: &str| fs::read_to_string(&told).unwrap_or_default().lines().any(|told| told == line);
    wait_for("ha2 standby", || has_told("ha2 web fault standby 211.58.250.6: ready"));
    cluster.directors[0].kill().expect("it dies");
    wait_for("ha2 active", || has_told("ha2 web standby active 211.58.250.6: node ha1 is dead"));
    let all = fs::read_to_string(&told).expect("told");
    assert!(!all.contains(" fault 211"), "nothing was wrong with either: {all}");
}

#[test]
fn a_dead_node_is_fenced_before_its_group_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let permission = folder.path().join("permission");
    let fence = script(
        folder.path(),
        "fence",
        &format!("echo fencing $LB_DEAD_NODE for $LB_GROUP; sleep 0.5; test -e {}", permission.display()),
    );
    let cluster = format!("  fence: {{ command: [{fence}], timeout: 5s }}");
    let cluster = Cluster::start("fence", &Plan { cluster, ..Plan::default() });
    let ha2 = &cluster.directors[1];
    // At the start ha1, which did not hear ha2 yet, has waited for a fence too, and ha2 may have been first.
    let at_start = ha2.takes(VIP).expect("a log");
    cluster.directors[0].kill().expect("it dies");
    wait_for_log(ha2, "the take-over failed: fencing ha1: ");
    sleep(Duration::from_secs(7)); // by now it has tried again
    let log = ha2.log().expect("a log");
    assert!(log.matches("the take-over failed: fencing ha1: ").count() >= 2, "{log}");
    assert_eq!(ha2.takes(VIP).expect("a log"), at_start, "taken although the fence failed");
    fs::write(&permission, "").expect("a file");
    cluster.wait_until_held_by("ha2");
    cluster.holder_answers_alone(ha2.node(), VIP);
}

//! The talk's cluster with as many directors as a test wants, and a configuration that it can bend.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lb_api::events::Record;
use lb_api::status::Status;
use lb_lab::cluster::Talk;
use lb_lab::lab::{Director, Node, unique_name};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A node that was silent for so long is dead. Five times the default: no test here measures how
/// soon a group is taken (that is done where a busy machine is measured again), and a process that
/// stands still for half a second is no fault of a director's.
const DEAD: Duration = Duration::from_secs(1);

pub(crate) const OLD_KEY: &str = "1 6f6c64206f6c64206f6c64206f6c64206f6c64206f6c64206f6c64206f6c6420\n";
pub(crate) const NEW_KEY: &str = "2 6e6577206e6577206e6577206e6577206e6577206e6577206e6577206e657720\n";

/// One group, for all nodes in their order.
const WEB: &str = "groups: [{ name: web, vips: [211.58.250.6/25] }]";

/// The talk's cluster with as many directors as a test wants.
pub(crate) struct Cluster {
    pub talk: Talk,
    pub directors: Vec<Director>,
}

/// What a test's configuration has besides the ordinary.
pub(crate) struct Plan {
    /// Names of the nodes; ha3 is 211.58.250.9.
    pub nodes: &'static [&'static str],
    pub groups: &'static str,
    /// More lines of `cluster:`.
    pub cluster: String,
    /// More of the service, and more services.
    pub services: &'static str,
    /// The client and the first two directors have addresses of fd00::/64, with the last number of
    /// their IPv4 ones.
    pub ipv6: bool,
    /// Nothing else: VIP, servers and nodes are of fd00::/64, and the nodes have link-local
    /// addresses of these numbers besides.
    pub ipv6_only: bool,
    pub paths: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            nodes: &["ha1", "ha2"],
            groups: WEB,
            cluster: String::new(),
            services: "",
            ipv6: false,
            ipv6_only: false,
            paths: "[{ type: unicast, interface: eth0 }]",
        }
    }
}

impl Plan {
    pub(crate) fn configuration(&self, node: &Node) -> String {
        let Self { nodes, groups, cluster, services, paths, ipv6: _, ipv6_only } = self;
        let nodes: Vec<String> = nodes
            .iter()
            .zip([5, 7, 9])
            .map(|(name, octet)| format!("{{ name: {name}, address: 211.58.250.{octet} }}"))
            .collect();
        let text = format!(
            "\
interface: eth0
metrics: off
maintenance_dir: {}
{groups}
cluster:
  node: {}
  key_file: {}
  state: {}
  dead: {}ms
  nodes: [{}]
  paths: {paths}
{cluster}
services:
  - vip: 211.58.250.6:80
    scheduler: rr
    check: {{ type: http, request: /index.html, receive: Test Page, interval: 1s, timeout: 3s }}
    servers: [{{ address: 211.58.250.25, name: www1 }}, {{ address: 211.58.250.27, name: www2 }}]
{services}",
            node.folder().expect("a folder").join("disabled").display(),
            node.name(),
            key_file(node).display(),
            state_folder(node).display(),
            DEAD.as_millis(),
            nodes.join(", "),
        );
        if *ipv6_only { in_ipv6(&text) } else { text }
    }
}

/// The same configuration with the addresses of IPv6 that are written like those of IPv4.
fn in_ipv6(text: &str) -> String {
    let text = text.replace("211.58.250.6:80", "'[fd00::6]:80'").replace("211.58.250.6/25", "'fd00::6/64'");
    [5, 7, 25, 27].iter().fold(text, |text, last| {
        let [before, after] =
            [("211.58.250.", ""), ("'fd00::", "'")].map(|(begin, end)| format!("{begin}{last}{end}"));
        text.replace(&before, &after)
    })
}

pub(crate) fn key_file(node: &Node) -> PathBuf {
    node.folder().expect("a folder").join("keys")
}

pub(crate) fn state_folder(node: &Node) -> PathBuf {
    node.folder().expect("a folder").join("state")
}

pub(crate) fn write_keys(node: &Node, keys: &str) {
    let open = fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(key_file(node));
    std::io::Write::write_all(&mut open.expect("a key file"), keys.as_bytes()).expect("it can be written");
}

impl Cluster {
    /// Starts all nodes of the plan, and returns when the first one has the group `web` and another
    /// one is ready to take it.
    pub(crate) fn start(purpose: &str, plan: &Plan) -> Self {
        let new = if plan.ipv6_only { Talk::with_ipv6 } else { Talk::new };
        let talk = new(&unique_name(purpose)).expect("the cluster comes up");
        if plan.ipv6_only {
            talk.ha1.add_ipv6("fe80::5/64").expect("an address");
            for address in ["fd00::7/64", "fe80::7/64"] {
                talk.ha2.add_ipv6(address).expect("an address");
            }
        }
        if plan.ipv6 {
            for node in [&talk.client, &talk.ha1, &talk.ha2] {
                let [.., last] = node.address().octets();
                node.add_ipv6(&format!("fd00::{last}/64")).expect("an address");
            }
        }
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
        let web_is_on_ha1 =
            |status: &Status| status.group("web").is_some_and(|group| group.holder.as_deref() == Some("ha1"));
        cluster.wait_until("web on ha1", web_is_on_ha1);
        let ready = cluster.directors[0].wait_until("another one to be ready", PATIENCE, Status::can_leave);
        ready.expect("one is");
        cluster
    }

    /// Until all directors that run agree on who is active and know the servers.
    #[track_caller]
    pub(crate) fn wait_until_held_by(&self, holder: &str) {
        self.wait_until(&format!("{holder} active"), |status| status.held_by(holder));
    }

    /// Until it holds of all directors that run, and they know the servers.
    #[track_caller]
    fn wait_until(&self, what: &str, holds: impl Fn(&Status) -> bool) {
        for director in self.directors.iter().filter(|director| director.process().is_alive()) {
            let agreed = director.wait_until(what, PATIENCE, |status| {
                holds(status) && status.serves("www1") && status.serves("www2")
            });
            if let Err(error) = agreed {
                panic!("{}: {error:#}\n{}", director.node().name(), director.log_tail());
            }
        }
    }

    pub(crate) fn holder_answers_alone(&self, holder: &Node, vip: impl Into<IpAddr>) {
        let vip = vip.into();
        let answers = self.talk.client.who_has(vip).expect("arping works");
        assert_eq!(Vec::from_iter(answers), [holder.mac()], "who answers for {vip}");
    }
}

/// Until `lb events` has one with this id of which `wanted` holds.
#[track_caller]
pub(crate) fn wait_for_event(director: &Director, id: &str, wanted: impl Fn(&Record) -> bool) -> Record {
    let found = director.wait_for_event(id, PATIENCE, wanted);
    found.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Whether the event is about another node of this name.
pub(crate) fn about(node: &str) -> impl Fn(&Record) -> bool {
    move |event| event.node.as_deref() == Some(node)
}

/// How many events with this id `lb events` has of which `wanted` holds.
#[track_caller]
pub(crate) fn count_events(director: &Director, id: &str, wanted: impl Fn(&Record) -> bool) -> usize {
    let events = director.events().expect("lb events answers");
    events.iter().filter(|event| event.event == id && wanted(event)).count()
}

#[track_caller]
pub(crate) fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for: {what}");
        sleep(Duration::from_millis(20));
    }
}

pub(crate) fn script(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
    path.to_str().expect("UTF-8").to_owned()
}

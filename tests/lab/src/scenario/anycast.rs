//! Three directors that serve one VIP at once, behind a router that spreads clients over them.
//!
//! Clients are on a network of their own; directors and servers are on the router's other one. The
//! router's kernel spreads by addresses and ports, over the ways that its BIRD has learnt from the
//! directors' routing daemons.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lb_api::status::Status;

use super::steady::{self, Steady};
use crate::cluster::pair::{PATIENCE, write_key};
use crate::lab::routing::{Daemon, Routing};
use crate::lab::{Director, Lab, Node, Prefix, unique_name};

/// The VIP is in no network of the lab: whoever sends to it asks the router.
pub const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
pub const SERVICE: SocketAddrV4 = SocketAddrV4::new(VIP, 7777);
pub const GROUP: &str = "any";

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
const DIRECTORS: [(&str, u8); 3] = [("d1", 11), ("d2", 12), ("d3", 13)];
const SERVERS: [(&str, u8); 3] = [("www1", 21), ("www2", 22), ("www3", 23)];

/// Of those servers the first two.
pub const TWO: usize = 2;

pub struct Anycast {
    pub lab: Lab,
    pub client: Node,
    pub router: Node,
    pub directors: Vec<Director>,
    pub routing: Vec<Routing>,
    router_routing: Routing,
    connections: u32,
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 8, 0, last)
}

impl Anycast {
    /// Each director has the routing daemon of its place in `daemons`; `echo` starts what sends
    /// back what it gets. Returns when all directors serve.
    pub fn start(
        purpose: &str,
        connections: u32,
        daemons: [Daemon; 3],
        echo: impl Fn(&Node) -> Result<()>,
    ) -> Result<Self> {
        let lab = Lab::new(&unique_name(purpose))?;
        let node = |name: &str, last| lab.node(name, Prefix { address: address(last), length: 24 });
        let router = node("router", 1)?;
        lab.join_heartbeat_segment(&router, "198.51.100.1/24".parse()?)?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        // By ports, too; and a server's answer leaves by the other interface than it came in by.
        router.sysctl("net/ipv4/fib_multipath_hash_policy", "1")?;
        let client = node("client", 100)?;
        client.ip("link set eth0 down")?;
        lab.join_heartbeat_segment(&client, "198.51.100.100/24".parse()?)?;
        client.ip("route add default via 198.51.100.1")?;
        for (name, last) in SERVERS {
            let server = node(name, last)?;
            server.hold_vip(VIP)?;
            server.ip(&format!("route add default via {ROUTER}"))?;
            echo(&server)?;
        }
        let nodes: Vec<Node> =
            DIRECTORS.into_iter().map(|(name, last)| node(name, last)).collect::<Result<_>>()?;
        let others: Vec<Ipv4Addr> = nodes.iter().map(Node::address).collect();
        let router_routing = Routing::on_router(&router, &others)?;
        let (mut directors, mut routing) = (Vec::new(), Vec::new());
        for (node, daemon) in nodes.iter().zip(daemons) {
            // The host has the VIP, on a device without a segment, and is asked for it on none.
            node.answer_arp_for_own()?;
            node.ip(&format!("route add default via {ROUTER}"))?;
            routing.push(Routing::on_director(node, daemon, ROUTER)?);
            let configuration = configuration(&lab, node, connections, TWO)?;
            directors.push(Director::launch(&[] as &[&str], node, &configuration)?);
        }
        let anycast = Self { lab, client, router, directors, routing, router_routing, connections };
        for director in &anycast.directors {
            director.wait_until_ready()?;
        }
        anycast.wait_until_spread_over(&["d1", "d2", "d3"])?;
        Ok(anycast)
    }

    /// The same with echo servers in this process.
    pub fn start_here(purpose: &str, connections: u32, daemons: [Daemon; 3]) -> Result<Self> {
        Self::start(purpose, connections, daemons, |server| steady::echo(server, SERVICE))
    }

    /// So many connections that stay open, each of which sends a block every `pace`, and which all
    /// directors know.
    pub fn clients(&self, connections: usize, pace: Duration) -> Result<Steady> {
        let clients = Steady::open(&self.client, SERVICE, connections, pace)?;
        for director in self.directors.iter().filter(|director| director.process().is_alive()) {
            let knows = |status: &Status| steady::known(status) >= connections as u64;
            director
                .wait_until("all connections known", PATIENCE, knows)
                .with_context(|| director.log_tail())?;
        }
        Ok(clients)
    }

    /// The directors by which the router sends, by their names.
    pub fn ways(&self) -> Result<Vec<&'static str>> {
        let routes = self.router.ip(&format!("route show {VIP}"))?;
        let has = |last: u8| routes.contains(&format!("via {} ", address(last)));
        Ok(DIRECTORS.iter().filter(|(_, last)| has(*last)).map(|(name, _)| *name).collect())
    }

    /// Waits until the router sends by these directors and by no others, and these say so.
    pub fn wait_until_spread_over(&self, wanted: &[&str]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ways = self.ways()?;
            if ways == wanted && self.all_serve(wanted)? {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the router sends by {ways:?}, not {wanted:?}\n{}", self.shown());
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn all_serve(&self, wanted: &[&str]) -> Result<bool> {
        for director in self.directors.iter().filter(|director| wanted.contains(&director.node().name())) {
            let status = director.status()?;
            let group = status.group(GROUP).context("lb shows no such group")?;
            if group.role != "active" || group.serving != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Each director has balanced packets of clients.
    pub fn assert_all_balance(&self) -> Result<()> {
        for director in &self.directors {
            let status = director.status()?;
            let servers = status.services.iter().flat_map(|service| &service.servers);
            let packets: u64 = servers.map(|server| server.packets).sum();
            ensure!(packets > 0, "{} has balanced nothing", director.node().name());
        }
        Ok(())
    }

    /// All directors get another number of servers.
    pub fn set_servers(&self, count: usize) -> Result<()> {
        for director in &self.directors {
            director.reconfigure(&configuration(&self.lab, director.node(), self.connections, count)?)?;
        }
        let wanted = |status: &Status| {
            let services = status.services.iter().filter(|service| !service.draining);
            services.clone().count() == 2
                && services.flat_map(|service| &service.servers).filter(|server| server.weight > 0).count()
                    >= 2 * count
        };
        for director in &self.directors {
            director.wait_until("the servers have changed", PATIENCE, wanted)?;
        }
        Ok(())
    }

    /// Whether the VIP is an address of the director's device.
    pub fn is_announced_by(&self, place: usize) -> Result<bool> {
        let shown = self.directors[place].node().ip("-oneline address show")?;
        let lines = shown.lines().filter(|line| line.contains(&format!(" {VIP}/32 ")));
        let devices: Vec<&str> = lines.filter_map(|line| line.split_whitespace().nth(1)).collect();
        ensure!(devices.iter().all(|device| *device == "lb-anycast"), "the VIP is on {devices:?}");
        Ok(!devices.is_empty())
    }

    /// What each has to say, for error messages.
    pub fn shown(&self) -> String {
        let routes = self.router.ip("route show").unwrap_or_default();
        let mut shown =
            format!("the router's routes:\n{routes}\nits BIRD:\n{}\n", self.router_routing.log_tail());
        for (director, routing) in self.directors.iter().zip(&self.routing) {
            shown += &format!(
                "{} shows:\n{}\nThe end of its log:\n{}\nIts routing daemon:\n{}\n",
                director.node().name(),
                director.listing().unwrap_or_else(|error| format!("{error:#}")),
                director.log_tail(),
                routing.log_tail()
            );
        }
        shown
    }
}

/// With so many of the servers. The scheduler picks by turns, so no two directors pick alike:
/// what a connection goes on to is what they have told each other.
fn configuration(lab: &Lab, node: &Node, connections: u32, servers: usize) -> Result<String> {
    let servers: Vec<String> = SERVERS[..servers]
        .iter()
        .map(|(name, last)| format!("{{ name: {name}, address: {} }}", address(*last)))
        .collect();
    let nodes: Vec<String> = DIRECTORS
        .iter()
        .map(|(name, last)| format!("{{ name: {name}, address: {} }}", address(*last)))
        .collect();
    let key_file = write_key(lab.state().folder())?;
    let (folder, port) = (node.folder()?, SERVICE.port());
    Ok(format!(
        "\
interface: eth0
metrics: off
connections: {connections}
groups: [{{ name: {GROUP}, kind: anycast, vips: [{VIP}], withdraw_wait: 500ms }}]
services:
  - vip: {SERVICE}
    scheduler: rr
    drain: 20s
    check: {{ type: tcp, interval: 500ms, timeout: 2s }}
    servers: [{}]
  - vip: {SERVICE}
    protocol: udp
    check: {{ type: tcp, port: {port}, interval: 500ms, timeout: 2s }}
    servers: [{}]
cluster:
  name: anycast
  node: {}
  key_file: {}
  interval: 50ms
  dead: 1s
  state: {}
  nodes: [{}]
  paths: [{{ type: unicast, interface: eth0 }}]
",
        servers.join(", "),
        servers.join(", "),
        node.name(),
        key_file.display(),
        folder.join("state").display(),
        nodes.join(", ")
    ))
}

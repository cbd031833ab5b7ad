//! The talk's cluster: machines, addresses and pages.

pub mod pair;

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use lb_api::status::Status;

use self::pair::PATIENCE;
use crate::lab::{Director, Lab, Node, Prefix, State, WebServer};
use crate::workspace;

/// The VIP, ha.wowlinux.com.
pub const VIP: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 6);
pub const URL: &str = "http://211.58.250.6/index.html";

pub const WWW1_PAGE: &str = "Test Page of www1.wowlinux.com";
pub const WWW2_PAGE: &str = "Test Page of www2.wowlinux.com";
pub const FALLBACK_PAGE: &str = "Fallback page of ha1.wowlinux.com";
pub const HA2_FALLBACK_PAGE: &str = "Fallback page of ha2.wowlinux.com";

/// Names and last octets of the nodes; all are on 211.58.250.0/25.
pub const NODES: [(&str, u8); 5] = [("client", 100), ("ha1", 5), ("ha2", 7), ("www1", 25), ("www2", 27)];

/// The heartbeats' port on all networks (IANA: ha-cluster).
pub(crate) const HEARTBEAT_PORT: u16 = 694;

/// The talk's ldirectord.cf as a configuration of `lb`, for use without
/// `deploy/examples/talk.yaml`.
const CONFIGURATION: &str = "\
interface: eth0
groups: [{ vips: [211.58.250.6/25], label: 'eth0:0' }]
services:
  - name: web
    vip: 211.58.250.6:80
    scheduler: rr
    fallback: local
    check: { type: http, via: vip, request: /index.html, receive: Test Page, interval: 1s, timeout: 3s, rise: 1, fall: 1 }
    servers:
      - { address: 211.58.250.25, name: www1, weight: 1 }
      - { address: 211.58.250.27, name: www2, weight: 1 }
";

/// The running cluster. Directors are started on it: one by [`Talk::start_director`], two by
/// [`pair::Pair::start`].
#[derive(Debug)]
pub struct Talk {
    pub lab: Lab,
    /// 211.58.250.100; it has no name in the talk.
    pub client: Node,
    /// 211.58.250.5, the active director: `lb` gives it the VIP.
    pub ha1: Node,
    /// 211.58.250.7, the standby.
    pub ha2: Node,
    pub www1: WebServer,
    pub www2: WebServer,
    /// The fallback on ha1, for when no real server is left.
    pub fallback: WebServer,
    /// The fallback on ha2.
    pub ha2_fallback: WebServer,
}

impl Talk {
    /// Creates the cluster in the lab `name`, with all three web servers running.
    pub fn new(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let node = |index: usize| -> Result<Node> {
            let (name, octet) = NODES[index];
            lab.node(name, address(octet))
        };
        let (client, ha1, ha2, www1, www2) = (node(0)?, node(1)?, node(2)?, node(3)?, node(4)?);
        for director in [&ha1, &ha2] {
            lab.join_heartbeat_segment(director, heartbeat_address(director))?;
        }
        www1.hold_vip(VIP)?;
        www2.hold_vip(VIP)?;
        let start = |node: &Node, page: &str| -> Result<WebServer> {
            let web = node.web_server(page)?;
            web.start()?;
            Ok(web)
        };
        let (www1, www2) = (start(&www1, WWW1_PAGE)?, start(&www2, WWW2_PAGE)?);
        let (fallback, ha2_fallback) = (start(&ha1, FALLBACK_PAGE)?, start(&ha2, HA2_FALLBACK_PAGE)?);
        Ok(Self { lab, client, ha1, ha2, www1, www2, fallback, ha2_fallback })
    }

    /// The same with IPv6 on client, ha1 and servers ([`Node::ipv6`]), which hold the VIP fd00::6.
    pub fn with_ipv6(name: &str) -> Result<Self> {
        let talk = Self::new(name)?;
        for node in [&talk.client, &talk.ha1, talk.www1.node(), talk.www2.node()] {
            node.add_ipv6(&format!("{}/64", node.ipv6()))?;
        }
        for server in [talk.www1.node(), talk.www2.node()] {
            server.sysctl("net/ipv6/conf/lo/disable_ipv6", "0")?;
            server.ip("-6 address add fd00::6/128 dev lo nodad")?;
        }
        Ok(talk)
    }

    /// Drops the directors' heartbeats on `interface`, `eth0` or `eth1`; other traffic passes.
    pub fn cut_heartbeats(&self, interface: &str) -> Result<()> {
        [&self.ha1, &self.ha2].into_iter().try_for_each(|node| node.drop_udp(interface, HEARTBEAT_PORT))
    }

    /// Undoes [`Talk::cut_heartbeats`].
    pub fn heal_heartbeats(&self, interface: &str) -> Result<()> {
        [&self.ha1, &self.ha2].into_iter().try_for_each(|node| node.pass_udp(interface))
    }

    /// Starts `lb` on ha1 with the talk's configuration.
    pub fn start_director(&self) -> Result<Director> {
        Director::start(&self.ha1, &configuration()?)
    }

    /// The same, and waits until both web servers are up.
    pub fn start_serving(&self) -> Result<Director> {
        let director = self.start_director()?;
        let both = |status: &Status| status.serves("www1") && status.serves("www2");
        director.wait_until("both servers up", PATIENCE, both)?;
        Ok(director)
    }
}

/// The node `name` of a cluster of another process.
pub fn open_node(state: &State, name: &str) -> Result<Node> {
    let (_, octet) = NODES.iter().find(|(known, _)| *known == name).with_context(|| {
        let known: Vec<_> = NODES.iter().map(|(name, _)| *name).collect();
        format!("there is no node `{name}`: the nodes are {}", known.join(", "))
    })?;
    Ok(Node::open(state, name, address(*octet)))
}

fn address(octet: u8) -> Prefix {
    Prefix { address: Ipv4Addr::new(211, 58, 250, octet), length: 25 }
}

/// A director's address on the heartbeat segment 10.0.0.0/24; the last octet is the usual one.
fn heartbeat_address(director: &Node) -> Prefix {
    let [.., octet] = director.address().octets();
    Prefix { address: Ipv4Addr::new(10, 0, 0, octet), length: 24 }
}

/// The talk's configuration: the example that is shipped.
pub fn configuration() -> Result<String> {
    let example = workspace::root().join("deploy/examples/talk.yaml");
    if !example.is_file() {
        return Ok(CONFIGURATION.to_owned());
    }
    fs::read_to_string(&example).with_context(|| format!("cannot read {}", example.display()))
}

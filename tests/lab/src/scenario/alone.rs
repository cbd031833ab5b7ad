//! A director without a cluster, and echo servers: for tests of what outlives the director's
//! process.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::methods::Method;
use super::steady::{self, Steady};
use crate::cluster::{Talk, VIP};
use crate::lab::{Director, Node, unique_name};

const PORT: u16 = 7777;
pub const SERVICE: SocketAddrV4 = SocketAddrV4::new(VIP, PORT);
/// Of `lb`'s metrics, unless it is told otherwise.
pub const METRICS_PORT: u16 = 9105;
const PATIENCE: Duration = Duration::from_secs(60);

/// The configured servers: two, or only the first.
pub const BOTH: &str = "[{ name: www1, address: 211.58.250.25 }, { name: www2, address: 211.58.250.27 }]";
pub const ONE: &str = "[{ name: www1, address: 211.58.250.25 }]";

/// The director, its servers and the client.
pub struct Alone {
    pub talk: Talk,
    pub director: Director,
}

/// The director's configuration, for a table of this many connections and these servers.
pub fn configuration(connections: u32, servers: &str) -> String {
    configuration_by(Method::Direct, connections, servers)
}

/// The same for servers that are reached by this method, and have the addresses of it.
pub fn configuration_by(method: Method, connections: u32, servers: &str) -> String {
    let forward = match method {
        Method::Direct => String::new(),
        other => format!("    forward: {}\n", other.name()),
    };
    let gateway = method.gateway().map_or_else(String::new, |gateway| format!(", {gateway}"));
    let www1 = method.address(25);
    format!(
        "\
interface: eth0
connections: {connections}
groups: [{{ name: web, vips: [211.58.250.6/25{gateway}] }}]
services:
  - vip: 211.58.250.6:{PORT}
    scheduler: rr
{forward}    drain: 20s
    check: {{ type: tcp, interval: 500ms, timeout: 2s }}
    servers: {servers}
  - vip: 211.58.250.6:{PORT}
    protocol: udp
{forward}    check: {{ type: tcp, port: {PORT}, interval: 500ms, timeout: 2s }}
    servers: [{{ name: www1, address: {www1} }}]
"
    )
}

impl Alone {
    /// `purpose` is part of the lab's name.
    pub fn start(purpose: &str, connections: u32) -> Result<Self> {
        Self::start_with(purpose, connections, |server| steady::echo(server, SERVICE))
    }

    /// Like [`Self::start`], with another way to start the echo servers.
    pub fn start_with(purpose: &str, connections: u32, echo: impl Fn(&Node) -> Result<()>) -> Result<Self> {
        let talk = Talk::new(&unique_name(purpose))?;
        for server in [talk.www1.node(), talk.www2.node()] {
            echo(server)?;
        }
        let director = Director::start(&talk.ha1, &configuration(connections, BOTH))?;
        let alone = Self { talk, director };
        alone.wait_until_served()?;
        Ok(alone)
    }

    pub fn wait_until_served(&self) -> Result<()> {
        let up = self.director.wait_until("www1 up", PATIENCE, |status| status.serves("www1"));
        up.map(drop).with_context(|| self.director.log_tail())
    }

    /// Opens this many connections, each of which sends a block every `pace`.
    pub fn clients(&self, connections: usize, pace: Duration) -> Result<Steady> {
        Steady::open(&self.talk.client, SERVICE, connections, pace)
    }

    /// Changes the configuration file while `lb` is not running.
    pub fn reconfigure(&self, connections: u32, servers: &str) -> Result<()> {
        self.director.reconfigure(&configuration(connections, servers))
    }

    /// Fails unless the director has taken over connections from an earlier `lb`, into a table for
    /// so many.
    pub fn has_taken_over(&self, connections: u64) -> Result<()> {
        self.director.wait_for_events("taken_over", 1, PATIENCE, |_| true)?;
        let configured = self.director.status()?.table.configured;
        ensure!(configured == connections, "a table for {configured} connections, not {connections}");
        Ok(())
    }
}

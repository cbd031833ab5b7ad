//! Two directors on the talk's cluster, and servers that send back what they get: for what outlives
//! the process of one of them.

use std::fs;
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_api::status::Status;

use super::alone::{SERVICE, configuration_by};
use super::methods::Method;
use super::steady::{self, Steady};
use crate::cluster::Talk;
use crate::cluster::pair::{PATIENCE, Pair, Settings};
use crate::lab::{Node, TunnelEnd, unique_name};

/// The directors, their servers and their client.
pub struct Several {
    /// They end before the lab does.
    _tunnel_ends: Vec<TunnelEnd>,
    pub talk: Talk,
    pub pair: Pair,
}

impl Several {
    /// `purpose` is part of the lab's name; `cluster` is more of the section of that name.
    pub fn start(purpose: &str, connections: u32, settings: Settings, cluster: &str) -> Result<Self> {
        Self::start_by(Method::Direct, purpose, connections, settings, cluster, steady::echo)
    }

    /// The same where the servers are reached by this method. `echo` starts on a server, at an
    /// address and port of it, what sends back what it gets.
    pub fn start_by(
        method: Method,
        purpose: &str,
        connections: u32,
        settings: Settings,
        cluster: &str,
        echo: impl Fn(&Node, SocketAddrV4) -> Result<()>,
    ) -> Result<Self> {
        let talk = Talk::new(&unique_name(purpose))?;
        let tunnel_ends = method.prepare(&talk)?;
        for server in [talk.www1.node(), talk.www2.node()] {
            echo(server, method.destination(SERVICE, server))?;
        }
        let servers = format!(
            "[{{ name: www1, address: {} }}, {{ name: www2, address: {} }}]",
            method.address(25),
            method.address(27)
        );
        let configuration = configuration_by(method, connections, &servers);
        let pair = Pair::start_in(&talk, settings, &configuration, cluster)?;
        Ok(Self { _tunnel_ends: tunnel_ends, talk, pair })
    }

    /// So many connections that stay open, each of which sends a block every `pace`.
    pub fn clients(&self, connections: usize, pace: Duration) -> Result<Steady> {
        Steady::open(&self.talk.client, SERVICE, connections, pace)
    }

    /// Waits until ha2 knows so many of them as open: what was told of each may come in several
    /// pieces.
    pub fn ha2_knows(&self, connections: u64) -> Result<()> {
        let knows = |status: &Status| steady::known(status) >= connections;
        self.pair.ha2.wait_until("ha2 knows all connections", PATIENCE, knows).map(drop)
    }

    /// Changes the size of the table in ha1's configuration file, while its `lb` is not running.
    pub fn resize_ha1(&self, connections: u32) -> Result<()> {
        let file = fs::read_to_string(self.pair.ha1.configuration()?)?;
        let is_size = |line: &&str| line.starts_with("connections: ");
        let before = file.lines().find(is_size).context("the file names no size of the table")?;
        self.pair.ha1.reconfigure(&file.replace(before, &format!("connections: {connections}")))
    }

    /// ha1 starts again, and has the group back.
    pub fn returns(&mut self) -> Result<()> {
        self.pair.ha1.restart()?;
        self.pair.wait_until_held_by("ha1").with_context(|| self.pair.shown())
    }

    /// Fails unless ha1 has taken over what an earlier `lb` left there.
    pub fn ha1_has_taken_over(&self) -> Result<()> {
        self.pair.ha1.wait_for_events("taken_over", 1, PATIENCE, |_| true).map(drop)
    }
}

//! A director and a crowd of real servers, for what only shows with many: thousands of addresses that two machines answer
//! for. One of them can be frozen, and with it its part of the crowd.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};

use crate::lab::{Lab, Node, Prefix, WebServer};

/// What the servers' page says.
pub const PAGE: &str = "Test Page";

/// The directors' and the servers' network; its quarters are the machines, nothing, and the two parts of the crowd.
const NETWORK: [u8; 2] = [10, 66];
const STEADY: u8 = 128;
const FRAIL: u8 = 192;
/// Addresses in a quarter.
const QUARTER: usize = 1 << 14;

/// Servers of one service, at most.
const SERVICE: usize = 1000;

/// The lab with its machines; servers exist as soon as somebody asks for their addresses.
#[derive(Debug)]
pub struct Crowd {
    pub lab: Lab,
    pub director: Node,
    /// Answers for most of the servers.
    pub steady: WebServer,
    /// Answers for the others, those that a benchmark or a test can take away.
    pub frail: WebServer,
    servers: Vec<Ipv4Addr>,
}

impl Crowd {
    /// `frail` of `count` servers, evenly among the others, are on the machine of their own.
    pub fn new(name: &str, count: usize, frail: usize) -> Result<Self> {
        ensure!(frail <= count && count < QUARTER, "{count} servers, {frail} of them frail: too many");
        let lab = Lab::new(name)?;
        lab.make_room_for_neighbours(count)?;
        let node = |name: &str, octet: u8| {
            lab.node(name, Prefix { address: Ipv4Addr::new(NETWORK[0], NETWORK[1], 0, octet), length: 16 })
        };
        let (director, steady, frail_node) = (node("director", 1)?, node("steady", 2)?, node("frail", 3)?);
        let steady = web_server(&steady, STEADY)?;
        let frail_server = web_server(&frail_node, FRAIL)?;
        let servers = addresses(count, frail);
        Ok(Self { lab, director, steady, frail: frail_server, servers })
    }

    /// In the order of the configuration.
    pub fn servers(&self) -> &[Ipv4Addr] {
        &self.servers
    }

    pub fn is_frail(server: Ipv4Addr) -> bool {
        server.octets()[2] >= FRAIL
    }

    /// The crowd in services of at most a thousand servers, all checked by `check`, a YAML mapping.
    pub fn configuration(&self, check: &str) -> String {
        self.configuration_of(&self.servers, check)
    }

    /// The same with some of them.
    pub fn configuration_of(&self, servers: &[Ipv4Addr], check: &str) -> String {
        let mut text = "interface: eth0\nmetrics: off\nservices:\n".to_owned();
        for (vip, servers) in (1..).zip(servers.chunks(SERVICE)) {
            let [a, b] = NETWORK;
            let _ = write!(text, "  - vip: {a}.{b}.1.{vip}:80\n    check: {check}\n    servers:\n");
            for server in servers {
                let _ = writeln!(text, "      - address: {server}");
            }
        }
        text
    }
}

/// A web server on all addresses of a quarter of the network.
fn web_server(node: &Node, quarter: u8) -> Result<WebServer> {
    let [a, b] = NETWORK;
    // Every address of a local route is the host's own: it is answered for, in ARP too.
    node.ip(&format!("route add local {a}.{b}.{quarter}.0/18 dev lo"))?;
    let web = node.web_server(PAGE)?;
    web.start()?;
    Ok(web)
}

fn addresses(count: usize, frail: usize) -> Vec<Ipv4Addr> {
    let mut taken = [(STEADY, 0u16), (FRAIL, 0)];
    (0..count)
        .map(|place| {
            // True for `frail` of the places, as evenly as may be.
            let is_frail = (place + 1) * frail / count > place * frail / count;
            let (quarter, last) = &mut taken[usize::from(is_frail)];
            *last += 1;
            let [high, low] = last.to_be_bytes();
            Ipv4Addr::new(NETWORK[0], NETWORK[1], *quarter + high, low)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_server_has_an_address_of_its_own_and_the_frail_ones_are_spread() {
        let servers = addresses(5000, 50);
        assert_eq!(servers.iter().collect::<BTreeSet<_>>().len(), 5000);
        for part in servers.chunks(100) {
            assert_eq!(part.iter().filter(|server| Crowd::is_frail(**server)).count(), 1);
        }
    }
}

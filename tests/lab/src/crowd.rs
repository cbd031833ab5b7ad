//! A director and thousands of real servers: addresses for which two machines answer. One machine
//! can be frozen, with its part of the servers.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};

use crate::lab::{Lab, Node, Prefix, WebServer};

/// Text of the servers' page.
pub const PAGE: &str = "Test Page";

/// The network of directors and servers; its quarters are the machines, nothing, and the two parts
/// of the servers.
const NETWORK: [u8; 2] = [10, 66];
const STEADY: u8 = 128;
const FRAIL: u8 = 192;
/// Number of addresses in a quarter.
const QUARTER: usize = 1 << 14;

/// Maximum number of servers of one service.
const SERVICE: usize = 1000;

/// The lab with its machines, which answer for all addresses of their quarters.
#[derive(Debug)]
pub struct Crowd {
    pub lab: Lab,
    pub director: Node,
    /// The machine of most servers.
    pub steady: WebServer,
    /// The machine of the other servers, which a benchmark or a test can freeze.
    pub frail: WebServer,
    servers: Vec<Ipv4Addr>,
}

impl Crowd {
    /// Creates `count` servers; `frail` of them, evenly distributed, are on the second machine.
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

    /// All servers, in the order of the configuration.
    pub fn servers(&self) -> &[Ipv4Addr] {
        &self.servers
    }

    pub fn is_frail(server: Ipv4Addr) -> bool {
        server.octets()[2] >= FRAIL
    }

    /// A configuration with all servers in services of at most a thousand, with the check `check`,
    /// a YAML mapping.
    pub fn configuration(&self, check: &str) -> String {
        self.configuration_of(&self.servers, check)
    }

    /// A configuration with some of the servers.
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
    // Every address of a local route is the host's own, which answers for it, by ARP, too.
    node.ip(&format!("route add local {a}.{b}.{quarter}.0/18 dev lo"))?;
    let web = node.web_server(PAGE)?;
    web.start()?;
    Ok(web)
}

fn addresses(count: usize, frail: usize) -> Vec<Ipv4Addr> {
    let mut taken = [(STEADY, 0u16), (FRAIL, 0)];
    (0..count)
        .map(|place| {
            // True for `frail` of the indices, evenly distributed.
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

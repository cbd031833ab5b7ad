//! A machine of the lab.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};

use super::switch::{self, Segment};
use super::{Namespace, Process, State, Switch, WebServer, shell};

/// A namespace with an interface, `eth0`, on the switch. Everything a [`Namespace`] can do, it can.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    namespace: Namespace,
    state: State,
    address: Prefix,
}

impl Node {
    pub(super) fn new(state: &State, switch: &Switch, name: &str, address: Prefix) -> Result<Self> {
        // The switch's ports are named after the node, and interface names have at most 15 characters.
        ensure!(name.len() <= 10 && name != "switch", "`{name}` cannot be the name of a node");
        let namespace = Namespace::new(state, name)?;
        let node = Self { name: name.to_owned(), namespace, state: state.clone(), address };
        node.connect(switch, Segment::Shared, address)?;
        Ok(node)
    }

    /// Gives the node its interface on `segment`, with `address`.
    pub(super) fn connect(&self, switch: &Switch, segment: Segment, address: Prefix) -> Result<()> {
        let interface = segment.interface();
        switch.connect(segment, &self.namespace, &self.name, &mac(address.address))?;
        // XDP on veth loses the mark "checksum still to be filled in", and the far end drops the segment.
        shell::run(self.command("ethtool").args(["--offload", interface, "tx", "off"]))?;
        self.ip(&format!("address add {address} dev {interface}"))?;
        self.ip(&format!("link set {interface} up")).map(drop)
    }

    /// A node of a lab that another process made.
    pub fn open(state: &State, name: &str, address: Prefix) -> Self {
        let namespace = Namespace::open(&state.namespace(name));
        Self { name: name.to_owned(), namespace, state: state.clone(), address }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address.address
    }

    /// Of `eth0`.
    pub fn mac(&self) -> String {
        mac(self.address.address)
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// A folder for the node's files, deleted with the lab.
    pub fn folder(&self) -> Result<PathBuf> {
        let folder = self.state.folder().join(&self.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Starts `program` in the background, under the name `NODE-PURPOSE` in the lab's records and logs.
    pub fn start(&self, purpose: &str, program: &str, arguments: &[&str]) -> Result<Process> {
        self.state.start(&format!("{}-{purpose}", self.name), self.command(program).args(arguments))
    }

    /// Makes the node a real server of direct routing: it takes packets for the VIP, and tells nobody so.
    pub fn hold_vip(&self, vip: Ipv4Addr) -> Result<()> {
        for interface in ["all", "lo", "eth0"] {
            // Answer ARP only for addresses of the interface that the question came in by, and never ask with the VIP
            // as the sender.
            self.sysctl(&format!("net/ipv4/conf/{interface}/arp_ignore"), "1")?;
            self.sysctl(&format!("net/ipv4/conf/{interface}/arp_announce"), "2")?;
        }
        self.ip(&format!("address add {vip}/32 dev lo")).map(drop)
    }

    /// Ends what [`Node::hold_vip`] has begun, as a slip of the hand does it.
    pub fn lose_vip(&self, vip: Ipv4Addr) -> Result<()> {
        self.ip(&format!("address del {vip}/32 dev lo")).map(drop)
    }

    /// Gives the node the VIP on `eth0`, as the active director has it.
    pub fn own_vip(&self, vip: Ipv4Addr) -> Result<()> {
        self.ip(&format!("address add {vip}/32 dev eth0")).map(drop)
    }

    /// Sets `interface` up or down, as an administrator does it on the node.
    pub fn set_link(&self, interface: &str, link: Link) -> Result<()> {
        self.ip(&format!("link set {interface} {link}")).map(drop)
    }

    /// Plugs the cable of `interface` in or pulls it: the interface stays as it is and gains or loses its carrier.
    pub fn set_carrier(&self, interface: &str, link: Link) -> Result<()> {
        let switch = Namespace::open(&self.state.namespace("switch"));
        switch.ip(&format!("link set {} {link}", switch::port(&self.name, interface))).map(drop)
    }

    /// From now on drops what comes to the UDP `port` by `interface`; everything else goes through as before.
    pub fn drop_udp(&self, interface: &str, port: u16) -> Result<()> {
        let table = format!("drop_udp_{interface}");
        let rules = format!(
            "table ip {table} {{ chain input {{ type filter hook input priority 0; \
             iifname {interface} udp dport {port} drop; }}; }}"
        );
        shell::run(self.command("nft").arg(rules)).map(drop)
    }

    /// Ends what [`Node::drop_udp`] has begun on `interface`.
    pub fn pass_udp(&self, interface: &str) -> Result<()> {
        shell::run(self.command("nft").arg(format!("delete table ip drop_udp_{interface}"))).map(drop)
    }

    /// The MACs of all who answer when the node asks the segment of `eth0` who has `address`. Listens for a second.
    pub fn who_has(&self, address: Ipv4Addr) -> Result<BTreeSet<String>> {
        let mut command = self.command("arping");
        command.args(["-b", "-w", "1", "-I", "eth0"]).arg(address.to_string());
        // Its exit code says whether anybody has answered, and that we see ourselves.
        let output = command.output().with_context(|| format!("cannot start {}", shell::line(&command)))?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            text.starts_with("ARPING"),
            "{} failed: {}",
            shell::line(&command),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        // Unicast reply from 211.58.250.6 [02:00:D3:3A:FA:05]  0.612ms
        let replies = text.lines().filter(|line| line.contains("reply from"));
        let macs = replies.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0));
        Ok(macs.map(str::to_ascii_lowercase).collect())
    }

    /// A web server whose `/index.html` is `page`; not started yet.
    pub fn web_server(&self, page: &str) -> Result<WebServer> {
        WebServer::new(self, page)
    }

    /// Fetches `url` with curl over a new connection and returns the body. Anything but a success is an error, and so is
    /// an answer that takes longer than two seconds.
    pub fn get(&self, url: &str) -> Result<String> {
        let options = ["-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "2"];
        shell::run(self.command("curl").args(options).arg(url))
    }
}

impl Deref for Node {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// 02:00 and the address, so that a capture can be read.
fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Which way a link is set; prints as `ip link set` wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Up,
    Down,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// An address and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    pub address: Ipv4Addr,
    pub length: u8,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (address, length) = text.split_once('/').with_context(|| format!("`{text}` has no /prefix"))?;
        Ok(Self { address: address.parse()?, length: length.parse()? })
    }
}

//! A machine of the lab.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::ops::Deref;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lb_common::mac::Mac;
use serde_json::Value;

use super::switch::{self, Segment};
use super::{Namespace, Process, State, Switch, WebServer, shell, xdp_pass};

/// A namespace with an interface `eth0` on the switch. It dereferences to [`Namespace`].
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    namespace: Namespace,
    state: State,
    address: Prefix,
}

impl Node {
    pub(super) fn new(state: &State, switch: &Switch, name: &str, address: Prefix) -> Result<Self> {
        // The switch's ports have the node's name, and interface names have at most 15 characters.
        ensure!(name.len() <= 10 && name != "switch", "`{name}` cannot be the name of a node");
        let namespace = Namespace::new(state, name)?;
        let node = Self { name: name.to_owned(), namespace, state: state.clone(), address };
        node.connect(switch, Segment::Shared, address)?;
        Ok(node)
    }

    /// Gives the node its interface on `segment`, with `address`.
    pub(super) fn connect(&self, switch: &Switch, segment: Segment, address: Prefix) -> Result<()> {
        self.connect_as(&mac(address.address), switch, segment, address)
    }

    fn connect_as(&self, mac: &str, switch: &Switch, segment: Segment, address: Prefix) -> Result<()> {
        let interface = segment.interface();
        switch.connect(segment, &self.namespace, &self.name, mac)?;
        // XDP on veth loses the mark for an unfinished checksum, and the peer then drops the
        // segment.
        shell::run(self.command("ethtool").args(["--offload", interface, "tx", "off"]))?;
        self.ip(&format!("address add {address} dev {interface}"))?;
        self.ip(&format!("link set {interface} up")).map(drop)
    }

    /// A node of a lab of another process.
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

    /// The MAC of `eth0`.
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

    /// Starts `program` in the background, with the name `NODE-PURPOSE` in the lab's records and
    /// logs.
    pub fn start(&self, purpose: &str, program: &str, arguments: &[&str]) -> Result<Process> {
        self.state.start(&self.record(purpose), self.command(program).args(arguments))
    }

    /// Like [`Self::start`] for a server: waits until it accepts connections on `port`.
    pub fn start_server(
        &self,
        purpose: &str,
        program: &str,
        arguments: &[&str],
        port: u16,
    ) -> Result<Process> {
        let process = self.start(purpose, program, arguments)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())? {
            if !process.is_alive() || Instant::now() > deadline {
                let said = self.state.log_tail(&self.record(purpose));
                bail!("{purpose} on {} does not come up:\n{said}", self.name);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    /// The name of a background process in the lab's records and logs.
    pub(super) fn record(&self, purpose: &str) -> String {
        format!("{}-{purpose}", self.name)
    }

    /// Makes the node a real server for direct routing: it accepts packets for the VIP, and does
    /// not answer ARP for it.
    pub fn hold_vip(&self, vip: Ipv4Addr) -> Result<()> {
        self.answer_arp_for_own()?;
        self.ip(&format!("address add {vip}/32 dev lo")).map(drop)
    }

    /// Removes the VIP of [`Node::hold_vip`], as an operator's mistake.
    pub fn lose_vip(&self, vip: Ipv4Addr) -> Result<()> {
        self.ip(&format!("address del {vip}/32 dev lo")).map(drop)
    }

    /// Gives the node the VIP on `eth0`, as the active director has it.
    pub fn own_vip(&self, vip: Ipv4Addr) -> Result<()> {
        self.ip(&format!("address add {vip}/32 dev eth0")).map(drop)
    }

    /// Whether an XDP program is on `eth0`.
    pub fn has_xdp_program(&self) -> Result<bool> {
        Ok(self.ip("link show dev eth0")?.contains("xdp"))
    }

    /// Whether this address is on `eth0`, with whatever prefix.
    pub fn has_address(&self, address: impl Into<IpAddr>) -> Result<bool> {
        Ok(self.ip("-oneline address show dev eth0")?.contains(&format!(" {}/", address.into())))
    }

    /// The address of fd00::/64 that is written like the last number of the node's IPv4 one.
    pub fn ipv6(&self) -> Ipv6Addr {
        let [.., last] = self.address.address.octets();
        let digit = |unit: u8| u16::from(last / unit % 10);
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, digit(100) << 8 | digit(10) << 4 | digit(1))
    }

    /// Enables IPv6 on `eth0`, which is off by default, with `address`, such as `fd00::5/64`,
    /// usable at once.
    pub fn add_ipv6(&self, address: &str) -> Result<()> {
        self.add_ipv6_to("eth0", address)
    }

    /// The same on `interface`.
    pub fn add_ipv6_to(&self, interface: &str, address: &str) -> Result<()> {
        // Its link-local address would look for duplicates for a second or two.
        self.sysctl(&format!("net/ipv6/conf/{interface}/accept_dad"), "0")?;
        self.sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "0")?;
        self.ip(&format!("address add {address} dev {interface} nodad"))?;
        // Until then the node may not answer: it has no address to ask for MACs from.
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.ip(&format!("-6 address show dev {interface} tentative"))?.contains("inet6") {
            ensure!(Instant::now() < deadline, "addresses of {} stay tentative", self.name);
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Sets `interface` up or down on the node.
    pub fn set_link(&self, interface: &str, link: Link) -> Result<()> {
        self.ip(&format!("link set {interface} {link}")).map(drop)
    }

    /// Deletes `eth0`, as when its driver is unloaded.
    pub fn remove_interface(&self) -> Result<()> {
        self.ip("link delete eth0").map(drop)
    }

    /// Creates `eth0` again after [`Node::remove_interface`], with this MAC and the node's own
    /// address.
    pub fn make_interface(&self, mac: &str) -> Result<()> {
        self.connect_as(mac, &Switch::open(&self.state), Segment::Shared, self.address)
    }

    /// Sets the switch port of `interface` up or down: the interface stays up and gains or loses
    /// its carrier.
    pub fn set_carrier(&self, interface: &str, link: Link) -> Result<()> {
        let switch = Switch::open(&self.state);
        switch.namespace().ip(&format!("link set {} {link}", switch::port(&self.name, interface))).map(drop)
    }

    /// Sets the MTU of `eth0` and of its switch port.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        let switch = Namespace::open(&self.state.namespace("switch"));
        switch.ip(&format!("link set {} mtu {mtu}", switch::port(&self.name, "eth0")))?;
        self.ip(&format!("link set eth0 mtu {mtu}")).map(drop)
    }

    /// Detaches the XDP program from `eth0`'s switch port: a plain veth pair, as in containers.
    pub fn make_plain_veth(&self) -> Result<()> {
        self.make_plain_veth_of("eth0")
    }

    /// The same of another interface's switch port.
    pub fn make_plain_veth_of(&self, interface: &str) -> Result<()> {
        let switch = Namespace::open(&self.state.namespace("switch"));
        switch.ip(&format!("link set {} xdp off", switch::port(&self.name, interface))).map(drop)
    }

    /// Undoes [`Node::make_plain_veth`].
    pub fn undo_plain_veth(&self) -> Result<()> {
        let switch = Namespace::open(&self.state.namespace("switch"));
        xdp_pass::attach(&switch, &switch::port(&self.name, "eth0"))
    }

    /// Makes the kernel complete the checksums of packets to the node, at `eth0`'s switch port.
    pub fn finish_checksums_at_far_end(&self) -> Result<()> {
        let switch = Namespace::open(&self.state.namespace("switch"));
        let port = switch::port(&self.name, "eth0");
        shell::run(switch.command("ethtool").args(["--offload", &port, "tx", "off"])).map(drop)
    }

    /// Runs these commands of the node's firewall (nft).
    pub fn nft(&self, commands: &str) -> Result<()> {
        shell::run(self.command("nft").arg(commands)).map(drop)
    }

    /// Sets checksum offload of packets that the node sends by `eth0`; on in containers.
    pub fn set_checksum_offload(&self, on: bool) -> Result<()> {
        let switch = if on { "on" } else { "off" };
        shell::run(self.command("ethtool").args(["--offload", "eth0", "tx", switch])).map(drop)
    }

    /// Moves the switch port of `interface` from another segment to the common one.
    pub fn plug_into_shared_segment(&self, interface: &str) -> Result<()> {
        self.plug_into(interface, Segment::Shared)
    }

    /// Moves it to the segment of heartbeats.
    pub fn plug_into_heartbeat_segment(&self, interface: &str) -> Result<()> {
        self.plug_into(interface, Segment::Heartbeat)
    }

    fn plug_into(&self, interface: &str, segment: Segment) -> Result<()> {
        let switch = Namespace::open(&self.state.namespace("switch"));
        let (port, bridge) = (switch::port(&self.name, interface), segment.bridge());
        switch.ip(&format!("link set {port} master {bridge}")).map(drop)
    }

    /// Undoes the ARP settings of [`Node::hold_vip`]: like a server without them, the node answers
    /// ARP for all its addresses (ARP flux).
    pub fn answer_arp_for_all(&self) -> Result<()> {
        self.set_arp_silence("0", "0")
    }

    /// Sets arp_ignore and arp_announce as real servers need them: ARP uses only addresses of the
    /// interface.
    pub fn answer_arp_for_own(&self) -> Result<()> {
        self.set_arp_silence("1", "2")
    }

    fn set_arp_silence(&self, ignore: &str, announce: &str) -> Result<()> {
        for interface in ["all", "lo", "eth0"] {
            self.sysctl(&format!("net/ipv4/conf/{interface}/arp_ignore"), ignore)?;
            self.sysctl(&format!("net/ipv4/conf/{interface}/arp_announce"), announce)?;
        }
        Ok(())
    }

    /// Drops packets that arrive on `interface` for the UDP `port`; other traffic passes.
    pub fn drop_udp(&self, interface: &str, port: u16) -> Result<()> {
        let table = format!("drop_udp_{interface}");
        let rules = format!(
            "table ip {table} {{ chain input {{ type filter hook input priority 0; \
             iifname {interface} udp dport {port} drop; }}; }}"
        );
        shell::run(self.command("nft").arg(rules)).map(drop)
    }

    /// Undoes [`Node::drop_udp`] on `interface`.
    pub fn pass_udp(&self, interface: &str) -> Result<()> {
        shell::run(self.command("nft").arg(format!("delete table ip drop_udp_{interface}"))).map(drop)
    }

    /// Drops packets that the node's own programs send to TCP `port`. Packets forwarded by XDP
    /// pass.
    pub fn drop_own_tcp(&self, port: u16) -> Result<()> {
        let rules = format!(
            "table ip drop_own_tcp {{ chain output {{ type filter hook output priority 0; tcp dport {port} drop; }}; }}"
        );
        shell::run(self.command("nft").arg(rules)).map(drop)
    }

    /// Undoes [`Node::drop_own_tcp`].
    pub fn pass_own_tcp(&self) -> Result<()> {
        shell::run(self.command("nft").arg("delete table ip drop_own_tcp")).map(drop)
    }

    /// A web server whose `/index.html` is `page`; not started yet.
    pub fn web_server(&self, page: &str) -> Result<WebServer> {
        WebServer::new(self, page)
    }

    /// Fetches `url` with curl over a new connection and returns the body. A status other than
    /// success is an error, as is an answer after more than two seconds.
    pub fn get(&self, url: &str) -> Result<String> {
        let options = ["-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "2"];
        shell::run(self.command("curl").args(options).arg(url))
    }

    /// What a program on this node answers on 127.0.0.1, which is JSON.
    pub fn get_json(&self, port: u16, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut curl = self.command("curl");
        curl.args(["-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "5", "--get"]);
        for (name, value) in parameters {
            curl.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        let output = curl.arg(format!("http://127.0.0.1:{port}{path}")).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))
    }
}

impl Deref for Node {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// A MAC of 02:00 and the IPv4 address, so that captures are readable.
fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    Mac::new([2, 0, a, b, c, d]).to_string()
}

/// The state of a link; prints as an argument of `ip link set`.
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

/// An address with its prefix length.
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

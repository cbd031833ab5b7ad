//! A machine of the lab.

use std::fmt;
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Deref;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::switch::{self, Segment};
use super::{Namespace, Process, State, Switch, WebServer, shell, xdp_pass};

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
        self.connect_as(&mac(address.address), switch, segment, address)
    }

    fn connect_as(&self, mac: &str, switch: &Switch, segment: Segment, address: Prefix) -> Result<()> {
        let interface = segment.interface();
        switch.connect(segment, &self.namespace, &self.name, mac)?;
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
        self.state.start(&self.record(purpose), self.command(program).args(arguments))
    }

    /// The same for a server: returns once it accepts connections on `port`.
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

    /// Under which a background process stands in the lab's records and logs.
    pub(super) fn record(&self, purpose: &str) -> String {
        format!("{}-{purpose}", self.name)
    }

    /// Makes the node a real server of direct routing: it takes packets for the VIP, and tells nobody so.
    pub fn hold_vip(&self, vip: Ipv4Addr) -> Result<()> {
        self.answer_arp_for_own()?;
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

    /// Gives `eth0` IPv6, which nodes are without, and `address`, such as `fd00::5/64`; it can be used at once.
    pub fn add_ipv6(&self, address: &str) -> Result<()> {
        self.sysctl("net/ipv6/conf/eth0/disable_ipv6", "0")?;
        self.ip(&format!("address add {address} dev eth0 nodad")).map(drop)
    }

    /// Sets `interface` up or down, as an administrator does it on the node.
    pub fn set_link(&self, interface: &str, link: Link) -> Result<()> {
        self.ip(&format!("link set {interface} {link}")).map(drop)
    }

    /// Takes `eth0` away, as when its driver is unloaded or a bond is deleted.
    pub fn remove_interface(&self) -> Result<()> {
        self.ip("link delete eth0").map(drop)
    }

    /// Makes `eth0` anew, with this MAC and the node's own address, after [`Node::remove_interface`].
    pub fn make_interface(&self, mac: &str) -> Result<()> {
        self.connect_as(mac, &Switch::open(&self.state), Segment::Shared, self.address)
    }

    /// Plugs the cable of `interface` in or pulls it: the interface stays as it is and gains or loses its carrier.
    pub fn set_carrier(&self, interface: &str, link: Link) -> Result<()> {
        let switch = Switch::open(&self.state);
        switch.namespace().ip(&format!("link set {} {link}", switch::port(&self.name, interface))).map(drop)
    }

    /// Takes the XDP program off the switch's end of `eth0`'s cable: a plain veth, as containers have it.
    pub fn make_plain_veth(&self) -> Result<()> {
        let switch = Namespace::open(&self.state.namespace("switch"));
        switch.ip(&format!("link set {} xdp off", switch::port(&self.name, "eth0"))).map(drop)
    }

    /// Ends what [`Node::make_plain_veth`] has begun.
    pub fn undo_plain_veth(&self) -> Result<()> {
        let switch = Namespace::open(&self.state.namespace("switch"));
        xdp_pass::attach(&switch, &switch::port(&self.name, "eth0"))
    }

    /// From now on the switch's end of `eth0`'s cable has the kernel finish the checksums of what goes to the node.
    pub fn finish_checksums_at_far_end(&self) -> Result<()> {
        let switch = Namespace::open(&self.state.namespace("switch"));
        let port = switch::port(&self.name, "eth0");
        shell::run(switch.command("ethtool").args(["--offload", &port, "tx", "off"])).map(drop)
    }

    /// Gives the node's firewall these commands.
    pub fn nft(&self, commands: &str) -> Result<()> {
        shell::run(self.command("nft").arg(commands)).map(drop)
    }

    /// Whether `eth0` leaves the checksums of what the node sends to others ("offload"), as interfaces of containers do.
    pub fn set_checksum_offload(&self, on: bool) -> Result<()> {
        let switch = if on { "on" } else { "off" };
        shell::run(self.command("ethtool").args(["--offload", "eth0", "tx", switch])).map(drop)
    }

    /// Plugs the cable of `interface`, one of another segment, into the switch that all nodes are on.
    pub fn plug_into_shared_segment(&self, interface: &str) -> Result<()> {
        let switch = Namespace::open(&self.state.namespace("switch"));
        let bridge = Segment::Shared.bridge();
        switch.ip(&format!("link set {} master {bridge}", switch::port(&self.name, interface))).map(drop)
    }

    /// Ends what [`Node::hold_vip`] does against answers, as a server is that nobody has set up: it answers ARP for every
    /// address that it has.
    pub fn answer_arp_for_all(&self) -> Result<()> {
        self.set_arp_silence("0", "0")
    }

    /// The node answers ARP for addresses of the asked interface alone, and asks with no other: what a real server needs.
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

    /// From now on what the node's own programs send to TCP `port` is lost. What XDP forwards goes through as before.
    pub fn drop_own_tcp(&self, port: u16) -> Result<()> {
        let rules = format!(
            "table ip drop_own_tcp {{ chain output {{ type filter hook output priority 0; tcp dport {port} drop; }}; }}"
        );
        shell::run(self.command("nft").arg(rules)).map(drop)
    }

    /// Ends what [`Node::drop_own_tcp`] has begun.
    pub fn pass_own_tcp(&self) -> Result<()> {
        shell::run(self.command("nft").arg("delete table ip drop_own_tcp")).map(drop)
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

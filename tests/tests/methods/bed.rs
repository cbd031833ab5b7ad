//! The talk's cluster with a VIP for each method and family, and clients behind a router, whose
//! link to them carries packets of 1,400 bytes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lb_api::status::{ServerStatus, Status};
use lb_lab::cluster::Talk;
use lb_lab::cluster::pair::PATIENCE;
use lb_lab::lab::{Director, Node, Responder, TunnelEnd, unique_name};
use lb_lab::scenario::methods;
use lb_lab::uninterrupted;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Of servers that send back what they get, by TCP.
pub(crate) const ECHO: u16 = 7000;
/// Of servers that say their name, by UDP.
pub(crate) const NAMES: u16 = 5353;
/// By the servers' pages: a line of a service.
pub(crate) const CHECK: &str = "    check: { type: tcp, port: 80, interval: 500ms, timeout: 1s }\n";
/// Bytes of a packet on the link to the clients.
const NARROW: u32 = 1_400;

/// How packets get to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Gate,
    Ipip,
    Gue,
    Gre,
    Masq,
    /// Address translation of both addresses.
    SourceNat,
}

impl Method {
    const ALL: [Self; 6] = [Self::Gate, Self::Ipip, Self::Gue, Self::Gre, Self::Masq, Self::SourceNat];

    /// The word of the configuration.
    const fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
            Self::Masq | Self::SourceNat => "masq",
        }
    }
}

/// A method and a family, with a VIP, servers and clients of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) method: Method,
    pub(crate) is_ipv6: bool,
}

impl Case {
    pub(crate) fn all() -> Vec<Self> {
        let both = |method| [false, true].map(|is_ipv6| Self { method, is_ipv6 });
        Method::ALL.into_iter().flat_map(both).collect()
    }

    fn address(self, networks: [&str; 2], last: u32) -> IpAddr {
        format!("{}{last}", networks[usize::from(self.is_ipv6)]).parse().expect("an address")
    }

    pub(crate) fn vip(self) -> IpAddr {
        self.address(["211.58.250.", "fd00::"], 60 + self.method as u32)
    }

    /// Two addresses of clients that no other case has, because what a server learns of the way to
    /// a client it knows for all of them.
    pub(crate) fn clients(self) -> [IpAddr; 2] {
        [110, 111].map(|first| self.address(["198.18.0.", "fd01::"], first + 2 * self.method as u32))
    }

    pub(crate) const fn is_translated(self) -> bool {
        matches!(self.method, Method::Masq | Method::SourceNat)
    }

    /// By which a director reaches a server.
    fn server(self, server: &Node) -> IpAddr {
        let networks = if self.is_translated() { ["10.20.0.", "fd20::"] } else { ["211.58.250.", "fd00::"] };
        let [.., last] = server.address().octets();
        self.address(networks, last.into())
    }

    /// To which address a packet comes at a server in the end.
    pub(crate) fn destination(self, server: &Node) -> IpAddr {
        if self.is_translated() { self.server(server) } else { self.vip() }
    }

    /// From which clients' packets come to servers, where these are not the clients' own.
    fn source(self) -> Option<IpAddr> {
        (self.method == Method::SourceNat).then(|| self.address(["10.20.0.", "fd20::"], 8))
    }

    /// What the server's kernel knows of the way to the first client.
    pub(crate) fn way_back(self, server: &Node) -> String {
        let family = if self.is_ipv6 { "-6 " } else { "" };
        let to = self.source().unwrap_or(self.clients()[0]);
        let from = self.destination(server);
        server.ip(&format!("{family}route get {to} from {from}")).expect("a route")
    }

    /// A service of the configuration; `more` has further lines of it.
    pub(crate) fn service(self, bed: &Bed, port: &str, protocol: &str, more: &str) -> String {
        let nat = self.source().map_or_else(String::new, |from| format!("    source_nat: ['{from}']\n"));
        let vip = match self.vip() {
            IpAddr::V4(vip) => vip.to_string(),
            IpAddr::V6(vip) => format!("[{vip}]"),
        };
        let servers: String = bed
            .servers()
            .into_iter()
            .map(|server| {
                let id = match more.contains("quic_lb") {
                    true => format!(", quic_server_ids: {{ 3: '{:02x}' }}", quic_id(server)),
                    false => String::new(),
                };
                let (name, address) = (server.name(), self.server(server));
                format!("      - {{ name: {name}, address: '{address}'{id} }}\n")
            })
            .collect();
        format!(
            "  - vip: '{vip}:{port}'\n    protocol: {protocol}\n    scheduler: rr\n    forward: {}\n{nat}{more}    \
             servers:\n{servers}",
            self.method.name()
        )
    }
}

/// The server's ID in connection IDs of QUIC.
pub(crate) fn quic_id(server: &Node) -> u8 {
    let [.., last] = server.address().octets();
    last
}

pub(crate) struct Bed {
    /// They end before the lab does.
    _tunnel_ends: [TunnelEnd; 2],
    pub(crate) talk: Talk,
    /// Has the clients' addresses.
    pub(crate) far: Node,
    _alone: MutexGuard<'static, ()>,
}

/// Two cores have enough to do with one bed.
static ALONE: Mutex<()> = Mutex::new(());

impl Bed {
    pub(crate) fn new(purpose: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let talk = Talk::with_ipv6(&unique_name(purpose)).expect("the cluster comes up");
        talk.ha2.add_ipv6(&format!("{}/64", talk.ha2.ipv6())).expect("an address");
        let far = behind_a_narrow_link(&talk);
        for (director, last) in [(&talk.ha1, 5), (&talk.ha2, 7)] {
            director.ip(&format!("address add 10.20.0.{last}/24 dev eth0")).expect("an address");
            director.ip(&format!("-6 address add fd20::{last}/64 dev eth0 nodad")).expect("an address");
        }
        let servers = [talk.www1.node(), talk.www2.node()];
        for case in Case::all().into_iter().filter(|case| !case.is_translated()) {
            let (family, length, more) = if case.is_ipv6 { ("-6 ", 128, " nodad") } else { ("", 32, "") };
            for server in servers {
                let order = format!("{family}address add {}/{length} dev lo{more}", case.vip());
                server.ip(&order).expect("the server holds the VIP");
            }
        }
        let tunnel_ends =
            servers.map(|server| methods::serve_by_every_method(server).expect("it takes packets"));
        Self { _tunnel_ends: tunnel_ends, talk, far, _alone: alone }
    }

    pub(crate) fn servers(&self) -> [&Node; 2] {
        [self.talk.www1.node(), self.talk.www2.node()]
    }

    /// With these services of each case.
    pub(crate) fn configuration(&self, services: impl Fn(Case) -> String) -> String {
        let vips: String = Case::all()
            .into_iter()
            .map(|case| format!("'{}/{}', ", case.vip(), if case.is_ipv6 { 64 } else { 25 }))
            .collect();
        let services: String = Case::all().into_iter().map(services).collect();
        format!(
            "interface: eth0\nmetrics: off\ngroups:\n  - vips: [{vips}10.20.0.6/24, 'fd20::6/64', 10.20.0.8/24, \
             'fd20::8/64']\nservices:\n{services}"
        )
    }

    /// A director on ha1 that knows all servers' MACs.
    pub(crate) fn director(&self, services: impl Fn(Case) -> String) -> Director {
        let director = Director::start(&self.talk.ha1, &self.configuration(services)).expect("lb starts");
        let in_use = |server: &ServerStatus| server.effective_weight > 0 && server.mac.is_some();
        let all = |status: &Status| status.services.iter().all(|service| service.servers.iter().all(in_use));
        let all_in_use = director.wait_until("all servers in use", PATIENCE, all);
        if let Err(error) = all_in_use {
            panic!("{error:#}\n{}", director.log_tail());
        }
        director
    }

    /// Servers that say their name, as long as what it returns lives.
    pub(crate) fn answer_names(&self) -> Vec<Responder> {
        let of = |server: &Node| {
            let addresses: BTreeSet<IpAddr> =
                Case::all().into_iter().map(|case| case.destination(server)).collect();
            let start = |address| {
                let name = server.name().to_owned();
                Responder::start(server, (address, NAMES), move |_| name.clone().into_bytes())
                    .expect("the server has the address")
            };
            addresses.into_iter().map(start).collect::<Vec<_>>()
        };
        self.servers().into_iter().flat_map(of).collect()
    }

    /// A connection to this port of the case's VIP, from its first client.
    pub(crate) fn connect(&self, case: Case, port: u16) -> TcpStream {
        let [from, _] = case.clients();
        let connected = self.far.run(|| {
            let domain = if case.is_ipv6 { Domain::IPV6 } else { Domain::IPV4 };
            let socket = Socket::new(domain, Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect_timeout(&SocketAddr::new(case.vip(), port).into(), PATIENCE)?;
            Ok::<TcpStream, std::io::Error>(socket.into())
        });
        let connection = connected.expect("the client runs");
        let connection = connection.unwrap_or_else(|error| panic!("{case:?}, port {port}: {error}"));
        connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        connection.set_nodelay(true).expect("it can be set");
        connection
    }

    /// Datagrams of the first client to this port of the case's VIP.
    pub(crate) fn datagrams(&self, case: Case, port: u16) -> Datagrams {
        let [from, _] = case.clients();
        let socket = self.far.run(|| UdpSocket::bind((from, 0))).expect("the client runs").expect("a socket");
        socket.connect((case.vip(), port)).expect("a way");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time-out");
        Datagrams(socket)
    }

    /// What curl prints of these URLs, fetched from this address of the client's.
    pub(crate) fn curl(&self, from: IpAddr, urls: &[&str]) -> String {
        let mut curl = self.far.command("curl");
        curl.args(["-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60"]);
        let output = curl.arg("--interface").arg(from.to_string()).args(urls).output().expect("curl runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{urls:?} from {from}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A client's socket.
pub(crate) struct Datagrams(UdpSocket);

impl Datagrams {
    /// The answer. A datagram may be lost on a busy machine.
    pub(crate) fn ask(&self, question: &[u8]) -> Vec<u8> {
        let mut answer = vec![0; 1 << 16];
        for _ in 0..5 {
            // What was refused before is told now.
            let sent = self.0.send(question);
            if let Ok(length) = sent.and_then(|_| uninterrupted(|| self.0.recv(&mut answer))) {
                answer.truncate(length);
                return answer;
            }
        }
        panic!("nobody answers {:?}", self.0)
    }

    /// The name of the server that answers.
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.ask(b"who?")).into_owned()
    }
}

/// The node of all clients. It tells servers that it takes full packets, as one would whose own
/// link does.
fn behind_a_narrow_link(talk: &Talk) -> Node {
    let node = |name, address: &str| {
        let node = talk.lab.node(name, address.parse().expect("an address")).expect("a node");
        node.add_ipv6(&format!("{}/64", node.ipv6())).expect("an address");
        node
    };
    let (router, far) = (node("router", "211.58.250.101/25"), node("far", "211.58.250.102/25"));
    for (node, last) in [(&router, 1), (&far, 2)] {
        let address = format!("198.18.0.{last}/24").parse().expect("an address");
        talk.lab.join_heartbeat_segment(node, address).expect("an eth1");
        node.add_ipv6_to("eth1", &format!("fd01::{last}/64")).expect("an address");
        node.ip(&format!("link set eth1 mtu {NARROW}")).expect("a narrow link");
    }
    for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        router.sysctl(setting, "1").expect("it routes");
    }
    far.ip("link set eth0 down").expect("it can");
    for address in Case::all().into_iter().flat_map(Case::clients) {
        let (length, more) = if address.is_ipv6() { (64, " nodad") } else { (24, "") };
        far.ip(&format!("address add {address}/{length} dev eth1{more}")).expect("an address");
    }
    far.ip("route add default via 198.18.0.1 advmss 1460").expect("a route");
    far.ip("-6 route add default via fd01::1 advmss 1440").expect("a route");
    for node in [&talk.ha1, &talk.ha2, talk.www1.node(), talk.www2.node()] {
        node.ip(&format!("route add 198.18.0.0/24 via {}", router.address())).expect("a route");
        node.ip(&format!("-6 route add fd01::/64 via {}", router.ipv6())).expect("a route");
    }
    far
}

/// This process has servers and clients: two descriptors a connection.
pub(crate) fn make_room_for_connections() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("it may be raised");
}

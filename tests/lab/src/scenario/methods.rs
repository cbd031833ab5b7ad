//! The talk's ipvsadm forwarded in three ways: the same page by each of them, over IPv4 and IPv6.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result, ensure};

use super::Tell;
use crate::cluster::pair::PATIENCE;
use crate::cluster::{Talk, WWW1_PAGE, WWW2_PAGE};
use crate::lab::{Director, Node, TunnelEnd};

/// How packets get to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Direct,
    Ipip,
    Masq,
}

/// A network of servers behind address translation.
struct Translated {
    /// The family as an option of `ip`.
    family: &'static str,
    /// What its addresses begin with.
    network: &'static str,
    length: u8,
    /// More of the order that adds an address.
    more: &'static str,
}

const TRANSLATED_V4: Translated = Translated { family: "-4", network: "10.20.0.", length: 24, more: "" };
const TRANSLATED_V6: Translated = Translated { family: "-6", network: "fd20::", length: 64, more: " nodad" };

impl Method {
    pub const ALL: [Self; 3] = [Self::Direct, Self::Ipip, Self::Masq];

    /// The word of the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Ipip => "ipip",
            Self::Masq => "masq",
        }
    }

    /// The word of ipvsadm.
    const fn of_ipvsadm(self) -> &'static str {
        match self {
            Self::Direct => "gate",
            other => other.name(),
        }
    }

    /// The VIPs of the scene.
    fn vips(self) -> [String; 2] {
        let last = match self {
            Self::Direct => 6,
            Self::Ipip => 8,
            Self::Masq => 9,
        };
        [format!("211.58.250.{last}"), format!("fd00::{last}")]
    }

    /// What the addresses of servers begin with.
    const fn networks(self) -> [&'static str; 2] {
        match self {
            Self::Direct | Self::Ipip => ["211.58.250.", "fd00::"],
            Self::Masq => [TRANSLATED_V4.network, TRANSLATED_V6.network],
        }
    }

    /// By which a director reaches the server with this last number.
    pub fn address(self, number: u8) -> Ipv4Addr {
        match self {
            Self::Direct | Self::Ipip => Ipv4Addr::new(211, 58, 250, number),
            Self::Masq => Ipv4Addr::new(10, 20, 0, number),
        }
    }

    /// To which address and port of the server a packet to the service goes in the end.
    pub fn destination(self, service: SocketAddrV4, server: &Node) -> SocketAddrV4 {
        match self {
            Self::Direct | Self::Ipip => service,
            Self::Masq => SocketAddrV4::new(self.address(number(server)), service.port()),
        }
    }

    /// What the group has besides the VIPs of services: the gateway of the servers.
    pub const fn gateway(self) -> Option<&'static str> {
        match self {
            Self::Direct | Self::Ipip => None,
            Self::Masq => Some("10.20.0.6/24"),
        }
    }

    /// Makes ready for the method, over IPv4, what [`Talk::new`] has made ready for direct routing.
    /// The servers take packets out of tunnels as long as what it returns lives.
    pub fn prepare(self, talk: &Talk) -> Result<Vec<TunnelEnd>> {
        let servers = [talk.www1.node(), talk.www2.node()];
        match self {
            Self::Direct => Ok(Vec::new()),
            Self::Ipip => servers.into_iter().map(TunnelEnd::start).collect(),
            Self::Masq => {
                for director in [&talk.ha1, &talk.ha2] {
                    director.ip(&format!("address add {}/24 dev eth0", self.address(number(director))))?;
                }
                servers.into_iter().try_for_each(|server| answer_by_director(server, &TRANSLATED_V4))?;
                Ok(Vec::new())
            }
        }
    }
}

/// The last number of a node's addresses.
fn number(node: &Node) -> u8 {
    let [.., last] = node.address().octets();
    last
}

/// Runs the scene on a cluster of its own, made by [`Talk::with_ipv6`].
pub fn play(talk: &Talk, tell: Tell) -> Result<()> {
    let mut ends = Vec::new();
    for node in [talk.www1.node(), talk.www2.node()] {
        ends.push(prepare(node)?);
    }
    talk.ha1.ip("address add 10.20.0.5/24 dev eth0")?;
    talk.ha1.ip("address add fd20::5/64 dev eth0 nodad")?;
    let director = Director::start(&talk.ha1, &configuration())?;
    let all_serve = director.wait_until("every server in the table", PATIENCE, |status| {
        status.services.iter().flat_map(|service| &service.servers).all(|server| server.effective_weight > 0)
    });
    all_serve.with_context(|| format!("The end of lb's log:\n{}", director.log_tail()))?;
    tell(&format!("the same two servers by each method and family:\n\n{}", director.listing()?));
    for method in Method::ALL {
        for vip in method.vips() {
            let pages = pages(talk, &vip)?;
            tell(&format!("{} {vip}: {}", method.of_ipvsadm(), pages.join(", ")));
        }
    }
    director.stop()
}

/// The server holds the VIPs of direct routing and of tunnels, takes packets out of tunnels, and
/// answers by the director from the address that packets are translated to.
fn prepare(server: &Node) -> Result<TunnelEnd> {
    server.ip("address add 211.58.250.8/32 dev lo")?;
    server.ip("-6 address add fd00::8/128 dev lo nodad")?;
    serve_by_every_method(server)
}

/// The server takes packets out of tunnels, and has addresses of both families for address
/// translation: 10.20.0.N and fd20::N, of which it answers by the gateways 10.20.0.6 and fd20::6.
pub fn serve_by_every_method(server: &Node) -> Result<TunnelEnd> {
    answer_by_director(server, &TRANSLATED_V4)?;
    answer_by_director(server, &TRANSLATED_V6)?;
    TunnelEnd::start_like_fou(server)
}

/// Gives the server an address of the network, from which it answers clients by the gateway. Its
/// neighbours, among them directors that are not the gateway and check it, it answers itself.
fn answer_by_director(server: &Node, translated: &Translated) -> Result<()> {
    let Translated { family, network, length, more } = translated;
    let own = number(server);
    for order in [
        format!("address add {network}{own}/{length} dev eth0{more}"),
        format!("rule add from {network}{own} lookup 20"),
        format!("route add {network}0/{length} dev eth0 table 20"),
        format!("route add default via {network}6 dev eth0 table 20"),
    ] {
        server.ip(&format!("{family} {order}"))?;
    }
    Ok(())
}

fn configuration() -> String {
    let service = |method: Method, vip: &str, network: &str| {
        let vip = with_brackets(vip);
        format!(
            "  - vip: '{vip}:80'\n    scheduler: rr\n    forward: {}\n    \
             check: {{ type: tcp, interval: 500ms, timeout: 2s }}\n    servers:\n      \
             - {{ name: www1, address: '{network}25' }}\n      - {{ name: www2, address: '{network}27' }}\n",
            method.name()
        )
    };
    let services = Method::ALL.into_iter().flat_map(|method| {
        let vips = method.vips().into_iter().zip(method.networks());
        vips.map(|(vip, network)| service(method, &vip, network)).collect::<Vec<_>>()
    });
    let services: String = services.collect();
    let vips: Vec<String> = Method::ALL
        .into_iter()
        .flat_map(|method| method.vips().into_iter().zip([25, 64]))
        // The gateways of servers behind address translation.
        .chain([("10.20.0.6".to_owned(), 24), ("fd20::6".to_owned(), 64)])
        .map(|(vip, prefix)| format!("'{vip}/{prefix}'"))
        .collect();
    format!(
        "interface: eth0\nmetrics: off\ngroups: [{{ vips: [{}] }}]\nservices:\n{services}",
        vips.join(", ")
    )
}

fn with_brackets(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(_)) => format!("[{address}]"),
        _ => address.to_owned(),
    }
}

/// The pages of two connections, which must be those of both servers.
fn pages(talk: &Talk, vip: &str) -> Result<Vec<String>> {
    let url = format!("http://{}/index.html", with_brackets(vip));
    let pages: BTreeSet<String> = (0..2)
        .map(|_| talk.client.get(&url).map(|page| page.trim().to_owned()))
        .collect::<Result<_>>()
        .with_context(|| format!("no page from {vip}"))?;
    let expected = BTreeSet::from([WWW1_PAGE, WWW2_PAGE].map(str::to_owned));
    ensure!(pages == expected, "{vip} should have had the pages of both servers, not {pages:?}");
    Ok(pages.into_iter().collect())
}

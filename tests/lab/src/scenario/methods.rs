//! The talk's ipvsadm forwarded in three ways: the same page by each of them, over IPv4 and IPv6.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};

use super::Tell;
use crate::cluster::pair::PATIENCE;
use crate::cluster::{Talk, WWW1_PAGE, WWW2_PAGE};
use crate::lab::{Director, Node, TunnelEnd};

/// A method, the last number of its VIPs, and the networks of the servers' addresses.
struct Method {
    name: &'static str,
    in_words: &'static str,
    vip: u8,
    networks: [&'static str; 2],
}

const METHODS: [Method; 3] = [
    Method { name: "direct", in_words: "gate", vip: 6, networks: ["211.58.250.", "fd00::"] },
    Method { name: "ipip", in_words: "ipip", vip: 8, networks: ["211.58.250.", "fd00::"] },
    Method { name: "masq", in_words: "masq", vip: 9, networks: ["10.20.0.", "fd20::"] },
];

impl Method {
    fn vips(&self) -> [String; 2] {
        [format!("211.58.250.{}", self.vip), format!("fd00::{}", self.vip)]
    }
}

/// Runs the scene on a cluster of its own, made by [`Talk::with_ipv6`].
pub fn play(talk: &Talk, tell: Tell) -> Result<()> {
    let servers = [(talk.www1.node(), 25), (talk.www2.node(), 27)];
    let mut ends = Vec::new();
    for (node, number) in servers {
        ends.push(prepare(node, number)?);
    }
    talk.ha1.ip("address add 10.20.0.5/24 dev eth0")?;
    talk.ha1.ip("address add fd20::5/64 dev eth0 nodad")?;
    let director = Director::start(&talk.ha1, &configuration())?;
    let all_serve = director.wait_until("every server in the table", PATIENCE, |status| {
        status.services.iter().flat_map(|service| &service.servers).all(|server| server.effective_weight > 0)
    });
    all_serve.with_context(|| format!("The end of lb's log:\n{}", director.log_tail()))?;
    tell(&format!("the same two servers by each method and family:\n\n{}", director.listing()?));
    for method in &METHODS {
        for vip in method.vips() {
            let pages = pages(talk, &vip)?;
            tell(&format!("{} {vip}: {}", method.in_words, pages.join(", ")));
        }
    }
    director.stop()
}

/// The server holds the VIPs of direct routing and of tunnels, takes packets out of tunnels, and
/// answers by the director from the address that packets are translated to.
fn prepare(server: &Node, number: u8) -> Result<TunnelEnd> {
    server.ip("address add 211.58.250.8/32 dev lo")?;
    server.ip("-6 address add fd00::8/128 dev lo nodad")?;
    server.ip(&format!("address add 10.20.0.{number}/24 dev eth0"))?;
    server.ip(&format!("address add fd20::{number}/64 dev eth0 nodad"))?;
    for (family, own, gateway) in [("-4", "10.20.0.", "10.20.0.6"), ("-6", "fd20::", "fd20::6")] {
        server.ip(&format!("{family} rule add from {own}{number} lookup 20"))?;
        server.ip(&format!("{family} route add default via {gateway} dev eth0 table 20"))?;
    }
    TunnelEnd::start(server)
}

fn configuration() -> String {
    let service = |method: &Method, vip: &str, network: &str| {
        let vip = with_brackets(vip);
        format!(
            "  - vip: '{vip}:80'\n    scheduler: rr\n    forward: {}\n    \
             check: {{ type: tcp, interval: 500ms, timeout: 2s }}\n    servers:\n      \
             - {{ name: www1, address: '{network}25' }}\n      - {{ name: www2, address: '{network}27' }}\n",
            method.name
        )
    };
    let services = METHODS.iter().flat_map(|method| {
        let vips = method.vips().into_iter().zip(method.networks);
        vips.map(|(vip, network)| service(method, &vip, network)).collect::<Vec<_>>()
    });
    let services: String = services.collect();
    let vips: Vec<String> = METHODS
        .iter()
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

//! The ways to servers: the interface, the next hop, the source address and the MTU, as the
//! kernel's routing tables have them.
//!
//! Packets to servers with tunnels, or behind address translation, go by their routes; what the
//! latter send goes by all routes by the interfaces that clients come in by (`table`). A server of
//! direct routing is on the main interface's segment, unless another interface is named for it, or
//! only another one's network has its address.
//!
//! The kernel is asked for each address again whenever a route, an address or the interface
//! changes, and periodically, in case an event was lost.

mod table;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use lb_model::SourcePrefix;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::{mpsc, watch};

pub use self::table::{By, Others, Table, TableRoute};
use crate::addresses::address_of;
use crate::links::{Exit, Links};

/// From one look at all routes to the next.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Changes often come in bursts: so long after the first of them the routes are looked up.
const SETTLE: Duration = Duration::from_millis(20);
/// Time limit of netlink requests.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How packets to an address leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The gateway, or the address itself.
    pub next_hop: IpAddr,
    /// This host's address towards it; `None` where nobody has asked, as for direct routing.
    pub source: Option<IpAddr>,
    pub mtu: u32,
    pub exit: Exit,
}

/// A server to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// It is reached by a tunnel or by address translation, and may be behind routers.
    pub routed: bool,
    /// The interface that it is behind; `None`: look for it.
    pub interface: Option<String>,
}

/// What was found for an address; an error tells why packets cannot get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub address: IpAddr,
    pub found: Result<Route, String>,
}

/// What is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    addresses: BTreeMap<IpAddr, Want>,
    /// All routes by the main interface, and what these say.
    table: Option<Others>,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        self.addresses.is_empty() && self.table.is_none()
    }
}

/// Follows the routes to addresses. Dropping it ends the task.
pub struct Routes {
    wanted: watch::Sender<Wanted>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Routes {
    /// Must run within a tokio runtime. `index` is the main interface's.
    pub fn start(
        index: u32,
        events: mpsc::UnboundedSender<Event>,
        tables: mpsc::UnboundedSender<Table>,
    ) -> Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
        ];
        let (connection, handle, messages) =
            new_multicast_connection(&groups).context("cannot open a netlink socket for routes")?;
        tokio::spawn(connection);
        let (wanted, receiver) = watch::channel(Wanted::default());
        let known = BTreeMap::new();
        let follower = Follower { index, handle, events, tables, wanted: receiver, known, table: None };
        let task = tokio::spawn(follower.run(messages));
        Ok(Self { wanted, task })
    }

    /// Replaces the set of addresses whose routes are followed.
    pub fn want(&self, addresses: BTreeMap<IpAddr, Want>) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.addresses != addresses;
            wanted.addresses = addresses;
            changed
        });
    }

    /// All routes by the main interface are followed, and those that these say; `None`: they are
    /// not.
    pub fn want_table(&self, others: Option<Others>) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.table != others;
            wanted.table = others;
            changed
        });
    }
}

struct Follower {
    /// Of the main interface.
    index: u32,
    handle: Handle,
    events: mpsc::UnboundedSender<Event>,
    tables: mpsc::UnboundedSender<Table>,
    wanted: watch::Receiver<Wanted>,
    known: BTreeMap<IpAddr, Result<Route, String>>,
    table: Option<Table>,
}

impl Follower {
    async fn run<M>(mut self, mut messages: impl futures::Stream<Item = M> + Unpin) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                message = messages.next() => {
                    if message.is_none() {
                        return;
                    }
                    if self.wanted.borrow().is_nothing() {
                        continue;
                    }
                    tokio::time::sleep(SETTLE).await;
                    while futures::FutureExt::now_or_never(messages.next()).flatten().is_some() {}
                }
                changed = self.wanted.changed() => if changed.is_err() {
                    return;
                },
                _ = look.tick() => {}
            }
            self.look().await;
        }
    }

    /// Asks the kernel for every address and tells what has changed.
    async fn look(&mut self) {
        let Wanted { addresses: wanted, table } = self.wanted.borrow_and_update().clone();
        if let Some(others) = table {
            self.look_at_table(&others).await;
        }
        self.known.retain(|address, _| wanted.contains_key(address));
        if wanted.is_empty() {
            return;
        }
        let (links, networks) = match self.surroundings().await {
            Ok(found) => found,
            Err(error) => return tracing::debug!("cannot read the interfaces: {error:#}"),
        };
        for (address, want) in wanted {
            let is_here = networks.iter().any(|network| network.contains(address));
            let found = match (&want.interface, want.routed) {
                (Some(name), false) => links
                    .named(name)
                    .ok_or_else(|| format!("there is no interface {name}"))
                    .and_then(|link| direct(address, links.exit(link.index, self.index)?)),
                (None, false) if is_here => {
                    links.exit_of_main(self.index).and_then(|exit| direct(address, exit))
                }
                (None, false) => self.look_for(address, &links).await,
                (name, true) => match self.ask(address).await {
                    Ok(message) => route(&message, address, &links, self.index)
                        .and_then(|route| leaves_by(route, name.as_deref(), &links)),
                    Err(error) => Err(format!("no route to {address}: {error:#}")),
                },
            };
            if self.known.get(&address) != Some(&found) {
                self.known.insert(address, found.clone());
                let _ = self.events.send(Event { address, found });
            }
        }
    }

    async fn look_at_table(&mut self, others: &Others) {
        match table::read(&self.handle, self.index, others).await {
            Ok(table) if self.table.as_ref() != Some(&table) => {
                self.table = Some(table.clone());
                let _ = self.tables.send(table);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("cannot read the host's routes: {error:#}"),
        }
    }

    /// All interfaces, and the networks of the main one.
    async fn surroundings(&self) -> Result<(Links, Vec<Network>)> {
        let links = Links::read(&self.handle).await?;
        let addresses =
            self.handle.address().get().set_link_index_filter(self.index).execute().try_collect::<Vec<_>>();
        let addresses = tokio::time::timeout(ANSWER_WITHIN, addresses)
            .await
            .context("the kernel's answer was lost")??;
        let network = |message: &AddressMessage| {
            Some(Network { address: address_of(message)?, prefix: message.header.prefix_len })
        };
        Ok((links, addresses.iter().filter_map(network).collect()))
    }

    /// The interface of a server of direct routing that is in no network of the main one: another
    /// one, if the kernel would send packets there without a router.
    async fn look_for(&self, address: IpAddr, links: &Links) -> Result<Route, String> {
        let here = || links.exit_of_main(self.index).and_then(|exit| direct(address, exit));
        match self.ask(address).await.map(|message| route(&message, address, links, self.index)) {
            Ok(Ok(route)) if route.next_hop == address && route.exit.interface != self.index => {
                direct(address, route.exit)
            }
            _ => here(),
        }
    }

    async fn ask(&self, address: IpAddr) -> Result<RouteMessage> {
        let message = match address {
            IpAddr::V4(address) => {
                RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build()
            }
            IpAddr::V6(address) => {
                RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(address, 128).build()
            }
        };
        let mut answers = Box::pin(self.handle.route().get(message).execute());
        let answer = tokio::time::timeout(ANSWER_WITHIN, answers.try_next()).await;
        match answer.context("the kernel's answer was lost")? {
            Ok(message) => message.context("the kernel has none"),
            Err(rtnetlink::Error::NetlinkError(refusal)) => Err(refusal.to_io().into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// An address range of a network.
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        // The whole of IPv4's addresses is no network, but VIPs are addresses of the interface too.
        let length = self.prefix;
        length > 0 && SourcePrefix { address: self.address, length }.contains(address)
    }
}

fn direct(address: IpAddr, exit: Exit) -> Result<Route, String> {
    Ok(Route { next_hop: address, source: None, mtu: exit.mtu, exit })
}

/// The route, if it leaves by the interface that is named, if one is.
fn leaves_by(route: Route, name: Option<&str>, links: &Links) -> Result<Route, String> {
    let out = links.get(route.exit.interface).map_or("another interface", |link| &*link.name);
    match name {
        Some(name) if name != out => {
            Err(format!("the route to {} leaves by {out}, and `interface` says {name}", route.next_hop))
        }
        _ => Ok(route),
    }
}

/// What the kernel's answer about `address` means.
fn route(message: &RouteMessage, address: IpAddr, links: &Links, main: u32) -> Result<Route, String> {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Err(format!("{address} is this host's own address")),
        RouteType::Unreachable | RouteType::BlackHole | RouteType::Prohibit => {
            return Err(format!("the host's routes say that {address} is unreachable"));
        }
        other => return Err(format!("{address} is no host's address, but of type {other:?}")),
    }
    let (mut out, mut gateway, mut source, mut mtu) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => out = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some(IpAddr::V6(*address)),
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some(IpAddr::V4(*address)),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(mtu_of),
            _ => {}
        }
    }
    let out = out.ok_or_else(|| format!("the route to {address} leaves by no interface"))?;
    let exit =
        links.exit(out, main).map_err(|error| format!("the route to {address} cannot be used: {error}"))?;
    let source = source.ok_or_else(|| format!("this host has no address to reach {address} from"))?;
    let mtu = mtu.filter(|mtu| *mtu > 0).map_or(exit.mtu, |mtu| mtu.min(exit.mtu));
    Ok(Route { next_hop: gateway.unwrap_or(address), source: Some(source), mtu, exit })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn mtu_of(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::{Kind, Link};

    const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn found(attributes: Vec<RouteAttribute>, kind: RouteType) -> Result<Route, String> {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.attributes = attributes;
        route(&message, SERVER.into(), &links(), 7)
    }

    fn links() -> Links {
        let link = |index, name: &str, mac| Link {
            index,
            name: name.to_owned(),
            kind: Kind::Device,
            mac,
            mtu: 1500,
            up: true,
            carrier: true,
            below: None,
            master: None,
            promiscuous: false,
        };
        let mac = Some(lb_common::mac::Mac::new([2, 0, 0, 0, 0, 5]));
        [link(1, "lo", None), link(7, "eth0", mac), link(8, "eth1", mac)].into_iter().collect()
    }

    #[test]
    fn a_route_names_the_next_hop_the_source_and_the_mtu() {
        let own = RouteAttribute::PrefSource(RouteAddress::Inet(OWN));
        let here = vec![RouteAttribute::Oif(7), own.clone()];
        let exit = links().exit(7, 7).expect("it is up");
        let direct = Route { next_hop: SERVER.into(), source: Some(OWN.into()), mtu: 1500, exit };
        assert_eq!(found(here.clone(), RouteType::Unicast), Ok(direct));
        let by_router = [here.clone(), vec![RouteAttribute::Gateway(RouteAddress::Inet(ROUTER))]].concat();
        assert_eq!(found(by_router, RouteType::Unicast), Ok(Route { next_hop: ROUTER.into(), ..direct }));
        for (metric, mtu) in [(1400, 1400), (9000, 1500), (0, 1500)] {
            let metrics = RouteAttribute::Metrics(vec![RouteMetric::Mtu(metric)]);
            let narrow = [here.clone(), vec![metrics]].concat();
            assert_eq!(found(narrow, RouteType::Unicast), Ok(Route { mtu, ..direct }), "{metric}");
        }
        let wrong = |attributes, kind| found(attributes, kind).expect_err("no way");
        assert!(wrong(here.clone(), RouteType::Local).contains("own address"));
        assert!(wrong(here, RouteType::BlackHole).contains("unreachable"));
        assert!(wrong(vec![RouteAttribute::Oif(7)], RouteType::Unicast).contains("no address"));
        assert!(wrong(vec![RouteAttribute::Oif(1), own], RouteType::Unicast).contains("lo is no Ethernet"));
        let out = leaves_by(direct, Some("eth1"), &links()).expect_err("another one is named");
        assert!(out.ends_with("leaves by eth0, and `interface` says eth1"), "{out}");
        assert_eq!(leaves_by(direct, Some("eth0"), &links()), Ok(direct));
    }

    #[test]
    fn a_network_has_the_addresses_of_its_prefix() {
        let network = |address: [u8; 4], prefix| Network { address: address.into(), prefix };
        assert!(network([192, 0, 2, 5], 24).contains(OWN.into()));
        assert!(!network([192, 0, 2, 10], 32).contains(OWN.into()), "a VIP");
        assert!(!network([192, 0, 2, 10], 0).contains(OWN.into()));
    }
}

//! The routes to servers that are reached by tunnels or by address translation: the next hop, the
//! source address and the MTU, as the kernel's routing tables have them. For what the latter send,
//! all routes by the interface (`table`).
//!
//! The kernel is asked for each address again whenever a route, an address or the interface
//! changes, and periodically, in case an event was lost.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::{mpsc, watch};

pub use self::table::{Table, TableRoute};

/// From one look at all routes to the next.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Changes often come in bursts: so long after the first of them the routes are looked up.
const SETTLE: Duration = Duration::from_millis(20);
/// Time limit of netlink requests.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How packets to an address leave by the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The gateway, or the address itself.
    pub next_hop: IpAddr,
    /// This host's address towards it.
    pub source: IpAddr,
    pub mtu: u32,
}

/// What was found for an address; an error tells why packets cannot get there by the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub address: IpAddr,
    pub found: Result<Route, String>,
}

/// What is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    addresses: BTreeSet<IpAddr>,
    table: bool,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        self.addresses.is_empty() && !self.table
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
    /// Must run within a tokio runtime. `index` is the interface's, `name` its name.
    pub fn start(
        index: u32,
        name: String,
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
        let follower = Follower {
            index,
            name,
            handle,
            events,
            tables,
            wanted: receiver,
            known: BTreeMap::new(),
            table: None,
        };
        let task = tokio::spawn(follower.run(messages));
        Ok(Self { wanted, task })
    }

    /// Replaces the set of addresses whose routes are followed.
    pub fn want(&self, addresses: BTreeSet<IpAddr>) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.addresses != addresses;
            wanted.addresses = addresses;
            changed
        });
    }

    /// Whether all routes by the interface are followed.
    pub fn want_table(&self, table: bool) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(&mut wanted.table, table) != table);
    }
}

struct Follower {
    index: u32,
    name: String,
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
        if table {
            self.look_at_table().await;
        }
        self.known.retain(|address, _| wanted.contains(address));
        if wanted.is_empty() {
            return;
        }
        let link_mtu = match self.link_mtu().await {
            Ok(mtu) => mtu,
            Err(error) => return tracing::debug!("cannot read the interface's MTU: {error:#}"),
        };
        for address in wanted {
            let found = match self.ask(address).await {
                Ok(message) => route(&message, address, self.index, &self.name, link_mtu),
                Err(error) => Err(format!("no route to {address}: {error:#}")),
            };
            if self.known.get(&address) != Some(&found) {
                self.known.insert(address, found.clone());
                let _ = self.events.send(Event { address, found });
            }
        }
    }

    async fn look_at_table(&mut self) {
        match table::read(&self.handle, self.index).await {
            Ok(table) if self.table.as_ref() != Some(&table) => {
                self.table = Some(table.clone());
                let _ = self.tables.send(table);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("cannot read the host's routes: {error:#}"),
        }
    }

    async fn link_mtu(&self) -> Result<u32> {
        let mut links = self.handle.link().get().match_index(self.index).execute();
        let link = tokio::time::timeout(ANSWER_WITHIN, links.try_next()).await.context("no answer")??;
        let link = link.context("no such interface")?;
        let mtu = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        mtu.context("the kernel does not tell it")
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

/// What the kernel's answer about `address` means for packets that must leave by the interface
/// `index`.
fn route(
    message: &RouteMessage,
    address: IpAddr,
    index: u32,
    name: &str,
    link_mtu: u32,
) -> Result<Route, String> {
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
    if out != Some(index) {
        let other = out.and_then(|out| nix::net::if_::if_indextoname(out).ok());
        let other = other.map_or("another interface".to_owned(), |name| name.to_string_lossy().into_owned());
        return Err(format!("the route to {address} leaves by {other}, and lb sends by {name} only"));
    }
    let source = source.ok_or_else(|| format!("this host has no address to reach {address} from"))?;
    let mtu = mtu.filter(|mtu| *mtu > 0).map_or(link_mtu, |mtu| mtu.min(link_mtu));
    Ok(Route { next_hop: gateway.unwrap_or(address), source, mtu })
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

    const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn found(attributes: Vec<RouteAttribute>, kind: RouteType) -> Result<Route, String> {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.attributes = attributes;
        route(&message, SERVER.into(), 7, "eth0", 1500)
    }

    #[test]
    fn a_route_names_the_next_hop_the_source_and_the_mtu() {
        let own = RouteAttribute::PrefSource(RouteAddress::Inet(OWN));
        let here = vec![RouteAttribute::Oif(7), own.clone()];
        let direct = Route { next_hop: SERVER.into(), source: OWN.into(), mtu: 1500 };
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
        assert!(wrong(vec![RouteAttribute::Oif(1), own], RouteType::Unicast).contains("leaves by lo"));
    }
}

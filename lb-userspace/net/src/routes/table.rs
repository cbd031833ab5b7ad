//! All routes by the interfaces that clients come in by, as the kernel's main table has them, and
//! the networks of others.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use lb_common::packet::vlan::Vlan;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::{ANSWER_WITHIN, ip};
use crate::links::Links;

/// Routes of both families; the one to take first of those with the same prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(pub Vec<TableRoute>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRoute {
    pub prefix: IpAddr,
    pub length: u8,
    /// `None`: the prefix is on the segment.
    pub gateway: Option<IpAddr>,
    pub by: By,
}

/// By which interface a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    Main,
    /// A VLAN device with this index on the main interface.
    Vlan {
        interface: u32,
        vlan: Vlan,
    },
    /// One with this index that packets come in by, too.
    Other(u32),
    /// One that servers are behind, and no client's packet comes in by: the network on its segment.
    Servers,
}

impl By {
    /// The VLAN of the clients that are behind it.
    pub const fn vlan(self) -> Vlan {
        match self {
            Self::Vlan { vlan, .. } => vlan,
            Self::Main | Self::Other(_) | Self::Servers => Vlan::UNTAGGED,
        }
    }

    /// Index of the interface by which gateways are asked for their MACs; `None`: the main one.
    pub const fn interface(self) -> Option<u32> {
        match self {
            Self::Vlan { interface, .. } | Self::Other(interface) => Some(interface),
            Self::Main | Self::Servers => None,
        }
    }
}

/// What of the host's routes is told besides those by the main interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// Indices of interfaces that packets come in by.
    pub clients: BTreeSet<u32>,
    /// VLANs that clients are in: those of VLAN devices on the main interface.
    pub vlans: BTreeSet<Vlan>,
    /// Indices of interfaces that servers are behind: the networks on their segments.
    pub servers: BTreeSet<u32>,
}

impl Others {
    fn by(&self, out: u32, main: u32, links: &Links) -> Option<By> {
        if out == main {
            return Some(By::Main);
        }
        if self.clients.contains(&out) {
            return Some(By::Other(out));
        }
        let exit = links.exit_even_down(out, main).ok().filter(|exit| exit.device == main);
        match exit.and_then(|exit| exit.vlan).filter(|vlan| self.vlans.contains(vlan)) {
            Some(vlan) => Some(By::Vlan { interface: out, vlan }),
            None => self.servers.contains(&out).then_some(By::Servers),
        }
    }
}

/// Asks the kernel.
pub(super) async fn read(handle: &Handle, main: u32, others: &Others) -> Result<Table> {
    let links = if others.vlans.is_empty() { Links::default() } else { Links::read(handle).await? };
    let messages =
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    let mut found = Vec::new();
    for message in messages {
        let answers = handle.route().get(message).execute();
        let routes = tokio::time::timeout(ANSWER_WITHIN, answers.try_collect::<Vec<_>>());
        let routes = routes.await.context("the kernel's answer was lost")??;
        let by = |out| others.by(out, main, &links);
        found.extend(routes.iter().filter_map(|route| parse(route, &by)));
    }
    Ok(chosen(found))
}

/// Of routes with the same prefix, each with its metric, the one to take.
fn chosen(mut found: Vec<(TableRoute, u32)>) -> Table {
    // Clients in different VLANs have different ones. The kernel takes the one of the smallest
    // metric. A link-local network is on every interface: the main one is the first.
    found.sort_by_key(|(route, metric)| {
        let TableRoute { prefix, length, by, .. } = *route;
        (prefix, length, by.vlan(), by == By::Servers, *metric, by)
    });
    found.dedup_by_key(|(route, _)| (route.prefix, route.length, route.by.vlan()));
    Table(found.into_iter().map(|(route, _)| route).collect())
}

/// A route, if `by` knows the interface with this index that it leads by, and its metric.
fn parse(message: &RouteMessage, by: &dyn Fn(u32) -> Option<By>) -> Option<(TableRoute, u32)> {
    let mut table = u32::from(message.header.table);
    let (mut out, mut gateway, mut prefix, mut metric) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(found) => out = Some(*found),
            RouteAttribute::Table(found) => table = *found,
            RouteAttribute::Destination(address) => prefix = ip(address),
            RouteAttribute::Priority(found) => metric = *found,
            RouteAttribute::MultiPath(hops) => {
                let known = hops.iter().filter_map(|hop| Some((by(hop.interface_index)?, hop)));
                let (_, hop) = known.min_by_key(|(by, _)| *by)?;
                out = Some(hop.interface_index);
                gateway = gateway_of(&hop.attributes);
            }
            _ => {}
        }
    }
    let gateway = gateway_of(&message.attributes).or(gateway);
    let by = by(out?).filter(|by| *by != By::Servers || gateway.is_none())?;
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || message.header.kind != RouteType::Unicast {
        return None;
    }
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let length = message.header.destination_prefix_length;
    Some((TableRoute { prefix: prefix.unwrap_or(any), length, gateway, by }, metric))
}

fn gateway_of(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::{RouteAddress, RouteNextHop};

    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn message(attributes: Vec<RouteAttribute>, length: u8) -> RouteMessage {
        let mut message = RouteMessageBuilder::<Ipv4Addr>::new().build();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.header.destination_prefix_length = length;
        message.attributes = attributes;
        message
    }

    const MAIN: u32 = 7;

    #[test]
    fn routes_by_the_interface_are_told() {
        let gateway = RouteAttribute::Gateway(RouteAddress::Inet(ROUTER));
        let default =
            message(vec![RouteAttribute::Oif(MAIN), gateway.clone(), RouteAttribute::Priority(5)], 0);
        let any = Ipv4Addr::UNSPECIFIED.into();
        let by_router = TableRoute { prefix: any, length: 0, gateway: Some(ROUTER.into()), by: By::Main };
        let parse_by =
            |message: &RouteMessage, by: By, index| parse(message, &|out| (out == index).then_some(by));
        assert_eq!(parse_by(&default, By::Main, MAIN), Some((by_router, 5)));
        assert_eq!(parse_by(&default, By::Main, 8), None, "of another interface");
        assert_eq!(parse_by(&default, By::Servers, MAIN), None, "by a router of theirs");
        let prefix = Ipv4Addr::new(192, 0, 2, 0);
        let destination = RouteAttribute::Destination(RouteAddress::Inet(prefix));
        let near = message(vec![RouteAttribute::Oif(MAIN), destination], 24);
        for by in [By::Main, By::Servers, By::Other(MAIN)] {
            let on_link = TableRoute { prefix: prefix.into(), length: 24, gateway: None, by };
            assert_eq!(parse_by(&near, by, MAIN), Some((on_link, 0)));
        }
        let mut local = near.clone();
        local.header.table = 255;
        assert_eq!(parse_by(&local, By::Main, MAIN), None);
        let mut hole = near;
        hole.header.kind = RouteType::BlackHole;
        assert_eq!(parse_by(&hole, By::Main, MAIN), None);
        let hop = |index, attributes| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop.attributes = attributes;
            hop
        };
        let hops = RouteAttribute::MultiPath(vec![hop(3, vec![]), hop(MAIN, vec![gateway])]);
        let of_several = parse_by(&message(vec![hops], 0), By::Main, MAIN);
        assert_eq!(of_several, Some((by_router, 0)), "one of several next hops");
    }

    #[test]
    fn of_each_prefix_the_kernels_choice_is_told_and_one_for_each_vlan() {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let route = |by, last: u8| {
            let gateway = Some(Ipv4Addr::new(192, 0, 2, last).into());
            TableRoute { prefix: any, length: 0, gateway, by }
        };
        let ten = By::Vlan { interface: 9, vlan: Vlan::single(10) };
        let found = vec![
            (route(By::Main, 1), 100),
            (route(By::Other(8), 2), 50),
            (route(By::Servers, 3), 0),
            (route(ten, 4), 200),
            (route(ten, 5), 300),
        ];
        let Table(told) = chosen(found);
        assert_eq!(told, [route(By::Other(8), 2), route(ten, 4)]);
        let same = vec![(route(By::Other(8), 2), 100), (route(By::Main, 1), 100)];
        assert_eq!(chosen(same), Table(vec![route(By::Main, 1)]), "the main interface first");
    }

    #[test]
    fn interfaces_are_told_apart() {
        let others =
            Others { clients: [8].into(), vlans: [Vlan::single(10)].into(), servers: [8, 11].into() };
        let by = |out| others.by(out, MAIN, &Links::default());
        assert_eq!([MAIN, 8, 11, 12].map(by), [Some(By::Main), Some(By::Other(8)), Some(By::Servers), None]);
        assert_eq!((By::Other(8).interface(), By::Main.interface()), (Some(8), None));
    }
}

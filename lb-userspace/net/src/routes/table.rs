//! All routes by an interface, as the kernel's main table has them, and the networks of others.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::{ANSWER_WITHIN, ip};

/// Routes of both families; the one to take first of those with the same prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(pub Vec<TableRoute>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRoute {
    pub prefix: IpAddr,
    pub length: u8,
    /// `None`: the prefix is on the segment.
    pub gateway: Option<IpAddr>,
    /// It is on the segment of another interface.
    pub elsewhere: bool,
}

/// Asks the kernel. Of `others` the networks on their segments are told.
pub(super) async fn read(handle: &Handle, index: u32, others: &BTreeSet<u32>) -> Result<Table> {
    let messages =
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    let mut found = Vec::new();
    for message in messages {
        let answers = handle.route().get(message).execute();
        let routes = tokio::time::timeout(ANSWER_WITHIN, answers.try_collect::<Vec<_>>());
        let routes = routes.await.context("the kernel's answer was lost")??;
        found.extend(routes.iter().filter_map(|route| parse(route, index, others)));
    }
    // The kernel takes the one of the smallest metric. A link-local network is on every interface.
    found.sort_by_key(|(route, metric)| (route.prefix, route.length, route.elsewhere, *metric));
    found.dedup_by_key(|(route, _)| (route.prefix, route.length));
    Ok(Table(found.into_iter().map(|(route, _)| route).collect()))
}

/// A route by the interface or to a network of one of the others, and its metric.
fn parse(message: &RouteMessage, index: u32, others: &BTreeSet<u32>) -> Option<(TableRoute, u32)> {
    let mut table = u32::from(message.header.table);
    let (mut out, mut gateway, mut prefix, mut metric) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(found) => out = Some(*found),
            RouteAttribute::Table(found) => table = *found,
            RouteAttribute::Destination(address) => prefix = ip(address),
            RouteAttribute::Priority(found) => metric = *found,
            RouteAttribute::MultiPath(hops) => {
                let hop = hops.iter().find(|hop| hop.interface_index == index)?;
                out = Some(index);
                gateway = gateway_of(&hop.attributes);
            }
            _ => {}
        }
    }
    let gateway = gateway_of(&message.attributes).or(gateway);
    let elsewhere = gateway.is_none() && out.is_some_and(|out| others.contains(&out));
    if table != u32::from(RouteHeader::RT_TABLE_MAIN)
        || message.header.kind != RouteType::Unicast
        || out != Some(index) && !elsewhere
    {
        return None;
    }
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let route = TableRoute {
        prefix: prefix.unwrap_or(any),
        length: message.header.destination_prefix_length,
        gateway,
        elsewhere: elsewhere && out != Some(index),
    };
    Some((route, metric))
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

    #[test]
    fn routes_by_the_interface_are_told() {
        let gateway = RouteAttribute::Gateway(RouteAddress::Inet(ROUTER));
        let default = message(vec![RouteAttribute::Oif(7), gateway.clone(), RouteAttribute::Priority(5)], 0);
        let any = Ipv4Addr::UNSPECIFIED.into();
        let by_router = TableRoute { prefix: any, length: 0, gateway: Some(ROUTER.into()), elsewhere: false };
        let parse = |message: &RouteMessage, index| parse(message, index, &[7].into());
        assert_eq!(parse(&default, 7), Some((by_router, 5)));
        assert_eq!(parse(&default, 8), None, "of another interface");
        let prefix = Ipv4Addr::new(192, 0, 2, 0);
        let destination = RouteAttribute::Destination(RouteAddress::Inet(prefix));
        let near = message(vec![RouteAttribute::Oif(7), destination], 24);
        let on_link = TableRoute { prefix: prefix.into(), length: 24, gateway: None, elsewhere: false };
        assert_eq!(parse(&near, 7), Some((on_link, 0)));
        let elsewhere = TableRoute { elsewhere: true, ..on_link };
        assert_eq!(parse(&near, 8), Some((elsewhere, 0)), "the network of an interface that is asked for");
        let mut local = near.clone();
        local.header.table = 255;
        assert_eq!(parse(&local, 7), None);
        let mut hole = near;
        hole.header.kind = RouteType::BlackHole;
        assert_eq!(parse(&hole, 7), None);
        let hop = |index, attributes| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop.attributes = attributes;
            hop
        };
        let hops = RouteAttribute::MultiPath(vec![hop(3, vec![]), hop(7, vec![gateway])]);
        assert_eq!(parse(&message(vec![hops], 0), 7), Some((by_router, 0)), "one of several next hops");
    }
}

//! What others do to the interface and its addresses, as the kernel tells it.

use std::net::IpAddr;
use std::num::NonZeroU32;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use lb_net::addresses::Form;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{MulticastGroup, new_multicast_connection};

/// Room for the addresses of a full interface that are flushed at once.
const RECEIVE_BUFFER: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// An address was added, or something about it has changed.
    Added(Form),
    /// An address has gone. `by`: the netlink port of who asked for it, which is a process's number
    /// more often than not.
    Removed { address: IpAddr, by: Option<NonZeroU32> },
    /// The interface was set up, or down.
    Link { up: bool },
    /// Some changes were not told.
    Missed,
}

/// The changes on one interface.
pub(super) struct Changes(BoxStream<'static, Change>);

impl Changes {
    /// Needs a tokio runtime around it. `interface` is the interface's index.
    pub(super) fn on(interface: u32) -> Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (mut connection, _, messages) = new_multicast_connection(&groups)
            .context("cannot open a netlink socket for changes of addresses")?;
        if let Err(error) = connection.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_BUFFER) {
            tracing::debug!(%error, "changes of addresses have a small receive buffer");
        }
        tokio::spawn(connection);
        let changes = messages.filter_map(move |(message, _)| std::future::ready(change(interface, message)));
        Ok(Self(changes.boxed()))
    }

    pub(super) async fn next(&mut self) -> Change {
        match self.0.next().await {
            Some(change) => change,
            // The runtime is going away.
            None => std::future::pending().await,
        }
    }
}

fn change(interface: u32, message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Change> {
    let by = NonZeroU32::new(message.header.port_number);
    match message.payload {
        NetlinkPayload::Overrun(_) => Some(Change::Missed),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message))
            if message.header.index == interface =>
        {
            Form::of(message).map(Change::Added)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message))
            if message.header.index == interface =>
        {
            Form::of(message).map(|form| Change::Removed { address: form.address, by })
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message))
            if message.header.index == interface =>
        {
            Some(Change::Link { up: message.header.flags.contains(LinkFlags::Up) })
        }
        _ => None,
    }
}

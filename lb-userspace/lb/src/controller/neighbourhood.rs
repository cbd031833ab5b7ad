//! Neighbours on the segments of all interfaces that servers are behind.

use std::collections::BTreeMap;

use anyhow::Result;
use lb_net::neighbours::{Event, Neighbours};
use nix::net::if_::if_indextoname;
use std::net::IpAddr;
use tokio::sync::mpsc::UnboundedSender;

use super::ways::NextHops;

pub(super) struct Neighbourhood {
    events: UnboundedSender<(u32, Event)>,
    /// By an interface's index; that of the VIPs is always there.
    segments: BTreeMap<u32, Neighbours>,
    main: u32,
}

impl Neighbourhood {
    /// Must run within a tokio runtime. `main` is the index of the interface of the VIPs.
    pub(super) fn start(main: u32, events: UnboundedSender<(u32, Event)>) -> Result<Self> {
        let segments = [(main, Neighbours::start(main, events.clone())?)].into();
        Ok(Self { events, segments, main })
    }

    /// Replaces the addresses that are resolved.
    pub(super) fn want(&mut self, mut wanted: NextHops) {
        self.segments.retain(|interface, _| *interface == self.main || wanted.contains_key(interface));
        wanted.entry(self.main).or_default();
        for (interface, addresses) in wanted {
            let neighbours = match self.segments.remove(&interface) {
                Some(neighbours) => neighbours,
                None => match Neighbours::start(interface, self.events.clone()) {
                    Ok(neighbours) => neighbours,
                    Err(error) => {
                        tracing::warn!("neighbours on {} are not found: {error:#}", name(interface));
                        continue;
                    }
                },
            };
            neighbours.want(addresses);
            self.segments.insert(interface, neighbours);
        }
    }

    /// Makes the kernel verify at once that the address still has its MAC.
    pub(super) fn verify(&self, address: IpAddr) {
        self.segments.values().for_each(|neighbours| neighbours.verify(address));
    }
}

/// An interface's name, for messages.
pub(super) fn name(index: u32) -> String {
    if_indextoname(index)
        .map_or_else(|_| format!("interface {index}"), |name| name.to_string_lossy().into_owned())
}

//! Neighbours on the segments of all interfaces that servers are behind.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use lb_net::link;
use lb_net::neighbours::{Event, Neighbours};
use std::net::IpAddr;
use tokio::sync::mpsc::UnboundedSender;

use super::ways::NextHops;

pub(super) struct Neighbourhood {
    events: UnboundedSender<(u32, Event)>,
    /// By an interface's index; those that packets come in by are always there.
    segments: BTreeMap<u32, Neighbours>,
    always: BTreeSet<u32>,
}

impl Neighbourhood {
    /// Must run within a tokio runtime. `always` are the indices of the interfaces that packets
    /// come in by.
    pub(super) fn start(always: BTreeSet<u32>, events: UnboundedSender<(u32, Event)>) -> Result<Self> {
        let start = |index: &u32| Ok((*index, Neighbours::start(*index, events.clone())?));
        let segments = always.iter().map(start).collect::<Result<_>>()?;
        Ok(Self { events, segments, always })
    }

    /// Replaces the addresses that are resolved.
    pub(super) fn want(&mut self, mut wanted: NextHops) {
        let Self { segments, always, .. } = self;
        segments.retain(|interface, _| always.contains(interface) || wanted.contains_key(interface));
        for interface in always.iter() {
            wanted.entry(*interface).or_default();
        }
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
    link::name_of(index).unwrap_or_else(|| format!("interface {index}"))
}

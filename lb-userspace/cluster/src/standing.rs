//! Standing orders: what operators have ordered for servers, on all directors until it is undone.
//!
//! A book holds the newest order about each subject, also the one that has undone another: so a
//! director that was away does not bring an order back. Merging is the same in whatever sequence
//! and however often orders come; two books that have seen the same orders are equal.
//!
//! - [`exchange`]: books of several directors become equal, by heartbeats
//! - [`wire`]: an order as bytes

use std::collections::BTreeMap;

use lb_model::ids::NodeId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) mod exchange;
#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod wire;

/// Most orders of a book. Beyond that the oldest of those that have undone others are forgotten.
pub const MOST: usize = 4096;

/// Most bytes of an order's texts.
pub const SERVER: usize = 64;
pub const SERVICE: usize = 64;
pub const BY: usize = 48;
pub const REASON: usize = 96;

/// Which servers an order is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its address, with or without port: names may differ from director to director.
    pub server: String,
    /// `PROTOCOL/VIP:PORT`; `None`: in all services.
    pub service: Option<String>,
}

/// What an order says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// No new connections; those that there are go on.
    Drain,
    /// No drain any more.
    Serve,
    /// This weight in place of the configured one.
    Weight(u16),
    /// The configured weight again.
    ConfiguredWeight,
}

/// Orders of one aspect take each other's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    Drain,
    Weight,
}

impl Wish {
    pub const fn aspect(self) -> Aspect {
        match self {
            Self::Drain | Self::Serve => Aspect::Drain,
            Self::Weight(_) | Self::ConfiguredWeight => Aspect::Weight,
        }
    }

    /// Whether it only undoes others.
    pub const fn undoes(self) -> bool {
        matches!(self, Self::Serve | Self::ConfiguredWeight)
    }
}

/// Which of two orders is the newer one: the larger.
///
/// The time is that of the clock where the order was given, and larger than that of every order
/// known there: what was given in knowledge of another order is newer, whatever the clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// Where it was given.
    pub node: u8,
}

/// The version comes first: of two orders about a subject the larger one holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub version: Version,
    pub subject: Subject,
    pub wish: Wish,
    /// Who gave it.
    pub by: String,
    /// Empty: none was given.
    pub reason: String,
}

impl Order {
    /// Why no book takes it.
    pub fn fault(&self) -> Option<&'static str> {
        let Self { version, subject, wish: _, by, reason } = self;
        let texts = [(&subject.server, SERVER), (by, BY), (reason, REASON)];
        let service = subject.service.iter().map(|service| (service, SERVICE));
        match () {
            () if subject.server.is_empty() => Some("it names no server"),
            () if subject.service.as_ref().is_some_and(String::is_empty) => Some("it names no service"),
            () if texts.into_iter().chain(service).any(|(text, most)| text.len() > most) => {
                Some("one of its texts is too long")
            }
            () if usize::from(version.node) >= lb_model::ids::MAX_NODES => Some("there is no such node"),
            () => None,
        }
    }
}

/// The orders that one director knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    orders: BTreeMap<(Subject, Aspect), Order>,
    digest: u32,
}

impl Book {
    /// Takes an order in. True if it is news: the newest about its subject.
    pub fn merge(&mut self, order: Order) -> bool {
        if order.fault().is_some() {
            return false;
        }
        let key = (order.subject.clone(), order.wish.aspect());
        if self.orders.get(&key).is_some_and(|known| *known >= order) {
            return false;
        }
        let digest = digest_of(&order);
        if let Some(before) = self.orders.insert(key.clone(), order) {
            self.digest = self.digest.wrapping_sub(digest_of(&before));
        }
        self.digest = self.digest.wrapping_add(digest);
        self.forget_old();
        self.orders.contains_key(&key)
    }

    /// The oldest of those that have undone others.
    fn forget_old(&mut self) {
        while self.orders.len() > MOST {
            let undoing = self.orders.iter().filter(|(_, order)| order.wish.undoes());
            let Some(oldest) = undoing.min_by_key(|(_, order)| order.version).map(|(key, _)| key.clone())
            else {
                return;
            };
            if let Some(order) = self.orders.remove(&oldest) {
                self.digest = self.digest.wrapping_sub(digest_of(&order));
            }
        }
    }

    /// Whether there is room for one more order that undoes nothing.
    pub fn has_room(&self) -> bool {
        self.orders.values().filter(|order| !order.wish.undoes()).count() < MOST
    }

    /// The version of an order that is given now on this node: newer than all that are known.
    pub fn next_version(&self, node: NodeId, time_ms: u64) -> Version {
        let newest = self.orders.values().map(|order| order.version.time_ms).max();
        let time_ms = newest.map_or(time_ms, |newest| time_ms.max(newest.saturating_add(1)));
        Version { time_ms, node: node.0 }
    }

    /// The same number for books that are equal.
    pub fn digest(&self) -> u32 {
        self.digest
    }

    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.orders.values()
    }

    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// The newest order of this aspect about a server, by any of its addresses, in the service.
    pub fn newest(&self, aspect: Aspect, service: &str, addresses: &[String]) -> Option<&Order> {
        let services = [None, Some(service.to_owned())];
        let subjects = addresses.iter().flat_map(|server| {
            services.iter().map(|service| Subject { server: server.clone(), service: service.clone() })
        });
        subjects.filter_map(|subject| self.orders.get(&(subject, aspect))).max()
    }

    /// The same, unless it has only undone others.
    pub fn in_force(&self, aspect: Aspect, service: &str, addresses: &[String]) -> Option<&Order> {
        self.newest(aspect, service, addresses).filter(|order| !order.wish.undoes())
    }
}

impl FromIterator<Order> for Book {
    fn from_iter<I: IntoIterator<Item = Order>>(orders: I) -> Self {
        let mut book = Self::default();
        for order in orders {
            book.merge(order);
        }
        book
    }
}

/// A book's digest is the sum of these, so it does not depend on the sequence.
fn digest_of(order: &Order) -> u32 {
    let mut bytes = Vec::new();
    wire::put(&mut bytes, order);
    let hash = Sha256::digest(&bytes);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

//! How the books of several directors become equal.
//!
//! Heartbeats carry the digest of the sender's book once a second, and at once when it has changed.
//! While a node that is heard has another digest, every second heartbeat carries orders, too, the
//! newest ones first, over and over: what gets lost comes again. Over a serial line that is the
//! only path left, long orders wait for another one. Heartbeats are signed and no recording of one
//! has an effect, so the same is true of orders.
//!
//! Pure: the driver hands in what was heard and asks before each heartbeat what it carries.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_model::ids::NodeId;

use super::{Book, Order, wire};

/// From one heartbeat with the digest to the next, where nothing has changed.
const ANNOUNCE: Duration = Duration::from_secs(1);

/// Most bytes of orders in one heartbeat.
pub(crate) const ROOM: usize = wire::LONGEST;

/// What a heartbeat carries of standing orders.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// Of the sender's whole book.
    pub digest: u32,
    /// Some of its orders.
    pub orders: Vec<Order>,
}

#[derive(Debug, Default)]
pub(crate) struct Exchange {
    book: Book,
    /// The digests that others have last told.
    told: BTreeMap<NodeId, u32>,
    /// Our digest that was last told, and when it is due again.
    announced: Option<(u32, Duration)>,
    /// The heartbeat before this one carried orders.
    carried: bool,
    /// How many heartbeats have carried orders since all agreed, or since the last one of ours.
    turn: usize,
    /// The place, from the newest order on, of the next one to be told.
    next: usize,
}

impl Exchange {
    /// Orders of this node's operators. Returns those that are news.
    pub(crate) fn take(&mut self, orders: Vec<Order>) -> Vec<Order> {
        (self.turn, self.next) = (0, 0);
        self.merge(orders)
    }

    fn merge(&mut self, orders: Vec<Order>) -> Vec<Order> {
        orders.into_iter().filter(|order| self.book.merge(order.clone())).collect()
    }

    /// Another node has told this. Returns what is news.
    pub(crate) fn hear(&mut self, from: NodeId, note: Note) -> Vec<Order> {
        let Note { digest, orders } = note;
        self.told.insert(from, digest);
        self.merge(orders)
    }

    /// What the next heartbeat carries; `hears`: a bit for each node that is heard.
    pub(crate) fn say(&mut self, hears: u16, now: Duration) -> Option<Note> {
        let digest = self.book.digest();
        let heard = |node: NodeId| hears & 1_u16.checked_shl(node.0.into()).unwrap_or_default() != 0;
        let differs = self.told.iter().any(|(node, told)| *told != digest && heard(*node));
        if !differs {
            // The next difference begins with the newest order.
            (self.turn, self.next) = (0, 0);
        }
        let carries = differs && !self.carried && !self.book.is_empty();
        self.carried = carries;
        let due = self.announced.is_none_or(|(told, at)| told != digest || now >= at);
        if !due && !carries {
            return None;
        }
        self.announced = Some((digest, now + ANNOUNCE));
        let orders = if carries { self.next_orders() } else { Vec::new() };
        Some(Note { digest, orders })
    }

    /// One, which a slow serial line can carry, and as many as there is room for, in turn.
    fn next_orders(&mut self) -> Vec<Order> {
        let mut orders: Vec<&Order> = self.book.orders().collect();
        orders.sort_by(|one, other| other.cmp(one));
        let most = if self.turn.is_multiple_of(2) { 1 } else { orders.len() };
        self.turn += 1;
        let (mut chosen, mut bytes) = (Vec::new(), Vec::new());
        for place in 0..most {
            let order = orders[(self.next + place) % orders.len()];
            wire::put(&mut bytes, order);
            if bytes.len() > ROOM {
                break;
            }
            chosen.push(order.clone());
        }
        self.next = (self.next + chosen.len()) % orders.len();
        chosen
    }

    #[cfg(test)]
    pub(super) fn book(&self) -> &Book {
        &self.book
    }
}

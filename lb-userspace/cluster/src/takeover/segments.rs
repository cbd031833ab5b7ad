//! Groups of VIPs on several interfaces: a holder for each, and whoever gives orders need not know
//! which group is where, nor which ones every director serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Result;
use lb_api::findings::Findings;
use lb_common::mac::Mac;
use lb_model::{Config, Group};

use super::holder::{self, Condition, GroupNumber, Holder, Outcome};
use super::signal::{self, Signals};

/// An interface that VIPs are on: its index and MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    pub interface: u32,
    pub mac: Mac,
}

/// Where orders are given, see [`holder::Orders`]. Nothing here waits for long.
#[derive(Debug, Clone)]
pub struct Orders {
    /// In the order of [`Config::interfaces`].
    segments: Vec<holder::Orders>,
    signals: signal::Orders,
    /// Where groups are.
    places: Arc<RwLock<Places>>,
}

#[derive(Debug, Default)]
struct Places {
    segments: BTreeMap<GroupNumber, usize>,
    /// Of `kind: anycast`.
    anycast: BTreeSet<GroupNumber>,
}

/// The other end of [`Orders`].
pub struct Pending {
    segments: Vec<holder::Pending>,
    signals: signal::Pending,
}

/// Orders for so many interfaces; they may be given before the holders have started.
pub fn orders(interfaces: usize) -> (Orders, Pending) {
    let (segments, pending) = (0..interfaces.max(1)).map(|_| holder::orders()).unzip();
    let (signals, pending_signals) = signal::orders();
    let orders = Orders { segments, signals, places: Arc::default() };
    (orders, Pending { segments: pending, signals: pending_signals })
}

impl Orders {
    pub fn take(&self, group: GroupNumber, condition: Option<Condition>) {
        match self.is_anycast(group) {
            true => self.signals.take(group),
            false => self.of(group).take(group, condition),
        }
    }

    pub fn release(&self, group: GroupNumber) {
        match self.is_anycast(group) {
            true => self.signals.release(group),
            false => self.of(group).release(group),
        }
    }

    pub fn announce(&self, group: GroupNumber) {
        self.of(group).announce(group);
    }

    pub fn pause_announcements(&self, group: GroupNumber) {
        self.of(group).pause_announcements(group);
    }

    pub fn set_groups(&self, config: &Config) {
        self.follow(config, holder::Orders::set_groups);
    }

    pub fn hold_all(&self, config: &Config) {
        self.follow(config, holder::Orders::hold_all);
    }

    pub fn set_rate(&self, rate: u32) {
        self.segments.iter().for_each(|orders| orders.set_rate(rate));
    }

    /// The MAC of one of the interfaces has changed.
    pub fn set_mac(&self, segment: usize, mac: Mac) {
        if let Some(orders) = self.segments.get(segment) {
            orders.set_mac(mac);
        }
    }

    fn of(&self, group: GroupNumber) -> &holder::Orders {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let place = places.segments.get(&group).copied().unwrap_or(0);
        // There is always a first one.
        self.segments.get(place).unwrap_or(&self.segments[0])
    }

    fn is_anycast(&self, group: GroupNumber) -> bool {
        self.places.read().unwrap_or_else(PoisonError::into_inner).anycast.contains(&group)
    }

    fn follow(&self, config: &Config, give: impl Fn(&holder::Orders, &[Group])) {
        let mut known = self.places.write().unwrap_or_else(PoisonError::into_inner);
        // One that is gone from the file is still given up where it was.
        for group in &config.groups {
            known.segments.insert(group.number, config.segment_of(group));
            match group.anycast() {
                Some(_) => known.anycast.insert(group.number),
                None => known.anycast.remove(&group.number),
            };
        }
        drop(known);
        self.signals.set_groups(config.groups.clone());
        for (segment, orders) in self.segments.iter().enumerate() {
            let here = |group: &&Group| group.anycast().is_none() && config.segment_of(group) == segment;
            let groups = config.groups.iter().filter(here);
            give(orders, &Vec::from_iter(groups.cloned()));
        }
    }
}

/// The holders of all interfaces. Dropping them leaves VIPs where they are; [`Self::end`] gives
/// them up.
#[derive(Debug)]
pub struct Holders {
    orders: Orders,
    holders: Vec<Holder>,
    signals: Signals,
}

impl Holders {
    /// See [`Holder::start`]; `stations` are as many as the orders are for.
    pub fn start(
        stations: &[Station],
        (orders, pending): (Orders, Pending),
        findings: &Findings,
        has_lease: impl Fn(GroupNumber) -> bool + Clone + Send + 'static,
        tell: impl Fn(Outcome) + Clone + Send + 'static,
    ) -> Result<Self> {
        let Pending { segments, signals } = pending;
        let signals = Signals::start((orders.signals.clone(), signals), findings.clone(), tell.clone())?;
        let mut holders = Vec::new();
        for ((station, pending), each) in stations.iter().zip(segments).zip(&orders.segments) {
            let orders = (each.clone(), pending);
            let (has_lease, tell) = (has_lease.clone(), tell.clone());
            let Station { interface, mac } = *station;
            holders.push(Holder::start(interface, mac, orders, findings.clone(), has_lease, tell)?);
        }
        Ok(Self { orders, holders, signals })
    }

    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    pub fn has_failed(&self) -> bool {
        self.signals.has_failed() || self.holders.iter().any(Holder::has_failed)
    }

    /// Gives all VIPs up; returns when they are off the interfaces, or `false` if a thread had
    /// failed before.
    pub fn end(self) -> bool {
        // Each of them ends, whatever has become of the others.
        let withdrawn = self.signals.end();
        let ended: Vec<bool> = self.holders.into_iter().map(Holder::end).collect();
        withdrawn && ended.into_iter().all(|ended| ended)
    }
}

//! Groups of VIPs on several interfaces: a holder for each, and whoever gives orders need not know
//! which group is where, nor which ones every director serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Result;
use lb_api::findings::Findings;
use lb_common::mac::Mac;
use lb_model::ids::GroupNumber;
use lb_model::{Config, Group};

use super::holder::{self, Condition, Holder, Outcome};
use super::vip_device::{self, VipDevices};

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
    vip_devices: vip_device::Orders,
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
    vip_devices: vip_device::Pending,
}

/// Orders for so many interfaces; they may be given before the holders have started.
pub fn orders(interfaces: usize) -> (Orders, Pending) {
    let (segments, pending) = (0..interfaces.max(1)).map(|_| holder::orders()).unzip();
    let (vip_devices, pending_devices) = vip_device::orders();
    let orders = Orders { segments, vip_devices, places: Arc::default() };
    (orders, Pending { segments: pending, vip_devices: pending_devices })
}

impl Orders {
    pub fn take(&self, group: GroupNumber, condition: Option<Condition>) {
        match self.is_anycast(group) {
            true => self.vip_devices.take(group),
            false => self.of(group).take(group, condition),
        }
    }

    pub fn release(&self, group: GroupNumber) {
        match self.is_anycast(group) {
            true => self.vip_devices.release(group),
            false => self.of(group).release(group),
        }
    }

    pub fn announce(&self, group: GroupNumber) {
        self.of(group).announce(group);
    }

    pub fn pause_announcements(&self, group: GroupNumber) {
        self.of(group).pause_announcements(group);
    }

    pub(crate) fn set_groups(&self, config: &Config) {
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

    /// Whether there is, or was, a group of `kind: anycast`.
    fn knows_anycast(&self) -> bool {
        !self.places.read().unwrap_or_else(PoisonError::into_inner).anycast.is_empty()
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
        if self.knows_anycast() {
            let anycast = config.groups.iter().filter(|group| group.anycast().is_some());
            self.vip_devices.set_groups(anycast.cloned().collect());
        }
        for (segment, orders) in self.segments.iter().enumerate() {
            let here = |group: &&Group| group.anycast().is_none() && config.segment_of(group) == segment;
            let groups = config.groups.iter().filter(here);
            give(orders, &Vec::from_iter(groups.cloned()));
        }
    }
}

/// The holders of all interfaces. Dropping them leaves VIPs where they are; [`Self::end`] gives
/// them up.
pub struct Holders {
    orders: Orders,
    holders: Vec<Holder>,
    vip_devices: VipDevices,
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
        let Pending { segments, vip_devices } = pending;
        let vip_devices = (orders.vip_devices.clone(), vip_devices);
        let vip_devices = VipDevices::new(vip_devices, findings.clone(), tell.clone());
        if orders.knows_anycast() {
            vip_devices.begin()?;
        }
        let mut holders = Vec::new();
        for ((station, pending), each) in stations.iter().zip(segments).zip(&orders.segments) {
            let orders = (each.clone(), pending);
            let (has_lease, tell) = (has_lease.clone(), tell.clone());
            let Station { interface, mac } = *station;
            holders.push(Holder::start(interface, mac, orders, findings.clone(), has_lease, tell)?);
        }
        Ok(Self { orders, holders, vip_devices })
    }

    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// The configuration's groups; of those that are held the VIPs follow.
    pub fn set_groups(&self, config: &Config) {
        self.orders.set_groups(config);
        if self.orders.knows_anycast()
            && let Err(error) = self.vip_devices.begin()
        {
            tracing::error!(event = "thread_failed", "{error:#}");
        }
    }

    pub fn has_failed(&self) -> bool {
        self.vip_devices.has_failed() || self.holders.iter().any(Holder::has_failed)
    }

    /// Gives all VIPs up; returns when they are off the interfaces, or `false` if a thread had
    /// failed before.
    pub fn end(self) -> bool {
        // Each of them ends, whatever has become of the others.
        let withdrawn = self.vip_devices.end();
        let ended: Vec<bool> = self.holders.into_iter().map(Holder::end).collect();
        withdrawn && ended.into_iter().all(|ended| ended)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use lb_lab::veth::VethPair;

    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 0x5a]);

    fn configuration(groups: &str) -> Config {
        let text = format!(
            "interface: eth0\ngroups: [{groups}]\ncluster: {{ node: a, nodes: [{{ name: a, address: 192.0.2.1 }}, \
             {{ name: b, address: 192.0.2.2 }}], paths: [{{ type: unicast }}] }}\n\
             services: [{{ vip: '192.0.2.10:80', servers: [{{ address: 192.0.2.21 }}] }}]\n",
        );
        lb_config::parse(&text, "test.yaml").unwrap_or_else(|error| panic!("{error}"))
    }

    /// One that comes by a reload, too.
    #[test]
    fn a_thread_for_vip_devices_begins_with_the_first_anycast_group() {
        let pair = VethPair::new("segments");
        let web = "{ name: web, vips: [192.0.2.10/24] }";
        let (tell, outcomes) = channel();
        let before = configuration(web);
        let holders = pair.run(0, |interface| {
            let (orders, pending) = orders(1);
            orders.set_groups(&before);
            let station = Station { interface, mac: MAC };
            let tell = move |outcome| drop(tell.send(outcome));
            Holders::start(&[station], (orders, pending), &Findings::default(), |_| true, tell)
        });
        let holders = holders.expect("holders");
        assert!(!holders.vip_devices.has_begun() && !holders.has_failed());
        let after = configuration(&format!("{web}, {{ name: dns, kind: anycast, vips: [192.0.2.53] }}"));
        pair.run(0, |_| holders.set_groups(&after));
        assert!(holders.vip_devices.has_begun());
        for group in &after.groups {
            holders.orders().take(group.number, None);
            let outcome = outcomes.recv_timeout(Duration::from_secs(60));
            assert_eq!(outcome, Ok(Outcome::Taken(group.number)), "{}", group.name);
        }
        assert!(holders.end());
    }
}

//! Takes groups of VIPs and gives them up, and keeps the segment informed while they are held.
//!
//! On a thread of its own: a take-over must not wait until the controller has read a file or a check has ended. Orders
//! are carried out one after the other; only a fence command is waited for in the background, so that a release does
//! not wait behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::{AbortHandle, Aborted, BoxFuture, abortable};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::addresses::{Addresses, VipAddress};
use super::announce::Announcer;
use crate::config::Group;

/// When a VIP is announced after it was taken: at once, and again for whoever missed it.
const BURST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];

/// A group's place in the configuration.
pub type GroupNumber = u8;

/// Something to wait for before a group is taken, such as a fence command; its error is why the group is not.
pub type Condition = BoxFuture<'static, Result<(), String>>;

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Taken(GroupNumber),
    /// Nothing of the group is left on the interface, and why.
    Failed(GroupNumber, String),
    Released(GroupNumber),
}

enum Order {
    /// From now on these are the groups; those that are held follow. With `hold_all` all of them are.
    Groups {
        groups: Vec<Group>,
        hold_all: bool,
    },
    Mac([u8; 6]),
    Take(GroupNumber, Option<Condition>),
    Release(GroupNumber),
    Announce(GroupNumber),
    End,
}

/// Where orders are given. Nothing here waits.
#[derive(Debug, Clone)]
pub struct Orders(UnboundedSender<Order>);

/// The other end of [`Orders`], for [`Holder::start`].
pub struct Pending(UnboundedReceiver<Order>);

/// Orders may be given before the holder has started.
pub fn orders() -> (Orders, Pending) {
    let (sender, receiver) = unbounded_channel();
    (Orders(sender), Pending(receiver))
}

impl Orders {
    /// Takes the group once `condition` holds; answered by [`Outcome::Taken`] or [`Outcome::Failed`], or, if a release
    /// comes before that, by [`Outcome::Released`] alone.
    pub fn take(&self, group: GroupNumber, condition: Option<Condition>) {
        self.give(Order::Take(group, condition));
    }

    /// Gives the group up, whoever put its VIPs on the interface; answered by [`Outcome::Released`].
    pub fn release(&self, group: GroupNumber) {
        self.give(Order::Release(group));
    }

    /// Announces a group that is held, at once and in a new burst.
    pub fn announce(&self, group: GroupNumber) {
        self.give(Order::Announce(group));
    }

    /// The configuration's groups. What is held of them stays, what was held and is in none is given up.
    pub fn set_groups(&self, groups: &[Group]) {
        self.give(Order::Groups { groups: groups.to_vec(), hold_all: false });
    }

    /// The same, and all of them are held: a director that is alone.
    pub fn hold_all(&self, groups: &[Group]) {
        self.give(Order::Groups { groups: groups.to_vec(), hold_all: true });
    }

    /// The interface's MAC has changed: everyone is told.
    pub fn set_mac(&self, mac: [u8; 6]) {
        self.give(Order::Mac(mac));
    }

    /// A holder that has ended takes no orders any more, and holds nothing.
    fn give(&self, order: Order) {
        let _ = self.0.send(order);
    }
}

/// The thread that holds VIPs. Dropping it leaves them where they are; [`Self::end`] gives them up.
#[derive(Debug)]
pub struct Holder {
    orders: Orders,
    thread: JoinHandle<()>,
}

impl Holder {
    /// `interface` is the interface's index. `tell` is called on the holder's thread and must not wait.
    pub fn start(
        interface: u32,
        mac: [u8; 6],
        (orders, pending): (Orders, Pending),
        tell: impl Fn(Outcome) + Send + 'static,
    ) -> Result<Self> {
        let announcer = Announcer::new(interface)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime of the VIPs' thread")?;
        let addresses = {
            // Its tasks belong to this thread's runtime, not to the caller's.
            let _guard = runtime.enter();
            Addresses::of(interface)?
        };
        let keeper = Keeper {
            addresses,
            announcer,
            mac,
            tell: Box::new(tell),
            groups: Vec::new(),
            wanted: BTreeSet::new(),
            conditions: FuturesUnordered::new(),
            expected: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new()
            .name("takeover".to_owned())
            .spawn(move || runtime.block_on(keeper.run(pending.0)))
            .context("cannot start the VIPs' thread")?;
        Ok(Self { orders, thread })
    }

    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    pub fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Gives all VIPs up; returns when they are off the interface, or `false` if the thread had failed before.
    pub fn end(self) -> bool {
        self.orders.give(Order::End);
        let ended = self.thread.join().is_ok();
        if !ended {
            tracing::error!("the thread that holds the VIPs has failed");
        }
        ended
    }
}

struct Keeper {
    addresses: Addresses,
    announcer: Announcer,
    mac: [u8; 6],
    tell: Box<dyn Fn(Outcome) + Send>,
    groups: Vec<Group>,
    /// Groups that are held.
    wanted: BTreeSet<GroupNumber>,
    conditions: FuturesUnordered<BoxFuture<'static, Met>>,
    /// Take-overs that wait for their condition, and how to call it off.
    expected: BTreeMap<GroupNumber, AbortHandle>,
    held: BTreeMap<VipAddress, News>,
}

/// What became of a condition.
struct Met {
    group: GroupNumber,
    /// Called off: nobody waits for it any more.
    outcome: Result<Result<(), String>, Aborted>,
}

/// When a held VIP is announced next.
#[derive(Debug)]
struct News {
    /// Announcements of the burst that are done.
    done: usize,
    taken: Instant,
    next: Option<Instant>,
    refresh: Duration,
}

impl News {
    fn from(taken: Instant, refresh: Duration) -> Self {
        Self { done: 0, taken, next: Some(taken), refresh }
    }

    /// One announcement was made at `now`.
    fn made(&mut self, now: Instant) {
        self.done += 1;
        self.next = match BURST.get(self.done) {
            Some(after) => Some(self.taken + *after),
            None => (!self.refresh.is_zero()).then(|| now + self.refresh),
        };
    }
}

impl Keeper {
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        loop {
            let next = self.held.values().filter_map(|news| news.next).min();
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::End) => return self.end().await,
                    Some(order) => self.obey(order).await,
                },
                Some(met) = self.conditions.next() => self.met(met).await,
                () = sleep_until(next) => self.look_after().await,
            }
            self.announce_due();
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Groups { groups, hold_all } => {
                if hold_all {
                    self.wanted = (0..=u8::MAX).zip(&groups).map(|(number, _)| number).collect();
                }
                self.groups = groups;
                for error in self.follow().await {
                    tracing::error!("{error:#}");
                }
            }
            Order::Mac(mac) => {
                if std::mem::replace(&mut self.mac, mac) != mac {
                    self.begin_burst(|_| true);
                }
            }
            Order::Take(group, None) => self.take(group).await,
            Order::Take(group, Some(condition)) => self.wait_for(group, condition),
            Order::Release(group) => self.release(group).await,
            Order::Announce(group) => {
                let vips = self.vips_of(group);
                self.begin_burst(|vip| vips.contains_key(vip));
            }
            Order::End => {}
        }
    }

    fn wait_for(&mut self, group: GroupNumber, condition: Condition) {
        self.call_off(group);
        let (condition, handle) = abortable(condition);
        self.expected.insert(group, handle);
        self.conditions.push(Box::pin(async move { Met { group, outcome: condition.await } }));
    }

    async fn met(&mut self, Met { group, outcome }: Met) {
        let Ok(outcome) = outcome else { return };
        self.expected.remove(&group);
        match outcome {
            Ok(()) => self.take(group).await,
            Err(why) => (self.tell)(Outcome::Failed(group, why)),
        }
    }

    /// A fence command that runs is killed.
    fn call_off(&mut self, group: GroupNumber) {
        if let Some(condition) = self.expected.remove(&group) {
            condition.abort();
        }
    }

    /// All of the group's VIPs or none.
    async fn take(&mut self, group: GroupNumber) {
        self.wanted.insert(group);
        let errors = self.follow().await;
        self.announce_due();
        let vips = self.vips_of(group);
        if vips.keys().all(|vip| self.held.contains_key(vip)) {
            return (self.tell)(Outcome::Taken(group));
        }
        self.give_up(group).await;
        (self.tell)(Outcome::Failed(group, texts(&errors)));
    }

    async fn release(&mut self, group: GroupNumber) {
        self.call_off(group);
        self.give_up(group).await;
        (self.tell)(Outcome::Released(group));
        if !self.held.is_empty() {
            self.look_after().await;
        }
    }

    /// Takes the group's VIPs off the interface, those that an earlier life has left there too.
    async fn give_up(&mut self, group: GroupNumber) {
        self.wanted.remove(&group);
        let vips: Vec<VipAddress> = self.vips_of(group).into_keys().collect();
        for vip in &vips {
            self.held.remove(vip);
        }
        match self.addresses.delete(vips.iter().map(|vip| vip.address).collect()).await {
            Ok(deleted) => report_released(&deleted),
            Err(error) => tracing::error!("{error:#}"),
        }
    }

    /// Addresses that somebody has removed are put back before they are announced again: an operator's `ip address flush`, or
    /// the kernel, which removes a subnet's other addresses with its first one. What cannot be had is told.
    async fn look_after(&mut self) {
        match self.addresses.present().await {
            Ok(present) => self.held.retain(|vip, _| present.contains(&vip.address)),
            Err(error) => return tracing::warn!("{error:#}"),
        }
        let errors = self.follow().await;
        if errors.is_empty() {
            return;
        }
        let why = texts(&errors);
        for &group in &self.wanted {
            if !self.vips_of(group).keys().all(|vip| self.held.contains_key(vip)) {
                (self.tell)(Outcome::Failed(group, why.clone()));
            }
        }
        tracing::error!("{why}");
    }

    async fn end(mut self) {
        self.wanted.clear();
        for error in self.follow().await {
            tracing::error!("{error:#}");
        }
    }

    /// Takes what is wanted and not held, gives up what is held and not wanted. Returns what went wrong.
    async fn follow(&mut self) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        let wanted: BTreeMap<VipAddress, Duration> =
            self.wanted.iter().flat_map(|&group| self.vips_of(group)).collect();
        let surplus: Vec<VipAddress> =
            self.held.keys().filter(|vip| !wanted.contains_key(vip)).cloned().collect();
        self.held.retain(|vip, _| wanted.contains_key(vip));
        match self.addresses.delete(surplus.iter().map(|vip| vip.address).collect()).await {
            Ok(deleted) => report_released(&deleted),
            Err(error) => errors.push(error),
        }
        for (vip, refresh) in wanted {
            if self.held.contains_key(&vip) {
                continue;
            }
            match self.addresses.add(&vip).await {
                Ok(()) => {
                    let news =
                        if vip.address.is_ipv4() { "gratuitous ARP" } else { "neighbour advertisements" };
                    tracing::info!("IP address {}/{} taken, sending {news}", vip.address, vip.prefix);
                    self.held.insert(vip, News::from(Instant::now(), refresh));
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    fn vips_of(&self, group: GroupNumber) -> BTreeMap<VipAddress, Duration> {
        self.groups.get(usize::from(group)).map(vips).unwrap_or_default()
    }

    fn begin_burst(&mut self, which: impl Fn(&VipAddress) -> bool) {
        let begin = Instant::now();
        for (_, news) in self.held.iter_mut().filter(|(vip, _)| which(vip)) {
            *news = News::from(begin, news.refresh);
        }
    }

    fn announce_due(&mut self) {
        let now = Instant::now();
        for (vip, news) in &mut self.held {
            if news.next.is_some_and(|next| next <= now) {
                if let Err(error) = self.announcer.announce(vip.address, self.mac) {
                    tracing::warn!("{error:#}");
                }
                news.made(now);
            }
        }
    }
}

fn texts(errors: &[anyhow::Error]) -> String {
    errors.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("; ")
}

fn report_released(vips: &BTreeSet<IpAddr>) {
    for vip in vips {
        tracing::info!("IP address {vip} released");
    }
}

fn vips(group: &Group) -> BTreeMap<VipAddress, Duration> {
    let of_vip = |vip: &crate::config::GroupVip| {
        // IPv6 addresses have no labels.
        let label = group.label.clone().filter(|_| vip.address.is_ipv4());
        (VipAddress { address: vip.address, prefix: vip.prefix, label }, group.refresh)
    };
    group.vips.iter().map(of_vip).collect()
}

/// Every address that `groups` name.
pub fn addresses_of(groups: &[Group]) -> impl Iterator<Item = IpAddr> + '_ {
    groups.iter().flat_map(|group| group.vips.iter().map(|vip| vip.address))
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_comes_in_a_burst_and_then_at_the_pace_of_the_refresh() {
        let taken = Instant::now();
        let mut news = News::from(taken, Duration::from_secs(5));
        let mut now = taken;
        for after in BURST {
            assert_eq!(news.next, Some(taken + after));
            now = taken + after;
            news.made(now);
        }
        assert_eq!(news.next, Some(now + Duration::from_secs(5)));

        let mut once = News::from(taken, Duration::ZERO);
        (0..BURST.len()).for_each(|_| once.made(now));
        assert_eq!(once.next, None);
    }
}

//! VIPs of groups of `kind: anycast` that are served here are addresses of a device of this process
//! ([`lb_net::tun`]) as long as clients may be sent here.
//!
//! A routing daemon announces the device's addresses. A director that leaves takes them away and
//! goes on forwarding until routers have heard of it (`withdraw_wait`); only then it is asked for
//! no more. Of a process that dies the kernel takes the device away.
//!
//! On a thread of its own, like the holders of VIPs, which begins with the first such group. Each
//! order costs a few netlink requests, and they come one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail};
use lb_api::events::{Level, Record};
use lb_api::findings::Findings;
use lb_model::ids::GroupNumber;
use lb_model::{Anycast, Group};
use lb_net::addresses::{Answer, Form, Kernel, Request};
use lb_net::tun::Tun;
use lb_net::vips::VipAddress;
use lb_system::clock::sleep_until;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::holder::Outcome;
use super::report::{Report, TOLD};

/// How often it is seen to that the devices are up and the addresses there.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Order {
    Groups(Vec<Group>),
    Take(GroupNumber),
    Release(GroupNumber),
    End,
}

/// Where orders are given. Nothing here waits.
#[derive(Debug, Clone)]
pub(super) struct Orders(UnboundedSender<Order>);

/// The other end of [`Orders`].
#[derive(Debug)]
pub(super) struct Pending(UnboundedReceiver<Order>);

pub(super) fn orders() -> (Orders, Pending) {
    let (sender, receiver) = unbounded_channel();
    (Orders(sender), Pending(receiver))
}

impl Orders {
    /// Answered by [`Outcome::Taken`] or [`Outcome::Failed`].
    pub(super) fn take(&self, group: GroupNumber) {
        self.give(Order::Take(group));
    }

    /// Answered by [`Outcome::Released`], after the group's time if it was there.
    pub(super) fn release(&self, group: GroupNumber) {
        self.give(Order::Release(group));
    }

    /// The configuration's groups of this kind. Of those that are there the addresses follow.
    pub(super) fn set_groups(&self, groups: Vec<Group>) {
        self.give(Order::Groups(groups));
    }

    /// A thread that has ended takes no orders any more.
    fn give(&self, order: Order) {
        let _ = self.0.send(order);
    }
}

/// The thread. Dropping it leaves the addresses until the process ends; [`Self::end`] takes them
/// away.
pub(super) struct VipDevices {
    orders: Orders,
    thread: Mutex<Thread>,
}

enum Thread {
    /// There is no group of this kind.
    Waits(Box<VipDevicesThread>, Pending),
    Runs(JoinHandle<()>),
    Failed,
}

impl VipDevices {
    /// `tell` is called on the thread, once there is one, and must not wait.
    pub(super) fn new(
        (orders, pending): (Orders, Pending),
        findings: Findings,
        tell: impl Fn(Outcome) + Send + 'static,
    ) -> Self {
        let thread = VipDevicesThread {
            groups: BTreeMap::new(),
            devices: BTreeMap::new(),
            held: BTreeMap::new(),
            leaving: BTreeMap::new(),
            findings,
            tell: Box::new(tell),
        };
        Self { orders, thread: Mutex::new(Thread::Waits(Box::new(thread), pending)) }
    }

    /// There is a group of this kind: the thread begins, if it has not.
    pub(super) fn begin(&self) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        *thread = match std::mem::replace(&mut *thread, Thread::Failed) {
            Thread::Waits(thread, pending) => Thread::Runs(thread.start(pending)?),
            other => other,
        };
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn has_begun(&self) -> bool {
        !matches!(*self.thread.lock().expect("not poisoned"), Thread::Waits(..))
    }

    pub(super) fn has_failed(&self) -> bool {
        match &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            Thread::Waits(..) => false,
            Thread::Runs(thread) => thread.is_finished(),
            Thread::Failed => true,
        }
    }

    /// `false`: the thread had failed before.
    pub(super) fn end(self) -> bool {
        self.orders.give(Order::End);
        let ended = match self.thread.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Thread::Waits(..) => true,
            Thread::Runs(thread) => thread.join().is_ok(),
            Thread::Failed => false,
        };
        if !ended {
            tracing::error!(event = "thread_failed", "the thread of the VIPs' device has failed");
        }
        ended
    }
}

/// What is to be there of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: String,
    anycast: Anycast,
    vips: Vec<IpAddr>,
}

/// A group that is there, as it was when it was put there.
struct Held {
    wanted: Wanted,
    /// Those of its VIPs that the device has.
    announced: BTreeSet<IpAddr>,
}

struct Device {
    /// As long as it is open the device is there.
    tun: Tun,
    kernel: Kernel,
    report: Report,
    /// It was when it was looked at last, and with it IPv6 addresses had gone.
    was_down: bool,
}

impl Device {
    async fn make(name: &str, findings: &Findings) -> Result<Self> {
        let tun = Tun::make(name).await?;
        let kernel = Kernel::of(tun.index())?;
        let report = Report::new(tun.index(), findings.clone());
        Ok(Self { tun, kernel, report, was_down: false })
    }

    /// Returns those of the VIPs that were not there.
    async fn add(&self, vips: &[IpAddr]) -> Result<BTreeSet<IpAddr>> {
        let mut new = BTreeSet::new();
        for &address in vips {
            let vip = VipAddress { address, prefix: whole(address), label: None };
            match self.kernel.ask(&Request::Add { vip, hidden: false }).await {
                Answer::Done | Answer::Listed(_) => drop(new.insert(address)),
                Answer::AsItWas => {}
                Answer::Failed(why) => bail!(why),
            }
        }
        Ok(new)
    }

    async fn remove(&self, vips: &BTreeSet<IpAddr>) -> Result<()> {
        let its = |form: &Form| vips.contains(&form.address);
        let listed = match self.kernel.ask(&Request::List).await {
            Answer::Listed(listed) => listed,
            Answer::Failed(why) => bail!(why),
            Answer::Done | Answer::AsItWas => Vec::new(),
        };
        for form in listed.into_iter().filter(its) {
            if let Answer::Failed(why) = self.kernel.ask(&Request::Delete(form)).await {
                bail!(why);
            }
        }
        Ok(())
    }
}

struct VipDevicesThread {
    groups: BTreeMap<GroupNumber, Wanted>,
    devices: BTreeMap<String, Device>,
    held: BTreeMap<GroupNumber, Held>,
    /// Groups that are gone, and when routers will have heard of it.
    leaving: BTreeMap<GroupNumber, Instant>,
    findings: Findings,
    tell: Box<dyn Fn(Outcome) + Send>,
}

impl VipDevicesThread {
    fn start(self: Box<Self>, pending: Pending) -> Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime of the VIPs' device")?;
        std::thread::Builder::new()
            .name("vip-device".to_owned())
            .spawn(move || runtime.block_on(self.run(pending.0)))
            .context("cannot start the thread of the VIPs' device")
    }

    async fn run(mut self: Box<Self>, mut orders: UnboundedReceiver<Order>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            let wake = self.leaving.values().min().copied();
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::End) => break,
                    Some(order) => self.apply(order).await,
                },
                () = sleep_until(wake) => self.have_left(Instant::now()),
                _ = looks.tick() => self.look().await,
            }
        }
        for group in Vec::from_iter(self.held.keys().copied()) {
            self.withdraw(group).await;
        }
    }

    async fn apply(&mut self, order: Order) {
        match order {
            Order::Groups(groups) => self.set_groups(groups).await,
            Order::Take(group) => {
                // What it was about to leave it has again.
                self.leaving.remove(&group);
                match self.announce(group).await {
                    Ok(()) => (self.tell)(Outcome::Taken(group)),
                    Err(error) => self.fail(group, &error),
                }
            }
            Order::Release(group) => {
                let wait = self.held.get(&group).map(|held| held.wanted.anycast.withdraw_wait);
                self.withdraw(group).await;
                match wait.filter(|wait| !wait.is_zero()) {
                    Some(wait) => {
                        self.leaving.insert(group, Instant::now() + wait);
                    }
                    None if self.leaving.contains_key(&group) => {}
                    None => (self.tell)(Outcome::Released(group)),
                }
            }
            Order::End => {}
        }
    }

    async fn set_groups(&mut self, groups: Vec<Group>) {
        self.groups = groups.iter().filter_map(|group| Some((group.number, wanted(group)?))).collect();
        for group in Vec::from_iter(self.held.keys().copied()) {
            // One that left the configuration is released by whoever ordered it.
            let is_changed =
                |wanted: &Wanted| self.held.get(&group).is_some_and(|held| held.wanted != *wanted);
            if self.groups.get(&group).is_some_and(is_changed) {
                self.follow(group).await;
            }
        }
    }

    /// Puts what is missing of a group that is there, and takes away what it has no more.
    async fn follow(&mut self, group: GroupNumber) {
        let (Some(held), Some(wanted)) = (self.held.get_mut(&group), self.groups.get(&group)) else { return };
        let gone: BTreeSet<IpAddr> =
            held.announced.iter().filter(|vip| !wanted.vips.contains(vip)).copied().collect();
        if !gone.is_empty() {
            held.announced.retain(|vip| !gone.contains(vip));
            let before = held.wanted.clone();
            self.remove(&before, &gone).await;
        }
        if let Err(error) = self.announce(group).await {
            self.fail(group, &error);
        }
    }

    /// Whoever has set a device down, or has taken an address or the device away: it is made right
    /// again, or the group is given up.
    async fn look(&mut self) {
        for name in Vec::from_iter(self.devices.keys().cloned()) {
            let Some(device) = self.devices.get_mut(&name) else { continue };
            match device.tun.put_up().await.with_context(|| format!("device {name}")) {
                Ok(was_down) => {
                    device.was_down = was_down;
                    if was_down {
                        self.note_down(&name);
                    }
                }
                Err(error) => self.lose(&name, &error),
            }
        }
        for group in Vec::from_iter(self.held.keys().copied()) {
            self.follow(group).await;
        }
    }

    fn have_left(&mut self, now: Instant) {
        let due = self.leaving.iter().filter(|(_, until)| **until <= now).map(|(group, _)| *group);
        for group in Vec::from_iter(due) {
            self.leaving.remove(&group);
            (self.tell)(Outcome::Released(group));
        }
    }

    /// The group's VIPs are addresses of its device.
    async fn announce(&mut self, group: GroupNumber) -> Result<()> {
        let wanted = self.groups.get(&group).context("the group is not in the configuration")?.clone();
        let name = &wanted.anycast.device;
        if !self.devices.contains_key(name) {
            self.devices.insert(name.clone(), Device::make(name, &self.findings).await?);
        }
        let Some(device) = self.devices.get_mut(name) else { bail!("there is no device {name}") };
        // Before the first of them is there: what fails half way is taken away whole.
        let held = self
            .held
            .entry(group)
            .or_insert_with(|| Held { wanted: wanted.clone(), announced: BTreeSet::new() });
        held.wanted = wanted.clone();
        let added = device.add(&wanted.vips).await.with_context(|| format!("device {name}"))?;
        let again: Vec<IpAddr> = added.intersection(&held.announced).copied().collect();
        if !again.is_empty() && !device.was_down {
            device.report.put_back(&again);
        }
        let new = wanted.vips.iter().copied().filter(|vip| held.announced.insert(*vip));
        let new: BTreeSet<IpAddr> = new.collect();
        let text = format!("on {name}, for the routing daemon to announce");
        self.note(&wanted.record(Level::Info, "vip_announced"), &new, &text);
        Ok(())
    }

    /// What could not be put there whole is not there at all.
    fn fail(&mut self, group: GroupNumber, error: &Error) {
        match self.held.get(&group).map(|held| held.wanted.anycast.device.clone()) {
            Some(device) => self.lose(&device, error),
            None => (self.tell)(Outcome::Failed(group, format!("{error:#}"))),
        }
    }

    /// A device that does not do what it should goes, with all groups on it; the next one that is
    /// put there makes it anew.
    fn lose(&mut self, device: &str, error: &Error) {
        self.devices.remove(device);
        let its = self.held.iter().filter(|(_, held)| held.wanted.anycast.device == device);
        for group in Vec::from_iter(its.map(|(group, _)| *group)) {
            if let Some(Held { wanted, announced }) = self.held.remove(&group) {
                self.note_withdrawn(&wanted, &announced, Some(error));
            }
            (self.tell)(Outcome::Failed(group, format!("{error:#}")));
        }
    }

    async fn withdraw(&mut self, group: GroupNumber) {
        if let Some(Held { wanted, announced }) = self.held.remove(&group) {
            self.remove(&wanted, &announced).await;
        }
    }

    /// Takes VIPs of the group away.
    async fn remove(&mut self, wanted: &Wanted, vips: &BTreeSet<IpAddr>) {
        let name = &wanted.anycast.device;
        let removed = match self.devices.get(name) {
            Some(device) => device.remove(vips).await.with_context(|| format!("device {name}")),
            None => Ok(()),
        };
        self.note_withdrawn(wanted, vips, None);
        if let Err(error) = removed {
            self.lose(name, &error);
        }
    }

    fn note_down(&self, device: &str) {
        let text = format!("device {device} was set down, and nobody announced its VIPs: it is up again");
        for Held { wanted, .. } in self.held.values().filter(|held| held.wanted.anycast.device == device) {
            let record = wanted.record(Level::Warning, "vip_device_down");
            self.findings.note(Record { text: text.clone(), ..record });
        }
    }

    fn note_withdrawn(&self, wanted: &Wanted, vips: &BTreeSet<IpAddr>, error: Option<&Error>) {
        let text = format!("no more on {}: the routing daemon withdraws it", wanted.anycast.device);
        let record = match error {
            None => wanted.record(Level::Info, "vip_withdrawn"),
            Some(error) => wanted.record(Level::Warning, "vip_withdrawn").cause(format!("{error:#}")),
        };
        self.note(&record, vips, &text);
    }

    /// Of each of the VIPs; of many, how many there are.
    fn note(&self, record: &Record, vips: &BTreeSet<IpAddr>, text: &str) {
        if vips.len() > TOLD {
            let text = format!("{} VIPs: {text}", vips.len());
            return self.findings.note(Record { text, ..record.clone() });
        }
        for vip in vips {
            let record = Record { text: format!("VIP {vip}: {text}"), ..record.clone() };
            self.findings.note(record.vip(*vip));
        }
    }
}

impl Wanted {
    fn record(&self, level: Level, event: &str) -> Record {
        Record::new(level, event, String::new()).group(self.name.clone())
    }
}

/// `None`: the group is of another kind.
fn wanted(group: &Group) -> Option<Wanted> {
    let vips = group.vips.iter().map(|vip| vip.address).collect();
    Some(Wanted { name: group.name.clone(), anycast: group.anycast()?.clone(), vips })
}

/// The length of a prefix that is one address.
const fn whole(vip: IpAddr) -> u8 {
    if vip.is_ipv4() { 32 } else { 128 }
}

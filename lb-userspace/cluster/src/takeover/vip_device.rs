//! Tells the routing daemon which groups of `kind: anycast` are served here: their VIPs are
//! addresses of a device of this process ([`lb_net::tun`]) as long as clients may be sent here.
//!
//! The daemon announces the device's addresses. A director that leaves takes them away and goes on
//! forwarding until routers have heard of it (`withdraw_wait`); only then it is asked for no more.
//! Of a process that dies the kernel takes the device away.
//!
//! On a thread of its own, like the holders of VIPs. Each order costs a few netlink requests, and
//! they come one after the other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lb_api::events::{Level, Record};
use lb_api::findings::Findings;
use lb_model::{Anycast, Group};
use lb_net::addresses::{Answer, Form, Kernel, Request};
use lb_net::tun::Tun;
use lb_net::vips::VipAddress;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::holder::{GroupNumber, Outcome};

/// How often it is seen to that the addresses are there.
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
#[derive(Debug)]
pub(super) struct Signals {
    orders: Orders,
    thread: JoinHandle<()>,
}

impl Signals {
    /// `tell` is called on the thread and must not wait.
    pub(super) fn start(
        (orders, pending): (Orders, Pending),
        findings: Findings,
        tell: impl Fn(Outcome) + Send + 'static,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime of the routing daemon's signal")?;
        let signal = Signal {
            groups: BTreeMap::new(),
            devices: BTreeMap::new(),
            held: BTreeMap::new(),
            leaving: BTreeMap::new(),
            findings,
            tell: Box::new(tell),
        };
        let thread = std::thread::Builder::new()
            .name("anycast".to_owned())
            .spawn(move || runtime.block_on(signal.run(pending.0)))
            .context("cannot start the thread of the routing daemon's signal")?;
        Ok(Self { orders, thread })
    }

    pub(super) fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// `false`: the thread had failed before.
    pub(super) fn end(self) -> bool {
        self.orders.give(Order::End);
        let ended = self.thread.join().is_ok();
        if !ended {
            tracing::error!(event = "thread_failed", "the thread of the routing daemon's signal has failed");
        }
        ended
    }
}

/// What is to be said of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    anycast: Anycast,
    vips: Vec<IpAddr>,
}

struct Device {
    /// As long as it is open the device is there.
    _tun: Tun,
    kernel: Kernel,
}

struct Signal {
    groups: BTreeMap<GroupNumber, Wanted>,
    devices: BTreeMap<String, Device>,
    /// Groups that are there, as they were when they were put there.
    held: BTreeMap<GroupNumber, Wanted>,
    /// Groups that are gone, and when routers will have heard of it.
    leaving: BTreeMap<GroupNumber, Instant>,
    findings: Findings,
    tell: Box<dyn Fn(Outcome) + Send>,
}

impl Signal {
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
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
                let wait = self.held.get(&group).map(|held| held.anycast.withdraw_wait);
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
            if self.groups.get(&group).is_some_and(|wanted| self.held.get(&group) != Some(wanted)) {
                self.follow(group).await;
            }
        }
    }

    /// Puts what is missing of a group that is there, and takes away what it has no more.
    async fn follow(&mut self, group: GroupNumber) {
        let gone: Vec<IpAddr> = match (self.held.get(&group), self.groups.get(&group)) {
            (Some(held), Some(wanted)) => {
                held.vips.iter().filter(|vip| !wanted.vips.contains(vip)).copied().collect()
            }
            _ => return,
        };
        if let Some(device) = self.held.get(&group).map(|held| held.anycast.device.clone()) {
            self.remove(&device, &gone).await;
        }
        if let Err(error) = self.announce(group).await {
            self.fail(group, &error);
        }
    }

    /// Whoever has taken an address or the device away: it is made again, or the group is given up.
    async fn look(&mut self) {
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
        let is_new = self.held.get(&group).is_none_or(|held| *held != wanted);
        // Before the first of them is there: what fails half way is taken away whole.
        self.held.insert(group, wanted.clone());
        let name = &wanted.anycast.device;
        if !self.devices.contains_key(name) {
            let tun = Tun::make(name).await?;
            let kernel = Kernel::of(tun.index())?;
            self.devices.insert(name.clone(), Device { _tun: tun, kernel });
        }
        let Some(Device { kernel, .. }) = self.devices.get(name) else { bail!("there is no device {name}") };
        for vip in &wanted.vips {
            let vip = VipAddress { address: *vip, prefix: whole(*vip), label: None };
            match kernel.ask(&Request::Add { vip, hidden: false }).await {
                Answer::Done | Answer::AsItWas | Answer::Listed(_) => {}
                Answer::Failed(why) => bail!("device {name}: {why}"),
            }
        }
        if is_new {
            self.note("vip_announced", &wanted, "for the routing daemon to announce");
        }
        Ok(())
    }

    /// What could not be put there whole is not there at all.
    fn fail(&mut self, group: GroupNumber, error: &anyhow::Error) {
        match self.held.get(&group).map(|held| held.anycast.device.clone()) {
            Some(device) => self.lose(&device, error),
            None => (self.tell)(Outcome::Failed(group, format!("{error:#}"))),
        }
    }

    /// A device that does not do what it should goes, with all groups on it; the next one that is
    /// put there makes it anew.
    fn lose(&mut self, device: &str, error: &anyhow::Error) {
        self.devices.remove(device);
        let its = self.held.iter().filter(|(_, held)| held.anycast.device == device);
        for group in Vec::from_iter(its.map(|(group, _)| *group)) {
            self.held.remove(&group);
            (self.tell)(Outcome::Failed(group, format!("{error:#}")));
        }
    }

    async fn withdraw(&mut self, group: GroupNumber) {
        let Some(held) = self.held.remove(&group) else { return };
        self.remove(&held.anycast.device, &held.vips).await;
        self.note("vip_withdrawn", &held, "no more: the routing daemon withdraws what it announced");
    }

    async fn remove(&mut self, device: &str, vips: &[IpAddr]) {
        if vips.is_empty() {
            return;
        }
        if let Err(error) = self.try_to_remove(device, vips).await {
            self.lose(device, &error);
        }
    }

    async fn try_to_remove(&self, device: &str, vips: &[IpAddr]) -> Result<()> {
        let Some(Device { kernel, .. }) = self.devices.get(device) else { return Ok(()) };
        let its = |form: &Form| vips.contains(&form.address);
        let listed = match kernel.ask(&Request::List).await {
            Answer::Listed(listed) => listed,
            Answer::Failed(why) => bail!("device {device}: {why}"),
            Answer::Done | Answer::AsItWas => Vec::new(),
        };
        for form in listed.into_iter().filter(its) {
            if let Answer::Failed(why) = kernel.ask(&Request::Delete(form)).await {
                bail!("device {device}: {why}");
            }
        }
        Ok(())
    }

    fn note(&self, event: &str, wanted: &Wanted, what: &str) {
        let vips: Vec<String> = wanted.vips.iter().map(IpAddr::to_string).collect();
        let text = format!("{} has {} {what}", wanted.anycast.device, vips.join(", "));
        self.findings.note(Record::new(Level::Info, event, text));
    }
}

/// `None`: the group is of another kind.
fn wanted(group: &Group) -> Option<Wanted> {
    let vips = group.vips.iter().map(|vip| vip.address).collect();
    Some(Wanted { anycast: group.anycast()?.clone(), vips })
}

/// The length of a prefix that is one address.
const fn whole(vip: IpAddr) -> u8 {
    if vip.is_ipv4() { 32 } else { 128 }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

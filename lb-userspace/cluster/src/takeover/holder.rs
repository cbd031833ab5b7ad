//! Takes groups of VIPs and gives them up, and keeps the segment informed while they are held.
//!
//! On a thread of its own: a take-over must not wait until the controller has read a file or a
//! check has ended. Orders for one group are carried out one after the other, those for several
//! groups side by side.

use std::collections::BTreeMap;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use futures::future::{AbortHandle, Aborted, BoxFuture, abortable};
use futures::stream::{FuturesUnordered, StreamExt as _};
use lb_api::findings::Findings;
use lb_common::mac::Mac;
use lb_model::ids::GroupNumber;
use lb_model::{ANNOUNCE_RATE, Group};
use lb_net::addresses::{Answer, Kernel, Request};
use lb_net::announce::Announcer;
use lb_net::vips::Vips;
use lb_system::clock::sleep_until;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::bursts::Bursts;
use super::changes::{Change, Changes};
use super::ledger::{Event, Ledger, WorkId};
use super::report::Report;
use crate::realtime;

/// Requests to the kernel under way at once. The kernel carries out one after the other; in
/// between, announcements go out.
const REQUESTS: usize = 32;

/// How often the interface is looked at, should a change not have been told.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long an announcement waits that the interface's queue has no room for.
const QUEUE_FULL: Duration = Duration::from_millis(1);

/// How long an announcement waits for the group's lease, which the heartbeat thread renews at once
/// after it has ordered a take-over.
const NO_LEASE: Duration = Duration::from_millis(1);

/// Something to wait for before a group is taken, such as a fence command; its error is why the
/// group is not.
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
    /// From now on these are the groups; those that are held follow. With `hold_all` all of them
    /// are.
    Groups {
        groups: Vec<Group>,
        hold_all: bool,
    },
    Mac(Mac),
    Take(GroupNumber, Option<Condition>),
    Release(GroupNumber),
    Announce(GroupNumber),
    PauseAnnouncements(GroupNumber),
    /// Announcements a second, in frames.
    Rate(u32),
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
    /// Takes the group once `condition` holds; answered by [`Outcome::Taken`] or
    /// [`Outcome::Failed`], or, if a release comes before that, by [`Outcome::Released`] alone.
    pub fn take(&self, group: GroupNumber, condition: Option<Condition>) {
        self.give(Order::Take(group, condition));
    }

    /// Gives the group up, whoever put its VIPs on the interface; answered by
    /// [`Outcome::Released`].
    pub fn release(&self, group: GroupNumber) {
        self.give(Order::Release(group));
    }

    /// Announces a group that is held, at once and in a new burst.
    pub fn announce(&self, group: GroupNumber) {
        self.give(Order::Announce(group));
    }

    /// Sends no announcement of a group that is held for some time.
    pub fn pause_announcements(&self, group: GroupNumber) {
        self.give(Order::PauseAnnouncements(group));
    }

    /// The configuration's groups. What is held of them stays, what was held and is in none is
    /// given up.
    pub fn set_groups(&self, groups: &[Group]) {
        self.give(Order::Groups { groups: groups.to_vec(), hold_all: false });
    }

    /// As [`Self::set_groups`], and all of them are held: for a director that is alone.
    pub fn hold_all(&self, groups: &[Group]) {
        self.give(Order::Groups { groups: groups.to_vec(), hold_all: true });
    }

    /// How many frames a second announcements may take.
    pub fn set_rate(&self, rate: u32) {
        self.give(Order::Rate(rate));
    }

    /// The interface's MAC has changed: everyone is told.
    pub fn set_mac(&self, mac: Mac) {
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
    /// `interface` is the interface's index. A group is announced while it `has_lease`: what
    /// clients send to the announced MAC would be lost before that, and a process that was frozen
    /// does not know yet who has the group now. Both functions are called on the holder's thread
    /// and must not wait.
    pub fn start(
        interface: u32,
        mac: Mac,
        (orders, pending): (Orders, Pending),
        findings: Findings,
        has_lease: impl Fn(GroupNumber) -> bool + Send + 'static,
        tell: impl Fn(Outcome) + Send + 'static,
    ) -> Result<Self> {
        let announcer = Announcer::new(interface)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime of the VIPs' thread")?;
        let (kernel, changes) = {
            // Their tasks belong to this thread's runtime, not to the caller's.
            let _guard = runtime.enter();
            (Kernel::of(interface)?, Changes::on(interface)?)
        };
        let keeper = HolderThread {
            kernel,
            changes,
            announcer,
            mac,
            tell: Box::new(tell),
            has_lease: Box::new(has_lease),
            report: Report::new(interface, findings),
            ledger: Ledger::default(),
            bursts: Bursts::new(ANNOUNCE_RATE, Instant::now()),
            requests: FuturesUnordered::new(),
            conditions: FuturesUnordered::new(),
            expected: BTreeMap::new(),
            is_up: true,
        };
        let thread = std::thread::Builder::new()
            .name("takeover".to_owned())
            .spawn(move || {
                realtime::raise_priority();
                runtime.block_on(keeper.run(pending.0));
            })
            .context("cannot start the VIPs' thread")?;
        Ok(Self { orders, thread })
    }

    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    pub fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Gives all VIPs up; returns when they are off the interface, or `false` if the thread had
    /// failed before.
    pub fn end(self) -> bool {
        self.orders.give(Order::End);
        let ended = self.thread.join().is_ok();
        if !ended {
            tracing::error!(event = "thread_failed", "the thread that holds the VIPs has failed");
        }
        ended
    }
}

/// A request that was answered.
type Answered = (WorkId, Request, Answer);

struct HolderThread {
    kernel: Kernel,
    changes: Changes,
    announcer: Announcer,
    mac: Mac,
    tell: Box<dyn Fn(Outcome) + Send>,
    has_lease: Box<dyn Fn(GroupNumber) -> bool + Send>,
    report: Report,
    ledger: Ledger,
    bursts: Bursts,
    requests: FuturesUnordered<BoxFuture<'static, Answered>>,
    conditions: FuturesUnordered<BoxFuture<'static, Met>>,
    /// Take-overs that wait for their condition, and how to call it off.
    expected: BTreeMap<GroupNumber, AbortHandle>,
    is_up: bool,
}

/// What became of a condition.
struct Met {
    group: GroupNumber,
    /// Called off: nobody waits for it any more.
    outcome: Result<Result<(), String>, Aborted>,
}

impl HolderThread {
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut is_ending = false;
        while !(is_ending && self.ledger.is_idle()) {
            let wake = self.ledger.wake().into_iter().chain(self.bursts.wake(self.ledger.is_taking())).min();
            tokio::select! {
                biased;
                order = orders.recv(), if !is_ending => match order {
                    None => return,
                    Some(Order::End) => {
                        is_ending = true;
                        self.end();
                    }
                    Some(order) => self.apply(order),
                },
                Some(answered) = self.requests.next() => self.answered(answered),
                Some(met) = self.conditions.next() => self.met(met),
                change = self.changes.next() => self.changed(change),
                _ = looks.tick() => self.ledger.recheck(true),
                () = sleep_until(wake) => {}
            }
            self.go_on();
        }
    }

    /// What follows from whatever has happened.
    fn go_on(&mut self) {
        while let Some(Some(answered)) = self.requests.next().now_or_never() {
            self.answered(answered);
        }
        self.ledger.pass_time(Instant::now());
        while self.requests.len() < REQUESTS
            && let Some((work, request)) = self.ledger.next()
        {
            let answer = self.kernel.ask(&request);
            self.requests.push(answer.map(move |answer| (work, request, answer)).boxed());
        }
        for event in self.ledger.take_events() {
            self.event(event);
        }
        self.announce();
    }

    fn answered(&mut self, (work, request, answer): Answered) {
        self.ledger.answered(work, request, answer, Instant::now());
    }

    fn apply(&mut self, order: Order) {
        match order {
            Order::Groups { groups, hold_all } => {
                let numbered = groups.iter().map(|group| (group.number, Vips::from(group)));
                self.ledger.set_groups(numbered.collect(), hold_all);
                for vip in self.ledger.held() {
                    self.bursts.set_refresh(vip, self.ledger.refresh_of(vip), Instant::now());
                }
            }
            Order::Mac(mac) => {
                if std::mem::replace(&mut self.mac, mac) != mac {
                    for vip in self.ledger.held() {
                        self.bursts.again(vip, Instant::now());
                    }
                }
            }
            Order::Take(group, None) => self.ledger.take(group),
            Order::Take(group, Some(condition)) => self.wait_for(group, condition),
            Order::Release(group) => {
                self.call_off(group);
                self.ledger.release(group);
            }
            Order::Announce(group) => {
                for vip in self.ledger.held_of(group) {
                    self.bursts.again(vip, Instant::now());
                }
            }
            Order::PauseAnnouncements(group) => {
                for vip in self.ledger.held_of(group) {
                    self.bursts.pause_announcements(vip, Instant::now());
                }
            }
            Order::Rate(rate) => self.bursts.set_rate(rate),
            Order::End => {}
        }
    }

    fn wait_for(&mut self, group: GroupNumber, condition: Condition) {
        self.call_off(group);
        let (condition, handle) = abortable(condition);
        self.expected.insert(group, handle);
        self.conditions.push(Box::pin(async move { Met { group, outcome: condition.await } }));
    }

    fn met(&mut self, Met { group, outcome }: Met) {
        let Ok(outcome) = outcome else { return };
        self.expected.remove(&group);
        match outcome {
            Ok(()) => self.ledger.take(group),
            Err(why) => (self.tell)(Outcome::Failed(group, why)),
        }
    }

    /// A fence command that runs is killed.
    fn call_off(&mut self, group: GroupNumber) {
        if let Some(condition) = self.expected.remove(&group) {
            condition.abort();
        }
    }

    fn end(&mut self) {
        for condition in std::mem::take(&mut self.expected).into_values() {
            condition.abort();
        }
        self.ledger.end();
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::Added(form) => self.ledger.added(&form),
            Change::Removed { address, by } => {
                if self.ledger.holds(address) {
                    self.report.removed(by);
                }
                self.ledger.removed(address, Instant::now());
            }
            Change::Link { up } => {
                // Without it the kernel has removed routes, and IPv6 addresses.
                if up && !std::mem::replace(&mut self.is_up, up) {
                    self.ledger.recheck(true);
                }
                self.is_up = up;
            }
            Change::Missed => self.ledger.recheck(true),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Held(vip) => {
                let refresh = self.ledger.refresh_of(vip.address);
                self.bursts.begin(vip.address, refresh, Instant::now());
            }
            Event::Lost(vip) => self.bursts.end(vip),
            Event::Taken(vips) => self.report.taken(&vips),
            Event::Released(vips) => self.report.released(&vips),
            Event::PutBack(vips) => self.report.put_back(&vips),
            Event::Outcome(outcome) => (self.tell)(outcome),
            Event::Trouble(what) => self.report.trouble(what),
        }
    }

    /// Whatever is due, as far as the pace allows.
    fn announce(&mut self) {
        let now = Instant::now();
        while let Some((vip, part)) = self.bursts.next(now, self.ledger.is_taking()) {
            if !self.ledger.number_of(vip).is_some_and(&self.has_lease) {
                return self.bursts.pause(now + NO_LEASE);
            }
            match self.announcer.announce(vip, self.mac, part) {
                Ok(()) => {}
                Err(error) if is_full(&error) => return self.bursts.pause(now + QUEUE_FULL),
                Err(error) => self.report.unannounced(vip, &error),
            }
            self.bursts.made(vip, now);
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS))
}

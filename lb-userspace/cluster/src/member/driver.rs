//! The machine on the heartbeat thread: hands in what happened, carries out what comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lb_common::mac::Mac;
use lb_model::ids::{GroupId, GroupNumber, NodeId};
use lb_model::lease::{Leases, SERVE_ON};
use tokio::sync::oneshot;

use super::disputes::Disputes;
use super::fencing::Fencing;
use super::handover::{Facts, Handovers, ServedOn};
use super::numbers::{GroupNumbers, NumberedGroup};
use super::peers::{Abandoned, Peers};
use crate::machine::{self, Cause, Change, Event, Input, LocalReadiness, Machine, Output, Refusal};
use crate::message::{Heartbeat, Readiness, Role};
use crate::standing::Order;
use crate::standing::exchange::Exchange;
use crate::takeover::holder::Outcome;
use crate::takeover::segments::Orders;
use crate::transport::PathId;
use crate::transport::event_loop::{self, Times};

/// What other threads tell the driver.
pub enum Command {
    Readiness(LocalReadiness),
    Operator(machine::Command, oneshot::Sender<Result<(), Refusal>>),
    /// Of an order to the holder of addresses.
    Outcome(Outcome),
    /// The station with this MAC, which is not ours, announced an address of the group then.
    Conflict(GroupNumber, Mac, Duration),
    /// The node's MAC on the VIPs' interface; `None`: its host does not answer.
    Mac(NodeId, Option<Mac>),
    /// The configuration was read anew: the numbers of its groups too.
    Changed(Change, Vec<(GroupId, NumberedGroup)>),
    /// Orders of this node's operators.
    Standing(Vec<Order>),
    Snapshot(oneshot::Sender<Snapshot>),
}

/// What the driver tells the controller, and when it happened.
#[derive(Debug)]
pub struct TimedReport {
    pub at: SystemTime,
    pub report: Report,
}

impl From<Report> for TimedReport {
    fn from(report: Report) -> Self {
        Self { at: SystemTime::now(), report }
    }
}

/// How the controller is told. Must not wait.
pub type Tell = Arc<dyn Fn(TimedReport) + Send + Sync>;

#[derive(Debug)]
pub enum Report {
    Event(Event),
    Transport(event_loop::Report),
    ServedOn(ServedOn),
    /// The node has told orders of its operators, or others' that it knows.
    Standing(NodeId, Vec<Order>),
    /// The thread has ended by itself, and why.
    Ended(String),
}

/// The cluster as this node sees it, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// This node holds no group, and takes or releases none.
    pub idle: bool,
    /// Includes groups that left the configuration, until they are given up.
    pub groups: BTreeMap<GroupId, GroupSnapshot>,
    /// In the configuration's order.
    pub nodes: Vec<NodeSnapshot>,
}

#[derive(Debug, Clone)]
pub struct GroupSnapshot {
    pub role: Role,
    pub holder: Option<NodeId>,
    /// All that serve it.
    pub active: Vec<NodeId>,
    /// Another node says that it could take the group, or serves it too.
    pub has_successor: bool,
    /// The group was handed over, and connections that began here are served on.
    pub serves_on: bool,
}

#[derive(Debug, Clone)]
pub struct NodeSnapshot {
    /// This node itself, or heard within the dead time.
    pub alive: bool,
    /// What the node last told; `None`: no heartbeat of it has come yet.
    pub readiness: Option<Readiness>,
    pub config_agrees: bool,
}

pub struct Driver {
    machine: Machine,
    numbers: GroupNumbers,
    leases: Leases,
    disputes: Disputes,
    orders: Orders,
    fencing: Fencing,
    tell: Tell,
    peers: Peers,
    handovers: Handovers,
    standing: Exchange,
    outbox: Vec<Heartbeat>,
}

impl Driver {
    pub fn new(
        machine: Machine,
        numbers: GroupNumbers,
        (leases, disputes): (Leases, Disputes),
        orders: Orders,
        fencing: Fencing,
        tell: Tell,
    ) -> Self {
        Self {
            machine,
            numbers,
            leases,
            disputes,
            orders,
            fencing,
            tell,
            peers: Peers::default(),
            handovers: Handovers::default(),
            standing: Exchange::default(),
            outbox: Vec::new(),
        }
    }

    /// Returns why an operator's command was refused, if `input` was one.
    fn handle(&mut self, input: Input, now: Duration) -> Result<(), Refusal> {
        let mut done = Ok(());
        let given = if let Input::Command(command) = &input { Some(*command) } else { None };
        for output in self.machine.handle(input, now) {
            // Another order may come to its end in the same moment.
            if let Output::Event(Event::CommandRefused { command, why }) = &output
                && given == Some(*command)
            {
                done = Err(*why);
            }
            self.carry_out(output, now);
        }
        done
    }

    fn tell_machine(&mut self, input: Input, now: Duration) {
        // Only operators are refused anything.
        let _ = self.handle(input, now);
    }

    fn carry_out(&mut self, output: Output, now: Duration) {
        match output {
            Output::Send(mut heartbeat) => {
                heartbeat.standing = self.standing.say(heartbeat.hears, now);
                self.outbox.push(heartbeat);
                self.renew_handovers(now);
            }
            Output::RenewLease { group, until } => {
                self.of(group, |here, number| match here.numbers.is_anycast(group) {
                    true => here.serve_anycast(number, now),
                    false => here.leases.renew(number, until),
                });
            }
            Output::Acquire { group, why } => {
                self.of(group, |here, number| here.acquire(group, number, &why, now));
            }
            Output::Release { group, why } => {
                self.of(group, |here, number| here.release(group, number, &why, now));
            }
            Output::Announce { group } => {
                self.of(group, |here, number| {
                    here.disputes.begin(number, here.machine.disputed_from(group));
                    here.orders.announce(number);
                });
            }
            Output::PauseAnnouncements { group } => {
                self.of(group, |here, number| here.orders.pause_announcements(number));
            }
            Output::LeaseLost => {}
            Output::Event(event) => {
                if let Event::GroupRemoved { group } = event {
                    self.forget(group);
                }
                (self.tell)(Report::Event(event).into());
            }
        }
    }

    /// The machine knows no group without a number.
    fn of(&mut self, group: GroupId, act: impl FnOnce(&mut Self, GroupNumber)) {
        if let Some(number) = self.numbers.of(group) {
            act(self, number);
        }
    }

    /// Its number may be another group's next.
    fn forget(&mut self, group: GroupId) {
        self.forget_handover(group);
        if let Some(number) = self.numbers.remove(group) {
            self.leases.end(number);
        }
    }

    fn forget_handover(&mut self, group: GroupId) {
        self.handovers.forget(group);
        self.of(group, |here, number| here.leases.relay(number, None));
    }

    /// The other director of a hand-over first: once the addresses are there, the host would answer
    /// what it should have.
    fn acquire(&mut self, group: GroupId, number: GroupNumber, why: &Cause, now: Duration) {
        if self.numbers.is_anycast(group) {
            // Before the first client comes.
            self.serve_anycast(number, now);
            return self.orders.take(number, None);
        }
        self.disputes.begin(number, self.machine.disputed_from(group));
        let silent = self.silent(why);
        let condition = self.fencing.before(self.numbers.name(group), &silent);
        match self.handovers.takes(group, why, &self.peers) {
            Some(from) if condition.is_some() && silent.contains(&from) => self.abandon(group, from),
            Some(_) => self.renew_handovers(now),
            None => self.leases.relay(number, None),
        }
        self.leases.next_generation(number);
        self.orders.take(number, condition);
    }

    /// Packets are balanced, and nobody answers ARP for the VIPs: clients come by routers. The
    /// lease keeps nobody away, so it outlasts the process, as routers may.
    fn serve_anycast(&self, number: GroupNumber, now: Duration) {
        self.leases.grace(number, now.saturating_add(SERVE_ON));
    }

    /// The group was taken from a node that is fenced: nothing is relayed there.
    fn abandon(&mut self, group: GroupId, fenced: NodeId) {
        self.forget_handover(group);
        let news = ServedOn { group, node: fenced, ended: Some(Abandoned::Fenced) };
        (self.tell)(Report::ServedOn(news).into());
    }

    /// The nodes that may still have a group that is taken without their consent.
    fn silent(&self, why: &Cause) -> Vec<NodeId> {
        let settings = self.machine.settings();
        match *why {
            Cause::PeerDead { peer } => vec![peer],
            Cause::NobodyHasIt => {
                let others = (0..settings.nodes).map(NodeId).filter(|node| *node != settings.me);
                others.filter(|node| !self.machine.hears(*node)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The lease first: from here on the addresses are not answered for.
    fn release(&mut self, group: GroupId, number: GroupNumber, why: &Cause, now: Duration) {
        if self.numbers.is_anycast(group) {
            // What routers still send is balanced on: the lease is only not renewed any more.
            return self.orders.release(number);
        }
        match self.handovers.gives(group, why) {
            true => self.renew_handovers(now),
            false => {
                self.leases.lapse(number, now);
                self.leases.relay(number, None);
            }
        }
        // What a life before had, it did not have in this one.
        if *why != Cause::Start {
            self.leases.next_generation(number);
        }
        self.orders.release(number);
    }

    fn renew_handovers(&mut self, now: Duration) {
        let settings = self.machine.settings();
        let (lease, heard) = (now + settings.lease, now + settings.dead);
        let facts = Facts { machine: &self.machine, peers: &self.peers, numbers: &self.numbers, now };
        for news in self.handovers.renew(&facts, &self.leases, lease, heard) {
            (self.tell)(Report::ServedOn(news).into());
        }
    }

    fn outcome(&mut self, outcome: Outcome, now: Duration) {
        let (Outcome::Taken(number) | Outcome::Failed(number, _) | Outcome::Released(number)) = outcome;
        let Some(group) = self.numbers.group(number) else { return };
        let input = match outcome {
            Outcome::Taken(_) => Input::TakeoverDone { group },
            Outcome::Failed(_, why) => Input::TakeoverFailed { group, why },
            Outcome::Released(_) => {
                if !self.handovers.is_served_on(group) && !self.numbers.is_anycast(group) {
                    self.leases.end(number);
                }
                Input::ReleaseDone { group }
            }
        };
        self.tell_machine(input, now);
    }

    fn snapshot(&self) -> Snapshot {
        let settings = self.machine.settings();
        let groups = self.numbers.groups().map(|group| {
            let snapshot = GroupSnapshot {
                role: self.machine.role(group),
                holder: self.machine.holder(group),
                active: self.machine.active(group),
                has_successor: self.has_successor(group),
                serves_on: self.handovers.is_served_on(group),
            };
            (group, snapshot)
        });
        let nodes = (0..settings.nodes).map(NodeId).map(|node| match node == settings.me {
            true => self.own_snapshot(),
            false => NodeSnapshot {
                alive: self.machine.hears(node),
                readiness: self.peers.readiness(node),
                config_agrees: self
                    .peers
                    .config_digest(node)
                    .is_none_or(|digest| digest == settings.config_digest),
            },
        });
        Snapshot { idle: self.machine.is_idle(), groups: groups.collect(), nodes: nodes.collect() }
    }

    fn has_successor(&self, group: GroupId) -> bool {
        let me = self.machine.settings().me;
        if self.numbers.is_anycast(group) {
            return self.machine.active(group).iter().any(|node| *node != me);
        }
        let mut others = (0..self.machine.settings().nodes).map(NodeId);
        others.any(|node| self.machine.hears(node) && self.peers.stands_by(node, group))
    }

    fn own_snapshot(&self) -> NodeSnapshot {
        NodeSnapshot { alive: true, readiness: Some(self.machine.readiness()), config_agrees: true }
    }
}

impl event_loop::Driver for Driver {
    type Command = Command;

    fn heartbeat(&mut self, mut heartbeat: Heartbeat, _: PathId, Times { arrived, now }: Times) {
        self.peers.heard(&mut heartbeat, arrived);
        self.fencing.heard(heartbeat.from);
        if let Some(note) = heartbeat.standing.take() {
            let news = self.standing.hear(heartbeat.from, note);
            if !news.is_empty() {
                (self.tell)(Report::Standing(heartbeat.from, news).into());
            }
        }
        let age = now.saturating_sub(arrived);
        self.tell_machine(Input::LateHeartbeat { message: heartbeat, age }, now);
    }

    fn command(&mut self, command: Command, now: Duration) {
        match command {
            Command::Readiness(readiness) => self.tell_machine(Input::Readiness(readiness), now),
            Command::Operator(command, reply) => {
                let done = self.handle(Input::Command(command), now);
                let _ = reply.send(done);
            }
            Command::Outcome(outcome) => self.outcome(outcome, now),
            Command::Conflict(number, mac, came) => {
                let rival = self.peers.at(mac);
                if let Some(group) = self.numbers.group(number) {
                    self.tell_machine(Input::Conflict { group, rival, came }, now);
                }
            }
            Command::Mac(node, mac) => self.peers.set_mac(node, mac),
            Command::Changed(change, numbers) => {
                self.numbers.add(numbers);
                self.tell_machine(Input::Changed(change), now);
            }
            // Whoever gave them knows them.
            Command::Standing(orders) => drop(self.standing.take(orders)),
            Command::Snapshot(reply) => {
                let _ = reply.send(self.snapshot());
            }
        }
    }

    fn timer(&mut self, now: Duration) {
        self.tell_machine(Input::Timer, now);
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.machine.next_timeout()
    }

    fn outgoing(&mut self) -> Vec<Heartbeat> {
        std::mem::take(&mut self.outbox)
    }
}

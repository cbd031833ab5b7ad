//! This node as a member of its cluster: the machine with all that it needs around it, and what the
//! controller may ask.
//!
//! Three threads meet here, and none waits for another. The heartbeat thread runs the machine
//! ([`driver`]), sends and receives, and writes leases into the data path. The holder's thread puts
//! addresses on the interface and announces them. The controller's tells what this node could serve
//! with, and hears what happened.
//!
//! - [`settings`]: from the configuration to the machine's settings and the paths
//! - [`driver`]: the machine on the heartbeat thread
//! - [`disputes`]: since when announcements of others count
//! - [`fencing`]: dead nodes are fenced before their groups are taken
//! - [`handover`]: connections that began on the node that had a group before, whether its process
//!   lives or not
//! - [`peers`]: what is known of the other nodes
//! - [`numbers`]: the numbers of the groups on this node

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use lb_api::findings::Findings;
use lb_common::mac::Mac;
use lb_model::ids::{GroupNumber, NodeId};
use lb_model::lease::Leases;
use lb_model::{Cluster, Config};
use lb_system::clock::now;
use lb_system::vital_signs::Pulse;
use tokio::sync::oneshot;

use self::disputes::Disputes;
use self::driver::{Command, Driver, Report, Snapshot, Tell, TimedReport};
use self::fencing::{Fence, Fencing};
use self::numbers::GroupNumbers;
use super::auth::{self, ClusterId};
use super::channel::Channel;
use super::machine::{self, LocalReadiness, Machine, Refusal};
use super::realtime;
use super::replay::{Identity, session_at};
use super::standing::Order;
use super::takeover::segments::{self, Holders, Orders, Station};
use super::transport::event_loop::{Handle, Loop};
use super::transport::statistics::Statistics;

pub mod disputes;
pub mod driver;
pub mod fencing;
pub mod handover;
mod numbers;
pub mod peers;
mod settings;

/// What the member finds where it runs.
pub struct LocalContext {
    /// The VIPs' interfaces, in the order of `Config::interfaces`.
    pub stations: Vec<Station>,
    pub leases: Leases,
    /// An operator had put the node into maintenance in an earlier life.
    pub maintenance: bool,
    pub fence: Option<Fence>,
    pub findings: Findings,
}

const HEARTBEAT: &str = "heartbeat";

/// Shut it down with [`Self::leave`] and then [`Self::end`]. Dropping it without these detaches its
/// threads.
pub struct Member {
    handle: Handle<Command>,
    heartbeat: JoinHandle<()>,
    pulse: Pulse,
    holders: Holders,
    statistics: Vec<Arc<Statistics>>,
    disputes: Disputes,
    /// What the machine was last told.
    readiness: LocalReadiness,
}

impl Member {
    /// Starts the threads. Groups that an earlier life has left on the interface are given up first
    /// of all. `tell` is called on the heartbeat thread and must not wait.
    pub fn start(
        config: &Config,
        cluster: &Cluster,
        local: LocalContext,
        tell: impl Fn(TimedReport) + Send + Sync + 'static,
    ) -> Result<Self> {
        let session = session_at(SystemTime::now());
        let settings = settings::machine(config, cluster, session, local.maintenance);
        settings.check().context("cluster")?;
        let channel = channel(cluster, session)?;

        let (orders, pending) = segments::orders(local.stations.len());
        orders.set_rate(config.announce_rate);
        orders.set_groups(config);
        let tell: Tell = Arc::new(tell);
        let machine = Machine::new(settings, now());
        let fencing = Fencing::new(local.fence);
        let mut numbers = GroupNumbers::default();
        numbers.add(numbers::numbers(&config.groups));
        let leases = local.leases.clone();
        let disputes = Disputes::default();
        let around = (local.leases, disputes.clone());
        let driver = Driver::new(machine, numbers, around, orders.clone(), fencing, Arc::clone(&tell));
        let transport = {
            let tell = Arc::clone(&tell);
            Box::new(move |report| tell(Report::Transport(report).into()))
        };
        let (event_loop, handle) = Loop::new(channel, settings::paths(cluster), driver, transport)
            .context("cannot set the heartbeat thread up")?;
        let (statistics, pulse) = (event_loop.statistics(), event_loop.pulse());
        let holders = {
            let handle = handle.clone();
            let tell = move |outcome| handle.command(Command::Outcome(outcome));
            let has_lease = move |group| leases.answer_until(group).is_some_and(|until| now() < until);
            Holders::start(&local.stations, (orders, pending), &local.findings, has_lease, tell)?
        };
        let heartbeat = std::thread::Builder::new()
            .name(HEARTBEAT.to_owned())
            .spawn(move || beat(event_loop, &tell))
            .context("cannot start the heartbeat thread")?;
        let readiness = LocalReadiness::default();
        Ok(Self { handle, heartbeat, pulse, holders, statistics, disputes, readiness })
    }

    /// What this node could serve with now.
    pub fn set_readiness(&mut self, change: impl FnOnce(&mut LocalReadiness)) {
        let before = self.readiness;
        change(&mut self.readiness);
        if self.readiness != before {
            self.handle.command(Command::Readiness(self.readiness));
        }
    }

    /// Carries an operator's command out, or says why not. A move of a group is under way then, not
    /// done.
    pub async fn command(&self, command: machine::Command) -> Result<Result<(), Refusal>> {
        let (reply, answer) = oneshot::channel();
        self.handle.command(Command::Operator(command, reply));
        answer.await.context(ENDED)
    }

    /// Orders of this node's operators that all nodes shall know.
    pub fn tell_standing(&self, orders: Vec<Order>) {
        self.handle.command(Command::Standing(orders));
    }

    /// Orders to the threads that hold the VIPs.
    pub fn orders(&self) -> &Orders {
        self.holders.orders()
    }

    /// Where to tell that someone else announced an address of the group, and when that came.
    pub fn conflicts(&self) -> impl Fn(GroupNumber, Mac, Duration) + Clone + use<> {
        let handle = self.handle.clone();
        move |group, mac, came| handle.command(Command::Conflict(group, mac, came))
    }

    /// Which announcements of others count.
    pub fn disputes(&self) -> Disputes {
        self.disputes.clone()
    }

    /// The node's MAC on the VIPs' interface, as the kernel knows it; `None`: its host does not
    /// answer.
    pub fn set_node_mac(&self, node: NodeId, mac: Option<Mac>) {
        self.handle.command(Command::Mac(node, mac));
    }

    /// This node's own MAC on one of the VIPs' interfaces has changed.
    pub fn set_mac(&self, segment: usize, mac: Mac) {
        self.holders.orders().set_mac(segment, mac);
    }

    /// The configuration was read anew. Nothing in `cluster` has changed, nor the nodes of a group
    /// that stays.
    pub fn set_config(&self, config: &Config, cluster: &Cluster) {
        let numbers = numbers::numbers(&config.groups).collect();
        self.handle.command(Command::Changed(settings::change(config, cluster), numbers));
        self.holders.orders().set_rate(config.announce_rate);
        self.holders.set_groups(config);
    }

    /// From now on these keys.
    pub fn set_keys(&self, keys: auth::Keys) {
        self.handle.set_keys(keys);
    }

    /// Without its heartbeat thread a node is dead to the others, and its leases run out.
    pub fn has_failed(&self) -> bool {
        self.heartbeat.is_finished() || self.holders.has_failed()
    }

    /// The heartbeat thread, by its name, gives signs of life.
    pub fn pulse(&self) -> (&'static str, Pulse) {
        (HEARTBEAT, self.pulse.clone())
    }

    /// In the order of the configuration's paths.
    pub fn statistics(&self) -> &[Arc<Statistics>] {
        &self.statistics
    }

    pub fn snapshot(&self) -> impl Future<Output = Result<Snapshot>> + use<> {
        let (reply, answer) = oneshot::channel();
        self.handle.command(Command::Snapshot(reply));
        async { answer.await.context(ENDED) }
    }

    /// Gives everything up, for another node to take; [`Self::look`] tells when nothing is held
    /// here. Heartbeats go on, and so does the service of connections that began here.
    pub fn leave(&self) {
        // Never refused, so nobody waits for the answer.
        let (reply, _) = oneshot::channel();
        self.handle.command(Command::Operator(machine::Command::Standby, reply));
    }

    /// Ends the heartbeats and takes off the interface what may be left there; `false`: it cannot.
    pub fn end(self) -> bool {
        self.handle.stop();
        if self.heartbeat.join().is_err() {
            tracing::error!(event = "thread_failed", "the heartbeat thread has failed");
        }
        self.holders.end()
    }
}

const ENDED: &str = "the heartbeat thread has ended";

fn channel(cluster: &Cluster, session: u64) -> Result<Channel> {
    let keys = auth::file::read(&cluster.key_file).context("heartbeat keys")?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| anyhow!("no random numbers for the heartbeats: {error}"))?;
    let me = Identity { node: cluster.me, session };
    let others =
        (0..=u8::MAX).zip(&cluster.nodes).map(|(node, _)| NodeId(node)).filter(|node| *node != me.node);
    Ok(Channel::new(ClusterId::of(&cluster.name), me, others, keys, secret))
}

/// The heartbeat thread.
fn beat(event_loop: Loop<Driver>, tell: &Tell) {
    if let Err(missing) = realtime::enter() {
        tracing::warn!("{missing}");
    }
    if let Err(error) = event_loop.run() {
        tell(Report::Ended(error.to_string()).into());
    }
}

//! A small world for the machines of a cluster: paths, clocks, executors and data paths, and the
//! faults of all of them.
//!
//! True time is counted in microseconds; what happens, happens at its exact time on clocks that are
//! fast or slow. Faults strike between ticks of one heartbeat interval. A message takes 1 ms over
//! the first path and 4 ms over the second, so each comes twice. A node that thaws gets its timer
//! first and the messages that waited after it, the worst order.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use overlap::Clocks;

pub(super) use faults::Fault;

mod faults;
mod overlap;

pub(super) const INTERVAL: Duration = Duration::from_millis(10);
pub(super) const DEAD: Duration = Duration::from_millis(40);
/// How long a message takes over each path, microseconds.
const PATHS: [u64; 2] = [1_000, 4_000];
const TICK: u64 = 10_000;
pub(super) const GROUP: GroupId = GroupId(0);

/// Number of heartbeats in a row: lost on all paths, they make a partition in the sense of the
/// first promise; lost on paths that are there, a path that does not work in the sense of the
/// second. See the machine's documentation.
const PARTITION: u32 = 2;
/// How long after a partition its two actives may still be seen, ticks.
const HEALING: u32 = 12;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub tick: u32,
    now: u64,
    pub nodes: Vec<NodeWorld>,
    packets: Vec<Packet>,
    /// `cut[path]` holds pairs (from, to).
    cut: Vec<(usize, usize, usize)>,
    /// Heartbeats in a row that came over no path in time, for each ordered pair.
    silence: Vec<u32>,
    /// As `silence`, but counts only heartbeats for which a path was there.
    lost: Vec<u32>,
    /// Until when two actives are excused by a partition.
    excused_until: u32,
    clocks: Clocks,
    broken: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct NodeWorld {
    pub machine: Option<Machine>,
    pub settings: Settings,
    pub frozen: bool,
    /// The node's own clock: thousandths of true speed, and what it showed at the beginning.
    rate: u64,
    offset: Duration,
    /// End of the lease in the data path, per group; outlives the controller.
    pub lease: Vec<Duration>,
    /// Told to release the group, which ends the lease. For the first promise it counts until the
    /// release is done: whoever takes the group before that is too early.
    given_up: Vec<bool>,
    /// What the executor has to do, and when it is done.
    work: Vec<(u64, Input)>,
    work_time: u64,
    inbox: Vec<Heartbeat>,
    pub local: LocalReadiness,
    fails: bool,
    /// What happens to its next heartbeat.
    fate: Fate,
    pub acquired: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Fate {
    lost: bool,
    delayed: bool,
    repeated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Packet {
    due: u64,
    to: usize,
    message: Heartbeat,
}

/// How the nodes of a world differ in speed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speeds {
    /// Thousandths.
    pub rates: [u64; 4],
    /// How long a take-over or a release takes, microseconds.
    pub work: [u64; 4],
}

pub(super) const READY: LocalReadiness = LocalReadiness {
    data_path: true,
    link: true,
    servers: 2,
    references: 1,
    behind: 0,
    unlearned: 0,
    usable: 0,
};

pub(super) fn settings(me: usize, nodes: usize, groups: usize) -> Settings {
    let id = |node: usize| NodeId(u8::try_from(node).unwrap());
    let mut settings = Settings::new(id(me), id(nodes).0, 1);
    settings.interval = INTERVAL;
    settings.dead = DEAD;
    settings.initial_dead = DEAD * 3 / 2;
    settings.lease = Settings::longest_lease(INTERVAL, DEAD);
    settings.late = DEAD / 2;
    settings.takeover = DEAD * 2;
    settings.retry = INTERVAL;
    settings.give_way = DEAD;
    settings.references = 1;
    // Group 0 prefers node 0, 1, 2; group 1 node 1, 2, 0; and so on.
    let preference = |group| (0..nodes).map(|place| id((place + group) % nodes)).collect();
    let failback = Failback::Auto { delay: DEAD };
    settings.groups = (0..=u32::MAX)
        .map(GroupId)
        .take(groups)
        .map(|id| GroupSettings { id, preference: preference(place(id)), failback, anycast: None })
        .collect();
    settings.check().unwrap();
    settings
}

/// The group's place in the lists of a node.
fn place(group: GroupId) -> usize {
    usize::try_from(group.0).unwrap()
}

impl World {
    /// All nodes start at once, at different places of their clocks.
    pub(super) fn new(nodes: usize, groups: usize, speeds: Speeds) -> Self {
        Self::with((0..nodes).map(|me| settings(me, nodes, groups)).collect(), speeds)
    }

    pub(super) fn with(settings: Vec<Settings>, speeds: Speeds) -> Self {
        let (nodes, groups) = (settings.len(), settings[0].groups.len());
        let node = |(me, settings): (usize, Settings)| NodeWorld {
            machine: None,
            settings,
            frozen: false,
            rate: speeds.rates[me],
            offset: Duration::from_secs(100 + me as u64),
            lease: vec![Duration::ZERO; groups],
            given_up: vec![true; groups],
            work: Vec::new(),
            work_time: speeds.work[me],
            inbox: Vec::new(),
            local: READY,
            fails: false,
            fate: Fate::default(),
            acquired: 0,
        };
        let mut world = Self {
            tick: 0,
            now: 0,
            nodes: settings.into_iter().enumerate().map(node).collect(),
            packets: Vec::new(),
            cut: Vec::new(),
            silence: vec![0; nodes * nodes],
            lost: vec![0; nodes * nodes],
            excused_until: 0,
            clocks: Clocks::new(),
            broken: None,
        };
        (0..nodes).for_each(|node| world.start(node));
        world
    }

    fn start(&mut self, node: usize) {
        let now = self.nodes[node].clock(self.now);
        let state = &mut self.nodes[node];
        state.machine = Some(Machine::new(state.settings.clone(), now));
        let local = state.local;
        self.input(node, Input::Readiness(local));
    }

    /// One tick of true time.
    pub(super) fn step(&mut self) {
        self.tick += 1;
        let end = u64::from(self.tick) * TICK;
        while let Some((due, node)) = self.next_event().filter(|&(due, _)| due <= end) {
            self.pass_time(self.now.max(due));
            match node {
                Some(node) => self.run(node),
                None => self.deliver(),
            }
            self.judge();
        }
        self.pass_time(end);
        self.judge();
    }

    /// When something happens next, and on which node; without a node, a message arrives.
    fn next_event(&self) -> Option<(u64, Option<usize>)> {
        let packets = self.packets.iter().map(|packet| (packet.due, None));
        let nodes = self.nodes.iter().enumerate().filter(|(_, node)| !node.frozen);
        let nodes = nodes.filter_map(|(index, node)| Some((node.next_event()?, Some(index))));
        packets.chain(nodes).min()
    }

    fn deliver(&mut self) {
        let now = self.now;
        let due: Vec<Packet> = self.packets.extract_if(.., |packet| packet.due <= now).collect();
        for Packet { to, message, .. } in due {
            if self.nodes[to].frozen {
                self.nodes[to].inbox.push(message);
            } else {
                self.input(to, Input::Heartbeat(message));
            }
        }
    }

    /// What the executor has done, and the timer.
    fn run(&mut self, node: usize) {
        let now = self.now;
        let done: Vec<_> = self.nodes[node].work.extract_if(.., |(due, _)| *due <= now).collect();
        for (_, done) in done {
            if let Input::ReleaseDone { group } = done {
                self.nodes[node].lease[place(group)] = Duration::ZERO;
            }
            self.input(node, done);
        }
        self.input(node, Input::Timer);
    }

    fn input(&mut self, node: usize, input: Input) {
        let now = self.nodes[node].clock(self.now);
        let state = &mut self.nodes[node];
        let Some(machine) = state.machine.as_mut().filter(|_| !state.frozen) else { return };
        for output in machine.handle(input, now) {
            self.carry_out(node, output);
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        let due = self.now + self.nodes[node].work_time;
        let state = &mut self.nodes[node];
        match output {
            Output::Send(message) => self.send(node, &message),
            Output::Acquire { group, .. } => {
                state.acquired += 1;
                let failed = Input::TakeoverFailed { group, why: String::new() };
                state.work.push((due, if state.fails { failed } else { Input::TakeoverDone { group } }));
            }
            Output::Release { group, .. } => {
                let of_group =
                    |input: &Input| matches!(input, Input::TakeoverDone { group: g } if *g == group);
                state.work.retain(|(_, input)| !of_group(input));
                state.work.push((due, Input::ReleaseDone { group }));
                state.given_up[place(group)] = true;
            }
            Output::RenewLease { group, until } => {
                state.lease[place(group)] = until;
                state.given_up[place(group)] = false;
            }
            Output::Announce { .. }
            | Output::PauseAnnouncements { .. }
            | Output::LeaseLost
            | Output::Event(_) => {}
        }
    }

    fn send(&mut self, from: usize, message: &Heartbeat) {
        let count = self.nodes.len();
        let Fate { lost, delayed, repeated } = std::mem::take(&mut self.nodes[from].fate);
        for to in (0..count).filter(|&to| to != from) {
            let paths = (0..PATHS.len()).filter(|&path| !lost && !self.cut.contains(&(path, from, to)));
            let times: Vec<u64> = paths.map(|path| self.now + PATHS[path]).collect();
            let silence = &mut self.silence[from * count + to];
            *silence = if times.is_empty() || delayed { *silence + 1 } else { 0 };
            let counted = &mut self.lost[from * count + to];
            *counted = if lost || delayed { *counted + 1 } else { 0 };
            if *silence >= PARTITION {
                self.excused_until = self.excused_until.max(self.tick + HEALING);
            }
            for due in times {
                let due = due + if delayed { 35_000 } else { 0 };
                self.packets.push(Packet { due, to, message: message.clone() });
                if repeated {
                    self.packets.push(Packet { due: due + 50_000, to, message: message.clone() });
                }
            }
        }
    }

    /// What must be true after each event.
    fn judge(&mut self) {
        let silence = self.silence.iter().max().copied().unwrap_or(0);
        if silence >= PARTITION {
            self.excused_until = self.excused_until.max(self.tick + HEALING);
        }
        for group in self.groups() {
            if !self.is_excused() && self.actives(group).len() > 1 {
                self.broken(format!("two are active at one moment for {group:?}"));
            }
            if let Some(unfit) = (0..self.nodes.len()).find(|&node| self.is_unfit_and_active(node, group)) {
                self.broken(format!("node {unfit} cannot serve {group:?} and is active"));
            }
        }
    }

    /// By its role or by its lease; one that does not run keeps what is left of the lease.
    fn is_unfit_and_active(&self, node: usize, group: GroupId) -> bool {
        let state = &self.nodes[node];
        let fit = state.local.link && state.local.data_path;
        let role = state.machine.as_ref().map(|machine| machine.role(group));
        let holds = matches!(role, Some(Role::Acquiring | Role::Active));
        state.runs() && !fit && (holds || self.active_until(node, group) > self.now)
    }

    fn broken(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    /// The nodes whose data path is active for the group.
    pub(super) fn actives(&self, group: GroupId) -> Vec<usize> {
        let active = |node: &NodeWorld| node.lease[place(group)] > node.clock(self.now);
        (0..self.nodes.len()).filter(|&node| active(&self.nodes[node])).collect()
    }

    /// Until when, in true time, if it is not told to give the group up.
    fn active_until(&self, node: usize, group: GroupId) -> u64 {
        let node = &self.nodes[node];
        let group = place(group);
        if node.given_up[group] { 0 } else { node.true_time(node.lease[group]) }
    }

    /// One line for a trace: of each node the roles of the groups and what is left of their leases.
    pub(super) fn line(&self) -> String {
        let node = |node: &NodeWorld| {
            let state = match (&node.machine, node.frozen) {
                (None, _) => "crashed",
                (Some(_), true) => "frozen",
                (Some(_), false) => "",
            };
            let group = |group: GroupId| {
                let role = node.machine.as_ref().map(|machine| machine.role(group));
                let lease = node.lease[place(group)].saturating_sub(node.clock(self.now));
                format!("{role:?} {lease:?}")
            };
            format!("{state}{:?} at {:?}", self.groups().map(group).collect::<Vec<_>>(), node.clock(self.now))
        };
        let nodes: Vec<_> = self.nodes.iter().map(node).collect();
        let excused = if self.is_excused() { " (excused)" } else { "" };
        format!("tick {:4}: {}{excused}", self.tick, nodes.join(" | "))
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..=u32::MAX).map(GroupId).take(self.nodes[0].lease.len())
    }

    /// Only the second promise counts from here on.
    pub(super) fn excuse_moments(&mut self) {
        self.excused_until = u32::MAX;
    }

    pub(super) fn is_excused(&self) -> bool {
        self.tick <= self.excused_until
    }

    pub(super) fn acquired(&self) -> u32 {
        self.nodes.iter().map(|node| node.acquired).sum()
    }

    /// What was broken first.
    pub(super) fn check(&self) -> Result<(), String> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// One node is active for each group, the others stand by, nothing is under way.
    pub(super) fn is_settled(&self) -> bool {
        let roles = |group| self.nodes.iter().map(move |node| node.machine.as_ref().map(|m| m.role(group)));
        self.groups().all(|group| {
            let active = roles(group).filter(|role| *role == Some(Role::Active)).count();
            let standby = roles(group).filter(|role| *role == Some(Role::Standby)).count();
            self.actives(group).len() == 1 && active == 1 && active + standby == self.nodes.len()
        })
    }
}

impl NodeWorld {
    /// What the node's clock shows at a true time.
    fn clock(&self, now: u64) -> Duration {
        self.offset + Duration::from_nanos(now * self.rate)
    }

    /// When its clock shows that, rounded up.
    fn true_time(&self, clock: Duration) -> u64 {
        let passed = clock.saturating_sub(self.offset).as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX).div_ceil(self.rate)
    }

    fn runs(&self) -> bool {
        self.machine.is_some() && !self.frozen
    }

    /// The true time of the next timer or the end of the next piece of work.
    fn next_event(&self) -> Option<u64> {
        let timer = self.true_time(self.machine.as_ref()?.next_timeout()?);
        self.work.iter().map(|(due, _)| *due).chain([timer]).min()
    }
}

/// Sees a cluster through that has no faults any more: someone active after so many ticks, exactly
/// one, few moves, then none for longer than any delay that is set here.
pub(super) fn comes_to_rest(mut world: World, soon: u32) -> Result<(), String> {
    const REST: u32 = 240;
    const STILL: u32 = 16;
    const MOVES: u32 = 4;
    let before = world.acquired();
    let groups = world.groups().count();
    let mut still = 0;
    for tick in 0..REST {
        let moves = world.acquired();
        world.step();
        world.check()?;
        if tick == soon && world.groups().any(|group| world.actives(group).is_empty()) {
            return Err(format!("nobody is active {soon} ticks after the last fault"));
        }
        if world.acquired() > before + MOVES * u32::try_from(groups).unwrap() {
            return Err(format!("{} take-overs after the last fault", world.acquired() - before));
        }
        still = if world.is_settled() && world.acquired() == moves { still + 1 } else { 0 };
        if still == STILL {
            return Ok(());
        }
    }
    Err(format!("no rest {REST} ticks after the last fault"))
}

/// Everyone up, and the preferred node active.
pub(super) fn put_to_work(mut world: World) -> World {
    for _ in 0..30 {
        world.step();
        world.check().unwrap();
    }
    assert_eq!(world.actives(GROUP), [0], "{world:#?}");
    world
}

/// All paths were cut until everyone was active, and still are.
pub(super) fn split(mut world: World) -> World {
    world.strike(Fault::CutAll);
    while world.actives(GROUP).len() < world.nodes.len() {
        world.step();
        world.check().unwrap();
    }
    world
}

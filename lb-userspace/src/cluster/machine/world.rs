//! A small world for the machines of a cluster: paths, clocks, executors and data paths, and the faults of all of them.
//!
//! True time goes in ticks of one heartbeat interval. In each tick a node first gets what arrived, then runs its timers
//! at their exact times on its own clock, which may be fast or slow. A message takes one tick over the first path, two
//! over the second, and so on; a node that is frozen finds its messages after its timer, the worst order.

use std::time::Duration;

use super::*;

pub const INTERVAL: Duration = Duration::from_millis(10);
pub const DEAD: Duration = Duration::from_millis(40);
pub const PATHS: usize = 2;
pub const GROUP: GroupId = GroupId(0);

/// Consecutive ticks without a message that make a partition in the sense of the safety property.
///
/// The lease allows for one lost interval; see the machine's documentation for more than that.
pub const CUT_TICKS: u32 = 2;
/// How long after a partition its two actives may still be seen.
pub const HEALING_TICKS: u32 = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    Crash(usize),
    Freeze(usize),
    /// All paths from the first to the second, this way only.
    CutOneWay(usize, usize),
    /// All paths of all nodes.
    CutAll,
    CutPath(usize),
    /// What the node sends in this tick is lost on all paths.
    Lose(usize),
    /// What it sends in this tick arrives three ticks later, after what it sends next.
    Delay(usize),
    /// What it sends in this tick arrives again five ticks later.
    Repeat(usize),
    LinkDown(usize),
    DataPathDown(usize),
    /// Neither reference hosts nor servers are reached.
    CutOff(usize),
    TakeoverFails(usize),
    Command(usize, Command),
    // Ends of faults.
    Restart(usize),
    Thaw(usize),
    Heal,
    Mend(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub tick: u32,
    pub nodes: Vec<NodeWorld>,
    packets: Vec<Packet>,
    /// `cut[path]` holds pairs (from, to).
    cut: Vec<(usize, usize, usize)>,
    /// Consecutive ticks without a message, for each ordered pair.
    silence: Vec<u32>,
    /// Until when two actives are excused by a partition.
    excused_until: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeWorld {
    pub machine: Option<Machine>,
    pub settings: Settings,
    pub frozen: bool,
    /// The node's own clock, thousandths of true speed.
    rate: u32,
    clock: Duration,
    /// End of the lease in the data path, per group; outlives the controller.
    pub lease: Vec<Duration>,
    /// What the executor has to do, and when it is done; one task for each group.
    work: Vec<(u32, Input)>,
    work_ticks: u32,
    inbox: Vec<Heartbeat>,
    pub local: LocalReadiness,
    fails: bool,
    /// Sent in this tick: lost, late, repeated.
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
    due: u32,
    to: usize,
    message: Heartbeat,
}

/// How the nodes of a world differ in speed.
#[derive(Debug, Clone, Copy)]
pub struct Speeds {
    pub rates: [u32; 4],
    pub work_ticks: [u32; 4],
}

pub const READY: LocalReadiness = LocalReadiness { data_path: true, link: true, servers: 2, references: 1 };

pub fn settings(me: usize, nodes: usize, groups: usize) -> Settings {
    let id = |node: usize| NodeId(u8::try_from(node).unwrap());
    let mut settings = Settings::new(id(me), id(nodes).0, 1);
    settings.interval = INTERVAL;
    settings.dead = DEAD;
    settings.initial_dead = DEAD * 3 / 2;
    settings.lease = Settings::longest_lease(INTERVAL, DEAD);
    settings.late = DEAD / 2;
    settings.takeover = DEAD * 2;
    settings.retry = DEAD * 2;
    settings.give_way = DEAD;
    settings.references = 1;
    // Group 0 prefers node 0, 1, 2; group 1 node 1, 2, 0; and so on.
    let preference = |group| (0..nodes).map(|place| id((place + group) % nodes)).collect();
    let failback = Failback::Auto { delay: DEAD };
    settings.groups =
        (0..groups).map(|group| GroupSettings { preference: preference(group), failback }).collect();
    settings.check().unwrap();
    settings
}

impl World {
    /// All nodes start at once, at different places of their clocks.
    pub fn new(nodes: usize, groups: usize, speeds: Speeds) -> Self {
        let node = |me: usize| NodeWorld {
            machine: None,
            settings: settings(me, nodes, groups),
            frozen: false,
            rate: speeds.rates[me],
            clock: Duration::from_secs(100 + me as u64),
            lease: vec![Duration::ZERO; groups],
            work: Vec::new(),
            work_ticks: speeds.work_ticks[me],
            inbox: Vec::new(),
            local: READY,
            fails: false,
            fate: Fate::default(),
            acquired: 0,
        };
        let mut world = Self {
            tick: 0,
            nodes: (0..nodes).map(node).collect(),
            packets: Vec::new(),
            cut: Vec::new(),
            silence: vec![0; nodes * nodes],
            excused_until: 0,
        };
        (0..nodes).for_each(|node| world.start(node));
        world
    }

    fn start(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        state.machine = Some(Machine::new(state.settings.clone(), state.clock));
        let local = state.local;
        self.input(node, Input::Readiness(local));
    }

    /// Whether the fault would change anything.
    pub fn can(&self, fault: Fault) -> bool {
        let runs = |node: usize| self.nodes[node].machine.is_some() && !self.nodes[node].frozen;
        match fault {
            Fault::Crash(node) => self.nodes[node].machine.is_some(),
            Fault::Freeze(node)
            | Fault::Lose(node)
            | Fault::Delay(node)
            | Fault::Repeat(node)
            | Fault::Command(node, _) => runs(node),
            Fault::TakeoverFails(node) => runs(node) && !self.nodes[node].fails,
            Fault::LinkDown(node) => self.nodes[node].local.link,
            Fault::DataPathDown(node) => self.nodes[node].local.data_path,
            Fault::CutOff(node) => self.nodes[node].local.references > 0,
            Fault::CutOneWay(..) | Fault::CutAll | Fault::CutPath(_) => self.cut.is_empty(),
            Fault::Restart(node) => self.nodes[node].machine.is_none(),
            Fault::Thaw(node) => self.nodes[node].frozen,
            Fault::Heal => !self.cut.is_empty(),
            Fault::Mend(node) => self.nodes[node].local != READY || self.nodes[node].fails,
        }
    }

    pub fn strike(&mut self, fault: Fault) {
        let count = self.nodes.len();
        match fault {
            Fault::Crash(node) => self.crash(node),
            Fault::Freeze(node) => self.nodes[node].frozen = true,
            Fault::CutOneWay(from, to) => self.cut.extend((0..PATHS).map(|path| (path, from, to))),
            Fault::CutAll => (0..PATHS).for_each(|path| self.cut_path(path, count)),
            Fault::CutPath(path) => self.cut_path(path, count),
            Fault::Lose(node) => self.nodes[node].fate.lost = true,
            Fault::Delay(node) => self.nodes[node].fate.delayed = true,
            Fault::Repeat(node) => self.nodes[node].fate.repeated = true,
            Fault::LinkDown(node) => self.change(node, |local| local.link = false),
            Fault::DataPathDown(node) => self.change(node, |local| local.data_path = false),
            Fault::CutOff(node) => self.change(node, |local| (local.references, local.servers) = (0, 0)),
            Fault::TakeoverFails(node) => self.nodes[node].fails = true,
            Fault::Command(node, command) => self.input(node, Input::Command(command)),
            Fault::Restart(node) => self.restart(node),
            Fault::Thaw(node) => self.thaw(node),
            Fault::Heal => self.cut.clear(),
            Fault::Mend(node) => {
                self.nodes[node].fails = false;
                self.change(node, |local| *local = READY);
            }
        }
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.cut.clear();
        for node in 0..self.nodes.len() {
            for end in [Fault::Restart(node), Fault::Thaw(node), Fault::Mend(node)] {
                if self.can(end) {
                    self.strike(end);
                }
            }
            self.input(node, Input::Command(Command::Resume));
            self.input(node, Input::Command(Command::Maintenance(false)));
        }
    }

    fn cut_path(&mut self, path: usize, count: usize) {
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        self.cut.extend(pairs.map(|(from, to)| (path, from, to)));
    }

    /// The controller is gone; kernel, data path and lease stay.
    fn crash(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        (node.machine, node.frozen, node.fails) = (None, false, false);
        node.work.clear();
        node.inbox.clear();
    }

    fn restart(&mut self, node: usize) {
        self.nodes[node].settings.session += 1;
        self.start(node);
    }

    /// The timer comes first, the messages that waited come after it.
    fn thaw(&mut self, node: usize) {
        self.nodes[node].frozen = false;
        self.input(node, Input::Timer);
        let local = self.nodes[node].local;
        for message in std::mem::take(&mut self.nodes[node].inbox) {
            self.input(node, Input::Heartbeat(message));
        }
        self.input(node, Input::Readiness(local));
    }

    fn change(&mut self, node: usize, change: impl FnOnce(&mut LocalReadiness)) {
        change(&mut self.nodes[node].local);
        let local = self.nodes[node].local;
        self.input(node, Input::Readiness(local));
    }

    /// One tick of true time.
    pub fn step(&mut self) {
        self.tick += 1;
        self.deliver();
        for node in 0..self.nodes.len() {
            self.run(node);
        }
        self.measure_silence();
        self.nodes.iter_mut().for_each(|node| node.fate = Fate::default());
    }

    fn deliver(&mut self) {
        let tick = self.tick;
        let (due, later) =
            std::mem::take(&mut self.packets).into_iter().partition(|packet| packet.due <= tick);
        self.packets = later;
        let due: Vec<Packet> = due;
        for Packet { to, message, .. } in due {
            if self.nodes[to].frozen {
                self.nodes[to].inbox.push(message);
            } else {
                self.input(to, Input::Heartbeat(message));
            }
        }
    }

    /// The executor, then the timers up to the end of the tick.
    fn run(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let end = state.clock + INTERVAL * state.rate / 1000;
        if state.machine.is_some() && !state.frozen {
            self.finish_work(node);
            while let Some(timeout) = self.nodes[node].machine.as_ref().and_then(Machine::next_timeout) {
                if timeout > end {
                    break;
                }
                self.nodes[node].clock = self.nodes[node].clock.max(timeout);
                self.input(node, Input::Timer);
            }
        }
        self.nodes[node].clock = end;
    }

    fn finish_work(&mut self, node: usize) {
        let tick = self.tick;
        let work = std::mem::take(&mut self.nodes[node].work);
        let (due, later) = work.into_iter().partition(|(due, _)| *due <= tick);
        self.nodes[node].work = later;
        let due: Vec<(u32, Input)> = due;
        for (_, done) in due {
            if let Input::ReleaseDone { group } = &done {
                self.nodes[node].lease[usize::from(group.0)] = Duration::ZERO;
            }
            self.input(node, done);
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        let state = &mut self.nodes[node];
        let Some(machine) = state.machine.as_mut().filter(|_| !state.frozen) else { return };
        for output in machine.handle(input, state.clock) {
            self.carry_out(node, output);
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        let due = self.tick + self.nodes[node].work_ticks;
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
            }
            Output::RenewLease { group, until } => state.lease[usize::from(group.0)] = until,
            Output::Announce { .. } | Output::LeaseLost | Output::Event(_) => {}
        }
    }

    fn send(&mut self, from: usize, message: &Heartbeat) {
        let Fate { lost, delayed, repeated } = self.nodes[from].fate;
        let others = (0..self.nodes.len()).filter(|&to| to != from && !lost);
        for to in others {
            for path in (0..PATHS).filter(|&path| !self.cut.contains(&(path, from, to))) {
                let due = self.tick + 1 + u32::try_from(path).unwrap();
                let first = due + if delayed { 3 } else { 0 };
                self.packets.push(Packet { due: first, to, message: message.clone() });
                if repeated {
                    self.packets.push(Packet { due: due + 5, to, message: message.clone() });
                }
            }
        }
    }

    /// A node that does not run sends nothing, but what it sent last may have been lost: the count stands still.
    fn measure_silence(&mut self) {
        let count = self.nodes.len();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            let node = &self.nodes[from];
            if from == to || node.machine.is_none() || node.frozen {
                continue;
            }
            let cut = (0..PATHS).all(|path| self.cut.contains(&(path, from, to)));
            let silence = &mut self.silence[from * count + to];
            *silence = if cut || node.fate.lost || node.fate.delayed { *silence + 1 } else { 0 };
        }
        if self.silence.iter().any(|&silence| silence >= CUT_TICKS) {
            self.excused_until = self.tick + HEALING_TICKS;
        }
    }

    /// The nodes whose data path is active for the group.
    pub fn actives(&self, group: GroupId) -> Vec<usize> {
        let active = |node: &NodeWorld| node.lease[usize::from(group.0)] > node.clock;
        (0..self.nodes.len()).filter(|&node| active(&self.nodes[node])).collect()
    }

    pub fn is_excused(&self) -> bool {
        self.tick <= self.excused_until
    }

    pub fn acquired(&self) -> u32 {
        self.nodes.iter().map(|node| node.acquired).sum()
    }

    /// What must be true at the end of each tick.
    pub fn check(&self) -> Result<(), String> {
        for group in (0..self.nodes[0].lease.len()).map(|group| GroupId(u8::try_from(group).unwrap())) {
            let actives = self.actives(group);
            if actives.len() > 1 && !self.is_excused() {
                return Err(format!("two are active for {group:?}: {actives:?}"));
            }
            for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.frozen) {
                let role = node.machine.as_ref().map(|machine| machine.role(group));
                let fit = node.local.link && node.local.data_path;
                if !fit && matches!(role, Some(Role::Acquiring | Role::Active)) {
                    return Err(format!("node {index} cannot serve {group:?} and is {role:?}"));
                }
            }
        }
        Ok(())
    }

    /// One node is active for each group, the others stand by, nothing is under way.
    pub fn is_settled(&self) -> bool {
        let groups = (0..self.nodes[0].lease.len()).map(|group| GroupId(u8::try_from(group).unwrap()));
        let roles = |group| self.nodes.iter().map(move |node| node.machine.as_ref().map(|m| m.role(group)));
        groups.clone().all(|group| {
            let active = roles(group).filter(|role| *role == Some(Role::Active)).count();
            let standby = roles(group).filter(|role| *role == Some(Role::Standby)).count();
            self.actives(group).len() == 1 && active == 1 && active + standby == self.nodes.len()
        })
    }
}

/// Ends all faults and sees the cluster through: someone active soon, exactly one, few moves, then none at all.
pub fn comes_to_rest(mut world: World) -> Result<(), String> {
    const SOON: u32 = 40;
    const REST: u32 = 120;
    const STILL: u32 = 40;
    const MOVES: u32 = 4;
    world.heal();
    let before = world.acquired();
    let groups = world.nodes[0].lease.len();
    for tick in 0..REST {
        world.step();
        world.check()?;
        let all = (0..groups).all(|group| !world.actives(GroupId(u8::try_from(group).unwrap())).is_empty());
        if tick == SOON && !all {
            return Err(format!("nobody is active {SOON} ticks after the last fault: {world:#?}"));
        }
    }
    let moves = world.acquired() - before;
    if moves > MOVES * u32::try_from(groups).unwrap() {
        return Err(format!("{moves} take-overs after the last fault"));
    }
    for _ in 0..STILL {
        world.step();
        world.check()?;
        if !world.is_settled() || world.acquired() != before + moves {
            return Err(format!("no rest {REST} ticks after the last fault: {world:#?}"));
        }
    }
    Ok(())
}

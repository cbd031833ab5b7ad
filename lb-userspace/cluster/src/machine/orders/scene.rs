//! Directors on one segment, in simulated time: heartbeats that take their time, VIPs that are
//! announced, watches that read announcements one after the other, and operators.
//!
//! Settings are the defaults: heartbeats every 50 ms, dead after 200 ms. A director is an owner of
//! the group while its lease runs and it was not told to release the group.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::super::message::Role;
use super::super::*;
use super::plot::{Act, Delays, Plot, ms};

pub(super) const GROUP: GroupId = GroupId(0);
/// As `lb_net::segment::watch` has them: how long a watch rests after a claim, and after a
/// reaction.
const PACE: Duration = ms(20);
const DEFENCE: Duration = ms(500);
/// When a VIP is announced after it was taken, and then every five seconds, as `takeover::bursts`
/// has it.
const BURST: [u64; 6] = [0, 0, 100, 300, 1000, 2000];
const REFRESH: Duration = ms(5000);
/// A frame's way.
const WIRE: Duration = Duration::from_micros(100);
/// How long a stop waits for the release.
const STOP: Duration = ms(3000);

#[derive(Debug, Clone)]
enum Happening {
    Heartbeat(Heartbeat),
    /// A piece of work is done.
    Done(u64, Input),
    Announce {
        burst: u64,
        round: usize,
    },
    /// The watch reads.
    Read,
    Act(Act),
    Thaw,
    Stopped {
        since: Duration,
    },
}

/// What would reach an operator as an event or a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Event(Event),
    VipClaimed { by: usize },
}

struct Director {
    settings: Settings,
    machine: Option<Machine>,
    frozen: bool,
    local: LocalReadiness,
    lease: Duration,
    /// Told to hold the group, and not yet to release it.
    entitled: bool,
    work: u64,
    burst: u64,
    on_interface: bool,
    /// Heartbeats that wait in the kernel, and since when.
    inbox: Vec<(Duration, Heartbeat)>,
    /// Announcements of others that wait in the watch's socket, and since when.
    claims: VecDeque<(Duration, usize)>,
    reads: bool,
    defended: Option<Duration>,
    /// By an operator's order: standby or a stop, maintenance.
    out: [bool; 2],
}

pub(super) struct Scene {
    plot: Plot,
    pub now: Duration,
    directors: Vec<Director>,
    agenda: BTreeMap<(Duration, u64), (usize, Happening)>,
    count: u64,
    dice: u64,
    pub told: Vec<(Duration, usize, Told)>,
    /// How long two owned the group, altogether.
    pub overlap: Duration,
    /// The longest time for which nobody did, though somebody could have.
    pub longest_gap: Duration,
    gap: Duration,
    pub moves: u32,
}

impl Scene {
    /// All have started, and the first director has the group.
    pub(super) fn new(plot: Plot) -> Self {
        let mut scene = Self {
            plot,
            now: Duration::from_secs(1000),
            directors: (0..plot.directors).map(|me| Director::new(me, plot)).collect(),
            agenda: BTreeMap::new(),
            count: 0,
            dice: plot.delays.seed,
            told: Vec::new(),
            overlap: Duration::ZERO,
            longest_gap: Duration::ZERO,
            gap: Duration::ZERO,
            moves: 0,
        };
        (0..plot.directors).for_each(|node| scene.start(node));
        scene.run(ms(12_000));
        assert_eq!(scene.owners(), [0], "{plot:?}");
        scene.told.clear();
        (scene.overlap, scene.longest_gap, scene.moves) = (Duration::ZERO, Duration::ZERO, 0);
        scene
    }

    /// An order that is given in so much time.
    pub(super) fn at(&mut self, millis: u64, node: usize, act: Act) {
        self.later(ms(millis), node, Happening::Act(act));
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, due)) = self.next().filter(|(at, _)| *at <= end) {
            self.pass_time(at);
            match due {
                None => self.timers(),
                Some(key) => {
                    let (node, what) = self.agenda.remove(&key).expect("it is on the agenda");
                    self.happens(node, what);
                }
            }
        }
        self.pass_time(end);
    }

    fn next(&self) -> Option<(Duration, Option<(Duration, u64)>)> {
        let timers = self.directors.iter().filter(|director| !director.frozen);
        let timers = timers.filter_map(|director| director.machine.as_ref()?.next_timeout());
        let timer = timers.min().map(|at| (at.max(self.now), None));
        let first = self.agenda.keys().next().map(|key| (key.0, Some(*key)));
        [first, timer].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Until then nothing happens, but leases may run out.
    fn pass_time(&mut self, until: Duration) {
        let mut ends: Vec<Duration> = self.directors.iter().map(|director| director.lease).collect();
        ends.retain(|end| (self.now..until).contains(end));
        ends.push(until);
        ends.sort_unstable();
        for end in ends {
            let (passed, owners) = (end - self.now, self.owners().len());
            if owners > 1 {
                self.overlap += passed;
            }
            let served = owners > 0 || !self.directors.iter().any(Director::could);
            self.gap = if served { Duration::ZERO } else { self.gap + passed };
            self.longest_gap = self.longest_gap.max(self.gap);
            self.now = end;
        }
    }

    pub(super) fn owners(&self) -> Vec<usize> {
        let owns = |director: &Director| director.entitled && director.lease > self.now;
        (0..self.directors.len()).filter(|node| owns(&self.directors[*node])).collect()
    }

    /// Events of two that are active, and findings of a VIP that somebody else claims.
    pub(super) fn alarms(&self) -> Vec<&(Duration, usize, Told)> {
        let alarm =
            |told: &Told| matches!(told, Told::VipClaimed { .. } | Told::Event(Event::SplitBrain { .. }));
        self.told.iter().filter(|(.., told)| alarm(told)).collect()
    }

    fn later(&mut self, time: Duration, node: usize, what: Happening) {
        self.count += 1;
        self.agenda.insert((self.now + time, self.count), (node, what));
    }

    fn timers(&mut self) {
        for node in 0..self.directors.len() {
            let timer = self.directors[node].machine.as_ref().and_then(Machine::next_timeout);
            if timer.is_some_and(|at| at <= self.now) {
                self.input(node, Input::Timer);
            }
        }
    }

    fn happens(&mut self, node: usize, what: Happening) {
        match what {
            Happening::Heartbeat(message) => {
                self.directors[node].inbox.push((self.now, message));
                self.read_heartbeats(node);
            }
            Happening::Done(work, input) => {
                if self.directors[node].work == work {
                    self.done(node, input);
                }
            }
            Happening::Announce { burst, round } => self.announce(node, burst, round),
            Happening::Read => self.read(node),
            Happening::Act(act) => self.act(node, act),
            Happening::Thaw => {
                self.directors[node].frozen = false;
                self.read_heartbeats(node);
                self.input(node, Input::Timer);
                self.wake_watch(node);
            }
            Happening::Stopped { since } => self.stop(node, since),
        }
    }

    fn read_heartbeats(&mut self, node: usize) {
        if self.directors[node].frozen {
            return;
        }
        for (at, message) in std::mem::take(&mut self.directors[node].inbox) {
            let age = self.now - at;
            self.input(node, Input::LateHeartbeat { message, age });
        }
    }

    fn done(&mut self, node: usize, input: Input) {
        let director = &mut self.directors[node];
        if matches!(input, Input::TakeoverDone { .. }) {
            director.on_interface = true;
            self.moves += 1;
            self.begin_burst(node);
        }
        self.input(node, input);
    }

    fn begin_burst(&mut self, node: usize) {
        self.directors[node].burst += 1;
        let burst = self.directors[node].burst;
        self.announce(node, burst, 0);
    }

    /// One round of a burst, and the agenda has the next.
    fn announce(&mut self, node: usize, burst: u64, round: usize) {
        let (vips, now) = (self.plot.vips, self.now);
        let director = &self.directors[node];
        if director.burst != burst || !director.on_interface {
            return;
        }
        if !director.frozen && director.lease > now {
            for other in (0..self.directors.len()).filter(|other| *other != node) {
                let arrives = now + WIRE;
                self.directors[other].claims.extend((0..vips).map(|_| (arrives, node)));
                self.wake_watch(other);
            }
        }
        let next = match (BURST.get(round), BURST.get(round + 1)) {
            (Some(this), Some(next)) => ms(next - this),
            _ => REFRESH,
        };
        self.later(next, node, Happening::Announce { burst, round: round + 1 });
    }

    fn wake_watch(&mut self, node: usize) {
        let director = &mut self.directors[node];
        if !director.reads && !director.claims.is_empty() {
            director.reads = true;
            let late = WIRE + self.plot.watch_late;
            self.later(late, node, Happening::Read);
        }
    }

    /// The watch judges one claim, and rests.
    fn read(&mut self, node: usize) {
        let now = self.now;
        let director = &mut self.directors[node];
        if director.frozen || director.machine.is_none() {
            director.reads = false;
            return;
        }
        let Some((heard, by)) = director.claims.pop_front() else {
            director.reads = false;
            return;
        };
        let recent = director.defended.is_some_and(|then| now < then + DEFENCE);
        let counts = director.machine.as_ref().is_some_and(|machine| heard >= machine.disputed_from(GROUP));
        let holds = director.entitled && director.lease > now && counts;
        if !recent {
            director.defended = Some(now);
        }
        if holds {
            self.told.push((now, node, Told::VipClaimed { by }));
        }
        if !recent {
            let rival = Some(self.directors[by].settings.me);
            self.input(node, Input::Conflict { group: GROUP, rival, came: heard });
        }
        self.later(PACE, node, Happening::Read);
    }

    fn act(&mut self, node: usize, act: Act) {
        let command = match act {
            Act::Failover => Command::Failover(GROUP),
            Act::Failback => Command::Failback(GROUP),
            Act::Standby if self.may_leave(node) => Command::Standby,
            Act::Maintenance(true) if self.may_leave(node) => Command::Maintenance(true),
            Act::Standby | Act::Maintenance(true) => return,
            Act::Resume => Command::Resume,
            Act::Maintenance(false) => Command::Maintenance(false),
            Act::Forget | Act::Learn => return self.reload(node, act == Act::Learn),
            Act::Stop => return self.begin_stop(node),
            Act::Kill => return self.kill(node),
            Act::Start => {
                if self.directors[node].machine.is_none() {
                    self.directors[node].settings.session += 1;
                    self.start(node);
                }
                return;
            }
            Act::Freeze(_) if !self.directors[node].runs() => return,
            Act::Freeze(millis) => {
                self.directors[node].frozen = true;
                return self.later(ms(millis), node, Happening::Thaw);
            }
            Act::Behind(on) => return self.catch_up(node, on),
        };
        let Some(director) = self.directors.get_mut(node).filter(|director| director.runs()) else { return };
        match command {
            Command::Standby | Command::Resume => director.out[0] = command == Command::Standby,
            Command::Maintenance(on) => {
                director.out[1] = on;
                // The driver remembers it.
                director.settings.maintenance = on;
            }
            Command::Failover(_) | Command::Failback(_) => {}
        }
        self.input(node, Input::Command(command));
    }

    /// As the controller has it: not if nobody would have the group then.
    fn may_leave(&self, node: usize) -> bool {
        let Some(machine) = &self.directors[node].machine else { return false };
        let has_it = matches!(machine.role(GROUP), Role::Active | Role::Acquiring);
        !has_it || machine.node.living().any(|peer| peer.waits(GROUP))
    }

    fn reload(&mut self, node: usize, learns: bool) {
        let director = &mut self.directors[node];
        if !director.runs() {
            return;
        }
        director.settings.groups = if learns { groups(self.plot) } else { Vec::new() };
        let Settings { config_digest, takeover, ref groups, .. } = director.settings;
        let change = Change { config_digest, takeover, groups: groups.clone() };
        self.input(node, Input::Changed(change));
    }

    /// The others know that the director has to learn, and so does it.
    fn catch_up(&mut self, node: usize, on: bool) {
        for other in 0..self.directors.len() {
            let local = &mut self.directors[other].local;
            let bits = if on { u16::MAX } else { 0 };
            if other == node {
                local.unlearned = bits;
            } else {
                local.behind = bits & (1 << node);
            }
            let local = *local;
            self.input(other, Input::Readiness(local));
        }
    }

    fn begin_stop(&mut self, node: usize) {
        if self.directors[node].runs() {
            self.directors[node].out[0] = true;
            self.input(node, Input::Command(Command::Standby));
            self.stop(node, self.now);
        }
    }

    fn stop(&mut self, node: usize, since: Duration) {
        let Some(machine) = &self.directors[node].machine else { return };
        if machine.is_idle() || self.now - since >= STOP {
            return self.kill(node);
        }
        self.later(PACE, node, Happening::Stopped { since });
    }

    /// The process is gone, and the program with its lease stays.
    fn kill(&mut self, node: usize) {
        let director = &mut self.directors[node];
        (director.machine, director.frozen, director.reads) = (None, false, false);
        (director.work, director.burst) = (director.work + 1, director.burst + 1);
        director.on_interface = false;
        director.inbox.clear();
        director.claims.clear();
    }

    fn start(&mut self, node: usize) {
        let director = &mut self.directors[node];
        director.out[0] = false;
        director.machine = Some(Machine::new(director.settings.clone(), self.now));
        let local = director.local;
        self.input(node, Input::Readiness(local));
    }

    fn input(&mut self, node: usize, input: Input) {
        let director = &mut self.directors[node];
        let Some(machine) = director.machine.as_mut().filter(|_| !director.frozen) else { return };
        for output in machine.handle(input, self.now) {
            self.carry_out(node, output);
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        let director = &mut self.directors[node];
        match output {
            Output::Send(message) => self.send(node, &message),
            Output::Acquire { group, .. } => self.work(node, Input::TakeoverDone { group }),
            Output::Release { group, .. } => {
                (director.entitled, director.on_interface) = (false, false);
                director.burst += 1;
                self.work(node, Input::ReleaseDone { group });
            }
            Output::RenewLease { until, .. } => (director.lease, director.entitled) = (until, true),
            Output::Announce { .. } => self.begin_burst(node),
            Output::PauseAnnouncements { .. } => director.burst += 1,
            Output::LeaseLost => {}
            Output::Event(event) => self.told.push((self.now, node, Told::Event(event))),
        }
    }

    fn work(&mut self, node: usize, done: Input) {
        self.directors[node].work += 1;
        let work = self.directors[node].work;
        self.later(self.plot.work, node, Happening::Done(work, done));
    }

    fn send(&mut self, from: usize, message: &Heartbeat) {
        for to in (0..self.directors.len()).filter(|to| *to != from) {
            let delay = self.delay();
            self.later(delay, to, Happening::Heartbeat(message.clone()));
        }
    }

    fn delay(&mut self) -> Duration {
        let Delays { least, spread, .. } = self.plot.delays;
        self.dice = self.dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let part = u32::try_from(self.dice >> 40).expect("24 bits");
        WIRE + least + spread * part / (1 << 24)
    }
}

impl Director {
    fn new(me: usize, plot: Plot) -> Self {
        let id = |node: usize| u8::try_from(node).expect("few nodes");
        let mut settings = Settings::new(NodeId(id(me)), id(plot.directors), 1);
        settings.groups = groups(plot);
        settings.references = 1;
        settings.check().expect("settings that make sense");
        let local =
            LocalReadiness { data_path: true, link: true, servers: 2, references: 1, ..Default::default() };
        Self {
            settings,
            machine: None,
            frozen: false,
            local,
            lease: Duration::ZERO,
            entitled: false,
            work: 0,
            burst: 0,
            on_interface: false,
            inbox: Vec::new(),
            claims: VecDeque::new(),
            reads: false,
            defended: None,
            out: [false; 2],
        }
    }

    const fn runs(&self) -> bool {
        self.machine.is_some() && !self.frozen
    }

    /// Nobody has ordered it out, and it runs.
    fn could(&self) -> bool {
        self.runs() && self.out == [false; 2] && !self.settings.groups.is_empty()
    }
}

fn groups(plot: Plot) -> Vec<GroupSettings> {
    let preference = (0..=u8::MAX).map(NodeId).take(plot.directors).collect();
    vec![GroupSettings { id: GROUP, preference, failback: plot.failback, anycast: None }]
}

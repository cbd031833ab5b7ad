//! Which fault when, to whom, for how long: drawn from a seed, and the same for the same seed.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Ha1,
    Ha2,
}

impl Who {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ha1 => "ha1",
            Self::Ha2 => "ha2",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Ha1 => Self::Ha2,
            Self::Ha2 => Self::Ha1,
        }
    }
}

/// The first or the second web server.
pub type Server = usize;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SIGKILL; later it starts again.
    Kill(Who),
    /// SIGKILL and its cable out; it comes back as a machine that knows nothing.
    PowerLoss(Who),
    /// SIGTERM, as of an upgrade: the program stays, and the next `lb` goes on with it.
    Restart(Who),
    /// As [`Self::Restart`], and what starts is another build of `lb`: one of two, by turns.
    Upgrade(Who),
    /// As [`Self::Restart`], and meanwhile its state files become garbage.
    CorruptedState(Who),
    /// SIGSTOP; later it goes on.
    Freeze(Who),
    /// Its interface to clients and servers loses its carrier, so many times.
    LinkFlap(Who, u8),
    /// Heartbeats are lost on one of the two paths.
    OnePath { clients: bool },
    /// This director hears no heartbeats; the other one does.
    OneWay(Who),
    /// Neither hears the other: both hold the VIP.
    Partition,
    /// The server's process dies with all its connections, and comes back.
    ServerCrash(Server),
    /// The wall clock jumps by so many seconds, and later back.
    Clock(Who, i64),
    /// No byte can be written to its state folder.
    FullDisk(Who),
    /// The kernel refuses its changes of maps: bpf(2) returns ENOMEM.
    MapUpdates(Who),
}

/// A fault and how long it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub lasts: Duration,
}

/// One fault, or two at the same time, after a pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    pub pause: Duration,
    pub main: Fault,
    /// One that takes nobody out of service.
    pub beside: Option<Fault>,
}

/// Episodes without end. Each kind of fault comes once before any comes again.
pub struct Schedule {
    random: Rng,
    waiting: Vec<u8>,
}

/// How many kinds there are.
const KINDS: u8 = 14;
/// Milliseconds by which a server's checks, one each half a second, have noticed on a busy machine.
const SERVER_IS_MISSED: u64 = 1500;
/// Those that take no director out of service.
const MILD: [u8; 5] = [6, 9, 10, 11, 12];

impl Schedule {
    pub fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed), waiting: Vec::new() }
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.u64(range))
    }

    fn fault(&mut self, number: u8, who: Who) -> Fault {
        let server = self.random.usize(0..2);
        let flaps = self.random.u8(1..4);
        let seconds = *self.random.choice([-86_400, -3600, -5, 5, 3600, 86_400].iter()).unwrap_or(&5);
        let clients = self.random.bool();
        let (kind, range) = match number {
            0 => (Kind::Kill(who), 0..4000),
            1 => (Kind::PowerLoss(who), 1000..4000),
            2 => (Kind::Restart(who), 0..2000),
            3 => (Kind::CorruptedState(who), 0..2000),
            // Some are over before anybody takes it for dead.
            4 => (Kind::Freeze(who), 100..4000),
            5 => (Kind::LinkFlap(who, flaps), 300..3000),
            6 => (Kind::OnePath { clients }, 1000..4000),
            7 => (Kind::OneWay(who), 1000..4000),
            8 => (Kind::Partition, 1500..4000),
            // The checks notice it, which is told.
            9 => (Kind::ServerCrash(server), SERVER_IS_MISSED..4000),
            10 => (Kind::Clock(who, seconds), 1500..4000),
            11 => (Kind::FullDisk(who), 1000..4000),
            12 => (Kind::MapUpdates(who), 500..3000),
            _ => (Kind::Upgrade(who), 0..2000),
        };
        Fault { kind, lasts: self.millis(range) }
    }
}

impl Iterator for Schedule {
    type Item = Episode;

    fn next(&mut self) -> Option<Episode> {
        if self.waiting.is_empty() {
            self.waiting = (0..KINDS).collect();
            self.random.shuffle(&mut self.waiting);
        }
        let number = self.waiting.pop()?;
        // The active one more often than the other.
        let who = if self.random.u8(0..3) < 2 { Who::Ha1 } else { Who::Ha2 };
        let pause = self.millis(200..1500);
        let main = self.fault(number, who);
        let mild = MILD[self.random.usize(0..MILD.len())];
        // To the other one: this one may not be there.
        let beside = self.fault(mild, who.other());
        // One of the other kinds ends with the first fault.
        let lasts = match beside.kind {
            Kind::ServerCrash(_) => main.lasts.max(Duration::from_millis(SERVER_IS_MISSED)),
            _ => main.lasts,
        };
        let beside = Fault { lasts, ..beside };
        let beside = (self.random.u8(0..3) == 0 && mild != number).then_some(beside);
        Some(Episode { pause, main, beside })
    }
}

impl Kind {
    /// For counting: without to whom.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::PowerLoss(_) => "power loss",
            Self::Restart(_) => "restart",
            Self::Upgrade(_) => "upgrade",
            Self::CorruptedState(_) => "corrupted state",
            Self::Freeze(_) => "freeze",
            Self::LinkFlap(..) => "link flap",
            Self::OnePath { .. } => "loss on one path",
            Self::OneWay(_) => "one-way loss",
            Self::Partition => "partition",
            Self::ServerCrash(_) => "server crash",
            Self::Clock(..) => "clock jump",
            Self::FullDisk(_) => "full disk",
            Self::MapUpdates(_) => "failing map updates",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.name())?;
        match self.kind {
            Kind::Kill(who)
            | Kind::PowerLoss(who)
            | Kind::Restart(who)
            | Kind::Upgrade(who)
            | Kind::CorruptedState(who)
            | Kind::Freeze(who)
            | Kind::OneWay(who)
            | Kind::FullDisk(who)
            | Kind::MapUpdates(who) => write!(f, " of {}", who.name())?,
            Kind::LinkFlap(who, flaps) => write!(f, " of {}, {flaps} times", who.name())?,
            Kind::OnePath { clients } => write!(f, " ({})", if clients { "eth0" } else { "eth1" })?,
            Kind::ServerCrash(server) => write!(f, " of www{}", server + 1)?,
            Kind::Clock(who, seconds) => write!(f, " of {} by {seconds} s", who.name())?,
            Kind::Partition => {}
        }
        write!(f, " for {:.1} s", self.lasts.as_secs_f64())
    }
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.main)?;
        if let Some(beside) = &self.beside {
            write!(f, ", with {beside}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::workspace;

    #[test]
    fn the_same_seed_makes_the_same_schedule_and_another_one_another() {
        let episodes = |seed| -> Vec<Episode> { Schedule::new(seed).take(100).collect() };
        assert_eq!(episodes(7), episodes(7));
        assert_ne!(episodes(7), episodes(8));
    }

    #[test]
    fn every_kind_comes_once_before_any_comes_again() {
        let kinds = |episodes: &[Episode]| -> BTreeSet<&str> {
            episodes.iter().map(|episode| episode.main.kind.name()).collect()
        };
        let episodes: Vec<Episode> = Schedule::new(1).take(2 * usize::from(KINDS)).collect();
        let (first, second) = episodes.split_at(usize::from(KINDS));
        assert_eq!(kinds(first).len(), usize::from(KINDS));
        assert_eq!(kinds(first), kinds(second));
    }

    #[test]
    fn every_kind_stands_in_the_guide_for_contributors() {
        let guide = std::fs::read_to_string(workspace::root().join("CONTRIBUTING.md")).expect("the guide");
        let row = guide.lines().find(|line| line.starts_with("| a fault of chaos |")).expect("a row");
        for episode in Schedule::new(1).take(usize::from(KINDS)) {
            let name = episode.main.kind.name();
            assert!(row.contains(&format!("{name} (")), "{name} is not in: {row}");
        }
    }

    #[test]
    fn clocks_jump_both_ways() {
        let kinds = Schedule::new(1).take(500).map(|episode| episode.main.kind);
        let jumps = kinds.filter_map(|kind| match kind {
            Kind::Clock(_, seconds) => Some(seconds.signum()),
            _ => None,
        });
        assert_eq!(jumps.collect::<BTreeSet<i64>>(), BTreeSet::from([-1, 1]));
    }

    #[test]
    fn a_server_is_away_until_its_checks_have_noticed() {
        let all = Schedule::new(5).take(500).flat_map(|episode| [Some(episode.main), episode.beside]);
        let mut crashes = all.flatten().filter(|fault| matches!(fault.kind, Kind::ServerCrash(_)));
        assert!(crashes.all(|fault| fault.lasts >= Duration::from_millis(SERVER_IS_MISSED)));
    }

    #[test]
    fn what_comes_beside_takes_no_director_out() {
        let beside = Schedule::new(3).take(500).filter_map(|episode| episode.beside);
        for fault in beside {
            let mild = matches!(
                fault.kind,
                Kind::OnePath { .. }
                    | Kind::ServerCrash(_)
                    | Kind::Clock(..)
                    | Kind::FullDisk(_)
                    | Kind::MapUpdates(_)
            );
            assert!(mild, "{fault}");
        }
    }
}

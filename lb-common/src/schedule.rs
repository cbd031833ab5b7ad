//! Schedulers, and the schedule from which a service picks the server of a new connection.
//!
//! The controller writes a [`Schedule`] per service; its lists stand in one map of words,
//! `SCHEDULE_WORDS`. The lists hold only servers that may take new connections, in configured
//! order:
//! - members: one word per server, see [`Member`]; for the schedulers with a tournament, which
//!   names them by position;
//! - levels: a full cycle of wrr is cut into runs of passes with equal membership, so that a cycle
//!   of any length needs at most one level per distinct weight. See [`Level`];
//! - buckets, in place of levels, for the schedulers that hash: see [`crate::schedule::buckets`].
//!
//! Source of the rules: the talk of December 2000 whose cluster the lab plays, and the IPVS
//! module's documentation (ipvsadm(8), section on schedulers).

pub mod buckets;
#[cfg(not(target_arch = "bpf"))]
pub mod compile;
#[cfg(not(target_arch = "bpf"))]
pub mod least;
pub mod tournament;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::server::{Counts, ServerId};

/// How a service picks the server of a new connection. In all of them equals are decided by the
/// configured order, and weight 0 takes nothing. An active connection weighs as much as 256
/// inactive ones: the *load* is `active * 256 + inactive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Scheduler {
    /// Round robin; weights other than 0 count as 1.
    Rr = 1,
    /// Weighted round robin: pass k = 1, 2, … takes every server with weight >= k.
    Wrr = 2,
    /// Least load.
    Lc = 3,
    /// Least `load / weight`.
    Wlc = 4,
    /// Shortest expected delay: least `(load + 256) / weight`, which is what it will be with one
    /// active connection more.
    Sed = 5,
    /// Never queue: an idle server, whose load is below one active connection, the one with the
    /// least load first; if there is none, sed.
    Nq = 6,
    /// Source hashing: by the client's bucket ([`crate::schedule::buckets`]).
    Sh = 7,
    /// Destination hashing: by the VIP's bucket.
    Dh = 8,
    /// Maglev hashing: by the client's bucket in a table that changes little when servers do.
    Mh = 9,
    /// Fail-over: the highest weight.
    Fo = 10,
    /// Overflow: the highest weight among servers with fewer active connections than their weight.
    Ovf = 11,
    /// Two choices: of two servers that are drawn by weight the one with the least `load / weight`.
    Twos = 12,
}

impl Scheduler {
    pub const ALL: [Self; 12] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Sed,
        Self::Nq,
        Self::Sh,
        Self::Dh,
        Self::Mh,
        Self::Fo,
        Self::Ovf,
        Self::Twos,
    ];

    /// The reverse of its number; `None` for one that this program does not know.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Rr),
            2 => Some(Self::Wrr),
            3 => Some(Self::Lc),
            4 => Some(Self::Wlc),
            5 => Some(Self::Sed),
            6 => Some(Self::Nq),
            7 => Some(Self::Sh),
            8 => Some(Self::Dh),
            9 => Some(Self::Mh),
            10 => Some(Self::Fo),
            11 => Some(Self::Ovf),
            12 => Some(Self::Twos),
            _ => None,
        }
    }

    #[inline(always)]
    pub const fn walk(self) -> Walk {
        match self {
            // The cycle of fo holds one server.
            Self::Rr | Self::Wrr | Self::Fo => Walk::Cursor,
            Self::Lc | Self::Wlc => Walk::Least(Measure::Load),
            Self::Sed => Walk::Least(Measure::Delay),
            Self::Nq => Walk::Least(Measure::Queue),
            Self::Ovf => Walk::Least(Measure::Room),
            Self::Sh | Self::Mh => Walk::Bucket(Hashed::Client),
            Self::Dh => Walk::Bucket(Hashed::Destination),
            Self::Twos => Walk::TwoChoices,
        }
    }

    /// The name that ipvsadm and the configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Sh => "sh",
            Self::Dh => "dh",
            Self::Mh => "mh",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Twos => "twos",
        }
    }

    /// Whether a client's server follows from its address and the set of servers alone.
    pub const fn hashes(self) -> bool {
        matches!(self.walk(), Walk::Bucket(_))
    }

    /// Whether it goes by connections, and by nothing besides: without any it is none.
    pub const fn counts(self) -> bool {
        matches!(self.walk(), Walk::Least(_))
    }

    /// What its tournament goes by, if it has one: without thresholds only some have.
    pub const fn measure(self, limited: bool) -> Option<Measure> {
        match self.walk() {
            Walk::Least(measure) => Some(measure),
            Walk::Cursor | Walk::Bucket(_) | Walk::TwoChoices if !limited => None,
            _ if matches!(self, Self::Fo) => Some(Measure::Weight),
            _ => Some(Measure::Load),
        }
    }

    /// Whether it may be told to hash the client's port too, and whom to take in place of a server
    /// of weight 0 ([`Hashing`]).
    pub const fn has_flags(self) -> bool {
        matches!(self, Self::Sh | Self::Mh)
    }
}

/// What sh and mh may be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hashing {
    /// The client's port is hashed beside its address (IPVS: sh-port, mh-port).
    pub port: bool,
    /// Clients of a server of weight 0 go on to others (IPVS: sh-fallback, mh-fallback).
    pub fallback: bool,
}

/// By what a scheduler finds the next server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// A cursor goes round the levels.
    Cursor,
    /// The winner of the members' tournament ([`crate::schedule::tournament`]).
    Least(Measure),
    /// The bucket of a hash ([`crate::schedule::buckets`]).
    Bucket(Hashed),
    /// Two random positions in the levels.
    TwoChoices,
}

/// What buckets are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashed {
    Client,
    Destination,
}

/// What contestants of a tournament are compared by, over their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Measure {
    /// lc, wlc.
    Load = 0,
    /// sed.
    Delay = 1,
    /// nq.
    Queue = 2,
    /// ovf.
    Room = 3,
    /// fo, where servers have thresholds: the highest weight.
    Weight = 4,
}

impl Measure {
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number & 7 {
            0 => Self::Load,
            1 => Self::Delay,
            2 => Self::Queue,
            4 => Self::Weight,
            _ => Self::Room,
        }
    }
}

/// Servers in one service at most: a power of two, and no more leaves has a tournament.
pub const MAX_MEMBERS: u32 = 4096;

/// Entry of the map `SCHEDULES`; service n has entries 2n and 2n + 1, and `ACTIVE_SCHEDULES` says
/// which of them is in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Schedule {
    /// First word of the members.
    pub members: u32,
    pub member_count: u32,
    /// First word of the levels, or of the buckets.
    pub levels: u32,
    pub level_count: u32,
    /// Picks in a full cycle of the levels, or the number of buckets.
    pub cycle: u32,
    /// A [`Scheduler`]'s number; 0 is none yet.
    pub scheduler: u32,
    /// First element of the tournament, if there is one.
    pub tree: u32,
    pub flags: u32,
}

const _: () = assert!(size_of::<Schedule>() == 32);

impl Schedule {
    /// Flag: the client's port is hashed with its address.
    pub const HASHES_PORT: u32 = 1;
    /// Flag: some servers have thresholds. There is a tournament, and in place of a server that is
    /// full its winner is taken.
    pub const LIMITED: u32 = 2;

    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// `None`: the controller knows a scheduler that this program does not.
    #[inline(always)]
    pub const fn scheduler(&self) -> Option<Scheduler> {
        Scheduler::from_number(self.scheduler)
    }
}

/// A word of the member list: server in the low half, weight in the high one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member(pub u32);

impl Member {
    pub const fn new(server: ServerId, weight: u16) -> Self {
        Self((weight as u32) << 16 | server.0 as u32)
    }
    #[inline(always)]
    pub const fn server(self) -> ServerId {
        ServerId(self.0 as u16)
    }
    #[inline(always)]
    pub const fn weight(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// Passes of wrr with the same servers. Three words: end of the level (exclusive, in picks from the
/// cycle's start), first word of its servers, number of servers. It begins where the level before
/// it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub end: u32,
    pub servers: u32,
    pub count: u32,
}

pub const WORDS_PER_LEVEL: u32 = 3;

/// Levels that a binary search of so many steps can tell apart.
const LEVEL_SEARCH_STEPS: u32 = MAX_MEMBERS.ilog2() + 1;

/// The words of the map `SCHEDULE_WORDS`.
pub trait Words {
    /// `None` past the end.
    fn word(&self, index: u32) -> Option<u32>;
}

impl Words for [u32] {
    fn word(&self, index: u32) -> Option<u32> {
        self.get(index as usize).copied()
    }
}

/// rr and wrr: the server of pick number `cursor` (any number; the cycle repeats). `None`: no
/// server, or the words contradict each other.
#[inline(always)]
pub fn by_cursor<C: Words + ?Sized>(words: &C, schedule: &Schedule, cursor: u64) -> Option<ServerId> {
    if schedule.cycle == 0 {
        return None;
    }
    Some(at_position(words, schedule, (cursor % schedule.cycle as u64) as u32)?.server())
}

/// twos: a random member, by weight. `random`: any number.
#[inline(always)]
pub fn by_chance<C: Words + ?Sized>(words: &C, schedule: &Schedule, random: u32) -> Option<Member> {
    at_position(words, schedule, ((random as u64 * schedule.cycle as u64) >> 32) as u32)
}

/// The member at a position below `cycle`, which is not 0.
#[inline(always)]
fn at_position<C: Words + ?Sized>(words: &C, schedule: &Schedule, position: u32) -> Option<Member> {
    let (mut low, mut high) = (0, schedule.level_count.wrapping_sub(1));
    let mut step = 0;
    while step < LEVEL_SEARCH_STEPS && low < high {
        let middle = (low + high) / 2;
        if position < words.word(schedule.levels + middle * WORDS_PER_LEVEL)? {
            high = middle;
        } else {
            low = middle + 1;
        }
        step += 1;
    }
    let begin = if low == 0 { 0 } else { words.word(schedule.levels + (low - 1) * WORDS_PER_LEVEL)? };
    let servers = words.word(schedule.levels + low * WORDS_PER_LEVEL + 1)?;
    let count = words.word(schedule.levels + low * WORDS_PER_LEVEL + 2)?;
    if count == 0 {
        return None;
    }
    words.word(servers + position.wrapping_sub(begin) % count).map(Member)
}

/// The server that a hash of the client picks: by weight, and the same one while the set of members
/// is the same. For schedulers that do not hash themselves.
#[inline(always)]
pub fn by_hash<C: Words + ?Sized>(words: &C, schedule: &Schedule, client: u32) -> Option<ServerId> {
    let mixed = (client as u64 ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    by_cursor(words, schedule, mixed >> 32)
}

/// twos: which of two members takes the connection; of equals the first.
#[inline(always)]
pub fn less_loaded(first: (Member, Counts), second: (Member, Counts)) -> Member {
    let of_first = first.1.load() * second.0.weight() as u64;
    let of_second = second.1.load() * first.0.weight() as u64;
    if of_first <= of_second { first.0 } else { second.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_their_schedulers() {
        for scheduler in Scheduler::ALL {
            assert_eq!(Scheduler::from_number(scheduler as u32), Some(scheduler));
            let same = Scheduler::ALL.iter().filter(|other| other.name() == scheduler.name());
            assert_eq!(same.count(), 1, "{scheduler:?}");
        }
        for number in [0, Scheduler::ALL.len() as u32 + 1, u32::MAX] {
            assert_eq!(Scheduler::from_number(number), None, "{number}");
        }
        for measure in [Measure::Load, Measure::Delay, Measure::Queue, Measure::Room] {
            assert_eq!(Measure::from_number(measure as u32), measure);
        }
    }

    #[test]
    fn of_two_the_less_loaded_for_its_weight() {
        let member = |server, weight, active| (Member::new(ServerId(server), weight), Counts::new(active, 0));
        let taken = |first, second| less_loaded(first, second).server().0;
        assert_eq!(taken(member(1, 1, 1), member(2, 2, 1)), 2);
        assert_eq!(taken(member(1, 1, 1), member(2, 2, 2)), 1, "equal: the first");
        assert_eq!(taken(member(1, 65_535, u32::MAX), member(2, 65_535, u32::MAX)), 1);
    }
}

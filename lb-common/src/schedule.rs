//! Schedulers, and the schedule from which a service picks the server of a new connection.
//!
//! The controller writes a [`Schedule`] per service; its lists stand in one map of words,
//! `SCHEDULE_WORDS`. The lists hold only servers that may take new connections, in configured
//! order:
//! - members: one word per server, see [`Member`]; for lc and wlc, whose tournament names them by
//!   position;
//! - levels, for rr and wrr: a full cycle is cut into runs of passes with equal membership, so that
//!   a cycle of any length needs at most one level per distinct weight. See [`Level`].
//!
//! Source of the rules: the talk of December 2000 whose cluster the lab plays, and the IPVS
//! module's documentation (ipvsadm(8), section on schedulers).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::server::{Counts, ServerId};

/// How a service picks the server of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Scheduler {
    /// Round robin; weights other than 0 count as 1.
    Rr = 1,
    /// Weighted round robin: pass k = 1, 2, … takes every server with weight >= k.
    Wrr = 2,
    /// Least `active * 256 + inactive`.
    Lc = 3,
    /// Least `(active * 256 + inactive) / weight`.
    Wlc = 4,
}

impl Scheduler {
    pub const ALL: [Self; 4] = [Self::Rr, Self::Wrr, Self::Lc, Self::Wlc];

    /// The reverse of its number; `None` for one that this program does not know.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Rr),
            2 => Some(Self::Wrr),
            3 => Some(Self::Lc),
            4 => Some(Self::Wlc),
            _ => None,
        }
    }

    #[inline(always)]
    pub const fn walk(self) -> Walk {
        match self {
            Self::Rr | Self::Wrr => Walk::Cursor,
            Self::Lc | Self::Wlc => Walk::Least,
        }
    }

    /// The name that ipvsadm and the configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
        }
    }
}

/// By what a scheduler finds the next server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// A cursor goes round the levels.
    Cursor,
    /// The winner of the members' tournament ([`crate::tournament`]).
    Least,
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
    /// First word of the levels.
    pub levels: u32,
    pub level_count: u32,
    /// Picks in a full cycle of the levels.
    pub cycle: u32,
    /// A [`Scheduler`]'s number; 0 is none yet.
    pub scheduler: u32,
    /// First element of the tournament, for lc and wlc.
    pub tree: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<Schedule>() == 32);

impl Schedule {
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

/// Bands that a binary search of so many steps can tell apart.
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
    let position = (cursor % schedule.cycle as u64) as u32;
    let (mut low, mut high) = (0, schedule.level_count - 1);
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
    let server = words.word(servers + position.wrapping_sub(begin) % count)?;
    Some(ServerId(server as u16))
}

/// The server that a hash of the client picks: by weight, and the same one while the set of members
/// is the same.
#[inline(always)]
pub fn by_hash<C: Words + ?Sized>(words: &C, schedule: &Schedule, client: u32) -> Option<ServerId> {
    let mixed = (client as u64 ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    by_cursor(words, schedule, mixed >> 32)
}

/// The least loaded member so far, of all members in order: the rule of lc and wlc, which the
/// program's tournament must agree with.
#[derive(Debug, Clone, Copy)]
pub struct Least {
    load: u64,
    weight: u64,
    server: u32,
}

impl Least {
    pub const NONE: Self = Self { load: 0, weight: 0, server: 0 };

    /// Loads compare as fractions load/weight by cross-multiplication: 40 bits by 16 bits, no
    /// overflow. Equal: the earlier one stays.
    pub fn consider(&mut self, member: Member, counts: Counts, weighs: bool) {
        let weight = if weighs { member.weight() as u64 } else { 1 };
        let load = counts.load();
        if self.server == 0 || load * self.weight < self.load * weight {
            *self = Self { load, weight, server: member.server().0 as u32 };
        }
    }

    /// `None`: there was no member.
    pub const fn server(&self) -> Option<ServerId> {
        match self.server {
            0 => None,
            server => Some(ServerId(server as u16)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(loads: &[(u16, u32, u32)], weighs: bool) -> u16 {
        let mut least = Least::NONE;
        for (index, &(weight, active, inactive)) in loads.iter().enumerate() {
            let member = Member::new(ServerId(index as u16 + 1), weight);
            least.consider(member, Counts::new(active, inactive), weighs);
        }
        least.server().unwrap().0
    }

    #[test]
    fn numbers_lead_back_to_their_schedulers() {
        for scheduler in Scheduler::ALL {
            assert_eq!(Scheduler::from_number(scheduler as u32), Some(scheduler));
        }
        for number in [0, 5, u32::MAX] {
            assert_eq!(Scheduler::from_number(number), None, "{number}");
        }
    }

    #[test]
    fn least_connections_counts_an_active_one_as_256_inactive_ones() {
        assert_eq!(pick(&[(1, 1, 0), (1, 0, 255)], false), 2);
        assert_eq!(pick(&[(1, 1, 0), (1, 0, 256)], false), 1);
        assert_eq!(pick(&[(9, 3, 0), (1, 2, 0)], false), 2, "lc does not look at weights");
    }

    #[test]
    fn weighted_least_connections_divides_by_weight() {
        assert_eq!(pick(&[(4, 3, 0), (2, 2, 0), (1, 1, 0)], true), 1);
        assert_eq!(pick(&[(4, 4, 0), (2, 2, 0), (1, 1, 0)], true), 1, "equal: first in order");
        assert_eq!(pick(&[(65_535, u32::MAX, u32::MAX), (1, 0, 1)], true), 2);
    }
}

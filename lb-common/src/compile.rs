//! From a list of servers to the words of a schedule.

use std::vec::Vec;

use crate::schedule::{Level, MAX_MEMBERS, Member, Schedule, Scheduler, WORDS_PER_LEVEL, Walk};
use crate::server::ServerId;
use crate::tournament::Contestant;

/// A server that may take new connections if its weight is above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub server: ServerId,
    pub weight: u16,
}

/// A schedule and its words; offsets in the schedule count from the first of these words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    pub schedule: Schedule,
    pub words: Vec<u32>,
    /// Leaves of the tournament in the order of the members, without their loads; none for rr and
    /// wrr.
    pub leaves: Vec<Contestant>,
}

impl Compiled {
    /// The servers of the leaves.
    pub fn members(&self) -> Vec<ServerId> {
        self.words.iter().zip(&self.leaves).map(|(word, _)| Member(*word).server()).collect()
    }

    /// The schedule for words that will stand from `base` on, and a tournament from `tree` on; the
    /// words are moved along.
    pub fn at(mut self, base: u32, tree: u32) -> Self {
        self.schedule.tree = tree;
        self.schedule.members += base;
        self.schedule.levels += base;
        let levels = (self.schedule.levels - base) as usize;
        for level in self.words[levels..].chunks_exact_mut(WORDS_PER_LEVEL as usize) {
            level[1] += base;
        }
        self
    }
}

/// Compiles the servers, in configured order, for `scheduler`.
pub fn compile(scheduler: Scheduler, candidates: &[Candidate]) -> Compiled {
    let members: Vec<Candidate> = candidates.iter().copied().filter(|member| member.weight > 0).collect();
    let mut words: Vec<u32> =
        members.iter().map(|member| Member::new(member.server, member.weight).0).collect();
    // rr serves everybody alike; lc and wlc use the levels for the hash of the client, which goes
    // by weight too.
    let weight_of =
        |member: &Candidate| if scheduler == Scheduler::Rr { 1 } else { u32::from(member.weight) };
    let levels = levels(&members, weight_of, &mut words);
    let schedule = Schedule {
        members: 0,
        member_count: members.len() as u32,
        levels: words.len() as u32,
        level_count: levels.len() as u32,
        cycle: levels.last().map_or(0, |level| level.end),
        scheduler: scheduler as u32,
        tree: 0,
        reserved: 0,
    };
    words.extend(levels.iter().flat_map(|level| [level.end, level.servers, level.count]));
    let leaf = |(position, member): (u32, &Candidate)| {
        Contestant::new(position, if scheduler == Scheduler::Wlc { member.weight } else { 1 })
    };
    let leaves = match scheduler.walk() {
        Walk::Cursor => Vec::new(),
        Walk::Least => (0..MAX_MEMBERS).zip(&members).map(leaf).collect(),
    };
    Compiled { schedule, words, leaves }
}

/// One level per distinct weight: passes (last weight, this weight] take every member that weighs
/// at least this.
fn levels(members: &[Candidate], weight_of: impl Fn(&Candidate) -> u32, words: &mut Vec<u32>) -> Vec<Level> {
    let divisor = members.iter().map(&weight_of).fold(0, gcd);
    let mut weights: Vec<u32> = members.iter().map(&weight_of).collect();
    weights.sort_unstable();
    weights.dedup();
    let (mut passes_done, mut end) = (0, 0);
    let mut levels = Vec::with_capacity(weights.len());
    for weight in weights {
        let servers = words.len() as u32;
        words.extend(
            members
                .iter()
                .filter(|member| weight_of(member) >= weight)
                .map(|member| u32::from(member.server.0)),
        );
        let count = words.len() as u32 - servers;
        end += (weight / divisor - passes_done) * count;
        passes_done = weight / divisor;
        levels.push(Level { end, servers, count });
    }
    levels
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use proptest::prelude::*;

    use super::*;
    use crate::schedule::by_cursor;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        let server = |index: usize| ServerId(index as u16 + 1);
        weights
            .iter()
            .enumerate()
            .map(|(index, &weight)| Candidate { server: server(index), weight })
            .collect()
    }

    fn letters(scheduler: Scheduler, weights: &[u16], picks: core::ops::Range<u64>) -> String {
        let compiled = compile(scheduler, &candidates(weights));
        picks
            .map(|pick| match by_cursor(&compiled.words[..], &compiled.schedule, pick) {
                Some(server) => char::from(b'A' + server.0 as u8 - 1),
                None => '-',
            })
            .collect()
    }

    #[test]
    fn the_talks_example() {
        assert_eq!(letters(Scheduler::Wrr, &[4, 3, 2], 0..18), "ABCABCABAABCABCABA");
        assert_eq!(letters(Scheduler::Wrr, &[40, 30, 20], 0..9), "ABCABCABA");
        assert_eq!(letters(Scheduler::Rr, &[4, 3, 2], 0..6), "ABCABC");
    }

    #[test]
    fn weight_zero_takes_nothing() {
        assert_eq!(letters(Scheduler::Rr, &[1, 0, 1], 0..4), "ACAC");
        assert_eq!(letters(Scheduler::Wrr, &[0, 0], 0..2), "--");
        assert_eq!(letters(Scheduler::Rr, &[], 0..1), "-");
    }

    /// The rule as the talk states it, without levels.
    fn by_definition(weights: &[u16]) -> Vec<u16> {
        let divisor = weights.iter().map(|weight| u32::from(*weight)).fold(0, gcd).max(1);
        let passes = weights.iter().max().map_or(0, |most| u32::from(*most) / divisor);
        (1..=passes)
            .flat_map(|pass| {
                weights
                    .iter()
                    .enumerate()
                    .filter(move |(_, weight)| u32::from(**weight) / divisor >= pass)
                    .map(|(index, _)| index as u16 + 1)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn bands_serve_what_the_definition_serves(weights in proptest::collection::vec(0u16..40, 0..20), base in 0u32..99) {
            let compiled = compile(Scheduler::Wrr, &candidates(&weights)).at(base, 0);
            let mut words = std::vec![0; base as usize];
            words.extend(&compiled.words);
            let expected = by_definition(&weights);
            prop_assert_eq!(compiled.schedule.cycle as usize, expected.len());
            let served: Vec<u16> = (0..expected.len() as u64)
                .map(|pick| by_cursor(&words[..], &compiled.schedule, pick).unwrap().0)
                .collect();
            prop_assert_eq!(served, expected);
        }

        #[test]
        fn large_weights_are_served_in_proportion(weights in proptest::collection::vec(1u16.., 1..60)) {
            let compiled = compile(Scheduler::Wrr, &candidates(&weights));
            let divisor = weights.iter().map(|weight| u32::from(*weight)).fold(0, gcd);
            let total: u64 = weights.iter().map(|weight| u64::from(u32::from(*weight) / divisor)).sum();
            prop_assert_eq!(u64::from(compiled.schedule.cycle), total);
            let last = by_cursor(&compiled.words[..], &compiled.schedule, total - 1).unwrap();
            let heaviest = weights.iter().max().unwrap();
            let last_heaviest = weights.iter().rposition(|weight| weight == heaviest).unwrap();
            prop_assert_eq!(usize::from(last.0), last_heaviest + 1);
        }
    }
}

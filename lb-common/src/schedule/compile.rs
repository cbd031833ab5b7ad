//! From a list of servers to the words of a schedule.

use std::vec::Vec;

use crate::addr::V6;
use crate::schedule::buckets::{self, BucketServer};
use crate::schedule::{Hashing, Level, MAX_MEMBERS, Member, Schedule, Scheduler, WORDS_PER_LEVEL};
use crate::server::ServerId;
use crate::service::limits::Thresholds;

/// A server of the service. The controller knows it by something else before it has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<S = ServerId> {
    pub server: S,
    /// 0: it takes no new connections.
    pub weight: u16,
    /// What sh, dh and mh have besides.
    pub holding: Holding,
    pub thresholds: Thresholds,
}

/// How a server holds buckets of sh, dh and mh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// By which mh tells servers apart.
    pub address: V6,
    /// What it weighs as a bucket server while its weight is 0; 0: it holds nothing then.
    pub share: u16,
    /// With weight 0 its clients get no server, unless [`Hashing::fallback`] has them go on: it is
    /// well, but somebody wants it so. Else they go on in any case.
    pub keeps: bool,
}

/// A schedule and its words; offsets in the schedule count from the first of these words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    pub schedule: Schedule,
    pub words: Vec<u32>,
    /// Leaves of the tournament in the order of the members, with weight 1 where weights do not
    /// count; none for schedulers without one.
    pub leaves: Vec<Member>,
}

impl Compiled {
    /// The schedule for words that will stand from `base` on, and a tournament from `tree` on; the
    /// words are moved along.
    pub fn at(mut self, base: u32, tree: u32) -> Self {
        let Schedule { levels, level_count, .. } = self.schedule;
        self.schedule.tree = tree;
        self.schedule.members += base;
        self.schedule.levels += base;
        let levels = self.words[levels as usize..].chunks_exact_mut(WORDS_PER_LEVEL as usize);
        for level in levels.take(level_count as usize) {
            level[1] += base;
        }
        self
    }
}

/// Compiles the servers, in configured order, for `scheduler`.
pub fn compile(scheduler: Scheduler, hashing: Hashing, candidates: &[Candidate]) -> Compiled {
    let taking = candidates.iter().copied().filter(|candidate| candidate.weight > 0);
    let all: Vec<Candidate> = taking.take(MAX_MEMBERS as usize).collect();
    let limited = candidates.iter().any(|candidate| !candidate.thresholds.is_none());
    let members: Vec<Candidate> = match scheduler {
        Scheduler::Fo => heaviest(&all).into_iter().collect(),
        _ => all.clone(),
    };
    // Whoever takes the connections of one that is full.
    let listed = if limited { &all } else { &members };
    let words = listed.iter().map(|member| Member::new(member.server, member.weight).0).collect();
    let schedule = Schedule {
        member_count: listed.len() as u32,
        scheduler: scheduler as u32,
        flags: if hashing.port { Schedule::HASHES_PORT } else { 0 }
            | if limited { Schedule::LIMITED } else { 0 },
        ..Schedule::default()
    };
    let compiled = Compiled { schedule, words, leaves: leaves(scheduler, limited, listed) };
    match scheduler.hashes() {
        true => with_buckets(compiled, scheduler, hashing, candidates),
        false => with_levels(compiled, scheduler, &members),
    }
}

/// Of equals the first.
fn heaviest(members: &[Candidate]) -> Option<Candidate> {
    let most = members.iter().map(|member| member.weight).max()?;
    members.iter().copied().find(|member| member.weight == most)
}

fn leaves(scheduler: Scheduler, limited: bool, members: &[Candidate]) -> Vec<Member> {
    let leaf = |member: &Candidate| match scheduler {
        Scheduler::Lc | Scheduler::Rr => Member::new(member.server, 1),
        _ => Member::new(member.server, member.weight),
    };
    match scheduler.measure(limited) {
        Some(_) => members.iter().map(leaf).collect(),
        None => Vec::new(),
    }
}

/// rr serves everybody alike. The schedulers with a tournament use the levels for the hash of the
/// client, which goes by weight.
fn with_levels(mut compiled: Compiled, scheduler: Scheduler, members: &[Candidate]) -> Compiled {
    let weight_of =
        |member: &Candidate| if scheduler == Scheduler::Rr { 1 } else { u32::from(member.weight) };
    let levels = levels(members, weight_of, &mut compiled.words);
    compiled.schedule.levels = compiled.words.len() as u32;
    compiled.schedule.level_count = levels.len() as u32;
    compiled.schedule.cycle = levels.last().map_or(0, |level| level.end);
    compiled.words.extend(levels.iter().flat_map(|level| [level.end, level.servers, level.count]));
    compiled
}

/// All that hold buckets, or, if none of them takes connections, whoever stands in for them.
fn with_buckets(
    mut compiled: Compiled,
    scheduler: Scheduler,
    hashing: Hashing,
    candidates: &[Candidate],
) -> Compiled {
    if !compiled.schedule.has(Schedule::LIMITED) {
        compiled.words.clear();
    }
    compiled.schedule.levels = compiled.words.len() as u32;
    let holds = |candidate: &&Candidate| candidate.holding.share > 0;
    let takes = |candidate: &&Candidate| candidate.weight > 0;
    let among: Vec<&Candidate> = match candidates.iter().filter(holds).any(|holder| takes(&holder)) {
        true => candidates.iter().filter(holds).collect(),
        false => candidates.iter().filter(takes).collect(),
    };
    if among.is_empty() {
        return compiled;
    }
    let share = |candidate: &Candidate| match candidate.weight {
        0 => candidate.holding.share,
        weight => weight,
    };
    let holder = |candidate: &&Candidate| BucketServer {
        server: candidate.server,
        address: candidate.holding.address,
        share: share(candidate),
    };
    let holders: Vec<BucketServer> = among.iter().map(holder).collect();
    let filled = match scheduler {
        Scheduler::Mh => buckets::maglev(&holders),
        _ => buckets::in_order(&holders),
    };
    let kept = |position: usize| among[position].holding.keeps && !hashing.fallback;
    let servers = buckets::pass_on(&holders, &filled, |position| takes(&among[position]), kept);
    compiled.schedule.cycle = servers.len() as u32;
    compiled.words.extend(buckets::words(&servers));
    compiled
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
                .map(|member| Member::new(member.server, member.weight).0),
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

    const NOBODY: Candidate = Candidate {
        server: ServerId(0),
        weight: 0,
        holding: Holding { address: V6::UNSPECIFIED, share: 0, keeps: false },
        thresholds: Thresholds::NONE,
    };

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        let server = |index: usize| ServerId(index as u16 + 1);
        weights
            .iter()
            .enumerate()
            .map(|(index, &weight)| Candidate { server: server(index), weight, ..NOBODY })
            .collect()
    }

    fn letters(scheduler: Scheduler, weights: &[u16], picks: core::ops::Range<u64>) -> String {
        let compiled = compile(scheduler, Hashing::default(), &candidates(weights));
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

    #[test]
    fn fail_over_knows_the_heaviest_alone() {
        assert_eq!(letters(Scheduler::Fo, &[1, 3, 0, 3], 0..3), "BBB", "of equals the first");
        assert_eq!(letters(Scheduler::Fo, &[0, 0], 0..1), "-");
    }

    /// How many of 1,000 clients each server gets, and behind those how many get none.
    fn clients(scheduler: Scheduler, hashing: Hashing, candidates: &[Candidate]) -> Vec<usize> {
        let compiled = compile(scheduler, hashing, candidates).at(7, 0);
        let words: Vec<u32> = [0; 7].into_iter().chain(compiled.words).collect();
        let mut picked = std::vec![0; candidates.len() + 1];
        for client in 0..1000 {
            let hash = buckets::hash(V6([client, 0]), 0);
            let server = match compiled.schedule.member_count {
                0 => None,
                _ => buckets::by_bucket(&words[..], &compiled.schedule, hash),
            };
            picked[server.map_or(candidates.len(), |server| usize::from(server.0) - 1)] += 1;
        }
        picked
    }

    /// A server that is well and has weight 0, one that is down, and the others.
    #[test]
    fn buckets_of_servers_that_take_nothing() {
        let holder = |(candidate, share): (Candidate, u16)| Candidate {
            holding: Holding {
                address: V6([0, u64::from(candidate.server.0)]),
                share,
                keeps: candidate.server.0 == 2,
            },
            ..candidate
        };
        let candidates: Vec<Candidate> =
            candidates(&[2, 0, 1, 0]).into_iter().zip([2, 1, 1, 1]).map(holder).collect();
        for scheduler in [Scheduler::Sh, Scheduler::Mh] {
            let picked = clients(scheduler, Hashing::default(), &candidates);
            assert_eq!((picked[1], picked[3]), (0, 0), "{picked:?}");
            assert!((150..250).contains(&picked[4]), "weight 0 keeps its fifth: {picked:?}");
            assert!(picked[0] > picked[2] && picked[2] > 200, "{picked:?}");
            let fallback = Hashing { fallback: true, port: false };
            assert_eq!(clients(scheduler, fallback, &candidates)[4], 0, "all go on");
            // Nobody of those that hold buckets takes connections: whoever else is there does.
            let mut only = candidates.clone();
            only.iter_mut().for_each(|candidate| candidate.weight = 0);
            assert_eq!(clients(scheduler, fallback, &only), [0, 0, 0, 0, 1000]);
            only.push(Candidate { server: ServerId(5), weight: 1, ..NOBODY });
            assert_eq!(clients(scheduler, Hashing::default(), &only), [0, 0, 0, 0, 1000, 0]);
        }
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
            let compiled = compile(Scheduler::Wrr, Hashing::default(), &candidates(&weights)).at(base, 0);
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
            let compiled = compile(Scheduler::Wrr, Hashing::default(), &candidates(&weights));
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

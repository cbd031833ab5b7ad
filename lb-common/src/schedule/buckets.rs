//! The buckets that sh, dh and mh pick by: each holds a server, and a hash says in which one to
//! look. Two stand in a word of the map `SCHEDULE_WORDS`.
//!
//! *Bucket servers* are all servers of the service, those included that take no connections now: so
//! their buckets are the same before and after, and other servers' clients stay where they are.
//! What becomes of a bucket whose server takes no connections is settled when the buckets are
//! filled, so that a pick is one look in any case. Which server is in which bucket follows from
//! addresses, weights and the configured order, so every director fills them alike.
//!
//! sh and dh: 256 buckets, or a power of two with four for each bucket server, filled in the
//! configured order: each bucket server takes a run of them in proportion to its weight. mh: see
//! [`maglev`].

use crate::addr::V6;
use crate::schedule::{Schedule, Words};
use crate::server::ServerId;

#[cfg(not(target_arch = "bpf"))]
pub use fill::{BucketServer, Buckets, MAGLEV, in_order, maglev, pass_on, words};

/// What the bucket is found by: an address, and a port or 0.
#[inline(always)]
pub const fn hash(address: V6, port: u16) -> u32 {
    let [high, low] = address.0;
    let mixed = mix(low ^ 0x5bd1_e995_9e37_79b9).wrapping_add(high);
    (mix(mix(mixed).wrapping_add(port as u64)) >> 32) as u32
}

#[inline(always)]
const fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let word = (word ^ word >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^ word >> 32
}

/// The server in the bucket of this hash; `None`: there is none, or the words end too early.
#[inline(always)]
pub fn by_bucket<C: Words + ?Sized>(words: &C, schedule: &Schedule, hash: u32) -> Option<ServerId> {
    let bucket = ((hash as u64 * schedule.cycle as u64) >> 32) as u32;
    let word = words.word(schedule.levels.wrapping_add(bucket >> 1))?;
    match (word >> ((bucket & 1) * 16)) as u16 {
        0 => None,
        server => Some(ServerId(server)),
    }
}

#[cfg(not(target_arch = "bpf"))]
mod fill {
    use core::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::vec;
    use std::vec::Vec;

    use super::mix;
    use crate::addr::V6;
    use crate::server::ServerId;

    /// A server that has buckets.
    #[derive(Debug, Clone, Copy)]
    pub struct BucketServer {
        pub server: ServerId,
        /// By which mh tells servers apart: it is the same on all directors.
        pub address: V6,
        /// Its share of the buckets; not 0.
        pub share: u16,
    }

    /// By bucket, its server's position.
    pub type Buckets = Vec<u16>;

    /// The buckets of sh and dh: a run for each server, in order.
    pub fn in_order(holders: &[BucketServer]) -> Buckets {
        let number = (holders.len() as u64 * 4).next_power_of_two().max(256);
        let total: u64 = holders.iter().map(|holder| u64::from(holder.share)).sum();
        let mut buckets = Vec::with_capacity(number as usize);
        let mut sum = 0;
        for (position, holder) in (0..).zip(holders) {
            sum += u64::from(holder.share);
            buckets.resize((number * sum / total) as usize, position);
        }
        buckets
    }

    /// A prime, so that a holder's order goes through all buckets. One number for all services,
    /// however many servers they have: another number is another table, so whoever grew or shrank
    /// across a border would move nearly all clients. The largest services have four buckets for
    /// each server.
    pub const MAGLEV: u64 = 16_381;

    /// Slack, and how much is due, are counted in parts of a bucket: in whole buckets the slack of
    /// all holders would change at once where a server more or less makes it round another way.
    const PARTS: u64 = 256;
    /// So many parts the slack of a holder is off, by its address: holders of one weight would find
    /// at the same time that something is due, and a server more or less would move that time.
    const JITTER: u64 = PARTS / 2;
    /// How far from its share, in parts of it, a holder may be. See [`maglev`].
    const SLACK: u64 = 8;
    /// The same in parts of all buckets, at most.
    const MOST_SLACK: u64 = 800;
    /// The same in [`PARTS`], at least: of a small share hardly a turn could be lost.
    const LEAST_SLACK: u64 = 2 * PARTS;

    /// A bucket server on its way through the buckets, in an order of its own.
    struct Walk {
        /// The order: bucket k is `step * (first + k)^17 + shift`, which goes through all, because
        /// 17 has no factor in common with any of the primes less 1.
        first: u64,
        step: u64,
        shift: u64,
        share: u64,
        /// In [`PARTS`], as what is due: how much more it may hold, and how much less.
        more: u64,
        less: u64,
        held: u64,
    }

    impl Walk {
        fn new(holder: &BucketServer, buckets: u64, total: u64) -> Self {
            let [high, low] = holder.address.0;
            let seed = mix(mix(low).wrapping_add(high));
            let [first, step, shift, jitter] = [1, 2, 3, 4].map(|number: u64| mix(seed.wrapping_add(number)));
            let share = u64::from(holder.share);
            let fair = buckets * PARTS * share / total;
            let slack = (fair / SLACK).min(buckets * PARTS / MOST_SLACK).max(LEAST_SLACK) - JITTER / 2;
            let jitter = jitter % JITTER;
            let (first, step, shift) = (first % buckets, 1 + step % (buckets - 1), shift % buckets);
            Self { first, step, shift, share, more: slack + jitter, less: slack + JITTER - jitter, held: 0 }
        }

        fn next(&mut self, buckets: u64) -> usize {
            let base = self.first;
            self.first = (base + 1) % buckets;
            let power = (0..4).fold(base, |power, _| power * power % buckets) * base % buckets;
            ((self.step * power + self.shift) % buckets) as usize
        }
    }

    /// The buckets of mh, after "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI
    /// 2016), section 3.4, with weights: the servers take turns, each as often as it weighs, and
    /// take the first free bucket in an order of their own.
    ///
    /// One thing differs. A holder that finds its bucket taken has lost its turn, unless it is
    /// behind its share by an eighth of it (at least by two buckets, at most by the 800th part of
    /// all): a turn that is never lost makes shares exact, but lets a server that leaves move the
    /// buckets of others too.
    /// With 2 to 4,096 servers of equal weights, or of weights 1 to 5, one that leaves moves its
    /// share and less than one bucket in a hundred besides.
    pub fn maglev(holders: &[BucketServer]) -> Buckets {
        const FREE: u16 = u16::MAX;
        let number = MAGLEV;
        let total: u64 = holders.iter().map(|holder| u64::from(holder.share)).sum();
        let mut walks: Vec<Walk> = holders.iter().map(|holder| Walk::new(holder, number, total)).collect();
        // Whose turn is next: by time, and at the same time by address, not by order.
        let turn = |time: u64, position: usize| Reverse((time, holders[position].address, position));
        let wait = |position: usize| (1 << 32) / u64::from(holders[position].share);
        let mut turns: BinaryHeap<_> =
            (0..holders.len()).map(|position| turn(wait(position) / 2, position)).collect();
        let mut buckets = vec![FREE; number as usize];
        let mut filled = 0;
        while let Some(Reverse((time, _, position))) = turns.pop().filter(|_| filled < number) {
            turns.push(turn(time + wait(position), position));
            let walk = &mut walks[position];
            let due = walk.share * filled * PARTS / total;
            if walk.held * PARTS > due + walk.more {
                continue;
            }
            loop {
                let bucket = walk.next(number);
                if buckets[bucket] == FREE {
                    buckets[bucket] = position as u16;
                    walk.held += 1;
                    filled += 1;
                    break;
                }
                if walk.held * PARTS + walk.less > due {
                    break;
                }
            }
        }
        buckets
    }

    /// The servers in the buckets, after those have been passed on that are not `kept`: to the
    /// server of another bucket that is `taking`. 0 is none.
    pub fn pass_on(
        holders: &[BucketServer],
        buckets: &Buckets,
        taking: impl Fn(usize) -> bool,
        kept: impl Fn(usize) -> bool,
    ) -> Vec<u16> {
        let number = buckets.len() as u64;
        // By way of other buckets, so that the clients of one server are spread over all others by
        // weight.
        let other = |bucket: u64, hop: u64| usize::from(buckets[(mix(bucket << 32 | hop) % number) as usize]);
        let taker = |bucket: u64| {
            let near = (0..64).map(|hop| other(bucket, hop)).find(|position| taking(*position));
            near.or_else(|| buckets.iter().map(|position| usize::from(*position)).find(|at| taking(*at)))
        };
        let server = |(bucket, position): (u64, &u16)| match usize::from(*position) {
            position if taking(position) => Some(position),
            position if kept(position) => None,
            _ => taker(bucket),
        };
        let servers = (0..).zip(buckets).map(server);
        servers.map(|taker| taker.map_or(0, |position| holders[position].server.0)).collect()
    }

    /// Two buckets in a word.
    pub fn words(servers: &[u16]) -> impl Iterator<Item = u32> + '_ {
        let second = |pair: &[u16]| pair.get(1).copied().unwrap_or_default();
        servers.chunks(2).map(move |pair| u32::from(pair[0]) | u32::from(second(pair)) << 16)
    }
}

#[cfg(test)]
mod tests;

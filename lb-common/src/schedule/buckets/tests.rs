use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::addr::{Address as _, V4};

fn holders(shares: &[u16], first: u32) -> Vec<BucketServer> {
    let holder = |(position, share): (u32, &u16)| BucketServer {
        server: ServerId(position as u16 + 1),
        address: V4(u32::from_ne_bytes((first + position).to_be_bytes())).mapped(),
        share: *share,
    };
    (0..).zip(shares).map(holder).collect()
}

/// Buckets of each server.
fn held(holders: &[BucketServer], buckets: &[u16]) -> BTreeMap<u16, usize> {
    let mut held: BTreeMap<u16, usize> = holders.iter().map(|holder| (holder.server.0, 0)).collect();
    for position in buckets {
        *held.get_mut(&holders[usize::from(*position)].server.0).unwrap() += 1;
    }
    held
}

fn server(holders: &[BucketServer], buckets: &[u16], bucket: usize) -> u16 {
    holders[usize::from(buckets[bucket])].server.0
}

fn shares() -> impl Strategy<Value = Vec<u16>> {
    let shares = |most| proptest::collection::vec(1u16..6, 2..most);
    let equal = (2usize..100, 1u16..200).prop_map(|(number, share)| std::vec![share; number]);
    prop_oneof![4 => shares(12), 2 => shares(80), 1 => shares(900), 3 => equal]
}

/// One server that leaves moves its own connections, and one in a hundred of the others'.
fn moves_little(before: &[BucketServer], leaving: prop::sample::Index) -> Result<(), TestCaseError> {
    let mut after = before.to_vec();
    let leaving = after.remove(leaving.index(before.len()));
    let total: u64 = before.iter().map(|holder| u64::from(holder.share)).sum();
    let (of_before, of_after) = (maglev(before), maglev(&after));
    // Clients fall into all buckets alike, see below: drawn ones would tell the same, less exactly.
    let moved = (0..of_before.len())
        .filter(|bucket| server(&after, &of_after, *bucket) != server(before, &of_before, *bucket));
    let moved = moved.count() as f64 / of_before.len() as f64;
    let fair = f64::from(leaving.share) / total as f64;
    prop_assert!(moved <= fair + 0.01, "{moved} moved of {} servers, of {fair}", before.len());
    Ok(())
}

/// Numbers of servers where something is rounded another way, or once was: with one less of them a
/// share of equals is a whole number of buckets, or the number of buckets was another one.
fn borders() -> impl Strategy<Value = usize> {
    let of_shares = (4usize..40).prop_map(|share| MAGLEV as usize / share);
    let powers = (1u32..=12).prop_map(|power| 1 << power);
    let border = prop_oneof![of_shares, powers, Just(1024_usize), Just(4095)];
    (border, 0usize..3).prop_map(|(number, more)| (number + more).saturating_sub(1).clamp(2, 4096))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The same with as many servers as a service may have, and at all borders.
    #[test]
    fn maglev_moves_little_with_any_number_of_servers(
        number in prop_oneof![2 => borders(), 1 => 900_usize..=4096],
        weighted in any::<bool>(),
        first in any::<u32>(),
        leaving in any::<prop::sample::Index>(),
    ) {
        let share = |position: usize| if weighted { 1 + hash(V6([7, position as u64]), 0) as u16 % 5 } else { 1 };
        let shares: Vec<u16> = (0..number).map(share).collect();
        moves_little(&holders(&shares, first & 0xffff_0000), leaving)?;
    }
}

#[test]
fn clients_fall_into_all_buckets_alike() {
    const CLIENTS: u32 = 1 << 18;
    const PARTS: usize = 64;
    for second in [0, 7] {
        let mut found = [0_u32; PARTS];
        for client in 0..CLIENTS {
            let hash = hash(V6([second, V4(client.to_be()).mapped().0[1]]), 0);
            let bucket = (u64::from(hash) * MAGLEV) >> 32;
            found[bucket as usize * PARTS / MAGLEV as usize] += 1;
        }
        let fair = CLIENTS / PARTS as u32;
        // Five standard deviations.
        assert!(found.iter().all(|found| found.abs_diff(fair) < 320), "{found:?}, not {fair}");
    }
}

/// From 1,024 servers to 1,025 and back.
#[test]
fn maglev_knows_no_border_at_a_thousand_servers() {
    let shares = std::vec![1; 1025];
    let buckets = maglev(&holders(&shares, 1));
    assert_eq!(buckets.len() as u64, MAGLEV);
    let before = maglev(&holders(&shares[..1024], 1));
    let moved = (0..buckets.len()).filter(|bucket| buckets[*bucket] != before[*bucket]).count();
    assert!(moved * 100 < buckets.len() * 2, "{moved} of {} moved", buckets.len());
    assert_eq!(maglev(&holders(&std::vec![1; 4096], 1)).len() as u64, MAGLEV, "memory is bounded");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The promise of mh: one server that leaves moves its own connections, and one in a hundred
    /// of the others'.
    #[test]
    fn maglev_moves_little_when_one_leaves(
        shares in shares(),
        first in any::<u32>(),
        leaving in any::<prop::sample::Index>(),
    ) {
        moves_little(&holders(&shares, first & 0xffff_0000), leaving)?;
    }

    #[test]
    fn maglev_gives_each_its_share(shares in shares(), first in any::<u32>()) {
        let holders = holders(&shares, first & 0xffff_0000);
        let buckets = maglev(&holders);
        let total: u64 = holders.iter().map(|holder| u64::from(holder.share)).sum();
        let held = held(&holders, &buckets);
        for holder in &holders {
            let fair = buckets.len() as f64 * f64::from(holder.share) / total as f64;
            let slack = (fair / 8.0).min(buckets.len() as f64 / 800.0);
            let off = (held[&holder.server.0] as f64 - fair).abs();
            prop_assert!(off <= slack + 3.0, "{} of {fair}", held[&holder.server.0]);
        }
    }

    /// All directors fill their tables alike, whatever numbers and order they have for the servers.
    #[test]
    fn maglev_goes_by_addresses(shares in shares(), first in any::<u32>()) {
        let here = holders(&shares, first & 0xffff_0000);
        let mut there = here.clone();
        there.reverse();
        let (of_here, of_there) = (maglev(&here), maglev(&there));
        for bucket in 0..of_here.len() {
            prop_assert_eq!(server(&here, &of_here, bucket), server(&there, &of_there, bucket));
        }
    }

    #[test]
    fn runs_are_as_long_as_the_weights_say(shares in proptest::collection::vec(1u16.., 1..200)) {
        let holders = holders(&shares, 1);
        let buckets = in_order(&holders);
        prop_assert!(buckets.len().is_power_of_two() && buckets.len() >= 256 && buckets.is_sorted());
        let total: u64 = holders.iter().map(|holder| u64::from(holder.share)).sum();
        for (server, held) in held(&holders, &buckets) {
            let fair = buckets.len() as f64 * f64::from(shares[usize::from(server) - 1]) / total as f64;
            prop_assert!((held as f64 - fair).abs() < 1.0, "{held} of {fair}");
        }
    }

    /// Only clients of those that take no connections move, and to others by weight.
    #[test]
    fn only_the_buckets_of_those_that_are_away_are_passed_on(
        shares in proptest::collection::vec(1u16..4, 2..20),
        away in proptest::collection::vec(any::<bool>(), 20),
        kept in any::<bool>(),
        consistent in any::<bool>(),
    ) {
        let holders = holders(&shares, 1);
        let buckets = if consistent { maglev(&holders) } else { in_order(&holders) };
        let taking = |position: usize| !away[position];
        let servers = pass_on(&holders, &buckets, taking, |_| kept);
        let anybody = (0..holders.len()).any(taking);
        for (bucket, server) in servers.iter().enumerate() {
            let holder = usize::from(buckets[bucket]);
            if taking(holder) {
                prop_assert_eq!(*server, holders[holder].server.0);
            } else if kept || !anybody {
                prop_assert_eq!(*server, 0);
            } else {
                prop_assert!(taking(usize::from(*server) - 1));
            }
        }
    }
}

#[test]
fn what_is_passed_on_is_spread() {
    let holders = holders(&[1, 1, 1, 1], 1);
    for buckets in [maglev(&holders), in_order(&holders)] {
        let servers = pass_on(&holders, &buckets, |position| position != 1, |_| false);
        let moved: Vec<u16> =
            (0..buckets.len()).filter(|bucket| buckets[*bucket] == 1).map(|at| servers[at]).collect();
        for server in [1, 3, 4] {
            let got = moved.iter().filter(|to| **to == server).count();
            assert!(got * 5 > moved.len(), "server {server} got {got} of {}", moved.len());
        }
    }
}

/// Extreme weights and numbers: it ends, and soon.
#[test]
fn maglev_of_extremes() {
    let mut skewed = std::vec![1; 4095];
    skewed.push(65_535);
    for shares in [std::vec![7], std::vec![1, 65_535], std::vec![1, 1, 1, 65_535, 65_535], skewed] {
        let holders = holders(&shares, 1);
        let buckets = maglev(&holders);
        assert!(buckets.iter().all(|position| usize::from(*position) < shares.len()));
    }
}

#[test]
fn a_hash_looks_at_every_part_of_the_address_and_at_the_port() {
    let address = V6([1, 2]);
    let others = [hash(V6([3, 2]), 0), hash(V6([1, 3]), 0), hash(V6([2, 1]), 0), hash(address, 1)];
    assert!(others.iter().all(|other| *other != hash(address, 0)));
}

#[test]
fn a_bucket_leads_to_its_server() {
    let servers = [5, 6, 0, 7, 8];
    let words: Vec<u32> = [99].into_iter().chain(words(&servers)).collect();
    let schedule = Schedule { levels: 1, cycle: 5, ..Schedule::default() };
    let part = u32::MAX / 5 + 1;
    let found: Vec<u16> = (0..5)
        .map(|bucket| by_bucket(&words[..], &schedule, bucket * part).map_or(0, |server| server.0))
        .collect();
    assert_eq!(found, servers);
    assert_eq!(by_bucket(&words[..2], &schedule, 4 * part), None, "the words end too early");
}

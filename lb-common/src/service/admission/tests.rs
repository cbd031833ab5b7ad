use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::table::connection::{Step, step, tcp_flags};

const MS: u64 = 1_000_000;

fn taken(rate: &Rate, bucket: &mut u64, now_ns: u64, tries: u32) -> u32 {
    let mut taken = 0;
    for _ in 0..tries {
        let after = rate.after(*bucket, now_ns);
        if after != 0 {
            (*bucket, taken) = (after, taken + 1);
        }
    }
    taken
}

#[test]
fn a_burst_goes_through_and_then_the_rate() {
    let rate = Rate::per_second(100, 5);
    let mut bucket = 0;
    let begun = 3_600_000 * MS;
    assert_eq!(taken(&rate, &mut bucket, begun, 100), 5, "at once");
    assert_eq!(taken(&rate, &mut bucket, begun + 10 * MS, 100), 1, "one each 10 ms");
    assert_eq!(taken(&rate, &mut bucket, begun + 11 * MS, 100), 0);
    assert_eq!(taken(&rate, &mut bucket, begun + 35 * MS, 100), 2);
    assert_eq!(taken(&rate, &mut bucket, begun + 60_000 * MS, 100), 5, "no more than the burst");
}

#[test]
fn rates_are_exact_over_a_second() {
    for per_second in [1, 7, 1000, 1_000_000, 10_000_000] {
        let rate = Rate::per_second(per_second, per_second);
        let mut bucket = 0;
        let tries = per_second.min(20_000);
        assert_eq!(taken(&rate, &mut bucket, 1, tries), tries, "{per_second}");
        let total = SECOND / rate.interval;
        assert!(total.abs_diff(per_second.into()) <= u64::from(per_second) / 1000, "{per_second}");
    }
    assert!(Rate::per_second(0, 5).is_none());
}

proptest! {
    /// The textbook's bucket: it holds `burst` tokens, gets `per_second` of them in a second, and
    /// gives one or none. Counted in tokens times [`SECOND`], so that nothing is rounded.
    #[test]
    fn a_bucket_gives_what_a_bucket_of_tokens_gives(
        // Rates whose interval is a whole number of sixteenths of a nanosecond.
        per_second in prop::sample::select(std::vec![1u32, 2, 5, 10, 64, 100, 1000, 8000, 100_000, 1_000_000]),
        burst in 1u32..20,
        steps in proptest::collection::vec((0u64..40, 1u32..6), 1..80),
    ) {
        let rate = Rate::per_second(per_second, burst);
        let full = u64::from(burst) * rate.interval;
        // A step is a part of the time that one token takes, and now and then longer.
        let unit = (rate.interval >> SHIFT) / 8 + 1;
        let (mut bucket, mut tokens, mut now) = (0, full, 3_600_000 * MS);
        for (wait, tries) in steps {
            let passed = wait * unit;
            now += passed;
            tokens = full.min(tokens + (passed << SHIFT));
            for _ in 0..tries {
                let after = rate.after(bucket, now);
                let gives = tokens >= rate.interval;
                prop_assert_eq!(after != 0, gives, "at {} with {} of {}", now, tokens, full);
                if gives {
                    (bucket, tokens) = (after, tokens - rate.interval);
                }
            }
        }
    }

    /// In no stretch of time more comes through than the burst and what the rate gives meanwhile.
    #[test]
    fn no_stretch_of_time_gets_more_than_burst_and_rate(
        per_second in 1u32..5_000_000,
        burst in 1u32..50,
        waits in proptest::collection::vec(0u64..2_000_000, 2..200),
    ) {
        let rate = Rate::per_second(per_second, burst);
        let (mut bucket, mut now) = (0, 3_600_000 * MS);
        let mut times = Vec::new();
        for wait in waits {
            now += wait;
            let after = rate.after(bucket, now);
            if after != 0 {
                bucket = after;
                times.push(now);
            }
        }
        for first in 0..times.len() {
            for last in first..times.len() {
                let stretch = (times[last] - times[first]) << SHIFT;
                let most = u64::from(burst) + stretch / rate.interval;
                prop_assert!((last - first + 1) as u64 <= most);
            }
        }
    }

    #[test]
    fn what_opens_a_connection_is_what_the_step_of_a_known_one_says(flags in any::<u8>(), bits in 0u8..16) {
        let known = State::from_bits(bits);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let is_udp = known.is_some_and(|state| {
                matches!(state, State::UdpNew | State::UdpUnproven | State::Udp)
            });
            if known.is_some() && is_udp != (protocol == Protocol::Udp) {
                continue;
            }
            let anew = known.is_none_or(|state| step(state, flags) == Step::Reopen);
            // A reset ends a connection, whatever else it says; `frame::check` drops it with SYN.
            if protocol == Protocol::Tcp && flags & tcp_flags::RST != 0 {
                continue;
            }
            prop_assert_eq!(opens(protocol, flags, known), anew && first(protocol, flags).is_some());
        }
    }
}

#[test]
fn what_is_looked_at_follows_from_what_there_is() {
    let rate = Rate::per_second(1, 1);
    let none = Admission::default();
    assert!(none.is_none() && !none.is_for_every_packet());
    for new in [
        Admission { client_new: rate, ..none },
        Admission { service_new: rate, ..none },
        Admission { connections: 1, ..none },
        Admission { flags: Admission::LISTED | Admission::LISTED_ONLY, ..none },
    ] {
        assert!(!new.is_none() && !new.is_for_every_packet(), "{new:?}");
    }
    for every in [
        Admission { client_packets: rate, ..none },
        Admission { service_packets: rate, ..none },
        Admission { flags: Admission::LISTED | Admission::DENIES, ..none },
        Admission { flags: Admission::DENIED_EVERYWHERE, ..none },
    ] {
        assert!(every.is_for_every_packet() && !every.is_none(), "{every:?}");
    }
}

/// Limits of all clients together need no account of any, so that made-up sources fill no map.
#[test]
fn clients_have_accounts_where_each_is_limited() {
    let rate = Rate::per_second(1, 1);
    let none = Admission::default();
    for of_each in [
        Admission { client_new: rate, ..none },
        Admission { client_packets: rate, ..none },
        Admission { connections: 1, ..none },
    ] {
        assert!(of_each.limits_clients(), "{of_each:?}");
    }
    let lists = Admission { flags: Admission::LISTED | Admission::DENIES, ..none };
    for of_all in [none, lists, Admission { service_new: rate, service_packets: rate, ..none }] {
        assert!(!of_all.limits_clients(), "{of_all:?}");
    }
}

#[test]
fn own_lists_come_first_and_unlisted_clients_keep_their_connections() {
    let listed = |flags, opens, own, everywhere| {
        let admission = Admission { flags, ..Admission::default() };
        admission.listed(7, opens, |list| if list == EVERY_SERVICE { everywhere } else { own })
    };
    let (denies, only) = (Admission::LISTED | Admission::DENIES, Admission::LISTED | Admission::LISTED_ONLY);
    for opens in [false, true] {
        assert_eq!(listed(denies, opens, DENIED, 0), Some(Reason::ClientDenied));
        assert_eq!(listed(denies, opens, ALLOWED, DENIED), None);
        assert_eq!(listed(denies, opens, 0, DENIED), None, "there is no list of every service");
        let both = denies | Admission::DENIED_EVERYWHERE;
        assert_eq!(listed(both, opens, 0, DENIED), Some(Reason::ClientDenied));
        assert_eq!(listed(both, opens, ALLOWED, DENIED), None, "its own list comes first");
        assert_eq!(listed(Admission::DENIED_EVERYWHERE, opens, DENIED, 0), None);
    }
    assert_eq!(listed(only, true, 0, 0), Some(Reason::ClientUnlisted));
    assert_eq!(listed(only, false, 0, 0), None, "of a known connection");
    assert_eq!(listed(only, true, ALLOWED, 0), None);
}

#[test]
fn refusals_are_numbers_and_back() {
    let refusals: Vec<Reason> =
        Reason::ALL.iter().copied().filter(|one| refusal(*one as u32).is_some()).collect();
    assert_eq!(refusals.len(), 7);
    for reason in refusals {
        assert_eq!(refusal(number_of(Some(reason))), Some(reason));
    }
    assert_eq!(refusal(number_of(None)), None);
}

#[test]
fn what_was_opened_counts_from_the_last_walk_on() {
    let since = Since::default().and_one(7).and_one(7);
    assert_eq!((since.count(7), since.count(8), Since::default().count(7)), (2, 0, 0));
    assert_eq!(since.and_one(8).count(8), 1);
    let wrapped = (1 << 32) + 7;
    assert_eq!(since.count(wrapped), 2, "after so many walks nobody remembers");
}

#[test]
fn a_listed_address_stands_as_in_a_packet() {
    let address = V6([u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]), u64::from_ne_bytes([9; 8])]);
    let listed = Listed::new(7, address);
    assert_eq!(&listed.as_bytes()[4..12], &[1, 2, 3, 4, 5, 6, 7, 8]);
}

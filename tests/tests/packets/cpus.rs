//! Several CPUs at once: what they share comes out exact.

use std::ops::Range;
use std::time::Duration;

use anyhow::ensure;
use lb_common::reason::{Reason, TableEvent};
use lb_common::schedule::Member;
use lb_common::schedule::least::Least;
use lb_common::server::{Counts, ServerId};
use lb_common::service::limits::Thresholds;
use lb_datapath::object::Sizes;
use lb_datapath::sweep::Sweeper;
use lb_lab::busy::measured;
use lb_model::Scheduler;
use lb_tests::harness::*;

/// Threads; two on each CPU where there are only two, so that they also interrupt each other.
const THREADS: u32 = 4;
const PER_THREAD: u32 = 6_000;
const ALL: u64 = (THREADS * PER_THREAD) as u64;

fn on_every_cpu(work: impl Fn(u32) + Sync) {
    on_cpus(THREADS as usize, |thread| work(thread as u32));
}

/// Clients of one thread, nobody else's.
fn clients_of(thread: u32) -> Range<u32> {
    thread * PER_THREAD..(thread + 1) * PER_THREAD
}

const ROOMY: Sizes = Sizes { connections: 1 << 16, ..SMALL };

/// Connections opened per server.
fn served(director: &Director, servers: u16) -> Vec<u64> {
    (1..=servers).map(|number| director.stats(WEB, number).connections).collect()
}

#[test]
fn round_robin_is_exactly_even() {
    let director = Director::with_sizes(ROOMY, [(WEB, rr(1..=3))]);
    on_every_cpu(|thread| {
        for number in clients_of(thread) {
            director.send(&Packet::syn(client(number))).server();
        }
    });
    assert_eq!(served(&director, 3), [ALL / 3; 3]);
    assert_eq!(director.entries() as u64, ALL);
    assert_eq!(director.event(TableEvent::Full), 0);
    director.assert_counts_are_true();
}

#[test]
fn weighted_round_robin_is_exactly_by_weight() {
    let director = Director::with_sizes(ROOMY, [(WEB, service(Scheduler::Wrr, &[5, 0, 2, 1]))]);
    on_every_cpu(|thread| {
        for number in clients_of(thread) {
            director.send(&Packet::syn(client(number))).server();
        }
    });
    assert_eq!(served(&director, 4), [ALL / 8 * 5, 0, ALL / 8 * 2, ALL / 8]);
    director.assert_counts_are_true();
}

/// Two CPUs may pick by the same counts, so a pick is not exact; how far apart the servers get is
/// bounded by the number of CPUs, and every connection is counted. A CPU that is held up in the
/// middle of a change leaves a tournament stale until the sweeper mends it, so this is measured
/// again on a busy machine.
#[test]
fn least_connections_stays_even() {
    let even = measured("the shares of wlc on several CPUs", stays_even);
    even.unwrap_or_else(|error| panic!("{error:#}"));
}

fn stays_even() -> anyhow::Result<()> {
    let director = Director::with_sizes(ROOMY, [(WEB, service(Scheduler::Wlc, &[2, 1, 1]))]);
    let _sweeper = Sweeper::start(director.data_path.table.clone(), None, None)?;
    on_every_cpu(|thread| clients_of(thread).for_each(|number| _ = director.open(client(number))));
    let connections = served(&director, 3);
    assert_eq!(connections.iter().sum::<u64>(), ALL);
    assert_eq!((1..=3).map(|number| u64::from(director.counts(WEB, number).0)).sum::<u64>(), ALL);
    director.assert_counts_are_true();
    for (connections, share) in connections.iter().zip([ALL / 2, ALL / 4, ALL / 4]) {
        let difference = connections.abs_diff(share);
        ensure!(difference <= 2 * u64::from(THREADS), "{connections} instead of {share}");
    }
    Ok(())
}

/// Each CPU may have picked one connection that it has not counted yet. A race may also leave a
/// tournament's winner stale, until the thread that mends it gets a CPU.
#[test]
fn thresholds_are_passed_by_a_connection_for_each_cpu_at_most() {
    for scheduler in [Scheduler::Rr, Scheduler::Wlc, Scheduler::Sh] {
        let found = measured("thresholds", || fill(scheduler));
        found.unwrap_or_else(|error| panic!("{scheduler:?}: {error:#}"));
    }
}

/// On every CPU, two servers of three with a threshold.
fn fill(scheduler: Scheduler) -> anyhow::Result<()> {
    const UPPER: u32 = 1000;
    let mut limited = service(scheduler, &[1, 1, 1]);
    for server in &mut limited.servers[..2] {
        server.thresholds = Thresholds::new(UPPER, 0);
    }
    let director = Director::with_sizes(ROOMY, [(WEB, limited)]);
    let _sweeper = Sweeper::start(director.data_path.table.clone(), None, None).expect("threads");
    on_every_cpu(|thread| {
        clients_of(thread).take(2000).for_each(|number| _ = director.open(client(number)));
    });
    for number in 1..=2 {
        let (active, inactive) = director.counts(WEB, number);
        let found = active + inactive;
        ensure!((UPPER..=UPPER + THREADS).contains(&found), "{found} of server {number}");
    }
    director.assert_counts_are_true();
    Ok(())
}

/// CPUs that change counts at once may leave a tournament stale. Within 100 ms of the last packet
/// its winner is the rule's again, and so is every pick that follows.
#[test]
fn a_race_leaves_no_wrong_winner_behind() {
    for (scheduler, weights) in [(Scheduler::Lc, [1; 7]), (Scheduler::Wlc, [3, 1, 2, 5, 1, 1, 4])] {
        let raced = measured("tournaments after a race", || {
            race(scheduler, &weights);
            Ok(())
        });
        raced.unwrap_or_else(|error| panic!("{scheduler:?}: {error:#}"));
    }
}

fn race(scheduler: Scheduler, weights: &[u16]) {
    let director = Director::with_sizes(ROOMY, [(WEB, service(scheduler, weights))]);
    let sweeper = Sweeper::start(director.data_path.table.clone(), None, None).expect("two threads more");
    on_every_cpu(|thread| {
        for number in clients_of(thread) {
            director.open(client(number));
            if number % 3 == 0 {
                director.send(&Packet::fin(client(number / 2)));
            }
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    drop(sweeper);
    assert_eq!(director.data_path.executor.maps().tournaments.mend(), 0, "nodes that are stale after 100 ms");
    for number in ALL as u32..ALL as u32 + 50 {
        let expected = least_by_rule(&director, scheduler, weights);
        assert_eq!(director.send(&Packet::syn(client(number))).server(), expected);
    }
    director.assert_counts_are_true();
}

/// The scheduler's rule, word for word.
fn least_by_rule(director: &Director, scheduler: Scheduler, weights: &[u16]) -> u16 {
    let mut least = Least::of(scheduler).expect("one that goes by connections");
    for (number, weight) in (1..).zip(weights) {
        let (active, inactive) = director.counts(WEB, number);
        let member = Member::new(ServerId(number), *weight);
        least.consider(member, Counts::new(active, inactive));
    }
    least.server().expect("there are members").0
}

/// Each thread leads connections through their lives, all in a table too small for them, while a
/// sweeper removes what it likes. Every change of a count must arrive.
#[test]
fn no_count_is_lost_in_a_crowded_table() {
    let director = Director::with_sizes(FEW, [(WEB, rr(1..=3)), (WEB_UDP, rr(1..=3))]);
    on_every_cpu(|thread| {
        for number in clients_of(thread) {
            let client = client(number % 1500);
            for flags in [SYN, ACK, if number % 3 == 0 { RST } else { FIN | ACK }] {
                director.send(&Packet::tcp(client, flags));
            }
            director.send(&Packet::udp(client));
            if thread == 0 && number % 500 == 0 {
                director.sweep_after(Duration::from_secs(200));
            }
        }
    });
    assert!(director.event(TableEvent::Evicted) > 0, "a crowded table");
    director.assert_counts_are_true();
    director.sweep_after(Duration::from_secs(3600));
    assert_eq!(director.entries(), 0);
    for number in 1..=3 {
        assert_eq!((director.counts(WEB, number), director.counts(WEB_UDP, number)), ((0, 0), (0, 0)));
    }
}

/// The same connections on all CPUs at once, as no network card would deal them out.
#[test]
fn no_count_is_lost_when_cpus_share_connections() {
    let director = Director::with_sizes(ROOMY, [(WEB, rr(1..=3))]);
    on_every_cpu(|_| {
        for number in 0..PER_THREAD / 4 {
            for flags in [SYN, ACK, FIN | ACK, SYN] {
                director.send(&Packet::tcp(client(number), flags));
            }
        }
    });
    director.assert_counts_are_true();
    director.sweep_after(Duration::from_secs(3600));
    assert_eq!((1..=3).map(|number| director.counts(WEB, number)).collect::<Vec<_>>(), [(0, 0); 3]);
}

/// The fragments of one datagram on all CPUs at once: where all were sent its trail has ended, so
/// that none of the next datagram of this id is taken for one of it.
#[test]
fn fragments_on_several_cpus_leave_no_trail_behind() {
    const ROUNDS: u32 = 300;
    const PIECES: usize = 12;
    let director = Director::new([(WEB_UDP, rr([1, 2, 3]))]);
    let units = THREADS as usize * PIECES * 4;
    let mut complete = 0;
    for round in 0..ROUNDS {
        let datagram = Packet { payload: units * 8 - 8, ..Packet::udp(client(round % 7)) };
        let first = fragment(&datagram, 7, 0..4);
        let server = director.send_bytes(&first).server();
        let lost = std::sync::atomic::AtomicU32::new(0);
        on_every_cpu(|thread| {
            // A run of neighbours each: as many stretches as a trail can tell.
            let run = (0..PIECES).map(|piece| (thread as usize * PIECES + piece) * 4);
            for from in run.filter(|from| *from != 0) {
                let frame = fragment(&datagram, 7, from..from + 4);
                // One that makes too many stretches for a moment comes again, as a held one does.
                match (0..100).find_map(|_| director.send_bytes(&frame).sent_to()) {
                    Some(sent_to) => assert_eq!(sent_to, server, "round {round}, unit {from}"),
                    None => drop(lost.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
                }
            }
        });
        let next = director.explain(&fragment(&datagram, 7, 8..12)).1;
        if lost.into_inner() == 0 {
            complete += 1;
            assert_eq!(next, [Reason::FragmentUnknown], "round {round}: of the next datagram");
        }
    }
    assert!(complete > ROUNDS / 2, "{complete} of {ROUNDS} datagrams were sent whole");
}

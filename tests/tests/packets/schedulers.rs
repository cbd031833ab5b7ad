//! Exact picks of rr, wrr, lc and wlc through the program.

use lb_model::Scheduler;
use lb_tests::harness::*;

/// Servers of `count` new connections, as letters: A is server 1.
fn picks(director: &Director, clients: std::ops::Range<u32>) -> String {
    clients.map(|number| char::from(b'@' + director.open(client(number)) as u8)).collect()
}

#[track_caller]
fn assert_picks(scheduler: Scheduler, weights: &[u16], expected: &str) {
    let director = Director::new([(WEB, service(scheduler, weights))]);
    let picked = picks(&director, 0..expected.len() as u32);
    assert_eq!(picked, expected, "{scheduler:?} over {weights:?}");
}

#[test]
fn round_robin() {
    assert_picks(Scheduler::Rr, &[1, 1, 1], "ABCABCABC");
    assert_picks(Scheduler::Rr, &[4, 3, 2], "ABCABCABC");
    assert_picks(Scheduler::Rr, &[1, 0, 7], "ACACAC");
    assert_picks(Scheduler::Rr, &[5], "AAAA");
}

#[test]
fn weighted_round_robin() {
    assert_picks(Scheduler::Wrr, &[4, 3, 2], "ABCABCABAABCABCABA");
    assert_picks(Scheduler::Wrr, &[40, 30, 20], "ABCABCABAABCABCABA");
    assert_picks(Scheduler::Wrr, &[1, 2, 3], "ABCBCCABCBCC");
    assert_picks(Scheduler::Wrr, &[2, 0, 1], "ACAACA");
    assert_picks(Scheduler::Wrr, &[65_535, 65_535], "ABABAB");
    assert_picks(Scheduler::Wrr, &[3], "AAAA");
}

#[test]
fn least_connections() {
    assert_picks(Scheduler::Lc, &[1, 1, 1], "ABCABCABC");
    assert_picks(Scheduler::Lc, &[9, 1, 0], "ABABAB");
    assert_picks(Scheduler::Lc, &[5], "AAAA");
}

#[test]
fn weighted_least_connections() {
    assert_picks(Scheduler::Wlc, &[4, 2, 1], "ABCAABAABCAABA");
    assert_picks(Scheduler::Wlc, &[1, 2], "ABBABBABB");
    assert_picks(Scheduler::Wlc, &[0, 1, 1], "BCBC");
    assert_picks(Scheduler::Wlc, &[5], "AAAA");
}

#[test]
fn least_connections_follow_what_ends() {
    let director = Director::new([(WEB, service(Scheduler::Lc, &[1, 1, 1]))]);
    assert_eq!(picks(&director, 0..9), "ABCABCABC");
    // Two of B's three connections end. Each still weighs as an inactive one, the 256th part of an
    // active one.
    director.send(&Packet::fin(client(1)));
    director.send(&Packet::rst(client(4)));
    assert_eq!(director.counts(WEB, 2), (1, 2));
    assert_eq!(picks(&director, 9..13), "BBAC", "B is full again, and its inactive ones weigh");
}

/// A SYN alone is an inactive connection.
#[test]
fn half_open_connections_weigh_little() {
    let director = Director::new([(WEB, service(Scheduler::Lc, &[1, 1]))]);
    assert_eq!(director.open(client(0)), 1);
    for number in 1..=256 {
        assert_eq!(director.send(&Packet::syn(client(number))).server(), 2, "half-open number {number}");
    }
    assert_eq!(director.send(&Packet::syn(client(300))).server(), 1, "256 of them are one active: the first");
    assert_eq!(director.send(&Packet::syn(client(301))).server(), 2);
}

#[test]
fn a_change_of_scheduler_or_weights_holds_for_the_next_connection() {
    let mut director = Director::new([(WEB, service(Scheduler::Rr, &[4, 3, 2]))]);
    assert_eq!(picks(&director, 0..3), "ABC");
    director.change_service(WEB, |service| service.scheduler = Scheduler::Lc);
    assert_eq!(picks(&director, 3..6), "ABC");
    director.change_service(WEB, |service| service.servers[1].weight = 0);
    assert_eq!(picks(&director, 6..10), "ACAC");
    director.change_service(WEB, |service| service.servers.swap(0, 2));
    assert_eq!(picks(&director, 10..12), "CA", "configured order decides between equals");
}

/// The rule of lc and wlc, word for word: the first of those with the least load (over weight).
fn least_by_definition(loads: &[u64], weights: &[u16], scheduler: Scheduler) -> u16 {
    let weight = |index: usize| if scheduler == Scheduler::Wlc { f64::from(weights[index]) } else { 1.0 };
    let candidates = (0..weights.len()).filter(|index| weights[*index] > 0);
    let load = |index: &usize| loads[*index] as f64 / weight(*index);
    candidates.min_by(|a, b| load(a).total_cmp(&load(b))).unwrap() as u16 + 1
}

#[test]
fn two_hundred_and_fifty_six_servers() {
    let weights: Vec<u16> = (0..256).map(|index| index % 5).collect();
    let usable = weights.iter().filter(|weight| **weight > 0).count() as u32;
    let director = |scheduler| Director::new([(WEB, service(scheduler, &weights))]);

    let rr = director(Scheduler::Rr);
    let round: Vec<u16> = (0..usable).map(|number| rr.open(client(number))).collect();
    assert!(round.is_sorted() && round.iter().all(|server| weights[usize::from(*server) - 1] > 0));
    assert_eq!(rr.open(client(usable)), round[0], "and from the start again");

    let wrr = director(Scheduler::Wrr);
    let mut served = vec![0; 256];
    for number in 0..weights.iter().map(|weight| u32::from(*weight)).sum() {
        served[usize::from(wrr.open(client(number))) - 1] += 1;
    }
    assert_eq!(served, weights, "a full cycle");

    for scheduler in [Scheduler::Lc, Scheduler::Wlc] {
        let director = director(scheduler);
        let mut loads = vec![0; 256];
        for number in 0..700 {
            let expected = least_by_definition(&loads, &weights, scheduler);
            assert_eq!(director.open(client(number)), expected, "{scheduler:?}, pick {number}");
            loads[usize::from(expected) - 1] += 256;
        }
    }
}

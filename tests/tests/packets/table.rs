//! The connection table under pressure: floods, a full table, expiry.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_common::reason::{Reason, TableEvent};
use lb_common::table::Layout as _;
use lb_common::table::connection::{KeyV4, State};
use lb_datapath::object::Sizes;
use lb_tests::harness::*;

/// First client of a flood; those before it are the ones to protect.
const FLOOD: u32 = 1_000_000;

#[test]
fn a_syn_flood_takes_no_connection_from_anybody() {
    let sizes = Sizes { connections: 1024, ..SMALL };
    let director = Director::with_sizes(sizes, [(WEB, rr(1..=3)), (WEB_UDP, rr(1..=3))]);
    let homes: Vec<u16> = (0..500).map(|number| director.establish(client(number))).collect();
    for number in 500..600 {
        (0..3).for_each(|_| _ = director.send(&Packet::udp(client(number))));
        director.establish(client(number));
        director.send(&Packet::fin(client(number)));
    }
    for number in FLOOD..FLOOD + 20_000 {
        assert_eq!(director.send(&Packet::syn(client(number))).verdict, Verdict::Tx);
    }
    for number in FLOOD..FLOOD + 5_000 {
        assert_eq!(director.send(&Packet::udp(client(number))).verdict, Verdict::Tx);
    }
    for (number, home) in (0..).zip(homes) {
        assert_eq!(director.send(&Packet::ack(client(number))).server(), home, "client {number}");
    }
    let opened = |key| (1..=3).map(|number| director.stats(key, number).connections).sum::<u64>();
    let before = (opened(WEB), opened(WEB_UDP));
    for number in 500..600 {
        director.send(&Packet::ack(client(number)));
        director.send(&Packet::udp(client(number)));
    }
    assert_eq!((opened(WEB), opened(WEB_UDP)), before, "closing ones and datagrams in a row are known still");
    assert_eq!(director.reason(Reason::Stray), 0);
    assert_eq!(director.event(TableEvent::Full), 0);
    // What was opened is either in the table or was evicted.
    let evicted = director.event(TableEvent::Evicted);
    assert!(evicted > 20_000, "{evicted} evicted");
    assert_eq!(before.0 + before.1, director.entries() as u64 + evicted);
    director.assert_counts_are_true();
}

/// What two packets open that may have a made-up source gives way to others: a handshake and no
/// data, two datagrams, a handshake and its end.
#[test]
fn a_flood_of_pairs_takes_no_connection_from_anybody() {
    let sizes = Sizes { connections: 1024, ..SMALL };
    let director = Director::with_sizes(sizes, [(WEB, rr(1..=3)), (WEB_UDP, rr(1..=3))]);
    let homes: Vec<u16> = (0..500).map(|number| director.establish(client(number))).collect();
    for number in 0..100 {
        (0..3).for_each(|_| _ = director.send(&Packet::udp(client(number))));
    }
    let known = director.entries();
    for number in FLOOD..FLOOD + 20_000 {
        let second = match number % 4 {
            0 => Packet::fin(client(number)),
            1 => Packet::data(client(number)),
            _ => Packet::ack(client(number)),
        };
        for packet in [Packet::syn(client(number)), second] {
            assert_eq!(director.send(&packet).verdict, Verdict::Tx);
        }
    }
    for number in FLOOD..FLOOD + 20_000 {
        let servers = [(); 2].map(|()| director.send(&Packet::udp(client(number))).server());
        assert_eq!(servers[0], servers[1], "nothing comes between two of them");
    }
    for (number, home) in (0..).zip(homes) {
        assert_eq!(director.send(&Packet::ack(client(number))).server(), home, "client {number}");
    }
    assert_eq!((director.event(TableEvent::Full), director.reason(Reason::Stray)), (0, 0));
    let evicted = director.event(TableEvent::Evicted);
    assert_eq!(director.entries() as u64 + evicted, known as u64 + 40_000);
    // The 100 flows of datagrams are there, too.
    let opened = director.stats(WEB_UDP, 1).connections;
    (0..100).for_each(|number| _ = director.send(&Packet::udp(client(number))));
    assert_eq!(director.stats(WEB_UDP, 1).connections, opened);
    director.assert_counts_are_true();
}

fn state(director: &Director) -> State {
    let (_, entry) = director.data_path.table.v4.entries().next().expect("an entry");
    entry.state().expect("a state")
}

/// A client that only listens has no data to prove itself by.
#[test]
fn whoever_stays_is_proven_too() {
    let mut web = rr([1]);
    web.settings.timeouts.unproven = Duration::from_secs(8);
    let director = Director::new([(WEB, web)]);
    director.open(client(1));
    director.send(&Packet::ack(client(1)));
    assert_eq!(state(&director), State::Unproven, "at once");
    assert_eq!(director.counts(WEB, 1), (1, 0), "it is active all the same");
    // An eighth of the time-out, and ticks.
    std::thread::sleep(Duration::from_millis(1600));
    director.send(&Packet::ack(client(1)));
    assert_eq!(state(&director), State::Established);
}

/// A half-open connection that the flood pushed out is opened by its client's next SYN, as if
/// nothing had been.
#[test]
fn a_flood_costs_a_new_client_a_retransmission_at_most() {
    let director = Director::with_sizes(ONE_PAGE, [(WEB, rr(1..=3))]);
    director.send(&Packet::syn(client(1)));
    for number in FLOOD..FLOOD + 2_000 {
        director.send(&Packet::syn(client(number)));
    }
    assert_eq!(director.explain(&Packet::ack(client(1)).bytes()).1, [Reason::Stray], "pushed out");
    let server = director.establish(client(1));
    assert_eq!(director.send(&Packet::ack(client(1))).server(), server);
}

/// Connections that find no slot go by the hash of their client, and so do their later packets.
#[test]
fn connections_beyond_a_full_table_keep_their_server() {
    let mut director = Director::with_sizes(ONE_PAGE, [(WEB, rr(1..=5)), (WEB_UDP, rr(1..=5))]);
    let homes: Vec<u16> = (0..600).map(|number| director.establish(client(number))).collect();
    let full = director.event(TableEvent::Full);
    assert_eq!(full + director.entries() as u64, 600);
    assert!(
        director.entries() as u32 > KeyV4::SLOTS_PER_PAGE / 10 * 9,
        "{} in the table",
        director.entries()
    );
    assert_eq!(director.event(TableEvent::Evicted), 0);

    let check_all = |director: &Director, what: &str| {
        for (number, home) in (0..).zip(&homes) {
            for flags in [ACK, ACK | 0x08, FIN | ACK, ACK] {
                let server = director.send(&Packet::tcp(client(number), flags)).server();
                assert_eq!(server, *home, "client {number}, flags {flags:#x}, {what}");
            }
        }
    };
    let datagrams: Vec<u16> =
        (0..600).map(|number| director.send(&Packet::udp(client(number))).server()).collect();
    assert!(director.event(TableEvent::Full) > full, "datagrams found it full too");
    for (number, home) in (0..).zip(&datagrams) {
        assert_eq!(director.send(&Packet::udp(client(number))).server(), *home, "client {number} by UDP");
    }
    check_all(&director, "in a full table");
    director.change_service(WEB_UDP, |service| service.servers.clear());
    check_all(&director, "after another service changed");
    director.assert_counts_are_true();

    let connections: u64 = (1..=5).map(|number| director.stats(WEB, number).connections).sum();
    assert_eq!(connections, 600, "with an entry or without one");
}

#[test]
fn strays_pass_again_once_no_connection_can_be_without_an_entry() {
    let mut web = rr(1..=3);
    web.settings.timeouts.established = Duration::from_secs(1);
    let director = Director::with_sizes(ONE_PAGE, [(WEB, web)]);
    let stray = Packet::ack(client(FLOOD));
    assert_eq!(director.send(&stray).verdict, Verdict::Pass);
    for number in 0..600 {
        director.establish(client(number));
    }
    assert_eq!(director.send(&stray).verdict, Verdict::Tx, "it may be one of those without an entry");
    std::thread::sleep(Duration::from_millis(1900));
    assert_eq!(director.explain(&stray.bytes()).1, [Reason::Stray]);
}

#[test]
fn the_sweep_removes_what_was_idle_for_its_time_out() {
    let mut web = rr(1..=3);
    web.settings.timeouts.syn_recv = Duration::from_secs(1);
    web.settings.timeouts.closed = Duration::from_secs(1);
    let director = Director::new([(WEB, web)]);
    for number in 0..90 {
        match number % 3 {
            0 => _ = director.send(&Packet::syn(client(number))),
            1 => _ = director.establish(client(number)),
            _ => {
                director.establish(client(number));
                director.send(&Packet::rst(client(number)));
            }
        }
    }
    assert_eq!(director.sweep_after(Duration::ZERO).expired, 0, "too early");
    std::thread::sleep(Duration::from_millis(1900));
    let census = director.sweep_after(Duration::ZERO);
    assert_eq!((census.expired, census.used), (60, 30));
    assert_eq!(director.entries(), 30);
    director.assert_counts_are_true();
    for number in 0..90 {
        let known = director.send(&Packet::ack(client(number))).verdict == Verdict::Tx;
        assert_eq!(known, number % 3 == 1, "client {number}");
    }
}

/// What has expired makes room before the sweep comes by, and is no eviction.
#[test]
fn expired_connections_make_room_at_once() {
    let mut web = rr(1..=3);
    web.settings.timeouts.established = Duration::from_secs(1);
    let director = Director::with_sizes(ONE_PAGE, [(WEB, web)]);
    for number in 0..600 {
        director.establish(client(number));
    }
    let full = director.event(TableEvent::Full);
    assert!(full > 300);
    std::thread::sleep(Duration::from_millis(1900));
    let homes: BTreeMap<u32, u16> =
        (1000..1100).map(|number| (number, director.establish(client(number)))).collect();
    assert_eq!(director.event(TableEvent::Full), full);
    assert_eq!(director.event(TableEvent::Evicted), 0);
    for (number, home) in homes {
        assert_eq!(director.send(&Packet::ack(client(number))).server(), home);
    }
    director.assert_counts_are_true();
}

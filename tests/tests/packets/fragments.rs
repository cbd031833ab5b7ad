//! Fragments follow the first one of their datagram, and none that overlaps another gets through.

use std::ops::Range;

use lb_common::reason::Reason;
use lb_tests::harness::*;

fn director() -> Director {
    Director::new([WEB, WEB_UDP, WEB6, DNS6].map(|key| (key, rr([1, 2, 3]))))
}

/// A datagram of 3,000 bytes. A link of 1,500 bytes wants it in the fragments of [`LINK`].
fn datagram(from: Client) -> Packet {
    Packet { payload: 3000, ..Packet::udp(from) }
}

/// Units of 8 bytes.
const LINK: [Range<usize>; 3] = [0..185, 185..370, 370..376];

/// Fragments of these parts of client `number`'s datagrams, of both families.
fn both(number: u32, id: u16, range: Range<usize>) -> [Vec<u8>; 2] {
    let v4 = fragment(&datagram(client(number)), id, range.clone());
    [v4, fragment6(&udp6_of(number, 3000), id.into(), range)]
}

#[track_caller]
fn assert_refused(director: &Director, description: &str, frame: &[u8], reason: Reason) {
    let (outcome, reasons) = director.explain(frame);
    assert_eq!((outcome.verdict, reasons), (Verdict::of(reason), vec![reason]), "{description}");
    assert_eq!(outcome.frame, frame, "{description}");
}

#[test]
fn the_fragments_of_a_datagram_go_to_one_server() {
    let director = director();
    for round in 0..3 {
        for number in 0..30 {
            let id = (round * 100 + number) as u16;
            let firsts = both(number, id, LINK[0].clone());
            let servers = firsts.map(|frame| director.send_bytes(&frame).server());
            assert_eq!(servers, [number as u16 % 3 + 1; 2], "a client's datagrams stay with a server");
            for range in &LINK[1..] {
                for (frame, server) in both(number, id, range.clone()).iter().zip(servers) {
                    assert_goes_to(&director, &format!("{range:?}"), frame, server);
                }
            }
        }
    }
    assert_eq!((director.counts(WEB_UDP, 1), director.counts(DNS6, 1)), ((0, 10), (0, 10)));
    let stats = director.stats(WEB_UDP, 1);
    assert_eq!((stats.connections, stats.packets), (10, 90));
    director.assert_counts_are_true();
}

#[test]
fn headers_and_tags_are_looked_through() {
    let director = director();
    let mut id = 0;
    for ip_options in [0, 1, 10] {
        for tags in [vec![], vec![DOT1Q], vec![DOT1AD, DOT1Q]] {
            id += 1;
            let datagram = Packet { ip_options, tags: tags.clone(), ..datagram(client(1)) };
            let server = director.send_bytes(&fragment(&datagram, id, 0..185)).server();
            for range in &LINK[1..] {
                assert_goes_to(&director, "IPv4", &fragment(&datagram, id, range.clone()), server);
            }
            let six = |range: &Range<usize>, headers: usize| {
                let plain = fragment6(&udp6_of(1, 3000), u32::from(id), range.clone());
                let longer = (0..headers).fold(plain, |frame, _| extended(frame, 60, [0; 7]));
                tagged(&tags, &longer)
            };
            let server = director.send_bytes(&six(&LINK[0], ip_options.min(3))).server();
            for range in &LINK[1..] {
                assert_goes_to(&director, "IPv6", &six(range, ip_options.min(3)), server);
            }
        }
    }
}

#[test]
fn a_fragment_without_its_first_one_is_the_hosts() {
    let director = director();
    for frame in both(1, 1, 185..370) {
        assert_refused(&director, "no first one", &frame, Reason::FragmentUnknown);
    }
    both(1, 1, 0..185).iter().for_each(|frame| _ = director.send_bytes(frame).server());
    for (description, frames) in [
        ("another id", both(1, 2, 185..370)),
        ("another client", both(2, 1, 185..370)),
        ("the bytes of the id swapped", both(1, 256, 185..370)),
    ] {
        for frame in frames {
            assert_refused(&director, description, &frame, Reason::FragmentUnknown);
        }
    }
    let tcp = Packet { payload: 3000, ..Packet::ack(client(1)) };
    assert_refused(&director, "another protocol", &fragment(&tcp, 1, 185..370), Reason::FragmentUnknown);
    let stranger = datagram(client(1)).to(OTHER_VIP, PORT);
    let (outcome, reasons) = director.explain(&fragment(&stranger, 1, 185..370));
    assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "to no VIP");
    let nobodys = datagram(client(3)).to(VIP, 53);
    for range in [0..185, 370..376, 185..370] {
        let (outcome, reasons) = director.explain(&fragment(&nobodys, 1, range));
        assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "a port of nobody");
    }
    let next = fragment(&datagram(client(3)), 1, 185..370);
    assert_refused(&director, "of the next datagram of this id", &next, Reason::FragmentUnknown);
}

#[test]
fn later_ones_may_come_in_any_order() {
    let director = director();
    let order = [0..100, 300..376, 200..250, 100..200, 250..300];
    let servers = both(1, 7, order[0].clone()).map(|frame| director.send_bytes(&frame).server());
    for range in &order[1..] {
        for (frame, server) in both(1, 7, range.clone()).iter().zip(servers) {
            assert_goes_to(&director, &format!("{range:?}"), frame, server);
        }
        if range.start != 250 {
            for frame in both(1, 7, range.clone()) {
                assert_refused(&director, "twice", &frame, Reason::FragmentOverlap);
            }
        }
    }
    for frame in both(1, 7, 250..300) {
        assert_refused(&director, "of the next datagram of this id", &frame, Reason::FragmentUnknown);
    }
}

/// By a thread of the controller, which waits for the first one: `tests/mtu.rs`.
#[test]
fn those_that_come_too_early_are_handed_over_and_few_of_a_flood() {
    let mut director = director();
    director.held_fragments().take_for(std::time::Duration::from_secs(60));
    let jumbo = Packet { payload: 9000, ..Packet::udp(client(1)) };
    let tags = Packet { tags: vec![DOT1AD, DOT1Q], ..datagram(client(1)) };
    let early = [fragment(&jumbo, 9, 185..1100), fragment(&tags, 9, 185..370)];
    let early: Vec<Vec<u8>> = both(1, 9, 185..370).into_iter().chain(early).collect();
    for frame in &early {
        assert_refused(&director, "held", frame, Reason::FragmentHeld);
        assert_eq!(director.held_fragments().take_frame().as_ref(), Some(frame));
    }
    both(2, 7, 0..10).iter().for_each(|frame| _ = director.send_bytes(frame).server());
    for from in [20, 40, 60] {
        both(2, 7, from..from + 10).iter().for_each(|frame| _ = director.send_bytes(frame).server());
    }
    for frame in both(2, 7, 80..90) {
        assert_refused(&director, "too many holes, for now", &frame, Reason::FragmentHeld);
    }
    let flooded = with(&early[0], |frame| frame[..6].copy_from_slice(&mac(9).octets()));
    let (outcome, reasons) = director.explain(&flooded);
    assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![Reason::FragmentUnknown]), "another's MAC");

    let begin = std::time::Instant::now();
    let held = (0..20_000).filter(|_| director.explain(&early[0]).1 == [Reason::FragmentHeld]).count();
    let cpus = std::thread::available_parallelism().unwrap().get() as u128;
    let allowed = cpus * (512 + 5 * (begin.elapsed().as_millis() + 5));
    assert!(held as u128 <= allowed && held > 100, "{held} of a flood, {allowed} allowed");
    director.held_fragments().take_no_more();
    assert_refused(&director, "nobody takes them", &early[0], Reason::FragmentUnknown);
}

fn with(frame: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = frame.to_vec();
    change(&mut frame);
    frame
}

#[test]
fn fragments_that_overlap_are_dropped() {
    let director = director();
    let servers = both(1, 7, 0..100).map(|frame| director.send_bytes(&frame).server());
    for (frame, server) in both(1, 7, 200..300).iter().zip(servers) {
        assert_goes_to(&director, "apart", frame, server);
    }
    for range in [1..2, 99..120, 150..201, 299..310, 199..301, 250..260, 100..300] {
        for frame in both(1, 7, range.clone()) {
            assert_refused(&director, &format!("{range:?}"), &frame, Reason::FragmentOverlap);
        }
    }
    for (frame, server) in both(1, 7, 100..200).iter().zip(servers) {
        assert_goes_to(&director, "between them", frame, server);
    }
}

#[test]
fn a_datagram_with_many_holes_is_not_followed_further() {
    let director = director();
    both(1, 7, 0..10).iter().for_each(|frame| _ = director.send_bytes(frame).server());
    for from in [20, 40, 60] {
        both(1, 7, from..from + 10).iter().for_each(|frame| _ = director.send_bytes(frame).server());
    }
    for frame in both(1, 7, 80..90) {
        assert_refused(&director, "a fourth hole", &frame, Reason::FragmentScattered);
    }
    both(1, 7, 10..20).iter().for_each(|frame| _ = director.send_bytes(frame).server());
    both(1, 7, 80..90).iter().for_each(|frame| _ = director.send_bytes(frame).server());
}

/// Busy senders use an id again within a second.
#[test]
fn an_id_that_is_used_again_is_of_the_new_datagram() {
    let director = director();
    for port in [40_000, 40_001, 40_002] {
        let datagram = datagram(Client::new(*client(1).ip(), port));
        let server = director.send_bytes(&fragment(&datagram, 7, 0..185)).server();
        assert_eq!(server, port - 39_999, "a connection of its own");
        for range in &LINK[1..] {
            assert_goes_to(&director, "the new one", &fragment(&datagram, 7, range.clone()), server);
        }
    }
}

#[test]
fn what_must_not_be_forwarded_has_its_reason() {
    let mut director = director();
    both(1, 7, 0..185).iter().for_each(|frame| _ = director.send_bytes(frame).server());
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = fragment(&datagram(client(1)), 7, 185..370);
        change(&mut frame);
        frame
    };
    let long = Some(Reason::BadLength);
    let rows: [Row; 7] = [
        (
            "to another station",
            with(&|frame| frame[..6].copy_from_slice(&mac(9).octets())),
            Some(Reason::NotOurMac),
        ),
        ("time to live 0", with(&|frame| frame[22] = 0), Some(Reason::TtlExpired)),
        ("longer than the frame", with(&|frame| frame[17] += 1), long),
        ("no units of 8 bytes", with(&|frame| frame[17] -= 1), long),
        ("nothing in it", with(&|frame| frame[16..18].copy_from_slice(&[0, 20])), long),
        ("beyond the end of any datagram", with(&|frame| frame[20..22].copy_from_slice(&[0x3f, 0xff])), long),
        ("as it should be", with(&|_| ()), None),
    ];
    assert_rows(&director, rows);
    let removed = director.change_service(WEB_UDP, |service| service.servers.clear());
    director.purge(&removed);
    let last = fragment(&datagram(client(1)), 7, 370..376);
    assert_refused(&director, "its server is gone", &last, Reason::FragmentUnknown);
}

#[test]
fn the_host_as_a_server_gets_them_all() {
    let mut service = rr([]);
    service.servers.push(local(true));
    let director = Director::new([(WEB_UDP, service)]);
    for range in LINK {
        let frame = fragment(&datagram(client(1)), 7, range);
        assert_refused(&director, "the host's", &frame, Reason::LocalFallback);
    }
}

#[test]
fn the_lease_decides_as_of_other_packets() {
    let director = director();
    let servers = both(1, 7, 0..100).map(|frame| director.send_bytes(&frame).server());
    let leases = director.data_path.leases();
    leases.renew(GROUP, ago(1));
    for (frame, server) in both(1, 7, 100..200).iter().zip(servers) {
        assert_goes_to(&director, "a datagram outlives its lease", frame, server);
    }
    leases.end(GROUP);
    for frame in both(1, 7, 200..300) {
        assert_refused(&director, "given up", &frame, Reason::Standby);
    }
    leases.renew(GROUP, within(60));
    for (frame, server) in both(1, 7, 200..300).iter().zip(servers) {
        assert_goes_to(&director, "taken again", frame, server);
    }
}

#[test]
fn a_trail_ends_by_the_clock() {
    let mut director = director();
    both(1, 7, 0..185).iter().for_each(|frame| _ = director.send_bytes(frame).server());
    director.expire_fragments();
    for frame in both(1, 7, 185..370) {
        assert_refused(&director, "too late", &frame, Reason::FragmentUnknown);
    }
    let servers = both(1, 7, 0..185).map(|frame| director.send_bytes(&frame).server());
    for (frame, server) in both(1, 7, 185..370).iter().zip(servers) {
        assert_goes_to(&director, "a new datagram of that id", frame, server);
    }
}

/// A flood of first fragments takes room from the oldest alone. The kernel sets up to 128 entries
/// that a CPU has added aside until that CPU wants room: when one CPU adds all, the oldest are
/// gone.
#[test]
fn there_is_room_for_thousands_of_datagrams() {
    let director = director();
    let first = |number: u32| fragment(&datagram(client(number)), 1, 0..100);
    on_cpus(1, |_| {
        for number in 0..2 * lb_common::packet::fragment::TRAILS {
            director.send_bytes(&first(number)).server();
        }
    });
    let newest = 2 * lb_common::packet::fragment::TRAILS - 1;
    let server = director.send_bytes(&first(newest)).server();
    assert_goes_to(&director, "newest", &fragment(&datagram(client(newest)), 1, 100..200), server);
    let oldest = fragment(&datagram(client(0)), 1, 100..200);
    assert_refused(&director, "oldest", &oldest, Reason::FragmentUnknown);
}

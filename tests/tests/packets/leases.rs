//! Who balances when: a lease per group, what happens when it runs out, a planned hand-over between
//! two directors.

use std::sync::atomic::{AtomicBool, Ordering};

use lb_common::mac::Mac;
use lb_common::reason::{Reason, TableEvent};
use lb_datapath::plan::Service;
use lb_model::ids::GroupNumber;
use lb_model::lease::Leases;
use lb_model::{ServiceKey, Stray};
use lb_tests::harness::*;

const OTHER_GROUP: GroupNumber = GroupNumber(31);

fn in_group(group: Option<GroupNumber>, mut service: Service) -> Service {
    service.settings.group = group;
    service
}

/// [`WEB`] in [`GROUP`], the other VIP's service in [`OTHER_GROUP`].
fn two_groups() -> Director {
    Director::new([(WEB, rr([1])), (tcp(OTHER_VIP, PORT), in_group(Some(OTHER_GROUP), rr([2])))])
}

#[test]
fn a_group_on_standby_leaves_the_others_alone() {
    let director = two_groups();
    let packet = |vip| Packet::syn(client(1)).to(vip, PORT).bytes();
    let leases = director.data_path.leases();
    let standby = Some(Reason::Standby);
    leases.end(GROUP);
    assert_rows(&director, [("ended", packet(VIP), standby), ("not ended", packet(OTHER_VIP), None)]);
    leases.renew(GROUP, within(60));
    leases.end(OTHER_GROUP);
    assert_rows(&director, [("renewed", packet(VIP), None), ("ended", packet(OTHER_VIP), standby)]);
    (0..32).for_each(|group| leases.end(GroupNumber(group)));
    assert_rows(&director, [("ended", packet(VIP), standby), ("ended", packet(OTHER_VIP), standby)]);
}

#[test]
fn services_of_no_group_are_always_active() {
    let mut director = Director::new([(WEB, in_group(None, rr([1])))]);
    director.data_path.executor.set_vips(&[(OTHER_VIP.into(), GROUP)]).unwrap();
    (0..32).for_each(|group| director.data_path.leases().end(GroupNumber(group)));
    assert_eq!(director.open(client(1)), 1);
    assert_eq!(director.send_bytes(&arp_request(VIP)).verdict, Verdict::Pass);
}

#[test]
fn a_lease_ends_by_the_clock() {
    let director = Director::new([(WEB, rr([1]))]);
    let leases = director.data_path.leases();
    let syn = || Packet::syn(client(1)).bytes();
    let (standby, lapsed) = (Some(Reason::Standby), Some(Reason::LeaseLapsed));
    for (description, until, reason) in [
        ("ended a second ago", ago(1), lapsed),
        ("ends in a minute", within(60), None),
        ("ended 9 s ago", ago(9), lapsed),
        ("ended 11 s ago", ago(11), standby),
        ("ended long ago", std::time::Duration::from_nanos(1), standby),
    ] {
        leases.renew(GROUP, until);
        assert_rows(&director, [(description, syn(), reason)]);
        assert_eq!(leases.balance_until(GROUP), Some(until));
        assert_eq!(leases.answer_until(GROUP), Some(until));
    }
    leases.unlimited(GROUP);
    assert_rows(&director, [("unlimited", syn(), None)]);
    leases.end(GROUP);
    assert_rows(&director, [("given up", syn(), standby)]);
    assert_eq!((leases.balance_until(GROUP), leases.answer_until(GROUP)), (None, None));

    leases.renew(GROUP, within(1));
    assert_rows(&director, [("still active", Packet::ack(client(1)).bytes(), None)]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_rows(&director, [("nobody renewed it", Packet::syn(client(2)).bytes(), lapsed)]);
    leases.renew(GROUP, within(60));
    assert_rows(&director, [("as if nothing had been", Packet::ack(client(1)).bytes(), None)]);
}

#[test]
fn in_the_grace_time_everything_is_balanced() {
    let director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    director.open(client(1));
    let leases = director.data_path.leases();
    leases.grace(GROUP, within(60));
    assert_rows(
        &director,
        [
            ("a known connection", Packet::ack(client(1)).bytes(), None),
            ("a new connection", Packet::syn(client(2)).bytes(), None),
            ("a datagram", Packet::udp(client(3)).bytes(), None),
            ("a stray without a relay", Packet::ack(client(4)).bytes(), Some(Reason::Stray)),
        ],
    );
    leases.grace(GROUP, ago(1));
    let standby = Some(Reason::Standby);
    assert_rows(&director, [("grace is over", Packet::ack(client(1)).bytes(), standby)]);
}

#[test]
fn a_service_moves_to_another_lease_with_its_known_connections() {
    let mut director = Director::new([(WEB, rr([1]))]);
    director.open(client(1));
    director.data_path.leases().end(OTHER_GROUP);
    director.change_service(WEB, |service| service.settings.group = Some(OTHER_GROUP));
    let standby = Some(Reason::Standby);
    assert_rows(
        &director,
        [
            ("known", Packet::ack(client(1)).bytes(), standby),
            ("new", Packet::syn(client(2)).bytes(), standby),
        ],
    );
    director.change_service(WEB, |service| service.settings.group = None);
    assert_rows(&director, [("known", Packet::ack(client(1)).bytes(), None)]);
}

const OTHER_DIRECTOR: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x06]);

#[test]
fn a_stray_goes_to_the_other_director_and_leaves_no_trace() {
    let mut web = rr([1]);
    web.settings.stray = Stray::Hash;
    let director = Director::new([(WEB, web), (WEB_UDP, rr([1]))]);
    director.data_path.leases().relay(GROUP, Some((OTHER_DIRECTOR, within(60))));
    for (number, flags) in (0..).zip([ACK, SYN | ACK, FIN | ACK, RST, 0]) {
        let frame = Packet { tags: vec![DOT1Q], ..Packet::tcp(client(number), flags) }.bytes();
        let (outcome, reasons) = director.explain(&frame);
        assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "flags {flags:#x}");
        assert_eq!(outcome.frame[..6], OTHER_DIRECTOR.octets());
        assert_eq!(outcome.frame[6..12], MAC.octets());
        assert_eq!(outcome.frame[12..], frame[12..], "only the MACs change");
    }
    assert_eq!(director.event(TableEvent::Relayed), 5);
    assert_eq!(director.entries(), 0);
    assert_eq!(director.stats(WEB, 1).packets, 0, "no server got it");

    assert_eq!(director.send(&Packet::syn(client(10))).server(), 1, "a new connection");
    assert_eq!(director.send(&Packet::ack(client(10))).server(), 1, "a known one");
    assert_eq!(director.send(&Packet::udp(client(10))).server(), 1, "a datagram");
    let bad = Packet { ttl: 0, ..Packet::ack(client(11)) };
    assert_rows(&director, [("a bad packet", bad.bytes(), Some(Reason::TtlExpired))]);
    let back = Packet { source: OTHER_DIRECTOR, ..Packet::ack(client(12)) };
    assert_eq!(director.send(&back).server(), 1, "it came back, so the service's rule decides");
    assert_eq!(director.event(TableEvent::Relayed), 5);
}

#[test]
fn a_relay_ends_by_the_clock_or_when_told() {
    let director = two_groups();
    let leases = director.data_path.leases();
    let relayed = |vip| director.send(&Packet::ack(client(1)).to(vip, PORT)).verdict == Verdict::Tx;
    for (description, to, expected) in [
        ("in time", Some((OTHER_DIRECTOR, within(60))), true),
        ("over", Some((OTHER_DIRECTOR, ago(1))), false),
        ("set again", Some((OTHER_DIRECTOR, within(60))), true),
        ("ended", None, false),
    ] {
        leases.relay(GROUP, to);
        assert_eq!(relayed(VIP), expected, "{description}");
        assert!(!relayed(OTHER_VIP), "{description}: another group's");
    }
}

/// A connection that found no slot may be anywhere: the other director is asked first.
#[test]
fn a_relay_comes_before_the_hash_of_a_crowded_table() {
    let director = Director::with_sizes(ONE_PAGE, [(WEB, rr([1]))]);
    (0..2000).for_each(|number| _ = director.establish(client(number)));
    assert!(director.event(TableEvent::Full) > 0, "a crowded table");
    let stray = Packet::ack(client(5000));
    assert_eq!(director.send(&stray).server(), 1, "goes by hash");
    director.data_path.leases().relay(GROUP, Some((OTHER_DIRECTOR, within(60))));
    assert_eq!(director.send(&stray).frame[..6], OTHER_DIRECTOR.octets());
    assert_eq!(director.send(&Packet { source: OTHER_DIRECTOR, ..stray }).server(), 1);
}

/// Changes a director's leases again and again while packets are sent.
fn while_it_changes(director: &Director, change: impl Fn(&Leases) + Sync, send: impl Fn(u32)) {
    let done = AtomicBool::new(false);
    let leases = director.data_path.leases();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                change(&leases);
            }
        });
        (0..2000).for_each(send);
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn no_change_of_a_lease_that_is_held_shows() {
    let director = Director::new([(WEB, rr([1]))]);
    director.open(client(1));
    director.data_path.leases().relay(GROUP, Some((OTHER_DIRECTOR, within(60))));
    let change = |leases: &Leases| {
        leases.renew(GROUP, within(60));
        leases.grace(GROUP, within(50));
        leases.unlimited(GROUP);
    };
    while_it_changes(&director, change, |_| {
        assert_eq!(director.send(&Packet::ack(client(1))).server(), 1);
        assert_eq!(director.send(&Packet::ack(client(2))).frame[..6], OTHER_DIRECTOR.octets());
    });
}

/// The host, which still has the address, would answer with a reset.
#[test]
fn a_lease_that_is_renewed_late_passes_nothing_to_the_host() {
    let director = Director::new([(WEB, rr([1]))]);
    let change = |leases: &Leases| {
        leases.renew(GROUP, ago(1));
        leases.renew(GROUP, within(60));
    };
    while_it_changes(&director, change, |number| {
        assert_ne!(director.send(&Packet::syn(client(number))).verdict, Verdict::Pass);
    });
}

#[test]
fn a_relay_that_changes_names_one_director_or_none() {
    let third = Mac::new([0x02, 0, 0, 0, 0, 0x07]);
    let director = Director::new([(WEB, rr([1]))]);
    let change = |leases: &Leases| {
        leases.relay(GROUP, Some((OTHER_DIRECTOR, within(60))));
        leases.relay(GROUP, None);
        leases.relay(GROUP, Some((third, within(60))));
    };
    while_it_changes(&director, change, |number| {
        let outcome = director.send(&Packet::ack(client(number)));
        match outcome.verdict {
            Verdict::Tx => {
                assert!([OTHER_DIRECTOR, third].iter().any(|mac| outcome.frame[..6] == mac.octets()));
            }
            verdict => assert_eq!(verdict, Verdict::Pass),
        }
    });
}

/// What a director believes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Holder,
    Grace,
    Standby,
    Lapsed,
    /// Its process is gone while it had the group, and its program serves on.
    Killed,
    /// It has given the group up long ago, and its program serves on.
    ServesOn,
}

/// The time to live of packets that might circle.
const MOST_HOPS: u32 = 9;

/// Two directors on a segment. The first one balances to server 1, the second one to server 2.
pub(crate) struct Pair(pub [Director; 2]);

impl Pair {
    const MACS: [Mac; 2] = [MAC, OTHER_DIRECTOR];
    const KEY: ServiceKey = WEB;

    pub(crate) fn new() -> Self {
        Self::of([1, 2].map(|server| Director::new([(Self::KEY, rr([server]))])))
    }

    pub(crate) fn of(directors: [Director; 2]) -> Self {
        let mut pair = Self(directors);
        for (index, director) in pair.0.iter_mut().enumerate() {
            director.data_path.executor.set_mac(Self::MACS[index]);
            director.data_path.executor.set_directors([Self::MACS[1 - index]].into()).unwrap();
        }
        pair
    }

    pub(crate) fn set(&self, index: usize, role: Role, relays: bool) {
        let leases = self.0[index].data_path.leases();
        match role {
            Role::Holder => leases.renew(GROUP, within(60)),
            Role::Grace => leases.grace(GROUP, within(60)),
            Role::Standby | Role::ServesOn => leases.end(GROUP),
            Role::Lapsed | Role::Killed => leases.renew(GROUP, ago(1)),
        }
        let serves_on = matches!(role, Role::Killed | Role::ServesOn);
        leases.serve_on(GROUP, if serves_on { within(60) } else { ago(1) });
        leases.relay(GROUP, relays.then(|| (Self::MACS[1 - index], within(60))));
    }

    /// Makes a connection known to one of them, in whatever role it is afterwards.
    fn open(&self, index: usize, from: Client) {
        self.0[index].data_path.leases().unlimited(GROUP);
        for packet in [Packet::syn(from), Packet::ack(from)] {
            let server = self.0[index].send(&Packet { destination: Self::MACS[index], ..packet }).server();
            assert_eq!(usize::from(server), index + 1);
        }
    }

    /// What becomes of a packet that a client sends to one of them, and how often it went to the
    /// other one.
    pub(crate) fn send(&self, index: usize, packet: Packet) -> (Outcome, u32) {
        self.send_frame(index, &packet.bytes())
    }

    /// The same of a frame from anybody.
    pub(crate) fn send_frame(&self, index: usize, frame: &[u8]) -> (Outcome, u32) {
        let mut at = index;
        let mut outcome = self.0[at].send_bytes(&[&Self::MACS[at].octets(), &frame[6..]].concat());
        for relays in 0..=MOST_HOPS {
            let to_the_other =
                outcome.verdict == Verdict::Tx && outcome.frame[..6] == Self::MACS[1 - at].octets();
            if !to_the_other {
                return (outcome, relays);
            }
            at = 1 - at;
            outcome = self.0[at].send_bytes(&outcome.frame);
        }
        panic!("it circles");
    }
}

#[test]
fn in_a_hand_over_every_connection_is_found_wherever_its_packets_go() {
    let pair = Pair::new();
    let (old, new) = (0, 1);
    pair.open(old, client(1));
    pair.open(new, client(2));
    pair.set(old, Role::Grace, true);
    pair.set(new, Role::Holder, true);
    for (from, home) in [(client(1), 1), (client(2), 2)] {
        for at in [old, new] {
            for _ in 0..3 {
                let (outcome, relays) = pair.send(at, Packet::ack(from));
                assert_eq!(outcome.server(), home);
                assert_eq!(relays, u32::from(usize::from(home) != at + 1));
            }
        }
    }
    for at in [old, new] {
        let (outcome, relays) = pair.send(at, Packet::ack(client(3)));
        let hops = if at == new { 2 } else { 1 };
        assert_eq!(
            (outcome.verdict, relays),
            (Verdict::Pass, hops),
            "unknown to both, the holder's host answers"
        );
        assert_eq!(
            ip_sum(&outcome.frame[14..]),
            ip_sum(&Packet::ack(client(3)).bytes()[14..]),
            "after {hops} hops"
        );
        assert_eq!(outcome.frame[22], if at == new { 10 } else { 64 }, "what came back has few hops left");
        let (outcome, relays) = pair.send(at, Packet::syn(client(4 + at as u32)));
        assert_eq!((usize::from(outcome.server()), relays), (at + 1, 0), "a new connection");
    }
}

/// Whatever either of them believes to be, with whatever rule for strays.
#[test]
fn no_packet_circles_between_two_directors_for_long() {
    let mut pair = Pair::new();
    let roles = [Role::Holder, Role::Grace, Role::Standby, Role::Lapsed, Role::Killed, Role::ServesOn];
    let beliefs: Vec<(Role, bool)> =
        roles.into_iter().flat_map(|role| [(role, true), (role, false)]).collect();
    let mut clients = 0..;
    for stray in [Stray::Pass, Stray::Hash] {
        for director in &mut pair.0 {
            director.change_service(Pair::KEY, |service| service.settings.stray = stray);
        }
        for known_to in [&[][..], &[0], &[1], &[0, 1]] {
            let from = client(clients.next().unwrap());
            known_to.iter().for_each(|index| pair.open(*index, from));
            for (first, second) in
                beliefs.iter().flat_map(|first| beliefs.iter().map(move |second| (*first, *second)))
            {
                pair.set(0, first.0, first.1);
                pair.set(1, second.0, second.1);
                for at in [0, 1] {
                    let ack = Packet { ttl: MOST_HOPS as u8, ..Packet::ack(from) };
                    let (_, relays) = pair.send(at, ack);
                    // Neither has the group: what they return to each other has few hops left.
                    let returns = |role| matches!(role, Role::Grace | Role::Killed | Role::ServesOn);
                    let limit = if returns(first.0) && returns(second.0) { MOST_HOPS } else { 2 };
                    assert!(relays <= limit, "{first:?} and {second:?}: {relays} relays");
                }
            }
        }
    }
}

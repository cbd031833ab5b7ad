//! Directors that are real servers themselves: what the other one has balanced is for the host, and
//! what it relays is not.

use std::collections::BTreeSet;

use lb_common::addr::V6;
use lb_common::mac::Mac;
use lb_common::reason::{Reason, TableEvent};
use lb_datapath::plan::{Server, Service, State};
use lb_model::{ServiceKey, Stray};
use lb_tests::harness::*;

const OTHER_MAC: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x06]);
const MACS: [Mac; 2] = [MAC, OTHER_MAC];
/// A director that is no server, and of which the two others know.
const THIRD_MAC: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x07]);

/// Round robin over both machines, and over an ordinary server 3 if it is asked for.
fn both_machines(and_another: bool) -> Service {
    let mut service = rr(if and_another { 1..=3 } else { 1..=2 });
    for (server, mac) in service.servers.iter_mut().zip(MACS) {
        server.mac = Some(mac);
    }
    service
}

/// A director without a cluster whose host is its only server.
pub(crate) fn lone() -> Director {
    let host = Server { mac: Some(MAC), ..server(1, 1) };
    Director::new([(WEB, Service { servers: vec![host], ..rr([]) })])
}

fn machine(services: impl IntoIterator<Item = (ServiceKey, Service)>) -> Director {
    let mut director = Director::new(services);
    director.data_path.executor.set_directors(BTreeSet::from([OTHER_MAC, THIRD_MAC])).unwrap();
    director
}

pub(crate) fn on_standby() -> Director {
    let director = machine([(WEB, both_machines(false))]);
    director.data_path.leases().end(GROUP);
    director
}

/// As the other machine sends it to this one, its server.
pub(crate) fn balanced(packet: Packet) -> Packet {
    Packet { source: OTHER_MAC, ..packet }
}

#[test]
fn b8_the_host_of_a_lone_director_is_a_server_like_any_other() {
    let host = Server { mac: Some(MAC), ..server(1, 2) };
    let service = Service { servers: vec![host, server(2, 1)], ..service(lb_model::Scheduler::Wrr, &[]) };
    let mut director = Director::new([(WEB, service)]);
    let picks: Vec<Option<u16>> =
        (0..6).map(|number| director.send(&Packet::syn(client(number))).sent_to()).collect();
    assert_eq!(picks, [None, Some(2), None, None, Some(2), None]);
    for _ in 0..3 {
        let ack = Packet::ack(client(0)).bytes();
        let (outcome, reasons) = director.explain(&ack);
        assert_eq!((outcome.frame, reasons), (ack, vec![Reason::LocalServer]), "passed as it came");
    }
    assert_eq!(director.counts(WEB, 1), (1, 3));
    let stats = director.stats(WEB, 1);
    assert_eq!((stats.connections, stats.packets), (4, 7));

    director.change_service(WEB, |service| service.servers[0].usable = false);
    assert_eq!(
        director.explain(&Packet::ack(client(0)).bytes()).1,
        [Reason::LocalServer],
        "it keeps what it has"
    );
    assert_eq!(director.open(client(10)), 2);
    director.assert_counts_are_true();
}

/// The interface gets another MAC.
#[test]
fn b8_the_host_stays_a_server_when_its_mac_changes() {
    let mut director = lone();
    let new = mac(77);
    director.data_path.executor.set_mac(new);
    director.change_service(WEB, |service| service.servers[0].mac = Some(new));
    let syn = Packet { destination: new, ..Packet::syn(client(1)) };
    assert_eq!(director.explain(&syn.bytes()).1, [Reason::LocalServer]);
}

fn lease_ran_out(director: &Director) {
    director.data_path.leases().renew(GROUP, ago(1));
}

#[test]
fn b8_what_the_active_director_sends_is_for_the_host_whatever_became_of_the_lease() {
    let director = machine([(WEB, both_machines(false)), (WEB_UDP, both_machines(false))]);
    let leases = director.data_path.leases();
    let packets =
        || [Packet::syn(client(1)), Packet::ack(client(1)), Packet::fin(client(1)), Packet::udp(client(1))];
    let check = |description: &str| {
        for packet in packets().map(balanced) {
            let frame = packet.bytes();
            let (outcome, reasons) = director.explain(&frame);
            assert_eq!(reasons, [Reason::PeerBalanced], "{description}: {packet:?}");
            assert_eq!(outcome, Outcome { verdict: Verdict::Pass, frame }, "{description}: as it came");
        }
    };
    leases.end(GROUP);
    check("on standby");
    lease_ran_out(&director);
    check("killed, and the program is left");
    let lapsed = Some(Reason::LeaseLapsed);
    assert_rows(&director, [("a client's", Packet::syn(client(1)).bytes(), lapsed)]);
    leases.grace(GROUP, within(60));
    leases.relay(GROUP, Some((OTHER_MAC, within(60))));
    check("in the grace time of a hand-over");
    leases.unlimited(GROUP);
    check("it has taken over, and the other one serves on");
    assert_eq!(director.entries(), 0);
}

#[test]
fn b8_what_belongs_to_another_packet_is_for_the_host_too() {
    let sent = |transport| sent_to(client(1), transport, 0);
    let about = |outer: Packet| icmp_error(&outer, [3, 4], &sent(Packet::ack(client(1)).transport));
    let fragment = Packet { fragment: 185, ..balanced(Packet::syn(client(1))) };
    let standby = on_standby();
    let rows: [Row; 3] = [
        ("an error, balanced", about(balanced(Packet::udp(client(1)))), Some(Reason::PeerBalanced)),
        ("an error, a router's", about(Packet::udp(client(1))), Some(Reason::Standby)),
        ("a later fragment, balanced", fragment.bytes(), Some(Reason::FragmentUnknown)),
    ];
    assert_rows(&standby, rows);
    let lone = lone();
    let error = about(Packet::udp(client(1)));
    assert_rows(&lone, [("an error before", error.clone(), Some(Reason::IcmpUnknown))]);
    lone.send(&Packet::syn(client(1)));
    assert_rows(&lone, [("an error", error, Some(Reason::LocalServer))]);
}

/// The other director is the clients' gateway, and on standby.
#[test]
fn b8_what_a_director_forwards_as_a_gateway_is_balanced() {
    let director = machine([(WEB, both_machines(true)), (WEB_UDP, both_machines(true))]);
    let third = |packet: Packet| Packet { source: THIRD_MAC, ..packet };
    for from in [balanced, third] {
        let served: BTreeSet<_> = (0..6)
            .map(|number| {
                let outcome = director.send(&from(Packet::syn(client(number))));
                (outcome.verdict == Verdict::Tx).then(|| outcome.frame[..6].to_vec())
            })
            .collect();
        let servers = [None, Some(OTHER_MAC.octets().to_vec()), Some(mac(3).octets().to_vec())];
        assert_eq!(served, BTreeSet::from(servers));
    }
    director.data_path.leases().relay(GROUP, Some((OTHER_MAC, within(60))));
    let known = director.send(&third(Packet::ack(client(1))));
    assert_eq!(known.verdict, Verdict::Tx, "not the one of the hand-over");
}

/// A director that is no server gets what another one forwards, relays or sends on, and balances
/// it.
#[test]
fn b8_a_director_that_is_no_server_balances_whatever_comes() {
    let mut director = machine([(WEB, rr([3]))]);
    director.data_path.leases().relay(GROUP, Some((OTHER_MAC, within(60))));
    assert_eq!(director.send(&balanced(Packet::syn(client(1)))).server(), 3);
    director.change_service(WEB, |service| {
        service.servers.push(Server { mac: Some(OTHER_MAC), ..server(4, 0) });
    });
    assert_eq!(director.send(&balanced(Packet::syn(client(2)))).server(), 3);
}

/// A check through the VIP that another director makes of this host, while this one is active.
#[test]
fn b8_another_directors_check_of_this_host_is_not_balanced() {
    let mut director = machine([(WEB, both_machines(false))]);
    let vip = lb_common::program::probe::Answer {
        vip: V6([0, 1]),
        own: V6([0, 2]),
        port: 3,
        protocol: 6,
        reserved: 0,
    };
    director.data_path.executor.set_answers(&BTreeSet::from([vip])).unwrap();
    let probe = |source, ttl, port| {
        let from = Client::new("211.58.250.7".parse().unwrap(), port);
        Packet { source, ttl, ..Packet::syn(from) }.bytes()
    };
    for source in [OTHER_MAC, THIRD_MAC] {
        for _ in 0..3 {
            assert_eq!(director.explain(&probe(source, 2, 61_000)).1, [Reason::PeerBalanced]);
        }
    }
    let reasons = |frame: Vec<u8>| director.explain(&frame).1;
    assert_eq!(reasons(probe(OTHER_MAC, 1, 61_001)), [Reason::ProbeAstray], "its server has sent it on");
    assert_ne!(reasons(probe(OTHER_MAC, 64, 61_002)), [Reason::PeerBalanced], "a client's");
    assert_ne!(reasons(probe(ROUTER, 2, 61_003)), [Reason::PeerBalanced], "a client's");
    assert_ne!(reasons(probe(OTHER_MAC, 2, 60_999)), [Reason::PeerBalanced], "a client's");
}

#[test]
fn b8_services_of_no_group_are_balanced_once() {
    let mut service = both_machines(false);
    service.settings.group = None;
    let director = machine([(WEB, service)]);
    assert_eq!(director.explain(&balanced(Packet::syn(client(1))).bytes()).1, [Reason::PeerBalanced]);
    let served: Vec<bool> =
        (0..4).map(|number| director.send(&Packet::syn(client(number))).verdict == Verdict::Pass).collect();
    assert_eq!(served, [true, false, true, false]);
}

/// Two machines on a segment, each director and server.
struct Pair {
    machines: [Director; 2],
}

/// Frames from one machine to the other for one packet of a client at most.
const MOST_HOPS: u32 = 3;

/// Where a packet ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Host(usize),
    /// Server 3.
    Server,
    Dropped,
}

impl Pair {
    fn new(and_another: bool) -> Self {
        let machines = [0, 1].map(|at: usize| {
            let both = both_machines(and_another);
            let mut director = Director::new([]);
            director.data_path.executor.set_mac(MACS[at]);
            director.data_path.executor.set_directors(BTreeSet::from([MACS[1 - at]])).unwrap();
            director
                .apply(State { services: [(WEB, both.clone()), (WEB_UDP, both)].into(), ..State::default() });
            director
        });
        let pair = Self { machines };
        pair.machines[1].data_path.leases().end(GROUP);
        pair
    }

    /// `to` becomes the active one by a planned move.
    fn move_to(&self, to: usize) {
        for at in [0, 1] {
            let leases = self.machines[at].data_path.leases();
            match at == to {
                true => leases.unlimited(GROUP),
                false => leases.grace(GROUP, within(600)),
            }
            leases.relay(GROUP, Some((MACS[1 - at], within(600))));
        }
    }

    /// The one that is active is killed, and the other one takes over.
    fn kill(&self, dead: usize) {
        let [killed, next] = [dead, 1 - dead].map(|at| self.machines[at].data_path.leases());
        killed.renew(GROUP, ago(1));
        killed.relay(GROUP, None);
        killed.serve_on(GROUP, within(600));
        next.unlimited(GROUP);
        next.next_generation(GROUP);
        next.relay(GROUP, Some((MACS[dead], within(600))));
    }

    /// What becomes of a client's packet that comes to machine `at`.
    fn send(&self, mut at: usize, packet: &Packet) -> End {
        let mut frame = Packet { destination: MACS[at], ..packet.clone() }.bytes();
        for _ in 0..=MOST_HOPS {
            let outcome = self.machines[at].send_bytes(&frame);
            let marked = outcome.frame[20] & 0x80 != 0;
            match outcome.verdict {
                Verdict::Tx if outcome.frame[..6] == MACS[1 - at].octets() => at = 1 - at,
                _ if marked => panic!("a mark is left: {packet:?}"),
                Verdict::Pass => return End::Host(at),
                Verdict::Tx => {
                    assert_eq!(outcome.server(), 3);
                    return End::Server;
                }
                Verdict::Drop => return End::Dropped,
                other => panic!("{other:?}"),
            }
            assert_eq!(ip_sum(&outcome.frame[14..]), ip_sum(&frame[14..]), "the checksum");
            frame = outcome.frame;
        }
        panic!("it circles: {packet:?}");
    }

    #[track_caller]
    fn open(&self, at: usize, from: Client) -> End {
        let end = self.send(at, &Packet::syn(from));
        assert_eq!(self.send(at, &Packet::ack(from)), end, "SYN and ACK of {from}");
        end
    }

    /// Each of these connections is where it was, by whichever of these machines its packets come.
    #[track_caller]
    fn are_at_home(&self, homes: &[(Client, End)], ways: &[usize]) {
        for (from, home) in homes {
            for &at in ways {
                assert_eq!(self.send(at, &Packet::ack(*from)), *home, "{from} by machine {at}");
            }
        }
    }
}

#[test]
fn b8_two_machines_share_the_work_and_nothing_is_balanced_twice() {
    let pair = Pair::new(true);
    let ends: Vec<End> = (0..6).map(|number| pair.open(0, client(number))).collect();
    let round = [End::Host(0), End::Host(1), End::Server];
    assert_eq!(ends, [round, round].concat());
    for (number, end) in (0..).zip(ends) {
        assert_eq!(pair.send(0, &Packet::ack(client(number))), end);
    }
    assert_eq!(pair.machines[1].entries(), 0, "the standby knows no connection");
    assert_eq!(pair.machines[0].counts(WEB, 1), (2, 0));
}

#[test]
fn b8_planned_moves_to_and_fro_leave_every_connection_where_it_is() {
    for and_another in [false, true] {
        let pair = Pair::new(and_another);
        let mut homes = Vec::new();
        let mut numbers = 0..;
        for holder in [0, 1, 0, 1] {
            // Before the first move the other one is on standby, and clients do not know of it.
            let ways: &[usize] = if homes.is_empty() { &[0] } else { &[0, 1, 1, 0] };
            if !homes.is_empty() {
                pair.move_to(holder);
            }
            pair.are_at_home(&homes, ways);
            for number in numbers.by_ref().take(6) {
                homes.push((client(number), pair.open(holder, client(number))));
            }
            pair.are_at_home(&homes, ways);
            let ends: BTreeSet<End> = homes.iter().map(|(_, end)| *end).collect();
            assert_eq!(ends.len(), 2 + usize::from(and_another), "all serve");
        }
        let relayed: u64 = pair.machines.iter().map(|machine| machine.event(TableEvent::Relayed)).sum();
        assert!(relayed > 0);
        pair.machines.iter().for_each(Director::assert_counts_are_true);
    }
}

#[test]
fn b8_connections_of_a_machine_that_is_killed_are_served_by_its_program() {
    for and_another in [false, true] {
        let pair = Pair::new(and_another);
        let mut homes: Vec<(Client, End)> =
            (0..6).map(|number| (client(number), pair.open(0, client(number)))).collect();
        pair.kill(0);
        pair.are_at_home(&homes, &[1]);
        homes.extend((6..12).map(|number| (client(number), pair.open(1, client(number)))));
        pair.are_at_home(&homes, &[1]);
        assert_eq!(pair.send(1, &Packet::ack(client(50))), End::Host(1), "unknown to both");
        // It starts again, and has the group back.
        pair.machines[0].data_path.leases().next_generation(GROUP);
        pair.machines[0].data_path.leases().end(GROUP);
        pair.are_at_home(&homes, &[1]);
        pair.move_to(0);
        pair.machines[0].data_path.leases().next_generation(GROUP);
        pair.are_at_home(&homes, &[0, 1]);
        pair.machines.iter().for_each(Director::assert_counts_are_true);
    }
}

/// Machine 0's table still has what the client had before.
#[test]
fn b8_a_client_that_uses_its_port_again_after_a_move_is_where_the_new_director_sends_it() {
    let pair = Pair::new(false);
    let old: Vec<(Client, End)> =
        (0..6).map(|number| (client(number), pair.open(0, client(number)))).collect();
    pair.move_to(1);
    pair.open(1, client(100));
    let moved: Vec<(Client, End)> = old.iter().map(|(from, _)| (*from, pair.open(1, *from))).collect();
    let elsewhere = old.iter().zip(&moved).filter(|(old, new)| old.1 != new.1).count();
    assert_eq!(elsewhere, 6, "the turns are one off");
    for (from, home) in &moved {
        for _ in 0..3 {
            assert_eq!(pair.send(1, &Packet::ack(*from)), *home);
        }
    }
    pair.machines.iter().for_each(Director::assert_counts_are_true);
}

#[test]
fn b8_datagrams_go_where_the_active_director_sends_them() {
    let pair = Pair::new(false);
    let send = |at: usize, number: u32| pair.send(at, &Packet::udp(client(number)));
    let before: Vec<End> =
        (0..6).map(|number| (0..3).map(|_| send(0, number)).next_back().unwrap()).collect();
    assert_eq!(before.iter().filter(|end| **end == End::Host(0)).count(), 3);
    pair.move_to(1);
    send(1, 100);
    let after: Vec<End> = (0..6).map(|number| send(1, number)).collect();
    assert_ne!(before, after, "the turns are one off");
    for (number, end) in (0..).zip(after) {
        assert_eq!([send(1, number), send(1, number)], [end; 2]);
    }
}

/// Unknown to both: the holder's service decides.
#[test]
fn b8_a_stray_of_a_hand_over_ends_where_the_holders_rule_says() {
    let mut pair = Pair::new(false);
    pair.move_to(1);
    let strays = |pair: &Pair| [0, 1].map(|at| pair.send(at, &Packet::ack(client(50))));
    assert_eq!(strays(&pair), [End::Host(1); 2]);
    for machine in &mut pair.machines {
        machine.change_service(WEB, |service| service.settings.stray = Stray::Hash);
    }
    let [first, second] = strays(&pair);
    assert_eq!(first, second);
    let ends: BTreeSet<End> = (0..20).map(|number| pair.send(0, &Packet::ack(client(number)))).collect();
    assert_eq!(ends, BTreeSet::from([End::Host(0), End::Host(1)]), "by the hash of the client");
}

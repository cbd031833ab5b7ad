//! Who stays where: connections from SYN to FIN, UDP, strays, time-outs.

use std::net::SocketAddrV4;
use std::time::Duration;

use lb_common::reason::Reason;
use lb_model::{Stray, Timeouts};
use lb_tests::harness::*;

/// Server that a packet went to.
#[track_caller]
fn server(director: &Director, packet: Packet) -> u16 {
    director.send(&packet).server()
}

#[test]
fn a_connection_stays_with_its_server() {
    let director = Director::new([(WEB, rr(1..=3))]);
    let homes: Vec<u16> = (0..30).map(|number| director.open(client(number))).collect();
    assert_eq!(homes[..6], [1, 2, 3, 1, 2, 3]);
    for flags in [ACK, ACK | 0x08, ACK | 0x20, SYN | ACK, 0, FIN | ACK, ACK, RST, ACK, RST | ACK] {
        for (number, home) in (0..).zip(&homes) {
            let packet = Packet::tcp(client(number), flags);
            assert_eq!(server(&director, packet), *home, "client {number}, flags {flags:#x}");
        }
    }
    assert_eq!(director.entries(), 30);
}

#[test]
fn one_client_has_a_connection_per_port() {
    let director = Director::new([(WEB, rr(1..=3))]);
    let ports = 40_000..40_030;
    let from = |port| SocketAddrV4::new(*client(1).ip(), port);
    let homes: Vec<u16> = ports.clone().map(|port| director.open(from(port))).collect();
    for (port, home) in ports.zip(homes) {
        assert_eq!(server(&director, Packet::ack(from(port))), home, "port {port}");
    }
    assert_eq!(director.entries(), 30);
}

#[test]
fn a_retransmitted_syn_stays() {
    let director = Director::new([(WEB, rr(1..=3))]);
    for _ in 0..4 {
        assert_eq!(server(&director, Packet::syn(client(1))), 1, "half-open");
    }
    director.send(&Packet::ack(client(1)));
    assert_eq!(server(&director, Packet::syn(client(1))), 1, "established");
    assert_eq!(director.counts(WEB, 1), (1, 0), "a SYN does not take an established one back");
    assert_eq!(director.stats(WEB, 1).connections, 1);
    assert_eq!(server(&director, Packet::syn(client(2))), 2, "retransmissions took no turn");
}

#[test]
fn a_syn_after_the_end_is_scheduled_anew() {
    for end in [FIN | ACK, FIN, RST, RST | ACK] {
        let director = Director::new([(WEB, rr(1..=3))]);
        assert_eq!(director.open(client(1)), 1);
        assert_eq!(server(&director, Packet::tcp(client(1), end)), 1);
        assert_eq!(director.counts(WEB, 1), (0, 1), "ended by {end:#x}");
        assert_eq!(director.open(client(1)), 2, "after {end:#x}");
        assert_eq!((director.counts(WEB, 1), director.counts(WEB, 2)), ((0, 0), (1, 0)));
        assert_eq!(director.entries(), 1, "the new connection has the old one's place");
        assert_eq!(director.stats(WEB, 2).connections, 1);
    }
}

#[test]
fn active_are_the_established_ones() {
    let director = Director::new([(WEB, rr([1]))]);
    let steps = [
        ("SYN", SYN, (0, 1)),
        ("SYN again", SYN, (0, 1)),
        ("ACK", ACK, (1, 0)),
        ("data", ACK, (1, 0)),
        ("FIN", FIN | ACK, (0, 1)),
        ("the last ACK", ACK, (0, 1)),
        ("a new SYN", SYN, (0, 1)),
        ("ACK", ACK, (1, 0)),
        ("RST", RST, (0, 1)),
        ("late data", ACK, (0, 1)),
    ];
    for (description, flags, counts) in steps {
        director.send(&Packet::tcp(client(1), flags));
        assert_eq!(director.counts(WEB, 1), counts, "after {description}");
        director.assert_counts_are_true();
    }
}

#[test]
fn datagrams_of_one_client_stay_together() {
    let director = Director::new([(WEB_UDP, rr(1..=3))]);
    for number in 0..9 {
        let home = server(&director, Packet::udp(client(number)));
        assert_eq!(home, number as u16 % 3 + 1);
        for _ in 0..3 {
            assert_eq!(server(&director, Packet::udp(client(number))), home);
        }
    }
    assert_eq!(director.counts(WEB_UDP, 1), (0, 3), "UDP is inactive, as in IPVS");
    assert_eq!(director.stats(WEB_UDP, 1).connections, 3);
}

#[test]
fn tcp_and_udp_of_one_client_do_not_mix() {
    let director = Director::new([(WEB, rr([1, 2])), (WEB_UDP, rr([3, 4]))]);
    for number in 0..100 {
        let tcp = director.open(client(number));
        let udp = server(&director, Packet::udp(client(number)));
        assert!((1..=2).contains(&tcp) && (3..=4).contains(&udp), "TCP to {tcp}, UDP to {udp}");
        assert_eq!(server(&director, Packet::ack(client(number))), tcp);
        assert_eq!(server(&director, Packet::udp(client(number))), udp);
    }
    assert_eq!(director.entries(), 200);
}

/// The same real servers behind all of them, so that only the service tells the connections apart.
#[test]
fn vips_and_ports_of_one_client_do_not_mix() {
    let places = [(VIP, PORT), (OTHER_VIP, PORT), (VIP, 443), (OTHER_VIP, 443)];
    let director = Director::new(places.map(|(vip, port)| (tcp(vip, port), rr(1..=7))));
    // Turns that differ from service to service, so that a mix-up shows.
    for (turns, (vip, port)) in places.iter().enumerate() {
        for number in 0..turns as u32 {
            director.send(&Packet::syn(client(9_000 + number)).to(*vip, *port));
        }
    }
    let open =
        |number| places.map(|(vip, port)| server(&director, Packet::syn(client(number)).to(vip, port)));
    let homes: Vec<[u16; 4]> = (0..100).map(open).collect();
    assert_eq!(homes[0], [1, 2, 3, 4]);
    for (number, homes) in (0..).zip(homes) {
        let now = places.map(|(vip, port)| server(&director, Packet::ack(client(number)).to(vip, port)));
        assert_eq!(now, homes, "client {number}");
        let [first, ..] = places;
        director.send(&Packet::rst(client(number)).to(first.0, first.1));
    }
    let closed = (0..7).map(|number| director.counts(tcp(VIP, PORT), number + 1).1).sum::<u32>();
    assert_eq!(closed, 100, "one service's resets end its own connections");
    let active = (0..7).map(|number| director.counts(tcp(OTHER_VIP, PORT), number + 1).0).sum::<u32>();
    assert_eq!(active, 100, "and no others");
}

#[test]
fn strays_pass_where_the_service_says_so() {
    let director = Director::new([(WEB, rr(1..=3))]);
    for flags in [ACK, SYN | ACK, FIN | ACK, RST, 0] {
        let (outcome, reasons) = director.explain(&Packet::tcp(client(1), flags).bytes());
        assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![Reason::Stray]), "flags {flags:#x}");
    }
    assert_eq!(director.entries(), 0);
    assert_eq!(director.open(client(1)), 1, "strays take no turn");
}

fn by_hash(numbers: impl IntoIterator<Item = u16>) -> lb_datapath::plan::Service {
    let mut service = rr(numbers);
    service.settings.stray = Stray::Hash;
    service
}

#[test]
fn strays_go_by_the_hash_of_their_client_where_the_service_says_so() {
    let director = Director::new([(WEB, by_hash(1..=3))]);
    let mut used = [0; 4];
    for number in 0..300 {
        let home = server(&director, Packet::ack(client(number)));
        used[usize::from(home)] += 1;
        // By the client's address alone: another port of the same client finds the same server.
        let other_port = SocketAddrV4::new(*client(number).ip(), 50_000);
        for packet in [Packet::ack(client(number)), Packet::rst(client(number)), Packet::fin(other_port)] {
            assert_eq!(server(&director, packet), home, "client {number}");
        }
    }
    assert!(used[1..].iter().all(|clients| (70..130).contains(clients)), "uneven: {used:?}");
    assert_eq!(director.entries(), 0, "a stray is not remembered");
    let connections: u64 = (1..=3).map(|number| director.stats(WEB, number).connections).sum();
    assert_eq!(connections, 0, "and opens nothing");
}

#[test]
fn strays_by_hash_go_by_weight_and_find_no_server_where_none_is() {
    let mut service = service(lb_model::Scheduler::Wlc, &[3, 0, 1]);
    service.settings.stray = Stray::Hash;
    let mut director = Director::new([(WEB, service)]);
    let mut used = [0; 4];
    for number in 0..400 {
        used[usize::from(server(&director, Packet::ack(client(number))))] += 1;
    }
    assert_eq!(used[2], 0, "weight 0");
    assert!((250..350).contains(&used[1]), "three of four: {used:?}");
    director.change_service(WEB, |service| service.servers.clear());
    let (outcome, reasons) = director.explain(&Packet::ack(client(1)).bytes());
    assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::NoServer]));
}

#[test]
fn a_known_connection_is_no_stray() {
    let mut director = Director::new([(WEB, by_hash(1..=3))]);
    let homes: Vec<u16> = (0..30).map(|number| director.open(client(number))).collect();
    director.change_service(WEB, |service| service.settings.stray = Stray::Pass);
    for (number, home) in (0..).zip(homes) {
        assert_eq!(server(&director, Packet::ack(client(number))), home);
    }
    assert_eq!(director.reason(Reason::Stray), 0);
    assert_eq!(director.send(&Packet::ack(client(99))).verdict, Verdict::Pass, "the new rule");
}

/// A time-out in seconds for each state; none of them near another's, slack included.
const TIMEOUTS: Timeouts = Timeouts {
    syn_recv: Duration::from_secs(20),
    unproven: Duration::from_secs(250),
    established: Duration::from_secs(500),
    fin_wait: Duration::from_secs(100),
    closed: Duration::from_secs(5),
    udp: Duration::from_secs(50),
};

#[test]
fn each_state_has_its_time_out() {
    let mut web = rr([1]);
    let mut web_udp = rr([1]);
    web.settings.timeouts = TIMEOUTS;
    web_udp.settings.timeouts = TIMEOUTS;
    let director = Director::new([(WEB, web), (WEB_UDP, web_udp)]);
    director.send(&Packet::syn(client(1)));
    for number in 2..=4 {
        director.establish(client(number));
    }
    director.open(client(7));
    director.send(&Packet::fin(client(3)));
    director.send(&Packet::rst(client(4)));
    director.send(&Packet::udp(client(5)));
    director.send(&Packet::udp(client(6)));
    director.send(&Packet::udp(client(6)));
    assert_eq!(director.entries(), 7);

    // Just before and well after (an eighth of slack, and ticks) each of them.
    let steps = [(4, 7), (8, 6), (19, 6), (25, 5), (49, 5), (60, 3), (99, 3), (116, 2)];
    let steps = steps.into_iter().chain([(249, 2), (290, 1), (499, 1), (520, 0)]);
    for (seconds, left) in steps {
        let census = director.sweep_after(Duration::from_secs(seconds));
        assert_eq!(census.used, left, "after {seconds} s");
        director.assert_counts_are_true();
    }
}

#[test]
fn time_outs_are_the_services_own() {
    let mut long = rr([1]);
    long.settings.timeouts.established = Duration::from_secs(3600);
    let short_key = tcp(OTHER_VIP, PORT);
    let mut short = rr([1]);
    short.settings.timeouts.established = Duration::from_secs(30);
    let mut director = Director::new([(WEB, long), (short_key, short)]);
    let open_both = |director: &Director, number| {
        director.establish(client(number));
        for packet in [Packet::syn, Packet::ack, Packet::data] {
            director.send(&packet(client(number)).to(OTHER_VIP, PORT));
        }
    };
    open_both(&director, 1);
    let census = director.sweep_after(Duration::from_secs(60));
    assert_eq!((census.expired, census.used), (1, 1));
    assert_eq!((director.counts(WEB, 1), director.counts(short_key, 1)), ((1, 0), (0, 0)));

    // A changed time-out holds for known connections from their next packet on, unless they have
    // longer anyway.
    director.change_service(WEB, |service| service.settings.timeouts.established = Duration::from_secs(7200));
    director.send(&Packet::ack(client(1)));
    assert_eq!(director.sweep_after(Duration::from_secs(5000)).used, 1);
}

/// A packet renews its connection; the entry itself is written only when its slack is used up.
#[test]
fn a_connection_in_use_does_not_expire() {
    let mut web = rr([1]);
    web.settings.timeouts.established = Duration::from_secs(1);
    let director = Director::new([(WEB, web)]);
    director.open(client(1));
    director.open(client(2));
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(300));
        director.send(&Packet::ack(client(1)));
        director.sweep_after(Duration::ZERO);
    }
    assert_eq!(director.counts(WEB, 1), (1, 0), "client 2 was silent for 2.4 s, client 1 was not");
    assert_eq!(director.send(&Packet::ack(client(1))).verdict, Verdict::Tx);
    assert_eq!(director.send(&Packet::ack(client(2))).verdict, Verdict::Pass, "a stray now");
}

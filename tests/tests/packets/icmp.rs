//! ICMP errors go where the packets of the connection go that they are about, and change nothing.

use lb_common::forward::hairpin;
use lb_common::reason::{Reason, TableEvent};
use lb_common::table::connection::Entry;
use lb_tests::harness::*;

const UDP: u8 = 17;
const OTHER_DIRECTOR: [u8; 6] = [0x02, 0, 0, 0, 0, 0x06];

/// "Fragmentation needed" and "packet too big".
const TOO_BIG: [u8; 2] = [3, 4];
const TOO_BIG_V6: [u8; 2] = [2, 0];

const TCP_HEADER: Transport = Transport::Tcp { flags: ACK, options: 0 };

fn director() -> Director {
    Director::new([WEB, WEB_UDP, WEB6, DNS6].map(|key| (key, rr([1, 2, 3]))))
}

/// Both connections of client `number`, of each family; the servers that they have.
struct Opened([u16; 4]);

fn open(director: &Director, number: u32) -> Opened {
    let from = client(number);
    let of = |frame: &[u8]| director.send_bytes(frame).server();
    let tcp6 = of(&tcp6(number, SYN)).max(of(&tcp6(number, ACK)));
    Opened([director.open(from), director.send(&Packet::udp(from)).server(), tcp6, of(&udp6(number))])
}

/// Errors about the four connections of a client, in the same order.
fn errors(number: u32) -> [Vec<u8>; 4] {
    let [tcp, udp] = [TCP_HEADER, Transport::Udp].map(|transport| {
        let outer = Packet::udp(client(number));
        icmp_error(&outer, TOO_BIG, &sent_to(client(number), transport, 0))
    });
    let [tcp6, udp6] = [TCP, UDP].map(|protocol| icmp6_error(TOO_BIG_V6, &sent_to_v6(number, protocol)));
    [tcp, udp, tcp6, udp6]
}

/// All that the table remembers.
fn entries(director: &Director) -> Vec<Entry> {
    let mut entries: Vec<Entry> = director.data_path.table.entries().collect();
    entries.sort_by_key(|entry| entry.0);
    entries
}

#[test]
fn every_kind_reaches_the_server_of_its_connection() {
    let director = director();
    for number in 0..6 {
        let Opened([tcp, udp, tcp6, udp6]) = open(&director, number);
        let outer = Packet::udp(client(number));
        for kind in [[3, 0], [3, 1], [3, 3], TOO_BIG, [3, 13], [11, 0], [12, 0]] {
            for (transport, server) in [(TCP_HEADER, tcp), (Transport::Udp, udp)] {
                let frame = icmp_error(&outer, kind, &sent_to(client(number), transport, 0));
                assert_goes_to(&director, &format!("{kind:?} about {transport:?}"), &frame, server);
            }
        }
        for kind in [[1, 0], [1, 4], TOO_BIG_V6, [3, 0], [4, 1]] {
            for (protocol, server) in [(TCP, tcp6), (UDP, udp6)] {
                let frame = icmp6_error(kind, &sent_to_v6(number, protocol));
                assert_goes_to(&director, &format!("{kind:?} about {protocol}"), &frame, server);
            }
        }
    }
}

#[test]
fn headers_before_and_within_are_looked_through() {
    let director = director();
    let Opened([tcp, udp, tcp6, udp6]) = open(&director, 1);
    let tags = [&[][..], &[DOT1Q], &[DOT1AD, DOT1Q]];
    for tags in tags {
        for ip_options in [0, 1, 10] {
            for within in [0, 1, 10] {
                let outer = Packet { tags: tags.to_vec(), ip_options, ..Packet::udp(client(1)) };
                for (transport, server) in [(TCP_HEADER, tcp), (Transport::Udp, udp)] {
                    let frame = icmp_error(&outer, TOO_BIG, &sent_to(client(1), transport, within));
                    let description = format!("{} tags, {ip_options}, {within}", tags.len());
                    assert_goes_to(&director, &description, &frame, server);
                }
            }
        }
        let quote = |protocol| {
            let sent = [&[0; 14][..], &sent_to_v6(1, protocol)].concat();
            extended(extended(sent, 60, [0; 7]), 44, [0, 0, 1, 0, 0, 0, 7])[14..].to_vec()
        };
        for (protocol, server) in [(TCP, tcp6), (UDP, udp6)] {
            for quote in [sent_to_v6(1, protocol), quote(protocol)] {
                let plain = icmp6_error(TOO_BIG_V6, &quote);
                let longer = extended(extended(plain.clone(), 60, [0; 7]), 0, [0; 7]);
                for frame in [plain, longer] {
                    assert_goes_to(&director, "IPv6", &tagged(tags, &frame), server);
                }
            }
        }
    }
}

/// The Internet's routers quote 8 bytes of the transport header, or as much as fits.
#[test]
fn longer_quotes_are_as_good_and_shorter_ones_are_the_hosts() {
    let director = director();
    let Opened([tcp, ..]) = open(&director, 1);
    let outer = Packet::udp(client(1));
    let quote = sent_to(client(1), TCP_HEADER, 0);
    let longer = [&quote[..], &[9; 520]].concat();
    assert_goes_to(&director, "548 bytes", &icmp_error(&outer, TOO_BIG, &longer), tcp);
    for length in [0, 8, 19, 20, 23] {
        assert_passes(&director, "too short", &icmp_error(&outer, TOO_BIG, &quote[..length]));
    }
    let padded = Packet { padding: 8, ..outer };
    assert_passes(&director, "padding is no quote", &icmp_error(&padded, TOO_BIG, &quote[..20]));
}

#[track_caller]
fn assert_passes(director: &Director, description: &str, frame: &[u8]) {
    let (outcome, reasons) = director.explain(frame);
    assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "{description}");
    assert_eq!(outcome.frame, frame, "{description}");
}

#[test]
fn a_flood_of_them_changes_nothing() {
    let director = director();
    for number in 0..20 {
        open(&director, number);
    }
    let before = (entries(&director), director.counts(WEB, 1), director.counts(WEB6, 1));
    let connections = director.stats(WEB, 1).connections;
    for _ in 0..20 {
        for number in 0..40 {
            errors(number).iter().for_each(|frame| _ = director.send_bytes(frame));
        }
    }
    assert_eq!((entries(&director), director.counts(WEB, 1), director.counts(WEB6, 1)), before);
    assert_eq!(director.stats(WEB, 1).connections, connections);
    director.assert_counts_are_true();
}

#[test]
fn forged_ones_are_the_hosts() {
    let director = director();
    open(&director, 1);
    for frame in errors(2) {
        let (outcome, reasons) = director.explain(&frame);
        assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![Reason::IcmpUnknown]));
    }
    let outer = Packet::udp(client(1));
    let sent = sent_to(client(1), TCP_HEADER, 0);
    let with = |at: usize, value: u8| {
        let mut sent = sent.clone();
        sent[at] = value;
        icmp_error(&outer, TOO_BIG, &sent)
    };
    for (description, frame) in [
        ("to another address than the one that sent", with(15, 7)),
        ("a later fragment", with(7, 1)),
        ("another protocol", with(9, 1)),
        ("another port of the VIP", with(21, 22)),
        ("to a host that is no VIP", icmp_error(&outer.clone().to(OTHER_VIP, PORT), TOO_BIG, &sent)),
        ("an echo request", icmp_error(&outer, [8, 0], &sent)),
        ("an echo reply", icmp_error(&outer, [0, 0], &sent)),
        ("a redirect", icmp_error(&outer, [5, 1], &sent)),
        (
            "a later fragment of an error",
            icmp_error(&Packet { fragment: 7, ..outer.clone() }, TOO_BIG, &sent),
        ),
        ("an echo request of IPv6", icmp6_error([128, 0], &sent_to_v6(1, TCP))),
    ] {
        assert_passes(&director, description, &frame);
    }
}

#[test]
fn what_must_not_be_forwarded_has_its_reason() {
    let mut director = director();
    let Opened([tcp, ..]) = open(&director, 1);
    let sent = sent_to(client(1), TCP_HEADER, 0);
    let error = |outer: Packet| icmp_error(&outer, TOO_BIG, &sent);
    let outer = Packet::udp(client(1));
    let short = error(outer.clone())[..14 + 20 + 8 + 24].to_vec();
    let from_server = Packet { source: mac(tcp), ..outer.clone() };
    let rows: [Row; 5] = [
        (
            "to another station",
            error(Packet { destination: mac(9), ..outer.clone() }),
            Some(Reason::NotOurMac),
        ),
        ("time to live 0", error(Packet { ttl: 0, ..outer.clone() }), Some(Reason::TtlExpired)),
        ("longer than the frame", short, Some(Reason::BadLength)),
        ("sent on before", error(Packet { ttl: 7, ..from_server.clone() }), Some(Reason::Loop)),
        ("as it should be", error(outer), None),
    ];
    assert_rows(&director, rows);
    let back = director.send_bytes(&error(from_server));
    assert_eq!((back.server(), back.frame[14 + 8]), (tcp, hairpin::TTL), "back to a gateway once");

    director.change_service(WEB, |service| service.servers.iter_mut().for_each(|server| server.mac = None));
    let (outcome, reasons) = director.explain(&errors(1)[0]);
    assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::NoMac]));
}

#[test]
fn the_host_as_a_server_gets_them() {
    let mut service = rr([]);
    service.servers.push(local(true));
    let director = Director::new([(WEB, service)]);
    director.send(&Packet::syn(client(1)));
    assert_eq!(director.explain(&errors(1)[0]).1, [Reason::LocalFallback]);
}

#[test]
fn the_lease_decides_as_of_other_packets() {
    let director = director();
    let Opened(servers) = open(&director, 1);
    let leases = director.data_path.leases();
    leases.renew(GROUP, ago(1));
    for (frame, server) in errors(1).iter().zip(servers) {
        assert_goes_to(&director, "a connection outlives its lease", frame, server);
    }
    for frame in errors(2) {
        assert_eq!(director.explain(&frame).1, [Reason::LeaseLapsed], "of an unknown connection");
    }
    leases.end(GROUP);
    for frame in errors(1).iter().chain(&errors(2)) {
        let (outcome, reasons) = director.explain(frame);
        assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![Reason::Standby]));
    }
}

/// One about a TCP connection that only the director before knows.
#[test]
fn in_a_hand_over_they_are_relayed() {
    let director = director();
    open(&director, 1);
    let leases = director.data_path.leases();
    leases.renew(GROUP, within(60));
    leases.relay(GROUP, Some((OTHER_DIRECTOR.into(), within(60))));
    let [tcp, udp, tcp6, udp6] = errors(2);
    for frame in [tcp, tcp6] {
        let (outcome, reasons) = director.explain(&frame);
        assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]));
        assert_eq!((&outcome.frame[..6], &outcome.frame[12..]), (&OTHER_DIRECTOR[..], &frame[12..]));
    }
    assert_eq!(director.event(TableEvent::Relayed), 2);
    for frame in [udp, udp6] {
        assert_eq!(director.explain(&frame).1, [Reason::IcmpUnknown], "datagrams open connections");
    }
}

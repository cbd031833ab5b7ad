//! Every reason not to forward a packet: provoked, acted on, counted.

use std::ops::Range;

use lb_common::mac::Mac;
use lb_common::reason::{Fate, Reason};
use lb_common::schedule::Schedule;
use lb_common::server::{GivesUp, ServerEntry};
use lb_tests::harness::*;

use crate::{admission, directors, egress, nat, probes, refusals, tunnels};

/// A director and a frame that it refuses for this reason. Exhaustive on purpose: a new reason
/// needs a scene.
pub(crate) fn scene(reason: Reason) -> (Director, Vec<u8>) {
    let director = || Director::new([(WEB, rr([1]))]);
    let syn = Packet::syn(client(1));
    match reason {
        Reason::TruncatedIp => (director(), syn.bytes()[..33].to_vec()),
        Reason::BadIpHeader => (director(), syn.bytes_with(|frame| frame[14] = 0x44)),
        Reason::FragmentUnknown => (director(), Packet { fragment: 185, ..syn }.bytes()),
        Reason::FragmentHeld => {
            let mut director = director();
            director.held_fragments().take_for(std::time::Duration::from_secs(60));
            (director, Packet { fragment: 185, ..syn }.bytes())
        }
        Reason::FragmentOverlap => after_fragments(&[0..10, 20..30], 9..15),
        Reason::FragmentScattered => after_fragments(&[0..10, 20..30, 40..50, 60..70], 80..90),
        Reason::TruncatedPorts => (director(), syn.bytes()[..37].to_vec()),
        Reason::NotOurMac => (director(), Packet { destination: mac(7), ..syn }.bytes()),
        Reason::Standby => (on_standby(), syn.bytes()),
        Reason::Stray => (director(), Packet::ack(client(1)).bytes()),
        Reason::LocalFallback => (with_only_the_host(), syn.bytes()),
        Reason::BadLength => (director(), syn.bytes_with(|frame| frame[17] += 1)),
        Reason::BadTcpFlags => (director(), Packet::tcp(client(1), SYN | FIN).bytes()),
        Reason::SourceIsVip => (director(), Packet { from: syn.to, ..syn }.bytes()),
        Reason::TtlExpired => (director(), Packet { ttl: 0, ..syn }.bytes()),
        Reason::Loop => (director(), Packet { source: mac(1), ttl: 7, ..syn }.bytes()),
        Reason::NoServer => (Director::new([(WEB, rr([]))]), syn.bytes()),
        Reason::NoMac => (without_mac(), syn.bytes()),
        Reason::MapInconsistency => (with_an_inconsistency(), syn.bytes()),
        Reason::LeaseLapsed => (with_a_lapsed_lease(), syn.bytes()),
        Reason::ArpSilenced => (silent(), arp_request(VIP)),
        Reason::ProbeUnheard => (probes::director(), probes::answers()[0].1.bytes()),
        Reason::LocalServer => (directors::lone(), syn.bytes()),
        Reason::PeerBalanced => (directors::on_standby(), directors::balanced(syn).bytes()),
        Reason::Refused => (refusals::director(), syn.bytes()),
        Reason::RefusedSilently => (refusals::director(), Packet::rst(client(1)).bytes()),
        Reason::StrayHeld => (just_taken_over(), Packet::ack(client(1)).bytes()),
        Reason::UnknownScheduler => (with_an_unknown_scheduler(), syn.bytes()),
        Reason::TooBig => (tunnels::director(), tunnels::too_big(syn).bytes()),
        Reason::TooBigSilently => (tunnels::director(), tunnels::too_big_of_nobody(syn).bytes()),
        Reason::IcmpUnknown => {
            let sent = sent_to(client(1), syn.transport, 0);
            (director(), icmp_error(&syn, [3, 4], &sent))
        }
        Reason::ForeignVlan => (egress::of_vlan_7(), syn.bytes()),
        Reason::NoInterface => (egress::without_interface(), syn.bytes()),
        Reason::ClientNearServer => (nat::director(), nat::of_near_client(syn).bytes()),
        Reason::NatClash => nat::clashing(),
        Reason::NoWayBack => nat::without_way_back(),
        Reason::NoSourcePort => nat::source::exhausted(),
        Reason::ServerDead => (with_a_dead_server(), Packet::ack(client(1)).bytes()),
        Reason::TtlAnswered => (nat::director(), Packet { ttl: 1, ..syn }.bytes()),
        Reason::ProbeAstray => (probes::director(), probes::sent_on(syn).bytes()),
        Reason::ClientDenied
        | Reason::ClientUnlisted
        | Reason::ClientNewLimit
        | Reason::ClientPacketLimit
        | Reason::ClientConnectionLimit
        | Reason::ServiceNewLimit
        | Reason::ServicePacketLimit => (admission::refusing(reason), syn.bytes()),
    }
}

/// After these fragments of a datagram have come, another one.
fn after_fragments(before: &[Range<usize>], last: Range<usize>) -> (Director, Vec<u8>) {
    let director = Director::new([(WEB_UDP, rr([1]))]);
    let datagram = Packet { payload: 1000, ..Packet::udp(client(1)) };
    for range in before {
        director.send_bytes(&fragment(&datagram, 1, range.clone())).server();
    }
    (director, fragment(&datagram, 1, last))
}

fn on_standby() -> Director {
    let director = Director::new([(WEB, rr([1]))]);
    director.data_path.leases().end(GROUP);
    director
}

fn just_taken_over() -> Director {
    let director = Director::new([(WEB, rr([1]))]);
    director.data_path.executor.hold_strays(std::time::Duration::from_secs(60));
    director
}

fn with_a_lapsed_lease() -> Director {
    let director = Director::new([(WEB, rr([1]))]);
    director.data_path.leases().renew(GROUP, ago(1));
    director
}

fn silent() -> Director {
    let mut director = on_standby();
    director.data_path.executor.set_vips(&[(VIP.into(), GROUP)]).unwrap();
    director
}

fn with_only_the_host() -> Director {
    let mut service = rr([]);
    service.servers.push(local(true));
    Director::new([(WEB, service)])
}

fn without_mac() -> Director {
    let mut service = rr([1]);
    service.servers[0].mac = None;
    Director::new([(WEB, service)])
}

/// The client's connection was its.
fn with_a_dead_server() -> Director {
    let mut director = Director::new([(WEB, rr([1]))]);
    director.open(client(1));
    director.change_service(WEB, |service| {
        (service.servers[0].usable, service.servers[0].gives_up) = (false, Some(GivesUp::Resets));
    });
    director
}

/// A schedule that names a server which is not in the maps.
fn with_an_inconsistency() -> Director {
    let director = Director::new([(WEB, rr([1]))]);
    let id = director.id(WEB, 1);
    director.data_path.executor.maps().servers.write(usize::from(id.0), ServerEntry::UNSET);
    director
}

/// A schedule of a controller that is newer than the program.
fn with_an_unknown_scheduler() -> Director {
    let director = Director::new([(WEB, rr([1]))]);
    let schedules = &director.data_path.executor.maps().schedules;
    for index in 0..schedules.elements() {
        let schedule = schedules.read(index);
        schedules.write(index, Schedule { scheduler: 99, ..schedule });
    }
    director
}

#[test]
fn every_reason_is_acted_on_and_counted_once_per_packet() {
    for reason in Reason::ALL {
        let (director, frame) = scene(*reason);
        for _ in 0..3 {
            let (outcome, reasons) = director.explain(&frame);
            assert_eq!(reasons, [*reason]);
            assert_eq!(outcome.verdict, Verdict::of(*reason), "{reason:?}");
            if reason.fate() != Fate::Answer {
                assert_eq!(outcome.frame, frame, "{reason:?}: a frame that is not sent stays as it is");
            }
        }
        assert_eq!(director.reason(*reason), 3);
    }
}

#[test]
fn lengths_that_contradict_each_other() {
    let director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    let syn = Packet::syn(client(1));
    let udp = Packet { payload: 4, ..Packet::udp(client(1)) };
    let jumbo = Packet { payload: 5000, ..Packet::udp(client(1)) };
    let long = Some(Reason::BadLength);
    assert_rows(
        &director,
        [
            ("IP longer than the frame", syn.bytes_with(|frame| frame[17] = 41), long),
            ("IP far longer than the frame", syn.bytes_with(|frame| frame[16] = 0xff), long),
            ("IP shorter than its own header", syn.bytes_with(|frame| frame[17] = 19), long),
            ("IP of length 0", syn.bytes_with(|frame| frame[17] = 0), long),
            ("IP that ends within the TCP header", syn.bytes_with(|frame| frame[17] = 39), long),
            ("a TCP header of 16 bytes", syn.bytes_with(|frame| frame[46] = 0x40), long),
            ("a TCP header past the end", syn.bytes_with(|frame| frame[46] = 0x60), long),
            ("a frame that ends before the flags", syn.bytes()[..46].to_vec(), long),
            ("a frame that ends with the flags", syn.bytes()[..48].to_vec(), long),
            ("a UDP length of 7", udp.bytes_with(|frame| frame[39] = 7), long),
            ("IP that ends within the UDP header", udp.bytes_with(|frame| frame[17] = 27), long),
            ("a frame that ends before the UDP length", udp.bytes()[..38].to_vec(), long),
            ("IP that ends with the UDP header", udp.bytes_with(|frame| frame[17] = 28), None),
            ("a jumbo frame", jumbo.bytes(), None),
            ("a jumbo frame that lacks its last byte", jumbo.bytes_with(|frame| _ = frame.pop()), long),
        ],
    );
}

#[test]
fn tcp_flags_that_no_connection_sends() {
    let director = Director::new([(WEB, rr([1]))]);
    director.open(client(1));
    for flags in 0..=0xff {
        let contradicts = flags & SYN != 0 && flags & (FIN | RST) != 0;
        let reason = contradicts.then_some(Reason::BadTcpFlags);
        assert_rows(&director, [("any flags", Packet::tcp(client(1), flags).bytes(), reason)]);
    }
}

/// Whatever is for a service but not for this station, or came while we are not active, is nobody's
/// mistake.
#[test]
fn another_stations_and_a_standbys_packets_are_not_judged() {
    let director = Director::new([(WEB, rr([1]))]);
    let bad = Packet { ttl: 0, ..Packet::tcp(client(1), SYN | FIN) };
    let flooded = Packet { destination: Mac::new([0xff; 6]), ..bad.clone() };
    assert_rows(&director, [("flooded by a switch", flooded.bytes(), Some(Reason::NotOurMac))]);
    director.data_path.leases().end(GROUP);
    assert_rows(&director, [("on standby", bad.bytes(), Some(Reason::Standby))]);
    assert_eq!(director.entries(), 0);
}

#[test]
fn a_server_that_sends_to_its_own_service_is_served() {
    let director = Director::new([(WEB, rr([1, 2]))]);
    let from_server_1 = Packet { source: mac(1), ..Packet::syn(client(1)) };
    assert_rows(&director, [("picked itself", from_server_1.bytes(), None)]);
    let from_server_1 = Packet { source: mac(1), ..Packet::syn(client(2)) };
    assert_rows(&director, [("picked the other one", from_server_1.bytes(), None)]);
}

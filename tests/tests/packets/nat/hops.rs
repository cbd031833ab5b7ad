//! The director is a hop: who has sent a packet that ends here hears of it, in both directions.

use std::net::IpAddr;

use lb_common::mac::Mac;
use lb_common::reason::Reason;
use lb_tests::harness::*;

use super::related::{error, with_ip_checksum};
use super::{SEGMENTS, Segment, director};

/// ICMP time exceeded, from the VIP, with the packet's headers as far as 8 bytes of the segment.
fn time_exceeded(macs: [Mac; 2], addresses: [IpAddr; 2], about: &[u8]) -> Vec<u8> {
    let is_ipv4 = addresses[0].is_ipv4();
    let (kind, ip) = if is_ipv4 { ([11, 0], 20) } else { ([3, 0], 40) };
    let mut frame = error(kind, macs, addresses, &about[14..][..ip + 8], 64);
    let at = 14 + ip;
    // `error` tells an MTU, and has another IP header.
    let words = |frame: &[u8]| u16::from_be_bytes([frame[at + 6], frame[at + 7]]);
    let mtu = words(&frame);
    let checksum = u16::from_be_bytes([frame[at + 2], frame[at + 3]]);
    frame[at + 6..at + 8].fill(0);
    let sum = u32::from(!checksum) + u32::from(!mtu);
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[at + 2..at + 4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    if is_ipv4 {
        frame[18..22].copy_from_slice(&[0, 0, 0x40, 0]);
        frame = with_ip_checksum(frame);
    }
    frame
}

#[test]
fn who_sends_the_last_hop_hears_of_it() {
    let director = director();
    for kind in SEGMENTS {
        let segment = Segment { data: vec![1; 64], ..Segment::new(kind, ACK) };
        segment.open(&director);
        let last = Segment { ttl: 1, ..segment.clone() };
        let (to_vip, by_server) = (last.to_vip(), last.by_server());
        for (description, frame, station, to) in [
            ("towards the server", &to_vip, ROUTER, segment.client),
            ("from the server", &by_server, mac(1), segment.server()),
        ] {
            let (outcome, reasons) = director.explain(frame);
            let description = format!("{kind:?} {description}");
            assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::TtlAnswered]), "{description}");
            let expected = time_exceeded([station, MAC], [segment.vip, to], frame);
            assert_eq!(outcome.frame, expected, "{description}");
        }
        // Nobody sends packets that have none.
        let mut dead = last.to_vip();
        dead[if kind.0 == 4 { 14 + 8 } else { 14 + 7 }] = 0;
        let (outcome, reasons) = director.explain(&dead);
        assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::TtlExpired]), "{kind:?}");
    }
    director.assert_counts_are_true();
}

#[test]
fn some_are_not_answered() {
    let director = director();
    let segment = Segment { ttl: 1, ..Segment::new((4, TCP), ACK) };
    segment.open(&director);
    let expired = |frame: &[u8]| {
        let (outcome, reasons) = director.explain(frame);
        assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::TtlExpired]));
    };
    expired(&Segment { ip_options: 1, ..segment.clone() }.to_vip());
    // An error about an error: no.
    let arrived = Segment { ttl: 64, ..segment.clone() }.to_client()[14..][..28].to_vec();
    expired(&error([3, 1], [MAC, ROUTER], [segment.client, segment.vip], &arrived, 1));
    // So many a second and CPU, as all answers: 50 at once, and one a millisecond.
    let begun = std::time::Instant::now();
    let answered =
        (0..2000).filter(|_| director.send_bytes(&segment.to_vip()).verdict == Verdict::Tx).count();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let most = cpus * (51 + begun.elapsed().as_millis() as usize);
    assert!(answered <= most, "{answered} of 2000 were answered, at most {most} may be");
}

//! ARP requests and neighbour solicitations: swallowed for a VIP whose group has no lease, the
//! host's otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::reason::Reason;
use lb_model::ids::GroupNumber;
use lb_tests::harness::*;

const OTHER_GROUP: GroupNumber = GroupNumber(31);
const OTHER_VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// Two groups with two VIPs each, no service; the first group has no lease.
fn director() -> Director {
    let mut director = Director::new([]);
    let vips = [(VIP.into(), GROUP), (VIP6.into(), GROUP)];
    let others = [(OTHER_VIP.into(), OTHER_GROUP), (OTHER_VIP6.into(), OTHER_GROUP)];
    director.data_path.executor.set_vips(&[vips, others].concat()).unwrap();
    director.data_path.leases().end(GROUP);
    director
}

/// Whether the frame is swallowed; if not, it must pass and must not be counted.
#[track_caller]
fn is_swallowed(director: &Director, description: &str, frame: &[u8]) -> bool {
    let (outcome, reasons) = director.explain(frame);
    assert_eq!(outcome.frame, frame, "{description}: unchanged");
    match reasons[..] {
        [] => assert_eq!(outcome.verdict, Verdict::Pass, "{description}"),
        [Reason::ArpSilenced] => assert_eq!(outcome.verdict, Verdict::Drop, "{description}"),
        _ => panic!("{description}: {reasons:?}"),
    }
    !reasons.is_empty()
}

fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn padded(frame: Vec<u8>) -> Vec<u8> {
    [frame, vec![0; 18]].concat()
}

#[test]
fn questions_for_a_vip_without_a_lease_are_swallowed() {
    director().with_either(|director| {
        let broadcast = with(arp_request(VIP), 0, &[0xff; 6]);
        for (description, frame) in [
            ("ARP, unicast", arp_request(VIP)),
            ("ARP, broadcast", broadcast.clone()),
            ("ARP with the padding of a shortest frame", padded(broadcast)),
            ("ARP behind a tag", tagged(&[DOT1Q], &arp_request(VIP))),
            ("ARP behind two tags", tagged(&[DOT1AD, DOT1Q], &arp_request(VIP))),
            ("a solicitation", solicitation(VIP6)),
            ("a solicitation by one who looks for duplicates", with(solicitation(VIP6), 14 + 8, &[0; 16])),
            ("a solicitation behind a tag", tagged(&[DOT1Q], &solicitation(VIP6))),
            ("a solicitation behind two tags", tagged(&[DOT1AD, DOT1Q], &solicitation(VIP6))),
        ] {
            assert!(is_swallowed(director, description, &frame), "{description}");
        }
    });
}

#[test]
fn all_else_passes() {
    director().with_either(|director| {
        let arp = || arp_request(VIP);
        let nd = || solicitation(VIP6);
        for (description, frame) in [
            ("another group's VIP", arp_request(OTHER_VIP)),
            ("another group's VIP by IPv6", solicitation(OTHER_VIP6)),
            ("the host's own address", arp_request(Ipv4Addr::new(211, 58, 250, 5))),
            ("the host's own IPv6 address", solicitation(Ipv6Addr::LOCALHOST)),
            ("an ARP reply", with(arp(), 14 + 6, &[0, 2])),
            ("an announcement", with(arp(), 14 + 14, &VIP.octets())),
            ("a probe", with(arp(), 14 + 14, &[0; 4])),
            ("ARP on other hardware", with(arp(), 14, &[0, 6])),
            ("ARP for another protocol", with(arp(), 14 + 2, &[0x80, 0x9b])),
            ("ARP with long hardware addresses", with(arp(), 14 + 4, &[8])),
            ("ARP with long protocol addresses", with(arp(), 14 + 5, &[16])),
            ("reverse ARP", with(arp(), 12, &[0x80, 0x35])),
            ("ARP behind three tags", tagged(&[DOT1AD, DOT1Q, DOT1Q], &arp())),
            ("an advertisement", with(nd(), 14 + 40, &[136])),
            ("a router's solicitation", with(nd(), 14 + 40, &[133])),
            ("TCP over IPv6", with(nd(), 14 + 6, &[6])),
            ("IPv6 with another version", with(nd(), 14, &[0x40])),
            ("a solicitation from the VIP", with(solicitation(OTHER_VIP6), 14 + 8, &VIP6.octets())),
        ] {
            assert!(!is_swallowed(director, description, &frame), "{description}");
        }
    });
}

#[test]
fn what_ends_before_the_address_does_passes() {
    director().with_either(|director| {
        for frame in [arp_request(VIP), solicitation(VIP6)] {
            let whole = if frame[13] == 6 { 14 + 28 } else { 14 + 64 };
            for length in 14..=frame.len() {
                let description = format!("{length} bytes of {}", frame.len());
                let swallowed = is_swallowed(director, &description, &frame[..length]);
                assert_eq!(swallowed, length >= whole, "{description}");
            }
        }
    });
}

#[test]
fn the_host_is_heard_exactly_while_its_director_may_answer() {
    director().with_either(|director| {
        let leases = director.data_path.leases();
        let steps: [(&str, &dyn Fn(), bool); 7] = [
            ("standby", &|| leases.end(GROUP), true),
            ("active", &|| leases.renew(GROUP, within(60)), false),
            ("run out", &|| leases.renew(GROUP, ago(1)), true),
            ("run out long ago", &|| leases.renew(GROUP, ago(11)), true),
            ("active again", &|| leases.renew(GROUP, within(60)), false),
            ("grace", &|| leases.grace(GROUP, within(60)), true),
            ("unlimited", &|| leases.unlimited(GROUP), false),
        ];
        for (description, step, swallowed) in steps {
            step();
            for frame in [arp_request(VIP), solicitation(VIP6)] {
                assert_eq!(is_swallowed(director, description, &frame), swallowed, "{description}");
            }
            assert!(!is_swallowed(director, description, &arp_request(OTHER_VIP)), "{description}");
        }
    });
}

#[test]
fn the_vips_are_those_last_set() {
    let mut director = Director::new([]);
    let silent = |director: &Director| {
        [VIP, OTHER_VIP].map(|vip| is_swallowed(director, "a request", &arp_request(vip)))
    };
    director.data_path.leases().end(GROUP);
    assert_eq!(silent(&director), [false, false], "VIPs of no group are the operator's");
    let (vip, other_vip) = (IpAddr::V4(VIP), IpAddr::V4(OTHER_VIP));
    for (vips, expected) in [
        (vec![(vip, GROUP)], [true, false]),
        (vec![(vip, GROUP), (other_vip, GROUP)], [true, true]),
        (vec![(vip, OTHER_GROUP), (other_vip, GROUP)], [false, true]),
        (vec![(vip, GROUP)], [true, false]),
        (vec![], [false, false]),
    ] {
        director.data_path.executor.set_vips(&vips).unwrap();
        assert_eq!(silent(&director), expected, "{vips:?}");
    }
}

/// A reload may exchange every VIP for another one.
#[test]
fn there_is_room_for_all_old_and_new_vips_at_once() {
    let mut director = Director::new([]);
    let vips = |third: u8| -> Vec<(IpAddr, u8)> {
        (0..SMALL.services as u8).map(|host| (Ipv4Addr::new(10, 9, third, host).into(), GROUP)).collect()
    };
    director.data_path.leases().end(GROUP);
    for third in 0..4 {
        director.data_path.executor.set_vips(&vips(third)).unwrap();
        assert!(is_swallowed(&director, "a new one", &arp_request(Ipv4Addr::new(10, 9, third, 7))));
        if third > 0 {
            assert!(!is_swallowed(&director, "an old one", &arp_request(Ipv4Addr::new(10, 9, third - 1, 7))));
        }
    }
}

//! IPv6 packets to the groups' VIPs: the host serves them, and after a lease has run out nobody
//! does.

use std::net::Ipv6Addr;

use lb_common::reason::Reason;
use lb_model::ids::GroupNumber;
use lb_tests::harness::*;

const OTHER_GROUP: GroupNumber = GroupNumber(31);
const OTHER_VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const OWN_ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);

/// Two groups with a VIP each, no service.
fn director() -> Director {
    let mut director = Director::new([]);
    let vips = [(VIP6.into(), GROUP), (OTHER_VIP6.into(), OTHER_GROUP)];
    director.data_path.executor.set_vips(&vips).unwrap();
    director
}

fn syn_to(target: Ipv6Addr) -> Vec<u8> {
    let ports = [0x9c, 0x40, 0, 80];
    ipv6(TCP, target, &[&ports[..], &[0; 8], &[0x50, SYN], &[0; 6]].concat())
}

/// What the packets of a client and of its neighbour discovery look like, and whatever else there
/// may be.
fn packets_to(target: Ipv6Addr) -> Vec<(&'static str, Vec<u8>)> {
    const FRAGMENT: u8 = 44;
    const HOP_BY_HOP: u8 = 0;
    vec![
        ("TCP", syn_to(target)),
        ("UDP", ipv6(17, target, &[0; 8])),
        ("a ping", ipv6(ICMPV6, target, &[128, 0, 0, 0, 0, 1, 0, 1])),
        ("an advertisement", ipv6(ICMPV6, target, &[&[136][..], &[0; 23]].concat())),
        ("a fragment", ipv6(FRAGMENT, target, &[6, 0, 0, 9, 0, 0, 0, 1])),
        ("an option before TCP", ipv6(HOP_BY_HOP, target, &[&[TCP, 0][..], &[0; 26]].concat())),
        ("a header and nothing else", ipv6(TCP, target, &[])),
        ("a tag", tagged(&[DOT1Q], &syn_to(target))),
        ("two tags", tagged(&[DOT1AD, DOT1Q], &syn_to(target))),
    ]
}

/// All of them are treated alike: passed uncounted, or refused for `reason`.
#[track_caller]
fn assert_all(director: &Director, target: Ipv6Addr, reason: Option<Reason>, when: &str) {
    for (description, frame) in packets_to(target) {
        let (outcome, reasons) = director.explain(&frame);
        assert_eq!(reasons, Vec::from_iter(reason), "{when}: {description}");
        assert_eq!(outcome.verdict, reason.map_or(Verdict::Pass, Verdict::of), "{when}: {description}");
        assert_eq!(outcome.frame, frame, "{when}: {description}");
    }
}

/// What is done to the lease, and why packets are refused then.
type Step<'a> = (&'static str, &'a dyn Fn(), Option<Reason>);

#[test]
fn a_vip_is_served_by_the_host_until_the_lease_runs_out() {
    director().with_either(|director| {
        let leases = director.data_path.leases();
        let (standby, lapsed) = (Some(Reason::Standby), Some(Reason::LeaseLapsed));
        let steps: [Step; 8] = [
            ("alone", &|| leases.unlimited(GROUP), None),
            ("standby", &|| leases.end(GROUP), standby),
            ("active", &|| leases.renew(GROUP, within(60)), None),
            ("run out", &|| leases.renew(GROUP, ago(1)), lapsed),
            ("about to be released", &|| leases.lapse(GROUP, ago(1)), lapsed),
            ("run out long ago", &|| leases.renew(GROUP, ago(11)), standby),
            ("active again", &|| leases.renew(GROUP, within(60)), None),
            ("grace", &|| leases.grace(GROUP, within(60)), None),
        ];
        for (when, step, reason) in steps {
            step();
            assert_all(director, VIP6, reason, when);
            assert_all(director, OTHER_VIP6, None, when);
            assert_all(director, OWN_ADDRESS, None, when);
        }
    });
}

#[test]
fn what_a_switch_floods_is_not_judged() {
    director().with_either(|director| {
        director.data_path.leases().renew(GROUP, ago(1));
        let flooded = [&mac(7).octets()[..], &syn_to(VIP6)[6..]].concat();
        let (outcome, reasons) = director.explain(&flooded);
        assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![Reason::NotOurMac]));
    });
}

/// The whole address counts, and nothing but the address.
#[test]
fn addresses_that_resemble_a_vip_pass() {
    director().with_either(|director| {
        director.data_path.leases().renew(GROUP, ago(1));
        for byte in 0..16 {
            let mut octets = VIP6.octets();
            octets[byte] ^= 0x10;
            assert_all(director, octets.into(), None, "one bit differs");
        }
        let mut from_the_vip = syn_to(OWN_ADDRESS);
        from_the_vip[14 + 8..14 + 24].copy_from_slice(&VIP6.octets());
        assert_eq!(director.explain(&from_the_vip).1, []);
        for length in 14..14 + 40 {
            let (outcome, reasons) = director.explain(&syn_to(VIP6)[..length]);
            assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "{length} bytes");
        }
    });
}

use std::time::Duration;

use lb_common::mac::Mac;
use lb_lab::veth::{VethPair, block_on, ip};
use proptest::prelude::*;
use tokio::time::timeout;

use super::*;
use crate::announce::{Announcer, Part};

const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 5]);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 6);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6);

fn ethernet(ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&[0xff; 6][..], &MAC.octets(), &ethertype, packet].concat()
}

fn arp_frame(operation: u8, sender: Ipv4Addr) -> Vec<u8> {
    let packet = [
        &[0, 1, 8, 0, 6, 4, 0, operation][..],
        &MAC.octets(),
        &sender.octets(),
        &[0; 6],
        &VIP.octets(),
        &[0; 18], // Ethernet's shortest frame has 60 bytes
    ];
    ethernet([8, 6], &packet.concat())
}

/// A neighbour advertisement with the options in the given order.
fn advertisement_frame(options: &[u8]) -> Vec<u8> {
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &VIP6.octets(), options].concat();
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    let header = [&[0x60, 0, 0, 0][..], &length, &[58, 255], &VIP6.octets(), &[0xff; 16]].concat();
    ethernet([0x86, 0xdd], &[header, message].concat())
}

const LINK_LAYER: [u8; 8] = [2, 1, 2, 0, 0, 0, 0, 5];

fn changed(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

#[test]
fn senders_of_requests_and_replies_claim_their_address() {
    for operation in [1, 2] {
        let claimed = claim(&arp_frame(operation, VIP));
        assert_eq!(claimed, Some(Claim { address: VIP.into(), mac: MAC }));
    }
}

#[test]
fn what_is_no_claim_by_arp() {
    let good = || arp_frame(1, VIP);
    let cases = [
        ("a probe", arp_frame(1, Ipv4Addr::UNSPECIFIED)),
        ("another operation", arp_frame(3, VIP)),
        ("an operation of two bytes", changed(good(), 20, 1)),
        ("not over Ethernet", changed(good(), 15, 6)),
        ("not for IPv4", changed(good(), 16, 0x86)),
        ("longer MACs", changed(good(), 18, 8)),
        ("longer addresses", changed(good(), 19, 16)),
        ("another protocol", changed(good(), 13, 0)),
    ];
    for (what, frame) in cases {
        assert_eq!(claim(&frame), None, "{what}");
    }
}

#[test]
fn an_advertisement_claims_its_target() {
    let nonce = [14, 1, 9, 9, 9, 9, 9, 9];
    for options in [LINK_LAYER.to_vec(), [nonce, LINK_LAYER].concat()] {
        let claimed = claim(&advertisement_frame(&options));
        assert_eq!(claimed, Some(Claim { address: VIP6.into(), mac: MAC }));
    }
}

#[test]
fn what_is_no_claim_by_an_advertisement() {
    let good = || advertisement_frame(&LINK_LAYER);
    let cases = [
        ("no link-layer address", advertisement_frame(&[])),
        ("an option of no length", advertisement_frame(&[14, 0, 2, 1, 2, 0, 0, 0])),
        ("an option that is cut off", advertisement_frame(&[2, 1, 2, 0])),
        ("the source's address, as in a solicitation", changed(good(), 78, 1)),
        ("not IPv6", changed(good(), 14, 0x40)),
        ("longer than the frame", changed(good(), 19, 200)),
        ("another next header", changed(good(), 20, 17)),
        ("through a router", changed(good(), 21, 254)),
        ("a solicitation", changed(good(), 54, 135)),
        ("another code", changed(good(), 55, 1)),
    ];
    for (what, frame) in cases {
        assert_eq!(claim(&frame), None, "{what}");
    }
}

#[test]
fn frames_that_are_cut_off_claim_nothing() {
    let (arp, advertisement) = (arp_frame(2, VIP), advertisement_frame(&LINK_LAYER));
    assert!((0..ETHERNET + 28).all(|length| claim(&arp[..length]).is_none()));
    assert!((0..advertisement.len()).all(|length| claim(&advertisement[..length]).is_none()));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        ethertype in prop_oneof![Just([8, 6]), Just([0x86, 0xdd]), any::<[u8; 2]>()],
        packet in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        claim(&ethernet(ethertype, &packet));
        claim(&packet);
    }

    #[test]
    fn mangled_advertisements_never_panic(at in 14_usize..86, byte: u8, length in 0_usize..=86) {
        let frame = changed(advertisement_frame(&[LINK_LAYER, LINK_LAYER].concat()), at, byte);
        claim(&frame[..length]);
    }
}

const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 7]);

/// A director receives the announcements of the other one, and not its own.
#[test]
fn a_listener_hears_the_other_end_and_not_its_own() {
    let veth = VethPair::new("claims");
    veth.run(0, |here| {
        block_on(async {
            let mut listener = Listener::open(here).unwrap();
            let ours = Announcer::new(here).unwrap();
            let theirs = veth.run(1, |there| Announcer::new(there).unwrap());
            for vip in [IpAddr::from(VIP), IpAddr::from(VIP6)] {
                ours.announce(vip, MAC, Part::Whole).unwrap();
                assert_eq!(first_of(&mut listener, vip, &theirs).await, OTHER);
            }
        });
    });
}

/// The kernel notes when a frame comes, however late it is read.
#[test]
fn a_claim_that_waited_says_for_how_long() {
    const WAITED: Duration = Duration::from_millis(300);
    let veth = VethPair::new("waited");
    veth.run(0, |here| {
        block_on(async {
            let mut listener = Listener::open(here).unwrap();
            let theirs = veth.run(1, |there| Announcer::new(there).unwrap());
            // The link is up.
            first_of(&mut listener, VIP.into(), &theirs).await;
            theirs.announce(VIP6.into(), OTHER, Part::Whole).unwrap();
            std::thread::sleep(WAITED);
            loop {
                let Heard { claim, age } = listener.next().await.unwrap();
                if claim.address == IpAddr::from(VIP6) {
                    return assert!((WAITED..Duration::from_secs(60)).contains(&age), "{age:?}");
                }
            }
        });
    });
}

#[test]
fn a_listener_hears_again_after_the_link_was_down() {
    let veth = VethPair::new("relink");
    veth.run(0, |here| {
        block_on(async {
            let mut listener = Listener::open(here).unwrap();
            ip(&format!("-n {} link set eth0 down", veth.names[0]));
            let quiet = timeout(Duration::from_millis(50), listener.next()).await;
            assert!(!matches!(quiet, Ok(Err(_))), "{quiet:?}");
            ip(&format!("-n {} link set eth0 up", veth.names[0]));
            let theirs = veth.run(1, |there| Announcer::new(there).unwrap());
            assert_eq!(first_of(&mut listener, VIP.into(), &theirs).await, OTHER);
        });
    });
}

/// The first claim of `vip`. The other end announces it, and repeats that in case its link is not
/// up yet.
async fn first_of(listener: &mut Listener, vip: IpAddr, theirs: &Announcer) -> Mac {
    for _ in 0..100 {
        let _ = theirs.announce(vip, OTHER, Part::Whole);
        while let Ok(claim) = timeout(Duration::from_millis(50), listener.next()).await {
            // The kernels also announce their own addresses.
            match claim.unwrap() {
                Heard { claim, .. } if claim.address == vip => return claim.mac,
                _ => {}
            }
        }
    }
    panic!("nobody is heard to claim {vip}");
}

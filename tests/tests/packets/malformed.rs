//! Arbitrary bytes and damaged packets: what the program does in the kernel is what
//! `lb_common::packet::frame` says on the host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::addr::{Address as _, V4, V6};
use lb_common::packet::frame::{self, Flow, Parsed, RelatedHeaders as _};
use lb_common::reason::{Fate, Reason};
use lb_common::service::Protocol;
use lb_model::Stray;
use lb_model::ids::GroupNumber;
use lb_tests::harness::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Both services forward whatever is well-formed, strays too; the host must not answer for the
/// VIPs.
fn director() -> Director {
    let mut web = rr([1, 2]);
    web.settings.stray = Stray::Hash;
    let mut director = Director::new([(WEB, web), (WEB_UDP, rr([1, 2]))]);
    let without_lease = GroupNumber(GROUP.0 + 1);
    director.data_path.executor.set_vips(&[VIP.into(), VIP6.into()].map(|vip| (vip, without_lease))).unwrap();
    director.data_path.leases().end(without_lease);
    director
}

/// What the host makes of the frame. Either the reason not to forward it, or the verdict of what is
/// not refused.
fn judge(bytes: &[u8]) -> Result<Verdict, Reason> {
    match frame::parse(bytes) {
        Parsed::NotOurs => Ok(Verdict::Pass),
        // There is no service of IPv6 here.
        Parsed::FlowV6(flow) => for_the_host(bytes, flow.destination),
        Parsed::Ipv6(address) => for_the_host(bytes, address),
        Parsed::Related => judge_related(bytes),
        Parsed::WhoHas(address) if is_vip(address) => Err(Reason::ArpSilenced),
        Parsed::WhoHas(_) => Ok(Verdict::Pass),
        Parsed::Malformed(reason) => Err(reason),
        Parsed::Flow(flow) if !is_for_us(&flow) => Ok(Verdict::Pass),
        Parsed::Flow(_) if bytes[..6] != MAC.octets() => Err(Reason::NotOurMac),
        Parsed::Flow(flow) => frame::check(bytes, &flow).map(|_| Verdict::Tx),
    }
}

/// No connection and no datagram here is one that a damaged packet may belong to.
fn judge_related(bytes: &[u8]) -> Result<Verdict, Reason> {
    let network = frame::link(bytes).expect("it was parsed").network();
    if let Some(head) = V6::head(bytes, network) {
        return for_the_host(bytes, head.destination);
    }
    let head = V4::head(bytes, network).expect("it was parsed");
    if head.is_later_fragment() { for_the_host(bytes, head.destination.mapped()) } else { Ok(Verdict::Pass) }
}

fn for_the_host(bytes: &[u8], address: V6) -> Result<Verdict, Reason> {
    match is_vip(address) {
        false => Ok(Verdict::Pass),
        true if bytes[..6] != MAC.octets() => Err(Reason::NotOurMac),
        true => Err(Reason::Standby),
    }
}

fn is_for_us(flow: &Flow<V4>) -> bool {
    let served = matches!(flow.protocol, Protocol::Tcp | Protocol::Udp);
    served && flow.destination.octets() == VIP.octets() && u16::from_be(flow.destination_port) == PORT
}

fn is_vip(address: V6) -> bool {
    [IpAddr::V4(VIP), IpAddr::V6(VIP6)].contains(&address.into())
}

fn check(director: &mut Director, bytes: &[u8]) -> Result<String, TestCaseError> {
    director.forget_fragments();
    let judged = judge(bytes);
    let (outcome, reasons) = director.explain(bytes);
    prop_assert_ne!(outcome.verdict, Verdict::Aborted);
    prop_assert_eq!(reasons, Vec::from_iter(judged.err()), "reasons for {:02x?}", bytes);
    let verdict = judged.unwrap_or_else(|reason| match reason.fate() {
        Fate::Drop | Fate::Hold => Verdict::Drop,
        Fate::Pass => Verdict::Pass,
        Fate::Answer => Verdict::Tx,
    });
    prop_assert_eq!(outcome.verdict, verdict, "verdict on {:02x?}", bytes);
    // Whatever it does, it changes no byte but those of the MACs.
    prop_assert_eq!(outcome.frame.len(), bytes.len());
    let unchanged = if verdict == Verdict::Tx { 12 } else { 0 };
    prop_assert_eq!(&outcome.frame[unchanged..], &bytes[unchanged..]);
    Ok(judged.map_or_else(|reason| reason.label().to_owned(), |verdict| format!("{verdict:?}")))
}

/// Runs the frames of `strategy` past a director. Returns how often each answer was given.
fn run(cases: u32, strategy: impl Strategy<Value = Vec<u8>>) -> BTreeMap<String, u32> {
    let director = std::cell::RefCell::new(director());
    let answers = std::cell::RefCell::new(BTreeMap::new());
    let result = runner(cases).run(&strategy, |bytes| {
        let answer = check(&mut director.borrow_mut(), &bytes)?;
        *answers.borrow_mut().entry(answer).or_default() += 1;
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    answers.into_inner()
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

fn valid() -> impl Strategy<Value = Packet> {
    let transport = prop_oneof![
        (any::<u8>(), 0usize..=10).prop_map(|(flags, options)| Transport::Tcp { flags, options }),
        Just(Transport::Udp),
    ];
    let tags = proptest::collection::vec(prop_oneof![Just(DOT1Q), Just(DOT1AD)], 0..=3);
    (0u32..50, transport, tags, 0usize..=10, 0usize..40, 0usize..20).prop_map(
        |(number, transport, tags, ip_options, payload, padding)| Packet {
            transport,
            tags,
            ip_options,
            payload,
            padding,
            ..Packet::udp(client(number))
        },
    )
}

/// A packet, a question for the MAC of a VIP, or a packet to the IPv6 one.
fn well_formed() -> impl Strategy<Value = Vec<u8>> {
    let for_the_host =
        prop_oneof![Just(arp_request(VIP)), Just(solicitation(VIP6)), Just(ipv6(TCP, VIP6, &[0; 20]))];
    let tags = proptest::collection::vec(Just(DOT1Q), 0..=3);
    let for_the_host = (for_the_host, tags).prop_map(|(frame, tags)| tagged(&tags, &frame));
    prop_oneof![3 => valid().prop_map(|packet| packet.bytes()), 1 => for_the_host]
}

/// A frame with some bytes of its headers changed, cut short or made longer.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((12usize..80, any::<u8>()), 0..3);
    let length = prop_oneof![3 => Just(None), 1 => (14usize..140).prop_map(Some)];
    (well_formed(), changes, length).prop_map(|(mut bytes, changes, length)| {
        bytes.resize(length.unwrap_or(bytes.len()), 0xaa);
        for (index, byte) in changes {
            if let Some(place) = bytes.get_mut(index) {
                *place = byte;
            }
        }
        bytes
    })
}

#[test]
fn arbitrary_bytes() {
    run(1000, proptest::collection::vec(any::<u8>(), 14..200));
}

#[test]
fn arbitrary_bytes_that_begin_like_ours() {
    let content = proptest::collection::vec(any::<u8>(), 0..100);
    let strategy = (content, any::<bool>(), 0usize..3).prop_map(|(content, vip, tags)| {
        let packet = Packet { tags: vec![DOT1Q; tags], ..Packet::syn(client(1)) };
        let network = 14 + 4 * tags;
        let kept = if vip { network + 24 } else { network + 1 };
        [&packet.bytes()[..kept], &content].concat()
    });
    run(2000, strategy);
}

#[test]
fn damaged_packets() {
    let answers = run(4000, damaged());
    for answer in [
        "Pass",
        "Tx",
        "bad_length",
        "bad_tcp_flags",
        "bad_ip_header",
        "truncated_ip",
        "arp_silenced",
        "standby",
    ] {
        assert!(answers.contains_key(answer), "{answer} never came up: {answers:?}");
    }
}

#[test]
fn every_length_of_a_packet() {
    let mut director = director();
    let packets = [
        Packet { payload: 20, padding: 10, ..Packet::ack(client(1)) },
        Packet { tags: vec![DOT1AD, DOT1Q], ip_options: 10, ..Packet::udp(client(1)) },
        Packet { transport: Transport::Tcp { flags: SYN, options: 10 }, ..Packet::syn(client(1)) },
    ];
    for packet in packets {
        let bytes = packet.bytes();
        for length in 14..=bytes.len() {
            check(&mut director, &bytes[..length]).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        }
    }
}

/// Each byte of the headers takes each value.
#[test]
fn every_value_of_every_header_byte() {
    let mut director = director();
    for packet in
        [Packet::ack(client(1)), Packet { ip_options: 1, tags: vec![DOT1Q], ..Packet::udp(client(1)) }]
    {
        let bytes = packet.bytes();
        for index in 0..bytes.len().min(66) {
            for value in 0..=u8::MAX {
                let mut bytes = bytes.clone();
                bytes[index] = value;
                check(&mut director, &bytes)
                    .unwrap_or_else(|error| panic!("byte {index} is {value:#x}: {error}"));
            }
        }
    }
}

//! Answers of IPv6.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::V6;
use lb_common::packet::checksum::{self, halves};
use lb_common::packet::frame::{self, Flow, Link};
use lb_common::service::Protocol;
use lb_common::service::refusal;

use super::{Refuses, TCP, reset_for};
use crate::answer::{self, FromV6, ICMP, IPV6, cut};
use crate::sys::packet::Packet;

/// What an ICMPv6 error quotes of the packet: its header and a UDP header.
const QUOTE: usize = IPV6 + 8;
/// Destination unreachable, port unreachable.
const PORT_UNREACHABLE: u16 = 0x0104;

impl Refuses for V6 {
    #[inline(always)]
    fn parse(packet: &Packet, link: &Link) -> Option<Flow<Self>> {
        frame::parse_ipv6(packet, link, Some, |_| None)
    }

    #[inline(always)]
    fn may_answer(source: Self) -> bool {
        refusal::may_answer_v6(source)
    }

    #[inline(never)]
    fn reset(context: *mut xdp_md, network: usize, transport: usize, total_length: usize) -> bool {
        try_reset(context, network, transport, total_length).is_some()
    }

    #[inline(never)]
    fn unreachable(context: *mut xdp_md, network: usize, transport: usize) -> bool {
        // Extension headers are rare enough to leave their senders without an answer.
        if transport != network + IPV6 {
            return false;
        }
        const WORDS: usize = (IPV6 + ICMP + QUOTE) / 4;
        answer::is_due() && answer::icmpv6::<WORDS>(context, network, PORT_UNREACHABLE, 0).is_some()
    }
}

#[inline(always)]
fn try_reset(context: *mut xdp_md, network: usize, transport: usize, total_length: usize) -> Option<()> {
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    let from = FromV6::of(&packet, network)?;
    let ([client_port, port], reset) = reset_for(&packet, network, transport, total_length)?;

    if !cut(context, network + IPV6 + TCP) {
        return None;
    }
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    type Whole = [u32; (IPV6 + TCP) / 4];
    let protocol = Protocol::Tcp.number();
    let whole = from.begin::<Whole>(&packet, network, protocol, TCP)?;
    let ports = u32::from_ne_bytes(pair(port, client_port));
    let (sequence, acknowledgement) = (reset.sequence.to_be(), reset.acknowledgement.to_be());
    let kind = ((0x5000 | u32::from(reset.flags)) << 16).to_be();
    let numbers = halves(ports) + halves(sequence) + halves(acknowledgement) + halves(kind);
    let sum = checksum::of(from.pseudo_header(protocol, TCP) + numbers);
    let first = IPV6 / 4;
    // SAFETY: bounds checked by `begin`; for alignment see `Packet::read`.
    unsafe {
        (*whole)[first] = ports;
        (*whole)[first + 1] = sequence;
        (*whole)[first + 2] = acknowledgement;
        (*whole)[first + 3] = kind;
        (*whole)[first + 4] = u32::from_ne_bytes(pair(sum, 0));
    }
    Some(())
}

/// Two words as they stand in a packet, one after the other.
#[inline(always)]
const fn pair(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d]
}

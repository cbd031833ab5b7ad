//! Answers of IPv4.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::V4;
use lb_common::packet::checksum;
use lb_common::packet::frame::{self, Flow, Link};
use lb_common::service::Protocol;
use lb_common::service::refusal;

use super::{Refuses, TCP, reset_for};
use crate::answer::{self, From, ICMP, IP, cut, host_halves};
use crate::sys::packet::Packet;

/// What an ICMP error quotes of the packet: its IP header and 8 bytes (RFC 792).
const QUOTE: usize = IP + 8;
/// Destination unreachable, port unreachable.
const PORT_UNREACHABLE: u16 = 0x0303;

impl Refuses for V4 {
    #[inline(always)]
    fn parse(packet: &Packet, link: &Link) -> Option<Flow<Self>> {
        frame::parse_ipv4(packet, link, Some, |_| None)
    }

    #[inline(always)]
    fn may_answer(source: Self) -> bool {
        refusal::may_answer(source)
    }

    #[inline(never)]
    fn reset(context: *mut xdp_md, network: usize, transport: usize, total_length: usize) -> bool {
        try_reset(context, network, transport, total_length).is_some()
    }

    #[inline(never)]
    fn unreachable(context: *mut xdp_md, network: usize, transport: usize) -> bool {
        // Options are rare enough to leave their senders without an answer.
        if transport != network + IP {
            return false;
        }
        answer::is_due()
            && answer::icmp::<{ (IP + ICMP + QUOTE) / 4 }>(context, network, PORT_UNREACHABLE, 0).is_some()
    }
}

#[inline(always)]
fn try_reset(context: *mut xdp_md, network: usize, transport: usize, total_length: usize) -> Option<()> {
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    let from = From::of(&packet, network)?;
    let ([client_port, port], reset) = reset_for(&packet, network, transport, total_length)?;

    if !cut(context, network + IP + TCP) {
        return None;
    }
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    type Whole = [[u32; IP / 4]; 2];
    let whole = from.begin::<Whole>(&packet, network, Protocol::Tcp.number(), TCP)?;
    let ports = u32::from(port) | u32::from(client_port) << 16;
    let kind = 0x5000 | u32::from(reset.flags);
    let pseudo =
        host_halves(from.vip.0) + host_halves(from.client.0) + u32::from(Protocol::Tcp.number()) + TCP as u32;
    let numbers = host_halves(reset.sequence.to_be()) + host_halves(reset.acknowledgement.to_be());
    let sum = checksum::of(pseudo + host_halves(ports) + numbers + kind);
    // SAFETY: bounds checked by `begin`; for alignment see `Packet::read`.
    unsafe {
        (*whole)[1] = [
            ports,
            reset.sequence.to_be(),
            reset.acknowledgement.to_be(),
            (kind << 16).to_be(),
            (u32::from(sum) << 16).to_be(),
        ];
    }
    Some(())
}

//! Packets told one by one, while somebody traces: the slow way notes here what it finds out, and
//! whoever ends a packet's way calls [`finish`].
//!
//! Where nobody traces, each of these tests one word. What is done otherwise stands in global
//! functions of numbers alone, see [`crate::schedule::lb_choose`]. Rules and layouts are
//! `lb_common::program::trace`.

use aya_ebpf::bindings::{BPF_RB_NO_WAKEUP, xdp_md};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use lb_common::addr::{Address, V4, V6};
use lb_common::packet::frame::{Flow, Frame as _, Head};
use lb_common::program::trace::{Event, NO_REASON, Outcome, Traced, Way};
use lb_common::reason::Reason;
use lb_common::service::Protocol;

use crate::family::Family;
use crate::forward::Action;
use crate::lookup::connection::{Decision, Found};
use crate::maps::{TRACE, TRACE_EVENTS, TRACED, control};
use crate::sys::clock::lb_now;
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};
use crate::{capture, stats};

/// Whether somebody traces.
#[inline(always)]
pub fn is_on() -> bool {
    TRACE.get(0).is_some_and(|settings| lb_now() < settings.until.get())
}

/// Whether somebody may trace; false is certain.
#[inline(always)]
pub fn is_asked() -> bool {
    TRACE.get(0).is_some_and(|settings| settings.until.get() != 0)
}

/// A packet comes to the slow way.
#[inline(always)]
pub fn begin<A: Family>(packet: &Packet, flow: &Flow<A>) {
    if !is_asked() {
        return;
    }
    let flags = match flow.protocol {
        Protocol::Tcp => packet.read::<u8>(flow.transport + 13).unwrap_or(0),
        Protocol::Udp => 0,
    };
    let ports = u64::from(flow.source_port) | u64::from(flow.destination_port) << 16;
    let length = length(flow.total_length);
    let rest = ports | length << 32 | u64::from(flow.protocol.number()) << 48 | u64::from(flags) << 56;
    let ([a, b], [c, d]) = (flow.source.mapped().0, flow.destination.mapped().0);
    lb_trace_begin(a, b, c, d, rest);
}

/// The packet is for a service, and an entry may know its connection.
#[inline(always)]
pub fn found<A: Family>(found: &Found<A>) {
    if found.entry().is_some() && is_asked() {
        lb_trace_known();
    }
}

/// Its server is known.
#[inline(always)]
pub fn decided(decision: &Decision) {
    if is_asked() {
        lb_trace_decided(decision.server.0.into(), decision.opens.into(), decision.without_entry.into());
    }
}

/// A server that is reached by address translation has sent it.
#[inline(always)]
pub fn answered(decision: &Decision) {
    if is_asked() {
        lb_trace_answered(decision.server.0.into());
    }
}

/// A later fragment has the server of the first one of its datagram.
#[inline(always)]
pub fn followed(decision: &Decision) {
    if is_asked() {
        lb_trace_known();
        lb_trace_decided(decision.server.0.into(), 0, 0);
    }
}

/// Ends a packet's way: [`stats::finish`], and the trace tells of it.
#[inline(always)]
pub fn finish(result: Result<Action, Reason>) -> u32 {
    if is_asked() {
        let (outcome, reason) = match result {
            Ok(Action::Redirect) => (Outcome::Redirected, NO_REASON.into()),
            Ok(Action::Pass) => (Outcome::Passed, NO_REASON.into()),
            Ok(Action::Deliver(reason)) => (Outcome::Delivered, reason as u32),
            Ok(_) => (Outcome::Forwarded, NO_REASON.into()),
            Err(reason) => (Outcome::Refused, reason as u32),
        };
        lb_trace_end(outcome as u32, reason);
    }
    stats::finish(result)
}

/// At most 65535 of a length that is below 2^17. In a branch the verifier would learn about the
/// length, and then follow the rest of the way once for each thing that it knows.
#[inline(always)]
const fn length(total: usize) -> u64 {
    let beyond = (total as u64 >> 16 & 1).wrapping_neg();
    (total as u64 | beyond) & 0xffff
}

/// As [`begin`], of a packet that belongs to another one and has no ports of its own.
#[inline(always)]
pub fn begin_related<A: Address>(head: &Head<A>) {
    if is_asked() {
        let length = length(head.total_length);
        let ([a, b], [c, d]) = (head.source.mapped().0, head.destination.mapped().0);
        lb_trace_begin(a, b, c, d, length << 32 | u64::from(head.protocol) << 48);
    }
}

/// As [`begin`], of a packet to this address that is no flow.
#[inline(never)]
pub fn begin_to(address: &V6) {
    if is_asked() {
        lb_trace_begin(0, 0, address.0[0], address.0[1], 0);
    }
}

/// Begins and ends the way of an IPv4 packet that cannot be read as far as the ports. Returns the
/// XDP action.
#[inline(never)]
pub fn malformed(context: *mut xdp_md, network: usize, reason: Reason) -> u32 {
    if is_asked() {
        let context = packet::context(context);
        let packet = Packet::new(&context);
        let network = opaque(network) & 31;
        let protocol = packet.read::<u8>(network + 9).unwrap_or(0);
        let addresses = packet.read::<[V4; 2]>(network + 12);
        let [client, destination] =
            addresses.map_or([V6::UNSPECIFIED; 2], |[client, vip]| [client.mapped(), vip.mapped()]);
        let ([a, b], [c, d]) = (client.0, destination.0);
        lb_trace_begin(a, b, c, d, u64::from(protocol) << 48);
    }
    finish(Err(reason))
}

/// `rest`: the ports as they stand in the packet, the IP packet's length, its protocol and the TCP
/// flags, from the lowest bit on.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_trace_begin(client_high: u64, client_low: u64, high: u64, low: u64, rest: u64) -> u32 {
    let Some(traced) = traced() else { return 0 };
    traced.event = Event {
        // SAFETY: the helper takes no arguments and reads a clock.
        time_ns: if is_on() { unsafe { bpf_ktime_get_ns() } } else { 0 },
        client: V6([client_high, client_low]),
        destination: V6([high, low]),
        client_port: rest as u16,
        port: (rest >> 16) as u16,
        server: 0,
        length: (rest >> 32) as u16,
        protocol: (rest >> 48) as u8,
        tcp_flags: (rest >> 56) as u8,
        way: 0,
        outcome: 0,
        reason: NO_REASON,
        reserved: [0; 3],
    };
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_trace_known() -> u32 {
    let Some(traced) = traced() else { return 0 };
    traced.event.way = Way::Known as u8;
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_trace_answered(server: u32) -> u32 {
    let Some(traced) = traced() else { return 0 };
    traced.event.server = server as u16;
    traced.event.way = Way::Answer as u8;
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_trace_decided(server: u32, opens: u32, without_entry: u32) -> u32 {
    let Some(traced) = traced() else { return 0 };
    let known = traced.event.way == Way::Known as u8;
    traced.event.server = server as u16;
    traced.event.way = Way::of(known, opens != 0, without_entry != 0) as u8;
    0
}

/// Tells of the packet, if it is asked for and there is room.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_trace_end(outcome: u32, reason: u32) -> u32 {
    let (Some(traced), Some(settings)) = (traced(), TRACE.get(0)) else { return 0 };
    let event = &mut traced.event;
    if event.time_ns == 0 {
        return 0;
    }
    event.outcome = outcome as u8;
    event.reason = reason as u8;
    if event.concerns_us(&control().vips) && settings.matches(event) {
        let sample = settings.sample.get();
        if sample < 2 || traced.matched % u64::from(sample) == 0 {
            // Nobody is woken: the controller looks by itself, and that costs no packet anything.
            let told = match capture::tell(event) {
                Some(told) => told,
                None => TRACE_EVENTS.output(&*event, u64::from(BPF_RB_NO_WAKEUP)).is_ok(),
            };
            traced.lost += u64::from(!told);
        }
        traced.matched += 1;
    }
    traced.event.time_ns = 0;
    0
}

/// There was no room for a frame.
#[inline(always)]
pub fn lost() {
    if let Some(traced) = traced() {
        traced.lost += 1;
    }
}

#[inline(always)]
fn traced() -> Option<&'static mut Traced> {
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    TRACED.get_ptr_mut(0).map(|traced| unsafe { &mut *traced })
}

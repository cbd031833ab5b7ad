//! What comes by IPv6 to a director that has no service of it: the host's, or an answer to a probe.
//!
//! A program of its own, in the place of [`super::slow`] and of what comes before that
//! (`Stage::has_stand_in`): it says what they would say, and the verifier has little to look at.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::V6;
use lb_common::packet::frame::{self, Flow, Parsed, RelatedHeaders as _};

use super::slow::{the_hosts, with_offsets_forgotten};
use crate::guard::neighbour;
use crate::maps::control;
use crate::sys::packet::Packet;
use crate::trace;

/// Returns the XDP action.
#[inline(always)]
pub fn take_ipv6(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    let Some(link) = frame::link(&packet) else { return xdp_action::XDP_PASS };
    let found = |flow| flow_to_host(context, flow);
    frame::parse_ipv6(&packet, &link, found, |other| match other {
        Parsed::WhoHas(address) => neighbour::who_has(&address),
        Parsed::Related => match V6::head(&packet, link.network()) {
            Some(head) => trace::finish(neighbour::host(&packet, &head.destination)),
            None => xdp_action::XDP_PASS,
        },
        Parsed::Ipv6(address) => to_host(&packet, &address),
        _ => xdp_action::XDP_PASS,
    })
}

#[inline(always)]
fn flow_to_host(context: &XdpContext, flow: Flow<V6>) -> u32 {
    let packet = Packet::new(context);
    let flow = with_offsets_forgotten(flow);
    let control = control();
    trace::begin(&packet, &flow);
    trace::finish(the_hosts(&packet, control, &flow))
}

/// What becomes of a packet to this address that is no flow.
#[inline(always)]
pub(super) fn to_host(packet: &Packet, address: &V6) -> u32 {
    trace::begin_to(address);
    trace::finish(neighbour::host(packet, address))
}

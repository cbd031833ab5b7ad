//! What every step on the slow way knows of the packet.

use lb_common::control::Control;
use lb_common::packet::frame::Flow;

use crate::sys::packet::Packet;

/// A packet to an address that may be a VIP. `A`: the family of its addresses.
pub struct Context<'a, A> {
    pub packet: Packet<'a>,
    pub control: &'static Control,
    pub flow: Flow<A>,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub now_ns: u64,
}

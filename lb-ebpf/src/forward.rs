//! Direct routing: the destination MAC becomes the server's, the source MAC ours; nothing else changes.

use aya_ebpf::bindings::xdp_action;
use lb_common::control::{Control, MAC_MASK};
use lb_common::frame::Flow;
use lb_common::reason::Reason;

use crate::connection::Target;
use crate::count;
use crate::packet::Packet;

/// Both MACs of a frame, as the program reads and writes them: 12 bytes in two words.
#[repr(C, packed)]
struct Macs {
    destination_and_source: u64,
    rest_of_source: u32,
}

/// The frame's destination MAC as a number (see `lb_common::control::mac_to_word`).
#[inline(always)]
pub fn destination(packet: &Packet) -> Option<u64> {
    // SAFETY: `at` has checked the bounds; the struct is packed, so any alignment will do.
    packet.at::<Macs>(0).map(|macs| u64::from_le(unsafe { (*macs).destination_and_source }) & MAC_MASK)
}

/// Sends the packet to `target`, or says why not.
#[inline(always)]
pub fn direct(packet: &Packet, control: &Control, flow: &Flow, target: Target) -> Result<u32, Reason> {
    if !target.forward.is_reachable() {
        return Err(if target.forward.is_present() { Reason::NoMac } else { Reason::Hole });
    }
    count::forwarded(target.server, flow.network + flow.total_length);
    if target.forward.is_local() {
        return Err(Reason::LocalFallback);
    }
    let Some(macs) = packet.at::<Macs>(0) else { return Err(Reason::BadLength) };
    // SAFETY: `at` has checked the bounds; the struct is packed, so any alignment will do.
    unsafe {
        let source = u64::from_le((*macs).destination_and_source) >> 48
            | u64::from(u32::from_le((*macs).rest_of_source)) << 16;
        if source == target.forward.mac() {
            return Err(Reason::Loop);
        }
        (*macs).destination_and_source = (target.forward.mac() | control.mac << 48).to_le();
        (*macs).rest_of_source = ((control.mac >> 16) as u32).to_le();
    }
    Ok(xdp_action::XDP_TX)
}

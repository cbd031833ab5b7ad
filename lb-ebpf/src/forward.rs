//! Direct routing: the destination MAC becomes the server's, the source MAC ours; nothing else changes.

use aya_ebpf::bindings::xdp_action;
use lb_common::control::{Control, MAC_MASK};
use lb_common::frame::{Flow, Frame as _};
use lb_common::lease::Slot;
use lb_common::reason::{Reason, TableEvent};

use crate::connection::Target;
use crate::packet::Packet;
use crate::{count, lease};

/// Both MACs of a frame in two words: the destination and the first two bytes of the source, the rest of the source.
/// Where the frame is shorter, `None`.
#[inline(always)]
fn macs(packet: &Packet) -> Option<(*mut u64, *mut u32)> {
    Some((packet.at::<u64>(0)?, packet.at::<u32>(8)?))
}

/// The frame's destination MAC as a number (see `lb_common::control::mac_to_word`).
#[inline(always)]
pub fn destination(packet: &Packet) -> Option<u64> {
    packet.read::<u64>(0).map(|word| u64::from_le(word) & MAC_MASK)
}

/// Sends the packet to `target`, or says why not.
#[inline(always)]
pub fn direct(packet: &Packet, control: &Control, flow: &Flow, target: Target) -> Result<u32, Reason> {
    if !target.forward.is_reachable() {
        return Err(if target.forward.is_present() { Reason::NoMac } else { Reason::Hole });
    }
    count::forwarded(target.server, flow.network + flow.total_length, target.opens);
    if target.forward.is_local() {
        return Err(Reason::LocalFallback);
    }
    if rewrite(packet, control, target.forward.mac())? { Ok(xdp_action::XDP_TX) } else { Err(Reason::Loop) }
}

/// Sends a packet to the other director of a hand-over. `false`: there is none, or the packet came from there.
#[inline(always)]
pub fn relay(packet: &Packet, control: &Control, slot: Slot, now_ns: u64) -> Result<bool, Reason> {
    let Some(director) = lease::read(control, slot).relay(now_ns) else { return Ok(false) };
    let sent = rewrite(packet, control, director)?;
    if sent {
        count::table(TableEvent::Relayed);
    }
    Ok(sent)
}

/// Writes the MACs, unless the packet came from the very station it would go to: `false`.
#[inline(always)]
pub fn rewrite(packet: &Packet, control: &Control, to: u64) -> Result<bool, Reason> {
    let Some((low, high)) = macs(packet) else { return Err(Reason::BadLength) };
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    unsafe {
        let source = u64::from_le(*low) >> 48 | u64::from(u32::from_le(*high)) << 16;
        if source == to {
            return Ok(false);
        }
        *low = (to | control.mac << 48).to_le();
        *high = ((control.mac >> 16) as u32).to_le();
    }
    Ok(true)
}

//! Direct routing: the destination MAC becomes the server's, the source MAC ours; nothing else changes.

use aya_ebpf::bindings::xdp_action;
use lb_common::connection::Entry;
use lb_common::control::{Control, MAC_MASK};
use lb_common::frame::{Flow, Frame as _};
use lb_common::lease::{Decides, Slot};
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

/// Sends a packet in mid-connection, of which the table has `known`, to the other director of a hand-over, if there is one
/// and it decides where the packet goes.
#[inline(always)]
pub fn relay(
    packet: &Packet,
    control: &Control,
    flow: &Flow,
    slot: Slot,
    known: Option<Entry>,
    now_ns: u64,
) -> Result<Decides, Reason> {
    let lease = lease::read(control, slot);
    let Some(director) = lease.relay(now_ns) else { return Ok(Decides::This) };
    let decides = lease.decides(known, source(packet)? == director, now_ns);
    match decides {
        Decides::This => return Ok(decides),
        Decides::Other => {}
        Decides::Sender => take_hop(packet, flow)?,
    }
    write(packet, control, director)?;
    count::table(TableEvent::Relayed);
    Ok(decides)
}

/// Takes one from the time to live and mends the header's checksum (RFC 1141).
#[inline(always)]
fn take_hop(packet: &Packet, flow: &Flow) -> Result<(), Reason> {
    if flow.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let word = |at| packet.at::<u16>(flow.network + at).ok_or(Reason::BadLength);
    let (ttl_and_protocol, checksum) = (word(8)?, word(10)?);
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    unsafe {
        *ttl_and_protocol = u16::from_be(*ttl_and_protocol).wrapping_sub(0x100).to_be();
        let sum = u32::from(u16::from_be(*checksum)) + 0x100;
        *checksum = ((sum + (sum >> 16)) as u16).to_be();
    }
    Ok(())
}

/// The frame's source MAC, as [`destination`].
#[inline(always)]
fn source(packet: &Packet) -> Result<u64, Reason> {
    let Some((low, high)) = macs(packet) else { return Err(Reason::BadLength) };
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    Ok(unsafe { u64::from_le(*low) >> 48 | u64::from(u32::from_le(*high)) << 16 })
}

/// Writes the MACs, unless the packet came from the very station it would go to: `false`.
#[inline(always)]
pub fn rewrite(packet: &Packet, control: &Control, to: u64) -> Result<bool, Reason> {
    if source(packet)? == to {
        return Ok(false);
    }
    write(packet, control, to).map(|()| true)
}

#[inline(always)]
fn write(packet: &Packet, control: &Control, to: u64) -> Result<(), Reason> {
    let Some((low, high)) = macs(packet) else { return Err(Reason::BadLength) };
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    unsafe {
        *low = (to | control.mac << 48).to_le();
        *high = ((control.mac >> 16) as u32).to_le();
    }
    Ok(())
}

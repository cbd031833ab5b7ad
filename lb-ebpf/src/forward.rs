//! Direct routing: the destination MAC becomes the server's, the source MAC ours; nothing else changes, unless the packet
//! goes back to where it came from.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use lb_common::control::{Control, MAC_MASK};
use lb_common::frame::{Flow, Frame as _};
use lb_common::hairpin;
use lb_common::lease::{self, Decides};
use lb_common::reason::{Reason, TableEvent};

use crate::connection::{Owner, Target};
use crate::maps::{CAME_BACK, CONTROL};
use crate::packet::Packet;
use crate::{count, header, peer};

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
        return Err(if target.forward.mac() == 0 { Reason::LocalFallback } else { Reason::LocalServer });
    }
    match rewrite(packet, control, target.forward.mac())? {
        true => Ok(xdp_action::XDP_TX),
        false => Ok(back(packet.context(), flow.network, target.forward.mac())),
    }
}

/// Sends a packet back to `server`, which it came from, unless it has been there before. Returns the XDP action.
#[inline(never)]
fn back(context: *mut xdp_md, network: usize, server: u64) -> u32 {
    let context = &XdpContext::new(context);
    let packet = &Packet::new(context);
    let Some(control) = CONTROL.get(0) else { return xdp_action::XDP_DROP };
    // The MACs first: a check of bounds further on makes the compiler drop the one here, which the verifier wants.
    let Some(macs) = macs(packet) else { return count::refuse(Reason::BadLength) };
    let Some(word) = header::word(packet, network, header::TTL) else {
        return count::refuse(Reason::BadLength);
    };
    let Some(left) = hairpin::time_to_live((word >> 8) as u8) else {
        if let Some(last) = CAME_BACK.get_ptr_mut(0) {
            // SAFETY: a map's value, aligned; whichever CPU writes last, it is such a server.
            unsafe { last.write_volatile(server) };
        }
        return count::refuse(Reason::Loop);
    };
    header::set_word(packet, network, header::TTL, u16::from(left) << 8 | word & 0xff);
    write_at(macs, control, server);
    xdp_action::XDP_TX
}

/// Sends a packet in mid-connection to the other director of a take-over, if there is one and it
/// decides where the packet goes. With a lease that is `over` that is whoever has relayed it. It
/// bears a mark then if a director is one of the servers, see `lb_common::peer`.
#[inline(always)]
pub fn relay(
    packet: &Packet,
    control: &Control,
    flow: &Flow,
    owner: &Owner,
    over: bool,
    now_ns: u64,
) -> Result<Decides, Reason> {
    let lease = crate::lease::read(control, owner.lease());
    let sender = source(packet)?;
    let director = match over {
        true => sender,
        false => match lease.relay(now_ns) {
            Some(director) => director,
            None => return Ok(Decides::This),
        },
    };
    let decides = lease.decides(owner.entry(), sender == director, now_ns);
    match decides {
        Decides::This => return Ok(decides),
        Decides::Other => {}
        Decides::Sender => take_hops(packet, flow)?,
    }
    write(packet, control, director)?;
    if owner.is_served_by_a_director() {
        peer::mark(packet, flow.network, true);
    }
    count::table(TableEvent::Relayed);
    Ok(decides)
}

/// Takes from the time to live what `lb_common::lease::returned` wants.
#[inline(always)]
fn take_hops(packet: &Packet, flow: &Flow) -> Result<(), Reason> {
    let left = lease::returned(flow.ttl).ok_or(Reason::TtlExpired)?;
    let word = header::word(packet, flow.network, header::TTL).ok_or(Reason::BadLength)?;
    header::set_word(packet, flow.network, header::TTL, u16::from(left) << 8 | word & 0xff);
    Ok(())
}

/// The frame's source MAC, as [`destination`].
#[inline(always)]
pub fn source(packet: &Packet) -> Result<u64, Reason> {
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
pub fn write(packet: &Packet, control: &Control, to: u64) -> Result<(), Reason> {
    let Some(macs) = macs(packet) else { return Err(Reason::BadLength) };
    write_at(macs, control, to);
    Ok(())
}

#[inline(always)]
fn write_at((low, high): (*mut u64, *mut u32), control: &Control, to: u64) {
    // SAFETY: bounds checked by `macs`; for alignment see `Packet::read`.
    unsafe {
        *low = (to | control.mac << 48).to_le();
        *high = ((control.mac >> 16) as u32).to_le();
    }
}

//! Direct routing: the destination MAC becomes the server's, the source MAC ours; nothing else
//! changes, unless the packet goes back to where it came from.

use aya_ebpf::bindings::xdp_md;
use lb_common::control::Control;
use lb_common::forward::hairpin;
use lb_common::mac::Mac;
use lb_common::packet::frame::Frame as _;
use lb_common::reason::Reason;

use super::Action;
use crate::context::Context;
use crate::family::Family;
use crate::maps::{CAME_BACK, control};
use crate::sys::packet::{self, Packet};

/// Both MACs of a frame in two words: the destination and the first two bytes of the source, the
/// rest of the source. Where the frame is shorter, `None`.
#[inline(always)]
fn macs(packet: &Packet) -> Option<(*mut u64, *mut u32)> {
    Some((packet.at::<u64>(0)?, packet.at::<u32>(8)?))
}

#[inline(always)]
pub fn destination_mac(packet: &Packet) -> Option<Mac> {
    packet.read::<u64>(0).map(|word| Mac::from_word(u64::from_le(word)))
}

#[inline(always)]
pub fn source_mac(packet: &Packet) -> Result<Mac, Reason> {
    let Some((low, high)) = macs(packet) else { return Err(Reason::BadLength) };
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    let (low, high) = unsafe { (u64::from_le(*low), u32::from_le(*high)) };
    Ok(Mac::from_word(low >> 48 | u64::from(high) << 16))
}

/// Sends a packet to the server with this MAC.
#[inline(always)]
pub fn send<A: Family>(context: &Context<A>, server: Mac) -> Result<Action, Reason> {
    let Context { packet, control, flow, .. } = context;
    if rewrite(packet, control, server)? {
        return Ok(Action::Transmit);
    }
    send_back::<A>(packet.context().ctx, flow.network, server).map(|()| Action::Transmit)
}

/// Makes a packet one that goes back to `server`, which it came from, or says why not.
#[inline(always)]
pub fn send_back<A: Family>(context: *mut xdp_md, network: usize, server: Mac) -> Result<(), Reason> {
    match back::<A>(context, network, server) {
        BACK => Ok(()),
        LOOP => Err(Reason::Loop),
        _ => Err(Reason::BadLength),
    }
}

const BACK: u32 = 0;
const LOOP: u32 = 1;
const TOO_SHORT: u32 = 2;

/// Makes a packet one that goes back to `server`, which it came from, unless it has been there
/// before. Returns one of the three numbers above.
#[inline(never)]
fn back<A: Family>(context: *mut xdp_md, network: usize, server: Mac) -> u32 {
    let context = &packet::context(context);
    let packet = &Packet::new(context);
    // The MACs first: a check of bounds further on makes the compiler drop the one here, which the
    // verifier wants.
    let Some(macs) = macs(packet) else { return TOO_SHORT };
    let Some(hops) = A::hops(packet, network) else { return TOO_SHORT };
    let Some(left) = hairpin::time_to_live(hops) else {
        if let Some(last) = CAME_BACK.get_ptr_mut(0) {
            // SAFETY: a map's value, aligned; whichever CPU writes last, it is such a server.
            unsafe { last.write_volatile(server) };
        }
        return LOOP;
    };
    A::set_hops(packet, network, left);
    write_at(macs, control().mac.get(), server);
    BACK
}

/// Writes the MACs, unless the packet came from the very station it would go to: `false`.
#[inline(always)]
pub fn rewrite(packet: &Packet, control: &Control, to: Mac) -> Result<bool, Reason> {
    if source_mac(packet)? == to {
        return Ok(false);
    }
    write(packet, control, to).map(|()| true)
}

/// [`rewrite`] for the fast way, which leaves alone what has come from a MAC that is perhaps `to`.
#[inline(always)]
pub fn rewrite_plain(packet: &Packet, control: &Control, to: Mac) -> bool {
    let Some(macs) = macs(packet) else { return false };
    // The last four bytes alone, which take half as many instructions.
    // SAFETY: bounds checked by `macs`; for alignment see `Packet::read`.
    if unsafe { u32::from_le(*macs.1) } == (to.word() >> 16) as u32 {
        return false;
    }
    write_at(macs, control.mac.get(), to);
    true
}

#[inline(always)]
pub fn write(packet: &Packet, control: &Control, to: Mac) -> Result<(), Reason> {
    write_from(packet, control.mac.get(), to)
}

/// The same from another interface's MAC.
#[inline(always)]
pub fn write_from(packet: &Packet, own: Mac, to: Mac) -> Result<(), Reason> {
    let Some(macs) = macs(packet) else { return Err(Reason::BadLength) };
    write_at(macs, own, to);
    Ok(())
}

/// Has a frame come from `own`.
#[inline(always)]
pub fn set_source(packet: &Packet, own: Mac) -> Result<(), Reason> {
    let Some(to) = destination_mac(packet) else { return Err(Reason::BadLength) };
    write_from(packet, own, to)
}

/// Has a frame go to `to`.
#[inline(always)]
pub fn set_destination(packet: &Packet, to: Mac) -> Result<(), Reason> {
    write_from(packet, source_mac(packet)?, to)
}

#[inline(always)]
pub(super) fn write_at((low, high): (*mut u64, *mut u32), own: Mac, to: Mac) {
    let own = own.word();
    // SAFETY: bounds checked by `macs`; for alignment see `Packet::read`.
    unsafe {
        *low = (to.word() | own << 48).to_le();
        *high = ((own >> 16) as u32).to_le();
    }
}

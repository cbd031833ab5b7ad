//! Packets that do not leave as they have come: by another interface, or with other VLAN tags. The
//! rules are `lb_common::forward::egress`.
//!
//! A program of its own, so that packets of direct routing know nothing of it. One that goes into a
//! tunnel comes here afterwards, and so does one that is rewritten for its server.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{V4, V6};
use lb_common::forward::egress::{self, Egress, TPID};
use lb_common::forward::tunnel::LEAST_MTU_V6;
use lb_common::mac::Mac;
use lb_common::packet::frame::{self, Tags};
use lb_common::packet::vlan::Vlan;
use lb_common::reason::Reason;
use lb_common::server::{Forwarding, ServerId};

use super::parcel::{self, Parcel};
use super::{Action, direct};
use crate::maps::{self, DEVICES, EGRESSES, INGRESSES, ROUTES, control};
use crate::path::hold;
use crate::sys::packet::Packet;
use crate::{stats, trace};

/// What stands before the tags.
const MACS: usize = 12;
/// The same and the EtherType behind the tags.
const ETHERNET: usize = 14;

/// Sends the packet that [`parcel::leave`] has told of. Returns the XDP action.
#[inline(always)]
pub fn take(context: &XdpContext) -> u32 {
    trace::finish(send(context))
}

#[inline(always)]
fn send(context: &XdpContext) -> Result<Action, Reason> {
    let Some(parcel) = parcel::left() else { return Err(Reason::MapInconsistency) };
    let Some(egress) = EGRESSES.get(u32::from(parcel.server)) else { return Err(Reason::MapInconsistency) };
    let packet = Packet::new(context);
    let Some(tags) = frame::tags(&packet) else { return Err(Reason::BadLength) };
    if parcel.is_back != 0 {
        return send_back(context, tags, parcel, egress);
    }
    if !egress.admits(tags.vlan) {
        return Err(Reason::ForeignVlan);
    }
    if parcel.next_hop.forwarding() != Forwarding::Tunnel {
        check_direct(context, parcel, egress)?;
    }
    let action = match egress.device {
        0 => Action::Transmit,
        // Nothing happens before this program returns.
        device => match DEVICES.redirect(device, xdp_action::XDP_DROP.into()) {
            Ok(_) => {
                hold::tell_exit(context, device);
                Action::Leave
            }
            Err(_) => return Err(Reason::NoInterface),
        },
    };
    if !egress.to.is_as_it_came() {
        exchange_tags(context.ctx, tags, egress.to, egress.tpid)?;
    }
    let own = if egress.device == 0 { control().mac.get() } else { egress.mac };
    write_macs(context.ctx, own, parcel.next_hop.mac())?;
    let bytes = usize::from(parcel.network) + parcel.length as usize;
    stats::forwarded(ServerId(parcel.server), bytes, parcel.opens != 0);
    Ok(action)
}

/// Sends what a server has sent, and what is rewritten, to its client: in the VLAN that clients are
/// in, or by another interface, where they have no tags.
#[inline(always)]
fn send_back(context: &XdpContext, tags: Tags, parcel: &Parcel, egress: &Egress) -> Result<Action, Reason> {
    let (to, device, own) = match parcel.route {
        0 => (egress.from, 0, control().mac.get()),
        route => {
            // Of a server without a VLAN of its own nobody has said that it leaves that it is in.
            if tags.vlan != Vlan::UNTAGGED && !has_egress(parcel.server.into()) {
                return Err(Reason::ForeignVlan);
            }
            let (device, own) = device_of(route)?;
            (Vlan::UNTAGGED, device, own)
        }
    };
    if tags.vlan != to && !to.is_as_it_came() {
        exchange_tags(context.ctx, tags, to, egress::tpid(to).into())?;
    }
    write_macs(context.ctx, own, parcel.next_hop.mac())?;
    if device == 0 {
        return Ok(Action::Transmit);
    }
    match DEVICES.redirect(device, xdp_action::XDP_DROP.into()) {
        Ok(_) => {
            hold::tell_exit(context, device);
            Ok(Action::Leave)
        }
        Err(_) => Err(Reason::NoInterface),
    }
}

/// The interface that a route leads by, and its MAC.
#[inline(always)]
fn device_of(route: u32) -> Result<(u32, Mac), Reason> {
    let Some(route) = ROUTES.get(route.wrapping_sub(1)) else { return Err(Reason::NoInterface) };
    // SAFETY: the entry of an interface that packets come in by is not removed meanwhile.
    let Some(ingress) = (unsafe { INGRESSES.get(route.device) }) else { return Err(Reason::NoInterface) };
    Ok((route.device, ingress.mac))
}

#[inline(always)]
fn has_egress(server: u32) -> bool {
    maps::server(ServerId(server as u16)).next_hop.get().has_egress()
}

/// The VLAN that the clients of this server are in, as far as the configuration says.
#[inline(always)]
pub fn vlan_of_clients(server: u32) -> Vlan {
    let has_egress = has_egress(server);
    match EGRESSES.get(server).filter(|egress| has_egress && !egress.from.is_as_it_came()) {
        Some(egress) => egress.from,
        None => Vlan::UNTAGGED,
    }
}

/// Whether the packet does not fit where it leaves by another interface. What is rewritten is asked
/// before: who has sent it is told of it as it came.
#[inline(always)]
pub fn is_too_long(parcel: &Parcel) -> bool {
    parcel.next_hop.has_egress()
        && EGRESSES.get(u32::from(parcel.server)).is_some_and(|egress| exceeds(parcel, egress))
}

#[inline(always)]
const fn exceeds(parcel: &Parcel, egress: &Egress) -> bool {
    egress.mtu != 0 && parcel.length > egress.mtu
}

/// What a tunnel looks at before, or need not: whether the packet fits, and whether it goes back to
/// where it came from.
#[inline(always)]
fn check_direct(context: &XdpContext, parcel: &Parcel, egress: &Egress) -> Result<(), Reason> {
    if exceeds(parcel, egress) {
        let least = if parcel.is_ipv4 != 0 { 0 } else { LEAST_MTU_V6 };
        let told = if egress.mtu > least { egress.mtu } else { least };
        return Err(parcel::too_big(context.ctx, parcel, told));
    }
    let to = parcel.next_hop.mac();
    if egress.device == 0 && direct::source_mac(&Packet::new(context))? == to {
        let network = usize::from(parcel.network) & parcel::NETWORK_MASK;
        return match parcel.is_ipv4 != 0 {
            true => direct::send_back::<V4>(context.ctx, network, to),
            false => direct::send_back::<V6>(context.ctx, network, to),
        };
    }
    Ok(())
}

/// Gives the frame the tags of this VLAN in place of those that it has, with this TPID of the only
/// or outer one. What its MACs are is undefined then.
#[inline(always)]
fn exchange_tags(context: *mut xdp_md, tags: Tags, to: Vlan, tpid: u32) -> Result<(), Reason> {
    const LENGTH: usize = 4;
    let wanted = to.tags();
    let room = (tags.network - ETHERNET) as i32 - (wanted * LENGTH) as i32;
    // SAFETY: the context is the one that the kernel handed to this program.
    if room != 0 && unsafe { bpf_xdp_adjust_head(context, room) } != 0 {
        return Err(Reason::TooBigSilently);
    }
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    let tag = |tpid: u32, number: u16| (tpid << 16 | u32::from(tags.priority | number)).to_be();
    let (outer, inner) = (to.outer(), to.inner());
    match wanted {
        0 => {}
        1 => {
            let Some(place) = packet.at::<[u32; 1]>(MACS) else { return Err(Reason::BadLength) };
            // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
            unsafe { *place = [tag(tpid, inner)] };
        }
        _ => {
            let Some(place) = packet.at::<[u32; 2]>(MACS) else { return Err(Reason::BadLength) };
            // SAFETY: as above.
            unsafe { *place = [tag(tpid, outer), tag(TPID.into(), inner)] };
        }
    }
    Ok(())
}

#[inline(always)]
fn write_macs(context: *mut xdp_md, own: Mac, to: Mac) -> Result<(), Reason> {
    direct::write_from(&Packet::new(&XdpContext::new(context)), own, to)
}

//! Plain frames of known connections: their headers stand where they always stand.

use aya_ebpf::programs::XdpContext;
use lb_common::addr::V6;
use lb_common::control::Control;
use lb_common::forward::nat::{Delta, Hop};
use lb_common::mac::Mac;
use lb_common::packet::frame::Flow;
use lb_common::packet::partial_checksum::pseudo_sum;
use lb_common::server::ServerId;
use lb_common::service::Protocol;

use super::{End, New};
use crate::family::Family;
use crate::forward::direct;
use crate::forward::parcel::PLAIN_NETWORK as NETWORK;
use crate::maps::{ROUTES, STATIONS, TRANSLATIONS};
use crate::sys::packet::Packet;

/// Routes that are looked at here; with more of them [`super::way_to`] knows the way.
const FIRST_ROUTES: u32 = 4;

/// Sends a plain packet of a known connection to its server. Returns the packet's length from its
/// IP header on; 0: nothing was done.
#[inline(always)]
pub fn send_plain<A: Family>(context: &XdpContext, server: ServerId, macs: [Mac; 2]) -> usize {
    let Some(translation) =
        TRANSLATIONS.get(u32::from(server.0)).filter(|found| found.is_set() && found.pool == 0)
    else {
        return 0;
    };
    // Not before the lookup, or all of it would be stored meanwhile.
    let packet = &Packet::new(context);
    let Some(flow) = &A::of_plain(packet) else { return 0 };
    if translation.is_near(flow.source.mapped()) {
        return 0;
    }
    let port = translation.port_of(flow.destination_port);
    let new = New { address: A::of_this(&translation.address), port };
    match readdress(packet, flow, End::Destination, &new, macs) {
        Some(()) => flow.total_length,
        None => 0,
    }
}

/// Rewrites one end of a plain packet, takes a hop from it, and writes the MACs, its own and the
/// next hop's. `None`: nothing was done.
#[inline(always)]
pub fn readdress<A: Family>(
    packet: &Packet,
    flow: &Flow<A>,
    end: End,
    new: &New<A>,
    macs: [Mac; 2],
) -> Option<()> {
    if flow.ttl < 2 {
        return None;
    }
    match flow.protocol {
        Protocol::Tcp => readdress_at::<A, 16>(packet, flow, end, new, macs),
        Protocol::Udp => readdress_at::<A, 6>(packet, flow, end, new, macs),
    }
}

/// `CHECKSUM`: where the protocol has it.
#[inline(always)]
fn readdress_at<A: Family, const CHECKSUM: usize>(
    packet: &Packet,
    flow: &Flow<A>,
    end: End,
    new: &New<A>,
    [own, to]: [Mac; 2],
) -> Option<()> {
    let transport = NETWORK + A::LENGTH;
    // The farthest first: the others stand before it.
    let checksum = packet.at::<u16>(transport + CHECKSUM)?;
    let port = packet.at::<u16>(transport + end.port())?;
    let address = packet.at::<A>(NETWORK + end.address::<A>())?;
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    let (sum, old, old_port) = unsafe { (*checksum, *address, *port) };
    let length = flow.total_length - A::LENGTH;
    let pseudo =
        pseudo_sum(flow.source.sum() + flow.destination.sum(), flow.protocol.number(), length as u16);
    if sum == pseudo {
        // It may have been left to hardware.
        return None;
    }
    direct::write_from(packet, own, to).ok()?;
    let addresses = Delta::of_address(old, new.address);
    let hop = A::take_hop(packet, NETWORK)?;
    if let Some(at) = A::IP_CHECKSUM {
        let word = packet.at::<u16>(NETWORK + at)?;
        // SAFETY: as above.
        unsafe { *word = addresses.and(hop).mend(*word) };
    }
    let delta = addresses.and(Delta::of_word(old_port, new.port));
    // SAFETY: as above.
    unsafe {
        *address = new.address;
        *port = new.port;
        *checksum = delta.mend_transport(flow.protocol, sum);
    }
    Some(())
}

/// The MAC of the next hop to a client, where it is soon found.
#[inline(always)]
pub fn plain_way_to(control: &Control, client: V6) -> Option<Mac> {
    let routes = control.routes.get();
    let mut index = 0;
    while index < FIRST_ROUTES {
        if index >= routes.count() {
            break;
        }
        let route = ROUTES.get(routes.first().wrapping_add(index))?;
        if route.leads_to(client) {
            if !route.is_plain() {
                return None;
            }
            let hop = route.hop;
            if hop == Hop::ON_LINK {
                // SAFETY: a map's value, aligned, whose only word is read whole.
                return STATIONS.get_ptr_mut(&client).map(|known| unsafe { known.read_volatile() });
            }
            return hop.mac();
        }
        index += 1;
    }
    None
}

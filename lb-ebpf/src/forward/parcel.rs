//! A packet that another program sends to its server: what that program is told of it.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Address, V4, V6};
use lb_common::forward::tunnel;
use lb_common::packet::frame::{Flow, Frame as _};
use lb_common::reason::Reason;
use lb_common::server::{NextHop, ServerId};
use lb_common::service::refusal;

use super::nat::Way;
use crate::answer;
use crate::maps::PARCELS;
use crate::sys::opaque;
use crate::sys::packet::Packet;

/// Of the packet that a CPU sends now.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Parcel {
    pub next_hop: NextHop,
    pub hash: u32,
    pub server: u16,
    pub is_ipv4: u8,
    /// A server has sent it, and the next hop is that to the client.
    pub is_back: u8,
    /// Offsets in the frame.
    pub network: u16,
    pub transport: u16,
    /// Of the IP packet, bytes.
    pub length: u32,
    pub opens: u16,
    /// The port of the VIP, as it stands in a packet.
    pub service_port: u16,
    /// It has come by the slow way.
    pub is_slow: u16,
    /// Of the connection, as it stands in a packet.
    pub client_port: u16,
    /// Of what a server has sent: the route to the client, as [`Way::route`] has it.
    pub route: u32,
    pub reserved: u32,
}

/// What the verifier may know of `network`.
pub const NETWORK_MASK: usize = 31;

/// `network` of a plain frame.
pub const PLAIN_NETWORK: usize = 14;

/// Destination unreachable, fragmentation needed.
const FRAGMENTATION_NEEDED: u16 = 0x0304;
/// Packet too big.
const PACKET_TOO_BIG: u16 = 0x0200;
/// What these errors are made of, words: their own headers, and so much of the packet that its
/// ports are in it whatever options it has.
const ERROR: usize = (20 + 8 + 60 + 8) / 4;
const ERROR_V6: usize = (40 + 8 + 128) / 4;

/// Tells the program that sends the packet what becomes of it.
#[inline(always)]
pub fn leave<A: Address>(flow: &Flow<A>, server: ServerId, next_hop: NextHop, opens: bool, is_slow: bool) {
    let Some(parcel) = PARCELS.get_ptr_mut(0) else { return };
    let is_ipv4 = size_of::<A>() == size_of::<V4>();
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    unsafe {
        *parcel = Parcel {
            next_hop,
            hash: tunnel::flow_hash(flow),
            server: server.0,
            is_ipv4: u8::from(is_ipv4),
            is_back: 0,
            network: flow.network as u16,
            transport: flow.transport as u16,
            length: flow.total_length as u32,
            opens: u16::from(opens),
            service_port: flow.destination_port,
            is_slow: u16::from(is_slow),
            client_port: flow.source_port,
            route: 0,
            reserved: 0,
        };
    }
}

/// The same of what a server has sent, on this way to the client.
#[inline(always)]
pub fn leave_back(server: ServerId, to: Way) {
    let Some(parcel) = PARCELS.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    unsafe {
        *parcel = Parcel {
            next_hop: NextHop::remote(Some(to.mac()), false),
            hash: 0,
            server: server.0,
            is_ipv4: 0,
            is_back: 1,
            network: 0,
            transport: 0,
            length: 0,
            opens: 0,
            service_port: 0,
            is_slow: 0,
            client_port: 0,
            route: to.route(),
            reserved: 0,
        };
    }
}

/// What [`leave`] has told.
#[inline(always)]
pub fn left() -> Option<&'static Parcel> {
    // SAFETY: as above; nothing writes there while the packet is sent.
    PARCELS.get_ptr_mut(0).map(|parcel| unsafe { &*parcel })
}

/// Tells the client what fits, as a router before it would: the packet is its own answer then, if
/// the reason is [`Reason::TooBig`]. So does a client that allows fragments hear of it: none are
/// made here.
#[inline(never)]
pub fn too_big(context: *mut xdp_md, parcel: &Parcel, mtu: u32) -> Reason {
    let network = opaque(parcel.network as usize) & NETWORK_MASK;
    let answered = match parcel.is_ipv4 != 0 {
        true => {
            may_answer(context, network)
                && answer::icmp::<ERROR>(context, network, FRAGMENTATION_NEEDED, mtu).is_some()
        }
        false => {
            may_answer_v6(context, network)
                && answer::icmpv6::<ERROR_V6>(context, network, PACKET_TOO_BIG, mtu).is_some()
        }
    };
    if answered { Reason::TooBig } else { Reason::TooBigSilently }
}

#[inline(always)]
fn may_answer(context: *mut xdp_md, network: usize) -> bool {
    let source = Packet::new(&XdpContext::new(context)).read::<V4>(network + 12);
    source.is_some_and(refusal::may_answer) && answer::is_due()
}

#[inline(always)]
fn may_answer_v6(context: *mut xdp_md, network: usize) -> bool {
    let source = Packet::new(&XdpContext::new(context)).read::<V6>(network + 8);
    source.is_some_and(refusal::may_answer_v6) && answer::is_due()
}

//! The server that a QUIC connection ID names; see [`lb_common::packet::quic`].
//!
//! A client that changes its address, or whose NAT does, sends from addresses that no entry knows,
//! or that another connection had. The connection ID is the server's own and tells better than
//! both. What a client has made up itself (in its first packets) counts for nothing if the
//! connection is known, and must name a server that takes new connections if it is not.

use aya_ebpf::bindings::xdp_md;
use lb_common::packet::frame::Frame as _;
use lb_common::packet::quic::{
    BLOCK, Encoding, EncodingKey, Header, LENGTH_AT, ROTATIONS, ServerKey, rotation,
};
use lb_common::reason::TableEvent;
use lb_common::server::ServerId;

use super::connection::Found;
use crate::context::Context;
use crate::family::Family;
use crate::maps::{self, QUIC_ENCODINGS, QUIC_SERVERS};
use crate::stats;
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};

/// The server that the packet names, if it names one that can be reached; number 0 if not. No
/// `Option`: the compiler would pass on a register that nobody has written, which the verifier
/// refuses.
#[inline(always)]
pub fn server<A: Family>(context: &Context<A>, found: &Found<A>) -> ServerId {
    let known = found.entry().map_or(0, |entry| entry.server().0);
    let service = found.service_id().0;
    let (packet, transport) = (context.packet.context().ctx, context.flow.transport);
    ServerId(lb_quic_server(packet, service.into(), transport as u32, known.into()) as u16)
}

/// [`server`] of a service's packet whose connection belongs to server `known`, or to none (0);
/// global for the verifier's sake, see [`crate::schedule::lb_pick`]. Returns 0 for none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_quic_server(context: *mut xdp_md, service: u32, transport: u32, known: u32) -> u32 {
    match named(context, service as u16, transport, known) {
        Some(server) => {
            if server != known {
                stats::table(TableEvent::QuicMoved);
            }
            server
        }
        None => 0,
    }
}

#[inline(always)]
fn named(context: *mut xdp_md, service: u16, transport: u32, known: u32) -> Option<u32> {
    const UDP_HEADER: usize = 8;
    let context = packet::context(context);
    let packet = Packet::new(&context);
    let at = (opaque(transport as usize) & 0x1ff) + UDP_HEADER;
    let head = packet.read::<[u8; LENGTH_AT + 1]>(at)?;
    let header = Header::of(head[0]);
    if header == Header::Long && known != 0 {
        return None;
    }
    // Every packet of QUIC goes on behind its connection ID, by at least 20 bytes. The octet and
    // the block in one: the verifier takes no check of a single byte at an unknown offset.
    let id_at = opaque(at + header.connection_id_at()) & 0x3ff;
    let connection_id = packet.at::<[u8; 1 + BLOCK as usize]>(id_at)?.cast::<u8>();
    // SAFETY: `at` has checked the bounds.
    let rotation = rotation(unsafe { *connection_id });
    if rotation >= ROTATIONS {
        return None;
    }
    let key = EncodingKey { service, rotation: rotation.into() };
    // SAFETY: the controller writes whole values, and never changes one in place.
    let encoding: &Encoding = unsafe { QUIC_ENCODINGS.get(&key) }?;
    if header == Header::Long && head[LENGTH_AT] < encoding.least_length() {
        return None;
    }
    // SAFETY: as above; for alignment see `Packet::read`.
    let word = |number| u32::from_be(unsafe { *connection_id.add(1).cast::<u32>().add(number) });
    let id = encoding.server_id([word(0), word(1), word(2), word(3)]);
    let key = ServerKey { service, rotation: rotation.into(), id };
    // SAFETY: a plain word.
    let server = *unsafe { QUIC_SERVERS.get(&key) }?;
    let next_hop = maps::server(ServerId(server as u16)).next_hop.get();
    let takes_it = if header == Header::Long { next_hop.is_usable() } else { next_hop.is_reachable() };
    takes_it.then_some(server)
}

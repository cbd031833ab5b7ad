//! A packet gets another source or destination; what its checksums cover is mended. Functions of
//! numbers alone do it, so the verifier looks at each once.

use aya_ebpf::bindings::xdp_md;
use lb_common::addr::{V4, V6};
use lb_common::forward::nat::Delta;
use lb_common::mac::Mac;
use lb_common::packet::frame::Head;
use lb_common::packet::partial_checksum::offset;
use lb_common::reason::Reason;
use lb_common::service::Protocol;

use super::{End, New, Quoted, partial};
use crate::family::Family;
use crate::forward::direct;
use crate::maps::control;
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};

/// Rewrites one end of the packet, takes a hop from it, and writes the MACs. Of an ICMP error the
/// other end of the packet that it quotes is rewritten too: that one has gone the other way.
#[inline(always)]
pub fn forward<A: Family>(
    packet: &Packet,
    head: &Head<A>,
    quoted: Option<&Quoted<A>>,
    end: End,
    new: &New<A>,
    to: Mac,
) -> Result<(), Reason> {
    rewritten(packet, quoted, Shape::of(head, end), to, new)
}

/// [`forward`] of the other end, which takes no hop.
#[inline(always)]
pub fn forward_again<A: Family>(
    packet: &Packet,
    head: &Head<A>,
    quoted: Option<&Quoted<A>>,
    end: End,
    new: &New<A>,
    to: Mac,
) -> Result<(), Reason> {
    rewritten(packet, quoted, Shape::of(head, end).again(), to, new)
}

#[inline(always)]
fn rewritten<A: Family>(
    packet: &Packet,
    quoted: Option<&Quoted<A>>,
    shape: Shape,
    to: Mac,
    new: &New<A>,
) -> Result<(), Reason> {
    let context = packet.context().ctx;
    let (V6([high, low]), to) = (new.address.mapped(), to.word() | u64::from(new.port) << 48);
    // What a function does not use must not be among its arguments: the compiler would set none.
    let written = match (quoted, size_of::<A>() == size_of::<V4>()) {
        (None, true) => lb_rewrite_v4(context, shape.0, to, low),
        (None, false) => lb_rewrite_v6(context, shape.0, to, high, low),
        (Some(quoted), true) => lb_rewrite_error_v4(context, shape.with(quoted).0, to, low),
        (Some(quoted), false) => lb_rewrite_error_v6(context, shape.with(quoted).0, to, high, low),
    };
    if written != 0 { Ok(()) } else { Err(Reason::BadLength) }
}

/// [`forward`] of a later fragment, and [`forward_again`] if `again`.
#[inline(always)]
pub fn forward_later<A: Family>(
    packet: &Packet,
    head: &Head<A>,
    end: End,
    new: &New<A>,
    to: Mac,
    again: bool,
) -> Result<(), Reason> {
    let shape = Shape::new(head.network, head.upper, LATER_FRAGMENT, end, 0);
    rewritten(packet, None, if again { shape.again() } else { shape }, to, new)
}

/// What is known of a packet that is rewritten, in one word: offsets of its headers (8 and 12
/// bits), its kind (2), which end, whether [`forward_again`], the length of the IP packet (17), and
/// of an ICMP error the same of the packet that it quotes: offsets (10 and 11 bits), kind (1).
#[derive(Clone, Copy)]
pub(super) struct Shape(pub(super) u64);

/// The protocol of the packet does not matter: an ICMP error.
const OTHER: u64 = 0;
const OF_TCP: u64 = 1;
const OF_UDP: u64 = 2;
const LATER_FRAGMENT: u64 = 3;

/// No offset in a packet that is written to exceeds this, which is the bound that the verifier
/// sees.
pub(super) const OFFSET_MASK: usize = 0x7ff;

impl Shape {
    /// `length` in bytes; 0: a fragment's.
    #[inline(always)]
    const fn new(network: usize, transport: usize, kind: u64, end: End, length: usize) -> Self {
        let offsets = (network as u64 & 0xff) | (transport as u64 & 0xfff) << 8;
        Self(offsets | kind << 20 | (end as u64) << 22 | (length as u64 & 0x1_ffff) << 24)
    }

    #[inline(always)]
    fn of<A: Family>(head: &Head<A>, end: End) -> Self {
        let kind = match Protocol::from_number(head.protocol) {
            _ if head.is_later_fragment() => LATER_FRAGMENT,
            Some(Protocol::Tcp) => OF_TCP,
            Some(Protocol::Udp) => OF_UDP,
            None => OTHER,
        };
        // A fragment's checksum covers others, too, and none is left to hardware.
        let length = if head.fragment != 0 { 0 } else { head.total_length };
        Self::new(head.network, head.upper, kind, end, length)
    }

    #[inline(always)]
    const fn again(self) -> Self {
        Self(self.0 | 1 << 23)
    }

    #[inline(always)]
    const fn with<A>(self, quoted: &Quoted<A>) -> Self {
        let offsets = (quoted.network as u64 & 0x3ff) << 41 | (quoted.transport as u64 & 0x7ff) << 51;
        let kind = (quoted.protocol == Protocol::Udp as u32) as u64;
        Self(self.0 | offsets | kind << 62)
    }

    #[inline(always)]
    pub(super) const fn network(self) -> usize {
        self.0 as usize & 0xff
    }
    #[inline(always)]
    pub(super) const fn transport(self) -> usize {
        (self.0 >> 8) as usize & 0xfff
    }
    #[inline(always)]
    const fn kind(self) -> u64 {
        self.0 >> 20 & 3
    }
    #[inline(always)]
    const fn end(self) -> End {
        if self.0 >> 22 & 1 == 0 { End::Source } else { End::Destination }
    }
    #[inline(always)]
    const fn takes_hop(self) -> bool {
        self.0 >> 23 & 1 == 0
    }
    #[inline(always)]
    pub(super) const fn length(self) -> usize {
        (self.0 >> 24) as usize & 0x1_ffff
    }
    #[inline(always)]
    pub(super) const fn protocol(self) -> Option<Protocol> {
        match self.kind() {
            OF_TCP => Some(Protocol::Tcp),
            OF_UDP => Some(Protocol::Udp),
            _ => None,
        }
    }
    /// Of the quoted packet: offsets and protocol.
    #[inline(always)]
    const fn quoted(self) -> (usize, usize, Protocol) {
        let protocol = if self.0 >> 62 & 1 == 0 { Protocol::Tcp } else { Protocol::Udp };
        ((self.0 >> 41) as usize & 0x3ff, (self.0 >> 51) as usize & 0x7ff, protocol)
    }
}

/// [`forward`] in numbers, with the packet looked at anew; global for the verifier's sake, see
/// [`crate::schedule::lb_pick`]. `to`: the MAC of the next hop, and the port above. `low`: the last
/// word of the address in its mapped form. 0: the packet is too short.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_rewrite_v4(context: *mut xdp_md, shape: u64, to: u64, low: u64) -> u32 {
    rewrite::<V4>(context, Shape(shape), to, V6([0, low]))
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_rewrite_v6(context: *mut xdp_md, shape: u64, to: u64, high: u64, low: u64) -> u32 {
    rewrite::<V6>(context, Shape(shape), to, V6([high, low]))
}

/// As [`lb_rewrite_v4`], of an ICMP error.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_rewrite_error_v4(context: *mut xdp_md, shape: u64, to: u64, low: u64) -> u32 {
    rewrite_error::<V4>(context, Shape(shape), to, V6([0, low]))
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_rewrite_error_v6(context: *mut xdp_md, shape: u64, to: u64, high: u64, low: u64) -> u32 {
    rewrite_error::<V6>(context, Shape(shape), to, V6([high, low]))
}

#[inline(always)]
fn rewrite<A: Family>(context: *mut xdp_md, shape: Shape, to: u64, address: V6) -> u32 {
    let context = &packet::context(context);
    let new = New { address: A::of_this(&address), port: (to >> 48) as u16 };
    u32::from(try_rewrite(&Packet::new(context), Mac::from_word(to), shape, &new).is_some())
}

#[inline(always)]
fn rewrite_error<A: Family>(context: *mut xdp_md, shape: Shape, to: u64, address: V6) -> u32 {
    let context = &packet::context(context);
    let new = New { address: A::of_this(&address), port: (to >> 48) as u16 };
    u32::from(try_rewrite_error(&Packet::new(context), Mac::from_word(to), shape, &new).is_some())
}

#[inline(always)]
fn try_rewrite<A: Family>(packet: &Packet, to: Mac, shape: Shape, new: &New<A>) -> Option<()> {
    let partial = partial::is_left_to_hardware::<A>(packet.context().ctx, shape.0) != 0;
    direct::write(packet, control(), to).ok()?;
    let addresses = write_address(packet, shape.network(), shape.end(), new.address, shape.takes_hop())?;
    if shape.kind() == LATER_FRAGMENT {
        return Some(());
    }
    let protocol = shape.protocol()?;
    let port = mend(packet, shape.transport() + shape.end().port(), |_| new.port)?;
    let change = |sum| match partial {
        true => addresses.mend_partial(sum),
        false => addresses.and(port).mend_transport(protocol, sum),
    };
    mend(packet, shape.transport() + offset(protocol), change)?;
    Some(())
}

#[inline(always)]
fn try_rewrite_error<A: Family>(packet: &Packet, to: Mac, shape: Shape, new: &New<A>) -> Option<()> {
    direct::write(packet, control(), to).ok()?;
    let (network, transport, protocol) = shape.quoted();
    let end = shape.end();
    let outer = write_address(packet, shape.network(), end, new.address, shape.takes_hop())?;
    let inner = write_address(packet, network, end.other(), new.address, false)?;
    let port = mend(packet, transport + end.other().port(), |_| new.port)?;
    // What an IPv4 header's checksum loses its address gains: together they add up to the same.
    // That of ICMPv6 covers the outer addresses, too.
    let mut delta = match A::IP_CHECKSUM {
        Some(_) => port,
        None => port.and(outer).and(inner),
    };
    let at = transport + offset(protocol);
    if at + 2 <= shape.network() + shape.length() {
        let change = |sum| inner.and(port).mend_transport(protocol, sum);
        // It may be cut off there.
        delta = delta.and(mend(packet, at, change).unwrap_or_default());
    }
    mend(packet, shape.transport() + 2, |sum| delta.mend(sum))?;
    Some(())
}

/// Writes an address and mends the IP header's checksum, if there is one; takes a hop from the
/// packet if `hop`. Returns what has changed in the addresses.
#[inline(always)]
fn write_address<A: Family>(packet: &Packet, network: usize, end: End, new: A, hop: bool) -> Option<Delta> {
    let place = place::<A>(packet, network + end.address::<A>())?;
    // SAFETY: bounds checked by `place`; for alignment see `Packet::read`.
    let old = unsafe { *place };
    // SAFETY: as above.
    unsafe { *place = new };
    let delta = Delta::of_address(old, new);
    let hops = if hop { A::take_hop(packet, opaque(network) & OFFSET_MASK)? } else { Delta::default() };
    if let Some(checksum) = A::IP_CHECKSUM {
        mend(packet, network + checksum, |sum| delta.and(hops).mend(sum))?;
    }
    Some(delta)
}

/// Changes the word at `at`.
#[inline(always)]
fn mend(packet: &Packet, at: usize, change: impl FnOnce(u16) -> u16) -> Option<Delta> {
    let word = place::<u16>(packet, at)?;
    // SAFETY: bounds checked by `place`; for alignment see `Packet::read`.
    unsafe {
        let old = *word;
        let new = change(old);
        *word = new;
        Some(Delta::of_word(old, new))
    }
}

/// The value at an offset of which the compiler knows nothing, so that it leaves every check of
/// bounds in.
#[inline(always)]
pub(super) fn place<T>(packet: &Packet, at: usize) -> Option<*mut T> {
    packet.at::<T>(opaque(at) & OFFSET_MASK)
}

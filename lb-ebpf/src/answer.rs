//! Answers in the VIP's name: the packet becomes its own answer, and goes back by the station that
//! it came by.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Address as _, V4, V6};
use lb_common::mac::Mac;
use lb_common::packet::checksum::{self, halves};
use lb_common::packet::frame::Frame as _;
use lb_common::service::refusal;

use crate::forward::direct;
use crate::maps::{REFUSALS, control};
use crate::sys::clock::lb_now;
use crate::sys::packet::Packet;

pub const IP: usize = 20;
pub const IPV6: usize = 40;
pub const ICMP: usize = 8;
/// The least that Ethernet carries, without the frame check: an answer is not made shorter than
/// this, because not every driver fills up what XDP sends.
const LEAST_FRAME: usize = 60;
const DONT_FRAGMENT: u16 = 0x4000;
const TTL: u8 = 64;
const NUMBER_OF_ICMP: u8 = 1;
const NUMBER_OF_ICMPV6: u8 = 58;

/// Whether this CPU may send an ICMP error now.
#[inline(always)]
pub fn is_due() -> bool {
    let Some(due) = REFUSALS.get_ptr_mut(0) else { return false };
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    refusal::is_due(unsafe { &mut *due }, lb_now())
}

/// What stays of an IPv4 packet: who sent it by which station, and where to.
pub struct From {
    station: Mac,
    pub client: V4,
    /// Who answers.
    pub vip: V4,
}

impl From {
    #[inline(always)]
    pub fn of(packet: &Packet, network: usize) -> Option<Self> {
        // The MACs first: a check of bounds further on makes the compiler drop the one here, which
        // the verifier wants.
        let station = direct::source_mac(packet).ok()?;
        let [client, vip] = packet.read::<[V4; 2]>(network + 12)?;
        Some(Self { station, client, vip })
    }

    /// Writes the MACs, and an IP header for so many bytes behind it. Returns where it stands, with
    /// room for `T`; one check of bounds for all of it, because the compiler makes one of several
    /// and the verifier wants that of the pointer used.
    #[inline(always)]
    pub fn begin<T>(&self, packet: &Packet, network: usize, protocol: u8, carried: usize) -> Option<*mut T> {
        direct::write(packet, control(), self.station).ok()?;
        let whole = packet.at::<T>(network)?;
        let length = (IP + carried) as u16;
        let words = [0x4500, length, 0, DONT_FRAGMENT, u16::from(TTL) << 8 | u16::from(protocol)];
        let own = words[0] as u32 + u32::from(length) + u32::from(DONT_FRAGMENT) + u32::from(words[4]);
        let sum = checksum::of(own + host_halves(self.vip.0) + host_halves(self.client.0));
        let pair = |high: u16, low: u16| (u32::from(high) << 16 | u32::from(low)).to_be();
        // SAFETY: bounds checked by `at`, and T begins with an IP header; for alignment see
        // `Packet::read`.
        unsafe {
            *whole.cast::<[u32; IP / 4]>() =
                [pair(words[0], length), pair(0, words[3]), pair(words[4], sum), self.vip.0, self.client.0];
        }
        Some(whole)
    }
}

/// What stays of an IPv6 packet, as [`From`].
pub struct FromV6 {
    station: Mac,
    pub client: V6,
    pub vip: V6,
}

impl FromV6 {
    #[inline(always)]
    pub fn of(packet: &Packet, network: usize) -> Option<Self> {
        let station = direct::source_mac(packet).ok()?;
        let client = packet.read::<V6>(network + 8)?;
        let vip = packet.read::<V6>(network + 24)?;
        Some(Self { station, client, vip })
    }

    /// As [`From::begin`].
    #[inline(always)]
    pub fn begin<T>(
        &self,
        packet: &Packet,
        network: usize,
        next_header: u8,
        carried: usize,
    ) -> Option<*mut T> {
        direct::write(packet, control(), self.station).ok()?;
        let whole = packet.at::<T>(network)?;
        let words = whole.cast::<u32>();
        // SAFETY: bounds checked by `at`, and T begins with an IPv6 header, whose addresses have no
        // alignment that a packet lacks; see also `Packet::read`.
        unsafe {
            *words = (6u32 << 28).to_be();
            *words.add(1) = ((carried as u32) << 16 | u32::from(next_header) << 8 | u32::from(TTL)).to_be();
            *words.add(2).cast::<V6>() = self.vip;
            *words.add(6).cast::<V6>() = self.client;
        }
        Some(whole)
    }

    /// The sum of what a checksum covers besides the data (RFC 8200, section 8.1), as it stands in
    /// a packet.
    #[inline(always)]
    pub fn pseudo_header(&self, next_header: u8, carried: usize) -> u32 {
        let numbers = halves((carried as u32).to_be()) + halves(u32::from(next_header).to_be());
        self.vip.sum() + self.client.sum() + numbers
    }
}

/// The sum of both words in what stands in a packet, each in host byte order.
#[inline(always)]
pub fn host_halves(word: u32) -> u32 {
    halves(u32::from_be(word))
}

/// Cuts off what the answer does not need. The packet must be looked at anew afterwards.
#[inline(always)]
pub fn cut(context: *mut xdp_md, length: usize) -> bool {
    let wanted = if length < LEAST_FRAME { LEAST_FRAME } else { length };
    // SAFETY: the context is the one that the kernel handed to this program (kernel 5.18 and
    // later).
    let has = unsafe { bpf_xdp_get_buff_len(context) } as usize;
    // SAFETY: as above.
    has <= wanted || unsafe { bpf_xdp_adjust_tail(context, wanted as i32 - has as i32) } == 0
}

/// Moves what stands between the MACs and `network`, EtherType and VLAN tags, so many bytes towards
/// the frame's new beginning.
#[inline(always)]
pub fn move_tags(packet: &Packet, network: usize, by: usize) -> Option<()> {
    let mut at = 12;
    while at < 22 {
        if at < network {
            let word = packet.read::<u16>(by + at)?;
            // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
            unsafe { *packet.at::<u16>(at)? = word };
        }
        at += 2;
    }
    Some(())
}

/// Makes an IPv4 packet an ICMP error: type and code, the second word of its header, and a quote of
/// `WORDS` words of the packet in all, headers of the error included. It comes from the packet's
/// destination.
#[inline(always)]
pub fn icmp<const WORDS: usize>(context: *mut xdp_md, network: usize, kind: u16, rest: u32) -> Option<()> {
    let from = From::of(&Packet::new(&XdpContext::new(context)), network)?;
    icmp_from::<WORDS>(&from, context, network, kind, rest)
}

/// As [`icmp`], from `from.vip`.
#[inline(always)]
pub fn icmp_from<const WORDS: usize>(
    from: &From,
    context: *mut xdp_md,
    network: usize,
    kind: u16,
    rest: u32,
) -> Option<()> {
    // The quote stays where it is; room is made before it.
    const ROOM: usize = IP + ICMP;
    // SAFETY: the context is the one that the kernel handed to this program.
    if unsafe { bpf_xdp_adjust_head(context, -(ROOM as i32)) } != 0 || !cut(context, network + WORDS * 4) {
        return None;
    }
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    move_tags(&packet, network, ROOM)?;
    let whole = from.begin::<[u32; WORDS]>(&packet, network, NUMBER_OF_ICMP, WORDS * 4 - IP)?;
    let mut sum = u32::from(kind) + halves(rest);
    let mut word = ROOM / 4;
    while word < WORDS {
        // SAFETY: bounds checked by `begin`; for alignment see `Packet::read`.
        sum += host_halves(unsafe { (*whole)[word] });
        word += 1;
    }
    // SAFETY: as above.
    unsafe {
        (*whole)[IP / 4] = (u32::from(kind) << 16 | u32::from(checksum::of(sum))).to_be();
        (*whole)[IP / 4 + 1] = rest.to_be();
    }
    Some(())
}

/// The same of IPv6. All that an error should quote (RFC 4443, section 3.2: as much as fits) takes
/// a sum over all of it; the headers are what hosts go by.
#[inline(always)]
pub fn icmpv6<const WORDS: usize>(context: *mut xdp_md, network: usize, kind: u16, rest: u32) -> Option<()> {
    let from = FromV6::of(&Packet::new(&XdpContext::new(context)), network)?;
    icmpv6_from::<WORDS>(&from, context, network, kind, rest)
}

/// As [`icmpv6`], from `from.vip`.
#[inline(always)]
pub fn icmpv6_from<const WORDS: usize>(
    from: &FromV6,
    context: *mut xdp_md,
    network: usize,
    kind: u16,
    rest: u32,
) -> Option<()> {
    const ROOM: usize = IPV6 + ICMP;
    // SAFETY: the context is the one that the kernel handed to this program.
    if unsafe { bpf_xdp_adjust_head(context, -(ROOM as i32)) } != 0 || !cut(context, network + WORDS * 4) {
        return None;
    }
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    move_tags(&packet, network, ROOM)?;
    let carried = WORDS * 4 - IPV6;
    let whole = from.begin::<[u32; WORDS]>(&packet, network, NUMBER_OF_ICMPV6, carried)?;
    // Words as they stand in the packet.
    let first = (u32::from(kind) << 16).to_be();
    let mut sum = from.pseudo_header(NUMBER_OF_ICMPV6, carried) + halves(first) + halves(rest.to_be());
    let mut word = ROOM / 4;
    while word < WORDS {
        // SAFETY: bounds checked by `begin`; for alignment see `Packet::read`.
        sum += halves(unsafe { (*whole)[word] });
        word += 1;
    }
    let [a, b] = checksum::of(sum).to_ne_bytes();
    let [kind, code, _, _] = first.to_ne_bytes();
    // SAFETY: as above.
    unsafe {
        (*whole)[IPV6 / 4] = u32::from_ne_bytes([kind, code, a, b]);
        (*whole)[IPV6 / 4 + 1] = rest.to_be();
    }
    Some(())
}

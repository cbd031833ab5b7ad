//! What differs between IPv4 and IPv6: where their connections stand, and the words of their
//! headers.

mod v4;
mod v6;

use lb_common::addr::{Address, V6};
use lb_common::control::Control;
use lb_common::forward::nat::Delta;
use lb_common::packet::checksum;
use lb_common::packet::frame::{Flow, Frame, Plain, RelatedHeaders};
use lb_common::program::stage::Stage;
use lb_common::table::RawPage;
use lb_common::table::spills::RawSpills;

use crate::sys::packet::Packet;

/// A family of addresses. `network` and `transport` are the offsets of the IP header and of the one
/// behind it.
pub trait Family: Address + RelatedHeaders + 'static {
    /// A power of two minus one that no `transport` exceeds: the bound that the verifier sees.
    const TRANSPORT_MASK: usize;

    /// Whether what is for none of our services is looked at, too, before the host gets it: of a
    /// VIP whose lease has run out it may be another director's
    /// ([`crate::guard::neighbour::host`]).
    const GUARDS_HOST: bool;

    /// Whatever is not for the fast way.
    const SLOW: Stage;

    /// What comes before it where services have rules about their clients.
    const ADMIT: Stage;

    /// Known connections of services with several ports.
    const KNOWN: Stage;

    /// Packets that belong to another one.
    const RELATED: Stage;

    /// Address translation, on the way to a server and back.
    const TRANSLATE: Stage;
    const TRANSLATE_BACK: Stage;
    const RELATED_BACK: Stage;

    /// Bytes of the IP header without options and extension headers.
    const LENGTH: usize;
    /// Offsets in the IP header.
    const SOURCE: usize;
    const DESTINATION: usize;
    const IP_CHECKSUM: Option<usize>;

    /// An address of this family in the family's own form.
    fn of_this(address: &V6) -> Self;
    /// Answers to clients whom nobody serves.
    const REFUSE: Stage;

    /// Whether other fragments may follow this packet: `false` is sure.
    fn may_be_fragment(packet: &Packet, flow: &Flow<Self>) -> bool;

    /// See [`lb_common::packet::frame::plain`].
    fn plain<F: Frame>(frame: &F) -> Option<Plain<Self>>;

    /// See [`lb_common::packet::frame::of_plain`].
    fn of_plain<F: Frame>(frame: &F) -> Option<Flow<Self>>;

    /// Pages of its connection table minus one.
    fn page_mask(control: &Control) -> u32;
    fn page(index: u32) -> Option<*mut RawPage>;
    fn spills(index: u32) -> Option<*mut RawSpills>;
    /// Eight pages' bytes of `CHANGED_V4` or `CHANGED_V6`.
    fn changed(index: u32) -> Option<*mut u64>;
    /// The global function that gives a new connection its entry, see
    /// [`crate::lookup::table::learn`]. 0: no slot could be had.
    fn learn(place: u64, key: Self::Key, entry: u64) -> u64;

    /// Time to live, or hop limit.
    fn hops(packet: &Packet, network: usize) -> Option<u8>;
    /// Takes one hop. Returns what has changed in the words that a checksum covers, which is not
    /// mended.
    fn take_hop(packet: &Packet, network: usize) -> Option<Delta>;
    /// Nothing happens where the frame is too short, which [`Self::hops`] has told before.
    fn set_hops(packet: &Packet, network: usize, hops: u8);

    /// The mark of `lb_common::forward::peer`.
    fn is_marked(packet: &Packet, network: usize, transport: usize) -> Option<bool>;
    fn set_mark(packet: &Packet, network: usize, transport: usize, set: bool);
}

/// The word at `at`, host byte order.
#[inline(always)]
fn read_word(packet: &Packet, at: usize) -> Option<u16> {
    packet.read::<u16>(at).map(u16::from_be)
}

/// The word with these bits set, or clear.
const fn with_bits(word: u16, bits: u16, set: bool) -> u16 {
    if set { word | bits } else { word & !bits }
}

/// Writes the word at `at`, host byte order, and mends the checksum at `checksum` that covers it.
/// Nothing happens where the frame is too short.
#[inline(always)]
fn write_word(packet: &Packet, at: usize, checksum: usize, change: impl FnOnce(u16) -> u16) {
    let (Some(word), Some(sum)) = (packet.at::<u16>(at), packet.at::<u16>(checksum)) else { return };
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    unsafe {
        let old = u16::from_be(*word);
        let new = change(old);
        *word = new.to_be();
        *sum = checksum::mended(u16::from_be(*sum), old, new).to_be();
    }
}

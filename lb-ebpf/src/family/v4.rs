use lb_common::addr::{V4, V6};
use lb_common::control::Control;
use lb_common::forward::nat::Delta;
use lb_common::forward::peer::MARK;
use lb_common::packet::frame::{self, Flow, Frame, Plain};
use lb_common::program::stage::Stage;
use lb_common::table::RawPage;
use lb_common::table::connection::KeyV4;
use lb_common::table::spills::RawSpills;

use super::{Family, read_word, with_bits, write_word};
use crate::lookup::table::lb_learn_v4;
use crate::maps::{CHANGED_V4, CONNECTIONS_V4, SPILLS_V4};
use crate::sys::packet::Packet;

/// Offsets of words in the header (RFC 791, section 3.1).
const FRAGMENT: usize = 6;
const MORE_FRAGMENTS: u16 = 0x2000;
/// Time to live in the high byte, protocol in the low one.
const TTL: usize = 8;
const CHECKSUM: usize = 10;

impl Family for V4 {
    const TRANSPORT_MASK: usize = 0x7f;
    const GUARDS_HOST: bool = false;
    const SLOW: Stage = Stage::Slow;
    const ADMIT: Stage = Stage::Admit;
    const KNOWN: Stage = Stage::Known;
    const RELATED: Stage = Stage::Related;
    const REFUSE: Stage = Stage::Refuse;
    const TRANSLATE: Stage = Stage::Translate;
    const TRANSLATE_BACK: Stage = Stage::TranslateBack;
    const RELATED_BACK: Stage = Stage::RelatedBack;
    const LENGTH: usize = 20;
    const SOURCE: usize = 12;
    const DESTINATION: usize = 16;
    const IP_CHECKSUM: Option<usize> = Some(CHECKSUM);

    #[inline(always)]
    fn of_this(address: &V6) -> Self {
        const SHIFT: u32 = if cfg!(target_endian = "little") { 32 } else { 0 };
        Self((address.0[1] >> SHIFT) as u32)
    }

    #[inline(always)]
    fn may_be_fragment(packet: &Packet, flow: &Flow<Self>) -> bool {
        read_word(packet, flow.network + FRAGMENT).is_some_and(|word| word & MORE_FRAGMENTS != 0)
    }

    #[inline(always)]
    fn plain<F: Frame>(frame: &F) -> Option<Plain<Self>> {
        frame::plain(frame)
    }

    #[inline(always)]
    fn of_plain<F: Frame>(frame: &F) -> Option<Flow<Self>> {
        frame::of_plain(frame)
    }

    #[inline(always)]
    fn page_mask(control: &Control) -> u32 {
        control.page_mask_v4
    }
    #[inline(always)]
    fn page(index: u32) -> Option<*mut RawPage> {
        CONNECTIONS_V4.get_ptr_mut(index)
    }
    #[inline(always)]
    fn spills(index: u32) -> Option<*mut RawSpills> {
        SPILLS_V4.get_ptr_mut(index)
    }
    #[inline(always)]
    fn changed(index: u32) -> Option<*mut u64> {
        CHANGED_V4.get_ptr_mut(index).map(<*mut _>::cast)
    }
    #[inline(always)]
    fn learn(place: u64, key: KeyV4, entry: u64) -> u64 {
        lb_learn_v4(place, key.0, entry)
    }

    #[inline(always)]
    fn hops(packet: &Packet, network: usize) -> Option<u8> {
        read_word(packet, network + TTL).map(|word| (word >> 8) as u8)
    }
    #[inline(always)]
    fn take_hop(packet: &Packet, network: usize) -> Option<Delta> {
        let word = packet.at::<u16>(network + TTL)?;
        // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
        unsafe {
            let old = *word;
            *word = u16::from_be(old).wrapping_sub(0x100).to_be();
            Some(Delta::of_word(old, *word))
        }
    }
    #[inline(always)]
    fn set_hops(packet: &Packet, network: usize, hops: u8) {
        if let Some(word) = read_word(packet, network + TTL) {
            set_word(packet, network, TTL, u16::from(hops) << 8 | word & 0xff);
        }
    }

    #[inline(always)]
    fn is_marked(packet: &Packet, network: usize, _transport: usize) -> Option<bool> {
        read_word(packet, network + FRAGMENT).map(|word| word & MARK != 0)
    }
    #[inline(always)]
    fn set_mark(packet: &Packet, network: usize, _transport: usize, set: bool) {
        if let Some(word) = read_word(packet, network + FRAGMENT) {
            set_word(packet, network, FRAGMENT, with_bits(word, MARK, set));
        }
    }
}

/// Writes the word at `at` of the header at `network`, host byte order, and mends the header's
/// checksum.
#[inline(never)]
fn set_word(packet: &Packet, network: usize, at: usize, new: u16) {
    write_word(packet, network + at, network + CHECKSUM, |_| new);
}

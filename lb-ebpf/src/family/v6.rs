use lb_common::addr::V6;
use lb_common::control::Control;
use lb_common::forward::nat::Delta;
use lb_common::forward::peer::TCP_MARK;
use lb_common::packet::frame::{self, Flow, Frame, Plain};
use lb_common::program::stage::Stage;
use lb_common::table::RawPage;
use lb_common::table::connection::{Key as _, KeyV6};
use lb_common::table::spills::RawSpills;

use super::{Family, read_word, with_bits, write_word};
use crate::lookup::table::lb_learn_v6;
use crate::maps::{CHANGED_V6, CONNECTIONS_V6, SPILLS_V6};
use crate::sys::packet::Packet;

/// Of the header, without extension headers.
const LENGTH: usize = 40;
/// Offset of the hop limit in the header (RFC 8200, section 3).
const HOP_LIMIT: usize = 7;
/// Offsets in the TCP header: the word of data offset and flags, the checksum.
const TCP_FLAGS: usize = 12;
const TCP_CHECKSUM: usize = 16;

impl Family for V6 {
    const TRANSPORT_MASK: usize = 0x1ff;
    const GUARDS_HOST: bool = true;
    const SLOW: Stage = Stage::SlowIpv6;
    const ADMIT: Stage = Stage::AdmitIpv6;
    const KNOWN: Stage = Stage::KnownIpv6;
    const RELATED: Stage = Stage::RelatedIpv6;
    const REFUSE: Stage = Stage::RefuseIpv6;
    const TRANSLATE: Stage = Stage::TranslateIpv6;
    const TRANSLATE_BACK: Stage = Stage::TranslateBackIpv6;
    const RELATED_BACK: Stage = Stage::RelatedBackIpv6;
    const LENGTH: usize = LENGTH;
    const SOURCE: usize = 8;
    const DESTINATION: usize = 24;
    const IP_CHECKSUM: Option<usize> = None;

    #[inline(always)]
    fn of_this(address: &V6) -> Self {
        *address
    }

    /// It has extension headers.
    #[inline(always)]
    fn may_be_fragment(_packet: &Packet, flow: &Flow<Self>) -> bool {
        flow.transport.wrapping_sub(flow.network) != LENGTH
    }

    #[inline(always)]
    fn plain<F: Frame>(frame: &F) -> Option<Plain<Self>> {
        frame::plain_ipv6(frame)
    }

    #[inline(always)]
    fn of_plain<F: Frame>(frame: &F) -> Option<Flow<Self>> {
        frame::of_plain_ipv6(frame)
    }

    #[inline(always)]
    fn page_mask(control: &Control) -> u32 {
        control.page_mask_v6
    }
    #[inline(always)]
    fn page(index: u32) -> Option<*mut RawPage> {
        CONNECTIONS_V6.get_ptr_mut(index)
    }
    #[inline(always)]
    fn spills(index: u32) -> Option<*mut RawSpills> {
        SPILLS_V6.get_ptr_mut(index)
    }
    #[inline(always)]
    fn changed(index: u32) -> Option<*mut u64> {
        CHANGED_V6.get_ptr_mut(index).map(<*mut _>::cast)
    }
    #[inline(always)]
    fn learn(place: u64, key: KeyV6, entry: u64) -> u64 {
        lb_learn_v6(place, key.word(0), key.word(1), key.word(2), entry)
    }

    #[inline(always)]
    fn hops(packet: &Packet, network: usize) -> Option<u8> {
        packet.read::<u8>(network + HOP_LIMIT)
    }
    #[inline(always)]
    fn take_hop(packet: &Packet, network: usize) -> Option<Delta> {
        let byte = packet.at::<u8>(network + HOP_LIMIT)?;
        // SAFETY: bounds checked by `at`.
        unsafe { *byte = (*byte).wrapping_sub(1) };
        Some(Delta::default())
    }
    #[inline(always)]
    fn set_hops(packet: &Packet, network: usize, hops: u8) {
        if let Some(byte) = packet.at::<u8>(network + HOP_LIMIT) {
            // SAFETY: bounds checked by `at`.
            unsafe { *byte = hops };
        }
    }

    #[inline(always)]
    fn is_marked(packet: &Packet, _network: usize, transport: usize) -> Option<bool> {
        read_word(packet, transport + TCP_FLAGS).map(|word| word & TCP_MARK != 0)
    }
    #[inline(always)]
    fn set_mark(packet: &Packet, _network: usize, transport: usize, set: bool) {
        write_word(packet, transport + TCP_FLAGS, transport + TCP_CHECKSUM, |word| {
            with_bits(word, TCP_MARK, set)
        });
    }
}

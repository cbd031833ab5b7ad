//! Fragments of a datagram (RFC 791, section 3.2; RFC 8200, section 4.5).
//!
//! Only the first one has ports. It leaves a [`Trail`] for the others, which follow it to the same
//! server. What a fragment covers that came before is known too: fragments that overlap are how
//! firewalls are deceived, and none is let through (RFC 5722). A trail ends with the last piece of
//! its datagram, because ids are used again: that is told by a sum ([`Progress`]), and noted in the
//! trail itself, so that none of the next datagram is taken for it.
//!
//! A fragment that comes before its first one is held: the program hands it to the controller as a
//! [`Held`], which has it sent once the trail is there.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::V6;
use crate::reason::Reason;
use crate::server::ServerId;
use crate::service::Protocol;
use crate::service::refusal;

/// How long a trail is followed, nanoseconds: as long as Linux waits for the rest of a datagram.
pub const TIMEOUT_NS: u64 = 30_000_000_000;

/// Trails that there is room for; the one that was not followed for the longest time goes first.
pub const TRAILS: u32 = 16_384;

/// What the fragments of one datagram have in common.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Key {
    pub source: V6,
    pub destination: V6,
    /// As it stands in the packet.
    pub id: u32,
    /// IPv4: the protocol's number. IPv6: 0, the id is all.
    pub protocol: u32,
}

const _: () = assert!(size_of::<Key>() == 40);

/// What the first fragment leaves for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Trail {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub until_ns: u64,
    pub datagram: Datagram,
    pub covered: Covered,
    /// Changed by atomic addition alone.
    pub progress: Progress,
}

const _: () = assert!(size_of::<Trail>() == 40);

/// What only the first fragment tells of a datagram, and where it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Datagram {
    server: u16,
    /// Ports as they stand in the packet.
    pub source_port: u16,
    pub destination_port: u16,
    protocol: u16,
}

impl Datagram {
    /// For a port that no service is at, so for the director's own host.
    pub const HOSTS: Self = Self::new(ServerId(0), [0; 2], Protocol::Udp);

    #[inline(always)]
    pub const fn is_hosts(self) -> bool {
        self.server == 0
    }

    #[inline(always)]
    pub const fn new(server: ServerId, ports: [u16; 2], protocol: Protocol) -> Self {
        let [source_port, destination_port] = ports;
        Self { server: server.0, source_port, destination_port, protocol: protocol.number() as u16 }
    }

    #[inline(always)]
    pub const fn server(self) -> ServerId {
        ServerId(self.server)
    }

    #[inline(always)]
    pub const fn protocol(self) -> Protocol {
        if self.protocol == Protocol::Udp as u16 { Protocol::Udp } else { Protocol::Tcp }
    }
}

/// What a fragment carries of its datagram, in units of 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    from: u16,
    /// Behind its last unit, never 0; of a datagram's last piece [`END`].
    to: u16,
}

/// Beyond any datagram: nothing follows its last piece.
const END: u16 = u16::MAX;

/// Most bytes of a datagram.
const LONGEST: usize = 65_535;

impl Piece {
    /// `offset` in units of 8 bytes, `length` in bytes. An error: no datagram has such a fragment.
    #[inline(always)]
    pub const fn new(offset: u16, length: usize, more: bool) -> Result<Self, Reason> {
        let in_units = length & 7 == 0;
        if length == 0 || more && !in_units || length > LONGEST || offset as usize * 8 + length > LONGEST {
            return Err(Reason::BadLength);
        }
        // Only the last piece may end within a unit.
        Ok(Self { from: offset, to: if more { offset + (length >> 3) as u16 } else { END } })
    }

    /// Where it stands in its datagram.
    pub const fn offset(self) -> u16 {
        self.from
    }

    /// What it adds to its datagram's [`Progress`].
    #[inline(always)]
    pub const fn progress(self) -> u64 {
        match self.to {
            END => (self.from as u64 + 1) << 32,
            to => (to - self.from) as u64,
        }
    }

    #[inline(always)]
    const fn word(self) -> u32 {
        (self.from as u32) << 16 | self.to as u32
    }

    #[inline(always)]
    const fn of_word(word: u32) -> Self {
        Self { from: (word >> 16) as u16, to: word as u16 }
    }
}

/// Stretches of a datagram that may be known apart: it may have one hole less.
pub const STRETCHES: usize = 4;

/// How much of a datagram has come: the units before its last piece in the lower half, and in the
/// upper one, once that has come, where it begins, plus one. A sum, so that several CPUs may add to
/// it at once, and exactly one of them makes it whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Progress(pub u64);

impl Progress {
    /// Whether nothing is missing.
    #[inline(always)]
    pub const fn is_whole(self) -> bool {
        self.0 >> 32 == (self.0 & 0xffff_ffff) + 1
    }
}

/// Which stretches of a datagram have come, without an order; 0 is none.
///
/// Each word by itself tells the truth. So two CPUs that write at the same time may forget a
/// fragment, and thus miss an overlap, but never see one that is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Covered(pub [u32; STRETCHES]);

impl Covered {
    pub const NOTHING: Self = Self([0; STRETCHES]);

    /// What has come with the first fragment.
    #[inline(always)]
    pub const fn of(piece: Piece) -> Self {
        let mut words = [0; STRETCHES];
        words[0] = piece.word();
        Self(words)
    }

    /// What has come with this fragment, or why it cannot be sent now.
    #[inline(always)]
    pub fn with(self, piece: Piece) -> Result<Self, Reason> {
        let mut words = self.0;
        let mut grown = piece;
        let mut free = STRETCHES;
        let mut index = 0;
        while index < STRETCHES {
            let stretch = Piece::of_word(words[index]);
            if words[index] != 0 {
                if piece.from < stretch.to && stretch.from < piece.to {
                    return Err(Reason::FragmentOverlap);
                }
                if stretch.to == piece.from {
                    grown.from = stretch.from;
                    words[index] = 0;
                } else if stretch.from == piece.to {
                    grown.to = stretch.to;
                    words[index] = 0;
                }
            }
            if words[index] == 0 && free == STRETCHES {
                free = index;
            }
            index += 1;
        }
        if free == STRETCHES {
            return Err(Reason::FragmentScattered);
        }
        // No index of a variable: the verifier follows no such pointer into the stack.
        index = 0;
        while index < STRETCHES {
            if index == free {
                words[index] = grown.word();
            }
            index += 1;
        }
        Ok(Self(words))
    }
}

/// How long a fragment is held. Packets that overtake each other on a network do so within
/// milliseconds.
pub const HOLD_NS: u64 = 500_000_000;

/// How long the program relies on the controller's word that it takes held fragments.
pub const HOLDER_NS: u64 = 2_000_000_000;

/// Fragments that a CPU hands over: one in so many nanoseconds on average, and so many at once.
pub const HELD_EVERY_NS: u64 = 200_000;
const HELD_AT_ONCE: u64 = 512;

/// Whether this CPU may hand one over now; `due` as in [`refusal::is_due`].
#[inline(always)]
pub const fn may_hold(due: &mut u64, now_ns: u64) -> bool {
    refusal::is_due_at(due, now_ns, HELD_EVERY_NS, HELD_AT_ONCE * HELD_EVERY_NS)
}

/// A frame that is held, as it stands in the ring buffer `HELD`. `N`: its most bytes.
#[repr(C)]
pub struct Held<const N: usize> {
    pub length: u32,
    pub reserved: u32,
    pub frame: [u8; N],
}

/// The frame in an item of that ring buffer.
pub fn held_frame(item: &[u8]) -> Option<&[u8]> {
    let (length, rest) = item.split_first_chunk()?;
    rest.get(4..)?.get(..u32::from_ne_bytes(*length) as usize)
}

/// Most bytes of frames on an ordinary network, and of jumbo frames. Larger ones are not held.
pub const ORDINARY: usize = 2040;
pub const JUMBO: usize = 9720;

const _: () = assert!(size_of::<Held<ORDINARY>>() == 2048 && size_of::<Held<JUMBO>>() == 9728);

/// What stands before a frame, as XDP's metadata, that the controller has the program look at
/// again: it is not held once more.
pub const AGAIN: u64 = u64::from_ne_bytes(*b"lb again");

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn piece(from: u16, to: u16) -> Piece {
        Piece { from, to }
    }

    #[test]
    fn fragments_in_order_are_one_stretch() {
        let mut covered = Covered::NOTHING;
        assert_eq!(covered.with(piece(0, 2)), Ok(Covered::of(piece(0, 2))));
        for from in (0..8_000).step_by(185) {
            covered = covered.with(Piece::new(from, 1480, true).unwrap()).unwrap();
            assert_eq!(covered.0.iter().filter(|word| **word != 0).count(), 1);
        }
        assert_eq!(covered.with(piece(100, 101)), Err(Reason::FragmentOverlap));
        assert!(covered.with(piece(8_140, 8_141)).is_ok());
    }

    #[test]
    fn a_piece_that_fills_a_hole_joins_both_sides() {
        let covered = Covered::NOTHING.with(piece(0, 2)).unwrap().with(piece(3, 4)).unwrap();
        let whole = covered.with(piece(2, 3)).unwrap();
        assert_eq!(whole.0.iter().filter(|word| **word != 0).count(), 1);
        assert_eq!(whole.with(piece(0, 4)), Err(Reason::FragmentOverlap));
    }

    #[test]
    fn a_datagram_is_whole_once_nothing_is_missing() {
        let last = Piece::new(20, 13, false).unwrap();
        let covered = Covered::of(piece(0, 10)).with(last).unwrap();
        assert_eq!(covered.with(piece(23, 24)), Err(Reason::FragmentOverlap), "behind the last one");
        let whole = |pieces: &[Piece]| {
            let sum = pieces.iter().map(|piece| piece.progress()).sum();
            Progress(sum).is_whole()
        };
        assert!(!whole(&[]) && !whole(&[piece(0, 10)]) && !whole(&[piece(0, 10), last]));
        assert!(whole(&[piece(0, 10), last, piece(10, 20)]));
        assert!(!whole(&[piece(10, 20), last]), "no first one");
    }

    #[test]
    fn a_flood_is_not_held() {
        let mut due = 0;
        let mut held_at = |now| (0..10_000).filter(|_| may_hold(&mut due, now)).count();
        assert_eq!([held_at(HOLD_NS), held_at(HOLD_NS), held_at(2 * HOLD_NS)], [512, 0, 512]);
    }

    #[test]
    fn what_no_datagram_has_is_told() {
        assert_eq!(Piece::new(0, 1480, true), Ok(piece(0, 185)));
        assert_eq!(Piece::new(185, 13, false), Ok(piece(185, END)), "nothing follows it");
        assert_eq!(Piece::new(8_191, 7, false), Ok(piece(8_191, END)), "the last byte there can be");
        for (offset, length, more) in
            [(0, 0, true), (0, 1479, true), (8_191, 8, false), (1, 65_528, false), (0, usize::MAX, false)]
        {
            assert_eq!(Piece::new(offset, length, more), Err(Reason::BadLength), "{length} at {offset}");
        }
    }

    /// A bit for each unit.
    struct Model(Vec<bool>);

    impl Model {
        fn with(&mut self, piece: Piece) -> Result<(), Reason> {
            let range = usize::from(piece.from)..usize::from(piece.to);
            if self.0[range.clone()].contains(&true) {
                return Err(Reason::FragmentOverlap);
            }
            let mut after = self.0.clone();
            after[range].fill(true);
            let begins = |at: usize| after[at] && (at == 0 || !after[at - 1]);
            if (0..after.len()).filter(|at| begins(*at)).count() > STRETCHES {
                return Err(Reason::FragmentScattered);
            }
            self.0 = after;
            Ok(())
        }
    }

    /// Pieces of so many times 8 bytes, one after the other, none of which is the last.
    fn in_order(lengths: &[usize]) -> Vec<Piece> {
        let mut from = 0;
        let next = |units: &usize| {
            let piece = Piece::new(from, units * 8, true).unwrap();
            from = piece.to;
            piece
        };
        lengths.iter().map(next).collect()
    }

    proptest! {
        #[test]
        fn covers_what_a_bitmap_covers(pieces in proptest::collection::vec((0u16..64, 1u16..12), 1..40)) {
            let mut model = Model(vec![false; 80]);
            let mut covered = Covered::NOTHING;
            for (from, length) in pieces {
                let piece = piece(from, from + length);
                let result = covered.with(piece);
                prop_assert_eq!(result.map(drop), model.with(piece));
                covered = result.unwrap_or(covered);
            }
        }

        /// Whatever order the fragments of one datagram come in, none is taken for an overlap.
        #[test]
        fn fragments_of_one_datagram_never_overlap(
            lengths in proptest::collection::vec(1usize..190, 1..30),
            swaps in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let mut pieces = in_order(&lengths);
            let count = pieces.len();
            swaps.iter().for_each(|swap| pieces.swap(0, swap.index(count)));
            let mut covered = Covered::NOTHING;
            for piece in pieces {
                match covered.with(piece) {
                    Ok(next) => covered = next,
                    Err(reason) => prop_assert_eq!(reason, Reason::FragmentScattered),
                }
            }
        }

        /// Whatever the order, and whichever CPUs add, a datagram is whole with its last missing
        /// piece and not before, and one of them sees it.
        #[test]
        fn one_cpu_makes_a_datagram_whole(
            lengths in proptest::collection::vec(1usize..190, 1..24),
            order in any::<u64>(),
        ) {
            use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

            let mut pieces = in_order(&lengths);
            let from = pieces.last().map_or(0, |last| last.to);
            pieces.push(Piece::new(from, 5, false).unwrap());
            let places = pieces.len();
            (0..places).for_each(|at| pieces.swap(at, (order >> (at % 58)) as usize % places));
            let (sum, wholes) = (AtomicU64::new(0), AtomicUsize::new(0));
            let halves = pieces.split_at(pieces.len() / 2);
            std::thread::scope(|scope| {
                for half in [halves.0, halves.1] {
                    let (sum, wholes) = (&sum, &wholes);
                    scope.spawn(move || {
                        for piece in half {
                            let added = piece.progress();
                            let after = Progress(sum.fetch_add(added, Ordering::Relaxed) + added);
                            wholes.fetch_add(usize::from(after.is_whole()), Ordering::Relaxed);
                        }
                    });
                }
            });
            prop_assert_eq!(wholes.load(Ordering::Relaxed), 1);
        }

        /// Words of two CPUs' writes that got mixed tell of nothing that has not come.
        #[test]
        fn mixed_words_make_no_overlap(
            pieces in proptest::collection::vec((0u16..64, 1u16..8), 1..20),
            mask in any::<[bool; STRETCHES]>(),
            another in (0u16..64, 1u16..8),
        ) {
            let mut came = [false; 80];
            let (mut before, mut covered) = (Covered::NOTHING, Covered::NOTHING);
            for (from, length) in pieces {
                let piece = piece(from, from + length);
                if let Ok(next) = covered.with(piece) {
                    came[usize::from(piece.from)..usize::from(piece.to)].fill(true);
                    (before, covered) = (covered, next);
                }
            }
            let mixed = core::array::from_fn(|at| if mask[at] { before.0[at] } else { covered.0[at] });
            let another = piece(another.0, another.0 + another.1);
            let range = usize::from(another.from)..usize::from(another.to);
            if Covered(mixed).with(another) == Err(Reason::FragmentOverlap) {
                prop_assert!(came[range].contains(&true));
            }
        }
    }
}

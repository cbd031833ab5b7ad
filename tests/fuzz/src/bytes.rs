//! Strategies for bytes: arbitrary ones, and samples with a few changes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A change of a sample.
#[derive(Debug, Clone)]
pub enum Edit {
    Set(Index, u8),
    Flip(Index, u8),
    /// A number in one to eight bytes, such as a length, big-endian or little-endian.
    Number(Index, u64, u8, bool),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
}

/// Boundary values of lengths and counts.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// Maximum length. Repetition can exceed most of our limits on lines, headers and messages; longer
/// input would be slow.
const LONGEST: usize = 100_000;

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Set(at, value) => bytes[at.index(length)] = *value,
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << (bit % 8),
            Self::Number(at, number, width, first_byte_first) => {
                let width = usize::from(width % 8) + 1;
                let mut digits = number.to_be_bytes()[8 - width..].to_vec();
                if !first_byte_first {
                    digits.reverse();
                }
                let at = at.index(length);
                let end = (at + width).min(length);
                bytes[at..end].copy_from_slice(&digits[..end - at]);
            }
            Self::Insert(at, new) => {
                let at = at.index(length + 1);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..(at + count).min(length));
            }
            Self::Repeat(at, count, times) => {
                let at = at.index(length);
                let part = bytes[at..(at + count).min(length)].to_vec();
                let times = (*times).min(LONGEST.saturating_sub(length) / part.len().max(1));
                bytes.splice(at..at, part.repeat(times));
            }
            Self::Cut(at) => bytes.truncate(at.index(length)),
        }
    }
}

pub fn apply(edits: &[Edit], bytes: &mut Vec<u8>) {
    edits.iter().for_each(|edit| edit.apply(bytes));
}

pub fn edits(most: usize) -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<Index>;
    let edit = prop_oneof![
        6 => (at(), any::<u8>()).prop_map(|(at, value)| Edit::Set(at, value)),
        4 => (at(), any::<u8>()).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        4 => (at(), select(&NUMBERS[..]), any::<u8>(), any::<bool>())
            .prop_map(|(at, number, width, order)| Edit::Number(at, number, width, order)),
        2 => (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, new)| Edit::Insert(at, new)),
        2 => (at(), 1..40_usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        1 => (at(), 1..40_usize, prop_oneof![9 => 1..10_usize, 1 => 1000..5000_usize])
            .prop_map(|(at, count, times)| Edit::Repeat(at, count, times)),
        1 => at().prop_map(Edit::Cut),
    ];
    vec(edit, 0..=most)
}

/// A changed sample, two concatenated samples, or arbitrary bytes.
pub fn nearly(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let one = (select(samples.clone()), edits(6)).prop_map(|(mut sample, edits)| {
        apply(&edits, &mut sample);
        sample
    });
    let two = (select(samples.clone()), select(samples), edits(4)).prop_map(|(first, second, edits)| {
        let mut both = [first, second].concat();
        apply(&edits, &mut both);
        both
    });
    prop_oneof![6 => one, 2 => two, 1 => vec(any::<u8>(), 0..600)]
}

/// Like [`nearly`], from constants.
pub fn samples<const N: usize>(samples: [&[u8]; N]) -> Vec<Vec<u8>> {
    samples.map(<[u8]>::to_vec).to_vec()
}

/// Splits `bytes` at these indices.
pub fn pieces(bytes: &[u8], cuts: &[Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).collect()
}

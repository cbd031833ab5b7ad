//! The Internet checksum (RFC 1071): whole, and mended after a change of one word (RFC 1624).

/// The checksum of what `sum` adds up to: words of two bytes, each as it stands in the packet or
/// each in host byte order.
#[inline(always)]
pub const fn of(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded + (folded >> 16)) as u16)
}

/// The sum of the two words in a word of four bytes.
#[inline(always)]
pub const fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// The checksum after the word `old` has become `new`. All three are in the same byte order.
#[inline(always)]
pub const fn mended(checksum: u16, old: u16, new: u16) -> u16 {
    // Equation 3 of RFC 1624.
    of((!checksum) as u32 + (!old) as u32 + new as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = [0x0001, 0xf203, 0xf4f5, 0xf6f7].iter().sum();
        assert_eq!(of(sum), !0xddf2);
    }

    proptest! {
        #[test]
        fn a_mended_checksum_is_that_of_the_changed_words(
            words in proptest::collection::vec(any::<u16>(), 2..30),
            place: proptest::sample::Index,
            new: u16,
        ) {
            let whole = |words: &[u16]| of(words.iter().map(|word| u32::from(*word)).sum());
            let mut changed = words.clone();
            let old = std::mem::replace(place.get_mut(&mut changed), new);
            let mended = mended(whole(&words), old, new);
            // All words zero have no other sum than 0, which RFC 1624 may write as its complement.
            if changed.iter().any(|word| *word != 0) {
                prop_assert_eq!(mended, whole(&changed));
            }
        }
    }
}

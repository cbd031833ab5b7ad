//! MAC addresses as the maps hold them.

use core::fmt;
use core::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A MAC address as a number: byte 0 of the address in bits 0 to 7, byte 5 in bits 40 to 47, the
/// rest zero. Zero is no station's address, and stands for none.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Mac(u64);

impl Mac {
    pub const NONE: Self = Self(0);
    const MASK: u64 = 0xffff_ffff_ffff;

    pub const fn new(octets: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = octets;
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// The lower 48 bits of a word.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word & Self::MASK)
    }

    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    pub const fn octets(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }

    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl From<[u8; 6]> for Mac {
    fn from(octets: [u8; 6]) -> Self {
        Self::new(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.octets();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

/// Text that is not six groups of two hexadecimal digits, with colons between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAMac;

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address, expected the form 02:00:0a:4d:00:15")
    }
}

impl core::error::Error for NotAMac {}

impl FromStr for Mac {
    type Err = NotAMac;

    /// Parses what [`Mac`]'s `Display` prints, in digits of either case.
    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut groups = text.split(':');
        let mut octets = [0; 6];
        for octet in &mut octets {
            let digits = groups.next().ok_or(NotAMac)?;
            if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NotAMac);
            }
            *octet = u8::from_str_radix(digits, 16).map_err(|_| NotAMac)?;
        }
        if groups.next().is_some() { Err(NotAMac) } else { Ok(Self::new(octets)) }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn octets_stand_in_the_word_in_their_order() {
        let mac = Mac::new([2, 1, 3, 4, 5, 0xa6]);
        assert_eq!(mac.word(), 0xa605_0403_0102);
        assert_eq!(mac.octets(), [2, 1, 3, 4, 5, 0xa6]);
        assert_eq!(mac.to_string(), "02:01:03:04:05:a6");
        assert_eq!(Mac::from_word(u64::MAX).octets(), [0xff; 6]);
    }
    #[test]
    fn what_is_printed_is_parsed_again_and_nothing_else_is() {
        let mac = Mac::new([2, 0, 10, 77, 0, 0xa6]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("02:00:0A:4D:00:A6".parse(), Ok(mac));
        for wrong in ["", "02:00:0a:4d:00", "02:00:0a:4d:00:a6:", "2:0:a:4d:0:a6", "02:00:0a:4d:00:+6"] {
            assert_eq!(wrong.parse::<Mac>(), Err(NotAMac), "{wrong}");
        }
    }
}

//! QUIC connection IDs that name their server, by the IETF's draft "QUIC-LB"
//! (draft-ietf-quic-load-balancers): plain, or encrypted as one AES block.
//!
//! A connection ID is one octet, the server ID and a nonce. The octet's three highest bits tell by
//! which of up to seven configurations to read it, so that a new one can be brought in while
//! connections of the old one go on.

pub mod aes;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use self::aes::RoundKeys;

/// Numbers of configurations are below this; the last number of three bits says that the
/// connection ID names no server.
pub const ROTATIONS: u8 = 7;
pub const MAX_SERVER_ID: usize = 15;
pub const MIN_NONCE: u8 = 4;
pub const MAX_NONCE: u8 = 18;
/// What the draft allows for server ID and nonce together: a connection ID has 20 bytes.
pub const MAX_SUM: u8 = 19;
/// Server ID and nonce together where they are encrypted: one block.
pub const BLOCK: u8 = 16;

/// How connection IDs of one configuration of a service are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Encoding {
    /// Bytes, 1 to [`MAX_SERVER_ID`].
    pub server_id_length: u8,
    /// Not 0: the block is encrypted with the key of `keys`.
    pub is_encrypted: u8,
    pub reserved: [u8; 2],
    pub keys: RoundKeys,
}

/// Which encoding: by service and configuration.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EncodingKey {
    pub service: u16,
    pub rotation: u16,
}

/// Which server: by service, configuration and server ID.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ServerKey {
    pub service: u16,
    pub rotation: u16,
    /// The server ID's bytes, and zeros behind them.
    pub id: [u32; 4],
}

/// A server ID as [`ServerKey`] has it, of at most [`MAX_SERVER_ID`] bytes.
pub fn id_words(id: &[u8]) -> [u32; 4] {
    let mut block = [0; 16];
    block[..id.len()].copy_from_slice(id);
    words(block)
}

/// The block's words in network byte order, as numbers.
#[inline(always)]
fn words(block: [u8; 16]) -> [u32; 4] {
    let word = |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    [word(0), word(4), word(8), word(12)]
}

/// Where a packet's connection ID begins, from the beginning of the UDP payload, as far as its
/// first octet tells; the rest is QUIC's invariants (RFC 8999).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The client may have made the connection ID up.
    Long,
    /// The connection ID is the server's.
    Short,
}

impl Header {
    #[inline(always)]
    pub const fn of(first_octet: u8) -> Self {
        if first_octet & 0x80 != 0 { Self::Long } else { Self::Short }
    }

    /// A long header has the version and the length of the connection ID in between.
    #[inline(always)]
    pub const fn connection_id_at(self) -> usize {
        match self {
            Self::Long => 6,
            Self::Short => 1,
        }
    }
}

/// Offset of the connection ID's length in a long header.
pub const LENGTH_AT: usize = 5;

/// The configuration by which a connection ID with this first octet is read.
#[inline(always)]
pub const fn rotation(first_octet: u8) -> u8 {
    first_octet >> 5
}

impl Encoding {
    /// The shortest connection ID that can be read.
    #[inline(always)]
    pub const fn least_length(&self) -> u8 {
        1 + if self.is_encrypted != 0 { BLOCK } else { self.server_id_length }
    }

    /// The server ID, as [`ServerKey`] has it, from the four words behind the connection ID's first
    /// octet, in network byte order as numbers.
    #[inline(always)]
    pub fn server_id(&self, block: [u32; 4]) -> [u32; 4] {
        let plain = if self.is_encrypted != 0 { aes::decrypt(&self.keys, block) } else { block };
        let [a, b, c, d] = plain;
        let length = u32::from(self.server_id_length);
        [
            first_bytes(a, length, 0),
            first_bytes(b, length, 4),
            first_bytes(c, length, 8),
            first_bytes(d, length, 12),
        ]
    }
}

/// The bytes of the word at offset `at` that are among the first `length` ones of all.
#[inline(always)]
const fn first_bytes(word: u32, length: u32, at: u32) -> u32 {
    let bytes = length.saturating_sub(at);
    let bytes = if bytes > 4 { 4 } else { bytes };
    // Shifted as 64 bits: by 32 it leaves nothing.
    word & !(u32::MAX as u64 >> (bytes * 8)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(server_id_length: u8) -> Encoding {
        Encoding { server_id_length, is_encrypted: 0, reserved: [0; 2], keys: RoundKeys::NONE }
    }

    proptest! {
        #[test]
        fn a_server_id_is_the_first_bytes_of_the_block(block: [u8; 16], length in 1..=15_u8) {
            let id = plain(length).server_id(words(block));
            prop_assert_eq!(id, id_words(&block[..usize::from(length)]));
        }

        #[test]
        fn an_encrypted_server_id_is_the_first_bytes_of_the_decrypted_block(
            block: [u8; 16], key: [u8; 16], length in 1..=15_u8,
        ) {
            let keys = RoundKeys::for_decryption(key);
            let encoding = Encoding { is_encrypted: 1, keys, ..plain(length) };
            let encrypted = aes::tests::encrypt(key, block);
            prop_assert_eq!(encoding.server_id(words(encrypted)), id_words(&block[..usize::from(length)]));
        }
    }

    #[test]
    fn the_header_tells_where_the_connection_id_is() {
        assert_eq!(Header::of(0x40).connection_id_at(), 1);
        assert_eq!(Header::of(0xc3).connection_id_at(), 6);
        assert_eq!((rotation(0xff), rotation(0x3f), rotation(0x40)), (7, 1, 2));
    }

    #[test]
    fn the_shortest_connection_id_has_the_server_id_or_the_block() {
        let encrypted = Encoding { is_encrypted: 1, ..plain(3) };
        assert_eq!((plain(3).least_length(), encrypted.least_length()), (4, 17));
    }
}

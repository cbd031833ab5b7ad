//! One block of AES-128, decrypted (FIPS 197), in a form that the XDP program can run: with tables,
//! and without a loop over memory of its own. Kernels before 6.10 have no AES for programs.
//!
//! A lookup's time depends on what the processor has cached. What it guards here is only which
//! server a connection ID names, from observers who cannot measure the director's cache.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Round keys of the equivalent inverse cipher, in the order in which decryption takes them.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct RoundKeys([u32; 44]);

/// A secret is not shown.
impl core::fmt::Debug for RoundKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RoundKeys(…)")
    }
}

const ROUNDS: usize = 10;

const SBOX: [u8; 256] = sbox();
static INVERSE_SBOX: [u8; 256] = inverse_sbox();
/// InvSubBytes and the first column of InvMixColumns in one.
static INVERSE_COLUMN: [u32; 256] = inverse_column();

impl RoundKeys {
    pub const NONE: Self = Self([0; 44]);

    pub fn for_decryption(key: [u8; 16]) -> Self {
        let forward = expanded(key);
        let mut keys = [0; 44];
        for round in 0..=ROUNDS {
            for column in 0..4 {
                let word = forward[(ROUNDS - round) * 4 + column];
                let is_outer = round == 0 || round == ROUNDS;
                keys[round * 4 + column] = if is_outer { word } else { inverse_mix_column(word) };
            }
        }
        Self(keys)
    }
}

/// Decrypts a block of four words, each in network byte order as a number.
#[inline(always)]
pub fn decrypt(keys: &RoundKeys, block: [u32; 4]) -> [u32; 4] {
    let keys = &keys.0;
    let [a, b, c, d] = block;
    let (mut a, mut b, mut c, mut d) = (a ^ keys[0], b ^ keys[1], c ^ keys[2], d ^ keys[3]);
    let mut at = 4;
    while at < ROUNDS * 4 {
        let next = (
            column(a, d, c, b) ^ keys[at],
            column(b, a, d, c) ^ keys[at + 1],
            column(c, b, a, d) ^ keys[at + 2],
            column(d, c, b, a) ^ keys[at + 3],
        );
        (a, b, c, d) = next;
        at += 4;
    }
    [
        last_column(a, d, c, b) ^ keys[40],
        last_column(b, a, d, c) ^ keys[41],
        last_column(c, b, a, d) ^ keys[42],
        last_column(d, c, b, a) ^ keys[43],
    ]
}

/// InvShiftRows, InvSubBytes and InvMixColumns of one column, whose bytes stand in these words.
#[inline(always)]
fn column(first: u32, second: u32, third: u32, fourth: u32) -> u32 {
    let of = |byte: u32| INVERSE_COLUMN[(byte & 0xff) as usize];
    of(first >> 24)
        ^ of(second >> 16).rotate_right(8)
        ^ of(third >> 8).rotate_right(16)
        ^ of(fourth).rotate_right(24)
}

/// The last round has no InvMixColumns.
#[inline(always)]
fn last_column(first: u32, second: u32, third: u32, fourth: u32) -> u32 {
    let of = |byte: u32| u32::from(INVERSE_SBOX[(byte & 0xff) as usize]);
    of(first >> 24) << 24 | of(second >> 16) << 16 | of(third >> 8) << 8 | of(fourth)
}

/// The key schedule of encryption.
fn expanded(key: [u8; 16]) -> [u32; 44] {
    let mut words = [0; 44];
    for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    let mut constant = 1;
    for at in 4..44 {
        let mut word = words[at - 1];
        if at % 4 == 0 {
            word = substituted(word.rotate_left(8)) ^ u32::from(constant) << 24;
            constant = double(constant);
        }
        words[at] = words[at - 4] ^ word;
    }
    words
}

fn substituted(word: u32) -> u32 {
    u32::from_be_bytes(word.to_be_bytes().map(|byte| SBOX[usize::from(byte)]))
}

fn inverse_mix_column(word: u32) -> u32 {
    let [a, b, c, d] = word.to_be_bytes().map(|byte| INVERSE_COLUMN[usize::from(SBOX[usize::from(byte)])]);
    a ^ b.rotate_right(8) ^ c.rotate_right(16) ^ d.rotate_right(24)
}

/// Multiplied by x in the field of AES.
const fn double(byte: u8) -> u8 {
    byte << 1 ^ if byte & 0x80 != 0 { 0x1b } else { 0 }
}

const fn product(mut a: u8, mut b: u8) -> u8 {
    let mut sum = 0;
    while b != 0 {
        if b & 1 != 0 {
            sum ^= a;
        }
        a = double(a);
        b >>= 1;
    }
    sum
}

const fn sbox() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        // The 254th power is the inverse.
        let (mut inverse, mut power) = (1, 0);
        while power < 254 {
            inverse = product(inverse, byte as u8);
            power += 1;
        }
        let b = inverse;
        table[byte] = b ^ b.rotate_left(1) ^ b.rotate_left(2) ^ b.rotate_left(3) ^ b.rotate_left(4) ^ 0x63;
        byte += 1;
    }
    table
}

const fn inverse_sbox() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[SBOX[byte] as usize] = byte as u8;
        byte += 1;
    }
    table
}

const fn inverse_column() -> [u32; 256] {
    let substituted = inverse_sbox();
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let s = substituted[byte];
        table[byte] = u32::from_be_bytes([product(s, 14), product(s, 9), product(s, 13), product(s, 11)]);
        byte += 1;
    }
    table
}

#[cfg(test)]
pub(super) mod tests {
    use aes::Aes128;
    use aes::cipher::{BlockEncrypt as _, KeyInit as _};
    use proptest::prelude::*;

    use super::super::words;
    use super::*;

    pub(in super::super) fn encrypt(key: [u8; 16], block: [u8; 16]) -> [u8; 16] {
        let mut encrypted = block.into();
        Aes128::new(&key.into()).encrypt_block(&mut encrypted);
        encrypted.into()
    }

    /// FIPS 197, appendix C.1.
    #[test]
    fn the_standards_example_comes_out() {
        let key = core::array::from_fn(|byte| byte as u8);
        let encrypted =
            [0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30, 0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a];
        let plain = decrypt(&RoundKeys::for_decryption(key), words(encrypted));
        assert_eq!(plain, [0x0011_2233, 0x4455_6677, 0x8899_aabb, 0xccdd_eeff]);
    }

    proptest! {
        #[test]
        fn what_was_encrypted_is_decrypted(key: [u8; 16], block: [u8; 16]) {
            let plain = decrypt(&RoundKeys::for_decryption(key), words(encrypt(key, block)));
            prop_assert_eq!(plain, words(block));
        }
    }
}

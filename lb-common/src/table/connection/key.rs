//! What the connection table knows a connection by.

use crate::addr::{Address, V4, V6};

/// Client and ports of a connection, as its slot in the table holds them. The entry's server, which
/// belongs to one service, tells VIP and protocol.
pub trait Key: Copy + PartialEq {
    type Address: Address<Key = Self>;

    /// Words of 8 bytes that it takes in a slot. The entry takes one more.
    const WORDS: u32;

    fn from_words(word: impl Fn(u32) -> u64) -> Self;
    /// The word of this number, below [`Self::WORDS`].
    fn word(self, number: u32) -> u64;
    /// One word of all, mixed with the secret `keys`, the second one odd, so that nobody outside
    /// can aim at a line of the table.
    fn mixed(self, keys: [u64; 2]) -> u64;

    fn client(self) -> Self::Address;
    /// The ports as they stand in a packet: client, service.
    fn ports(self) -> [u16; 2];
}

#[inline(always)]
const fn ports_word(client: u16, service: u16) -> u64 {
    (client as u64) << 16 | service as u64
}

/// An IPv4 connection's key, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyV4(pub u64);

impl KeyV4 {
    /// Address and ports as they stand in the packet (network byte order).
    #[inline(always)]
    pub const fn new(client: V4, client_port: u16, service_port: u16) -> Self {
        Self((client.0 as u64) << 32 | ports_word(client_port, service_port))
    }
}

impl Key for KeyV4 {
    type Address = V4;
    const WORDS: u32 = 1;

    #[inline(always)]
    fn from_words(word: impl Fn(u32) -> u64) -> Self {
        Self(word(0))
    }
    #[inline(always)]
    fn word(self, _number: u32) -> u64 {
        self.0
    }
    #[inline(always)]
    fn mixed(self, keys: [u64; 2]) -> u64 {
        (self.0 ^ keys[0]).wrapping_mul(keys[1] | 1)
    }
    fn client(self) -> V4 {
        V4((self.0 >> 32) as u32)
    }
    fn ports(self) -> [u16; 2] {
        [(self.0 >> 16) as u16, self.0 as u16]
    }
}

/// An IPv6 connection's key: two words of the address, one of the ports.
#[derive(Debug, Clone, Copy, Eq, PartialOrd, Ord)]
pub struct KeyV6([u64; 3]);

/// With one branch for all words: a look at a slot is less code, and fewer ways for the verifier.
impl PartialEq for KeyV6 {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let [a, b, c] = self.0;
        let [x, y, z] = other.0;
        (a ^ x) | (b ^ y) | (c ^ z) == 0
    }
}

impl KeyV6 {
    /// Address and ports as they stand in the packet (network byte order).
    #[inline(always)]
    pub const fn new(client: V6, client_port: u16, service_port: u16) -> Self {
        Self([client.0[0], client.0[1], ports_word(client_port, service_port)])
    }
}

impl Key for KeyV6 {
    type Address = V6;
    const WORDS: u32 = 3;

    #[inline(always)]
    fn from_words(word: impl Fn(u32) -> u64) -> Self {
        Self([word(0), word(1), word(2)])
    }
    #[inline(always)]
    fn word(self, number: u32) -> u64 {
        let [first, second, third] = self.0;
        match number {
            0 => first,
            1 => second,
            _ => third,
        }
    }
    /// Each word is multiplied before the next one is added: addresses that differ in two words
    /// must not meet in one line.
    #[inline(always)]
    fn mixed(self, keys: [u64; 2]) -> u64 {
        let odd = keys[1] | 1;
        let mixed = (self.0[0] ^ keys[0]).wrapping_mul(odd);
        let mixed = ((mixed ^ (mixed >> 32)).wrapping_add(self.0[1])).wrapping_mul(odd);
        ((mixed ^ (mixed >> 32)).wrapping_add(self.0[2])).wrapping_mul(odd)
    }
    fn client(self) -> V6 {
        V6([self.0[0], self.0[1]])
    }
    fn ports(self) -> [u16; 2] {
        [(self.0[2] >> 16) as u16, self.0[2] as u16]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_client_and_ports() {
        let key = KeyV4::new(V4(0xc0a8_0102), 0x1234, 0x5678);
        assert_eq!((key.client(), key.ports()), (V4(0xc0a8_0102), [0x1234, 0x5678]));
        let key = KeyV6::new(V6([1, 2]), 0x1234, 0x5678);
        assert_eq!((key.client(), key.ports()), (V6([1, 2]), [0x1234, 0x5678]));
        assert_eq!(KeyV6::from_words(|number| key.word(number)), key);
    }
}

//! The keys that heartbeats are signed with, and the file they are in.
//!
//! A tag is the first half of an HMAC-SHA-256 (RFC 2104, section 5: no less than half; RFC 4868
//! uses the same 128 bits) over the whole message. It proves that a node of this cluster made the
//! message; that it was made just now is [`replay`](super::replay)'s matter. A message is signed
//! with one key and verified with the one it names, so keys are changed without a stop:
//!
//! 1. add the new key to the file of every node and reload: all verify with it, none signs with it
//!    yet;
//! 2. change `sign` on every node and reload;
//! 3. once all have done so, remove the old key.
//!
//! Keys are never printed: [`Keys`] shows their ids.

use std::collections::BTreeMap;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use lb_model::ids::name_hash;
use sha2::Sha256;

use super::wire::TAG_LENGTH;

pub mod file;
#[cfg(test)]
mod tests;

/// Which key of the file; part of each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u8);

/// Tells apart clusters that share a network; not a secret and no protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId(pub u32);

impl ClusterId {
    /// The first four bytes of the SHA-256 of the cluster's name.
    pub fn of(name: &str) -> Self {
        Self(name_hash(name))
    }
}

/// All keys that are accepted, and the one that is signed with.
#[derive(Clone)]
pub struct Keys {
    accepted: BTreeMap<KeyId, Hmac<Sha256>>,
    sign_with: KeyId,
    signer: Hmac<Sha256>,
}

/// Why a message's signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    UnknownKey,
    BadMac,
}

impl Keys {
    /// `None` if `sign_with` is not among them.
    pub fn new<'a>(keys: impl IntoIterator<Item = (KeyId, &'a [u8])>, sign_with: KeyId) -> Option<Self> {
        let accepted: BTreeMap<_, _> =
            keys.into_iter().filter_map(|(id, secret)| Some((id, keyed(secret)?))).collect();
        let signer = accepted.get(&sign_with)?.clone();
        Some(Self { accepted, sign_with, signer })
    }

    pub fn sign_with(&self) -> KeyId {
        self.sign_with
    }

    pub fn sign(&self, bytes: &[u8]) -> [u8; TAG_LENGTH] {
        let whole: [u8; 32] = self.signer.clone().chain_update(bytes).finalize().into_bytes().into();
        std::array::from_fn(|index| whole[index])
    }

    /// Takes the same time whichever byte of the tag is wrong.
    pub fn verify(&self, key: KeyId, bytes: &[u8], tag: &[u8; TAG_LENGTH]) -> Result<(), Refused> {
        let mac = self.accepted.get(&key).ok_or(Refused::UnknownKey)?;
        mac.clone().chain_update(bytes).verify_truncated_left(tag).map_err(|_| Refused::BadMac)
    }
}

/// An HMAC takes keys of any length: this never is `None`.
fn keyed(secret: &[u8]) -> Option<Hmac<Sha256>> {
    Hmac::new_from_slice(secret).ok()
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accepted: Vec<_> = self.accepted.keys().map(|id| id.0).collect();
        f.debug_struct("Keys")
            .field("accepted", &accepted)
            .field("sign_with", &self.sign_with.0)
            .finish_non_exhaustive()
    }
}

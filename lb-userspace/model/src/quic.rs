//! QUIC-LB: connection IDs that name their server.

use std::collections::BTreeMap;
use std::fmt;

pub use lb_common::packet::quic::{
    BLOCK as QUIC_BLOCK, MAX_NONCE as QUIC_MAX_NONCE, MAX_SERVER_ID as QUIC_MAX_SERVER_ID,
    MAX_SUM as QUIC_MAX_SUM, MIN_NONCE as QUIC_MIN_NONCE, ROTATIONS as QUIC_ROTATIONS,
};

/// How a service's connection IDs of one configuration are made, as its servers make them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuicEncoding {
    /// 0 to 6: the three highest bits of a connection ID, which tell the configuration.
    pub rotation: u8,
    /// Bytes, 1 to 15.
    pub server_id_length: u8,
    /// Bytes, 4 to 18; with the server ID at most 19, and exactly 16 where there is a key.
    pub nonce_length: u8,
    /// `None`: server ID and nonce are not encrypted.
    pub key: Option<QuicKey>,
}

/// The secret that servers and directors share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QuicKey(pub [u8; 16]);

/// A secret is not shown.
impl fmt::Debug for QuicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicKey(…)")
    }
}

/// The IDs of one server, by configuration.
pub type QuicServerIds = BTreeMap<u8, Vec<u8>>;

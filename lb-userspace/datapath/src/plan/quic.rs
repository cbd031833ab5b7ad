//! QUIC-LB: from the configuration to what the program reads connection IDs by.

use std::collections::BTreeMap;

use lb_common::packet::quic::aes::RoundKeys;
use lb_common::packet::quic::{Encoding, id_words};
use lb_model::{QuicEncoding, QuicServerIds};

use super::Target;

/// How a service's connection IDs are read and which servers they name; empty: not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quic {
    /// By the number of the configuration.
    pub encodings: BTreeMap<u8, Encoding>,
    /// By configuration and server ID.
    pub servers: BTreeMap<(u8, [u32; 4]), Target>,
}

impl Quic {
    pub fn new<'a>(
        encodings: &[QuicEncoding],
        servers: impl Iterator<Item = (Target, &'a QuicServerIds)>,
    ) -> Self {
        let named = servers.flat_map(|(target, ids)| {
            ids.iter().map(move |(rotation, id)| ((*rotation, id_words(id)), target))
        });
        Self {
            encodings: encodings.iter().map(|encoding| (encoding.rotation, read_by(encoding))).collect(),
            servers: named.collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.encodings.is_empty()
    }
}

fn read_by(encoding: &QuicEncoding) -> Encoding {
    Encoding {
        server_id_length: encoding.server_id_length,
        is_encrypted: encoding.key.is_some().into(),
        reserved: [0; 2],
        keys: encoding.key.map_or(RoundKeys::NONE, |key| RoundKeys::for_decryption(key.0)),
    }
}

//! The servers that QUIC connection IDs name.

use lb_common::reason::TableEvent;

use super::Model;
use super::walk::Seen;

/// Of QUIC's packets, bytes (RFC 8999).
const UDP_HEADER: usize = 8;
const LENGTH_AT: usize = 5;
const ENCRYPTED: u8 = 16;

impl Model {
    /// The server that the packet names, if it names one that can be had. `known`: the one of its
    /// connection.
    pub(super) fn named(
        &mut self,
        frame: &[u8],
        service: usize,
        seen: &Seen,
        known: Option<usize>,
    ) -> Option<usize> {
        let of = &self.setting.services[service];
        if !of.settings.quic {
            return None;
        }
        let at = seen.transport + UDP_HEADER;
        let head = frame.get(at..=at + LENGTH_AT)?;
        // What a client has made up itself does not count beside what is known.
        let is_long = head[0] & 0x80 != 0;
        if is_long && known.is_some() {
            return None;
        }
        let id_at = at + if is_long { LENGTH_AT + 1 } else { 1 };
        let id = frame.get(id_at..=id_at + usize::from(ENCRYPTED))?;
        let rotation = id[0] >> 5;
        let encoding = of.quic.encodings.get(&rotation)?;
        let rest = if encoding.is_encrypted != 0 { ENCRYPTED } else { encoding.server_id_length };
        if is_long && head[LENGTH_AT] <= rest {
            return None;
        }
        let word = |number: usize| {
            let octets = id[1 + number * 4..5 + number * 4].try_into();
            u32::from_be_bytes(octets.expect("four bytes"))
        };
        let target = *of.quic.servers.get(&(rotation, encoding.server_id([0, 1, 2, 3].map(word))))?;
        let server = of.servers.iter().position(|server| server.target == target)?;
        let is_had = match is_long {
            true => of.servers[server].usable,
            false => of.servers[server].is_reachable(),
        };
        if is_had && known != Some(server) {
            self.event(TableEvent::QuicMoved);
        }
        is_had.then_some(server)
    }
}

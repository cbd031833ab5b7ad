//! QUIC-LB: how connection IDs of a service are read, and which servers they name.

use anyhow::{Context as _, Result};
use aya::Pod;
use aya::maps::{HashMap, MapData};
use lb_common::packet::quic::{Encoding, EncodingKey, ServerKey};
use lb_model::ServiceKey;
use zerocopy::{Immutable, IntoBytes};

use super::Executor;
use crate::plan::quic::Quic;

/// Bytes of values that zerocopy has checked to have no padding.
fn bytes<T: IntoBytes + Immutable, const N: usize>(value: &T) -> [u8; N]
where
    [u8; N]: Pod,
{
    let mut bytes = [0; N];
    bytes.copy_from_slice(value.as_bytes());
    bytes
}

/// Map `QUIC_ENCODINGS`.
pub(crate) type Encodings = HashMap<MapData, [u8; size_of::<EncodingKey>()], [u8; size_of::<Encoding>()]>;
/// Map `QUIC_SERVERS`.
pub(crate) type Servers = HashMap<MapData, [u8; size_of::<ServerKey>()], u32>;

impl Executor {
    /// What stays is never away for a moment: additions come before removals. An encoding of the
    /// same number that has changed is read the new way from now on.
    pub(super) fn set_quic(&mut self, key: &ServiceKey, quic: &Quic) -> Result<()> {
        let record = self.services.get_mut(key).with_context(|| format!("no such service: {key}"))?;
        let service = record.id.0;
        let before = std::mem::replace(&mut record.quic, quic.clone());
        let room =
            || format!("{key}: no room for its QUIC servers: restart with fewer services of `quic_lb`");
        for ((rotation, id), target) in &quic.servers {
            let Some(server) = record.servers.get(target) else { continue };
            let name = ServerKey { service, rotation: (*rotation).into(), id: *id };
            self.maps.quic_servers.insert(bytes(&name), u32::from(server.0), 0).with_context(room)?;
        }
        for (rotation, encoding) in &quic.encodings {
            let name = EncodingKey { service, rotation: (*rotation).into() };
            self.maps.quic_encodings.insert(bytes(&name), bytes(encoding), 0).with_context(room)?;
        }
        for rotation in before.encodings.keys().filter(|rotation| !quic.encodings.contains_key(rotation)) {
            let name = EncodingKey { service, rotation: (*rotation).into() };
            self.maps.quic_encodings.remove(&bytes(&name)).context("cannot remove a QUIC configuration")?;
        }
        for (rotation, id) in before.servers.keys().filter(|name| !quic.servers.contains_key(name)) {
            let name = ServerKey { service, rotation: (*rotation).into(), id: *id };
            self.maps.quic_servers.remove(&bytes(&name)).context("cannot remove a QUIC server")?;
        }
        Ok(())
    }
}

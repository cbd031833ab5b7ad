//! How much memory the engine takes, for simulations.

use super::{Engine, Mirrors};
use crate::mirror::Seen;
use crate::peer::Peer;
use crate::table::Table;

/// Bytes, without what the allocator needs for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Goes by the slots of the connection table.
    pub mirrors: usize,
    /// Goes by the other directors, and by what they have not confirmed yet.
    pub peers: usize,
}

impl<T: Table> Engine<T> {
    pub fn footprint(&self) -> Footprint {
        let Mirrors { v4, v6 } = &self.mirrors;
        let heap: usize = self.peers.iter().map(Peer::footprint).sum();
        Footprint {
            mirrors: (v4.capacity() + v6.capacity()) * size_of::<Seen>(),
            peers: self.peers.capacity() * size_of::<Peer>() + heap,
        }
    }
}

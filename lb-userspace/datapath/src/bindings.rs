//! The clients that are bound to servers, as the controller sees them: counted, listed, copied. The
//! rules are `lb_common::service::binding`.
//!
//! - `keeper`: a binding lives as long as the client's connections

mod keeper;

use std::io;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData};
use aya_obj::generated::bpf_cmd;
use lb_common::service::binding::{Binding, Key};

pub use self::keeper::{Due, Keeper};
use super::bpf;

/// The map `BINDINGS`, or the one of tentative ones.
pub struct Bindings(MapData);

impl Bindings {
    pub fn new(map: Map) -> Result<Self> {
        let Map::LruHashMap(map) = map else { bail!("the map of bindings is of another kind") };
        Ok(Self(map))
    }

    /// Another hold on the same map, for another thread.
    pub fn try_clone(&self) -> Result<Self> {
        let descriptor = self.0.fd().as_fd().try_clone_to_owned();
        let descriptor = descriptor.context("no descriptor for the map of bindings")?;
        Ok(Self(MapData::from_fd(descriptor).context("the map of bindings")?))
    }

    /// Those that hold at `now` (CLOCK_MONOTONIC, ns). They change meanwhile.
    pub fn list(&self, now: u64) -> Result<Vec<(Key, Binding)>> {
        let mut found = self.all()?;
        found.retain(|(_, binding)| binding.until_ns > now);
        Ok(found)
    }

    fn all(&self) -> Result<Vec<(Key, Binding)>> {
        bpf::entries(&self.0).context("cannot list the bound clients")
    }

    /// Adds what another map holds. `goes_on` is called for each binding, because many take long.
    pub(super) fn take_from(&mut self, other: &Self, goes_on: &dyn Fn()) -> Result<()> {
        other.all()?.into_iter().try_for_each(|(key, binding)| {
            goes_on();
            self.set(key, binding)
        })
    }

    /// As if nobody had ever been bound.
    pub fn clear(&mut self) -> Result<()> {
        for (key, _) in self.all()? {
            // It may have gone meanwhile.
            let _ = bpf::remove(&self.0, &[key]);
        }
        Ok(())
    }

    /// Adds a binding, or changes it.
    pub fn set(&mut self, key: Key, binding: Binding) -> Result<()> {
        bpf::set(&self.0, &[key], &[binding]).context("no room for a bound client")
    }

    /// Changes a binding, if there is one: what has gone meanwhile stays away.
    fn change(&mut self, key: Key, binding: Binding) -> io::Result<()> {
        const EXIST: u64 = 2; // BPF_EXIST, which batches do not know
        let changed = bpf::call(bpf_cmd::BPF_MAP_UPDATE_ELEM, |attr| {
            attr.__bindgen_anon_2.map_fd = bpf::number(&self.0);
            attr.__bindgen_anon_2.key = &raw const key as u64;
            attr.__bindgen_anon_2.__bindgen_anon_1.value = &raw const binding as u64;
            attr.__bindgen_anon_2.flags = EXIST;
        });
        changed.map(drop)
    }
}

//! The clients that are bound to servers, as the controller sees them: counted, listed, copied. The
//! rules are `lb_common::binding`.
//!
//! - `keeper`: a binding lives as long as the client's connections

mod keeper;

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData};
use aya_obj::generated::bpf_cmd;
use lb_common::binding::{Binding, Key};
use zerocopy::FromZeros as _;

pub use self::keeper::{Due, Keeper};
use super::bpf;

/// The map `BINDINGS`, or the one of tentative ones.
pub struct Bindings(MapData);

/// Bindings that one call of the kernel returns; more than a bucket of the map ever holds.
const BATCH: usize = 4096;

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

    fn fd(&self) -> u32 {
        self.0.fd().as_fd().as_raw_fd().unsigned_abs()
    }

    /// Those that hold at `now` (CLOCK_MONOTONIC, ns). They change meanwhile.
    pub fn list(&self, now: u64) -> Result<Vec<(Key, Binding)>> {
        let mut found = self.all()?;
        found.retain(|(_, binding)| binding.until_ns > now);
        Ok(found)
    }

    fn all(&self) -> Result<Vec<(Key, Binding)>> {
        let mut keys = vec![Key::new_zeroed(); BATCH];
        let mut values = vec![Binding::new_zeroed(); BATCH];
        let mut found = Vec::new();
        // Where the kernel goes on: the number of a bucket.
        let (mut place, mut begun) = (0_u64, false);
        loop {
            let (from, mut count) = (place, 0);
            let result = bpf::call_with(
                bpf_cmd::BPF_MAP_LOOKUP_BATCH,
                |attr| {
                    attr.batch.in_batch = if begun { &raw const from as u64 } else { 0 };
                    attr.batch.out_batch = &raw mut place as u64;
                    attr.batch.keys = keys.as_mut_ptr() as u64;
                    attr.batch.values = values.as_mut_ptr() as u64;
                    attr.batch.count = BATCH as u32;
                    attr.batch.map_fd = self.fd();
                },
                // SAFETY: a number, whatever it is; the kernel writes how many there are.
                |attr| count = unsafe { attr.batch.count },
            );
            let ended = match result {
                Ok(_) => false,
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                Err(error) => return Err(error).context("cannot list the bound clients"),
            };
            found.extend(keys.iter().copied().zip(values.iter().copied()).take(count as usize));
            if ended {
                return Ok(found);
            }
            begun = true;
        }
    }

    /// Adds what another map holds.
    pub(super) fn take_from(&mut self, other: &Self) -> Result<()> {
        other.all()?.into_iter().try_for_each(|(key, binding)| self.set(key, binding))
    }

    /// As if nobody had ever been bound.
    pub fn clear(&mut self) -> Result<()> {
        for (key, _) in self.all()? {
            // It may have gone meanwhile.
            let _ = self.one(bpf_cmd::BPF_MAP_DELETE_BATCH, key, None);
        }
        Ok(())
    }

    /// Adds a binding, or changes it.
    pub fn set(&mut self, key: Key, binding: Binding) -> Result<()> {
        let done = self.one(bpf_cmd::BPF_MAP_UPDATE_BATCH, key, Some(binding));
        done.map(|_| ()).context("no room for a bound client")
    }

    /// Changes a binding, if there is one: what has gone meanwhile stays away.
    fn change(&mut self, key: Key, binding: Binding) -> io::Result<()> {
        const EXIST: u64 = 2; // BPF_EXIST, which batches do not know
        let changed = bpf::call(bpf_cmd::BPF_MAP_UPDATE_ELEM, |attr| {
            attr.__bindgen_anon_2.map_fd = self.fd();
            attr.__bindgen_anon_2.key = &raw const key as u64;
            attr.__bindgen_anon_2.__bindgen_anon_1.value = &raw const binding as u64;
            attr.__bindgen_anon_2.flags = EXIST;
        });
        changed.map(drop)
    }

    fn one(&mut self, command: bpf_cmd, key: Key, binding: Option<Binding>) -> io::Result<i32> {
        bpf::call(command, |attr| {
            attr.batch.keys = &raw const key as u64;
            attr.batch.values = binding.as_ref().map_or(0, |binding| &raw const *binding as u64);
            attr.batch.count = 1;
            attr.batch.map_fd = self.fd();
        })
    }
}

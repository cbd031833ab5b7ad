//! What the programs count per CPU: packets that were not forwarded, and what the table did.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_obj::generated::bpf_cmd;
use lb_common::reason::{Reason, TableEvent};

use super::bpf;

/// Packets not forwarded, and what the table did, since the maps were made.
pub struct Counters {
    reasons: Totals,
    events: Totals,
}

impl Counters {
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let mut totals = |name, length| {
            let map = ebpf.take_map(name).with_context(|| format!("the object holds no map {name}"))?;
            Totals::new(map, length).with_context(|| format!("map {name}"))
        };
        let reasons = totals("REASONS", Reason::COUNT)?;
        Ok(Self { reasons, events: totals("TABLE_EVENTS", TableEvent::COUNT)? })
    }

    /// By [`Reason`], as in `Reason::ALL`.
    pub fn reasons(&self) -> Result<Vec<u64>> {
        self.reasons.read()
    }

    /// By [`TableEvent`], as in `TableEvent::ALL`.
    pub fn events(&self) -> Result<Vec<u64>> {
        self.events.read()
    }
}

/// An array of numbers per CPU, all read by one call of the kernel.
struct Totals {
    map: MapData,
    length: usize,
    /// That the kernel has values of: those that may ever be there.
    cpus: usize,
}

impl Totals {
    fn new(map: Map, length: usize) -> Result<Self> {
        let Map::PerCpuArray(map) = map else { bail!("it is of another kind") };
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error).context("the number of CPUs")?;
        Ok(Self { map, length, cpus })
    }

    /// Sums over the CPUs.
    fn read(&self) -> Result<Vec<u64>> {
        let mut keys = vec![0_u32; self.length];
        let mut values = vec![0_u64; self.length * self.cpus];
        let (mut place, mut count) = (0_u32, 0);
        let result = bpf::call_with(
            bpf_cmd::BPF_MAP_LOOKUP_BATCH,
            |attr| {
                attr.batch.out_batch = &raw mut place as u64;
                attr.batch.keys = keys.as_mut_ptr() as u64;
                attr.batch.values = values.as_mut_ptr() as u64;
                attr.batch.count = self.length as u32;
                attr.batch.map_fd = self.map.fd().as_fd().as_raw_fd().unsigned_abs();
            },
            // SAFETY: a number, whatever it is; the kernel writes how many values there are.
            |attr| count = unsafe { attr.batch.count },
        );
        match result {
            // The map may have nothing behind the last one.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context("cannot read the counters");
            }
            _ if count as usize != self.length => bail!("{count} of {} counters", self.length),
            _ => {}
        }
        // An array is read in the order of its keys.
        Ok(values.chunks_exact(self.cpus).map(|of_cpus| of_cpus.iter().sum()).collect())
    }
}

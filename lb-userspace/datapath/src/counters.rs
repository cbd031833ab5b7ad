//! Totals that the programs count per CPU: packets that were not forwarded, what the table did, and
//! what each server got.
//!
//! aya asks the system for its number of CPUs with every number that it reads, and reads each one
//! by itself.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_obj::generated::bpf_cmd;
use lb_common::reason::{Reason, TableEvent};
use lb_common::server::{ServerId, ServerStats};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::bpf;

/// Packets not forwarded, and what the table did, since the maps were made.
pub struct Counters {
    reasons: PerCpu,
    events: PerCpu,
}

impl Counters {
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self { reasons: PerCpu::take(ebpf, "REASONS")?, events: PerCpu::take(ebpf, "TABLE_EVENTS")? })
    }

    pub fn reason(&self, reason: Reason) -> Result<u64> {
        self.reasons().map(|counts| counts[reason as usize])
    }

    pub fn event(&self, event: TableEvent) -> Result<u64> {
        self.events().map(|counts| counts[event as usize])
    }

    /// By [`Reason`], as in `Reason::ALL`.
    pub fn reasons(&self) -> Result<Vec<u64>> {
        self.reasons.sums(Reason::COUNT).context("cannot read why packets were not forwarded")
    }

    /// By [`TableEvent`], as in `TableEvent::ALL`.
    pub fn events(&self) -> Result<Vec<u64>> {
        self.events.sums(TableEvent::COUNT).context("cannot read what the table did")
    }
}

/// Totals per server.
pub struct Stats(PerCpu);

impl Stats {
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        PerCpu::take(ebpf, "STATS").map(Self)
    }

    /// Sum over the CPUs.
    pub fn read(&self, server: ServerId) -> Result<ServerStats> {
        let mut of_cpus = vec![ServerStats::new_zeroed(); self.0.cpus];
        let value = of_cpus.as_mut_bytes().as_mut_ptr() as u64;
        self.0.one(bpf_cmd::BPF_MAP_LOOKUP_ELEM, server, value).context("cannot read a server's totals")?;
        let sum = |word: fn(&ServerStats) -> u64| of_cpus.iter().map(word).sum();
        Ok(ServerStats {
            connections: sum(|stats| stats.connections),
            packets: sum(|stats| stats.packets),
            bytes: sum(|stats| stats.bytes),
            reserved: 0,
        })
    }

    pub fn clear(&mut self, server: ServerId) -> Result<()> {
        let zeros = vec![ServerStats::new_zeroed(); self.0.cpus];
        let value = zeros.as_bytes().as_ptr() as u64;
        self.0.one(bpf_cmd::BPF_MAP_UPDATE_ELEM, server, value).context("cannot clear a server's totals")
    }
}

/// An array with a value for each CPU that may ever be there.
struct PerCpu {
    map: MapData,
    cpus: usize,
}

impl PerCpu {
    fn take(ebpf: &mut Ebpf, name: &str) -> Result<Self> {
        let map = ebpf.take_map(name).with_context(|| format!("the object holds no map {name}"))?;
        let Map::PerCpuArray(map) = map else { bail!("map {name} is not of the expected kind") };
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error).context("the number of CPUs")?;
        Ok(Self { map, cpus })
    }

    fn descriptor(&self) -> u32 {
        self.map.fd().as_fd().as_raw_fd().unsigned_abs()
    }

    /// Reads or writes the values of a server at the address `value`, which must have room for one
    /// for each CPU.
    fn one(&self, command: bpf_cmd, server: ServerId, value: u64) -> io::Result<()> {
        let key = u32::from(server.0);
        let done = bpf::call(command, |attr| {
            // SAFETY: zeros, of which this is the part for commands about one element.
            let element = unsafe { &mut attr.__bindgen_anon_2 };
            element.map_fd = self.descriptor();
            element.key = &raw const key as u64;
            element.__bindgen_anon_1.value = value;
        });
        done.map(drop)
    }

    /// The sums over the CPUs of an array of so many numbers.
    fn sums(&self, length: usize) -> Result<Vec<u64>> {
        let mut keys = vec![0_u32; length];
        let mut values = vec![0_u64; length * self.cpus];
        let (mut place, mut count) = (0_u32, 0);
        let result = bpf::call_with(
            bpf_cmd::BPF_MAP_LOOKUP_BATCH,
            |attr| {
                attr.batch.out_batch = &raw mut place as u64;
                attr.batch.keys = keys.as_mut_ptr() as u64;
                attr.batch.values = values.as_mut_ptr() as u64;
                attr.batch.count = length as u32;
                attr.batch.map_fd = self.descriptor();
            },
            // SAFETY: a number, whatever it is; the kernel writes how many values there are.
            |attr| count = unsafe { attr.batch.count },
        );
        // Behind the last element the kernel finds nothing.
        result.map(drop).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        ensure!(count as usize == length, "{count} of {length} numbers");
        // An array is read in the order of its keys.
        Ok(values.chunks_exact(self.cpus).map(|of_cpus| of_cpus.iter().sum()).collect())
    }
}

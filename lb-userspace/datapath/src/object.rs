//! The embedded XDP program, loaded with maps of the wanted size.

use std::thread;

use anyhow::{Context as _, Result, anyhow};
use aya::Ebpf;
use aya::programs::Xdp;
use lb_common::schedule::buckets;
use lb_common::server::ServerId;
use lb_common::table::Layout as _;
use lb_common::table::connection::{KeyV4, KeyV6};
use lb_model::{MAX_INTERFACES, MAX_VIPS};
use lb_net::xsk::MAX_QUEUES;

use super::direct::DirectMaps;
use super::inherited::{Known, PinnedMaps};
use super::kernel;
use super::table::PAGES_PER_WORD;

/// The BPF object that build.rs compiled.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb"));

/// Name of the entry in the object: the program that is attached.
pub const PROGRAM: &str = "lb";

/// The entry while packets are traced. It is loaded when that is asked for.
pub const TRACE_PROGRAM: &str = "lb_trace";

/// Name of the entry of other interfaces that packets come in by. It is loaded where there are
/// some.
pub const INGRESS_PROGRAM: &str = "lb_ingress";

/// Words for the buckets of a service with mh, however many servers it has.
pub const MH_WORDS: u32 = (buckets::MAGLEV as u32).div_ceil(2);

/// Words for the schedule of a service with one or two servers.
const SERVICE_WORDS: usize = 8;

/// How much the maps hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// IPv4 connections; the table has at least twice as many slots.
    pub connections: u32,
    /// IPv6 connections, whose slots are twice as large.
    pub connections_v6: u32,
    /// Services; a power of two. The table of services has four times as many slots in each half.
    pub services: u32,
    /// Servers of all services together, local fallbacks included.
    pub servers: u32,
    /// Words for the lists of all schedules; a wrr service needs about one per server and distinct
    /// weight.
    pub schedule_words: u32,
    /// Clients that are bound to servers.
    pub bindings: u32,
}

impl Sizes {
    /// Room for what the configuration may grow into by reloads.
    pub fn for_connections(connections: u32, connections_v6: u32) -> Self {
        Self {
            connections,
            connections_v6,
            services: 4096,
            servers: ServerId::LAST.0.into(),
            schedule_words: 1 << 19,
            bindings: 1 << 12,
        }
    }

    /// The same with room for so many services (of one with ranges of ports, as many as it has
    /// places in their table), of which so many have buckets of mh, and for twice as many of either
    /// after reloads.
    pub fn with_services(self, services: usize, of_mh: usize) -> Self {
        let room = |number: usize| u32::try_from(number * 2).unwrap_or(u32::MAX / 2).next_power_of_two();
        let words = services * SERVICE_WORDS + of_mh * MH_WORDS as usize;
        let schedule_words = room(words).clamp(self.schedule_words, 1 << 29);
        let services = room(services).clamp(self.services, 1 << 16);
        Self { services, schedule_words, ..self }
    }

    /// The same with room for the services of an `lb` before this one, which keep their numbers.
    pub fn with_numbers_of(self, known: &[Known]) -> Self {
        let numbers = known.iter().map(|known| u32::from(known.service_id.0) + 1);
        let services = numbers.map(u32::next_power_of_two).fold(self.services, u32::max);
        Self { services, ..self }
    }

    pub fn pages_v4(&self) -> u32 {
        KeyV4::pages_for(self.connections)
    }

    pub fn pages_v6(&self) -> u32 {
        KeyV6::pages_for(self.connections_v6)
    }

    /// Elements for the nodes of all tournaments. One takes twice as many as it has members at
    /// most; a new one is planted before the old one is free.
    pub fn pairs(&self) -> u32 {
        self.servers.saturating_add(1).saturating_mul(4).next_power_of_two()
    }

    /// Slots in one half of the table of services.
    pub fn service_slots(&self) -> u32 {
        // With half of them in use, tens of thousands of services find no arrangement.
        self.services * 4
    }
}

/// An object that the kernel has the maps of.
pub struct Object {
    pub ebpf: Ebpf,
    /// Must stay until the last program is loaded.
    pub direct: DirectMaps,
}

/// Loads the product's object, with the maps of another one where some are pinned.
/// `DataPath::load_programs` loads the programs themselves.
pub fn load(sizes: &Sizes, pinned_maps: &PinnedMaps) -> Result<Object> {
    load_with(OBJECT, sizes, pinned_maps)
}

/// Loads any object that has the maps of the real program, such as the benchmark's.
pub fn load_object(object: &[u8], sizes: &Sizes) -> Result<Object> {
    load_with(object, sizes, &PinnedMaps::default())
}

fn load_with(object: &[u8], sizes: &Sizes, pinned_maps: &PinnedMaps) -> Result<Object> {
    let direct = DirectMaps::new(pinned_maps)?;
    let mut loader = aya::EbpfLoader::new();
    for (name, path) in pinned_maps.paths() {
        loader.map_pin_path(name, path);
    }
    let ebpf = loader
        .map_max_entries("SERVICES", sizes.service_slots() * 2)
        // What a reload brings and what it takes away are in the map together for a moment.
        .map_max_entries("VIPS", MAX_VIPS as u32 * 2)
        .map_max_entries("ANSWERS", sizes.services * 2)
        .map_max_entries("XSKS", MAX_QUEUES * MAX_INTERFACES as u32)
        .map_max_entries("ACTIVE_SCHEDULES", sizes.services + 1)
        .map_max_entries("SCHEDULES", (sizes.services + 1) * 2)
        .map_max_entries("CURSORS", sizes.services + 1)
        .map_max_entries("SCHEDULE_WORDS", sizes.schedule_words)
        .map_max_entries("PERSISTENCE", sizes.services + 1)
        .map_max_entries("ADMISSIONS", sizes.services + 1)
        .map_max_entries("BUCKETS", sizes.services + 1)
        .map_max_entries("BINDINGS", sizes.bindings)
        .map_max_entries("BOUND_SERVERS", sizes.servers + 1)
        .map_max_entries("TARGETS", sizes.servers + 1)
        .map_max_entries("TUNNELS", sizes.servers + 1)
        .map_max_entries("TRANSLATIONS", sizes.servers + 1)
        // What a reload brings and what it takes away are in the map together for a moment.
        .map_max_entries("BACKENDS", sizes.servers.saturating_mul(2))
        .map_max_entries("EGRESSES", sizes.servers + 1)
        .map_max_entries("COUNTS", sizes.servers + 1)
        .map_max_entries("LIMITS", sizes.servers + 1)
        .map_max_entries("LEAVES", sizes.servers + 1)
        .map_max_entries("PAIRS", sizes.pairs())
        .map_max_entries("STATS", sizes.servers + 1)
        .map_max_entries("CONNECTIONS_V4", sizes.pages_v4())
        .map_max_entries("SPILLS_V4", sizes.pages_v4())
        .map_max_entries("CHANGED_V4", sizes.pages_v4().div_ceil(PAGES_PER_WORD))
        .map_max_entries("CHANGED_V6", sizes.pages_v6().div_ceil(PAGES_PER_WORD))
        .map_max_entries("CONNECTIONS_V6", sizes.pages_v6())
        .map_max_entries("SPILLS_V6", sizes.pages_v6())
        .load(direct.write_into(object)?.bytes())
        .with_context(kernel::makes_no_maps)?;
    Ok(Object { ebpf, direct })
}

/// Hands programs to the kernel's verifier, which takes its time: side by side. `loaded` is called
/// after each.
pub(crate) fn load_programs(ebpf: &mut Ebpf, names: &[&str], loaded: &(dyn Fn() + Sync)) -> Result<()> {
    let programs = ebpf.programs_mut().filter(|(name, _)| names.contains(name));
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let threads: Vec<_> = programs
            .map(|(name, program)| {
                let load = move || -> Result<()> {
                    let program: &mut Xdp =
                        program.try_into().with_context(|| format!("{name} is no XDP program"))?;
                    program.load().map_err(|error| kernel::refusal(name, error))?;
                    loaded();
                    Ok(())
                };
                scope.spawn(load)
            })
            .collect();
        let panicked = |_| Err(anyhow!("the thread that loads a program panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    results.into_iter().collect()
}

/// Hands a program to the kernel's verifier.
pub fn load_program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = program(ebpf, name)?;
    program.load().map_err(|error| kernel::refusal(name, error))?;
    Ok(program)
}

/// The same, unless that has been done before.
pub fn loaded_program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    if program(ebpf, name)?.fd().is_err() {
        load_program(ebpf, name)?;
    }
    program(ebpf, name)
}

/// A program of the object, loaded or not.
pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    ebpf.program_mut(name)
        .with_context(|| format!("the object holds no program {name}"))?
        .try_into()
        .with_context(|| format!("{name} is no XDP program"))
}

#[cfg(test)]
mod tests {
    use lb_common::server::ServerId;
    use lb_common::service::ServiceId;
    use lb_model::{Protocol, ServiceKey};

    use super::*;
    use crate::plan::Target;

    #[test]
    fn there_is_room_for_what_is_there_and_as_much_again() {
        let least = Sizes::for_connections(1, 1);
        let of = |services, of_mh| {
            let sizes = least.with_services(services, of_mh);
            (sizes.services, sizes.schedule_words)
        };
        assert_eq!(of(1, 1), (4096, 1 << 19), "never less than ever");
        assert_eq!(of(2049, 0), (8192, 1 << 19));
        assert_eq!(of(65_000, 0), (1 << 16, 1 << 20), "numbers have 16 bits");
        assert_eq!(of(4096, 4096), (8192, 1 << 27), "512 MiB for so many services with mh");
    }

    #[test]
    fn numbers_that_are_in_use_stay_within_the_maps() {
        let known = |number| Known {
            id: ServerId(1),
            service: ServiceKey { vip: [192, 0, 2, 10].into(), port: 80, protocol: Protocol::Tcp },
            service_id: ServiceId(number),
            target: Target::Local,
            mac: None,
            tunnel: None,
            translation: None,
            egress: None,
            usable: false,
            many_ports: false,
        };
        let services = |numbers: &[u16]| {
            let known: Vec<Known> = numbers.iter().map(|number| known(*number)).collect();
            Sizes::for_connections(1, 1).with_numbers_of(&known).services
        };
        assert_eq!([services(&[]), services(&[4095]), services(&[1, 4096])], [4096, 4096, 8192]);
        assert_eq!(services(&[u16::MAX]), 1 << 16);
    }
}

//! What the packet tests, the replays of IPVS and the benchmarks share: a director in a test,
//! packets, cases as data, a director on paper, and a full table.

pub mod fill;
pub mod fixtures;
pub mod harness;
pub mod model;
pub mod pinned;

/// The benchmark's programs, which build.rs compiled: the real one behind entries of its own, and
/// floors beside it.
pub static BENCHMARK: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench"));

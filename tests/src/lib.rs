//! What the packet tests, the replays of IPVS and the benchmarks share: a director in a test,
//! packets, and a full table.

pub mod fill;
pub mod harness;

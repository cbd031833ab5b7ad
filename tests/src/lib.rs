//! What the packet tests, the replays of IPVS and the benchmarks share: a director in a test, and packets.

pub mod harness;

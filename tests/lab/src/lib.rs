//! The lab: clusters of network namespaces on one machine, and scenarios for them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`busy`] | repeats measurements on a busy machine |
//! | [`chaos`] | faults of every kind, drawn from a seed, and what may never happen |
//! | [`commands`] | commands for /bin/sh, and their effects |
//! | [`lab`] | namespaces, the switch, nodes, web servers, directors, and clean-up |
//! | [`cluster`] | the talk's cluster, with its names and addresses |
//! | [`crowd`] | a director and thousands of servers |
//! | [`origin`] | where and when a benchmark's report comes from |
//! | [`program`] | a kernel's figures for an XDP program |
//! | [`scenario`] | the talk's scenarios: the demo narrates them, the tests assert them |
//! | [`statistics`] | statistics for benchmarks |
//! | [`veth`] | test fixture: two namespaces joined by a veth pair |
//! | [`viewers`] | people who look at a director's page |
//! | [`workspace`] | paths of the workspace |
//!
//! The lab uses only crates that need no BPF toolchain: it is a dependency of `xtask`, which
//! installs that toolchain.

pub mod busy;
pub mod chaos;
pub mod cluster;
pub mod commands;
pub mod crowd;
pub mod lab;
pub mod origin;
pub mod program;
pub mod scenario;
pub mod statistics;
mod uninterrupted;
pub mod veth;
pub mod viewers;
pub mod workspace;

pub use uninterrupted::uninterrupted;

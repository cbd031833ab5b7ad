//! The lab: clusters of network namespaces on one machine, and the scenarios that are played on them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`busy`] | figures that are measured again on a busy machine |
//! | [`cable`] | two machines joined by a cable |
//! | [`commands`] | commands that /bin/sh runs, and what became of them |
//! | [`lab`] | namespaces, the switch, nodes, web servers, directors, and their clean-up |
//! | [`cluster`] | the cluster of the talk, with its names and addresses |
//! | [`crowd`] | a director and thousands of servers |
//! | [`program`] | what a kernel makes of an XDP program |
//! | [`scenario`] | the talk's scenarios, step by step: the demo narrates them, the tests assert them |
//! | [`statistics`] | what benchmarks do with their figures |
//! | [`workspace`] | where things are |
//!
//! Of the balancer's own crates the lab uses those alone that need no BPF toolchain: it is part of `xtask`, which is built
//! before that is there.

pub mod busy;
pub mod cable;
pub mod cluster;
pub mod commands;
pub mod crowd;
pub mod lab;
pub mod program;
pub mod scenario;
pub mod statistics;
mod uninterrupted;
pub mod workspace;

pub use uninterrupted::uninterrupted;

//! The operating system, except the network.
//!
//! - [`clock`]: CLOCK_MONOTONIC, as the XDP program counts time
//! - [`command`]: runs the operator's programs
//! - [`worker`]: threads with a runtime of their own

pub mod clock;
pub mod command;
pub mod worker;

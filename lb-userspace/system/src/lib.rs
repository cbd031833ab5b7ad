//! The operating system, except the network.
//!
//! - [`clock`]: CLOCK_MONOTONIC, as the XDP program counts time
//! - [`command`]: runs the operator's programs
//! - [`private_file`]: files with keys and tokens, which nobody else may read
//! - [`regular_file`]: files that are read as a whole, up to a size
//! - [`vital_signs`]: whether threads live
//! - [`whole_file`]: files that are replaced as a whole
//! - [`worker`]: threads with a runtime of their own

pub mod clock;
pub mod command;
pub mod private_file;
pub mod regular_file;
pub mod vital_signs;
pub mod whole_file;
pub mod worker;

//! The programs themselves: how they call each other, what they tell of single packets, the
//! controller's own packets to servers, and the kernels that run them.

pub mod capture;
#[cfg(not(target_arch = "bpf"))]
pub mod kernel;
pub mod probe;
pub mod stage;
pub mod trace;

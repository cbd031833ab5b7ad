//! Whether packets are balanced here, and those that are no client's.
//!
//! - [`admission`]: which clients a service takes, and how much of them
//! - [`lease`]: whether this director serves the group of VIPs now
//! - [`neighbour`]: ARP and neighbour discovery: the host answers for VIPs that are served here
//!   alone
//! - [`probe`]: answers to the controller's own probes, to its sockets
//! - [`peer`]: what another director has sent, where directors are servers too
//! - [`partial_checksum`]: checksums that were left to hardware

pub mod admission;
pub mod lease;
pub mod neighbour;
pub mod partial_checksum;
pub mod peer;
pub mod probe;

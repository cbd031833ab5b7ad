//! Address conflicts on the VIPs' Ethernet segment: which other machines answer for the VIPs.
//!
//! - [`claims`]: ARP frames and neighbour advertisements of other machines
//! - [`watch`]: the task that listens for claims and sends ARP probes, with and without a cluster
//! - [`claimant`]: identifies the claimant of a VIP by its MAC
//! - [`own_interfaces`]: keeps other interfaces of this host from answering for a VIP

pub mod claimant;
pub mod claims;
mod own_interfaces;
pub mod watch;

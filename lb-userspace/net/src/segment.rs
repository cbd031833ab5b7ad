//! The Ethernet segment of the VIPs: who else answers for them, and the questions that bring it to light.
//!
//! - [`claims`]: ARP and neighbour advertisements of others, as frames and from sockets
//! - [`watch`]: the task that listens and asks, for a director that is alone and for one of several
//! - [`claimant`]: who it is that claims a VIP, by its MAC
//! - [`own_interfaces`]: other interfaces of this host that would answer for a VIP, and how they are kept from it

pub mod claimant;
pub mod claims;
mod own_interfaces;
pub mod watch;

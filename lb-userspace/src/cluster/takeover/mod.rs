//! Taking a VIP over and giving it up: the address on the interface, and the news of it on the segment.
//!
//! - [`addresses`]: the VIPs as addresses of the interface, by netlink
//! - [`announce`]: gratuitous ARP and unsolicited neighbour advertisements
//! - [`holder`]: the thread that does both, group by group, as it is told
//!
//! The order that keeps packets safe is the caller's: on taking, address, then data path, then the announcement; on
//! giving up, data path and address first, and only then a word to the peer.

pub mod addresses;
pub mod announce;
pub mod holder;
#[cfg(test)]
mod tests;

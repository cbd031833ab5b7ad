//! Taking a VIP over and giving it up: the address on the interface, and the news of it on the segment.
//!
//! - [`vips`]: how VIPs stand on the interface
//! - [`ledger`]: what is to be done to the interface so that it holds what it shall: pure
//! - [`kernel`]: the requests that come of it, by netlink; [`changes`]: what others do
//! - [`bursts`]: when each VIP is announced, and at what pace: pure
//! - [`announce`]: gratuitous ARP and unsolicited neighbour advertisements
//! - [`holder`]: the thread that carries all that out, as it is ordered
//!
//! The order that keeps packets safe is the caller's: on taking, address, then data path, then the announcement; on
//! giving up, data path and address first, and only then a word to the peer.

pub mod announce;
mod bursts;
mod changes;
pub mod holder;
pub mod kernel;
mod ledger;
mod report;
#[cfg(test)]
mod tests;
pub mod vips;

//! Taking a VIP over and giving it up: the address on the interface, and the news of it on the
//! segment.
//!
//! - [`ledger`]: what is to be done to the interface so that it holds what it shall: pure
//! - [`lb_net::addresses`]: the requests that come of it, by netlink; `changes`: what others do
//! - [`bursts`]: when each VIP is announced, and at what pace: pure
//! - [`lb_net::announce`]: gratuitous ARP and unsolicited neighbour advertisements
//! - [`holder`]: the thread that carries all that out, as it is ordered; [`segments`]: one for each
//!   interface
//! - [`vip_device`]: the device that has the VIPs of groups that every director serves, for a
//!   routing daemon to announce
//!
//! The order that keeps packets safe is the caller's: on taking, address, then data path, then the
//! announcement; on giving up, data path and address first, and only then a word to the peer.

mod bursts;
mod changes;
pub mod holder;
mod ledger;
mod report;
pub mod segments;
#[cfg(test)]
mod tests;
mod vip_device;

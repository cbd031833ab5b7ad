//! The network around the director.
//!
//! - [`addresses`]: netlink requests about the interface's addresses; [`vips`]: the VIPs' addresses
//!   on the interface
//! - [`link`]: frames sent past the host's stack
//! - [`announce`]: gratuitous ARP and unsolicited neighbour advertisements
//! - [`neighbours`]: the servers' MACs, from the kernel's neighbour table
//! - [`routes`]: the routes to servers that are reached by tunnels, or are behind another interface
//! - [`ethtool`]: what drivers can do and count; [`xdp_features`]: what they can do with XDP
//! - [`links`]: interfaces, what they are and what they stand on
//! - [`segment`]: address conflicts: other machines that answer for the VIPs
//! - [`icmp`]: ICMP echo; [`filter`]: socket filters; [`arrival`]: when a message came
//! - [`tun`]: a device that goes with the process
//! - [`xsk`]: AF_XDP sockets on the interface's queues

pub mod addresses;
pub mod announce;
pub mod arrival;
pub mod ethtool;
mod filter;
#[cfg(test)]
mod fuzz;
pub mod icmp;
pub mod link;
pub mod links;
pub mod neighbours;
pub mod routes;
pub mod segment;
pub mod tun;
pub mod vips;
pub mod xdp_features;
pub mod xsk;

//! Several directors, with the real `lb`: what operators do to them and what else happens. The
//! talk's own scenario is in scenario_two.rs.
//!
//! | module | what it shows |
//! |---|---|
//! | [`harness`] | the talk's cluster with as many directors as a test wants |
//! | [`files`] | keys, configurations, the BPF file system |
//! | [`groups`] | groups that come and go by reload |
//! | [`orders`] | what operators order |
//! | [`nodes`] | which node has a group |
//! | [`addresses`] | VIPs on the segment |
//! | [`removed_vips`] | VIPs that others remove, and the source of our own packets |
//! | [`many_vips`] | groups of a thousand VIPs and more |
//! | [`dual_stack`] | a group with an IPv6 VIP |
//! | [`ipv6_only`] | nodes, heartbeats, reference hosts, VIPs and servers of IPv6 |
//! | [`commands`] | hooks and fencing |
//! | [`servers`] | a node that finds no server gives way |
//! | [`used_ports`] | connections of old do not mislead a director that gets a group back |
//! | [`stop`] | the way out: connections that are waited for, an interface that is gone |

mod addresses;
mod commands;
mod dual_stack;
mod files;
mod groups;
mod harness;
mod ipv6_only;
mod many_vips;
mod nodes;
mod orders;
mod removed_vips;
mod servers;
mod stop;
mod used_ports;

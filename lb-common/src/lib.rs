//! What the XDP program and the controller agree on: layouts, header parsing, connection states,
//! schedules.
//!
//! Builds for the BPF target and for the host, so that every rule of the data path is tested on the
//! host:
//!
//! - [`addr`], [`mac`]: addresses as packets and maps hold them
//! - [`packet::frame`]: headers of a packet, from Ethernet to the ports; what is ours, not ours,
//!   malformed
//! - [`packet::fragment`]: fragments of a datagram: the first one, those that follow it, overlaps
//! - [`reason`]: why a packet was dropped or passed to the host
//! - [`service`]: services and the table that finds them by address, port and protocol
//! - [`packet::checksum`]: the Internet checksum
//! - [`table::connection`]: one connection's entry: states, time-outs, what counts as active
//! - [`table`]: the connection table: where an entry may be, how a slot is claimed, what is evicted
//! - [`table::spills`]: which lines of the table have connections that stand elsewhere
//! - [`schedule`]: schedulers, and the schedule that a service picks servers by
//! - [`forward::egress`]: packets that leave by another interface, or with other VLAN tags;
//!   [`packet::vlan`]: VLANs
//! - [`forward::ingress`]: other interfaces that packets come in by
//! - [`forward::tunnel`]: the packets around those for servers that are reached by a tunnel
//! - [`forward::nat`]: packets whose addresses are rewritten, on the way to a server and back
//! - [`schedule::tournament`]: the tree that lc, wlc, sed, nq and ovf pick by
//! - [`service::binding`]: persistence: which server a client is bound to
//! - [`schedule::buckets`]: what sh, dh and mh pick by
//! - `schedule::least`: the rules of the tournament, word for word (the host only)
//! - `schedule::compile`: from a list of servers to a schedule (the host only)
//! - [`packet::numbers`]: those that IEEE and IANA have assigned
//! - [`server`]: a real server as the program sees it, its counters
//! - [`control`]: the settings that hold for the whole program
//! - [`lease`]: until when a group of VIPs is served here
//! - [`service::limits`]: thresholds: how many connections a server may have
//! - [`packet::partial_checksum`]: checksums that were left to hardware
//! - [`forward::hairpin`]: packets that go back to where they came from
//! - [`forward::peer`]: packets from another director that this host serves, or that it must look
//!   up
//! - [`service::refusal`]: answers to clients of a service that nobody serves
//! - [`program::probe`]: the controller's own packets to servers, and the answers to them
//! - [`program::stage`]: the programs that call each other
//! - [`program::trace`]: what the program tells of single packets while somebody traces
//! - [`shared`]: memory that the other side may write meanwhile
//! - `program::kernel`: which kernels all this runs on (the host only)
#![no_std]

#[cfg(not(target_arch = "bpf"))]
extern crate std;

pub mod addr;
pub mod control;
pub mod forward;
pub mod lease;
pub mod mac;
pub mod packet;
pub mod program;
pub mod reason;
pub mod schedule;
pub mod server;
pub mod service;
pub mod shared;
pub mod table;

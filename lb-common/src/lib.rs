//! What the XDP program and the controller agree on: layouts, header parsing, connection states,
//! schedules.
//!
//! Builds for the BPF target and for the host, so that every rule of the data path is tested on the
//! host:
//!
//! - [`addr`], [`mac`]: addresses as packets and maps hold them
//! - [`frame`]: headers of a packet, from Ethernet to the ports; what is ours, not ours, malformed
//! - [`fragment`]: fragments of a datagram: the first one, those that follow it, overlaps
//! - [`reason`]: why a packet was dropped or passed to the host
//! - [`service`]: services and the table that finds them by address, port and protocol
//! - [`checksum`]: the Internet checksum
//! - [`connection`]: one connection's entry: states, time-outs, what counts as active
//! - [`table`]: the connection table: where an entry may be, how a slot is claimed, what is evicted
//! - [`spills`]: which lines of the table have connections that stand elsewhere
//! - [`schedule`]: schedulers, and the schedule that a service picks servers by
//! - [`egress`]: packets that leave by another interface, or with other VLAN tags; [`vlan`]: VLANs
//! - [`ingress`]: other interfaces that packets come in by
//! - [`tunnel`]: the packets around those for servers that are reached by a tunnel
//! - [`nat`]: packets whose addresses are rewritten, on the way to a server and back
//! - [`tournament`]: the tree that lc, wlc, sed, nq and ovf pick by
//! - [`binding`]: persistence: which server a client is bound to
//! - [`buckets`]: what sh, dh and mh pick by
//! - `least`: the rules of the tournament, word for word (the host only)
//! - `compile`: from a list of servers to a schedule (the host only)
//! - [`numbers`]: those that IEEE and IANA have assigned
//! - [`server`]: a real server as the program sees it, its counters
//! - [`control`]: the settings that hold for the whole program
//! - [`lease`]: until when a group of VIPs is served here
//! - [`limits`]: thresholds: how many connections a server may have
//! - [`partial_checksum`]: checksums that were left to hardware
//! - [`hairpin`]: packets that go back to where they came from
//! - [`peer`]: packets from another director that this host serves, or that it must look up
//! - [`refusal`]: answers to clients of a service that nobody serves
//! - [`probe`]: the controller's own packets to servers, and the answers to them
//! - [`stage`]: the programs that call each other
//! - [`trace`]: what the program tells of single packets while somebody traces
//! - [`shared`]: memory that the other side may write meanwhile
//! - `kernel`: which kernels all this runs on (the host only)
#![no_std]

#[cfg(not(target_arch = "bpf"))]
extern crate std;

pub mod addr;
pub mod admission;
pub mod binding;
pub mod buckets;
pub mod capture;
pub mod checksum;
#[cfg(not(target_arch = "bpf"))]
pub mod compile;
pub mod connection;
pub mod control;
pub mod egress;
pub mod fragment;
pub mod frame;
pub mod hairpin;
pub mod ingress;
#[cfg(not(target_arch = "bpf"))]
pub mod kernel;
pub mod lease;
#[cfg(not(target_arch = "bpf"))]
pub mod least;
pub mod limits;
pub mod mac;
pub mod nat;
pub mod numbers;
pub mod partial_checksum;
pub mod peer;
pub mod probe;
pub mod quic;
pub mod reason;
pub mod refusal;
pub mod schedule;
pub mod server;
pub mod service;
pub mod shared;
pub mod spills;
pub mod stage;
pub mod table;
pub mod tournament;
pub mod trace;
pub mod tunnel;
pub mod vlan;

//! The XDP programs, in the order a packet meets their parts:
//!
//! - [`path`]: the fast way of packets of established connections, the slow way of all others,
//!   packets that belong to another one, and the tail calls between programs
//! - [`context`]: what every step on the slow way knows of the packet
//! - [`family`]: what differs between IPv4 and IPv6
//! - [`ingress`]: packets that come in by another interface than the main one
//! - [`lookup`]: whose the packet is: connection table, table of services
//! - [`guard`]: whether it may be balanced here, and packets that are not a client's
//! - [`schedule`]: the pick among a service's servers
//! - [`forward`]: out of the interface, to the server
//! - [`answer`]: answers in the VIP's name
//! - [`refuse`]: those to clients whom nobody serves
//! - [`stats`]: the one place that counts
//! - [`trace`]: packets told one by one, while somebody traces; [`capture`]: their frames
//! - [`maps`]: every map there is; [`sys`]: the kernel's side of packets, atomics, time and log
#![no_std]
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(internal_features, reason = "core for BPF has no atomic types with fetch_add; see sys/atomic.rs")]

pub mod answer;
pub mod capture;
pub mod context;
pub mod family;
pub mod forward;
pub mod guard;
pub mod ingress;
pub mod lookup;
pub mod maps;
pub mod path;
pub mod refuse;
pub mod schedule;
pub mod stats;
pub mod sys;
pub mod trace;

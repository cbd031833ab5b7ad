//! The XDP program, stage by stage, in the order a packet meets them:
//!
//! - [`packet`]: the frame as the verifier lets us see it
//! - [`balance`]: the whole way of a packet, each step a line
//! - [`shortcut`]: the short way of packets of established connections
//! - [`service`]: which service the packet is for
//! - [`lease`]: whether this director balances the service now
//! - [`connection`]: which server it goes to: the table, or the scheduler for a new connection
//! - [`table`]: the table's pages, and a new connection's way into one
//! - [`schedule`]: the pick among a service's servers; [`counts`]: their connections, and who has the fewest
//! - [`probe`]: answers to the controller's own probes, to its sockets
//! - [`peer`]: what another director has sent, where directors are servers too
//! - [`forward`]: MACs rewritten, out of the interface it came in by; [`header`]: words of the IP header
//! - [`refuse`]: answers to clients whom nobody serves
//! - [`unfinished`]: checksums that were left to hardware
//! - [`count`]: statistics, drops and passes by reason
//! - [`clock`]: the time, read once per tick
//! - [`report`]: rare events, told in the log
//! - [`maps`]: every map there is; [`atomic`]: the atomic operations they need
#![no_std]
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(internal_features, reason = "core for BPF has no atomic types with fetch_add; see atomic.rs")]

pub mod atomic;
pub mod balance;
pub mod clock;
pub mod connection;
pub mod count;
pub mod counts;
pub mod forward;
pub mod header;
pub mod lease;
pub mod maps;
pub mod packet;
pub mod peer;
pub mod probe;
pub mod refuse;
pub mod report;
pub mod schedule;
pub mod service;
pub mod shortcut;
pub mod table;
pub mod unfinished;

/// The same number, of which the compiler forgets what it knew: a mask on it stays, and the verifier sees the bound.
#[inline(always)]
pub fn unknown_to_the_compiler(mut number: usize) -> usize {
    // SAFETY: a move of a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(nomem, nostack, preserves_flags)) };
    number
}

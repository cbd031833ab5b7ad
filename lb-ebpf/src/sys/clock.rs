//! Coarse monotonic time, read from the kernel once per tick and CPU.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

use crate::maps::CLOCK;

/// What this CPU read last.
#[repr(C)]
pub struct Reading {
    /// The kernel's tick counter just before.
    jiffies: u64,
    now_ns: u64,
}

/// CLOCK_MONOTONIC, nanoseconds, as of this tick or the one before: as exact as a lease or a tick
/// of ours needs.
///
/// Without this a known packet took 49 to 52 ns here, with it 38 (`cargo xtask bench`).
///
/// The verifier turns `bpf_jiffies64` into a plain load (kernel 5.6 and later). The coarse clock
/// advances with `jiffies`, so it tells the same until the kernel's next tick. Jiffies only decide
/// when to read the clock again, no time is ever made of them. A reading between the kernel's two
/// steps, jiffies and then the clock, is one tick old.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper takes no arguments and reads a counter.
    let jiffies = unsafe { bpf_jiffies64() };
    let Some(reading) = CLOCK.get_ptr_mut(0) else { return read() };
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    unsafe {
        if (*reading).jiffies != jiffies {
            *reading = Reading { jiffies, now_ns: read() };
        }
        (*reading).now_ns
    }
}

/// [`now_ns`] for the slow way; global for the verifier's sake, see [`crate::schedule::lb_choose`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_now() -> u64 {
    now_ns()
}

#[inline(always)]
fn read() -> u64 {
    // SAFETY: the helper takes no arguments and reads a clock (kernel 5.11 and later).
    unsafe { bpf_ktime_get_coarse_ns() }
}

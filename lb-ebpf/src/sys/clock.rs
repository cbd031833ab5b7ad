//! Coarse monotonic time, read from the kernel once per tick.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use lb_common::control::Control;
use lb_common::shared_field;

use crate::maps;

/// CLOCK_MONOTONIC, nanoseconds, as of this tick or the one before: as exact as a lease or a tick
/// of ours needs.
///
/// Without this a known packet took 49 to 52 ns here, with it 38 (`cargo xtask bench`).
///
/// The verifier turns `bpf_jiffies64` into a plain load (kernel 5.6 and later). The coarse clock
/// advances with `jiffies`, so it tells the same until the kernel's next tick. Jiffies only decide
/// when to read the clock again, no time is ever made of them. A reading between the kernel's two
/// steps, jiffies and then the clock, is one tick old.
///
/// All CPUs share one reading, which stands beside the settings: one lookup less, for a line that
/// is written once per tick. Who sees the tick must see its time, for which the processor has to
/// keep stores and loads in order; where it does not, the clock is read for each packet.
#[inline(always)]
pub fn now_ns(control: &Control) -> u64 {
    // SAFETY: the helper takes no arguments and reads a counter.
    let jiffies = unsafe { bpf_jiffies64() };
    if KEEPS_ORDER && shared_field!(control.clock, jiffies) == jiffies {
        return shared_field!(control.clock, now_ns);
    }
    // SAFETY: the helper takes no arguments and reads a clock (kernel 5.11 and later).
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    let clock = maps::clock();
    // SAFETY: a map's value, aligned; volatile, because other CPUs write there, in this order.
    unsafe {
        (&raw mut (*clock).now_ns).write_volatile(now_ns);
        (&raw mut (*clock).jiffies).write_volatile(jiffies);
    }
    now_ns
}

const KEEPS_ORDER: bool = cfg!(bpf_target_arch = "x86_64");

/// [`now_ns`] for the slow way; global for the verifier's sake, see [`crate::schedule::lb_choose`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_now() -> u64 {
    now_ns(maps::control())
}

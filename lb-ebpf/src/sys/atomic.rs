//! Atomic operations on shared map memory. core for BPF has atomic types without the operations we
//! need, so these call the compiler's intrinsics; BPF's instruction set v3 has all of them
//! (`-C target-cpu=v3`).

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd};

/// Adds to a word that other CPUs and the controller change too, and returns what was there before.
///
/// # Safety
/// `word` points to an aligned u64 in a map's value.
#[inline(always)]
pub unsafe fn fetch_add(word: *mut u64, amount: u64) -> u64 {
    // SAFETY: by the caller.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(word, amount) }
}

/// Sets bits.
///
/// # Safety
/// As [`fetch_add`].
#[inline(always)]
pub unsafe fn or(word: *mut u64, bits: u64) {
    // SAFETY: by the caller.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(word, bits) };
}

/// Stores `to` if `from` is there, as one step; true if it was.
///
/// # Safety
/// As [`fetch_add`].
#[inline(always)]
pub unsafe fn compare_and_swap(word: *mut u64, from: u64, to: u64) -> bool {
    // SAFETY: by the caller.
    let (_, swapped) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, from, to)
    };
    swapped
}

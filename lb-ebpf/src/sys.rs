//! What the kernel gives: the frame, atomic operations, the time, the log.

pub mod atomic;
pub mod clock;
pub mod log;
pub mod packet;

/// Returns `number`, of which the verifier knows nothing any more, as it knows nothing of
/// `unknown`. The verifier would follow all that comes after once for each thing that it knows.
#[inline(always)]
pub fn forgotten(number: usize, unknown: usize) -> usize {
    // Neither the compiler nor the verifier sees that this is zero.
    let zero = unknown ^ opaque(unknown);
    number ^ zero
}

/// Optimisation barrier: the same number, whose range the compiler does not know. It keeps the mask
/// that the verifier needs as a bound.
#[inline(always)]
pub fn opaque(mut number: usize) -> usize {
    // SAFETY: a move of a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(nomem, nostack, preserves_flags)) };
    number
}

/// The same number if it is 1 to `most`, which the verifier of 6.1 sees too: it learns nothing from
/// a comparison with zero, and takes no length for a helper that may be zero.
#[inline(always)]
pub fn one_to(most: usize, number: usize) -> Option<usize> {
    let less = opaque(number.wrapping_sub(1));
    if less < most { Some(less + 1) } else { None }
}

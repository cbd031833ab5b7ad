//! Memory that the other side may write while one reads it: the controller while a packet looks, or
//! another CPU.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A value of a map that the other side may write at any time. A read takes each word whole, once,
/// and anew each time it is asked for, as the kernel's READ_ONCE does; it may see some words of a
/// larger value before the change and others after it. Writes go through the controller's mapping
/// or through the program's atomics.
///
/// The value stands bare, not in an `UnsafeCell`: a cell is never `Copy`, and zerocopy has no
/// `Immutable` for it. The structures that hold a `Shared` are both, because the controller makes,
/// compares and stores them as plain values. What takes the cell's place:
///
/// - The field is private, and [`Self::get`] and [`shared_field!`](crate::shared_field) are the
///   only reads. Both are volatile, through a raw pointer: the compiler neither
///   repeats, merges nor invents such loads, whatever it takes a shared reference to promise.
/// - Nobody writes through a reference to a `Shared`. The controller's `Mapped` gives out copies
///   and atomics of words, never a reference to an element; the program's atomics take raw
///   pointers.
/// - In the program, references that map lookups return live for one packet, and what they refer to
///   stays mapped for as long: an entry's memory is never freed, only written anew.
///
/// Rust's own model has no words for memory of which a reference is held while another process
/// writes it without a cell; the volatile reads are what the machine code is held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Shared<T>(T);

impl<T: Copy> Shared<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    #[inline(always)]
    pub fn get(&self) -> T {
        // SAFETY: a reference is valid and aligned.
        unsafe { (&raw const self.0).read_volatile() }
    }

    #[inline(always)]
    pub const fn as_ptr(&self) -> *const T {
        &raw const self.0
    }
}

/// One field of a [`Shared`] structure, read by itself.
#[macro_export]
macro_rules! shared_field {
    ($shared:expr, $field:ident) => {{
        let value = $shared.as_ptr();
        // SAFETY: `as_ptr` is that of a reference, which is valid and aligned.
        unsafe { (&raw const (*value).$field).read_volatile() }
    }};
}

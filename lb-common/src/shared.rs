//! Memory that the other side may write while one reads it: the controller while a packet looks, or
//! another CPU.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A value of a map that the other side may write at any time. A read takes each word whole, once,
/// and anew each time it is asked for, as the kernel's READ_ONCE does; it may see some words of a
/// larger value before the change and others after it. Writes go through the controller's mapping
/// or through the program's atomics.
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

//! System calls that signals may interrupt: the kernel does not restart a wait with a time-out.

use std::io::{self, ErrorKind};

/// Repeats the call while it is interrupted.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

//! Calls that signals may interrupt: the kernel does not begin a wait with a time-out anew by itself.

use std::io::{self, ErrorKind};

/// Makes the call again as long as it is interrupted.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

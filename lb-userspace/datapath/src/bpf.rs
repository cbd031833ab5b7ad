//! bpf(2), for what aya does not do.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// For commands that return a new descriptor.
pub(crate) fn descriptor(command: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> io::Result<OwnedFd> {
    let fd = call(command, fill)?;
    // SAFETY: the kernel has just made this descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// As [`call`], and hands `read` what the kernel has left in the attributes, also where it reports
/// an error.
pub(crate) fn call_with(
    command: bpf_cmd,
    fill: impl FnOnce(&mut bpf_attr),
    read: impl FnOnce(&bpf_attr),
) -> io::Result<i32> {
    // SAFETY: as in `call`.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    fill(&mut attr);
    // SAFETY: as in `call`.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut attr, size_of::<bpf_attr>()) };
    let result = if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) };
    read(&attr);
    result
}

/// What `fill` points to must live until this returns.
pub(crate) fn call(command: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> io::Result<i32> {
    answer(command, fill).map(|(result, _)| result)
}

/// As [`call`], for commands that answer in what was filled.
pub(crate) fn answer(command: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> io::Result<(i32, bpf_attr)> {
    // SAFETY: the union consists of integers, for which zeros are fine, and unset fields must be
    // zero.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    fill(&mut attr);
    // SAFETY: the size is the union's; the pointers in it are of this function's callers, which
    // keep what they point to.
    match unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut attr, size_of::<bpf_attr>()) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        result => Ok((result as i32, attr)),
    }
}

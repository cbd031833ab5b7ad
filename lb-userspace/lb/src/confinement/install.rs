//! What the kernel is asked for: filters, and the notifications of one.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use libc::{c_uint, c_ulong, seccomp_notif, seccomp_notif_resp};
use nix::errno::Errno;
use seccompiler::sock_filter;

/// Neither this process nor what it starts gains anything by execve(2) from now on. The kernel
/// wants this of those that install filters without CAP_SYS_ADMIN.
pub(super) fn allow_no_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// Puts this thread, and all that it starts, under a filter; what it refuses by an error number
/// goes to the kernel's audit log.
pub(super) fn install(program: &[sock_filter]) -> io::Result<()> {
    seccomp(program, libc::SECCOMP_FILTER_FLAG_LOG).map(drop)
}

/// The same; what the filter refuses is told by the descriptor.
pub(super) fn install_with_listener(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let descriptor = seccomp(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: with this flag the call returns a descriptor that nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn seccomp(program: &[sock_filter], flags: c_ulong) -> io::Result<i32> {
    let mut filter: Vec<libc::sock_filter> = program
        .iter()
        .map(|&sock_filter { code, jt, jf, k }| libc::sock_filter { code, jt, jf, k })
        .collect();
    let length = filter.len().try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel copies the program during the call, from memory that lives longer.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    Ok(Errno::result(result)?.try_into().unwrap_or_default())
}

mod request {
    use super::{seccomp_notif, seccomp_notif_resp};

    const MAGIC: u8 = b'!';
    nix::ioctl_readwrite!(receive, MAGIC, 0, seccomp_notif);
    nix::ioctl_readwrite!(send, MAGIC, 1, seccomp_notif_resp);
}

/// A system call that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    id: u64,
    /// The thread that called.
    pub thread: c_uint,
    pub number: i32,
}

/// Waits for the next one. `None`: whoever waited has been killed meanwhile.
pub(super) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Waiting>> {
    // SAFETY: numbers alone; the kernel wants them to be zero.
    let mut notification: seccomp_notif = unsafe { zeroed() };
    // SAFETY: the kernel writes a notification of this size during the call.
    match unsafe { request::receive(listener.as_raw_fd(), &raw mut notification) } {
        Ok(_) => {
            let seccomp_notif { id, pid, data, .. } = notification;
            Ok(Some(Waiting { id, thread: pid, number: data.nr }))
        }
        Err(Errno::EINTR | Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The call returns this error.
pub(super) fn refuse(listener: BorrowedFd<'_>, waiting: Waiting, error: Errno) -> io::Result<()> {
    let mut answer = seccomp_notif_resp { id: waiting.id, val: 0, error: -(error as i32), flags: 0 };
    // SAFETY: the kernel reads an answer of this size during the call.
    match unsafe { request::send(listener.as_raw_fd(), &raw mut answer) } {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

//! Whether another program is writing to a file.
//!
//! The kernel tells: it refuses a read lease (fcntl(2), F_SETLEASE) on a file that anybody has open
//! for writing. A lease that is granted is given back at once.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writers {
    None,
    /// Somebody has it open for writing.
    Some,
    /// Its file system has no leases, the file belongs to another user, or it is not there.
    Unknown,
}

/// Who has the file open for writing at this moment.
pub(super) fn of(path: &Path) -> Writers {
    let open = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let Ok(file) = open else { return Writers::Unknown };
    match lease(&file) {
        Ok(()) => Writers::None,
        Err(Errno::EAGAIN) => Writers::Some,
        Err(_) => Writers::Unknown,
    }
}

/// From Linux's asm-generic/fcntl.h, which libc lacks for this target.
const F_SETSIG: libc::c_int = 10;

fn lease(file: &File) -> Result<(), Errno> {
    let set = |command: libc::c_int, argument: libc::c_int| {
        // SAFETY: these commands take an integer and touch no memory of ours; the descriptor is
        // open.
        Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), command, argument) }).map(drop)
    };
    // Whoever opens the file for writing in the meantime waits a moment, and we are sent a signal:
    // one that is ignored, instead of SIGIO, which ends the process.
    set(F_SETSIG, libc::SIGURG)?;
    set(libc::F_SETLEASE, libc::F_RDLCK)?;
    set(libc::F_SETLEASE, libc::F_UNLCK)
}

/// The first program found that has the file open for writing, as `rsync (pid 12)`.
pub(super) fn name(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    let numbers =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut pids = numbers.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let pid = pids.find(|pid| writes(pid, (file.dev(), file.ino())).unwrap_or(false))?;
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", program.trim_end()))
}

fn writes(pid: &str, (device, inode): (u64, u64)) -> io::Result<bool> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(open) = fs::metadata(entry.path()) else { continue };
        if (open.dev(), open.ino()) != (device, inode) {
            continue;
        }
        let name = entry.file_name();
        let Ok(info) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", name.display())) else { continue };
        // In octal, see proc(5).
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| libc::c_int::from_str_radix(flags.trim(), 8).ok());
        if flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_whoever_has_a_file_open_for_writing_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lb.yaml");
        assert_eq!(of(&path), Writers::Unknown);
        let writer = File::create(&path).expect("a file");
        let reader = File::open(&path).expect("the same file");
        assert_eq!(of(&path), Writers::Some);
        let me = name(&path).expect("a program");
        assert!(me.ends_with(&format!(" (pid {})", std::process::id())), "{me}");
        drop(writer);
        assert_eq!((of(&path), name(&path)), (Writers::None, None), "{reader:?}");
        File::options().append(true).open(&path).expect("the lease was given back");
    }

    #[test]
    fn what_is_no_file_cannot_be_judged() {
        assert_eq!(of(Path::new("/dev/null")), Writers::Unknown);
    }
}

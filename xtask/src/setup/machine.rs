//! Requirements that no package installs: root's capabilities, kernel features of data path and
//! lab, and mounts.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lb_common::program::kernel;
use lb_lab::lab::{bpf_file_system, xdp_pass};
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::need::{How, Missing, Scope};

/// A missing mount of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mount {
    /// Mount a BPF file system here.
    Bpf(&'static str),
    /// Remount this file system writable.
    Writable(&'static str),
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bpf(place) => write!(f, "mount -t bpf bpf {place}"),
            Self::Writable(place) => write!(f, "mount -o remount,bind,rw {place}"),
        }
    }
}

impl Mount {
    pub(super) fn make(self) -> Result<()> {
        eprintln!("setup: {self}");
        match self {
            Self::Bpf(place) => bpf_file_system::mount_at(place),
            Self::Writable(place) => {
                let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
                mount(None::<&str>, place, None::<&str>, flags, None::<&str>)
                    .with_context(|| format!("{place} stays read-only; {IN_A_CONTAINER}"))
            }
        }
    }
}

const IN_A_CONTAINER: &str = "in a container: `docker run --privileged --network host`";

/// The mounts that are missing.
pub(super) fn mounts() -> Vec<Missing> {
    let mut missing = Vec::new();
    if is_read_only("/proc/sys") {
        let what = "a writable /proc/sys".to_owned();
        let how = How::Mount(Mount::Writable("/proc/sys"));
        missing.push(Missing { what, why: "is where the lab's namespaces are set up", how });
    }
    if !bpf_file_system::is_there() {
        let what = "a BPF file system".to_owned();
        let how = How::Mount(Mount::Bpf(bpf_file_system::place()));
        missing.push(Missing {
            what,
            why: "keeps the program of a killed director (lb mounts one too)",
            how,
        });
    }
    missing
}

fn is_read_only(place: &str) -> bool {
    statvfs(place).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY))
}

/// Whether this machine can run the lab.
pub(super) fn check(scope: Scope) -> Result<()> {
    if !scope.lab() {
        return Ok(());
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the lab makes network namespaces and loads XDP programs, which takes root: run the command as root, for \
         example with `sudo -E env PATH=\"$PATH\" cargo xtask …`"
    );
    let status = fs::read_to_string("/proc/self/status").context("is /proc mounted?")?;
    let lacking = lacking(effective(&status).context("/proc/self/status lists no capabilities")?);
    ensure!(lacking.is_empty(), "root lacks capabilities that the lab needs: {lacking}; {IN_A_CONTAINER}");
    // The tests raise the kernel's neighbour limits, which belong to the machine's first network
    // namespace.
    ensure!(
        scope != Scope::Test || Path::new("/proc/sys/net/ipv4/neigh/default/gc_thresh3").exists(),
        "this container has a network of its own, where the kernel's limits on neighbours cannot be raised; \
         {IN_A_CONTAINER}"
    );
    kernel()
}

fn kernel() -> Result<()> {
    let name = nix::sys::utsname::uname().context("uname")?;
    let release = name.release().to_string_lossy().into_owned();
    if let Some(why) = kernel::too_old(&release) {
        // Some distributors backport features to old kernels.
        ensure!(xdp_pass::takes_frags()?, "{why}: use a newer kernel");
        eprintln!("setup: {why}; but this one supports XDP programs with multi-buffer packets: continuing");
    }
    ensure!(Path::new("/sys/kernel").is_dir(), "nothing is mounted on /sys: mount -t sysfs sysfs /sys");
    ensure!(
        Path::new("/sys/kernel/btf/vmlinux").is_file(),
        "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF): use a distribution's own kernel"
    );
    Ok(())
}

/// Capabilities by number, from linux/capability.h.
const NEEDED: [(u32, &str, &str); 10] = [
    (0, "CAP_CHOWN", "gives servers their files"),
    (1, "CAP_DAC_OVERRIDE", "reads and writes them"),
    (5, "CAP_KILL", "ends servers of other users"),
    (6, "CAP_SETGID", "runs servers as other users"),
    (7, "CAP_SETUID", "runs servers as other users"),
    (12, "CAP_NET_ADMIN", "makes interfaces, attaches programs to them"),
    (13, "CAP_NET_RAW", "sends ARP and pings"),
    (18, "CAP_SYS_CHROOT", "runs servers in a file system of their own"),
    (21, "CAP_SYS_ADMIN", "makes namespaces, mounts, loads programs"),
    (23, "CAP_SYS_NICE", "keeps the clients' pace on a busy machine"),
];

/// `CapEff` of `/proc/PID/status`.
fn effective(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

fn lacking(effective: u64) -> String {
    let lacking = NEEDED.iter().filter(|(number, ..)| effective & (1 << number) == 0);
    lacking.map(|(_, name, why)| format!("{name} ({why})")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_containers_root_lacks_is_named() {
        let docker = "Name:\tcargo\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n";
        let lacking_there = lacking(effective(docker).expect("a line"));
        assert_eq!(
            lacking_there,
            "CAP_NET_ADMIN (makes interfaces, attaches programs to them), CAP_SYS_ADMIN (makes namespaces, mounts, loads \
             programs), CAP_SYS_NICE (keeps the clients' pace on a busy machine)"
        );
        assert_eq!(lacking(effective("CapEff:\t000001ffffffffff").expect("a line")), "");
        assert_eq!(effective("CapPrm:\t00000000a80425fb\n"), None);
    }
}

//! What the kernel can do and lets this process do.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use lb_datapath::kernel;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::Line;

const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";
const BPF_FS: &str = "/sys/fs/bpf";

pub(super) fn kernel() -> Line {
    let release = kernel::release();
    match kernel::check() {
        Ok(None) => Line::ok(format!("kernel: Linux {release}")),
        Ok(Some(warning)) => Line::warning(format!("kernel: {warning}"), "run a newer kernel"),
        Err(error) => Line::wrong(format!("kernel: {error:#}"), "run a newer kernel"),
    }
}

/// The kernel's compiler of BPF programs.
pub(super) fn compiler() -> Line {
    match fs::read_to_string(JIT).as_deref().map(str::trim) {
        Ok("0") => {
            let mend = "sysctl -w net.core.bpf_jit_enable=1";
            Line::wrong("BPF compiler: off, so each packet costs many times as much", mend)
                .fixed_by(|| fs::write(JIT, "1").context("cannot switch it on"))
        }
        Ok(_) => Line::ok("BPF compiler: on"),
        Err(error) => Line::warning(format!("BPF compiler: {JIT} cannot be read: {error}"), ""),
    }
}

pub(super) fn bpf_file_system() -> Line {
    if statfs(Path::new(BPF_FS)).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return Line::ok(format!("BPF file system: {BPF_FS}"));
    }
    let mend = "mount -t bpf bpf /sys/fs/bpf";
    Line::warning("BPF file system: none; `lb run` mounts one if it may", mend).fixed_by(move || {
        let words: Vec<&str> = mend.split(' ').collect();
        let status = Command::new(words[0]).args(&words[1..]).status()?;
        ensure!(status.success(), "`{mend}` failed");
        Ok(())
    })
}

const BPF: u32 = 39;
/// Capabilities that `lb run` needs, by their numbers.
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_BPF", BPF)];
/// Has CAP_BPF in it.
const SYS_ADMIN: u32 = 21;

pub(super) fn rights() -> Line {
    let Some(capabilities) = effective() else {
        return Line::warning("rights: /proc/self/status names no capabilities", "");
    };
    let is_set = |number: u32| capabilities >> number & 1 != 0;
    let has = |number: u32| is_set(number) || number == BPF && is_set(SYS_ADMIN);
    let missing = NEEDED.into_iter().filter(|(_, number)| !has(*number));
    let missing: Vec<&str> = missing.map(|(name, _)| name).collect();
    if missing.is_empty() {
        return Line::ok("rights: this user may run a director");
    }
    let missing = missing.join(", ");
    Line::warning(format!("rights: this user lacks {missing}, so `lb run` would fail"), "run it as root")
}

/// This process's effective capabilities, a bit each.
fn effective() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    parse_effective(&status)
}

fn parse_effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

pub(super) fn clock() -> Line {
    // SAFETY: of integers alone; all zeros ask for nothing to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the struct, which outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    let is_synchronised = state >= 0 && timex.status & libc::STA_UNSYNC == 0;
    if is_synchronised {
        let off = timex.maxerror as f64 / 1e3;
        return Line::ok(format!("clock: synchronised, at most {off:.0} ms off"));
    }
    let text =
        "clock: not synchronised; heartbeats do not need it, but logs of several machines cannot be compared";
    Line::warning(text, "run chrony, ntpsec or systemd-timesyncd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read() {
        assert_eq!(parse_effective("Name:\tlb\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(parse_effective("Name:\tlb\n"), None);
        assert!(effective().is_some());
    }
}

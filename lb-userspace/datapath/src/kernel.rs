//! Whether the running kernel can do what the program needs, and why it refuses the program if it
//! does.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use anyhow::{Error, Result, anyhow, bail};
use aya::programs::ProgramError;
use aya_obj::generated::{BPF_F_XDP_HAS_FRAGS, bpf_cmd, bpf_insn, bpf_prog_type};
use lb_common::program::kernel::{MINIMUM, too_old};

use super::bpf;

/// Lines of what the verifier says that are told: its verdict stands at the end, before figures.
const VERIFIER_LINES: usize = 16;
/// The verifier's figures. Linux 7.3 has a line for each function.
const FIGURES: [&str; 4] = ["verification time ", "stack depth ", "subprog ", "processed "];

/// Call this before anything is loaded. Returns a warning if the kernel is older than those that lb
/// is tested on, and can do what the program needs all the same.
///
/// # Errors
/// The kernel is too old, and lacks what the program needs.
pub fn check() -> Result<Option<String>> {
    let Some(age) = too_old(&release()) else { return Ok(None) };
    let able = takes_frags();
    tracing::debug!(?able, "an XDP program of several buffers on an old kernel");
    judge(age, able).map(Some)
}

/// An old kernel whose distributor has added what the program needs is good enough, as those of Red
/// Hat are.
fn judge(age: String, able: io::Result<()>) -> Result<String> {
    match able {
        Ok(()) => Ok(format!(
            "{} is older than {MINIMUM}, the oldest kernel that lb is tested on; it takes XDP programs for packets of \
             several buffers, so its distributor has added to it: going on",
            age.split(" is too old").next().unwrap_or_default()
        )),
        // Without the right to load programs, loading says so.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(age),
        Err(_) => bail!("{age}"),
    }
}

/// For an error of the kernel's.
pub(crate) fn makes_no_maps() -> String {
    format!(
        "Linux {} does not make the BPF maps: this needs root (CAP_BPF and CAP_NET_ADMIN) and memory for the \
         connection table",
        release()
    )
}

/// `uname -r`.
pub fn release() -> String {
    let name = nix::sys::utsname::uname();
    name.map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned())
}

/// Asks the kernel for the newest thing that the program needs.
fn takes_frags() -> io::Result<()> {
    passing().map(drop)
}

/// A program that passes every packet to the host.
pub(crate) fn passing() -> io::Result<OwnedFd> {
    const MOV64_IMM: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    const XDP_PASS: i32 = 2;
    let instruction = |code, imm| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm,
    };
    let program = [instruction(MOV64_IMM, XDP_PASS), instruction(EXIT, 0)];
    bpf::descriptor(bpf_cmd::BPF_PROG_LOAD, |attr| {
        // SAFETY: this member of the union is the one that the command reads; all of it is
        // integers.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
        load.insn_cnt = program.len() as u32;
        load.insns = program.as_ptr() as u64;
        load.license = c"Dual MIT/GPL".as_ptr() as u64;
        load.prog_flags = BPF_F_XDP_HAS_FRAGS;
    })
}

/// In words: which kernel refuses the program `name`, and the verifier's last lines.
pub fn refusal(name: &str, error: ProgramError) -> Error {
    let release = release();
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            refused(name, &release, &io_error, &verifier_log.to_string())
        }
        error => anyhow!(error).context(format!("Linux {release} does not load the program {name}")),
    }
}

fn refused(name: &str, release: &str, error: &io::Error, log: &str) -> Error {
    // EACCES, which Rust counts as the same kind, is the verifier's own verdict on a program.
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => ": this needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
        _ => "",
    };
    let said = match last_lines(log) {
        said if said.is_empty() => String::new(),
        said => format!("; the verifier's last lines:\n{said}"),
    };
    anyhow!("Linux {release} refuses the program {name} ({error}){hint}{said}")
}

fn last_lines(log: &str) -> String {
    let lines = log.trim_matches(['\0', '\n', ' ']).lines();
    let lines: Vec<&str> =
        lines.filter(|line| !FIGURES.iter().any(|figure| line.starts_with(figure))).collect();
    lines[lines.len().saturating_sub(VERIFIER_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_refused_by_what_it_lacks_and_not_by_its_number() {
        let age = || too_old("5.14.0-427.13.1.el9_4.x86_64").expect("it is older");
        let refused = judge(age(), Err(ErrorKind::InvalidInput.into())).expect_err("it lacks frags");
        let text = refused.to_string();
        assert!(
            text.contains("Linux 5.14.0-427.13.1.el9_4.x86_64 is too old: lb needs 6.1 or later"),
            "{text}"
        );
        assert!(text.contains("several buffers (Linux 5.18)"), "{text}");

        let warning = judge(age(), Ok(())).expect("Red Hat has added them");
        assert!(warning.starts_with("Linux 5.14.0-427.13.1.el9_4.x86_64 is older than 6.1"), "{warning}");
        judge(age(), Err(ErrorKind::PermissionDenied.into())).expect("loading tells of missing rights");
    }

    #[test]
    fn a_refusal_names_the_kernel_and_ends_with_the_verifiers_verdict() {
        let log: String = (1..=500).map(|line| format!("{line}: (b7) r0 = 1\n")).collect();
        let log = log + "BPF program is too large. Processed 1000001 insn\n";
        let figures: String =
            (0..40).map(|number| format!("subprog {number} (f) static insns_self 0\n")).collect();
        let log = log + &figures + "processed 1000001 insns (limit 1000000)\n\0";
        let error = refused("lb", "6.1.0-18-amd64", &io::Error::from_raw_os_error(libc::E2BIG), &log);
        let text = error.to_string();
        assert!(
            text.starts_with("Linux 6.1.0-18-amd64 refuses the program lb (Argument list too long"),
            "{text}"
        );
        assert!(text.ends_with("Processed 1000001 insn"), "{text}");
        assert_eq!(text.lines().count(), 1 + VERIFIER_LINES, "{text}");

        let verdict = io::Error::from_raw_os_error(libc::EACCES);
        let text = refused("lb", "6.1", &verdict, "R5 offset is outside of the packet\n\0").to_string();
        assert!(!text.contains("this needs root"), "{text}");

        let error = refused("lb", "6.1", &io::Error::from_raw_os_error(libc::EPERM), "");
        let text = error.to_string();
        assert!(text.ends_with("this needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"), "{text}");
    }
}

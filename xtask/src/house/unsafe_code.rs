//! Unsafe code stands in few modules, each with one thing that cannot be said otherwise.

use super::{read, rust_files};
use crate::workspace;

/// Every file of this workspace with unsafe code, but those of `lb-ebpf`: the verifier looks at
/// each step of these before the kernel runs it.
const UNSAFE: [(&str, &str); 29] = [
    ("lb-common/src/control.rs", "plain data of maps"),
    ("lb-common/src/shared.rs", "memory that the program, another CPU or another process writes meanwhile"),
    ("lb-userspace/cluster/src/realtime.rs", "sched_setscheduler(2)"),
    ("lb-userspace/cluster/src/transport/serial.rs", "termios with any speed"),
    ("lb-userspace/datapath/src/attach/link.rs", "bpf(2): what aya's links lack"),
    ("lb-userspace/datapath/src/bpf.rs", "bpf(2)"),
    ("lb-userspace/datapath/src/counters.rs", "values of maps"),
    ("lb-userspace/datapath/src/device/statistics.rs", "ethtool's ioctl"),
    ("lb-userspace/datapath/src/executor.rs", "membarrier(2)"),
    ("lb-userspace/datapath/src/fragments/again.rs", "bpf(2): a test run"),
    ("lb-userspace/datapath/src/kernel.rs", "what the kernel has, by bpf(2)"),
    ("lb-userspace/datapath/src/mapped.rs", "maps mapped into memory"),
    ("lb-userspace/datapath/src/program_log.rs", "records of the program's log"),
    ("lb-userspace/health/src/net/vip/link.rs", "frames of AF_XDP's memory"),
    ("lb-userspace/lb/src/confinement/install.rs", "seccomp(2)"),
    ("lb-userspace/lb/src/controller/writers.rs", "leases of files"),
    ("lb-userspace/lb/src/doctor/machine.rs", "adjtimex(2), to read the clock's state"),
    ("lb-userspace/net/src/ethtool.rs", "ethtool's ioctl"),
    ("lb-userspace/net/src/link.rs", "the address of packet sockets"),
    ("lb-userspace/net/src/segment/claims.rs", "a packet socket in tokio's hands"),
    ("lb-userspace/net/src/tun.rs", "TUNSETIFF"),
    ("lb-userspace/net/src/xsk.rs", "AF_XDP sockets"),
    ("tests/lab/src/lab/cleanup.rs", "a signal's handler"),
    ("tests/lab/src/lab/namespace.rs", "a child's first step"),
    ("tests/lab/src/lab/tunnel_end.rs", "packet sockets"),
    ("tests/lab/src/lab/vlan_end.rs", "packet sockets"),
    ("tests/lab/src/lab/xdp_pass.rs", "bpf(2)"),
    ("tests/lab/src/scenario/floods.rs", "sendmmsg(2)"),
    ("tests/tests/packets/probes.rs", "AF_XDP sockets"),
];

/// Whether a line of code, without its comment, has the keyword.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let words = code.split(|char: char| !char.is_alphanumeric() && char != '_');
    // `#[unsafe(no_mangle)]` and strings do not count: the first is for programs, and of the second
    // there is none with this word.
    !code.contains("#[unsafe(") && words.into_iter().any(|word| word == "unsafe")
}

#[test]
fn unsafe_code_stands_in_the_named_modules_alone() {
    let folders = ["lb-common", "lb-userspace", "tests"];
    let mut found: Vec<String> = rust_files(&folders)
        .into_iter()
        .filter(|path| read(path).lines().any(is_unsafe))
        .map(|path| path.strip_prefix(workspace::root()).expect("a path of ours").display().to_string())
        .collect();
    found.sort();
    let named: Vec<&str> = UNSAFE.iter().map(|(path, _)| *path).collect();
    assert_eq!(found, named, "the left side has unsafe code, the right side is the table UNSAFE");
}

#[test]
fn the_keyword_is_found_and_nothing_else() {
    for line in
        ["    unsafe { it() }", "unsafe impl Pod for X {}", "pub unsafe fn it() {}", "let x = unsafe{1};"]
    {
        assert!(is_unsafe(line), "{line}");
    }
    for line in ["// unsafe", "unsafe_op_in_unsafe_fn", "x(); // SAFETY: unsafe", "#[unsafe(no_mangle)]"] {
        assert!(!is_unsafe(line), "{line}");
    }
}

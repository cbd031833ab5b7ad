use std::collections::BTreeSet;
use std::str::FromStr as _;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use seccompiler::TargetArch;

use super::filter::{self, ALLOWED, Filter};
use super::*;

fn names() -> impl Iterator<Item = &'static str> {
    ALLOWED.iter().flat_map(|(_, names)| names.split_whitespace())
}

#[test]
fn every_name_is_a_call_of_one_of_the_architectures_and_stands_there_once() {
    let mut seen = BTreeSet::new();
    for name in names() {
        assert!(seen.insert(name), "{name} stands there twice");
        let there = syscalls::x86_64::Sysno::from_str(name).is_ok()
            || syscalls::aarch64::Sysno::from_str(name).is_ok();
        assert!(there, "{name} is no system call");
    }
}

/// What would give back what was given up, or reach into the machine or other processes.
#[test]
fn what_matters_is_not_allowed() {
    let refused = [
        "mount",
        "umount2",
        "pivot_root",
        "move_mount",
        "setns",
        "unshare",
        "ptrace",
        "process_vm_writev",
        "init_module",
        "finit_module",
        "kexec_load",
        "reboot",
        "swapon",
        "settimeofday",
        "clock_settime",
        "adjtimex",
        "keyctl",
        "userfaultfd",
        "io_uring_setup",
        "perf_event_open",
        "open_by_handle_at",
        "chroot",
        "personality",
        "iopl",
        "acct",
        "quotactl",
        "sethostname",
        "fanotify_init",
    ];
    for call in refused {
        assert!(syscalls::x86_64::Sysno::from_str(call).is_ok(), "{call} is no system call");
        assert!(names().all(|name| name != call), "{call} is allowed");
    }
}

/// `lb` is built for both.
#[test]
fn there_is_a_filter_for_each_architecture() {
    let intel = |name: &str| syscalls::x86_64::Sysno::from_str(name).ok().map(|call| i64::from(call.id()));
    let arm = |name: &str| syscalls::aarch64::Sysno::from_str(name).ok().map(|call| i64::from(call.id()));
    for kind in [Filter::Told, Filter::Silent, Filter::Clone3] {
        let programs = [
            filter::compile_for(kind, TargetArch::x86_64, intel),
            filter::compile_for(kind, TargetArch::aarch64, arm),
        ];
        let [intel, arm] = programs.map(|program| program.unwrap_or_else(|error| panic!("{error:#}")));
        let shortest = if kind == Filter::Clone3 { 5 } else { 400 };
        assert!(intel.len() > shortest && arm.len() > shortest, "{} and {}", intel.len(), arm.len());
        let asks = |program: &seccompiler::BpfProgram| {
            let asking = |step: &&seccompiler::sock_filter| {
                step.code == filter::RETURN && step.k == libc::SECCOMP_RET_USER_NOTIF
            };
            program.iter().filter(asking).count()
        };
        assert_eq!((asks(&intel) > 0, asks(&arm) > 0), (kind == Filter::Told, kind == Filter::Told));
    }
}

/// In a thread of its own, which the filter does not outlive.
fn confined<T: Send + 'static>(work: impl FnOnce(Receiver<Refusal>) -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        let calls = filter_calls().unwrap_or_else(|error| panic!("{error:#}"));
        // Under a container's manager that listens itself there is nothing to see here.
        calls.refusals.map(work)
    });
    thread.join().expect("the thread").expect("nobody else listens")
}

#[test]
fn what_is_refused_returns_an_error_and_is_told() {
    let (refused, told) = confined(|refusals| {
        let refused = [
            unshare(CloneFlags::CLONE_NEWNS),
            socket(AddressFamily::Vsock, SockType::Stream, SockFlag::empty(), None).map(drop),
        ];
        let told: Vec<Refusal> = refusals.iter().take(2).collect();
        (refused, told)
    });
    assert_eq!(refused, [Err(Errno::EPERM); 2]);
    let told: Vec<String> = told.iter().map(|refusal| refusal.finding().text).collect();
    assert!(told[0].starts_with("the system call unshare of "), "{told:?}");
    assert!(told[1].starts_with("the system call socket of "), "{told:?}");
}

#[test]
fn threads_processes_and_sockets_go_on_and_children_are_told_of_too() {
    let (answer, child, told) = confined(|refusals| {
        let answer = std::thread::spawn(|| 42).join().expect("a thread");
        socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::empty(), None).expect("a socket");
        let child = std::process::Command::new("unshare").args(["--net", "true"]).output().expect("it runs");
        (answer, child, refusals.recv().expect("it is told"))
    });
    assert_eq!(answer, 42);
    assert!(!child.status.success());
    assert_eq!(told.call.map(|call| call.name()), Some("unshare"));
    assert_eq!(told.name, "unshare");
}

/// deploy/systemd/lb.service gives what `lb` keeps.
#[test]
fn the_unit_gives_what_is_kept() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/systemd/lb.service");
    let unit = std::fs::read_to_string(path).expect("the unit");
    let given = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("a set");
    let given: BTreeSet<&str> = given.split_whitespace().collect();
    // LimitRTPRIO and LimitMEMLOCK stand for these two.
    let by_limits = ["CAP_SYS_NICE", "CAP_IPC_LOCK"];
    let kept: Vec<String> = capabilities::KEPT.iter().map(|(capability, _)| capability.to_string()).collect();
    let kept: BTreeSet<&str> =
        kept.iter().map(|name| &**name).filter(|name| !by_limits.contains(name)).collect();
    assert_eq!(given, kept);
}

//! The system calls that `lb` and its commands may make: what a service of systemd usually may
//! (`@system-service`), less what a load balancer and its commands have no use for, and bpf(2).
//!
//! Names that one of the two architectures does not have are left out there.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// What may be called, by what it is for.
pub(super) const ALLOWED: [(&str, &str); 15] = [
    (
        "files",
        "access chdir chmod close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 \
         fallocate fchdir fchmod fchmodat fchmodat2 fcntl fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr \
         fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr ioctl lgetxattr link linkat \
         listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat \
         openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr \
         rename renameat renameat2 rmdir sendfile setxattr splice stat statfs statx symlink symlinkat sync \
         sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes vmsplice write writev",
    ),
    ("who may read and write them", "chown fchown fchownat lchown"),
    (
        "waiting",
        "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 inotify_add_watch \
         inotify_init inotify_init1 inotify_rm_watch pause poll ppoll pselect6 select",
    ),
    (
        "networks; which families of sockets, see FAMILIES",
        "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg \
         sendmsg sendto setsockopt shutdown socketpair",
    ),
    ("programs and maps; an older lb's may be looked at with it, too", "bpf"),
    (
        "memory",
        "brk get_mempolicy madvise membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync \
         munlock munlockall munmap set_mempolicy mbind",
    ),
    (
        "threads and processes; clone without new namespaces, see NAMESPACES",
        "arch_prctl execve execveat exit exit_group fork futex futex_waitv get_robust_list kill pidfd_open \
         pidfd_send_signal prctl rseq rt_sigqueueinfo rt_tgsigqueueinfo set_robust_list set_tid_address tgkill tkill \
         vfork wait4 waitid",
    ),
    (
        "signals",
        "restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait \
         sigaltstack signalfd signalfd4",
    ),
    (
        "clocks, to read and to wait for",
        "alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create \
         timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times",
    ),
    (
        "priorities and limits",
        "getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_get_priority_max sched_get_priority_min \
         sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity \
         sched_setattr sched_setparam sched_setscheduler sched_yield setpriority setrlimit",
    ),
    (
        "who one is",
        "capget capset getcpu getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getresgid getresuid \
         getsid gettid getuid setfsgid setfsuid setgid setgroups setpgid setregid setresgid setresuid setreuid setsid \
         setuid",
    ),
    ("the machine", "getrandom sysinfo uname"),
    ("pipes", "pipe pipe2"),
    (
        "shared memory and semaphores of commands",
        "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl \
         semget semop semtimedop shmat shmctl shmdt shmget",
    ),
    (
        "commands that may do even less",
        "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
    ),
];

/// Families of sockets: Unix, IPv4, IPv6, netlink, packets, AF_XDP.
const FAMILIES: [i32; 6] =
    [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_XDP];

/// Flags of clone(2) that nobody may give.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// One of the filters that are made of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// Refuses by asking the listener.
    Told,
    /// Refuses by itself.
    Silent,
    /// Has nothing to do with the list: clone3(2) hides its flags in memory, where no filter sees
    /// them. libc goes on with clone(2) where there is no clone3.
    Clone3,
}

/// The filter for the architecture that this `lb` is built for.
pub(super) fn compile(filter: Filter) -> Result<BpfProgram> {
    let arch = std::env::consts::ARCH;
    let arch = TargetArch::try_from(arch).with_context(|| format!("no filter for {arch}"))?;
    let number = |name: &str| name.parse::<syscalls::Sysno>().ok().map(|call| i64::from(call.id()));
    compile_for(filter, arch, number)
}

/// `number` tells a call's number there, if there is that call.
pub(super) fn compile_for(
    filter: Filter,
    arch: TargetArch,
    number: impl Fn(&str) -> Option<i64>,
) -> Result<BpfProgram> {
    let (mismatch, matched) = match filter {
        // seccompiler has no name for the listener's action; see below.
        Filter::Told => (SeccompAction::Trap, SeccompAction::Allow),
        Filter::Silent => (SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow),
        Filter::Clone3 => (SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32)),
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    if filter == Filter::Clone3 {
        rules.extend(number("clone3").map(|number| (number, Vec::new())));
    } else {
        let names = ALLOWED.iter().flat_map(|(_, names)| names.split_whitespace());
        rules.extend(names.filter_map(&number).map(|number| (number, Vec::new())));
        let family = |family: i32| argument(SeccompCmpOp::Eq, family as u64);
        rules.insert(
            number("socket").context("no socket(2)")?,
            FAMILIES.into_iter().map(family).collect::<Result<_>>()?,
        );
        let plain = argument(SeccompCmpOp::MaskedEq(NAMESPACES as u64), 0)?;
        rules.insert(number("clone").context("no clone(2)")?, vec![plain]);
    }
    let mut program: BpfProgram = SeccompFilter::new(rules, mismatch, matched, arch)?.try_into()?;
    if filter == Filter::Told {
        let trap = program.iter_mut().filter(|step| step.code == RETURN && step.k == libc::SECCOMP_RET_TRAP);
        trap.for_each(|step| step.k = libc::SECCOMP_RET_USER_NOTIF);
    }
    Ok(program)
}

/// The instruction that ends a filter with a constant.
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// A rule for the first argument.
fn argument(operator: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

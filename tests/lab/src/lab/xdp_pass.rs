//! An XDP program that passes all packets, attached to an interface as long as the interface
//! exists.
//!
//! It has two instructions, so it needs no compiler and no object file. It is attached by netlink
//! instead of a BPF link, because it must outlive the attaching process.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::Namespace;

const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// Attaches the program to `interface` in native mode.
pub fn attach(namespace: &Namespace, interface: &str) -> Result<()> {
    let program = load(BPF_F_XDP_HAS_FRAGS)
        .or_else(|_| load(0))
        .context("cannot load an XDP program of two instructions: is bpf(2) allowed here?")?;
    namespace
        .run(|| set_xdp(if_nametoindex(interface)?, &program))?
        .with_context(|| format!("{}: cannot attach an XDP program to {interface}", namespace.name()))
}

/// Whether this kernel supports XDP programs with multi-buffer packets (frags, Linux 5.18).
pub fn takes_frags() -> Result<bool> {
    match load(BPF_F_XDP_HAS_FRAGS) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
        Err(error) => {
            Err(error).context("cannot load an XDP program of two instructions: is bpf(2) allowed here?")
        }
    }
}

/// `struct bpf_insn` of linux/bpf.h; both register numbers share the second byte.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes missing fields as zero.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

fn load(flags: u32) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const MOV64_IMM: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    const XDP_PASS: i32 = 2;

    let program = [
        Instruction { code: MOV64_IMM, registers: 0, offset: 0, immediate: XDP_PASS },
        Instruction { code: EXIT, registers: 0, offset: 0, immediate: 0 },
    ];
    let attributes = ProgramLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags,
    };
    // SAFETY: `attributes` has the kernel's layout and the given size; it points to `program` and
    // to a C string, which both live until the call returns.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, size_of::<ProgramLoad>())
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends RTM_SETLINK with IFLA_XDP (rtnetlink(7), linux/if_link.h) and waits for the
/// acknowledgement.
fn set_xdp(index: u32, program: impl AsFd) -> Result<()> {
    const IFLA_XDP_FD: u16 = 1;
    const IFLA_XDP_FLAGS: u16 = 3;
    const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
    const NESTED: u16 = 1 << 15;

    let fd = attribute(IFLA_XDP_FD, &program.as_fd().as_raw_fd().to_ne_bytes());
    let flags = attribute(IFLA_XDP_FLAGS, &XDP_FLAGS_DRV_MODE.to_ne_bytes());
    let xdp = attribute(libc::IFLA_XDP | NESTED, &[fd, flags].concat());

    // struct ifinfomsg: family, padding, type, index, flags, change mask.
    let link = [&[0; 4][..], &index.to_ne_bytes(), &[0; 8]].concat();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    // struct nlmsghdr: length, type, flags, sequence, port.
    let length = (16 + link.len() + xdp.len()) as u32;
    let header =
        [&length.to_ne_bytes()[..], &libc::RTM_SETLINK.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();

    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(socket.as_raw_fd(), &[header, link, xdp].concat(), MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // An acknowledgement is struct nlmsgerr after the header: a negative errno, 0 for success.
    let Some(error) = answer[..length].get(16..20) else { bail!("netlink answer of {length} bytes") };
    match i32::from_ne_bytes(error.try_into()?) {
        0 => Ok(()),
        error => Err(Errno::from_raw(-error).into()),
    }
}

/// `struct rtattr` and its value, which is a multiple of four bytes here and needs no padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
}

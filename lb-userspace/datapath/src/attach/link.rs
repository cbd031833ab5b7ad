//! A BPF link between the program and an interface, by its file descriptor.
//!
//! aya's own links do not tell which interface they are on nor can they be detached while pinned,
//! and its attaching falls back to netlink without a word, where nothing can be pinned or replaced
//! in one step.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya_obj::generated::bpf_attach_type::BPF_XDP;
use aya_obj::generated::bpf_link_type::BPF_LINK_TYPE_XDP;
use aya_obj::generated::{bpf_cmd, bpf_link_info};

use crate::bpf;

/// Closing the last descriptor of all clones detaches the program, unless the link is pinned.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

impl Link {
    /// Attaches `program` to the interface of this index. `flags` are the mode, `XDP_FLAGS_*`.
    pub(super) fn create(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<Self> {
        bpf::descriptor(bpf_cmd::BPF_LINK_CREATE, |attr| {
            attr.link_create.__bindgen_anon_1.prog_fd = number(program);
            attr.link_create.__bindgen_anon_2.target_ifindex = interface;
            attr.link_create.attach_type = BPF_XDP as u32;
            attr.link_create.flags = flags;
        })
        .map(Self)
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The link that is pinned at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let name = name(path)?;
        let link = bpf::descriptor(bpf_cmd::BPF_OBJ_GET, |attr| {
            attr.__bindgen_anon_4.pathname = name.as_ptr() as u64;
        })
        .map(Self)?;
        link.info()?;
        Ok(link)
    }

    /// Keeps the link in place when this process is gone. `path` is in a BPF file system.
    pub(super) fn pin(&self, path: &Path) -> io::Result<()> {
        let name = name(path)?;
        bpf::call(bpf_cmd::BPF_OBJ_PIN, |attr| {
            attr.__bindgen_anon_4.pathname = name.as_ptr() as u64;
            attr.__bindgen_anon_4.bpf_fd = self.number();
        })
        .map(drop)
    }

    /// Puts `program` in the place of the one before: no packet meets neither or both.
    pub(super) fn replace_program(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        bpf::call(bpf_cmd::BPF_LINK_UPDATE, |attr| {
            attr.link_update.link_fd = self.number();
            attr.link_update.__bindgen_anon_1.new_prog_fd = number(program);
        })
        .map(drop)
    }

    /// Takes the program off the interface now; merely closing and unpinning takes the kernel a
    /// while.
    pub(super) fn detach(&self) -> io::Result<()> {
        bpf::call(bpf_cmd::BPF_LINK_DETACH, |attr| attr.link_detach.link_fd = self.number()).map(drop)
    }

    /// Index of the interface, `None` once that is gone or the link was detached.
    pub(super) fn interface(&self) -> io::Result<Option<u32>> {
        let info = self.info()?;
        // SAFETY: `info` has made sure that this is an XDP link, and any bytes are a number.
        let index = unsafe { info.__bindgen_anon_1.xdp.ifindex };
        Ok((index != 0).then_some(index))
    }

    /// The kernel's number of the program, as `bpftool prog` lists it.
    pub(super) fn program_id(&self) -> io::Result<u32> {
        Ok(self.info()?.prog_id)
    }

    fn info(&self) -> io::Result<bpf_link_info> {
        // SAFETY: the struct consists of integers, for which zeros are fine.
        let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
        bpf::call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, |attr| {
            attr.info.bpf_fd = self.number();
            attr.info.info_len = size_of::<bpf_link_info>() as u32;
            attr.info.info = (&raw mut info) as u64;
        })?;
        if info.type_ != BPF_LINK_TYPE_XDP as u32 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no XDP link"));
        }
        Ok(info)
    }

    fn number(&self) -> u32 {
        self.0.as_raw_fd() as u32
    }
}

/// A descriptor as the kernel's structs want it.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn name(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

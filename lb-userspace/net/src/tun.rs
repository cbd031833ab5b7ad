//! A device that is there as long as somebody has it open: when the process ends, however that is,
//! the kernel takes it away, and its addresses with it. Nobody reads what the host sends by it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkUnspec, new_connection};

const DEVICES: &str = "/dev/net/tun";

nix::ioctl_write_ptr_bad!(
    /// TUNSETIFF: the file is that device from now on, which the kernel makes.
    set_device,
    libc::TUNSETIFF,
    libc::ifreq
);

#[derive(Debug)]
pub struct Tun {
    _file: File,
    index: u32,
}

impl Tun {
    /// Makes the device and puts it up. Needs CAP_NET_ADMIN, and a tokio runtime around it.
    pub async fn make(name: &str) -> Result<Self> {
        let file = open(name)?;
        let index = if_nametoindex(name).with_context(|| format!("device {name}"))?;
        put_up(index).await.with_context(|| format!("cannot put the device {name} up"))?;
        Ok(Self { _file: file, index })
    }

    /// Of the interface.
    pub const fn index(&self) -> u32 {
        self.index
    }
}

fn open(name: &str) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(DEVICES).with_context(|| {
        format!(
            "cannot open {DEVICES}, which a group of `kind: anycast` needs; with systemd \
             lb.service.d/anycast.conf allows it"
        )
    })?;
    let mut ifr_name = [0; libc::IFNAMSIZ];
    ifr_name.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte as libc::c_char);
    ifr_name[libc::IFNAMSIZ - 1] = 0;
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags };
    let request = libc::ifreq { ifr_name, ifr_ifru };
    // SAFETY: the file is open, and the request lives through the call, which reads no more of it.
    match unsafe { set_device(file.as_raw_fd(), &raw const request) } {
        Ok(_) => Ok(file),
        Err(error) => Err(io::Error::from(error)).with_context(|| match error {
            Errno::EBUSY => {
                format!(
                    "device {name}: another process has it; expected another name (`device` of the group)"
                )
            }
            Errno::EINVAL => {
                format!(
                    "device {name}: there is an interface of this name already; expected another one \
                     (`device` of the group)"
                )
            }
            _ => format!("cannot make the device {name}"),
        }),
    }
}

async fn put_up(index: u32) -> Result<()> {
    let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
    let task = tokio::spawn(connection);
    let done = handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await;
    task.abort();
    Ok(done?)
}

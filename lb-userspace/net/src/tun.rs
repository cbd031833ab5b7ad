//! A device that is there as long as this process has it open: when that ends, however it does, the
//! kernel takes the device away, and its addresses with it. Nobody reads what the host sends by it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::{Handle, LinkUnspec, new_connection};

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
        let tun = Self { _file: file, index };
        tun.put_up().await.with_context(|| format!("device {name}"))?;
        Ok(tun)
    }

    /// Puts the device up. Returns whether it was down. Needs a tokio runtime around it.
    pub async fn put_up(&self) -> Result<bool> {
        let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
        let task = tokio::spawn(connection);
        let done = put_up(&handle, self.index).await;
        task.abort();
        done
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
    // One that is there already would be another process's too, or would not go with this one.
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short;
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags };
    let request = libc::ifreq { ifr_name, ifr_ifru };
    // SAFETY: the file is open, and the request lives through the call, which reads no more of it.
    match unsafe { set_device(file.as_raw_fd(), &raw const request) } {
        Ok(_) => Ok(file),
        Err(error) => Err(io::Error::from(error)).with_context(|| match error {
            Errno::EBUSY => {
                format!(
                    "device {name}: there is an interface of this name already, perhaps of another lb; take it \
                     away, or give the group another `device`"
                )
            }
            _ => format!("cannot make the device {name}"),
        }),
    }
}

async fn put_up(handle: &Handle, index: u32) -> Result<bool> {
    let mut links = handle.link().get().match_index(index).execute();
    let link = links.try_next().await.context("cannot look at it")?.context("it is not there")?;
    if link.header.flags.contains(LinkFlags::Up) {
        return Ok(false);
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.context("cannot put it up")?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use lb_lab::veth::{VethPair, block_on, ip};

    use super::*;

    fn refused(end: &VethPair, name: &str) -> String {
        let made = end.run(0, |_| block_on(Tun::make(name)).map(drop));
        format!("{:#}", made.expect_err("refused"))
    }

    #[test]
    fn a_device_is_made_by_one_process_goes_with_it_and_is_put_up_again() {
        let pair = VethPair::new("tun");
        let namespace = &pair.names[0];
        let tun = pair.run(0, |_| block_on(Tun::make("lb-x"))).expect("a device");
        let again = refused(&pair, "lb-x");
        assert!(again.contains("device lb-x: there is an interface of this name already"), "{again}");
        assert!(!pair.run(0, |_| block_on(tun.put_up())).expect("it is there"), "it is up");
        ip(&format!("-n {namespace} link set lb-x down"));
        assert!(pair.run(0, |_| block_on(tun.put_up())).expect("it is there"), "it was down");
        assert!(!pair.run(0, |_| block_on(tun.put_up())).expect("it is there"), "it is up again");
        drop(tun);
        // A command that another test is just starting still has the file, until it runs.
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Err(error) = pair.run(0, |_| block_on(Tun::make("lb-x"))) {
            assert!(Instant::now() < deadline, "it has not gone with its file: {error:#}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// It would be there when the process has ended.
    #[test]
    fn a_device_that_stays_is_nobodys() {
        let pair = VethPair::new("tunstays");
        ip(&format!("-n {} tuntap add lb-x mode tun", pair.names[0]));
        let text = refused(&pair, "lb-x");
        assert!(text.contains("perhaps of another lb; take it away"), "{text}");
        assert!(refused(&pair, "eth0").contains("there is an interface of this name already"));
    }
}

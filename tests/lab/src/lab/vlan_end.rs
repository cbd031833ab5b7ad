//! A server's end of a VLAN, for kernels without VLAN devices: the kernel has read the tag and
//! drops the frame, and a packet socket sees it before; what is in it goes into a tun device.

use std::fmt;
use std::io::Write as _;
use std::mem;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use super::Node;
use super::tunnel_end::{DEVICE, tun};

const ETHERNET: usize = 14;

/// Takes packets of one VLAN as long as this value lives.
pub struct VlanEnd {
    stop: Arc<AtomicBool>,
    packets: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl VlanEnd {
    /// Takes packets with a single tag of this number.
    pub fn start(node: &Node, number: u16) -> Result<Self> {
        let (device, socket) = node.run(|| -> Result<_> { Ok((tun()?, socket()?)) })??;
        node.ip(&format!("link set {DEVICE} up"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let packets = Arc::new(AtomicU64::new(0));
        let thread = {
            let (stop, packets) = (Arc::clone(&stop), Arc::clone(&packets));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(frame) = receive(&socket, number) {
                        packets.fetch_add(1, Ordering::Relaxed);
                        // A device that is down loses it, as any would.
                        let _ = (&device).write_all(&frame[ETHERNET..]);
                    }
                }
            })
        };
        Ok(Self { stop, packets, thread: Some(thread) })
    }

    /// Packets of the VLAN so far.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }
}

impl Drop for VlanEnd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for VlanEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VlanEnd").finish_non_exhaustive()
    }
}

fn socket() -> Result<Socket> {
    let all = Protocol::from(libc::c_int::from((libc::ETH_P_ALL as u16).to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).context("no packet socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, which lives.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_AUXDATA,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    Errno::result(set).context("the kernel does not tell tags")?;
    Ok(socket)
}

/// A frame that has come with a tag of this number, without that.
fn receive(socket: &Socket, number: u16) -> Option<Vec<u8>> {
    let mut frame = vec![0; 1 << 16];
    let mut control = [0_u64; 16];
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: zeros make a msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
    // SAFETY: the message points to memory of the lengths that it tells.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    frame.truncate(usize::try_from(length).ok()?);
    // SAFETY: the kernel has filled the message in.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: `header` points into `control`, which is aligned.
        let kind = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        if kind == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            // SAFETY: such a message holds a tpacket_auxdata.
            let data = unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
            let is_tagged = data.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
            return (is_tagged && data.tp_vlan_tci & 0xfff == number && frame.len() > ETHERNET)
                .then_some(frame);
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    None
}

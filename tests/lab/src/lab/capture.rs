//! Captures the frames that a node receives, with the kernel's time stamps.

use std::fmt;
use std::io::IoSliceMut;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_common::mac::Mac;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout, ReceiveTimestampns};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket,
};
use nix::sys::time::TimeVal;

use super::Node;

/// A received Ethernet frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Time of arrival on the wall clock, since 1970.
    pub at: Duration,
    pub bytes: Vec<u8>,
}

/// An ARP request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

impl Frame {
    /// Whether its sender's MAC is `mac`, in the format of [`Node::mac`].
    pub fn is_from(&self, mac: &str) -> bool {
        let source = self.bytes.get(6..).and_then(|rest| rest.first_chunk()).copied().map(Mac::new);
        source.is_some() && source == mac.parse().ok()
    }

    pub fn arp(&self) -> Option<Arp> {
        let packet = self.bytes.get(14..42).filter(|_| self.bytes[12..14] == [0x08, 0x06])?;
        Some(Arp { sender: address(packet, 14)?, target: address(packet, 24)? })
    }

    pub fn ipv4_source(&self) -> Option<Ipv4Addr> {
        let packet = self.bytes.get(14..).filter(|_| self.bytes[12..14] == [0x08, 0x00])?;
        address(packet, 12)
    }
}

fn address(packet: &[u8], from: usize) -> Option<Ipv4Addr> {
    packet.get(from..)?.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))
}

/// Captures as long as this value lives.
pub struct Capture {
    frames: Arc<Mutex<Vec<Frame>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Captures on all interfaces of the node.
    pub fn start(node: &Node) -> Result<Self> {
        let socket = node.run(open)?.with_context(|| format!("cannot listen on {}", node.name()))?;
        let frames = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (frames, stop) = (Arc::clone(&frames), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(frame) = receive(&socket) {
                        lock(&frames).push(frame);
                    }
                }
            })
        };
        Ok(Self { frames, stop, thread: Some(thread) })
    }

    /// Takes the frames captured so far.
    pub fn take(&self) -> Vec<Frame> {
        std::mem::take(&mut *lock(&self.frames))
    }

    /// Takes the ARP frames captured so far.
    pub fn look<T>(&self, look: impl FnOnce(&[Frame]) -> T) -> T {
        look(&lock(&self.frames))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

fn open() -> nix::Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    setsockopt(&socket, RcvBufForce, &(32 << 20))?;
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 100_000))?;
    Ok(socket)
}

/// Receives a frame; `None`: none has arrived for a while.
fn receive(socket: &OwnedFd) -> Option<Frame> {
    let mut bytes = [0; 1514];
    let mut space = nix::cmsg_space!(nix::libc::timespec);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).ok()?;
    let at = message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
        _ => None,
    })?;
    let length = message.bytes;
    Some(Frame { at, bytes: bytes[..length].to_vec() })
}

fn lock(frames: &Mutex<Vec<Frame>>) -> MutexGuard<'_, Vec<Frame>> {
    frames.lock().unwrap_or_else(PoisonError::into_inner)
}

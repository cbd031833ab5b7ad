//! AF_XDP sockets: they receive frames that the XDP program redirects, and send frames past the
//! kernel's stack.
//!
//! A socket is bound to one receive queue of the interface, so each queue needs a socket. The crate
//! `xdp` implements system calls and rings.

use std::error::Error as _;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, send};
use xdp::nic::NicIndex;
use xdp::slab::{Slab as _, StackSlab};
use xdp::socket::{BindFlags, SocketError, XdpSocket, XdpSocketBuilder};
use xdp::umem::{FrameSize, UmemCfgBuilder};
use xdp::{RingConfigBuilder, Umem, WakableRings};

/// Maximum number of receive queues.
pub const MAX_QUEUES: u32 = 1024;

/// How frames get from the driver to the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    /// The kernel copies the redirected frames. The queue is otherwise unchanged.
    Copy,
    /// All frames of the queue are in the socket's memory, including those that are forwarded or
    /// passed.
    Zero,
}

impl Copying {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy mode",
            Self::Zero => "zero-copy",
        }
    }
}

/// Ring sizes of a socket, in frames.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Received frames; a power of two.
    receive: u32,
    /// Frames to send; a power of two, or 0.
    send: u32,
}

impl Room {
    /// The first queue, which sends all frames. Many interfaces have no other.
    const FIRST: Self = Self { receive: 512, send: 256 };
    const OTHER: Self = Self { receive: 128, send: 0 };
    /// Zero-copy: all frames of a queue are in the socket's memory, which needs room for a flood.
    const RECEIVE_ZERO: u32 = 4096;

    fn of(queue: u32, copying: Copying) -> Self {
        let room = if queue == 0 { Self::FIRST } else { Self::OTHER };
        match copying {
            Copying::Copy => room,
            Copying::Zero => Self { receive: Self::RECEIVE_ZERO, ..room },
        }
    }
}

/// Opens sockets on all queues of the interface from number `first` on, if there are any.
pub fn open_from(first: u32, interface: u32, copying: Copying) -> Result<Vec<Xsk>> {
    let mut sockets = Vec::new();
    for queue in first..MAX_QUEUES {
        match Xsk::open(interface, queue, copying) {
            Ok(socket) => sockets.push(socket),
            // Drivers need not report their number of queues, but the kernel binds no socket to a
            // missing queue.
            Err(error) if queue > 0 && is_invalid(&error) => break,
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot open an AF_XDP socket on receive queue {queue}"));
            }
        }
    }
    Ok(sockets)
}

fn is_invalid(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(libc::EINVAL)
}

/// A socket on one queue. The kernel drops frames while the ring is full.
pub struct Xsk {
    // The order matters: fields are dropped in this order, and the memory must outlive the others.
    socket: XdpSocket,
    rings: WakableRings,
    umem: Umem,
    queue: u32,
    copying: Copying,
    room: Room,
    /// Sent frames whose memory the kernel has not returned.
    sent: u32,
}

impl Xsk {
    /// Binds a socket to this queue of the interface. [`Copying::Zero`] falls back to copy mode if
    /// the driver has no zero-copy.
    fn open(interface: u32, queue: u32, copying: Copying) -> Result<Self> {
        match copying {
            Copying::Copy => Self::bind(interface, queue, Copying::Copy),
            Copying::Zero => Self::bind(interface, queue, Copying::Zero)
                .or_else(|_| Self::bind(interface, queue, Copying::Copy)),
        }
    }

    fn bind(interface: u32, queue: u32, copying: Copying) -> Result<Self> {
        let room = Room::of(queue, copying);
        let umem = UmemCfgBuilder {
            frame_size: FrameSize::FourK,
            frame_count: room.receive + room.send,
            ..UmemCfgBuilder::default()
        };
        let mut umem = Umem::map(umem.build()?)?;
        let rings = RingConfigBuilder {
            rx_count: room.receive,
            fill_count: room.receive,
            tx_count: room.send,
            completion_count: room.send.max(1),
        };
        let mut builder = XdpSocketBuilder::new().map_err(cause)?;
        let (mut rings, mut flags) = builder.build_wakable_rings(&umem, rings.build()?).map_err(cause)?;
        // SAFETY: the memory lives as long as the socket, see the order of the fields.
        unsafe { rings.fill_ring.enqueue(&mut umem, room.receive as usize, false) }?;
        demand(&mut flags, copying);
        let socket = builder.bind(NicIndex::new(interface), queue, flags).map_err(cause)?;
        Ok(Self { socket, rings, umem, queue, copying, room, sent: 0 })
    }

    pub fn queue(&self) -> u32 {
        self.queue
    }

    pub fn copying(&self) -> Copying {
        self.copying
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the socket's, and open as long as self lives.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    /// Passes all received frames to `each`.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8])) {
        let Some(ring) = &mut self.rings.rx_ring else { return };
        let mut some = StackSlab::<32>::new();
        // SAFETY: the packets are returned to the memory below.
        while unsafe { ring.recv(&self.umem, &mut some) } > 0 {
            let count = some.len();
            while let Some(packet) = some.pop_back() {
                each(&packet);
                self.umem.free_packet(packet);
            }
            // SAFETY: as in `bind`. An error means that the interface is down; the ring is filled
            // anyway.
            let _ = unsafe { self.rings.fill_ring.enqueue(&mut self.umem, count, true) };
        }
    }

    /// Queues a frame for [`Self::flush`]. `false`: there is no room now.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        self.reclaim();
        let Some(ring) = &mut self.rings.tx_ring else { return false };
        if self.sent == self.room.send {
            return false;
        }
        // SAFETY: the packet is passed to the ring or returned to the memory.
        let Some(mut packet) = (unsafe { self.umem.alloc() }) else { return false };
        if packet.append(frame).is_err() {
            self.umem.free_packet(packet);
            return true; // too long to be one of our frames; waiting would not help
        }
        let mut one = StackSlab::<1>::new();
        one.push_front(packet);
        // SAFETY: as in `bind`. Without the wake-up there is nothing to fail.
        let queued = unsafe { ring.send(&mut one, false) }.unwrap_or(0);
        if let Some(packet) = one.pop_back() {
            self.umem.free_packet(packet);
        }
        self.sent += queued as u32;
        queued > 0
    }

    /// Makes the kernel send the queued frames.
    pub fn flush(&mut self) {
        // The kernel sends a few dozen frames per call and returns EAGAIN when there are more.
        // Other errors mean that the driver's queue is full or the interface down: frames in the
        // ring are sent by the next call.
        for _ in 0..=self.room.send / 16 {
            match send(self.socket.as_raw_fd(), &[], MsgFlags::MSG_DONTWAIT) {
                Err(nix::Error::EAGAIN) => {}
                _ => break,
            }
        }
        self.reclaim();
    }

    fn reclaim(&mut self) {
        let done = self.rings.completion_ring.dequeue(&mut self.umem, self.sent as usize);
        self.sent -= done as u32;
    }
}

fn demand(flags: &mut BindFlags, copying: Copying) {
    match copying {
        Copying::Copy => flags.force_copy(),
        Copying::Zero => flags.force_zerocopy(),
    }
}

/// The kernel's error, in place of the library's.
fn cause(error: SocketError) -> io::Error {
    let code = error.source().and_then(|source| source.downcast_ref::<io::Error>()?.raw_os_error());
    code.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

//! AF_XDP sockets: frames that the program hands to them, and frames sent beside the kernel's stack.
//!
//! A socket is bound to one receive queue of the interface, so all queues need one each. `xdp` does the system calls and the
//! rings.

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

/// Receive queues at most.
pub const MAX_QUEUES: u32 = 1024;

/// The longest frame that fits: what the kernel leaves of a page.
pub const LONGEST_FRAME: usize = 4096 - 256;

/// How frames get from the driver to the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    /// The kernel copies those that the program picks out. The queue is otherwise left as it is.
    Copy,
    /// All frames of the queue lie in the socket's memory, those that are forwarded or passed too.
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

/// How many frames a socket holds.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Received and not yet fetched; a power of two.
    receive: u32,
    /// Sent and not yet on the wire; a power of two or none.
    send: u32,
}

impl Room {
    /// Whatever is sent goes out by the first queue. Many interfaces have no other.
    const FIRST: Self = Self { receive: 512, send: 256 };
    const OTHER: Self = Self { receive: 128, send: 0 };
    /// All frames of a queue lie in the socket's memory then, and a flood must find room.
    const RECEIVE_ZERO: u32 = 4096;

    fn of(queue: u32, copying: Copying) -> Self {
        let room = if queue == 0 { Self::FIRST } else { Self::OTHER };
        match copying {
            Copying::Copy => room,
            Copying::Zero => Self { receive: Self::RECEIVE_ZERO, ..room },
        }
    }
}

/// Sockets on all queues of the interface from number `first` on; on none, if it has no more than that.
pub fn open_from(first: u32, interface: u32, copying: Copying) -> Result<Vec<Xsk>> {
    let mut sockets = Vec::new();
    for queue in first..MAX_QUEUES {
        match Xsk::open(interface, queue, copying) {
            Ok(socket) => sockets.push(socket),
            // Drivers need not tell how many queues they have, but the kernel binds no socket to one that is not there.
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

/// A socket on one queue. Frames are dropped, by the kernel, while nobody fetches them.
pub struct Xsk {
    // In this order: what comes first is dropped first, and the memory must outlive all else.
    socket: XdpSocket,
    rings: WakableRings,
    umem: Umem,
    queue: u32,
    copying: Copying,
    room: Room,
    /// Frames sent whose memory the kernel has not given back.
    sent: u32,
}

impl Xsk {
    /// A socket on this queue of the interface. With [`Copying::Zero`] it copies all the same if the driver cannot do
    /// without.
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
        // SAFETY: the descriptor is the socket's, and open as long as self is.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    /// Hands all frames that have come to `each`.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8])) {
        let Some(ring) = &mut self.rings.rx_ring else { return };
        let mut some = StackSlab::<32>::new();
        // SAFETY: the packets go back to the memory below.
        while unsafe { ring.recv(&self.umem, &mut some) } > 0 {
            let count = some.len();
            while let Some(packet) = some.pop_back() {
                each(&packet);
                self.umem.free_packet(packet);
            }
            // SAFETY: as in `bind`. An error says that the interface is down; the ring is filled all the same.
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
        // SAFETY: the packet goes to the ring or back to the memory.
        let Some(mut packet) = (unsafe { self.umem.alloc() }) else { return false };
        if packet.append(frame).is_err() {
            self.umem.free_packet(packet);
            return true; // longer than any frame of ours: nothing that waiting would change
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

    /// Has the kernel send what is queued.
    pub fn flush(&mut self) {
        // The kernel takes a few dozen frames at a time and says EAGAIN when there are more. Other errors say that the
        // driver's queue is full or the interface down: what stays in the ring goes out with the next call.
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

/// The kernel's own word, in place of the library's.
fn cause(error: SocketError) -> io::Error {
    let code = error.source().and_then(|source| source.downcast_ref::<io::Error>()?.raw_os_error());
    code.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

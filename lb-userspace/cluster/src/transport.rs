//! The ways that heartbeats travel, any number at once, and the thread that serves them.
//!
//! - [`udp`]: unicast, multicast or broadcast, IPv4 or IPv6
//! - [`serial`]: a null-modem cable; [`framing`] finds the messages in what comes out of it
//! - [`event_loop`]: the thread between the paths and the machine ([`Driver`](event_loop::Driver))
//! - [`slot`]: a path that broke is closed and opened again
//! - [`statistics`]: what each path carried, for the metrics
//!
//! Nothing here waits: a path that takes nothing now loses the message, because a heartbeat that
//! waits is worthless and the next one says all it said.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::reason::DropReason;

pub(crate) mod event_loop;
pub(crate) mod framing;
pub(crate) mod serial;
pub(crate) mod slot;
pub mod statistics;
pub(crate) mod udp;

/// A path's place in the configuration's list of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u8);

/// How to open a path: also again, after it broke or when its interface comes to exist.
pub trait Open: Send {
    /// Says in its error what was tried.
    fn open(&self) -> io::Result<Box<dyn Path>>;
}

/// An open path. No method waits.
pub trait Path: Send {
    /// To be polled for reading.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Sends one sealed message to all other nodes on this path. An error loses this message only.
    fn send(&mut self, message: &[u8], now: Duration) -> io::Result<()>;

    /// Puts the next received message into `buffer`, in place of its content; `None` if there is
    /// none. An error means that the path is broken.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Arrival>>;

    /// When [`Self::timer`] wants to be called.
    fn next_timeout(&self) -> Option<Duration> {
        None
    }

    /// Goes on with what a slow path could not take at once. Too early or too often does no harm.
    fn timer(&mut self, _now: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// Something that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// How long the message has been lying in the kernel, if the kernel says so.
    pub age: Duration,
    /// Why what came is no whole message.
    pub fault: Option<DropReason>,
}

/// A socket for datagrams to single nodes, over this interface alone if one is named, and where to
/// send them: link-local addresses with their interface.
pub fn unicast(
    interface: Option<String>,
    local: SocketAddr,
    peers: Vec<SocketAddr>,
) -> io::Result<(UdpSocket, Vec<SocketAddr>)> {
    udp::Udp { to: udp::To::Unicast { local, peers }, interface }.open_unicast()
}

/// Puts what was tried before an error's text.
fn context(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

//! Floods from made-up sources at the rate that one sender reaches, and what they cost those who
//! are served meanwhile.

mod frames;

use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use self::frames::Frames;
pub use self::frames::Kind;
use super::newcomers::{AT_ONCE, Newcomers, Served};
use crate::lab::{Director, Node};

/// How often the director is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// What happened during a flood.
#[derive(Debug, Clone, Copy)]
pub struct Findings {
    /// Frames that were sent, and how many in a second.
    pub frames: u64,
    pub rate: f64,
    /// Requests of honest clients.
    pub served: Served,
    /// The slowest answer of the control socket.
    pub slowest_answer: Duration,
    /// Growth of the director's memory.
    pub grown_kib: u64,
}

/// Floods the director's service at `to` from `client` for `length`, while honest clients connect
/// and the director is asked for its status.
pub fn flood(
    client: &Node,
    director: &Director,
    to: SocketAddrV4,
    kind: Kind,
    length: Duration,
) -> Result<Findings> {
    let before = memory_kib(director)?;
    let newcomers = Newcomers::start(client, to, AT_ONCE);
    let (frames, took, slowest_answer) = thread::scope(|scope| -> Result<_> {
        let sender = scope.spawn(|| client.run(|| send(client, director.node(), to, kind, length))?);
        let mut slowest = Duration::ZERO;
        let asked = loop {
            let begun = Instant::now();
            if let Err(error) = director.status() {
                break Err(error.context("the director does not answer during the flood"));
            }
            slowest = slowest.max(begun.elapsed());
            if sender.is_finished() {
                break Ok(());
            }
            thread::sleep(ASK_EVERY);
        };
        let (frames, took) = sender.join().expect("the sender has a result")?;
        asked?;
        Ok((frames, took, slowest))
    })?;
    Ok(Findings {
        frames,
        rate: frames as f64 / took.as_secs_f64(),
        served: newcomers.finish()?,
        slowest_answer,
        grown_kib: memory_kib(director)?.saturating_sub(before),
    })
}

/// Sends as fast as it goes. Returns how many frames, and how long that took.
fn send(
    client: &Node,
    director: &Node,
    to: SocketAddrV4,
    kind: Kind,
    length: Duration,
) -> Result<(u64, Duration)> {
    let socket = socket()?;
    let mut frames = Frames::new([&director.mac(), &client.mac()], to, kind)?;
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < length {
        for _ in 0..64 {
            // What the interface has no room for is lost, as on a cable.
            count += u64::from(socket.send(frames.following()).is_ok());
        }
    }
    Ok((count, begun.elapsed()))
}

/// A packet socket on eth0 of the calling thread's namespace.
fn socket() -> Result<Socket> {
    let socket =
        Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).context("no packet socket")?;
    let index = if_nametoindex("eth0").context("no eth0")?;
    // SAFETY: the storage is all zeros and large enough for a sockaddr_ll, whose every field is an
    // integer.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = &mut *storage.cast::<nix::libc::sockaddr_ll>();
            address.sll_family = nix::libc::AF_PACKET as u16;
            address.sll_ifindex = index as i32;
            *length = size_of::<nix::libc::sockaddr_ll>() as u32;
            Ok(())
        })?
    };
    socket.bind(&address).context("cannot bind a packet socket to eth0")?;
    Ok(socket)
}

/// The director's resident memory. Its maps do not grow: their sizes are fixed.
fn memory_kib(director: &Director) -> Result<u64> {
    let file = format!("/proc/{}/status", director.process().pid());
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")
}

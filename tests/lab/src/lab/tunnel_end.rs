//! A server's end of tunnels, for kernels without ipip, gre and fou devices: packets come by raw
//! and UDP sockets, so the kernel has checked the outer ones, and what is in them goes into a tun
//! device.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write as _};
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_common::forward::tunnel::GUE_PORT;
use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use socket2::{Domain, Protocol, Socket, Type};

use super::Node;

/// Name of the tun device.
pub(super) const DEVICE: &str = "tun0";
const IPV4: i32 = 4;
const IPV6: i32 = 41;
const GRE: i32 = 47;
/// Bytes of a GRE header without options, and of GUE's.
const SHIM: usize = 4;

/// Takes packets out of tunnels as long as this value lives.
pub struct TunnelEnd {
    stop: Arc<AtomicBool>,
    packets: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl TunnelEnd {
    /// Takes packets of all kinds and families, over IPv6 those of GUE alone that have a checksum.
    pub fn start(node: &Node) -> Result<Self> {
        Self::start_with(node, false)
    }

    /// The same without checksums of GUE over IPv6, as the kernel's fou device takes them: first
    /// fragments have none.
    pub fn start_like_fou(node: &Node) -> Result<Self> {
        Self::start_with(node, true)
    }

    fn start_with(node: &Node, takes_zero_checksums: bool) -> Result<Self> {
        let made = node.run(|| -> Result<_> { Ok((tun()?, sockets(takes_zero_checksums)?)) })?;
        let (device, sockets) = made?;
        node.ip(&format!("link set {DEVICE} mtu 9000 up"))?;
        node.sysctl(&format!("net/ipv6/conf/{DEVICE}/disable_ipv6"), "0")?;
        let device = Arc::new(device);
        let stop = Arc::new(AtomicBool::new(false));
        let packets = Arc::new(AtomicU64::new(0));
        let spawn = |(mut socket, headers): (Socket, Headers)| {
            let (device, stop, packets) = (Arc::clone(&device), Arc::clone(&stop), Arc::clone(&packets));
            thread::spawn(move || {
                let mut packet = vec![0; 1 << 16];
                while !stop.load(Ordering::Relaxed) {
                    let Ok(length) = socket.read(&mut packet) else { continue };
                    if let Some(inner) = headers.inner(&packet[..length]) {
                        packets.fetch_add(1, Ordering::Relaxed);
                        // A device that is down loses it, as any would.
                        let _ = (&*device).write_all(inner);
                    }
                }
            })
        };
        let threads = sockets.into_iter().map(spawn).collect();
        Ok(Self { stop, packets, threads })
    }

    /// Packets that came by tunnels so far.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }
}

impl Drop for TunnelEnd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for TunnelEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelEnd").finish_non_exhaustive()
    }
}

/// What a socket hands over before the inner packet.
#[derive(Clone, Copy)]
struct Headers {
    /// A raw socket of IPv4 hands over the outer header, too.
    outer: bool,
    shim: usize,
}

impl Headers {
    fn inner(self, packet: &[u8]) -> Option<&[u8]> {
        let outer = if self.outer { usize::from(packet.first()? & 15) * 4 } else { 0 };
        packet.get(outer + self.shim..)
    }
}

fn sockets(takes_zero_checksums: bool) -> Result<Vec<(Socket, Headers)>> {
    let mut sockets = Vec::new();
    for (protocol, shim) in [(IPV4, 0), (IPV6, 0), (GRE, SHIM)] {
        for domain in [Domain::IPV4, Domain::IPV6] {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))
                .with_context(|| format!("no raw socket of protocol {protocol}"))?;
            sockets.push((socket, Headers { outer: domain == Domain::IPV4, shim }));
        }
    }
    let gue = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    gue.set_only_v6(false)?;
    if takes_zero_checksums {
        take_zero_checksums(&gue)?;
    }
    gue.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, GUE_PORT)).into()).context("GUE's port")?;
    sockets.push((gue, Headers { outer: false, shim: SHIM }));
    for (socket, _) in &sockets {
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        // A sender that does not wait must not lose packets here, of which each takes a page.
        setsockopt(socket, RcvBufForce, &(32 << 20))?;
    }
    Ok(sockets)
}

/// Of UDP over IPv6.
fn take_zero_checksums(socket: &Socket) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads an integer, which lives.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_NO_CHECK6_RX,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    nix::errno::Errno::result(set).context("zero checksums")?;
    Ok(())
}

/// A tun device without packet information, in the namespace of the calling thread.
pub(super) fn tun() -> Result<File> {
    let device = File::options().read(true).write(true).open("/dev/net/tun").context("no /dev/net/tun")?;
    // SAFETY: any bytes make an ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads and writes an ifreq, which lives.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    nix::errno::Errno::result(made).context("cannot make a tun device")?;
    Ok(device)
}

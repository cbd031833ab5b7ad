//! The kernel's sockets, bound to the check's source address and interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::probe::{Attempt, Failure};

/// Each connection that this end closed first keeps its port in TIME-WAIT for a minute, towards
/// that server and port.
const NO_PORT_FREE: &str = "no free port (net.ipv4.ip_local_port_range, net.ipv4.tcp_tw_reuse)";

pub(super) async fn connect(attempt: &Attempt<'_>) -> Result<TcpStream, Failure> {
    let socket = socket(attempt).map_err(Failure::from_connect)?;
    match attempt.limit.wait(socket.connect(attempt.target()), Failure::NoAnswerToSyn).await? {
        Ok(stream) => Ok(stream),
        // The kernel's limit on SYN retransmissions may be shorter than the probe's.
        Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => {
            Err(Failure::NoAnswerToSyn(attempt.limit.whole()))
        }
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
            Err(Failure::Local(io::Error::other(NO_PORT_FREE)))
        }
        Err(error) => Err(Failure::from_connect(error)),
    }
}

/// Connects to a VIP whose server is this host: the XDP program passes clients' packets to its
/// network stack.
pub(super) async fn connect_here(attempt: &Attempt<'_>) -> Result<TcpStream, Failure> {
    holds_vip(attempt)?;
    connect(attempt).await
}

pub(super) async fn datagrams_here(attempt: &Attempt<'_>) -> Result<UdpSocket, Failure> {
    holds_vip(attempt)?;
    datagrams(attempt).await
}

/// Fails if this host lacks the VIP: the probe would reach the active director, and another server
/// would answer.
fn holds_vip(attempt: &Attempt<'_>) -> Result<(), Failure> {
    let vip = attempt.target().ip();
    match std::net::UdpSocket::bind((vip, 0)) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Err(Failure::VipNotHere { vip }),
        _ => Ok(()),
    }
}

fn socket(attempt: &Attempt<'_>) -> io::Result<TcpSocket> {
    let socket = match attempt.target() {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if attempt.check.speaks_first() {
        // The last ACK of the handshake goes with the first data or the FIN: one packet less, and
        // the server wakes up once.
        SockRef::from(&socket).set_tcp_quickack(false)?;
    }
    if let Some(interface) = &attempt.check.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(source) = attempt.check.source {
        // connect(2) picks the port, which may then be shared with connections to other servers.
        // Otherwise all servers would share 28,000 ports, each of which stays in TIME-WAIT for a
        // minute.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

/// A UDP socket that receives from the target only.
pub(super) async fn datagrams(attempt: &Attempt<'_>) -> Result<UdpSocket, Failure> {
    let open = async {
        let target = attempt.target();
        let any = match target {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind(SocketAddr::new(attempt.check.source.unwrap_or(any), 0)).await?;
        if let Some(interface) = &attempt.check.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        socket.connect(target).await?;
        Ok(socket)
    };
    open.await.map_err(Failure::from_connect)
}

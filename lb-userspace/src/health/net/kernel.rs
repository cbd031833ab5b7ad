//! The kernel's own sockets, from the address and interface that the check names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::health::probe::{Attempt, Failure};

pub async fn connect(attempt: &Attempt<'_>) -> Result<TcpStream, Failure> {
    let socket = socket(attempt).map_err(Failure::from_connect)?;
    match attempt.limit.wait(socket.connect(attempt.target()), Failure::NoAnswerToSyn).await? {
        Ok(stream) => Ok(stream),
        // The kernel's own patience with SYNs, should it be shorter than ours.
        Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => {
            Err(Failure::NoAnswerToSyn(attempt.limit.whole()))
        }
        Err(error) => Err(Failure::from_connect(error)),
    }
}

fn socket(attempt: &Attempt<'_>) -> io::Result<TcpSocket> {
    let socket = match attempt.target() {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(interface) = &attempt.check.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(source) = attempt.check.source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

/// A socket that hears the target only.
pub async fn datagrams(attempt: &Attempt<'_>) -> Result<UdpSocket, Failure> {
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

//! The network for probes: the kernel's sockets to a server's own address, or AF_XDP to the VIP at
//! the server's MAC.

mod kernel;
mod pings;
mod tls;
mod vip;

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use self::pings::Pings;
#[cfg(test)]
pub(crate) use self::tls::certificate_warning;
use self::vip::VipDatagrams;
#[cfg(test)]
pub(crate) use self::vip::fuzz as vip_fuzz;
use lb_model::{Tls, Via};

pub use self::vip::{Neighbour, Neighbours, Station, VipNet};
use super::probe::{Attempt, Failure};

/// A connection over any transport. Dropping it closes it.
pub type Stream = Box<dyn Duplex>;

pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// State that probes share. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Net {
    pings: Pings,
    tls: tls::Clients,
    pub vip: VipNet,
}

/// A UDP socket connected to one server.
#[derive(Debug)]
pub enum Datagrams {
    Kernel(tokio::net::UdpSocket),
    Vip(VipDatagrams),
}

impl Datagrams {
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match self {
            Self::Kernel(socket) => socket.send(datagram).await.map(drop),
            Self::Vip(datagrams) => datagrams.send(datagram),
        }
    }

    /// Receives a datagram and returns its length; truncates it to `buffer`.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Kernel(socket) => socket.recv(buffer).await,
            Self::Vip(datagrams) => datagrams.receive(buffer).await,
        }
    }
}

impl Net {
    /// Waits until probes `via` this path can receive answers.
    pub async fn is_open(&self, via: Via) {
        match via {
            Via::Server => {}
            Via::Vip => self.vip.is_open().await,
        }
    }

    /// A TCP connection to the attempt's target.
    pub async fn connect(&self, attempt: &Attempt<'_>) -> Result<Stream, Failure> {
        match attempt.check.via {
            Via::Server => Ok(Box::new(kernel::connect(attempt).await?)),
            Via::Vip if self.vip.is_here(attempt) => Ok(Box::new(kernel::connect_here(attempt).await?)),
            Via::Vip => Ok(Box::new(self.vip.connect(attempt).await?)),
        }
    }

    /// TLS over a connection of [`Net::connect`].
    pub async fn secure(&self, attempt: &Attempt<'_>, tls: &Tls, stream: Stream) -> Result<Stream, Failure> {
        tls::wrap(attempt, tls, &self.tls, stream).await
    }

    pub async fn datagrams(&self, attempt: &Attempt<'_>) -> Result<Datagrams, Failure> {
        match attempt.check.via {
            Via::Server => kernel::datagrams(attempt).await.map(Datagrams::Kernel),
            Via::Vip if self.vip.is_here(attempt) => {
                kernel::datagrams_here(attempt).await.map(Datagrams::Kernel)
            }
            Via::Vip => self.vip.datagrams(attempt).map(Datagrams::Vip),
        }
    }

    /// Sends an ICMP echo request to the attempt's host, and waits for the reply.
    pub async fn echo(&self, attempt: &Attempt<'_>) -> Result<(), Failure> {
        self.pings.ask(attempt).await
    }
}

#[cfg(test)]
impl Net {
    /// Trusts these TLS roots in place of this host's.
    pub fn trusting(roots: tokio_rustls::rustls::RootCertStore) -> Self {
        Self { tls: tls::Clients::trusting(roots), ..Self::default() }
    }
}

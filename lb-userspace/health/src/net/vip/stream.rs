//! A TCP connection and a UDP socket through a VIP, as probes use them.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use smoltcp::socket::tcp::{RecvError, Socket, State};
use smoltcp::socket::udp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Open;
use super::host::Host;
use crate::probe::{Failure, Received};

/// A connection. Dropping it closes it.
pub struct VipStream(Open);

impl VipStream {
    pub(super) fn new(open: Open) -> Self {
        Self(open)
    }

    /// Waits for the end of the TCP handshake.
    pub(super) async fn connected(&self) -> Result<(), Failure> {
        let answered = poll_fn(|context| {
            self.with(|socket| match socket.state() {
                State::SynSent | State::SynReceived => {
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
                State::Closed => Poll::Ready(false),
                _ => Poll::Ready(true),
            })
        });
        if answered.await { Ok(()) } else { Err(Failure::Refused) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Socket<'static>) -> T) -> T {
        self.0.with(|host| act(host.tcp().expect("a connection has a TCP socket")))
    }
}

impl AsyncRead for VipStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|socket| match socket.recv_slice(buffer.initialize_unfilled()) {
            Ok(0) if buffer.remaining() > 0 => {
                socket.register_recv_waker(context.waker());
                Poll::Pending
            }
            Ok(length) => {
                buffer.advance(length);
                Poll::Ready(Ok(()))
            }
            Err(RecvError::Finished) => Poll::Ready(Ok(())),
            Err(RecvError::InvalidState) => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
        })
    }
}

impl AsyncWrite for VipStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|socket| match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            Ok(length) => Poll::Ready(Ok(length)),
            Err(_) => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
        })
    }

    /// Does nothing: writes are sent at once.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(Socket::close);
        Poll::Ready(Ok(()))
    }
}

/// A UDP socket connected to one server.
pub struct VipDatagrams {
    open: Open,
    received: Received,
}

impl VipDatagrams {
    pub(super) fn new(open: Open, received: Received) -> Self {
        Self { open, received }
    }

    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let remote = self.open.key.remote;
        // The buffer is full only for an oversized datagram, or in a flood.
        self.with(|socket| socket.send_slice(datagram, remote))
            .map_err(|_| io::Error::other(format!("no room for a datagram of {} bytes", datagram.len())))
    }

    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| {
            self.with(|socket| match socket.recv() {
                Ok((datagram, _)) => {
                    self.received.note();
                    let length = datagram.len().min(buffer.len());
                    buffer[..length].copy_from_slice(&datagram[..length]);
                    Poll::Ready(Ok(length))
                }
                Err(_) => {
                    socket.register_recv_waker(context.waker());
                    Poll::Pending
                }
            })
        })
        .await
    }

    fn with<T>(&self, act: impl FnOnce(&mut udp::Socket<'static>) -> T) -> T {
        self.open.with(|host| act(host.udp().expect("datagrams have a UDP socket")))
    }
}

impl Open {
    fn with<T>(&self, act: impl FnOnce(&mut Host) -> T) -> T {
        let done = self.net.with_stack(|inner| inner.stack.with(self.key, Instant::now(), act));
        done.expect("a flow lives as long as it is open")
    }
}

impl fmt::Debug for VipDatagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VipDatagrams").field("key", &self.open.key).finish_non_exhaustive()
    }
}

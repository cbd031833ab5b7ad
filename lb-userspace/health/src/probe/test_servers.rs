//! Test servers for probes, good and bad: each listens on its own port on loopback.

mod datagrams;
mod dialogue;
mod misbehaving;
mod odd_ways;
mod tls;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::time::Duration;

use lb_model::{Check, Expectation, Pattern, Probe, Protocol, ServiceKey};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

pub(crate) use self::datagrams::{answering_datagrams, answering_datagrams_on};
pub(crate) use self::dialogue::{Turn, dialogue, receives, sends};
pub(crate) use self::misbehaving::{
    closing_after, endless, fails_at_all, misbehaving, repeat, saying, sockets_to,
};
pub(crate) use self::odd_ways::succeeds_at_all;
pub(crate) use self::tls::{
    Authority, Certificate, self_signed, serving_tls, serving_tls_of, wanting_certificates,
};
use super::{Answer, Report, Subject, agent};
use crate::net::{Duplex, Net};

/// A server that runs as long as this value lives.
pub(crate) struct TestServer {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestServer {
    /// Stops the server and frees its port.
    pub(crate) async fn stopped(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

/// Serves connections with `serve`, one after another.
pub(crate) async fn serving<F, Fut>(serve: F) -> TestServer
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
    serving_on(listener, serve)
}

/// Like [`serving`] on an existing listener.
pub(crate) fn serving_on<F, Fut>(listener: TcpListener, serve: F) -> TestServer
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    TestServer { address, task }
}

/// Reads a request's header, sends these pieces with short pauses, then closes.
pub(crate) async fn answering(pieces: &'static [&'static str]) -> TestServer {
    serving(move |stream| answer(stream, pieces)).await
}

/// Answers one connection with these pieces.
pub(crate) async fn answer(mut stream: impl Duplex, pieces: &'static [&'static str]) {
    read_header(&mut stream).await;
    for piece in pieces {
        if stream.write_all(piece.as_bytes()).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads a request's header up to the empty line, and returns it.
pub(crate) async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => header.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&header).into_owned()
}

/// Accepts connections and sends nothing.
pub(crate) async fn silent() -> TestServer {
    serving(|mut stream| async move {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await
}

/// Accepts, waits for the request's first byte and resets.
pub(crate) async fn resetting() -> TestServer {
    serving(|mut stream| async move {
        let _ = stream.read_u8().await;
        // Unread data in the receive buffer makes close(2) send a reset.
        drop(stream);
    })
    .await
}

/// A port without a listener, reserved while this process runs.
pub(crate) async fn closed() -> SocketAddr {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port on loopback");
    let address = socket.local_addr().expect("an address");
    std::mem::forget(socket);
    address
}

/// A listener whose queue is full: while the returned value lives, the kernel does not answer
/// further SYNs.
pub(crate) fn full_backlog() -> (SocketAddr, impl Drop) {
    use nix::sys::socket;
    let listener = StdListener::bind("127.0.0.1:0").expect("a port on loopback");
    socket::listen(&listener, socket::Backlog::new(0).expect("a queue of none")).expect("listen");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    // The connection that exceeds the queue never completes, hence the short time-out.
    while let Ok(stream) = StdStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(stream);
    }
    (address, Queue { _listener: listener, _waiting: waiting })
}

struct Queue {
    _listener: StdListener,
    _waiting: Vec<StdStream>,
}

impl Drop for Queue {
    fn drop(&mut self) {}
}

/// Time limit of probes whose server answers; generous for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A check for test servers.
pub(crate) struct Asked(Check, agent::Memory);

impl Asked {
    /// A check with this probe, over the kernel's sockets.
    pub(crate) fn of(probe: Probe, timeout: Duration) -> Self {
        Self(Check { timeout, ..Check::new(probe) }, agent::Memory::default())
    }

    pub(crate) fn with(self, change: impl FnOnce(&mut Check)) -> Self {
        let Self(mut check, memory) = self;
        change(&mut check);
        Self(check, memory)
    }

    /// Sets the time limit, for tests that wait for it.
    pub(crate) fn within(self, limit: Duration) -> Self {
        self.with(|check| check.timeout = limit)
    }

    /// Probes the server at `address` once; returns a failure as its message.
    pub(crate) async fn at(&self, address: SocketAddr) -> Result<Answer, String> {
        self.report(address).await.result.map_err(|failure| failure.to_string())
    }

    pub(crate) async fn report(&self, address: SocketAddr) -> Report {
        self.by(&Net::default(), address).await
    }

    /// Probes the server over a shared network.
    pub(crate) async fn by(&self, net: &Net, address: SocketAddr) -> Report {
        let vip = IpAddr::V4(Ipv4Addr::new(211, 58, 250, 6));
        let service = ServiceKey { vip, port: 80, protocol: Protocol::Tcp };
        let subject = Subject { service, server: address.ip(), port: address.port() };
        super::run_after(&self.1, &self.0, subject, net).await
    }
}

/// What an answer must contain.
pub(crate) fn expected(text: Option<&str>, pattern: Option<&str>) -> Expectation {
    let pattern = pattern.map(|text| Pattern(regex::bytes::Regex::new(text).expect("an expression")));
    Expectation { text: text.map(Into::into), pattern }
}

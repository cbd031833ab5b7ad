//! Misbehaving servers for every protocol. Every probe must fail with a message, in time, and leave
//! no socket behind.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_model::Check;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Asked, PATIENCE, TestServer};

/// Bytes that are an answer in no protocol: neither text, nor a plausible length or tag.
const GARBAGE: [u8; 64] = {
    let mut bytes = [0xfe; 64];
    let mut place = 0;
    while place < bytes.len() {
        bytes[place] = (place as u8).wrapping_mul(151) | 0x80;
        place += 1;
    }
    bytes
};

/// Every misbehaving server, by what it does.
pub(crate) async fn misbehaving() -> Vec<(&'static str, TestServer)> {
    vec![
        ("says nothing", super::silent().await),
        ("closes at once", super::serving(|stream| async move { drop(stream) }).await),
        ("closes its half and reads on", super::serving(half_open).await),
        ("resets at once", super::serving(reset).await),
        (WAITING, super::resetting().await),
        ("says one byte and falls silent", saying(b"2").await),
        ("says garbage and falls silent", saying(&GARBAGE).await),
        ("says garbage and closes", closing_after(&GARBAGE).await),
        ("ends its sentence in the middle", closing_after(b"220 mail.example.org ES").await),
        ("dribbles", endless(b"2", Duration::from_millis(10)).await),
        ("says a line without end", endless(&[b'2'; 4096], Duration::ZERO).await),
        ("says lines without end", endless(b"220-again\r\n", Duration::ZERO).await),
        ("says zeros without end", endless(&[0; 4096], Duration::ZERO).await),
        ("says garbage without end", endless(&GARBAGE, Duration::ZERO).await),
    ]
}

/// Of these servers, a probe may learn only by its time limit that nothing more comes.
const HANGING: [&str; 4] =
    ["says nothing", "says one byte and falls silent", "says garbage and falls silent", "dribbles"];
/// The same, unless the client speaks first.
const WAITING: &str = "resets when asked";

/// Probes each of them, and a port without a listener. Returns the failures by server, for further
/// assertions. Only at servers that hang the time limit is that of `asked`: others answer or close
/// within a longer one on a busy machine, too.
pub(crate) async fn fails_at_all(asked: &Asked) -> Vec<(&'static str, String)> {
    let patient = Asked(Check { timeout: PATIENCE, ..asked.0.clone() }, asked.1.clone());
    let mut words = Vec::new();
    for (name, server) in misbehaving().await {
        let hangs = HANGING.contains(&name) || (name == WAITING && !asked.0.speaks_first());
        let asked = if hangs { asked } else { &patient };
        words.push((name, fails_at(asked, name, server.address).await));
    }
    words.push(("is not there", fails_at(&patient, "is not there", super::closed().await).await));
    words
}

/// The message of the failed probe of `address`.
async fn fails_at(asked: &Asked, name: &str, address: SocketAddr) -> String {
    let start = Instant::now();
    let words = asked.at(address).await.expect_err(name);
    // Generous, for a busy machine: this limit is for probes that ignore their own.
    assert!(start.elapsed() < asked.0.timeout + PATIENCE, "{name}: took {:?}", start.elapsed());
    assert!(!words.is_empty() && !words.contains('\n'), "{name}: '{words}'");
    assert!(words.len() < 300, "{name}: too long for a reason: '{words}'");
    while sockets_to(address) > 0 {
        // A child process of another test may hold a copy until its exec.
        assert!(start.elapsed() < asked.0.timeout + PATIENCE, "{name}: a socket was left behind");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    words
}

/// Open sockets connected to `address` (IPv4). Other tests run in this process, so the number of
/// descriptors means nothing.
pub(crate) fn sockets_to(address: SocketAddr) -> usize {
    let SocketAddr::V4(v4) = address else { panic!("{address} is not IPv4") };
    let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    let open = |line: &str| {
        let column: Vec<_> = line.split_whitespace().collect();
        // A socket without a descriptor, such as one in TIME_WAIT, has the inode 0.
        column.get(2) == Some(&remote.as_str()) && column.get(9) != Some(&"0")
    };
    let table =
        |file: &str| std::fs::read_to_string(file).expect(file).lines().filter(|line| open(line)).count();
    table("/proc/thread-self/net/tcp") + table("/proc/thread-self/net/udp")
}

/// Sends `words` and nothing more.
pub(crate) async fn saying(words: &'static [u8]) -> TestServer {
    super::serving(move |mut stream| async move {
        if stream.write_all(words).await.is_ok() {
            until_closed(stream).await;
        }
    })
    .await
}

/// Sends `words`, closes its half, and reads what the client sends.
pub(crate) async fn closing_after(words: &'static [u8]) -> TestServer {
    super::serving(move |mut stream| async move {
        if stream.write_all(words).await.is_ok() {
            half_open(stream).await;
        }
    })
    .await
}

/// Sends `piece` repeatedly, at intervals of `pause`.
pub(crate) async fn endless(piece: &'static [u8], pause: Duration) -> TestServer {
    super::serving(move |stream| repeat(stream, piece, pause)).await
}

/// Sends `piece` repeatedly on one connection.
pub(crate) async fn repeat(mut stream: TcpStream, piece: &[u8], pause: Duration) {
    while stream.write_all(piece).await.is_ok() {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

async fn half_open(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        until_closed(stream).await;
    }
}

async fn until_closed(mut stream: TcpStream) {
    let mut sink = [0; 1024];
    while matches!(stream.read(&mut sink).await, Ok(1..)) {}
}

async fn reset(stream: TcpStream) {
    // With SO_LINGER of zero close(2) sends a reset.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

#[tokio::test]
async fn an_open_socket_is_counted_and_a_closed_one_is_not() {
    let server = super::silent().await;
    assert_eq!(sockets_to(server.address), 0);
    let stream = TcpStream::connect(server.address).await.expect("a connection");
    assert_eq!(sockets_to(server.address), 1);
    drop(stream);
    assert_eq!(sockets_to(server.address), 0);
}

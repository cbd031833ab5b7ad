//! The lingering close: what a client still sends after its answer is read and thrown away for a
//! while.
//!
//! A socket that is closed with unread data answers with a reset, and a reset makes the client's
//! kernel throw away the answer that it has not read yet: a client that uploads would see a broken
//! pipe in place of the page (RFC 9112, 9.6).

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What is borne of a client that has its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long it may send.
    whole: Duration,
    /// How long it may send nothing meanwhile.
    silence: Duration,
    /// In bytes.
    most: usize,
}

pub(super) const LIMITS: Limits =
    Limits { whole: Duration::from_secs(30), silence: Duration::from_secs(5), most: 1 << 30 };

/// Read at once, in bytes.
const PIECE: usize = 16 * 1024;

/// Ends the connection so that its client sees all that was sent to it.
pub(super) async fn close(mut stream: TcpStream, limits: Limits) {
    // Whatever goes wrong is the client's affair.
    if stream.shutdown().await.is_ok() {
        let _ = timeout(limits.whole, discard(&stream, limits)).await;
    }
}

/// Until the client ends the connection, falls silent, or has sent too much.
async fn discard(stream: &TcpStream, limits: Limits) {
    let mut taken = 0;
    while taken < limits.most {
        if !matches!(timeout(limits.silence, stream.readable()).await, Ok(Ok(()))) {
            return;
        }
        // On the stack, so that a connection that waits holds no memory.
        match stream.try_read(&mut [0; PIECE]) {
            Ok(0) => return,
            Ok(count) => taken += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        // A fast sender is always readable: others have their turn.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::net::TcpListener;
    use tokio::time::{interval, sleep};

    use super::*;

    const SHORT: Limits =
        Limits { whole: Duration::from_secs(1), silence: Duration::from_millis(200), most: 100_000 };
    const LONG: Duration = Duration::from_secs(60);

    /// A client, and the end of its lingering connection.
    async fn client(limits: Limits) -> (TcpStream, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await;
        let (stream, _) = listener.accept().await.expect("a connection");
        (client.expect("a connection"), tokio::spawn(close(stream, limits)))
    }

    async fn send_until_refused(client: &mut TcpStream, piece: &[u8], every: Duration) -> io::Error {
        let mut ticks = interval(every);
        loop {
            ticks.tick().await;
            if let Err(error) = client.write_all(piece).await {
                return error;
            }
        }
    }

    #[tokio::test]
    async fn c5_whoever_keeps_sending_is_cut_off() {
        for (limits, piece) in [
            (Limits { most: usize::MAX, silence: LONG, ..SHORT }, &b"x"[..]),
            (Limits { whole: LONG, silence: LONG, ..SHORT }, &[b'x'; 4096]),
        ] {
            let (mut client, lingering) = client(limits).await;
            let sent = send_until_refused(&mut client, piece, Duration::from_millis(5));
            timeout(LONG, sent).await.expect("it is refused in the end");
            lingering.await.expect("it has ended");
        }
    }

    #[tokio::test]
    async fn c5_whoever_falls_silent_or_goes_is_not_waited_for() {
        let (silent, lingering) = client(Limits { whole: LONG, ..SHORT }).await;
        timeout(LONG / 2, lingering).await.expect("silence ends it").expect("no panic");
        drop(silent);
        let (gone, lingering) = client(Limits { whole: LONG, silence: LONG, ..SHORT }).await;
        sleep(Duration::from_millis(10)).await;
        drop(gone);
        timeout(LONG / 2, lingering).await.expect("the end of the connection ends it").expect("no panic");
    }
}

//! Servers that say what they should in an unusual way, for every protocol over TCP. Every probe
//! must take them for up.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Asked;
use crate::probe::Answer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Without waiting for the client, and keeps the connection.
    AtOnce,
    ByteByByte,
    InTwoParts,
    AfterAPause,
    ThenClosesItsHalf,
    ThenCloses,
    /// Closes with unread data.
    ThenResets,
    ThenNonsense,
    ThenMoreWithoutEnd,
    /// Only when the client has said something.
    WhenSpokenTo,
}

const ALL: [Way; 9] = [
    Way::AtOnce,
    Way::ByteByByte,
    Way::InTwoParts,
    Way::AfterAPause,
    Way::ThenClosesItsHalf,
    Way::ThenCloses,
    Way::ThenResets,
    Way::ThenNonsense,
    Way::ThenMoreWithoutEnd,
];

/// Probes a server that says `words`, in each way; they include the answers to whatever the probe
/// sends.
pub(crate) async fn succeeds_at_all(asked: &Asked, words: impl AsRef<[u8]>) {
    let speaks_first = asked.0.speaks_first();
    for way in ALL.into_iter().chain(speaks_first.then_some(Way::WhenSpokenTo)) {
        let words = words.as_ref().to_vec();
        let server = super::serving(move |stream| {
            let words = words.clone();
            async move { say(stream, way, &words).await }
        })
        .await;
        assert_eq!(asked.at(server.address).await, Ok(Answer::default()), "{way:?}");
    }
}

async fn say(mut stream: TcpStream, way: Way, words: &[u8]) {
    let _ = stream.set_nodelay(true);
    let pieces: Vec<&[u8]> = match way {
        Way::ByteByByte => words.chunks(1).collect(),
        Way::InTwoParts => words.chunks(words.len().div_ceil(2)).collect(),
        _ => vec![words],
    };
    match way {
        Way::AfterAPause => tokio::time::sleep(Duration::from_millis(100)).await,
        Way::WhenSpokenTo => {
            let _ = stream.readable().await;
        }
        _ => {}
    }
    for piece in pieces {
        if stream.write_all(piece).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    match way {
        Way::ThenCloses => return,
        Way::ThenResets => {
            let _ = stream.readable().await;
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return;
        }
        Way::ThenMoreWithoutEnd => {
            super::repeat(stream, b"220-again\r\n", Duration::ZERO).await;
            return;
        }
        Way::ThenClosesItsHalf => {
            let _ = stream.shutdown().await;
        }
        Way::ThenNonsense => {
            let _ = stream.write_all(&[0xfe; 64]).await;
        }
        _ => {}
    }
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

//! Scripts for one end of a connection: what it sends, and when.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};

use super::bytes;

#[derive(Debug, Clone)]
pub struct Script {
    pub pieces: Vec<Piece>,
    pub end: End,
}

#[derive(Debug, Clone)]
pub struct Piece {
    /// The other end sends first.
    pub waits: bool,
    pub says: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub enum End {
    Closes,
    /// By a reset, if received data is unread.
    Breaks,
    StaysOpen,
}

/// A changed sample, in pieces.
pub fn scripts(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Script> {
    let cuts = vec((any::<Index>(), any::<bool>()), 0..4);
    // Rare, because a probe that waits for more data waits for its whole time limit.
    let end = prop_oneof![20 => Just(End::Closes), 5 => Just(End::Breaks), 1 => Just(End::StaysOpen)];
    (bytes::nearly(samples), cuts, any::<bool>(), end).prop_map(|(bytes, cuts, waits, end)| {
        let (cuts, waiting): (Vec<_>, Vec<_>) = cuts.into_iter().unzip();
        let waiting = [waits].into_iter().chain(waiting);
        let pieces = bytes::pieces(&bytes, &cuts).into_iter().zip(waiting);
        Script { pieces: pieces.map(|(says, waits)| Piece { waits, says }).collect(), end }
    })
}

impl Script {
    /// Plays the script. Ends when the other end has closed, or at once if this end closes first.
    pub async fn play(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut heard = [0; 4096];
        for Piece { waits, says } in &self.pieces {
            if *waits && !matches!(stream.read(&mut heard).await, Ok(1..)) {
                return;
            }
            if stream.write_all(says).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
        match self.end {
            End::Closes if stream.shutdown().await.is_err() => return,
            End::Breaks => return,
            End::Closes | End::StaysOpen => {}
        }
        while matches!(stream.read(&mut heard).await, Ok(1..)) {}
    }
}

/// A runtime whose tasks run on the waiting thread, so that their panics are counted.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

//! A test server with a scripted dialogue.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Asked, TestServer};
use crate::probe::Answer;

#[derive(Debug, Clone)]
pub(crate) enum Turn {
    /// The server sends this.
    Says(Vec<u8>),
    /// The server waits for this. After anything else it sends nothing more.
    Hears(Vec<u8>),
}

pub(crate) fn sends(words: impl AsRef<[u8]>) -> Turn {
    Turn::Says(words.as_ref().to_vec())
}

pub(crate) fn receives(words: impl AsRef<[u8]>) -> Turn {
    Turn::Hears(words.as_ref().to_vec())
}

/// Plays the turns with each client, then closes its half. The receiver gets all else that a client
/// has sent, once the client has closed, too.
pub(crate) async fn dialogue(turns: impl Into<VecDeque<Turn>>) -> (TestServer, UnboundedReceiver<Vec<u8>>) {
    let turns = turns.into();
    let (sender, rest) = unbounded_channel();
    let server = super::serving(move |stream| {
        let (turns, sender) = (turns.clone(), sender.clone());
        async move {
            // The test may have dropped the receiver.
            let _ = sender.send(play(stream, turns).await);
        }
    });
    (server.await, rest)
}

impl Asked {
    /// Probes a server with these turns. Returns the result, and what the client sent after them.
    pub(crate) async fn in_dialogue(
        &self,
        turns: impl Into<VecDeque<Turn>>,
    ) -> (Result<Answer, String>, Vec<u8>) {
        let (server, mut rest) = dialogue(turns).await;
        let found = self.at(server.address).await;
        (found, rest.recv().await.expect("a server that lives"))
    }
}

async fn play(mut stream: TcpStream, turns: VecDeque<Turn>) -> Vec<u8> {
    for turn in turns {
        match turn {
            Turn::Says(words) => {
                if stream.write_all(&words).await.is_err() {
                    break;
                }
            }
            Turn::Hears(words) => {
                let mut received = vec![0; words.len()];
                let complete = stream.read_exact(&mut received).await.is_ok();
                if !complete || received != words {
                    break;
                }
            }
        }
    }
    let mut rest = Vec::new();
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

//! A conversation with a server over a stream: each turn is bounded in length, and all of them by the attempt's limit.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use super::quote::quote;
use super::{Attempt, Failure, Limit};
use crate::health::net::Stream;

/// Bytes of a line. The protocols themselves allow 500 to 1000, greetings that list capabilities take more.
const LINE: usize = 4096;
/// Bytes of a message with a length.
const MESSAGE: usize = 16 * 1024;
/// How long a server is waited for to close after the last word.
const FAREWELL: Duration = Duration::from_millis(100);

/// In its methods `wanted` is what the server is to say next, for the words of a failure: `greeting`, say.
pub struct Conversation {
    stream: BufReader<Stream>,
    limit: Limit,
}

impl Conversation {
    /// Connects to the attempt's target.
    pub async fn open(attempt: &Attempt<'_>) -> Result<Self, Failure> {
        let stream = attempt.connect().await?;
        Ok(Self { stream: BufReader::with_capacity(LINE, stream), limit: attempt.limit })
    }

    pub async fn say(&mut self, words: &[u8], wanted: &'static str) -> Result<(), Failure> {
        let said = self.limit.wait(send(&mut self.stream, words), late(wanted)).await?;
        said.map_err(|error| Failure::from_stream(&error, wanted))
    }

    /// The next line, without its end.
    pub async fn line(&mut self, wanted: &'static str) -> Result<Vec<u8>, Failure> {
        match self.line_or_rest(wanted).await? {
            (line, true) => Ok(line),
            (_, false) => Err(Failure::Closed { wanted }),
        }
    }

    /// The next line without its end, or what there is of it before the server closes; true for a whole line.
    pub async fn line_or_rest(&mut self, wanted: &'static str) -> Result<(Vec<u8>, bool), Failure> {
        let mut line = Vec::new();
        while line.len() < LINE {
            let part = self.limit.wait(self.stream.fill_buf(), late(wanted)).await?;
            let part = part.map_err(|error| Failure::from_stream(&error, wanted))?;
            if part.is_empty() {
                return Ok((line, false));
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&part[..end.unwrap_or(part.len())]);
            let used = end.map_or(part.len(), |end| end + 1);
            self.stream.consume(used);
            if end.is_some() {
                line.pop_if(|last| *last == b'\r');
                return Ok((line, true));
            }
        }
        Err(Failure::Wrong(format!("no end of line in the {wanted}'s first {LINE} bytes: {}", quote(&line))))
    }

    /// The next `length` bytes, a number that the server may have named.
    pub async fn message(&mut self, length: usize, wanted: &'static str) -> Result<Vec<u8>, Failure> {
        if length > MESSAGE {
            return Err(Failure::Wrong(format!("the {wanted} claims to be {length} bytes long")));
        }
        let mut message = vec![0; length];
        let read = self.limit.wait(self.stream.read_exact(&mut message), late(wanted)).await?;
        read.map_err(|error| Failure::from_stream(&error, wanted))?;
        Ok(message)
    }

    /// The next `N` bytes.
    pub async fn bytes<const N: usize>(&mut self, wanted: &'static str) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        let read = self.limit.wait(self.stream.read_exact(&mut bytes), late(wanted)).await?;
        read.map_err(|error| Failure::from_stream(&error, wanted))?;
        Ok(bytes)
    }

    /// Says the last word and lets the server close, as it likes best: one that is cut off may log it, or answer into
    /// a closed connection. How that goes is not part of the check.
    pub async fn farewell(mut self, words: &[u8]) {
        let patience = FAREWELL.min(self.limit.left() / 2);
        let _ = timeout(patience, async {
            send(&mut self.stream, words).await?;
            self.stream.take(MESSAGE as u64).read_to_end(&mut Vec::new()).await
        })
        .await;
    }
}

async fn send(stream: &mut BufReader<Stream>, words: &[u8]) -> io::Result<()> {
    stream.write_all(words).await?;
    stream.flush().await
}

fn late(wanted: &'static str) -> impl FnOnce(Duration) -> Failure {
    move |within| Failure::Late { wanted, within }
}

/// What was said is not what was wanted.
pub fn wrong(what: &str, said: &[u8], wanted: &str) -> Failure {
    Failure::Wrong(format!("the {what} is {}, wanted {wanted}", quote(said)))
}

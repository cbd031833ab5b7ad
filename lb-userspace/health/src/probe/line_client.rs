//! A conversation with a server over a stream: each turn is bounded in length, and all of them by the attempt's limit.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::time::timeout;

use super::excerpt::quote;
use super::{Attempt, Failure};
use crate::net::Stream;

/// Bytes of a line. The protocols themselves allow 500 to 1000, greetings that list capabilities take more: IMAP's clients
/// are to take 8192 (RFC 9051, section 4.3.1).
const LINE: usize = 8192;
/// Bytes of a message with a length.
const MESSAGE: usize = 16 * 1024;
/// How long a server is waited for to close after the last word.
const FAREWELL: Duration = Duration::from_millis(100);

/// In its methods `expected` is what the server is to say next, for the words of a failure: `greeting`, say.
pub(super) struct LineClient<'a> {
    attempt: &'a Attempt<'a>,
    stream: BufReader<Stream>,
}

impl<'a> LineClient<'a> {
    /// Connects to the attempt's target.
    pub(super) async fn open(attempt: &'a Attempt<'a>) -> Result<Self, Failure> {
        let stream = attempt.connect().await?;
        Ok(Self { attempt, stream: BufReader::with_capacity(LINE, stream) })
    }

    pub(super) async fn send(&mut self, words: &[u8], expected: &'static str) -> Result<(), Failure> {
        self.attempt.send(self.stream.get_mut(), words, expected).await
    }

    /// The next line that is not empty, without its end and blanks around it: a greeting.
    pub(super) async fn greeting(&mut self, expected: &'static str) -> Result<Vec<u8>, Failure> {
        loop {
            let line = self.line(expected).await?;
            if !line.trim_ascii().is_empty() {
                return Ok(line.trim_ascii().to_vec());
            }
        }
    }

    /// The next line, without its end.
    pub(super) async fn line(&mut self, expected: &'static str) -> Result<Vec<u8>, Failure> {
        match self.line_or_rest(expected).await? {
            (line, true) => Ok(line),
            (_, false) => Err(Failure::Closed { expected }),
        }
    }

    /// The next line without its end, or what there is of it before the server closes; true for a whole line.
    pub(super) async fn line_or_rest(&mut self, expected: &'static str) -> Result<(Vec<u8>, bool), Failure> {
        self.line_within(LINE, expected).await
    }

    /// The same of a line that may have so many bytes.
    pub(super) async fn line_within(
        &mut self,
        limit: usize,
        expected: &'static str,
    ) -> Result<(Vec<u8>, bool), Failure> {
        let mut line = Vec::new();
        while line.len() < limit {
            let part = self.attempt.in_time(self.stream.fill_buf(), expected).await?;
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
        Err(Failure::Wrong(format!(
            "no end of line in the {expected}'s first {limit} bytes: {}",
            quote(&line)
        )))
    }

    /// What has come and is not read yet, at least a byte unless the server has closed. It stays to be read.
    pub(super) async fn peek(&mut self, expected: &'static str) -> Result<&[u8], Failure> {
        self.attempt.in_time(self.stream.fill_buf(), expected).await
    }

    /// What comes next, as it comes; empty at the end.
    pub(super) async fn piece(&mut self, expected: &'static str) -> Result<Vec<u8>, Failure> {
        let piece = self.attempt.in_time(self.stream.fill_buf(), expected).await?.to_vec();
        self.stream.consume(piece.len());
        Ok(piece)
    }

    /// The next `length` bytes, a number that the server may have named.
    pub(super) async fn message(
        &mut self,
        length: usize,
        expected: &'static str,
    ) -> Result<Vec<u8>, Failure> {
        self.message_within(MESSAGE, length, expected).await
    }

    /// The same of a message that may have `limit` bytes.
    pub(super) async fn message_within(
        &mut self,
        limit: usize,
        length: usize,
        expected: &'static str,
    ) -> Result<Vec<u8>, Failure> {
        if length > limit {
            return Err(Failure::Wrong(format!("the {expected} claims to be {length} bytes long")));
        }
        let mut message = vec![0; length];
        self.attempt.in_time(self.stream.read_exact(&mut message), expected).await?;
        Ok(message)
    }

    /// The next `N` bytes.
    pub(super) async fn bytes<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        self.attempt.in_time(self.stream.read_exact(&mut bytes), expected).await?;
        Ok(bytes)
    }

    /// Says the last word and lets the server close, as it likes best: one that is cut off may log it, or answer into
    /// a closed connection. How that goes is not part of the check.
    pub(super) async fn quit(mut self, words: &[u8]) {
        let patience = FAREWELL.min(self.attempt.limit.left() / 2);
        let parting = async {
            self.send(words, "farewell").await?;
            let rest = self.stream.take(MESSAGE as u64).read_to_end(&mut Vec::new()).await;
            rest.map_err(|error| Failure::from_stream(&error, "farewell"))
        };
        let _ = timeout(patience, parting).await;
    }
}

/// What was said is not what was expected.
pub(super) fn wrong(what: &str, said: &[u8], expected: &str) -> Failure {
    Failure::Wrong(format!("the {what} is {}, expected {expected}", quote(said)))
}

//! A client for protocols of lines or length-prefixed messages. It limits the length of each line
//! and message, and the attempt's deadline limits the whole dialogue.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::time::timeout;

use super::excerpt::quote;
use super::{Attempt, Failure};
use crate::net::Stream;

/// Maximum length of a line. The protocols allow 500 to 1000 bytes, but greetings with capabilities
/// are longer: IMAP clients should accept 8192 (RFC 9051, section 4.3.1).
const LINE: usize = 8192;
/// Maximum length of a length-prefixed message.
const MESSAGE: usize = 16 * 1024;
/// How long to wait for the server to close after QUIT.
const FAREWELL: Duration = Duration::from_millis(100);

/// In its methods `expected` names what the server should send next, for messages: for example
/// `greeting`.
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

    pub(super) async fn send(&mut self, bytes: &[u8], expected: &'static str) -> Result<(), Failure> {
        self.attempt.send(self.stream.get_mut(), bytes, expected).await
    }

    /// A greeting: the next non-empty line, without its end and surrounding blanks.
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
        let (line, whole) = self.line_or_rest(expected).await?;
        match of_tls(&line) {
            Some(failure) => Err(failure),
            None if whole => Ok(line),
            None => Err(Failure::Closed { expected }),
        }
    }

    /// The next line without its end, or its part before the server closes; true for a complete
    /// line.
    pub(super) async fn line_or_rest(&mut self, expected: &'static str) -> Result<(Vec<u8>, bool), Failure> {
        self.line_within(LINE, expected).await
    }

    /// Like [`Self::line_or_rest`] for a line of at most `limit` bytes.
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

    /// The received bytes, without consuming them; at least one unless the server has closed.
    pub(super) async fn peek(&mut self, expected: &'static str) -> Result<&[u8], Failure> {
        self.attempt.in_time(self.stream.fill_buf(), expected).await
    }

    /// The next received bytes; empty at the end of the stream. Of a stream without end there are
    /// always some, so it looks at the deadline itself.
    pub(super) async fn piece(&mut self, expected: &'static str) -> Result<Vec<u8>, Failure> {
        let limit = self.attempt.limit;
        if limit.left().is_zero() {
            return Err(Failure::Late { expected, within: limit.whole() });
        }
        let piece = self.attempt.in_time(self.stream.fill_buf(), expected).await?.to_vec();
        self.stream.consume(piece.len());
        Ok(piece)
    }

    /// The next `length` bytes; the server may have sent the length.
    pub(super) async fn message(
        &mut self,
        length: usize,
        expected: &'static str,
    ) -> Result<Vec<u8>, Failure> {
        self.message_within(MESSAGE, length, expected).await
    }

    /// Like [`Self::message`] for a message of at most `limit` bytes.
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

    /// Sends the last command, such as QUIT, and waits briefly for the server to close: some
    /// servers log a connection that ends otherwise. The result does not count for the check.
    pub(super) async fn quit(mut self, command: &[u8]) {
        let patience = FAREWELL.min(self.attempt.limit.left() / 2);
        let parting = async {
            self.send(command, "farewell").await?;
            let rest = self.stream.take(MESSAGE as u64).read_to_end(&mut Vec::new()).await;
            rest.map_err(|error| Failure::from_stream(&error, "farewell"))
        };
        let _ = timeout(patience, parting).await;
    }
}

/// The failure for the beginning of an answer that is a record of TLS: an alert, or a handshake.
pub(super) fn of_tls(begins: &[u8]) -> Option<Failure> {
    let is_tls = matches!(begins, [0x15 | 0x16, 3, ..]);
    is_tls.then(|| Failure::Wrong("the server speaks TLS: set `tls: on`".into()))
}

/// The failure for an unexpected line.
pub(super) fn wrong(what: &str, found: &[u8], expected: &str) -> Failure {
    Failure::Wrong(format!("the {what} is {}, expected {expected}", quote(found)))
}

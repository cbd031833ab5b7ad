//! UDP: a datagram is answered by one that is as expected.

use lb_model::Exchange;

use super::expectation::Search;
use super::{Answer, Attempt, Failure};

/// How much of an answer is looked at.
const DATAGRAM: usize = 4096;
const ANSWER: &str = "answer";

/// The first answer counts. That a port is not listened on shows by ICMP, that a host is dead by silence.
pub(super) async fn probe(attempt: &Attempt<'_>, exchange: &Exchange) -> Result<Answer, Failure> {
    let socket = attempt.datagrams().await?;
    attempt.in_time(socket.send(&exchange.send), ANSWER).await?;
    attempt.step(format!("sent {} bytes", exchange.send.len()));
    let mut buffer = vec![0; DATAGRAM];
    let length = attempt.in_time(socket.receive(&mut buffer), ANSWER).await?;
    attempt.step("got an answer");
    let mut search = Search::new(&exchange.expected);
    search.feed(&buffer[..length]);
    match search.mismatch() {
        None => Ok(Answer::default()),
        Some(mismatch) => Err(Failure::Mismatch { mismatch, whole: length < DATAGRAM }),
    }
}

#[cfg(test)]
mod tests;

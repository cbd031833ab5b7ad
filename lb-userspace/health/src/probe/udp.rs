//! UDP: the server answers a datagram with the expected one.

use lb_model::Exchange;

use super::expectation::Search;
use super::{Answer, Attempt, Failure};

/// Maximum number of bytes read of an answer.
const DATAGRAM: usize = 4096;
const ANSWER: &str = "answer";

/// The first answer counts. A port without a listener causes an ICMP error, a dead host a time-out.
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

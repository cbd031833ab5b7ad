//! TCP: the server accepts a connection; if the check sends or expects text, the answer must match.

use lb_model::Exchange;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout_at;

use super::expectation::Search;
use super::{Answer, Attempt, Failure};
use crate::net::Stream;

/// Maximum number of searched bytes of an answer.
const ANSWER_LIMIT: usize = 16 * 1024;
const ANSWER: &str = "answer";

/// A check without text drops the stream, which closes the connection by a FIN.
pub(super) async fn probe(attempt: &Attempt<'_>, exchange: &Exchange) -> Result<Answer, Failure> {
    let mut stream = attempt.connect().await?;
    if !exchange.send.is_empty() {
        attempt.send(&mut stream, &exchange.send, ANSWER).await?;
        attempt.step(format!("sent {} bytes", exchange.send.len()));
    }
    if !exchange.send.is_empty() || !exchange.expected.is_nothing() {
        answer(attempt, &mut stream, exchange).await?;
    }
    Ok(Answer::default())
}

/// Reads until the answer meets the expectation. It does not wait for the end of the connection,
/// because some servers keep connections open.
async fn answer(attempt: &Attempt<'_>, stream: &mut Stream, exchange: &Exchange) -> Result<(), Failure> {
    let mut search = Search::new(&exchange.expected);
    let mut buffer = [0; 2048];
    // Below: for servers that answer only after the client has closed its half.
    let mut waits = !exchange.send.is_empty() && attempt.check.tls.is_none();
    let mut closed = false;
    loop {
        let room = buffer.len().min(ANSWER_LIMIT - search.seen());
        let receiving = attempt.receive(stream, &mut buffer[..room], ANSWER);
        let received = if !waits {
            receiving.await
        } else if let Ok(received) = timeout_at(attempt.limit.halfway(), receiving).await {
            received
        } else {
            // ldirectord closes its half after the request. Some servers take that for the end of
            // the client, so the probe does it only after half of its time without an answer.
            (waits, closed) = (false, true);
            attempt.in_time(stream.shutdown(), ANSWER).await?;
            attempt.step("closed the sending half");
            continue;
        };
        waits = false;
        let came = match received {
            Ok(came) => &buffer[..came],
            Err(failure) if search.seen() == 0 => return Err(failure),
            Err(failure) => return Err(search.cut_short(failure)),
        };
        match (search.seen(), came) {
            (0, []) if closed => {
                return Err(Failure::Wrong("no answer, and closed after the end of the request".into()));
            }
            (0, []) => return Err(Failure::Closed { expected: ANSWER }),
            (0, _) => attempt.step("got an answer"),
            _ => {}
        }
        search.feed(came);
        let Some(mismatch) = search.mismatch() else { return Ok(()) };
        if came.is_empty() || mismatch.seen == ANSWER_LIMIT {
            return Err(Failure::Mismatch { whole: came.is_empty(), mismatch });
        }
    }
}

#[cfg(test)]
mod tests;

//! TCP: a connection is accepted; if something is sent or expected, that is answered.

use lb_model::Exchange;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout_at;

use super::expectation::Search;
use super::{Answer, Attempt, Failure};
use crate::net::Stream;

/// How much of an answer is looked through.
const ANSWER_LIMIT: usize = 16 * 1024;
const ANSWER: &str = "answer";

/// Who only wants to know whether it is accepted drops the stream, which closes the connection by a FIN.
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

/// Reads until what came is as expected. That no more may follow is not waited for: a server that keeps its connections
/// open would never be good.
async fn answer(attempt: &Attempt<'_>, stream: &mut Stream, exchange: &Exchange) -> Result<(), Failure> {
    let mut search = Search::new(&exchange.expected);
    let mut buffer = [0; 2048];
    // What follows is for who answers when all is said.
    let mut waits = !exchange.send.is_empty() && attempt.check.tls.is_none();
    let mut told = false;
    loop {
        let room = buffer.len().min(ANSWER_LIMIT - search.seen());
        let receiving = attempt.receive(stream, &mut buffer[..room], ANSWER);
        let received = if !waits {
            receiving.await
        } else if let Ok(received) = timeout_at(attempt.limit.halfway(), receiving).await {
            received
        } else {
            // ldirectord closes its half to say so. Other servers take that for a client that has gone: it comes when half
            // of the time has passed in silence.
            (waits, told) = (false, true);
            attempt.in_time(stream.shutdown(), ANSWER).await?;
            attempt.step("said that there is no more to come");
            continue;
        };
        waits = false;
        let came = match received {
            Ok(came) => &buffer[..came],
            Err(failure) if search.seen() == 0 => return Err(failure),
            Err(failure) => return Err(search.cut_short(failure)),
        };
        match (search.seen(), came) {
            (0, []) if told => return Err(Failure::Wrong("no answer, and closed when told so".into())),
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

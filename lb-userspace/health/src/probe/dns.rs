//! DNS: the server answers a query without an error and, if configured, with a certain record.
//!
//! Without a configured name the probe queries the root, for which many servers have no answer:
//! servers of single zones refuse the query. Any response code but SERVFAIL counts as success then.

mod question;

use domain::base::iana::Rcode;
use lb_model::DnsProbe;
use tokio::time::timeout_at;

use self::question::{Question, Reply};
use super::excerpt::clean;
use super::line_client::LineClient;
use super::{Answer, Attempt, Failure};

/// The query has no EDNS, so a server sends at most 512 bytes (RFC 1035 section 4.2.1).
const DATAGRAM: usize = 4096;
const ANSWER: &str = "answer";

/// Queries over UDP, and over TCP if the answer was truncated.
pub(super) async fn probe(attempt: &Attempt<'_>, check: &DnsProbe) -> Result<Answer, Failure> {
    let question = Question::new(check)?;
    let reply = over_udp(attempt, &question).await?;
    let judged = judge(check, &reply);
    if judged.is_ok() || !reply.truncated {
        return judged;
    }
    judge(check, &over_tcp(attempt, &question).await?)
}

/// Repeats the query after one third and two thirds of the time, as every resolver does: a datagram
/// may be lost.
async fn over_udp(attempt: &Attempt<'_>, question: &Question) -> Result<Reply, Failure> {
    let socket = attempt.datagrams().await?;
    attempt.in_time(socket.send(question.as_bytes()), ANSWER).await?;
    attempt.step("sent the question");
    let mut again = attempt.limit.thirds().into_iter();
    let mut due = again.next();
    let mut buffer = vec![0; DATAGRAM];
    let mut expected = ANSWER;
    loop {
        let receiving = attempt.in_time(socket.receive(&mut buffer), expected);
        let received = match due {
            Some(at) => timeout_at(at, receiving).await,
            None => Ok(receiving.await),
        };
        let Ok(length) = received else {
            due = again.next();
            attempt.in_time(socket.send(question.as_bytes()), ANSWER).await?;
            attempt.step("asked again");
            continue;
        };
        let length = length?;
        match question.reply(&buffer[..length])? {
            Some(reply) => {
                attempt.step(if reply.truncated { "got a truncated answer" } else { "got an answer" });
                return Ok(reply);
            }
            // An answer to another query, for example of an earlier probe: ignored.
            None => expected = "matching answer",
        }
    }
}

/// RFC 7766 section 8: each message has its length in front.
async fn over_tcp(attempt: &Attempt<'_>, question: &Question) -> Result<Reply, Failure> {
    let mut conversation = LineClient::open(attempt).await?;
    let length = u16::try_from(question.as_bytes().len()).unwrap_or(u16::MAX);
    let message = [&length.to_be_bytes(), question.as_bytes()].concat();
    conversation.send(&message, ANSWER).await?;
    let length = u16::from_be_bytes(conversation.bytes(ANSWER).await?);
    let message = conversation.message_within(usize::from(u16::MAX), usize::from(length), ANSWER).await?;
    question.reply(&message)?.ok_or_else(|| Failure::Wrong("the answer is to another question".into()))
}

fn judge(check: &DnsProbe, reply: &Reply) -> Result<Answer, Failure> {
    let is_alive = check.answer.is_none() && check.name == "." && reply.code != Rcode::SERVFAIL;
    if reply.code != Rcode::NOERROR && !is_alive {
        return Err(Failure::Wrong(format!("the answer is {}{}", reply.code, advice(reply.code))));
    }
    let Some(expected) = &check.answer else { return Ok(Answer::default()) };
    if reply.records.iter().any(|record| record.is(expected)) {
        return Ok(Answer::default());
    }
    if reply.records.is_empty() {
        return Err(Failure::Wrong(format!(
            "no {expected}: the answer has no {} record",
            check.record.name()
        )));
    }
    let records: Vec<_> = reply.records.iter().map(|record| record.text.as_str()).collect();
    Err(Failure::Wrong(format!("no {expected} among the answers: {}", clean(records.join(", ").as_bytes()))))
}

/// A hint at the configuration for some response codes.
fn advice(code: Rcode) -> &'static str {
    match code {
        Rcode::REFUSED => " (is `query` in a zone that it serves, and may this host ask for it?)",
        Rcode::NXDOMAIN => " (does it have the name in `query`?)",
        _ => "",
    }
}

#[cfg(test)]
mod tests;

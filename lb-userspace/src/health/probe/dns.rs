//! DNS: a question is answered without an error and, if one is wanted, with a certain record.

mod question;

use self::question::{Question, Reply};
use super::conversation::Conversation;
use super::excerpt::clean;
use super::{Answer, Attempt, Failure};
use crate::config::DnsProbe;

/// Nobody is told that more would be welcome (EDNS), so a server sends no more than 512 bytes (RFC 1035 section 4.2.1).
const DATAGRAM: usize = 4096;
const ANSWER: &str = "answer";

/// Asks over UDP, and over TCP if the answer did not fit.
pub async fn probe(attempt: &Attempt<'_>, check: &DnsProbe) -> Result<Answer, Failure> {
    let question = Question::new(check)?;
    let reply = over_udp(attempt, &question).await?;
    let judged = judge(check, &reply);
    if judged.is_ok() || !reply.truncated {
        return judged;
    }
    judge(check, &over_tcp(attempt, &question).await?)
}

async fn over_udp(attempt: &Attempt<'_>, question: &Question) -> Result<Reply, Failure> {
    let socket = attempt.datagrams().await?;
    attempt.in_time(socket.send(question.as_bytes()), ANSWER).await?;
    attempt.step("sent the question");
    let mut buffer = vec![0; DATAGRAM];
    let mut wanted = ANSWER;
    loop {
        let length = attempt.in_time(socket.receive(&mut buffer), wanted).await?;
        match question.reply(&buffer[..length])? {
            Some(reply) => {
                attempt.step(if reply.truncated { "got a truncated answer" } else { "got an answer" });
                return Ok(reply);
            }
            // Somebody else's answer, or one to a probe before this one: it says nothing of this one.
            None => wanted = "answer to this very question",
        }
    }
}

/// RFC 7766 section 8: each message has its length in front.
async fn over_tcp(attempt: &Attempt<'_>, question: &Question) -> Result<Reply, Failure> {
    let mut conversation = Conversation::open(attempt).await?;
    let length = u16::try_from(question.as_bytes().len()).unwrap_or(u16::MAX);
    let message = [&length.to_be_bytes(), question.as_bytes()].concat();
    conversation.say(&message, ANSWER).await?;
    let length = u16::from_be_bytes(conversation.bytes(ANSWER).await?);
    let message = conversation.message(usize::from(length), ANSWER).await?;
    question.reply(&message)?.ok_or_else(|| Failure::Wrong("the answer is to another question".into()))
}

fn judge(check: &DnsProbe, reply: &Reply) -> Result<Answer, Failure> {
    if let Some(error) = &reply.error {
        return Err(Failure::Wrong(format!("the answer is {error}")));
    }
    let Some(wanted) = &check.answer else { return Ok(Answer::default()) };
    if reply.records.iter().any(|record| record.is(wanted)) {
        return Ok(Answer::default());
    }
    if reply.records.is_empty() {
        return Err(Failure::Wrong(format!("no {wanted}: the answer has no {} record", check.record.name())));
    }
    let records: Vec<_> = reply.records.iter().map(|record| record.text.as_str()).collect();
    Err(Failure::Wrong(format!("no {wanted} among the answers: {}", clean(records.join(", ").as_bytes()))))
}

#[cfg(test)]
mod tests;

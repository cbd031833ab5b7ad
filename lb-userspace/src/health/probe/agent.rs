//! HAProxy's agent protocol: the server says in a line how it is, and what its weight shall be.
//!
//! Each answer stands for itself: what an earlier one said does not linger as it does in HAProxy.

use super::conversation::{Conversation, wrong};
use super::excerpt::{clean, quote};
use super::{Advice, Answer, Attempt, Failure};

const ANSWER: &str = "agent's answer";

pub async fn probe(attempt: &Attempt<'_>, send: Option<&str>) -> Result<Answer, Failure> {
    let mut agent = Conversation::open(attempt).await?;
    if let Some(send) = send {
        agent.say(send.as_bytes(), ANSWER).await?;
    }
    // Many agents close without the end of line that the protocol asks for.
    let (line, _) = agent.line_or_rest(ANSWER).await?;
    judge(&line).map(|advice| Answer { advice })
}

/// `drain 50%#backup runs`: words between spaces, tabs or commas, and behind `#` a reason for people.
fn judge(line: &[u8]) -> Result<Option<Advice>, Failure> {
    let line = line.trim_ascii();
    let (said, reason) = match line.iter().position(|byte| *byte == b'#') {
        Some(mark) => (&line[..mark], &line[mark + 1..]),
        None => (line, &[][..]),
    };
    let words =
        said.split(|byte| matches!(byte, b' ' | b'\t' | b',' | b'\r')).filter(|word| !word.is_empty());
    let (mut some, mut advice, mut drains) = (false, None, false);
    for word in words {
        some = true;
        match Word::read(word) {
            Some(Word::Out) => return Err(out(word, reason)),
            Some(Word::Drain) => drains = true,
            Some(Word::Weight(weight)) => advice = Some(weight),
            Some(Word::Fine) => {}
            None => {
                return Err(Failure::Wrong(format!("{} is not a word of the agent protocol", quote(word))));
            }
        }
    }
    match (some, drains) {
        (false, _) => Err(wrong(ANSWER, line, "a word such as up")),
        (true, true) => Ok(Some(Advice::Weight(0))),
        (true, false) => Ok(advice),
    }
}

fn out(word: &[u8], reason: &[u8]) -> Failure {
    let mut text = format!("the agent says {}", clean(word));
    if !reason.trim_ascii().is_empty() {
        text = format!("{text}: {}", clean(reason.trim_ascii()));
    }
    Failure::Wrong(text)
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// Nothing that changes anything.
    Fine,
    /// Connections that there are may go on.
    Drain,
    Out,
    Weight(Advice),
}

impl Word {
    fn read(word: &[u8]) -> Option<Self> {
        let word = std::str::from_utf8(word).ok()?.to_ascii_lowercase();
        match word.as_str() {
            "up" | "ready" => Some(Self::Fine),
            "drain" => Some(Self::Drain),
            "down" | "failed" | "stopped" | "maint" => Some(Self::Out),
            other => {
                if let Some(percent) = other.strip_suffix('%') {
                    return number(percent).map(|percent| Self::Weight(Advice::Percent(percent)));
                }
                match other.strip_prefix("maxconn:") {
                    // We have no such limit.
                    Some(limit) => limit.parse::<u32>().ok().map(|_| Self::Fine),
                    None => number(other).map(|weight| Self::Weight(Advice::Weight(weight))),
                }
            }
        }
    }
}

/// Unlike `parse` without a sign.
fn number(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;

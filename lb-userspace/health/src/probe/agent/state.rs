//! The state of an agent: a word holds until another word of the same kind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::probe::excerpt::{clean, quote};
use crate::probe::{Advice, Failure};

/// The state of a server's agent across the probes of one check. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<AgentState>>);

impl Memory {
    pub fn lock(&self) -> MutexGuard<'_, AgentState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub struct AgentState {
    /// Why the server is down, in the agent's words.
    down: Option<String>,
    admin: Admin,
    weight: Option<Advice>,
    /// The agent has sent a known word.
    is_known: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Admin {
    #[default]
    Ready,
    /// No new connections; existing ones continue.
    Drain,
    /// Out of service, for this reason.
    Maint(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Up,
    /// `down` or a synonym.
    Down,
    Ready,
    Drain,
    Maint,
    Weight(Advice),
    /// `maxconn`; `lb` has no limit on connections.
    Limit,
}

impl AgentState {
    /// Updates the state from an answer such as `drain 50%#backup runs`: words separated by spaces,
    /// tabs or commas, and after `#` a reason for people. Of several words of one kind the last one
    /// counts. Unknown words change nothing; for these it returns a warning.
    pub fn update(&mut self, line: &[u8]) -> Option<String> {
        let end = line.iter().position(|byte| matches!(byte, b'\r' | 0)).unwrap_or(line.len());
        let line = line[..end].trim_ascii();
        let (said, reason) = match line.iter().position(|byte| *byte == b'#') {
            Some(mark) => (&line[..mark], &line[mark + 1..]),
            None => (line, &[][..]),
        };
        let words = said.split(|byte| matches!(byte, b' ' | b'\t' | b',')).filter(|word| !word.is_empty());
        let (mut known, mut unknown) = (false, None);
        for word in words {
            match Word::read(word) {
                Some(read) => {
                    known = true;
                    self.hold(read, word, reason);
                }
                None => unknown = unknown.or(Some(word)),
            }
        }
        self.is_known |= known;
        match unknown {
            Some(b"nolb") => Some(
                "the agent says 'nolb', which HAProxy's protocol does not have: ignored (`drain` keeps new connections \
                 away)"
                    .into(),
            ),
            Some(word) => {
                let word = quote(word);
                Some(format!("the agent says {word}, which is not a word of HAProxy's protocol: ignored"))
            }
            None if known => None,
            None => Some(format!("the agent says {}: ignored, expected a word such as up", quote(line))),
        }
    }

    fn hold(&mut self, read: Word, word: &[u8], reason: &[u8]) {
        match read {
            Word::Up => self.down = None,
            Word::Down => self.down = Some(out(word, reason)),
            Word::Ready => self.admin = Admin::Ready,
            Word::Drain => self.admin = Admin::Drain,
            Word::Maint => self.admin = Admin::Maint(out(word, reason)),
            Word::Weight(advice) => self.weight = Some(advice),
            Word::Limit => {}
        }
    }

    pub fn is_known(&self) -> bool {
        self.is_known
    }

    pub fn judge(&self) -> Result<Option<Advice>, Failure> {
        match (&self.admin, &self.down) {
            (Admin::Maint(words), _) | (_, Some(words)) => Err(Failure::Wrong(words.clone())),
            (Admin::Drain, None) => Ok(Some(Advice::Weight(0))),
            (Admin::Ready, None) => Ok(self.weight),
        }
    }
}

fn out(word: &[u8], reason: &[u8]) -> String {
    match reason.trim_ascii() {
        [] => format!("the agent says {}", clean(word)),
        reason => format!("the agent says {}: {}", clean(word), clean(reason)),
    }
}

impl Word {
    /// HAProxy's words, and `failed`, which its manual had for years where its code had `fail`
    /// (haproxy#642).
    fn read(word: &[u8]) -> Option<Self> {
        let word = std::str::from_utf8(word).ok()?.to_ascii_lowercase();
        match word.as_str() {
            "up" => Some(Self::Up),
            "ready" => Some(Self::Ready),
            "drain" => Some(Self::Drain),
            "maint" => Some(Self::Maint),
            "down" | "fail" | "failed" | "stopped" => Some(Self::Down),
            other => match other.strip_prefix("maxconn:") {
                Some(limit) => limit.parse::<u32>().ok().map(|_| Self::Limit),
                None => match other.strip_prefix("weight:") {
                    Some(text) => percent(text).or_else(|| number(text).map(Advice::Weight)),
                    // A bare number is no weight: greetings of other protocols begin with a number.
                    None => percent(other),
                }
                .map(Self::Weight),
            },
        }
    }
}

fn percent(text: &str) -> Option<Advice> {
    number(text.strip_suffix('%')?).map(Advice::Percent)
}

/// Like `parse`, but refuses a sign.
fn number(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

//! HAProxy's agent protocol: the server's agent sends a line with its state and its weight.
//!
//! As in HAProxy (configuration manual, `agent-check`) a word of the agent holds until another word
//! of the same kind, and an agent that does not answer changes nothing: another check must test
//! whether the server serves.

mod state;

pub(crate) use self::state::Memory;
use super::line_client::LineClient;
use super::{Answer, Attempt, Failure};

const ANSWER: &str = "agent's answer";

pub(crate) async fn probe(attempt: &Attempt<'_>, send: Option<&str>) -> Result<Answer, Failure> {
    let line = ask(attempt, send).await;
    let mut state = attempt.agent.lock();
    match line {
        Ok(line) => {
            if let Some(warning) = state.update(&line) {
                attempt.warn(warning);
            }
            Ok(Answer { advice: state.judge()?, stale: false })
        }
        Err(failure) if failure.is_local() => Err(failure),
        Err(failure) => match state.judge() {
            Ok(advice) => {
                let counts = if state.is_known() {
                    "its last answer still applies"
                } else {
                    "the server counts as up so far"
                };
                attempt.warn(format!("the agent does not answer ({failure}); {counts}"));
                Ok(Answer { advice, stale: true })
            }
            Err(last) => {
                Err(Failure::Wrong(format!("{last}; since then the agent does not answer ({failure})")))
            }
        },
    }
}

async fn ask(attempt: &Attempt<'_>, send: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut agent = LineClient::open(attempt).await?;
    if let Some(send) = send {
        agent.send(send.as_bytes(), ANSWER).await?;
    }
    // Many agents close without the end of line that the protocol requires.
    match agent.line_or_rest(ANSWER).await? {
        (line, false) if line.is_empty() => Err(Failure::Closed { expected: ANSWER }),
        (line, _) => Ok(line),
    }
}

#[cfg(test)]
mod tests;

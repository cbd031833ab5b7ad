//! HAProxy's agent protocol: the server says in a line how it is, and what its weight shall be.
//!
//! As in HAProxy (configuration manual, `agent-check`) what an agent has said holds until it says something else of the
//! same kind, and an agent that cannot be reached changes nothing: whether the server serves is for another check to find.

mod state;

pub(crate) use self::state::Memory;
use super::line_client::LineClient;
use super::{Answer, Attempt, Failure};

const ANSWER: &str = "agent's answer";

pub(crate) async fn probe(attempt: &Attempt<'_>, send: Option<&str>) -> Result<Answer, Failure> {
    let line = ask(attempt, send).await;
    let mut said = attempt.agent.lock();
    match line {
        Ok(line) => {
            if let Some(warning) = said.take(&line) {
                attempt.warn(warning);
            }
            Ok(Answer { advice: said.judge()?, stale: false })
        }
        Err(failure) if failure.is_local() => Err(failure),
        Err(failure) => match said.judge() {
            Ok(advice) => {
                let counts =
                    if said.is_anything() { "what it said last counts" } else { "it counts as up so far" };
                attempt.warn(format!("the agent cannot be asked ({failure}); {counts}"));
                Ok(Answer { advice, stale: true })
            }
            Err(last) => Err(Failure::Wrong(format!("{last}; since then it cannot be asked ({failure})"))),
        },
    }
}

async fn ask(attempt: &Attempt<'_>, send: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut agent = LineClient::open(attempt).await?;
    if let Some(send) = send {
        agent.send(send.as_bytes(), ANSWER).await?;
    }
    // Many agents close without the end of line that the protocol asks for.
    match agent.line_or_rest(ANSWER).await? {
        (line, false) if line.is_empty() => Err(Failure::Closed { expected: ANSWER }),
        (line, _) => Ok(line),
    }
}

#[cfg(test)]
mod tests;

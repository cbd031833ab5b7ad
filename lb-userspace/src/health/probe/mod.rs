//! Probes: one file per kind, each an async function that can be dropped at any moment.
//!
//! A probe gets an [`Attempt`]: whom to ask, until when, and by what way. It notes each step that it takes, so that a
//! failure can say how far it came, and ends with an [`Answer`] or a [`Failure`].

pub mod http;
pub mod ping;
pub mod tcp;

mod attempt;
mod excerpt;
mod failure;
mod wanted;

pub use self::attempt::{Advice, Answer, Attempt, Limit, Report, Step, Subject, micros, millis};
pub use self::excerpt::excerpt;
pub use self::failure::Failure;
use super::net::Net;
use crate::config::{Check, Probe};

/// Makes one probe as `check` asks for.
pub async fn run(check: &Check, subject: Subject, net: &Net) -> Report {
    let attempt = Attempt::new(check, subject, net);
    let result = ask(&attempt).await;
    attempt.report(result)
}

async fn ask(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    match &attempt.check.probe {
        Probe::Tcp(exchange) => tcp::probe(attempt, exchange).await,
        Probe::Http(http) => http::probe(attempt, http).await,
        Probe::Ping => ping::probe(attempt).await,
        other => Err(Failure::Wrong(format!("checks of type {} are not built yet", other.name()))),
    }
}

#[cfg(test)]
pub(super) mod servers;

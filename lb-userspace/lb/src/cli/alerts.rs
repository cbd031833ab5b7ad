//! `lb alerts test`: a test message to whoever is told of events.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use lb_api::status::AlertTest;
use lb_api::{client, schema};
use lb_model::millis;

use super::output::{Director, json_line, print};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    director: Director,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Have the director send a test message, which no limit holds back, and tell what came of it
    Test {
        /// Name of the receiver in `alerts`; all if left out
        receiver: Option<String>,
        /// Print one JSON object a receiver, for programs
        #[arg(long)]
        json: bool,
    },
}

/// Exits with an error if a receiver has not taken its message.
pub(super) fn run(Options { action: Action::Test { receiver, json }, director }: Options) -> Result<()> {
    let tests = client::request_alert_test(&director.socket, receiver)?;
    for test in &tests {
        print(&if json { json_line(schema::ALERT_TEST, test)? } else { line(test) })?;
    }
    match tests.iter().filter(|test| test.failure.is_some()).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} messages were not taken", tests.len()),
    }
}

fn line(AlertTest { receiver, target, took_us, failure }: &AlertTest) -> String {
    let took = millis(*took_us);
    match failure {
        None => format!("{receiver}: taken by {target} within {took}\n"),
        Some(why) => format!("{receiver}: FAILED after {took}: {why}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_receiver_has_a_line() {
        let test = |failure: Option<&str>| AlertTest {
            receiver: "mail".into(),
            target: "mail.example.net:587".into(),
            took_us: 12_600,
            failure: failure.map(str::to_owned),
        };
        assert_eq!(line(&test(None)), "mail: taken by mail.example.net:587 within 13 ms\n");
        assert_eq!(line(&test(Some("refused"))), "mail: FAILED after 13 ms: refused\n");
    }
}

//! Probes: one file per type, each an async function that can be dropped at any moment.
//!
//! A probe gets an [`Attempt`]: target, time limit and network. It records each completed step, so
//! that a failure can say how far it came, and returns an [`Answer`] or a [`Failure`].

pub(crate) mod agent;
mod dns;
mod external;
mod file;
mod ftp;
mod grpc;
mod http;
mod imap;
mod ldap;
mod mysql;
mod ping;
mod pop3;
mod postgresql;
mod redis;
mod smtp;
mod tcp;
mod udp;

mod attempt;
mod excerpt;
mod expectation;
mod failure;
mod line_client;
mod reply;
mod vip_diagnosis;

use std::io;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use lb_model::{Check, Probe, Via};

pub use self::attempt::{Advice, Answer, Attempt, Limit, Received, Report, Subject, micros};
pub use self::excerpt::excerpt;
use self::excerpt::quote;
pub use self::failure::Failure;
use super::net::Net;

/// Runs one probe of `check` without state of earlier probes.
pub async fn run(check: &Check, subject: Subject, net: &Net) -> Report {
    run_after(&agent::Memory::default(), check, subject, net).await
}

/// Runs one probe of `check`; `agent` is the state of the server's agent after earlier probes.
pub async fn run_after(agent: &agent::Memory, check: &Check, subject: Subject, net: &Net) -> Report {
    let attempt = Attempt::new(check, subject, net).remembering(agent.clone());
    let probe = async {
        match check.via {
            Via::Server => ask(&attempt).await,
            Via::Vip => vip_diagnosis::ask(&attempt).await,
        }
    };
    let result = unless_it_panics(probe).await;
    attempt.report(result)
}

/// Catches panics: a panic would end the check's task, and its last verdict would stay for ever.
async fn unless_it_panics(probe: impl Future<Output = Result<Answer, Failure>>) -> Result<Answer, Failure> {
    AssertUnwindSafe(probe).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        let message = format!("a mistake in lb's own probe, please report it: {}", quote(text.as_bytes()));
        Err(Failure::Local(io::Error::other(message)))
    })
}

async fn ask(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    match &attempt.check.probe {
        Probe::Tcp(exchange) => tcp::probe(attempt, exchange).await,
        Probe::Http(http) => http::probe(attempt, http).await,
        Probe::Udp(exchange) => udp::probe(attempt, exchange).await,
        Probe::Dns(dns) => dns::probe(attempt, dns).await,
        Probe::Grpc { service } => grpc::probe(attempt, service).await,
        Probe::Smtp { helo } => smtp::probe(attempt, helo).await,
        Probe::Imap => imap::probe(attempt).await,
        Probe::Pop3 => pop3::probe(attempt).await,
        Probe::Ftp => ftp::probe(attempt).await,
        Probe::Ldap => ldap::probe(attempt).await,
        Probe::Mysql { user } => mysql::probe(attempt, user).await,
        Probe::Postgresql { user, database } => postgresql::probe(attempt, user, database).await,
        Probe::Redis => redis::probe(attempt).await,
        Probe::Ping => ping::probe(attempt).await,
        Probe::Agent { send } => agent::probe(attempt, send.as_deref()).await,
        Probe::External(external) => external::probe(attempt, external).await,
        Probe::File(path) => file::probe(path).await,
        Probe::Off => Err(Failure::Wrong("checks are off for this server".into())),
    }
}

#[cfg(test)]
pub(crate) mod test_servers;

#[cfg(test)]
#[tokio::test]
async fn a2_a_probe_that_panics_is_told_of_and_blames_no_server() {
    let failure =
        unless_it_panics(async { panic!("index {} is too large", 7) }).await.expect_err("no answer");
    let words = "a mistake in lb's own probe, please report it: 'index 7 is too large' on this host";
    assert!(failure.is_local());
    assert_eq!(failure.to_string(), words);
}

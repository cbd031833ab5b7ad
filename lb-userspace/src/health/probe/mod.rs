//! Probes: one file per kind, each an async function that can be dropped at any moment.
//!
//! A probe gets an [`Attempt`]: whom to ask, until when, and by what way. It notes each step that it takes, so that a
//! failure can say how far it came, and ends with an [`Answer`] or a [`Failure`].

pub mod agent;
pub mod dns;
pub mod external;
pub mod file;
pub mod ftp;
pub mod grpc;
pub mod http;
pub mod imap;
pub mod ldap;
pub mod mysql;
pub mod ping;
pub mod pop3;
pub mod postgresql;
pub mod redis;
pub mod smtp;
pub mod tcp;
pub mod udp;

mod attempt;
mod conversation;
mod excerpt;
mod failure;
mod reply;
mod second_look;
mod wanted;

pub use self::attempt::{Advice, Answer, Attempt, Heard, Limit, Report, Step, Subject, micros, millis};
pub use self::excerpt::excerpt;
pub use self::failure::Failure;
use super::net::Net;
use crate::config::{Check, Probe, Via};

/// Makes one probe as `check` asks for.
pub async fn run(check: &Check, subject: Subject, net: &Net) -> Report {
    let attempt = Attempt::new(check, subject, net);
    let result = match check.via {
        Via::Server => ask(&attempt).await,
        Via::Vip => second_look::ask(&attempt).await,
    };
    attempt.report(result)
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
        Probe::File(path) => file::probe(path),
        Probe::Off => Err(Failure::Wrong("checks are off for this server".into())),
    }
}

#[cfg(test)]
pub mod servers;

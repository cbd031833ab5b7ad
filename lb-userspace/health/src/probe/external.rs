//! External: a program of the operator tests the server.
//!
//! ldirectord's four arguments (VIP, its port, the server's address, its port) follow the program's
//! own arguments. Its environment has the same values: LB_VIP, LB_PORT, LB_PROTOCOL,
//! LB_SERVER_ADDRESS, LB_SERVER_PORT.

use lb_model::{Command, ExternalProbe};
use lb_system::command::{self, Failure as Ended};

use super::excerpt::clean;
use super::{Advice, Answer, Attempt, Failure};

pub(super) async fn probe(attempt: &Attempt<'_>, external: &ExternalProbe) -> Result<Answer, Failure> {
    let service = attempt.subject.service;
    let (vip, port, server) =
        (service.vip.to_string(), service.port.to_string(), attempt.subject.server.to_string());
    let server_port = attempt.target().port().to_string();
    let environment = [
        ("LB_VIP", vip.clone()),
        ("LB_PORT", port.clone()),
        ("LB_PROTOCOL", service.protocol.name().to_owned()),
        ("LB_SERVER_ADDRESS", server.clone()),
        ("LB_SERVER_PORT", server_port.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let Command { words, timeout } = &external.command;
    let words = words.iter().cloned().chain([vip, port, server, server_port]).collect();
    let command = Command { words, timeout: (*timeout).min(attempt.limit.whole()) };
    let mut last = Vec::new();
    let on_line = |line: &[u8]| {
        if !line.trim_ascii().is_empty() {
            last.clear();
            last.extend_from_slice(line.trim_ascii());
        }
    };
    let ended = command::listen(&command, &environment, on_line).await;
    judge(ended, external.dynamic, &last)
}

fn judge(ended: Result<(), Ended>, dynamic: bool, last: &[u8]) -> Result<Answer, Failure> {
    match ended {
        Ok(()) => Ok(Answer::default()),
        Err(Ended::Exit(code @ 2..=255)) if dynamic => {
            let weight = u16::try_from(code - 2).unwrap_or(u16::MAX);
            Ok(Answer { advice: Some(Advice::Weight(weight)), ..Answer::default() })
        }
        // The program did not run, so the failure is local.
        Err(Ended::Start { program, error }) => local(format!("cannot start {program}: {error}")),
        Err(Ended::Wait(error)) => local(format!("cannot wait for the program: {error}")),
        Err(ended) if last.is_empty() => Err(Failure::Wrong(ended.to_string())),
        Err(ended) => Err(Failure::Wrong(format!("{ended}: {}", clean(last)))),
    }
}

fn local(message: String) -> Result<Answer, Failure> {
    Err(Failure::Local(std::io::Error::other(message)))
}

#[cfg(test)]
mod tests;

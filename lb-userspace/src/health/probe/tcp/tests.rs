//! The TCP probe against servers good and bad.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::{Probe, Wanted};
use crate::health::probe::servers::{self, Asked, PATIENCE, TestServer, wanted};

const LIMIT: Duration = Duration::from_millis(300);

fn asked(send: &str, wanted: Wanted) -> Asked {
    Asked::of(Probe::Tcp(Exchange { send: send.into(), wanted }), PATIENCE)
}

async fn tcp(address: SocketAddr) -> Result<Answer, String> {
    asked("", Wanted::default()).at(address).await
}

fn fails(words: &str) -> Result<Answer, String> {
    Err(words.to_owned())
}

/// Answers `ping` with `pong` in two pieces and keeps the connection.
async fn pong() -> TestServer {
    servers::serving(|mut stream| async move {
        let mut ping = [0; 4];
        while stream.read_exact(&mut ping).await.is_ok() && &ping == b"ping" {
            let _ = stream.write_all(b"po").await;
            tokio::task::yield_now().await;
            let _ = stream.write_all(b"ng").await;
        }
    })
    .await
}

#[tokio::test]
async fn a_listener_is_good() {
    let server = servers::silent().await;
    assert_eq!(tcp(server.address).await, Ok(Answer::default()));
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    assert_eq!(tcp(servers::closed().await).await, fails("connection refused"));
}

#[tokio::test]
async fn another_port_than_the_servers_can_be_asked() {
    let server = servers::silent().await;
    let asked = asked("", Wanted::default()).with(|check| check.port = Some(server.address.port()));
    assert_eq!(asked.at(servers::closed().await).await, Ok(Answer::default()));
}

#[tokio::test]
async fn an_unanswered_syn_ends_with_the_time() {
    let (address, _queue) = servers::full_backlog();
    let start = Instant::now();
    let found = asked("", Wanted::default()).within(LIMIT).at(address).await;
    assert_eq!(found, fails("no answer to SYN within 300ms"));
    assert!(start.elapsed() < LIMIT + PATIENCE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_answer_is_as_wanted() {
    let server = pong().await;
    for wanted in [Wanted::default(), wanted(Some("pong"), None), wanted(Some("on"), Some("^pong$"))] {
        assert_eq!(
            asked("ping", wanted.clone()).at(server.address).await,
            Ok(Answer::default()),
            "{wanted:?}"
        );
    }
}

#[tokio::test]
async fn a_greeting_is_as_wanted_without_anything_sent() {
    let server = servers::saying(b"SSH-2.0-OpenSSH_9.2p1\r\n").await;
    let result = asked("", wanted(None, Some(r"^SSH-2\.0-"))).at(server.address).await;
    assert_eq!(result, Ok(Answer::default()));
}

#[tokio::test]
async fn a_wrong_answer_is_told() {
    let server = servers::saying(b"-ERR busy\r\n").await;
    let report = asked("ping", wanted(Some("pong"), None)).within(LIMIT).report(server.address).await;
    let words = "no 'pong' within 300ms, in the first 11 bytes of the answer: got '-ERR busy'";
    assert_eq!(report.result.expect_err("no pong").to_string(), words);
    let steps: Vec<_> = report.steps.iter().map(|step| step.what.as_ref()).collect();
    assert_eq!(steps, ["connected", "sent 4 bytes", "got an answer"]);

    let server = servers::closing_after(b"-ERR busy\r\n").await;
    let result = asked("", wanted(None, Some("[0-9]"))).at(server.address).await;
    assert_eq!(result, fails("no match for '[0-9]' in the answer's 11 bytes: got '-ERR busy'"));
}

#[tokio::test]
async fn an_endless_answer_is_read_up_to_the_limit() {
    let server = servers::endless(b"xy", Duration::ZERO).await;
    let result = asked("", wanted(Some("pong"), None)).at(server.address).await;
    let words =
        "no 'pong' in the first 16384 bytes of the answer: got 'xyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxy…'";
    assert_eq!(result, fails(words));
}

#[tokio::test]
async fn silence_and_endings_are_told() {
    let silent = servers::silent().await;
    let found = asked("ping", Wanted::default()).within(LIMIT).at(silent.address).await;
    assert_eq!(found, fails("no answer within 300ms"));
    let cases = [
        (servers::closing_after(b"").await, "closed before the answer"),
        (servers::resetting().await, "reset before the answer"),
    ];
    for (server, words) in cases {
        assert_eq!(asked("ping", Wanted::default()).at(server.address).await, fails(words));
    }
}

#[tokio::test]
async fn whatever_is_not_wanted_is_a_failure() {
    servers::fails_at_all(&asked("ping", wanted(Some("pong"), Some("[A-Z]{5}"))).within(LIMIT)).await;
}

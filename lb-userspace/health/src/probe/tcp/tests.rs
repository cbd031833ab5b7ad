//! The TCP probe with good and bad servers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_model::{Expectation, Probe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::probe::test_servers::{self, Asked, PATIENCE, TestServer, expected};

const LIMIT: Duration = Duration::from_millis(300);

fn asked(send: &str, expected: Expectation) -> Asked {
    Asked::of(Probe::Tcp(Exchange { send: send.into(), expected }), PATIENCE)
}

async fn tcp(address: SocketAddr) -> Result<Answer, String> {
    asked("", Expectation::default()).at(address).await
}

fn fails(words: &str) -> Result<Answer, String> {
    Err(words.to_owned())
}

/// Answers `ping` with `pong` in two pieces and keeps the connection.
async fn pong() -> TestServer {
    test_servers::serving(|mut stream| async move {
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
    let server = test_servers::silent().await;
    assert_eq!(tcp(server.address).await, Ok(Answer::default()));
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    assert_eq!(tcp(test_servers::closed().await).await, fails("connection refused"));
}

#[tokio::test]
async fn another_port_than_the_servers_can_be_asked() {
    let server = test_servers::silent().await;
    let asked = asked("", Expectation::default()).with(|check| check.port = Some(server.address.port()));
    assert_eq!(asked.at(test_servers::closed().await).await, Ok(Answer::default()));
}

#[tokio::test]
async fn an_unanswered_syn_ends_with_the_time() {
    let (address, _queue) = test_servers::full_backlog();
    let start = Instant::now();
    let found = asked("", Expectation::default()).within(LIMIT).at(address).await;
    assert_eq!(found, fails("no answer to SYN within 300ms"));
    assert!(start.elapsed() < LIMIT + PATIENCE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_answer_is_as_wanted() {
    let server = pong().await;
    for expected in
        [Expectation::default(), expected(Some("pong"), None), expected(Some("on"), Some("^pong$"))]
    {
        assert_eq!(
            asked("ping", expected.clone()).at(server.address).await,
            Ok(Answer::default()),
            "{expected:?}"
        );
    }
}

#[tokio::test]
async fn a_greeting_is_as_wanted_without_anything_sent() {
    let server = test_servers::saying(b"SSH-2.0-OpenSSH_9.2p1\r\n").await;
    let result = asked("", expected(None, Some(r"^SSH-2\.0-"))).at(server.address).await;
    assert_eq!(result, Ok(Answer::default()));
}

#[tokio::test]
async fn a_wrong_answer_is_told() {
    let server = test_servers::saying(b"-ERR busy\r\n").await;
    let report = asked("ping", expected(Some("pong"), None))
        .within(Duration::from_secs(2))
        .report(server.address)
        .await;
    let words = "no 'pong' within 2s, in the first 11 bytes of the answer: got '-ERR busy'";
    assert_eq!(report.result.expect_err("no pong").to_string(), words);
    let steps: Vec<_> = report.steps.iter().map(|step| step.what.as_ref()).collect();
    assert_eq!(steps, ["connected", "sent 4 bytes", "got an answer"]);

    let server = test_servers::closing_after(b"-ERR busy\r\n").await;
    let result = asked("", expected(None, Some("[0-9]"))).at(server.address).await;
    assert_eq!(result, fails("no match for '[0-9]' in the answer's 11 bytes: got '-ERR busy'"));
}

#[tokio::test]
async fn an_endless_answer_is_read_up_to_the_limit() {
    let server = test_servers::endless(b"xy", Duration::ZERO).await;
    let result = asked("", expected(Some("pong"), None)).at(server.address).await;
    let words =
        "no 'pong' in the first 16384 bytes of the answer: got 'xyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxy…'";
    assert_eq!(result, fails(words));
}

/// Servers that ldirectord, HAProxy and keepalived accept: the probe sends `ping` and expects a
/// final line `pong`.
#[tokio::test]
async fn odd_servers_that_answer_are_up() {
    let expected = || expected(Some("pong"), Some("pong$"));
    let asked = || asked("ping", expected()).with(|check| check.timeout = Duration::from_secs(8));
    let reads_all = test_servers::serving(|mut stream| async move {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        let _ = stream.write_all(&[&all[..], b" pong\n"].concat()).await;
    });
    let slow = test_servers::serving(|mut stream| async move {
        for byte in b"pong\r\n" {
            let _ = stream.write_all(&[*byte]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let resets = test_servers::serving(|mut stream| async move {
        let _ = stream.write_all(b"pong\n").await;
        // Closes with unread data.
        let _ = stream.readable().await;
    });
    let rows = [
        ("answers when all is said", reads_all.await),
        ("answers byte by byte", slow.await),
        ("resets behind its answer", resets.await),
        ("greets before it answers", test_servers::saying(b"hello\r\npong\r\n").await),
        ("speaks first, whatever it is asked", test_servers::saying(b"pong").await),
        ("closes its half", test_servers::closing_after(b"pong\n").await),
        ("keeps the connection", test_servers::saying(b"pong\n").await),
        ("has bytes that are no UTF-8", test_servers::closing_after(b"\xff\xfe pong\n").await),
        ("has a NUL in it", test_servers::closing_after(b"\0\0pong\r\n").await),
        ("says it after much else", test_servers::closing_after(LONG).await),
    ];
    for (name, server) in rows {
        assert_eq!(asked().at(server.address).await, Ok(Answer::default()), "{name}");
    }
    // An accepted connection is enough, whatever follows.
    let resets = test_servers::serving(|stream| async move {
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    });
    for server in
        [resets.await, test_servers::closing_after(b"").await, test_servers::closing_after(b"go away").await]
    {
        assert_eq!(tcp(server.address).await, Ok(Answer::default()));
    }
}

const LONG: &[u8] = &{
    let mut bytes = [b'x'; 16_000];
    let (end, mut place) = (*b"pong\n", 0);
    while place < end.len() {
        bytes[16_000 - end.len() + place] = end[place];
        place += 1;
    }
    bytes
};

#[tokio::test]
async fn silence_and_endings_are_told() {
    let cases = [
        (test_servers::closing_after(b"").await, "closed before the answer"),
        (test_servers::resetting().await, "reset before the answer"),
    ];
    for (server, words) in cases {
        assert_eq!(asked("ping", Expectation::default()).at(server.address).await, fails(words));
    }
    let hangs = test_servers::serving(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    });
    let asked = asked("ping", Expectation::default()).within(LIMIT);
    assert_eq!(asked.at(hangs.await.address).await, fails("no answer within 300ms"));
    // The server keeps reading, and closes at the end of the stream.
    let silent = test_servers::silent().await;
    let report = asked.within(Duration::from_secs(2)).report(silent.address).await;
    let words = report.explain(&report.result.as_ref().expect_err("no answer").to_string());
    assert!(words.contains("closed the sending half after "), "{words}");
    assert!(words.ends_with(", then no answer, and closed after the end of the request"), "{words}");
}

#[tokio::test]
async fn whatever_is_not_wanted_is_a_failure() {
    test_servers::fails_at_all(&asked("ping", expected(Some("pong"), Some("[A-Z]{5}"))).within(LIMIT)).await;
}

//! The UDP probe with good and bad servers.

use std::time::Duration;

use lb_model::{Expectation, Probe};

use super::*;
use crate::probe::test_servers::{self, Asked, PATIENCE, expected};

const LIMIT: Duration = Duration::from_millis(300);

fn asked(expected: Expectation) -> Asked {
    Asked::of(Probe::Udp(Exchange { send: b"ping".to_vec(), expected }), PATIENCE)
}

/// Probes a server that answers with these datagrams.
async fn ask(expected: Expectation, answers: &'static [&'static [u8]]) -> Result<Answer, String> {
    let server = test_servers::answering_datagrams(move |asked| {
        assert_eq!(asked, b"ping");
        answers.iter().map(|answer| answer.to_vec()).collect()
    })
    .await;
    asked(expected).at(server.address).await
}

fn fails(words: &str) -> Result<Answer, String> {
    Err(words.to_owned())
}

#[tokio::test]
async fn any_answer_is_good_unless_one_is_wanted() {
    assert_eq!(ask(Expectation::default(), &[b"\0\xff"]).await, Ok(Answer::default()));
    assert_eq!(ask(Expectation::default(), &[b""]).await, Ok(Answer::default()), "an empty one is one");
    assert_eq!(ask(expected(Some("pong"), Some("^po")), &[b"pong"]).await, Ok(Answer::default()));
    let words = "no 'pong' in the answer's 5 bytes: got 'error'";
    assert_eq!(ask(expected(Some("pong"), None), &[b"error", b"pong"]).await, fails(words));
    assert_eq!(ask(expected(Some("pong"), None), &[b""]).await, fails("no 'pong' in the empty answer"));
}

/// A server that answers from another port, as TFTP does, counts as down: a connected socket does
/// not receive the answer, in keepalived neither. Use an external check.
#[tokio::test]
async fn odd_servers_that_answer_are_up() {
    static LONG: [&[u8]; 1] = [&{
        let mut bytes = [b'x'; 9000];
        bytes[4000] = b'p';
        bytes[4001] = b'o';
        bytes[4002] = b'n';
        bytes[4003] = b'g';
        bytes
    }];
    let rows: [(&str, Expectation, &'static [&'static [u8]]); 11] = [
        ("an empty datagram", Expectation::default(), &[b""]),
        ("a byte", Expectation::default(), &[b"\0"]),
        ("repeats the question", expected(Some("ping"), None), &[b"ping"]),
        ("a line's end behind", expected(None, Some("^pong$")), &[b"pong\r\n"]),
        ("a NUL behind", expected(Some("pong"), None), &[b"pong\0"]),
        ("no UTF-8", expected(Some("pong"), None), &[b"\xff\xfe pong"]),
        ("answers twice", expected(Some("pong"), None), &[b"pong", b"pong"]),
        ("goes on with something else", expected(Some("pong"), None), &[b"pong", b"error"]),
        ("more than a datagram's worth", expected(Some("pong"), None), &LONG),
        (
            "an error of its own protocol, which is an answer",
            Expectation::default(),
            &[b"\0\x05\0\x01not found\0"],
        ),
        ("binary", expected(None, Some("(?-u)^\\x1c.\\x00")), &[b"\x1c\x01\0\0"]),
    ];
    for (name, expected, answers) in rows {
        assert_eq!(ask(expected, answers).await, Ok(Answer::default()), "{name}");
    }
    let slow = test_servers::answering_datagrams(|_| {
        std::thread::sleep(Duration::from_millis(100));
        vec![b"pong".to_vec()]
    })
    .await;
    let asked = asked(expected(Some("pong"), None));
    assert_eq!(asked.at(slow.address).await, Ok(Answer::default()));
}

#[tokio::test]
async fn a_long_answer_is_looked_at_up_to_the_limit() {
    static LONG: [&[u8]; 1] = [&[b'x'; 9000]];
    let failure = ask(expected(Some("pong"), None), &LONG).await.expect_err("no pong");
    assert!(failure.starts_with("no 'pong' in the first 4096 bytes of the answer: got 'xxx"), "{failure}");
}

#[tokio::test]
async fn silence_lasts_until_the_time_is_up() {
    let silent = test_servers::answering_datagrams(|_| Vec::new()).await;
    let found = asked(Expectation::default()).within(LIMIT).at(silent.address).await;
    assert_eq!(found, fails("no answer within 300ms"));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_refuses() {
    let server = test_servers::answering_datagrams(|_| Vec::new()).await;
    let address = server.address;
    server.stopped().await;
    assert_eq!(asked(Expectation::default()).at(address).await, fails("connection refused"));
}

#[tokio::test]
async fn a_probe_leaves_no_socket() {
    let server = test_servers::answering_datagrams(|_| Vec::new()).await;
    for _ in 0..3 {
        asked(Expectation::default())
            .with(|check| check.timeout = Duration::from_millis(10))
            .at(server.address)
            .await
            .unwrap_err();
        assert_eq!(test_servers::sockets_to(server.address), 0);
    }
}

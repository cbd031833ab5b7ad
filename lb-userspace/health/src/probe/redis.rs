//! Redis: the server answers `PING`. A server that requires a password or a permission counts as
//! up, too.

use super::line_client::{LineClient, wrong};
use super::{Answer, Attempt, Failure};

const ANSWER: &str = "answer to PING";

/// PING as an array of one word, because some proxies (twemproxy, Envoy) do not support inline
/// commands.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const QUIT: &[u8] = b"*1\r\n$4\r\nQUIT\r\n";

/// The beginnings of answers that count as up, in lower case. Before Redis 2.8 NOAUTH was `-ERR
/// operation not permitted`; proxies and other servers put `ERR` before it.
const GOOD: [&[u8]; 6] = [
    b"+pong",
    b"-noauth",
    b"-noperm",
    b"-err operation not permitted",
    b"-err authentication required",
    b"-err noauth",
];

pub(super) async fn probe(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let mut server = LineClient::open(attempt).await?;
    server.send(PING, ANSWER).await?;
    let mut answer = server.line(ANSWER).await?;
    if answer.starts_with(b"$") {
        // A bulk string: its length, and the text in the next line.
        let word = server.line(ANSWER).await?;
        answer = [b"+", &word[..]].concat();
    }
    let reply = answer.trim_ascii().to_ascii_lowercase();
    let is_good = GOOD.iter().any(|good| {
        reply.strip_prefix(*good).is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_alphanumeric))
    });
    if !is_good {
        return Err(wrong(ANSWER, &answer, "+PONG"));
    }
    attempt.step("answered PING");
    server.quit(QUIT).await;
    Ok(Answer::default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::test_servers::{self, Asked, PATIENCE, receives, sends};
    use lb_model::Probe;

    fn redis(limit: Duration) -> Asked {
        Asked::of(Probe::Redis, limit)
    }

    #[tokio::test]
    async fn a_server_that_serves_is_good() {
        for (name, answer) in [
            ("plain", "+PONG\r\n"),
            ("a line feed alone", "+PONG\n"),
            ("small letters", "+pong\r\n"),
            ("a blank at the end", "+PONG \r\n"),
            ("a word behind it", "+PONG ready\r\n"),
            ("a string with its length", "$4\r\nPONG\r\n"),
            ("the same, line feeds alone", "$4\npong\n"),
            ("more lines behind it", "+PONG\r\n+PONG\r\n"),
            ("wants a password", "-NOAUTH Authentication required.\r\n"),
            ("wants one in few words", "-noauth\r\n"),
            ("wants one, before Redis 2.8", "-ERR operation not permitted\r\n"),
            ("wants one, another server", "-ERR Authentication required\r\n"),
            ("wants one, by a proxy", "-ERR NOAUTH Authentication required.\r\n"),
            ("lets this user do nothing", "-NOPERM this user has no permissions to run 'ping'\r\n"),
        ] {
            let turns = [receives(PING), sends(answer)];
            let (found, rest) = redis(PATIENCE).in_dialogue(turns).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), QUIT), "{name}");
        }
    }

    /// Servers with these answers do not serve, as in HAProxy: MASTERDOWN is a replica that must
    /// not serve stale data, MISCONF is checked before PING on purpose, so that checks detect it,
    /// BUSY is a script that does not end. For a server with a renamed PING use `type: tcp`.
    #[tokio::test]
    async fn one_that_does_not_is_told_of_in_its_words() {
        let answers = [
            "-LOADING Redis is loading the dataset in memory",
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "-MISCONF Redis is configured to save RDB snapshots",
            "-BUSY Redis is busy running a script",
            "-ERR max number of clients reached",
            "-DENIED Redis is running in protected mode",
            "-ERR Protocol error",
            "-ERR unknown command 'PING'",
            "+PONGO",
            "HTTP/1.1 400 Bad Request",
            "",
        ];
        for answer in answers {
            let turns = [receives(PING), sends(format!("{answer}\r\n"))];
            let (found, _) = redis(PATIENCE).in_dialogue(turns).await;
            assert_eq!(found, Err(wrong(ANSWER, answer.as_bytes(), "+PONG").to_string()));
        }
        for alert in [&b"\x15\x03\x01\0\x02\x02\x46"[..], b"\x15\x03\x03\0\x02\x02\x0a"] {
            let (found, _) = redis(PATIENCE).in_dialogue([receives(PING), sends(alert)]).await;
            assert_eq!(found, Err("the server speaks TLS: set `tls: on`".into()));
        }
    }

    #[tokio::test]
    async fn servers_that_say_it_in_odd_ways_are_good() {
        test_servers::succeeds_at_all(&redis(PATIENCE), "+PONG\r\n").await;
    }

    #[tokio::test]
    async fn misbehaving_servers_fail_in_words() {
        test_servers::fails_at_all(&redis(Duration::from_millis(200))).await;
    }
}

//! Redis: `PING` is answered. A server that wants a password first, or has no right to it for us, serves too.

use super::line_client::{LineClient, wrong};
use super::{Answer, Attempt, Failure};

const ANSWER: &str = "answer to PING";

/// As an array of one word, which proxies take that know no commands in a line: twemproxy, Envoy.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const QUIT: &[u8] = b"*1\r\n$4\r\nQUIT\r\n";

/// How answers of a server that serves begin, in small letters. `-ERR operation not permitted` is what NOAUTH was before
/// Redis 2.8.
const GOOD: [&[u8]; 5] =
    [b"+pong", b"-noauth", b"-noperm", b"-err operation not permitted", b"-err authentication required"];

pub(super) async fn probe(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let mut server = LineClient::open(attempt).await?;
    server.send(PING, ANSWER).await?;
    let mut answer = server.line(ANSWER).await?;
    if answer.starts_with(b"$") {
        // As a string with its length in front, its line follows.
        let word = server.line(ANSWER).await?;
        answer = [b"+", &word[..]].concat();
    }
    let said = answer.trim_ascii().to_ascii_lowercase();
    let is_good = GOOD.iter().any(|good| {
        said.strip_prefix(*good).is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_alphanumeric))
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
    use crate::probe::servers::{self, Asked, hears, says};
    use lb_model::Probe;

    fn redis(limit: Duration) -> Asked {
        Asked::of(Probe::Redis, limit)
    }

    #[tokio::test]
    async fn a_server_that_serves_is_good() {
        for answer in [
            "+PONG\r\n",
            "+PONG\n",
            "+pong\r\n",
            "$4\r\nPONG\r\n",
            "+PONG \r\n",
            "-NOAUTH Authentication required.\r\n",
            "-noauth\r\n",
            "-NOPERM this user has no permissions to run the 'ping' command\r\n",
            "-ERR operation not permitted\r\n",
            "-ERR Authentication required\r\n",
        ] {
            let turns = [hears(PING), says(answer)];
            let (found, rest) = redis(Duration::from_secs(5)).in_dialogue(turns).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), QUIT), "{answer}");
        }
    }

    /// Each of these says that it does not serve us or anybody, as HAProxy has it: MASTERDOWN is a replica's that is told
    /// not to serve stale data, MISCONF stands before PING on purpose so that checks find it, BUSY means a script that does
    /// not end. One that has PING under another name takes `type: tcp`.
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
            let turns = [hears(PING), says(format!("{answer}\r\n"))];
            let (found, _) = redis(Duration::from_secs(5)).in_dialogue(turns).await;
            assert_eq!(found, Err(wrong(ANSWER, answer.as_bytes(), "+PONG").to_string()));
        }
    }

    #[tokio::test]
    async fn misbehaving_servers_fail_in_words() {
        servers::fails_at_all(&redis(Duration::from_millis(200))).await;
    }
}

//! Redis: `PING` is answered. A server that wants a password first, or has no right to it for us, serves too.

use super::conversation::{Conversation, wrong};
use super::{Answer, Attempt, Failure};

const ANSWER: &str = "answer to PING";
const GOOD: [&[u8]; 3] = [b"+PONG", b"-NOAUTH", b"-NOPERM"];

pub async fn probe(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let mut server = Conversation::open(attempt).await?;
    server.say(b"PING\r\n", ANSWER).await?;
    let answer = server.line(ANSWER).await?;
    let word = answer.split(|byte| *byte == b' ').next().unwrap_or_default();
    if !GOOD.contains(&word) {
        return Err(wrong(ANSWER, &answer, "+PONG"));
    }
    attempt.step("answered PING");
    server.farewell(b"QUIT\r\n").await;
    Ok(Answer::default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Probe;
    use crate::health::probe::servers::{self, Asked, hears, says};

    fn redis(limit: Duration) -> Asked {
        Asked::of(Probe::Redis, limit)
    }

    #[tokio::test]
    async fn a_server_that_serves_is_good() {
        for answer in ["+PONG\r\n", "-NOAUTH Authentication required.\r\n", "-NOPERM no permissions\r\n"] {
            let turns = [hears("PING\r\n"), says(answer)];
            let (found, rest) = redis(Duration::from_secs(5)).in_dialogue(turns).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), &b"QUIT\r\n"[..]), "{answer}");
        }
    }

    #[tokio::test]
    async fn one_that_does_not_is_told_of_in_its_words() {
        let answers = [
            "-LOADING Redis is loading the dataset in memory",
            "-ERR max number of clients reached",
            "-DENIED Redis is running in protected mode",
            "+PONGO",
            "HTTP/1.1 400 Bad Request",
            "",
        ];
        for answer in answers {
            let turns = [hears("PING\r\n"), says(format!("{answer}\r\n"))];
            let (found, _) = redis(Duration::from_secs(5)).in_dialogue(turns).await;
            assert_eq!(found, Err(format!("the answer to PING is '{answer}', wanted +PONG")));
        }
    }

    #[tokio::test]
    async fn misbehaving_servers_fail_in_words() {
        servers::fails_at_all(&redis(Duration::from_millis(200))).await;
    }
}

//! FTP (RFC 959): the server greets.

use super::conversation::Conversation;
use super::{Answer, Attempt, Failure, reply};

pub async fn probe(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let mut server = Conversation::open(attempt).await?;
    reply::expect(&mut server, "greeting", "220").await?;
    attempt.step("greeted");
    server.farewell(b"QUIT\r\n").await;
    Ok(Answer::default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Probe;
    use crate::health::probe::servers::{self, Asked, says};

    fn ftp(limit: Duration) -> Asked {
        Asked::of(Probe::Ftp, limit)
    }

    #[tokio::test]
    async fn a_greeting_is_good() {
        for greeting in
            ["220 ready\r\n", "220-welcome\r\n to this server\r\n2210 files\r\n220-and more\r\n220 ready\r\n"]
        {
            let (found, rest) = ftp(Duration::from_secs(5)).in_dialogue([says(greeting)]).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), &b"QUIT\r\n"[..]), "{greeting}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_told() {
        let cases = [
            ("421 too many users\r\n", "the greeting is '421 too many users', wanted 220"),
            ("120 ready in 5 minutes\r\n", "the greeting is '120 ready in 5 minutes', wanted 220"),
            ("220-welcome\r\nto nothing\r\n", "closed before the greeting"),
        ];
        for (greeting, words) in cases {
            let (found, rest) = ftp(Duration::from_secs(5)).in_dialogue([says(greeting)]).await;
            assert_eq!((found, &rest[..]), (Err(words.to_owned()), &b""[..]));
        }
    }

    #[tokio::test]
    async fn misbehaving_servers_fail_in_words() {
        servers::fails_at_all(&ftp(Duration::from_millis(200))).await;
    }
}

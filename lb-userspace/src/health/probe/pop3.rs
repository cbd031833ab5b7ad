//! POP3 (RFC 1939): the server greets.

use super::conversation::{Conversation, wrong};
use super::{Answer, Attempt, Failure};

pub async fn probe(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let mut server = Conversation::open(attempt).await?;
    let greeting = server.line("greeting").await?;
    if !greeting.starts_with(b"+OK") {
        return Err(wrong("greeting", &greeting, "+OK"));
    }
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

    fn pop3(limit: Duration) -> Asked {
        Asked::of(Probe::Pop3, limit)
    }

    #[tokio::test]
    async fn a_greeting_is_good() {
        for greeting in ["+OK ready\r\n", "+OK\n"] {
            let (found, rest) = pop3(Duration::from_secs(5)).in_dialogue([says(greeting)]).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), &b"QUIT\r\n"[..]), "{greeting}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_told() {
        let cases = [
            ("-ERR try later\r\n", "the greeting is '-ERR try later', wanted +OK"),
            ("220 mail\r\n", "the greeting is '220 mail', wanted +OK"),
        ];
        for (greeting, words) in cases {
            let (found, rest) = pop3(Duration::from_secs(5)).in_dialogue([says(greeting)]).await;
            assert_eq!((found, &rest[..]), (Err(words.to_owned()), &b""[..]));
        }
    }

    #[tokio::test]
    async fn misbehaving_servers_fail_in_words() {
        servers::fails_at_all(&pop3(Duration::from_millis(200))).await;
    }
}

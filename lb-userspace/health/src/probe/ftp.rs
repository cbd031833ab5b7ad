//! FTP (RFC 959): the server greets.

use super::excerpt::quote;
use super::line_client::{LineClient, wrong};
use super::{Answer, Attempt, Failure, reply};

const GREETING: &str = "greeting";

pub(super) async fn probe(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let mut server = LineClient::open(attempt).await?;
    let mut greeting = reply::read(&mut server, GREETING, "220").await?;
    if greeting.is("120") {
        // 120: the greeting follows when the server is ready (section 5.4).
        let wait = quote(&greeting.line);
        attempt.step(format!("told to wait: {wait}"));
        let ready = reply::read(&mut server, GREETING, "220").await;
        greeting = ready.map_err(|failure| Failure::Wrong(format!("{failure}, after {wait}")))?;
    }
    // 230: no login is needed.
    if !greeting.is_good() {
        return Err(wrong(GREETING, &greeting.line, "220"));
    }
    attempt.step("greeted");
    server.quit(b"QUIT\r\n").await;
    Ok(Answer::default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::test_servers::{self, Asked, PATIENCE, sends};
    use lb_model::Probe;

    fn ftp(limit: Duration) -> Asked {
        Asked::of(Probe::Ftp, limit)
    }

    /// Servers that curl accepts, and Perl's Net::FTP, which ldirectord uses.
    #[tokio::test]
    async fn a_greeting_is_good() {
        let long = format!("220-\r\n{}220 ready\r\n", " welcome\r\n".repeat(900));
        for (name, greeting) in [
            ("plain", "220 ready\r\n"),
            ("no words", "220\r\n"),
            ("a line feed alone", "220 ready\n"),
            (
                "many lines, numbered or not",
                "220-welcome\r\n to this server\r\n2210 files\r\n220-and more\r\n220 ready\r\n",
            ),
            ("text that begins like a reply", "220-\r\n200 users are here\r\n331 files\r\n220 ready\r\n"),
            ("an empty line within", "220-welcome\r\n\r\n220 ready\r\n"),
            ("an empty line before", "\r\n220 ready\r\n"),
            ("a tab behind the number", "220\tready\r\n"),
            ("bytes that are no UTF-8", "220 gr\u{fc}\u{df} dich\r\n"),
            ("900 lines", &long),
            ("wait, then ready", "120 ready in 1 minute\r\n220 ready\r\n"),
            ("wait in many lines", "120-soon\r\n120 wait\r\n220-hello\r\n220 ready\r\n"),
            ("nobody needs to log in", "230 logged in\r\n"),
        ] {
            let (found, rest) = ftp(PATIENCE).in_dialogue([sends(greeting)]).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), &b"QUIT\r\n"[..]), "{name}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_told() {
        let cases = [
            ("421 too many users\r\n", "the greeting is '421 too many users', expected 220"),
            ("220-welcome\r\n421 no, too many\r\n", "the greeting is '421 no, too many', expected 220"),
            ("530 not you\r\n", "the greeting is '530 not you', expected 220"),
            ("120 in 5 minutes\r\n", "closed before the greeting, after '120 in 5 minutes'"),
            ("220-welcome\r\nto nothing\r\n", "closed before the greeting"),
            ("SSH-2.0-OpenSSH_9.2p1\r\n", "the greeting is 'SSH-2.0-OpenSSH_9.2p1', expected 220"),
        ];
        for (greeting, words) in cases {
            let (found, rest) = ftp(PATIENCE).in_dialogue([sends(greeting)]).await;
            assert_eq!((found, &rest[..]), (Err(words.to_owned()), &b""[..]));
        }
    }

    #[tokio::test]
    async fn servers_that_say_it_in_odd_ways_are_good() {
        test_servers::succeeds_at_all(&ftp(PATIENCE), "220 ready\r\n").await;
    }

    #[tokio::test]
    async fn misbehaving_servers_fail_in_words() {
        test_servers::fails_at_all(&ftp(Duration::from_millis(200))).await;
    }
}

//! IMAP (RFC 9051): the server greets.

use super::line_client::{LineClient, wrong};
use super::{Answer, Attempt, Failure};

pub(super) async fn probe(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let mut server = LineClient::open(attempt).await?;
    let greeting = server.greeting("greeting").await?;
    if !is_welcome(&greeting) {
        return Err(wrong("greeting", &greeting, "* OK"));
    }
    attempt.step("greeted");
    server.quit(b"lb LOGOUT\r\n").await;
    Ok(Answer::default())
}

/// The third possible greeting is `* BYE`.
fn is_welcome(greeting: &[u8]) -> bool {
    let mut words = greeting.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (mark, word) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    mark == b"*" && [&b"OK"[..], b"PREAUTH"].iter().any(|welcome| word.eq_ignore_ascii_case(welcome))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::test_servers::{self, Asked, PATIENCE, sends};
    use lb_model::Probe;

    fn imap(limit: Duration) -> Asked {
        Asked::of(Probe::Imap, limit)
    }

    #[tokio::test]
    async fn a_greeting_is_good() {
        let long = format!("* OK [CAPABILITY IMAP4rev1 {}] ready\r\n", "X-EXTENSION ".repeat(500));
        for (name, greeting) in [
            ("lists capabilities", "* OK [CAPABILITY IMAP4rev1] ready\r\n"),
            ("6,000 bytes of them", &long),
            ("knows us already", "* PREAUTH welcome back\r\n"),
            ("small letters, a line feed alone", "* ok\n"),
            ("no words", "* OK\r\n"),
            ("two blanks", "*  OK ready\r\n"),
            ("a tab", "*\tOK\tready\r\n"),
            ("a blank at the end", "* OK \r\n"),
            ("an empty line before", "\r\n* OK ready\r\n"),
            ("bytes that are no ASCII", "* OK gr\u{fc}\u{df} gott\r\n"),
            ("a warning", "* OK [ALERT] down for repair tonight\r\n"),
            ("more lines behind it", "* OK ready\r\n* CAPABILITY IMAP4rev1\r\n"),
            ("what looks like a literal", "* OK {3}\r\nabc\r\n"),
        ] {
            let (found, rest) = imap(PATIENCE).in_dialogue([sends(greeting)]).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), &b"lb LOGOUT\r\n"[..]), "{name}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_told() {
        let cases = [
            ("* BYE too many connections\r\n", "the greeting is '* BYE too many connections', expected * OK"),
            ("* NO not now\r\n", "the greeting is '* NO not now', expected * OK"),
            ("* OKAY\r\n", "the greeting is '* OKAY', expected * OK"),
            ("OK\r\n", "the greeting is 'OK', expected * OK"),
            ("+OK POP3\r\n", "the greeting is '+OK POP3', expected * OK"),
        ];
        for (greeting, words) in cases {
            let (found, rest) = imap(PATIENCE).in_dialogue([sends(greeting)]).await;
            assert_eq!((found, &rest[..]), (Err(words.to_owned()), &b""[..]));
        }
    }

    #[tokio::test]
    async fn servers_that_say_it_in_odd_ways_are_good() {
        test_servers::succeeds_at_all(&imap(PATIENCE), "* OK ready\r\n").await;
    }

    #[tokio::test]
    async fn misbehaving_servers_fail_in_words() {
        test_servers::fails_at_all(&imap(Duration::from_millis(200))).await;
    }
}

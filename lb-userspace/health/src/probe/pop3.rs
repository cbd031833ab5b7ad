//! POP3 (RFC 1939): the server greets.

use super::line_client::{LineClient, wrong};
use super::{Answer, Attempt, Failure};

pub(super) async fn probe(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let mut server = LineClient::open(attempt).await?;
    let greeting = server.greeting("greeting").await?;
    if !greeting.get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"+OK")) {
        return Err(wrong("greeting", &greeting, "+OK"));
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

    fn pop3(limit: Duration) -> Asked {
        Asked::of(Probe::Pop3, limit)
    }

    #[tokio::test]
    async fn a_greeting_is_good() {
        let long = format!("+OK {}\r\n", "ready ".repeat(1000));
        for (name, greeting) in [
            ("plain", "+OK ready\r\n"),
            ("a line feed alone, no words", "+OK\n"),
            ("small letters", "+ok ready\r\n"),
            ("a blank at the end", "+OK \r\n"),
            ("a tab", "+OK\tready\r\n"),
            ("no blank behind it", "+OK, ready\r\n"),
            ("an empty line before", "\r\n+OK ready\r\n"),
            ("a time stamp for APOP", "+OK POP3 <1896.697170952@mail.example.org>\r\n"),
            ("bytes that are no ASCII", "+OK gr\u{fc}\u{df} gott\r\n"),
            ("long-winded", &long),
            ("more lines behind it", "+OK ready\r\nmore\r\n"),
            ("blanks before it", "  +OK ready\r\n"),
            ("what clients may know of it", "+OK [LOGIN-DELAY 900] ready\r\n"),
        ] {
            let (found, rest) = pop3(PATIENCE).in_dialogue([sends(greeting)]).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), &b"QUIT\r\n"[..]), "{name}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_told() {
        let cases = [
            ("-ERR try later\r\n", "the greeting is '-ERR try later', expected +OK"),
            ("-ERR [SYS/TEMP] full\r\n", "the greeting is '-ERR [SYS/TEMP] full', expected +OK"),
            ("220 mail\r\n", "the greeting is '220 mail', expected +OK"),
            ("+\r\n", "the greeting is '+', expected +OK"),
        ];
        for (greeting, words) in cases {
            let (found, rest) = pop3(PATIENCE).in_dialogue([sends(greeting)]).await;
            assert_eq!((found, &rest[..]), (Err(words.to_owned()), &b""[..]));
        }
    }

    #[tokio::test]
    async fn servers_that_say_it_in_odd_ways_are_good() {
        test_servers::succeeds_at_all(&pop3(PATIENCE), "+OK ready\r\n").await;
    }

    #[tokio::test]
    async fn misbehaving_servers_fail_in_words() {
        test_servers::fails_at_all(&pop3(Duration::from_millis(200))).await;
    }
}

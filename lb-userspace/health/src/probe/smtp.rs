//! SMTP (RFC 5321): the server greets and answers EHLO, or HELO if it does not know EHLO.

use super::line_client::{LineClient, wrong};
use super::{Answer, Attempt, Failure, reply};

const GREETING: &str = "greeting";

pub(super) async fn probe(attempt: &Attempt<'_>, helo: &str) -> Result<Answer, Failure> {
    let mut server = LineClient::open(attempt).await?;
    let greeting = reply::read(&mut server, GREETING, "220").await.map_err(late)?;
    if !greeting.is_good() {
        return Err(wrong(GREETING, &greeting.line, "220"));
    }
    attempt.step("greeted");
    let mut last = None;
    for (verb, answer) in [("EHLO", "answer to EHLO"), ("HELO", "answer to HELO")] {
        server.send(format!("{verb} {helo}\r\n").as_bytes(), answer).await?;
        let reply = reply::read(&mut server, answer, "250").await?;
        if reply.is_good() {
            attempt.step(if verb == "EHLO" { "answered EHLO" } else { "answered HELO" });
            server.quit(b"QUIT\r\n").await;
            return Ok(Answer::default());
        }
        let closes = reply.is("421");
        last = Some(wrong(answer, &reply.line, "250"));
        if closes {
            break;
        }
    }
    match last {
        Some(Failure::Wrong(message)) if message.contains("HELO is '5") => {
            Err(Failure::Wrong(format!("{message} (does the server accept the name in `helo`?)")))
        }
        failure => Err(failure.unwrap_or(Failure::Closed { expected: GREETING })),
    }
}

/// Some mail servers delay the greeting for unknown clients, for up to half a minute.
fn late(failure: Failure) -> Failure {
    match failure {
        Failure::Late { expected, within } => Failure::Wrong(format!(
            "no {expected} within {}: does the server delay it? (raise `timeout`, or exempt this host from \
             the delay)",
            humantime::format_duration(within)
        )),
        failure => failure,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::test_servers::{self, Asked, PATIENCE, Turn, dialogue, receives, sends};
    use lb_model::Probe;

    const EHLO: &str = "EHLO lb.example.org\r\n";
    const HELO: &str = "HELO lb.example.org\r\n";

    fn smtp(limit: Duration) -> Asked {
        Asked::of(Probe::Smtp { helo: "lb.example.org".into() }, limit)
    }

    async fn failure(turns: impl Into<std::collections::VecDeque<Turn>>) -> String {
        let (found, rest) = smtp(PATIENCE).in_dialogue(turns).await;
        assert_eq!(String::from_utf8_lossy(&rest), "");
        found.expect_err("it fails")
    }

    /// Servers that accept mail.
    #[tokio::test]
    async fn a_greeting_and_an_answer_are_good() {
        let long = format!("220-\r\n{}220 mail\r\n", "220-welcome\r\n".repeat(900));
        let cases = [
            ("plain", "220 mail ESMTP\r\n", "250 mail\r\n"),
            (
                "in two parts",
                "220-one moment\r\n220 mail ESMTP\r\n",
                "250-mail\r\n250-SIZE 10240000\r\n250 HELP\r\n",
            ),
            ("line feeds alone, no words", "220\n", "250-mail\n250\n"),
            ("no ESMTP in its greeting", "220 mail Sendmail 5.67 ready\r\n", "250 mail\r\n"),
            (
                "a greeting behind a firewall",
                "220 ****************************\r\n",
                "250-mail\r\n250 XXXXXXXB\r\n",
            ),
            ("bytes that are no ASCII", "220 gr\u{fc}\u{df} gott\r\n", "250 mail\r\n"),
            ("an empty line before", "\r\n220 mail\r\n", "250 mail\r\n"),
            ("a tab behind the number", "220\tmail\r\n", "250\tmail\r\n"),
            ("a long-winded greeting", &long, "250 mail\r\n"),
            ("another number of success", "220 mail\r\n", "251 mail\r\n"),
            (
                "a line without a number within",
                "220-mail\r\nno spam\r\n220 mail\r\n",
                "250-mail\r\nSIZE\r\n250 HELP\r\n",
            ),
        ];
        for (name, greeting, answer) in cases {
            let turns = [sends(greeting), receives(EHLO), sends(answer)];
            let (found, rest) = smtp(PATIENCE).in_dialogue(turns).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), &b"QUIT\r\n"[..]), "{name}");
        }
    }

    /// As in curl, Perl's Net::SMTP and every mail server.
    #[tokio::test]
    async fn who_knows_no_ehlo_is_asked_with_helo() {
        for refusal in [
            "500 what?\r\n",
            "502 5.5.1 what?\r\n",
            "503 later\r\n",
            "550-no\r\n550 no\r\n",
            "450 not now\r\n",
        ] {
            let turns = [
                sends("220 mail\r\n"),
                receives(EHLO),
                sends(refusal),
                receives(HELO),
                sends("250 mail\r\n"),
            ];
            let (found, rest) = smtp(PATIENCE).in_dialogue(turns).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), &b"QUIT\r\n"[..]), "{refusal}");
        }
        let turns = [
            sends("220 mail\r\n"),
            receives(EHLO),
            sends("502 what?\r\n"),
            receives(HELO),
            sends("550 who?\r\n"),
        ];
        let words =
            "the answer to HELO is '550 who?', expected 250 (does the server accept the name in `helo`?)";
        assert_eq!(failure(turns).await, words);
    }

    #[tokio::test]
    async fn anything_else_is_told() {
        let greetings = [
            ("554 no service here\r\n", "the greeting is '554 no service here', expected 220"),
            ("421 too busy\r\n", "the greeting is '421 too busy', expected 220"),
            ("220-wait\r\n521 go away\r\n", "the greeting is '521 go away', expected 220"),
            ("+OK POP3\r\n", "the greeting is '+OK POP3', expected 220"),
            ("\x1b[2J220 x\r\n", "the greeting is '\\u{1b}[2J220 x', expected 220"),
        ];
        for (greeting, words) in greetings {
            assert_eq!(failure([sends(greeting)]).await, words);
        }
        let answers = [
            ("421 shutting down\r\n", "the answer to EHLO is '421 shutting down', expected 250"),
            ("250-mail\r\n421 too busy\r\n", "the answer to EHLO is '421 too busy', expected 250"),
            ("250-mail\r\n", "closed before the answer to EHLO"),
        ];
        for (answer, words) in answers {
            assert_eq!(failure([sends("220 mail\r\n"), receives(EHLO), sends(answer)]).await, words);
        }
    }

    /// Postfix's postscreen sends its first line at once and the second one some seconds later.
    #[tokio::test]
    async fn a_greeting_that_is_held_back_is_told_of() {
        let held = test_servers::saying(b"220-mail.example.org\r\n").await;
        let words = "no more of the greeting than '220-mail.example.org' within 2s: does the server delay it? (raise \
                     `timeout`, or exempt this host from the delay)";
        assert_eq!(smtp(Duration::from_secs(2)).at(held.address).await, Err(words.into()));
        let silent = test_servers::silent().await;
        let words = "no greeting within 200ms: does the server delay it? (raise `timeout`, or exempt this \
            host from the delay)";
        assert_eq!(smtp(Duration::from_millis(200)).at(silent.address).await, Err(words.into()));
    }

    #[tokio::test]
    async fn what_had_come_before_is_told_too() {
        let server = test_servers::saying(b"220 mail\r\n").await;
        let report = smtp(Duration::from_secs(2)).report(server.address).await;
        let words = report.explain(&report.result.as_ref().expect_err("it fails").to_string());
        assert!(words.starts_with("connected after ") && words.contains(", greeted after "), "{words}");
        assert!(words.ends_with(", then no answer to EHLO within 2s"), "{words}");
    }

    #[tokio::test]
    async fn a_server_that_ignores_the_farewell_is_good() {
        let turns = [
            sends("220 mail\r\n"),
            receives(EHLO),
            sends("250 mail\r\n"),
            receives("QUIT\r\n"),
            receives("more"),
        ];
        let (server, _rest) = dialogue(turns).await;
        assert_eq!(smtp(PATIENCE).at(server.address).await, Ok(Answer::default()));
    }

    #[tokio::test]
    async fn servers_that_say_it_in_odd_ways_are_good() {
        test_servers::succeeds_at_all(&smtp(PATIENCE), "220 mail\r\n250 mail\r\n").await;
    }

    #[tokio::test]
    async fn misbehaving_servers_fail_in_words() {
        for (name, words) in test_servers::fails_at_all(&smtp(Duration::from_millis(200))).await {
            let expected = match name {
                "closes at once" | "closes its half and reads on" | "ends its sentence in the middle" => {
                    "closed before the greeting"
                }
                "resets at once" => "reset before the greeting",
                "says garbage and closes" => "closed before the greeting",
                "says a line without end" => "no end of line in the greeting's first 8192 bytes: '2222",
                "says zeros without end" => "no end of line in the greeting's first 8192 bytes: '\\0\\0",
                "says garbage without end" => "no end of line in the greeting's first 8192 bytes: '",
                "says lines without end" => "the greeting has more than 1000 lines",
                "is not there" => "connection refused",
                _ => "no greeting within 200ms",
            };
            assert!(words.starts_with(expected), "{name}: {words}");
        }
    }
}

//! SMTP (RFC 5321): the server greets and answers EHLO.

use super::conversation::Conversation;
use super::{Answer, Attempt, Failure, reply};

const ANSWER: &str = "answer to EHLO";

pub async fn probe(attempt: &Attempt<'_>, helo: &str) -> Result<Answer, Failure> {
    let mut server = Conversation::open(attempt).await?;
    reply::expect(&mut server, "greeting", "220").await?;
    attempt.step("greeted");
    server.say(format!("EHLO {helo}\r\n").as_bytes(), ANSWER).await?;
    reply::expect(&mut server, ANSWER, "250").await?;
    attempt.step("answered EHLO");
    server.farewell(b"QUIT\r\n").await;
    Ok(Answer::default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Probe;
    use crate::health::probe::servers::{self, Asked, Turn, dialogue, hears, says};

    const EHLO: &str = "EHLO lb.example.org\r\n";

    fn smtp(limit: Duration) -> Asked {
        Asked::of(Probe::Smtp { helo: "lb.example.org".into() }, limit)
    }

    async fn failure(turns: impl Into<std::collections::VecDeque<Turn>>) -> String {
        let (found, rest) = smtp(Duration::from_secs(5)).in_dialogue(turns).await;
        assert_eq!(String::from_utf8_lossy(&rest), "");
        found.expect_err("it fails")
    }

    #[tokio::test]
    async fn a_greeting_and_an_answer_are_good() {
        let cases = [
            ("220 mail ESMTP\r\n", "250 mail\r\n"),
            ("220-one moment\r\n220 mail ESMTP\r\n", "250-mail\r\n250-SIZE 10240000\r\n250 HELP\r\n"),
            ("220\n", "250-mail\n250\n"),
        ];
        for (greeting, answer) in cases {
            let turns = [says(greeting), hears(EHLO), says(answer)];
            let (found, rest) = smtp(Duration::from_secs(5)).in_dialogue(turns).await;
            assert_eq!((found, &rest[..]), (Ok(Answer::default()), &b"QUIT\r\n"[..]), "{greeting}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_told() {
        let greetings = [
            ("554 no service here\r\n", "the greeting is '554 no service here', wanted 220"),
            ("220-wait\r\n521 go away\r\n", "the greeting is '521 go away', wanted 220"),
            ("+OK POP3\r\n", "the greeting is '+OK POP3', wanted 220"),
            ("\x1b[2J220 x\r\n", "the greeting is '\\u{1b}[2J220 x', wanted 220"),
        ];
        for (greeting, words) in greetings {
            assert_eq!(failure([says(greeting)]).await, words);
        }
        let answers = [
            ("502 5.5.1 what?\r\n", "the answer to EHLO is '502 5.5.1 what?', wanted 250"),
            ("250-mail\r\n421 too busy\r\n", "the answer to EHLO is '421 too busy', wanted 250"),
            ("250-mail\r\n", "closed before the answer to EHLO"),
        ];
        for (answer, words) in answers {
            assert_eq!(failure([says("220 mail\r\n"), hears(EHLO), says(answer)]).await, words);
        }
    }

    #[tokio::test]
    async fn what_had_come_before_is_told_too() {
        let server = servers::saying(b"220 mail\r\n").await;
        let report = smtp(Duration::from_millis(200)).report(server.address).await;
        let words = report.explain(&report.result.as_ref().expect_err("it fails").to_string());
        assert!(words.starts_with("connected after ") && words.contains(", greeted after "), "{words}");
        assert!(words.ends_with(", then no answer to EHLO within 200ms"), "{words}");
    }

    #[tokio::test]
    async fn a_server_that_ignores_the_farewell_is_good() {
        let turns =
            [says("220 mail\r\n"), hears(EHLO), says("250 mail\r\n"), hears("QUIT\r\n"), hears("more")];
        let (server, _rest) = dialogue(turns).await;
        assert_eq!(smtp(Duration::from_secs(5)).at(server.address).await, Ok(Answer::default()));
    }

    #[tokio::test]
    async fn misbehaving_servers_fail_in_words() {
        for (name, words) in servers::fails_at_all(&smtp(Duration::from_millis(200))).await {
            let wanted = match name {
                "closes at once" | "closes its half and reads on" | "ends its sentence in the middle" => {
                    "closed before the greeting"
                }
                "resets at once" => "reset before the greeting",
                "says garbage and closes" => "closed before the greeting",
                "says a line without end" => "no end of line in the greeting's first 4096 bytes: '2222",
                "says zeros without end" => "no end of line in the greeting's first 4096 bytes: '\\0\\0",
                "says garbage without end" => "no end of line in the greeting's first 4096 bytes: '",
                "says lines without end" => "the greeting has more than 200 lines",
                "is not there" => "connection refused",
                _ => "no greeting within 200ms",
            };
            assert!(words.starts_with(wanted), "{name}: {words}");
        }
    }
}

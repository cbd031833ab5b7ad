use std::time::Duration;

use super::*;
use crate::config::Probe;
use crate::health::probe::servers::{self, Asked, Turn, hears, says};

/// The beginning of MariaDB's greeting. Behind the version nothing is looked at.
const GREETED: &[u8] = b"\x0a5.5.5-10.11.6-MariaDB\0\x05\0\0\0abcdefgh\0";

fn mysql(limit: Duration) -> Asked {
    Asked::of(Probe::Mysql { user: "lb".into() }, limit)
}

async fn found(turns: Vec<Turn>) -> (Result<Answer, String>, Vec<u8>) {
    mysql(Duration::from_secs(5)).in_dialogue(turns).await
}

fn error(code: u16, rest: &str) -> Vec<u8> {
    [&[ERROR], &code.to_le_bytes()[..], rest.as_bytes()].concat()
}

/// Greeting, login, this answer.
fn answered(answer: &[u8]) -> Vec<Turn> {
    vec![says(framed(0, GREETED)), hears(framed(1, &login("lb"))), says(framed(2, answer))]
}

#[tokio::test]
async fn a_login_that_is_accepted_or_refused_is_good() {
    assert_eq!(found(answered(b"\0\0\0\x02\0\0\0")).await, (Ok(Answer::default()), QUIT.to_vec()));
    let refusals = [
        error(1045, "#28000Access denied for user 'lb'@'192.0.2.2' (using password: NO)"),
        error(1698, "#28000Access denied for user 'lb'@'192.0.2.2'"),
        error(3159, "#HY000Connections using insecure transport are prohibited"),
    ];
    for refusal in refusals {
        assert_eq!(found(answered(&refusal)).await, (Ok(Answer::default()), vec![]));
    }
}

#[tokio::test]
async fn another_way_to_authenticate_is_answered() {
    let mut turns = answered(b"\xfecaching_sha2_password\0abcdefgh");
    turns.extend([hears(framed(3, b"")), says(framed(4, &error(1045, "#28000Access denied")))]);
    assert_eq!(found(turns).await, (Ok(Answer::default()), vec![]));
}

#[tokio::test]
async fn the_version_is_told() {
    let (server, _rest) = servers::dialogue(answered(&error(1045, "#28000no"))).await;
    let report = mysql(Duration::from_secs(5)).report(server.address).await;
    let steps: Vec<_> = report.steps.iter().map(|step| &*step.what).collect();
    let wanted =
        ["connected", "greeted by version 10.11.6-MariaDB", "refused the user, as a server that serves does"];
    assert_eq!(steps, wanted);
}

#[tokio::test]
async fn a_refusal_to_serve_is_told_in_its_words() {
    let greetings = [
        (error(1040, "Too many connections"), "the server says 'Too many connections' (error 1040)"),
        (
            error(1129, "#HY000Host 'lb1' is blocked because of many connection errors"),
            "the server says 'Host 'lb1' is blocked because of many connection errors' (error 1129)",
        ),
        (error(1130, ""), "the server says '' (error 1130)"),
        (vec![ERROR], "the server says '' (error 0)"),
    ];
    for (greeting, words) in greetings {
        let (found, rest) = found(vec![says(framed(0, &greeting))]).await;
        assert_eq!((found, &rest[..]), (Err(words.to_owned()), &b""[..]));
    }
    let shutdown = answered(&error(1053, "#08S01Server shutdown in progress"));
    let words = "the server says 'Server shutdown in progress' (error 1053)";
    assert_eq!(found(shutdown).await.0, Err(words.into()));
}

#[tokio::test]
async fn what_is_not_mysql_is_told() {
    let words = found(vec![says(framed(0, b"\x09." as &[u8]))]).await.0;
    assert_eq!(words, Err("the greeting is not MySQL's: '\\t.'".into()));
    assert_eq!(found(vec![says(framed(0, b""))]).await.0, Err("the greeting is not MySQL's: ''".into()));
    let words = found(vec![says("220 hello\r\n")]).await.0;
    assert_eq!(words, Err("the greeting claims to be 3158578 bytes long".into()));
    assert_eq!(found(answered(b"")).await.0, Err("the answer to the login is not MySQL's: ''".into()));
    let mut turns = answered(b"\xfe");
    for number in [4, 6, 8] {
        turns.extend([hears(framed(number - 1, b"")), says(framed(number, b"\xfe"))]);
    }
    assert_eq!(found(turns).await.0, Err("asked for a password in more than 3 ways".into()));
}

#[tokio::test]
async fn misbehaving_servers_fail_in_words() {
    servers::fails_at_all(&mysql(Duration::from_millis(200))).await;
}

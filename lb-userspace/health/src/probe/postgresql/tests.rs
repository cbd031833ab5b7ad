use std::time::Duration;

use lb_model::Probe;

use super::*;
use crate::probe::test_servers::{self, Asked, PATIENCE, receives, sends};

/// What `psql -U lb shop` begins with.
const START_UP: &[u8] = b"\0\0\0\x1f\0\x03\0\0user\0lb\0database\0shop\0\0";

fn postgresql(limit: Duration) -> Asked {
    Asked::of(Probe::Postgresql { user: "lb".into(), database: "shop".into() }, limit)
}

async fn found(answer: impl AsRef<[u8]>) -> (Result<Answer, String>, Vec<u8>) {
    postgresql(PATIENCE).in_dialogue([receives(START_UP), sends(answer)]).await
}

fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = 4 + content.len() as u32;
    [&[kind], &length.to_be_bytes()[..], content].concat()
}

fn error(state: &str, words: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0VFATAL\0C{state}\0M{words}\0Fpostmaster.c\0\0").as_bytes())
}

#[tokio::test]
async fn a_request_to_authenticate_is_good() {
    let sasl = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let noticed = [message(b'N', b"SNOTICE\0Mhello\0\0"), message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4])].concat();
    let version = [message(b'v', &[0, 0, 0, 0, 0, 0, 0, 0]), message(b'R', &[0, 0, 0, 3])].concat();
    // Clear text, MD5, Kerberos, GSS, SSPI: all are authentication requests.
    let [clear, kerberos, gss, sspi] = [3, 2, 7, 9].map(|method| message(b'R', &[0, 0, 0, method]));
    for answer in [sasl, clear, kerberos, gss, sspi, noticed, version] {
        assert_eq!(found(&answer).await, (Ok(Answer::default()), vec![]), "{answer:?}");
    }
}

#[tokio::test]
async fn who_needs_no_password_is_let_in_or_not() {
    let let_in = [message(b'R', &[0; 4]), message(b'S', b"TimeZone\0UTC\0"), message(b'K', &[1; 8])].concat();
    let ready = [&let_in[..], &message(b'Z', b"I")].concat();
    assert_eq!(found(ready).await, (Ok(Answer::default()), TERMINATE.to_vec()));
    let no_role = [&let_in[..], &error("28000", "role \"lb\" does not exist")].concat();
    assert_eq!(found(no_role).await, (Ok(Answer::default()), vec![]));
    let full = [&let_in[..], &error("53300", "remaining connection slots are reserved")].concat();
    let words = "the server says 'remaining connection slots are reserved' (SQLSTATE 53300)";
    assert_eq!(found(full).await.0, Err(words.into()));
}

#[tokio::test]
async fn a_refusal_of_user_or_database_is_good() {
    let cases = [
        ("28000", "role \"lb\" does not exist"),
        ("28P01", "password authentication failed"),
        ("3D000", "database \"shop\" does not exist"),
        ("42501", "permission denied for database \"shop\""),
        (
            "28000",
            "no pg_hba.conf entry for host \"192.0.2.2\", user \"lb\", database \"shop\", no encryption",
        ),
        ("28P01", "authentication failed"),
        ("08P01", "no such database: shop"),
        ("08P01", "no such user: lb"),
        ("08P01", "SSL required"),
        ("08P01", "server requires encryption"),
        ("53300", "too many connections for role \"lb\""),
        ("53300", "too many connections for database \"shop\""),
        ("55000", "database \"shop\" is not currently accepting connections"),
    ];
    for (state, words) in cases {
        assert_eq!(found(error(state, words)).await, (Ok(Answer::default()), vec![]), "{state}");
    }
}

#[tokio::test]
async fn a_refusal_to_serve_is_told_in_its_words() {
    let cases = [
        ("57P03", "the database system is starting up"),
        ("53300", "sorry, too many clients already"),
        ("57P03", "the database system is shutting down"),
        ("57P03", "the database system is not accepting connections"),
        ("08P01", "pgbouncer cannot connect to server"),
        ("08006", "server login has been failing"),
        ("53300", "remaining connection slots are reserved for roles with the SUPERUSER attribute"),
        ("53200", "out of memory"),
        ("XX000", "internal error"),
    ];
    for (state, words) in cases {
        let expected = format!("the server says '{words}' (SQLSTATE {state})");
        assert_eq!(found(error(state, words)).await.0, Err(expected));
    }
    assert_eq!(found(message(b'E', b"")).await.0, Err("the server says '' (SQLSTATE )".into()));
    // Version 2 of the protocol.
    let words = found("EFATAL:  sorry, too many clients already\n\0").await.0;
    assert_eq!(words, Err("the server says 'FATAL:  sorry, too many clients already'".into()));
}

#[tokio::test]
async fn what_is_not_postgresql_is_told() {
    for answer in [&b"220 hello\r\n"[..], &message(b'Z', b"I"), b"E\0\0\0\x03", b"\0\0\0\0\0"] {
        let words = found(answer).await.0.expect_err("it fails");
        assert!(words.starts_with("the answer to the start-up message "), "{words}");
    }
    let words = found(b"\x15\x03\x01\0\x02\x02\x46").await.0;
    assert_eq!(words, Err("the server speaks TLS: set `tls: on`".into()));
    let notices = message(b'N', b"\0").repeat(MESSAGES);
    let words = format!("no answer to the start-up message in {MESSAGES} messages");
    assert_eq!(found(notices).await.0, Err(words));
}

#[tokio::test]
async fn servers_that_say_it_in_odd_ways_are_good() {
    test_servers::succeeds_at_all(&postgresql(PATIENCE), message(b'R', &[0, 0, 0, 3])).await;
}

#[tokio::test]
async fn misbehaving_servers_fail_in_words() {
    test_servers::fails_at_all(&postgresql(Duration::from_millis(200))).await;
}

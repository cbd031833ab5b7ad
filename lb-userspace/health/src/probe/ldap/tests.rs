use std::time::Duration;

use lb_model::Probe;
use proptest::prelude::*;

use super::*;
use crate::probe::test_servers::{self, Asked, PATIENCE, receives, sends};

/// slapd's answer to the bind.
const GOOD: [u8; 14] = [0x30, 12, 2, 1, 1, 0x61, 7, 0x0a, 1, 0, 4, 0, 4, 0];

fn ldap(limit: Duration) -> Asked {
    Asked::of(Probe::Ldap, limit)
}

async fn found(answer: impl AsRef<[u8]>) -> (Result<Answer, String>, Vec<u8>) {
    ldap(PATIENCE).in_dialogue([receives(bind(1, 3)), sends(answer)]).await
}

fn answer(id: u8, response: u8, code: u8, words: &str) -> Vec<u8> {
    let content = [&[0x0a, 1, code, 4, 0, 4, words.len() as u8], words.as_bytes()].concat();
    let inner = [&[2, 1, id, response, content.len() as u8], &content[..]].concat();
    [&[0x30, inner.len() as u8], &inner[..]].concat()
}

#[tokio::test]
async fn success_is_good_in_every_form_of_length() {
    // Active Directory always takes four bytes for a length.
    let mut long = vec![0x30, 0x84, 0, 0, 0, 16, 2, 1, 1, 0x61, 0x84, 0, 0, 0, 7];
    long.extend_from_slice(&GOOD[7..]);
    let one = [&[0x30, 0x81, 12], &GOOD[2..]].concat();
    // Numbers with more bytes than needed.
    let wide = vec![0x30, 16, 2, 4, 0, 0, 0, 1, 0x61, 8, 0x0a, 2, 0, 0, 4, 0, 4, 0];
    // After the result: a referral, credentials, and a control.
    let more = [&[0x30, 20, 2, 1, 1, 0x61, 11], &GOOD[7..], &[0xa3, 2, 4, 0, 0xa0, 2, 0x30, 0]].concat();
    for answer in
        [GOOD.to_vec(), answer(1, 0x61, 0, ""), answer(1, 0x61, 0, "welcome"), long, one, wide, more]
    {
        assert_eq!(found(&answer).await, (Ok(Answer::default()), UNBIND.to_vec()), "{answer:x?}");
    }
}

/// A directory that refuses anonymous binds counts as up: its clients have names.
#[tokio::test]
async fn refusals_of_an_anonymous_bind_are_good() {
    for (code, words) in [
        (7, "simple bind not supported"),
        (8, "00002028: LdapErr: DSID-0C090259, The server requires binds to turn on integrity checking"),
        (10, ""),
        (13, "TLS confidentiality required"),
        (48, "anonymous bind disallowed"),
        (49, "80090308: LdapErr: DSID-0C090436"),
        (50, ""),
        (53, "unauthenticated bind (DN with no password) disallowed"),
    ] {
        assert_eq!(
            found(answer(1, 0x61, code, words)).await,
            (Ok(Answer::default()), UNBIND.to_vec()),
            "{code}"
        );
    }
}

#[tokio::test]
async fn a_server_of_version_2_is_asked_by_it() {
    let old = "historical protocol version requested";
    let asked = |second: Vec<u8>| {
        [receives(bind(1, 3)), sends(answer(1, 0x61, 2, old)), receives(bind(2, 2)), sends(second)]
    };
    let (found, rest) = ldap(PATIENCE).in_dialogue(asked(answer(2, 0x61, 0, ""))).await;
    assert_eq!((found, rest), (Ok(Answer::default()), UNBIND.to_vec()));
    let (found, _) = ldap(PATIENCE).in_dialogue(asked(answer(2, 0x61, 2, "neither"))).await;
    assert_eq!(found, Err("the answer to the bind is protocolError (result code 2): 'neither'".into()));
}

#[tokio::test]
async fn other_results_are_told_in_words() {
    let cases = [
        (answer(1, 0x61, 51, ""), "the answer to the bind is busy (result code 51)"),
        (
            answer(1, 0x61, 1, "no backend"),
            "the answer to the bind is operationsError (result code 1): 'no backend'",
        ),
        (
            answer(0, 0x78, 52, "going down"),
            "the answer to the bind is unavailable (result code 52): 'going down'",
        ),
        (answer(1, 0x61, 99, "\x07"), "the answer to the bind is an error (result code 99): '\\u{7}'"),
    ];
    for (answer, words) in cases {
        assert_eq!(found(answer).await, (Err(words.to_owned()), vec![]));
    }
}

#[tokio::test]
async fn what_is_not_ldap_is_told() {
    let not_ldap: [&[u8]; 8] = [
        b"220 hello\r\n",
        &[0x30, 0x80, 2, 1, 1, 0, 0],
        &[0x30, 0x85, 0, 0, 0, 0, 0],
        &[0x30, 0],
        &answer(2, 0x61, 0, ""),
        &answer(1, 0x78, 0, ""),
        &[0x30, 5, 2, 1, 1, 0x61, 0],
        &[0x30, 7, 2, 1, 1, 0x61, 0x84, 0xff, 0xff],
    ];
    for answer in not_ldap {
        let words = found(answer).await.0.expect_err("it fails");
        assert!(words.starts_with("the answer to the bind is not LDAP: '"), "{words}");
    }
    let words = found(b"\x15\x03\x01\0\x02\x02\x46").await.0;
    assert_eq!(words, Err("the server speaks TLS: set `tls: on`".into()));
    let words = found([0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).await.0;
    assert_eq!(words, Err("the answer to the bind claims to be 4294967295 bytes long".into()));
    assert_eq!(found(&GOOD[..10]).await.0, Err("closed before the answer to the bind".into()));
}

#[tokio::test]
async fn servers_that_say_it_in_odd_ways_are_good() {
    test_servers::succeeds_at_all(&ldap(PATIENCE), GOOD).await;
}

#[tokio::test]
async fn misbehaving_servers_fail_in_words() {
    test_servers::fails_at_all(&ldap(Duration::from_millis(200))).await;
}

proptest! {
    #[test]
    fn mangled_messages_never_panic(
        place in 0..GOOD.len() - 2, value: u8, rest in prop::collection::vec(any::<u8>(), 0..20)
    ) {
        let mut message = [&GOOD[2..], &rest[..]].concat();
        message[place] = value;
        result(&message, 1);
        result(&rest, 1);
    }
}

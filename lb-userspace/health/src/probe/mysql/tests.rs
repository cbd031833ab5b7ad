use std::time::Duration;

use lb_model::Probe;

use super::*;
use crate::probe::test_servers::{self, Asked, PATIENCE, Turn, receives, sends};

/// The beginning of MariaDB's greeting. The probe ignores what follows the version.
const GREETED: &[u8] = b"\x0a5.5.5-10.11.6-MariaDB\0\x05\0\0\0abcdefgh\0";

fn mysql(limit: Duration) -> Asked {
    Asked::of(Probe::Mysql { user: "lb".into() }, limit)
}

async fn found(turns: Vec<Turn>) -> (Result<Answer, String>, Vec<u8>) {
    mysql(PATIENCE).in_dialogue(turns).await
}

fn error(code: u16, rest: &str) -> Vec<u8> {
    [&[ERROR], &code.to_le_bytes()[..], rest.as_bytes()].concat()
}

/// A dialogue of greeting, login and this answer.
fn answered(answer: &[u8]) -> Vec<Turn> {
    vec![sends(framed(0, GREETED)), receives(framed(1, &login("lb"))), sends(framed(2, answer))]
}

#[tokio::test]
async fn a_login_that_is_accepted_or_refused_is_good() {
    assert_eq!(found(answered(b"\0\0\0\x02\0\0\0")).await, (Ok(Answer::default()), QUIT.to_vec()));
    let refusals = [
        error(1045, "#28000Access denied for user 'lb'@'192.0.2.2' (using password: NO)"),
        error(1698, "#28000Access denied for user 'lb'@'192.0.2.2'"),
        error(3159, "#HY000Connections using insecure transport are prohibited"),
        error(3159, "#08004Connections using insecure transport are prohibited"),
        error(1251, "#08004Client does not support authentication protocol requested by server"),
        error(1524, "#HY000Plugin 'ed25519' is not loaded"),
        error(3118, "#HY000Access denied for user 'lb'@'192.0.2.2'. Account is locked."),
        error(4151, "#HY000Access denied, this account is locked"),
        error(1862, "#HY000Your password has expired."),
        error(1226, "#42000User 'lb' has exceeded the 'max_connections_per_hour' resource"),
        error(1203, "#42000User lb already has more than 'max_user_connections' active connections"),
        // Servers before 4.1 send no SQLSTATE, and cannot parse the probe's login.
        error(1045, "Access denied for user: 'lb@192.0.2.2' (Using password: NO)"),
        error(1043, "Bad handshake"),
    ];
    for refusal in refusals {
        assert_eq!(found(answered(&refusal)).await, (Ok(Answer::default()), vec![]));
    }
}

#[tokio::test]
async fn another_way_to_authenticate_is_answered() {
    let mut turns = answered(b"\xfecaching_sha2_password\0abcdefgh");
    turns.extend([receives(framed(3, b"")), sends(framed(4, &error(1045, "#28000Access denied")))]);
    assert_eq!(found(turns).await, (Ok(Answer::default()), vec![]));
    // A request in one byte, of servers before 4.1; and one for the clear password, by TLS or the
    // server's key.
    for wants in [&b"\xfe"[..], b"\x01\x04"] {
        let mut turns = answered(wants);
        turns.extend([receives(framed(3, b"")), sends(framed(4, &error(1045, "#28000Access denied")))]);
        assert_eq!(found(turns).await, (Ok(Answer::default()), vec![]), "{wants:?}");
    }
}

/// Versions that are known to confuse clients and proxies.
#[tokio::test]
async fn greetings_of_many_versions_are_read() {
    for version in [
        "5.5.5-10.11.6-MariaDB",
        "11.4.2-MariaDB",
        "8.0.36",
        "4.0.27-standard",
        "5.7.12-Vitess",
        "8.0.11-TiDB-v7",
        "",
    ] {
        let greeting = [b"\x0a", version.as_bytes(), b"\0\x05\0\0\0abcdefgh\0"].concat();
        let turns = [
            sends(framed(0, &greeting)),
            receives(framed(1, &login("lb"))),
            sends(framed(2, &error(1045, "#28000Access denied"))),
        ];
        assert_eq!(found(turns.into()).await.0, Ok(Answer::default()), "{version}");
    }
}

#[tokio::test]
async fn the_version_is_told() {
    let (server, _rest) = test_servers::dialogue(answered(&error(1045, "#28000no"))).await;
    let report = mysql(PATIENCE).report(server.address).await;
    let steps: Vec<_> = report.steps.iter().map(|step| &*step.what).collect();
    let expected =
        ["connected", "greeted by version 10.11.6-MariaDB", "refused the user, which counts as up"];
    assert_eq!(steps, expected);
}

#[tokio::test]
async fn a_refusal_to_serve_is_told_in_its_words() {
    let greetings = [
        (error(1040, "Too many connections"), "the server says 'Too many connections' (error 1040)"),
        (error(1040, "#08004Too many connections"), "the server says 'Too many connections' (error 1040)"),
        // HAProxy fails these, too: nothing shows whether the server accepts other clients.
        (
            error(1129, "#HY000Host 'lb1' is blocked because of many connection errors"),
            "the server says 'Host 'lb1' is blocked because of many connection errors' (error 1129); `mysqladmin \
             flush-hosts` on the server unblocks this host",
        ),
        (
            error(1130, "Host 'lb1' is not allowed to connect to this MySQL server"),
            "the server says 'Host 'lb1' is not allowed to connect to this MySQL server' (error 1130); the check's `user` \
             needs an account from this host",
        ),
        (error(1053, "#08S01Server shutdown"), "the server says 'Server shutdown' (error 1053)"),
        (vec![ERROR], "the server says '' (error 0)"),
    ];
    for (greeting, words) in greetings {
        let (found, rest) = found(vec![sends(framed(0, &greeting))]).await;
        assert_eq!((found, &rest[..]), (Err(words.to_owned()), &b""[..]));
    }
    let shutdown = answered(&error(1053, "#08S01Server shutdown in progress"));
    let words = "the server says 'Server shutdown in progress' (error 1053)";
    assert_eq!(found(shutdown).await.0, Err(words.into()));
}

#[tokio::test]
async fn what_is_not_mysql_is_told() {
    let words = found(vec![sends(framed(0, b"\x093.20.32a\0" as &[u8]))]).await.0;
    assert_eq!(words, Err("the server speaks MySQL's protocol 9, which lb does not: use `type: tcp`".into()));
    let words = found(vec![sends(framed(0, b"\x0b." as &[u8]))]).await.0;
    assert_eq!(words, Err("the greeting is not MySQL's: '\\u{b}.'".into()));
    assert_eq!(found(vec![sends(framed(0, b""))]).await.0, Err("the greeting is not MySQL's: ''".into()));
    let words = found(vec![sends("220 hello\r\n")]).await.0;
    assert_eq!(words, Err("the greeting claims to be 3158578 bytes long".into()));
    assert_eq!(found(answered(b"")).await.0, Err("the answer to the login is not MySQL's: ''".into()));
    let mut turns = answered(b"\xfe");
    for number in [4, 6, 8] {
        turns.extend([receives(framed(number - 1, b"")), sends(framed(number, b"\xfe"))]);
    }
    assert_eq!(found(turns).await.0, Err("asked for a password in more than 3 ways".into()));
}

#[tokio::test]
async fn servers_that_say_it_in_odd_ways_are_good() {
    let refused = error(1045, "#28000Access denied");
    let words = [framed(0, GREETED), framed(2, &refused)].concat();
    test_servers::succeeds_at_all(&mysql(PATIENCE), words).await;
}

#[tokio::test]
async fn misbehaving_servers_fail_in_words() {
    test_servers::fails_at_all(&mysql(Duration::from_millis(200))).await;
}

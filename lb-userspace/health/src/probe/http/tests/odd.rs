//! Unusual, old or careless servers that work in practice: each row has an answer and whether the
//! server counts as up. curl and HAProxy also fail servers that are down here, unless the row says
//! otherwise.

use std::time::Duration;

use lb_model::{Expectation, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const PAGE: &str = "Test Page";

/// How a server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closes,
    Resets,
    KeepsOpen,
}

/// How a server begins a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    ReadsTheRequest,
    /// It answers without waiting for a request, as scripts behind inetd do.
    Answers,
}

async fn serve(mut stream: TcpStream, begin: Begin, answer: &[u8], end: End) {
    if begin == Begin::ReadsTheRequest {
        test_servers::read_header(&mut stream).await;
    }
    let _ = stream.write_all(answer).await;
    match end {
        // Closing a socket with unread data sends a reset.
        End::Closes if begin == Begin::ReadsTheRequest => {
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        End::Closes => {
            // Waits for the request, without reading it.
            let _ = stream.readable().await;
        }
        End::Resets => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        End::KeepsOpen => {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
}

async fn server(begin: Begin, answer: impl AsRef<[u8]>, end: End) -> TestServer {
    let answer = answer.as_ref().to_vec();
    test_servers::serving(move |stream| {
        let answer = answer.clone();
        async move { serve(stream, begin, &answer, end).await }
    })
    .await
}

/// The page expected as a text, by the end of an expression, and by its digest.
fn checks() -> [HttpProbe; 3] {
    [
        check(Some(PAGE)),
        HttpProbe { expected: expected(None, Some("Page$")), ..check(None) },
        HttpProbe { digest: Some(Sha256::digest(PAGE).into()), ..check(None) },
    ]
}

async fn up(name: &str, begin: Begin, answer: impl AsRef<[u8]>, end: End) {
    for check in checks() {
        assert_eq!(run(&server(begin, &answer, end).await, &check).await, Ok(()), "{name}: {check:?}");
    }
}

#[tokio::test]
async fn c3_servers_that_work_for_curl_are_up() {
    let length = "Content-Length: 9\r\n\r\nTest Page";
    let with = |head: &str| format!("{head}\r\n{length}");
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{length}");
    let chunked = |chunks: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    let rows = [
        ("no words behind the status", with("HTTP/1.1 200")),
        ("a blank, and no words", with("HTTP/1.1 200 ")),
        ("small letters", with("http/1.1 200 ok")),
        ("claims HTTP/2 in a status line", with("HTTP/2 200")),
        ("two blanks", with("HTTP/1.1  200  OK")),
        ("SHOUTcast", "ICY 200 OK\r\nicy-name: radio\r\n\r\nTest Page".into()),
        ("an empty line before", with("\r\nHTTP/1.1 200 OK")),
        ("HTTP/1.0, until it closes", "HTTP/1.0 200 OK\r\n\r\nTest Page".into()),
        ("lines end without a carriage return", "HTTP/1.1 200 OK\nContent-Length: 9\n\nTest Page".into()),
        ("no blank behind the colon", "HTTP/1.1 200 OK\r\nContent-Length:9\r\n\r\nTest Page".into()),
        ("a blank before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 9\r\n\r\nTest Page".into()),
        ("a folded line", ok("X: a\r\n b")),
        ("a folded first line", ok(" X: a")),
        ("a line without a colon", ok("nonsense")),
        ("a line without a name", ok(": x")),
        ("an odd name", ok("X(y)[z]: x")),
        ("a NUL in a line", ok("X: a\0b")),
        ("a thousand lines", ok(&vec!["X: y"; 1000].join("\r\n"))),
        ("a line of 90,000 bytes", ok(&format!("X: {}", "y".repeat(90_000)))),
        ("100 first", format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok("X: y"))),
        ("103 first", format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}", ok("X: y"))),
        ("102 thirty times", format!("{}{}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(30), ok("X: y"))),
        ("its length twice", ok("Content-Length: 9")),
        ("another length before", ok("Content-Length: 8")),
        ("a length with words", "HTTP/1.1 200 OK\r\nContent-Length: 9 bytes\r\n\r\nTest Page".into()),
        ("a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nTest Page".into()),
        ("a length, and more", ok("X: y") + "HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("chunks and a length", {
            let fields = "Content-Length: 3\r\nTransfer-Encoding: chunked";
            format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n9\r\nTest Page\r\n0\r\n\r\n")
        }),
        (
            "chunks in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n9\r\nTest Page\r\n0\r\n\r\n".into(),
        ),
        ("no encoding, told", ok("Transfer-Encoding: identity")),
        ("chunks with extensions", chunked("4;a=b\r\nTest\r\n5 \r\n Page\r\n0;c\r\n\r\n")),
        ("chunks with trailers", chunked("9\r\nTest Page\r\n0\r\nA: b\r\nC: d\r\n\r\n")),
        ("chunks without carriage returns", chunked("9\nTest Page\n0\n\n")),
        ("the last chunk without its end", chunked("9\r\nTest Page\r\n0\r\n")),
        ("the last chunk is but a zero", chunked("9\r\nTest Page\r\n0")),
    ];
    for (name, answer) in rows {
        up(name, Begin::ReadsTheRequest, answer, End::Closes).await;
    }
    up(
        "bytes that are no UTF-8",
        Begin::ReadsTheRequest,
        [b"HTTP/1.1 200 gr\xfcn\r\nX: \xff\r\n", length.as_bytes()].concat(),
        End::Closes,
    )
    .await;
}

#[tokio::test]
async fn c3_the_end_of_the_connection_is_the_end_of_the_answer() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nTest Page";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nTest Page\r\n0\r\n\r\n";
    let until_close = "HTTP/1.1 200 OK\r\n\r\nTest Page";
    use Begin::{Answers, ReadsTheRequest};
    for (name, begin, answer, end) in [
        ("closes", ReadsTheRequest, until_close, End::Closes),
        ("resets after all", ReadsTheRequest, until_close, End::Resets),
        ("resets after the length that it told", ReadsTheRequest, length, End::Resets),
        ("resets after the last chunk", ReadsTheRequest, chunks, End::Resets),
        ("keeps the connection, though asked to close it", ReadsTheRequest, length, End::KeepsOpen),
        ("keeps it after the last chunk", ReadsTheRequest, chunks, End::KeepsOpen),
        ("answers before it is asked", Answers, length, End::KeepsOpen),
        ("closes with the request unread", Answers, length, End::Closes),
        ("closes with the request unread, no length", Answers, until_close, End::Closes),
    ] {
        up(name, begin, answer, end).await;
    }
    // Nothing shows whether the answer has ended; curl waits, too.
    let open = server(ReadsTheRequest, until_close, End::KeepsOpen).await;
    let [text, pattern, digest] = checks();
    assert_eq!(run(&open, &text).await, Ok(()));
    for check in [pattern, digest] {
        let within = Duration::from_secs(2);
        assert_eq!(run_within(within, &open, &check).await, fails("no end of the answer within 2s"));
    }
    // The answer is truncated: curl fails, too (error 18).
    let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nTest Page\r\n";
    let [text, pattern, digest] = checks();
    for (check, found) in [(text, Ok(())), (pattern, fails(CLOSED)), (digest, fails(CLOSED))] {
        assert_eq!(run(&server(ReadsTheRequest, cut, End::Closes).await, &check).await, found, "{check:?}");
    }
}

const CLOSED: &str = "closed before the end of the answer";

/// Scripts behind inetd that test a database or a queue often send no more than this.
#[tokio::test]
async fn a_status_line_is_answer_enough() {
    for answer in
        ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\n", "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n"]
    {
        for begin in [Begin::ReadsTheRequest, Begin::Answers] {
            for end in [End::Closes, End::Resets] {
                let server = server(begin, answer, end).await;
                assert_eq!(run(&server, &check(None)).await, Ok(()), "{answer:?} {begin:?} {end:?}");
            }
        }
    }
    // As in curl and HAProxy.
    for answer in ["HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK"] {
        let server = server(Begin::ReadsTheRequest, answer, End::Closes).await;
        assert_eq!(run(&server, &check(None)).await, Ok(()), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_may_come_byte_by_byte() {
    let server = test_servers::serving(|mut stream| async move {
        let _ = stream.set_nodelay(true);
        test_servers::read_header(&mut stream).await;
        for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nTest Page\r\n0\r\n\r\n" {
            let _ = stream.write_all(&[*byte]).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    for check in checks() {
        assert_eq!(run(&server, &check).await, Ok(()), "{check:?}");
    }
}

#[tokio::test]
async fn what_is_not_http_says_what_to_do() {
    let not_http = |what: &str| fails(&format!("the answer is not HTTP: {what}"));
    for (answer, found) in [
        (&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], not_http("'SSH-2.0-OpenSSH_9.2p1'")),
        // Browsers no longer display it, nor does curl by default.
        (
            b"<html>Test Page</html>",
            not_http(
                "it has no header (HTTP/0.9): '<html>Test Page</html>'; for a page without one use `type: tcp` with `send` \
                 and `receive`",
            ),
        ),
        (b"\x15\x03\x01\0\x02\x02\x46", not_http("the server speaks TLS: use `type: https`")),
        (
            b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64",
            not_http(
                "the server speaks HTTP/2 only, which lb does not: use `type: tcp`, or an external check with `curl \
                 --http2-prior-knowledge`",
            ),
        ),
        (b"HTTP/1.1 2000 OK\r\n\r\n", not_http("'HTTP/1.1 2000 OK'")),
        (b"HTTP/1.1 000 ?\r\n\r\n", not_http("'HTTP/1.1 000 ?'")),
        (b"HTTP/1.1 100 Continue\r\n\r\n", fails("closed before the answer's header")),
        (b"HTTP/1.1 999 Go Away\r\n\r\n", fails("status 999 'Go Away', expected 200-299")),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08",
            fails(
                "no 'Test Page' in the answer's 3 bytes: got '\\u{1f}�\\u{8}'; the server compresses it (Content-Encoding: \
                 gzip) although the request did not accept compression",
            ),
        ),
    ] {
        let server = server(Begin::ReadsTheRequest, answer, End::Closes).await;
        assert_eq!(run(&server, &check(Some(PAGE))).await, found);
    }
}

/// A TLS connection should end with `close_notify`, and often does not.
#[tokio::test]
async fn c3_tls_may_end_without_close_notify() {
    let tls = || Tls { name: None, verify: false, expiry_warning: Duration::ZERO };
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\nTest Page",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nTest Page",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nTest Page\r\n0\r\n\r\n",
    ] {
        for check in checks() {
            let server = test_servers::serving_tls(
                test_servers::self_signed("www.example.org"),
                &[],
                move |mut stream| async move {
                    test_servers::read_header(&mut stream).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.flush().await;
                    // Closes the TCP socket; shutting down the TLS stream would send close_notify.
                    let _ = stream.get_mut().0.shutdown().await;
                    let _ = stream.get_mut().0.read_to_end(&mut Vec::new()).await;
                },
            )
            .await;
            let asked = Asked::of(Probe::Http(check.clone()), PATIENCE).with(|check| check.tls = Some(tls()));
            assert_eq!(asked.at(server.address).await, Ok(Answer::default()), "{answer:?} {check:?}");
        }
    }
    // Greetings that end with the connection.
    let greets = test_servers::serving_tls(
        test_servers::self_signed("www.example.org"),
        &[],
        |mut stream| async move {
            let _ = stream.write_all(b"state: ready\n").await;
            let _ = stream.flush().await;
            let _ = stream.get_mut().0.shutdown().await;
            let _ = stream.get_mut().0.read_to_end(&mut Vec::new()).await;
        },
    )
    .await;
    let greeting = |expected: Expectation| {
        let exchange = lb_model::Exchange { send: Vec::new(), expected };
        Asked::of(Probe::Tcp(exchange), PATIENCE).with(|check| check.tls = Some(tls()))
    };
    assert_eq!(greeting(expected(None, Some("ready$"))).at(greets.address).await, Ok(Answer::default()));
    let words = "no 'steady' in the answer's 13 bytes: got 'state: ready'";
    assert_eq!(greeting(expected(Some("steady"), None)).at(greets.address).await, Err(words.to_owned()));
}

//! The HTTP probe with good and bad servers.

mod long;
mod odd;
mod redirects;

use std::time::{Duration, Instant};

use lb_model::{Method, Probe, Protocol, Statuses};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::probe::test_servers::{self, Asked, PATIENCE, TestServer, expected};

const LIMIT: Duration = Duration::from_millis(300);

fn check(receive: Option<&str>) -> HttpProbe {
    HttpProbe { request: "/.testpage".into(), expected: expected(receive, None), ..HttpProbe::default() }
}

/// Probes a `server` that answers.
async fn run(server: &TestServer, check: &HttpProbe) -> Result<(), String> {
    Asked::of(Probe::Http(check.clone()), PATIENCE).at(server.address).await.map(drop)
}

/// Probes a server that does not answer: the time limit must end the probe.
async fn run_briefly(server: &TestServer, check: &HttpProbe) -> Result<(), String> {
    run_within(LIMIT, server, check).await
}

async fn run_within(limit: Duration, server: &TestServer, check: &HttpProbe) -> Result<(), String> {
    let start = Instant::now();
    let result = Asked::of(Probe::Http(check.clone()), limit).at(server.address).await;
    assert!(start.elapsed() < limit + PATIENCE, "took {:?}", start.elapsed());
    result.map(drop)
}

async fn run_pieces(pieces: &'static [&'static str]) -> Result<(), String> {
    run(&test_servers::answering(pieces).await, &check(Some("Test Page"))).await
}

fn fails(words: &str) -> Result<(), String> {
    Err(words.to_owned())
}

#[tokio::test]
async fn finds_the_text() {
    const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 34\r\n\r\nTest Page of www1.wowlinux.com    \n";
    assert_eq!(run_pieces(&[PAGE]).await, Ok(()));
    assert_eq!(run_pieces(&["HTTP/1.0 200 OK\r\n\r\n<h1>Test Page</h1>"]).await, Ok(()), "until it closes");
}

#[tokio::test]
async fn finds_the_text_across_chunks() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        run_pieces(&[HEAD, "3\r\nTes\r\n", "3\r\nt P\r\n", "4\r\nage.\r\n", "0\r\n\r\n"]).await,
        Ok(())
    );
    assert_eq!(
        run_pieces(&["HTT", "P/1.1 200 OK\r\nContent-Le", "ngth: 9\r\n\r", "\nTest", " Page"]).await,
        Ok(())
    );
}

/// The request header that a server receives; it answers with 204.
async fn request_of(check: HttpProbe) -> String {
    let (sender, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let server = test_servers::serving(move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(test_servers::read_header(&mut stream).await).expect("a test that listens");
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    assert_eq!(run(&server, &check).await, Ok(()));
    requests.recv().await.expect("a request")
}

#[tokio::test]
async fn asks_as_a_client_would() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        request_of(check(None)).await,
        format!(
            "GET /.testpage HTTP/1.1\r\nHost: 211.58.250.6\r\nUser-Agent: lb/{version}\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        )
    );
    let named = HttpProbe { host: Some("ha.wowlinux.com".into()), ..check(None) };
    assert!(request_of(named).await.contains("\r\nHost: ha.wowlinux.com\r\n"));
}

#[tokio::test]
async fn asks_by_any_method() {
    for method in Method::ALL {
        let header = request_of(HttpProbe { method, ..check(None) }).await;
        assert!(header.starts_with(&format!("{} /.testpage HTTP/1.1\r\n", method.name())), "{header}");
        // Some servers refuse a POST without a length.
        assert_eq!(header.contains("\r\nContent-Length: 0\r\n"), method == Method::Post, "{header}");
    }
}

#[test]
fn the_vip_is_the_host_by_default() {
    let host = |vip: &str, port, tls| {
        let vip = vip.parse().expect("an address");
        default_host(ServiceKey { vip, port, protocol: Protocol::Tcp }, tls)
    };
    assert_eq!(host("192.0.2.10", 80, false), "192.0.2.10");
    assert_eq!(host("192.0.2.10", 443, false), "192.0.2.10:443");
    assert_eq!(host("192.0.2.10", 443, true), "192.0.2.10");
    assert_eq!(host("2001:db8::10", 80, false), "[2001:db8::10]");
    assert_eq!(host("2001:db8::10", 80, true), "[2001:db8::10]:80");
}

#[tokio::test]
async fn wrong_status() {
    let server =
        test_servers::answering(&["HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"]).await;
    let words = "status 500 Internal Server Error, expected 200-399";
    assert_eq!(run(&server, &check(None)).await, fails(words));
    let status = Some(Statuses(vec![500..=500]));
    assert_eq!(run(&server, &HttpProbe { status, ..check(None) }).await, Ok(()));

    let server = test_servers::answering(&["HTTP/1.1 503 Back at 5\r\nContent-Length: 0\r\n\r\n"]).await;
    assert_eq!(run(&server, &check(None)).await, fails("status 503 'Back at 5', expected 200-399"));
}

const IT_WORKS: &[&str] = &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nIt works!"];

#[tokio::test]
async fn wrong_text() {
    let words = "no 'Test Page' in the answer's 9 bytes: got 'It works!'";
    assert_eq!(run_pieces(IT_WORKS).await, fails(words));
    assert_eq!(
        run(&test_servers::answering(IT_WORKS).await, &check(None)).await,
        Ok(()),
        "no text was asked for"
    );
    let empty = run_pieces(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
    assert_eq!(empty, fails("no 'Test Page' in the empty answer"));
}

#[tokio::test]
async fn a_pattern_is_of_the_whole_body() {
    let server =
        test_servers::answering(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nIt ", "works", "!"]).await;
    for (pattern, result) in [
        ("^It w[a-z]+s!$", Ok(())),
        ("^works", fails("no match for '^works' in the answer's 9 bytes: got 'It works!'")),
        ("works$", fails("no match for 'works$' in the answer's 9 bytes: got 'It works!'")),
    ] {
        let check = HttpProbe { expected: expected(None, Some(pattern)), ..check(None) };
        assert_eq!(run(&server, &check).await, result, "{pattern}");
    }
}

#[tokio::test]
async fn a_digest_is_of_the_whole_body() {
    let server = test_servers::answering(IT_WORKS).await;
    let digest = Some(Sha256::digest("It works!").into());
    assert_eq!(run(&server, &HttpProbe { digest, ..check(None) }).await, Ok(()));
    let text_too = HttpProbe { digest, ..check(Some("Test Page")) };
    let words = "no 'Test Page' in the answer's 9 bytes: got 'It works!'";
    assert_eq!(run(&server, &text_too).await, fails(words));
    let other = HttpProbe { digest: Some([0; 32]), ..check(None) };
    let words = "the answer's 9 bytes have the digest \
                 b80023da98fb0df840a9368dd2b5e0466d14251d4704d488e50043ae4fcfc5f1";
    assert_eq!(run(&server, &other).await, fails(words));
}

#[tokio::test]
async fn a_digest_needs_the_end() {
    let check = HttpProbe { digest: Some([0; 32]), ..check(None) };
    let cut = test_servers::answering(&["HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nIt works!"]).await;
    assert_eq!(run(&cut, &check).await, fails("closed before the end of the answer"));
    let slow = endless("HTTP/1.1 200 OK\r\n\r\n", b"x".to_vec(), Duration::from_millis(50)).await;
    let within = Duration::from_secs(2);
    assert_eq!(run_within(within, &slow, &check).await, fails("no end of the answer within 2s"));
    // Time alone would let such a server have the director digest gigabytes with each check.
    let fast = endless("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 8192], Duration::ZERO).await;
    let words = "the answer has more than 16777216 bytes, too many to digest: ask for a shorter page";
    assert_eq!(run(&fast, &check).await, fails(words));
}

#[tokio::test]
async fn body_cut_short() {
    const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nIt works!";
    let words =
        "no 'Test Page' before the connection was lost, in the first 9 bytes of the answer: got 'It works!'";
    assert_eq!(run_pieces(&[PAGE]).await, fails(words));
}

#[tokio::test]
async fn a_body_that_breaks_its_encoding_is_not_http() {
    const BROKEN: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    let words = run_pieces(&[BROKEN]).await.expect_err("no such chunk");
    assert!(words.contains("chunk"), "{words}");
}

#[tokio::test]
async fn no_listener() {
    let address = test_servers::closed().await;
    let asked = Asked::of(Probe::Http(check(None)), PATIENCE);
    assert_eq!(asked.at(address).await, Err("connection refused".into()));
}

#[tokio::test]
async fn accepts_and_says_nothing() {
    let server = test_servers::silent().await;
    assert_eq!(run_briefly(&server, &check(None)).await, fails("no answer within 300ms"));
}

#[tokio::test]
async fn half_a_header() {
    let server = test_servers::serving(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-").await;
        test_servers::read_header(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(run_briefly(&server, &check(None)).await, fails("no answer within 300ms"));
}

#[tokio::test]
async fn closes_and_resets() {
    assert_eq!(run_pieces(&[]).await, fails("closed before the answer's header"));
    let server = test_servers::resetting().await;
    assert_eq!(run(&server, &check(None)).await, fails("reset before the answer's header"));
}

#[tokio::test]
async fn garbage() {
    for garbage in
        [&["SSH-2.0-OpenSSH_9.2p1\r\n"][..], &["\0\u{1}\u{2}\u{7f}\r\n\r\n"], &["HTTP/9.9 xyz\r\n\r\n"]]
    {
        let server = test_servers::serving(move |stream| test_servers::answer(stream, garbage)).await;
        let words = run(&server, &check(None)).await.expect_err("not HTTP");
        assert!(words.starts_with("the answer is not HTTP"), "{garbage:?}: {words}");
    }
}

/// Sends the header, then `piece` without end, at intervals of `pause`.
async fn endless(header: &'static str, piece: Vec<u8>, pause: Duration) -> TestServer {
    test_servers::serving(move |mut stream| {
        let piece = piece.clone();
        async move {
            test_servers::read_header(&mut stream).await;
            if stream.write_all(header.as_bytes()).await.is_ok() {
                test_servers::repeat(stream, &piece, pause).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn endless_body() {
    let server = endless("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 8192], Duration::ZERO).await;
    assert_eq!(run(&server, &check(None)).await, Ok(()), "the body is not read when nobody asks for it");
    let words = run(&server, &check(Some("Test Page"))).await.expect_err("it is not there");
    assert!(
        words.starts_with("no 'Test Page' in the first 16777216 bytes of the answer: got 'xxx"),
        "{words}"
    );
    assert!(words.ends_with("; the check looks no further: ask for a shorter page"), "{words}");
}

#[tokio::test]
async fn dribbling_body() {
    let server = endless("HTTP/1.1 200 OK\r\n\r\n", b"x".to_vec(), Duration::from_millis(50)).await;
    let within = Duration::from_secs(2);
    let words = run_within(within, &server, &check(Some("Test Page"))).await.expect_err("it is not there");
    assert!(words.starts_with("no 'Test Page' within 2s, in the first "), "{words}");
}

#[tokio::test]
async fn endless_header() {
    let server = endless("HTTP/1.1 200 OK\r\n", b"x: y\r\n".repeat(1000), Duration::ZERO).await;
    let words = run(&server, &check(None)).await.expect_err("no end of a header");
    assert!(words.starts_with("the answer is not HTTP"), "{words}");
    let server = endless("HTTP/1.1 200 OK\r\nx: ", vec![b'y'; 8192], Duration::ZERO).await;
    let words = run(&server, &check(None)).await.expect_err("no end of a line");
    assert!(words.starts_with("the answer is not HTTP"), "{words}");
}

#[tokio::test]
async fn a_dropped_probe_closes_its_socket() {
    let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let server = test_servers::serving(move |mut stream| {
        let sender = sender.clone();
        async move {
            test_servers::read_header(&mut stream).await;
            sender.send("asked").expect("a test that listens");
            assert_eq!(test_servers::read_header(&mut stream).await, "");
            sender.send("closed").expect("a test that listens");
        }
    })
    .await;
    let asked = Asked::of(Probe::Http(check(None)), PATIENCE);
    let mut running = Box::pin(asked.at(server.address));
    tokio::select! {
        _ = &mut running => panic!("it cannot end"),
        asked = ended.recv() => assert_eq!(asked, Some("asked")),
    }
    drop(running);
    let closed = tokio::time::timeout(PATIENCE / 2, ended.recv()).await;
    assert_eq!(closed, Ok(Some("closed")));
}

#[tokio::test]
async fn a_request_that_cannot_be_is_a_failure() {
    let server = test_servers::silent().await;
    let odd = HttpProbe { request: "/a b".into(), ..check(None) };
    let foreign = HttpProbe { host: Some("a\nb".into()), ..check(None) };
    for odd in [odd, foreign] {
        let failure = run(&server, &odd).await.expect_err("no such request");
        assert!(failure.starts_with("cannot ask for '"), "{failure}");
    }
}

#[tokio::test]
async fn whatever_is_not_http_is_a_failure() {
    test_servers::fails_at_all(&Asked::of(Probe::Http(check(Some("Test Page"))), LIMIT)).await;
}

//! The HTTP probe against servers good and bad.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::config::{Probe, Statuses, Wanted};
use crate::health::probe::servers::{self, Asked, TestServer};

const LIMIT: Duration = Duration::from_millis(300);

fn check(receive: Option<&str>) -> HttpProbe {
    let wanted = Wanted { text: receive.map(Into::into), pattern: None };
    HttpProbe { request: "/.testpage".into(), wanted, ..HttpProbe::default() }
}

/// Probes `server`; panics if that takes notably longer than the limit.
async fn run(server: &TestServer, check: &HttpProbe) -> Result<(), String> {
    let start = Instant::now();
    let result = Asked::of(Probe::Http(check.clone()), LIMIT).at(server.address).await;
    assert!(start.elapsed() < LIMIT * 3, "took {:?}", start.elapsed());
    result.map(drop)
}

async fn run_pieces(pieces: &'static [&'static str]) -> Result<(), String> {
    run(&servers::answering(pieces).await, &check(Some("Test Page"))).await
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

#[tokio::test]
async fn asks_as_a_client_would() {
    let (sender, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let server = servers::serving(move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(servers::read_header(&mut stream).await).expect("a test that listens");
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    assert_eq!(run(&server, &check(None)).await, Ok(()));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        requests.recv().await.expect("a request"),
        format!(
            "GET /.testpage HTTP/1.1\r\nhost: 211.58.250.6\r\nuser-agent: lb/{version}\r\naccept: */*\r\n\
             connection: close\r\n\r\n"
        )
    );
    let named = HttpProbe { host: Some("ha.wowlinux.com".into()), ..check(None) };
    assert_eq!(run(&server, &named).await, Ok(()));
    assert!(requests.recv().await.expect("a request").contains("\r\nhost: ha.wowlinux.com\r\n"));
}

#[tokio::test]
async fn wrong_status() {
    let server =
        servers::answering(&["HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"]).await;
    assert_eq!(run(&server, &check(None)).await, fails("status 500, wanted 200-299"));
    assert_eq!(run(&server, &HttpProbe { status: Statuses(vec![500..=500]), ..check(None) }).await, Ok(()));
    let server =
        servers::answering(&["HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"]).await;
    assert_eq!(
        run(&server, &check(None)).await,
        fails("status 302, wanted 200-299"),
        "redirects are not followed"
    );
}

#[tokio::test]
async fn wrong_text() {
    const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nIt works!";
    assert_eq!(run_pieces(&[PAGE]).await, fails("no 'Test Page' in the answer's 9 bytes"));
    assert_eq!(run(&servers::answering(&[PAGE]).await, &check(None)).await, Ok(()), "no text was asked for");
}

#[tokio::test]
async fn body_cut_short() {
    const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nIt works!";
    let words = "connection lost after 9 bytes of the answer, no 'Test Page' in them";
    assert_eq!(run_pieces(&[PAGE]).await, fails(words));
}

#[tokio::test]
async fn no_listener() {
    let address = servers::closed().await;
    let asked = Asked::of(Probe::Http(check(None)), LIMIT);
    assert_eq!(asked.at(address).await, Err("connection refused".into()));
}

#[tokio::test]
async fn accepts_and_says_nothing() {
    let server = servers::silent().await;
    assert_eq!(run(&server, &check(None)).await, fails("no answer within 300ms"));
}

#[tokio::test]
async fn half_a_header() {
    let server = servers::serving(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-").await;
        servers::read_header(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(run(&server, &check(None)).await, fails("no answer within 300ms"));
    let closed = run_pieces(&["HTTP/1.1 200 OK\r\nContent-"]).await;
    assert_eq!(closed, fails("closed before the answer's header"));
}

#[tokio::test]
async fn closes_and_resets() {
    assert_eq!(run_pieces(&[]).await, fails("closed before the answer's header"));
    let server = servers::resetting().await;
    assert_eq!(run(&server, &check(None)).await, fails("reset before the answer's header"));
}

#[tokio::test]
async fn garbage() {
    for garbage in
        [&["SSH-2.0-OpenSSH_9.2p1\r\n"][..], &["\0\u{1}\u{2}\u{7f}\r\n\r\n"], &["HTTP/9.9 xyz\r\n\r\n"]]
    {
        let server = servers::serving(move |stream| servers::answer(stream, garbage)).await;
        let words = run(&server, &check(None)).await.expect_err("not HTTP");
        assert!(words.starts_with("the answer is not HTTP"), "{garbage:?}: {words}");
    }
}

/// Sends the header, then `piece` without end, `pause` apart.
async fn endless(header: &'static str, piece: Vec<u8>, pause: Duration) -> TestServer {
    servers::serving(move |mut stream| {
        let piece = piece.clone();
        async move {
            servers::read_header(&mut stream).await;
            let mut result = stream.write_all(header.as_bytes()).await;
            while result.is_ok() {
                tokio::time::sleep(pause).await;
                result = stream.write_all(&piece).await;
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
    let seen = words.strip_prefix("no 'Test Page' in the first ").expect(&words);
    let seen: usize = seen.strip_suffix(" bytes of the answer").expect(&words).parse().expect(&words);
    assert!((BODY_LIMIT..2 * BODY_LIMIT).contains(&seen), "{words}");
}

#[tokio::test]
async fn dribbling_body() {
    let server = endless("HTTP/1.1 200 OK\r\n\r\n", b"x".to_vec(), Duration::from_millis(50)).await;
    let words = run(&server, &check(Some("Test Page"))).await.expect_err("it is not there");
    assert!(words.starts_with("no 'Test Page' within 300ms, in the first "), "{words}");
}

#[tokio::test]
async fn endless_header() {
    let server = endless("HTTP/1.1 200 OK\r\n", b"x: y\r\n".repeat(1000), Duration::ZERO).await;
    let words = run(&server, &check(None)).await.expect_err("no end of a header");
    assert!(words.starts_with("the answer is not HTTP"), "{words}");
}

#[tokio::test]
async fn a_dropped_probe_closes_its_socket() {
    let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let server = servers::serving(move |mut stream| {
        let sender = sender.clone();
        async move {
            servers::read_header(&mut stream).await;
            sender.send("asked").expect("a test that listens");
            assert_eq!(servers::read_header(&mut stream).await, "");
            sender.send("closed").expect("a test that listens");
        }
    })
    .await;
    let asked = Asked::of(Probe::Http(check(None)), LIMIT * 10);
    let mut running = Box::pin(asked.at(server.address));
    tokio::select! {
        _ = &mut running => panic!("it cannot end"),
        asked = ended.recv() => assert_eq!(asked, Some("asked")),
    }
    drop(running);
    let closed = tokio::time::timeout(LIMIT, ended.recv()).await;
    assert_eq!(closed, Ok(Some("closed")));
}

#[tokio::test]
async fn a_request_that_cannot_be_is_a_failure() {
    let server = servers::silent().await;
    let odd = HttpProbe { request: "/a b".into(), ..check(None) };
    let foreign = HttpProbe { host: Some("a\nb".into()), ..check(None) };
    for odd in [odd, foreign] {
        let failure = run(&server, &odd).await.expect_err("no such request");
        assert!(failure.starts_with("cannot ask for '"), "{failure}");
    }
}

#[tokio::test]
async fn whatever_is_not_http_is_a_failure() {
    servers::fails_at_all(&Asked::of(Probe::Http(check(Some("Test Page"))), LIMIT)).await;
}

proptest! {
    #[test]
    fn finder_finds_what_is_there(
        chunks in prop::collection::vec("[ab]{0,6}", 0..8),
        text in "[ab]{1,5}",
    ) {
        let whole = chunks.concat();
        let mut finder = Finder::new(&text);
        let found = chunks.iter().any(|chunk| finder.feed(chunk.as_bytes()));
        prop_assert_eq!(found, whole.contains(&text), "'{}' in {:?}", text, chunks);
    }
}

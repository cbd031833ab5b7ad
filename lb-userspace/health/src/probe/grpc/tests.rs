//! The gRPC probe with good and bad servers.

use std::time::Duration;

use hyper::Response;
use hyper::header::HeaderMap;
use lb_model::{Probe, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::message::{HealthCheckResponse, ServingStatus, prefixed};
use super::*;
use crate::net::Duplex;
use crate::probe::test_servers::{self, Asked, PATIENCE, TestServer};

const LIMIT: Duration = Duration::from_millis(500);

/// A server's answer to every request.
#[derive(Debug, Clone)]
struct Script {
    status: u16,
    body: Vec<u8>,
    /// `false`: trailers-only, so the header has the trailers.
    whole: bool,
    trailers: Vec<(&'static str, &'static str)>,
}

fn sends(status: ServingStatus) -> Script {
    let body = prefixed(&HealthCheckResponse { status: status.into() });
    Script { status: 200, body, whole: true, trailers: vec![("grpc-status", "0")] }
}

/// An error without a body.
fn ends(code: &'static str, message: &'static str) -> Script {
    let trailers = vec![("grpc-status", code), ("grpc-message", message)];
    Script { status: 200, body: Vec::new(), whole: false, trailers }
}

/// Serves one connection; returns the request's path and body.
async fn serve(stream: impl Duplex, script: Script) -> Option<(String, Vec<u8>)> {
    let mut connection = h2::server::handshake(stream).await.ok()?;
    let (mut request, mut respond) = connection.accept().await?.ok()?;
    let path = request.uri().path().to_owned();
    let exchange = async move {
        let asked = request.body_mut().data().await?.ok()?;
        let mut response = Response::builder().status(script.status);
        let trailers: HeaderMap = script
            .trailers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        if !script.whole {
            response.headers_mut()?.extend(trailers.clone());
        }
        let mut stream = respond.send_response(response.body(()).ok()?, !script.whole).ok()?;
        if script.whole {
            stream.send_data(script.body.into(), false).ok()?;
            stream.send_trailers(trailers).ok()?;
        }
        Some((path, asked.to_vec()))
    };
    let asked = tokio::select! {
        asked = exchange => asked,
        _ = connection.accept() => None,
    };
    // Until the client has closed.
    while connection.accept().await.is_some() {}
    asked
}

async fn server(script: Script) -> TestServer {
    test_servers::serving(move |stream: TcpStream| {
        let script = script.clone();
        async move {
            serve(stream, script).await;
        }
    })
    .await
}

fn asked(service: &str) -> Asked {
    Asked::of(Probe::Grpc { service: service.into() }, PATIENCE)
}

async fn ask(service: &str, script: Script) -> Result<Answer, String> {
    asked(service).at(server(script).await.address).await
}

#[tokio::test]
async fn serving_is_good() {
    assert_eq!(ask("", sends(ServingStatus::Serving)).await, Ok(Answer::default()));
}

#[tokio::test]
async fn the_service_is_asked_for() {
    let (sender, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let server = test_servers::serving(move |stream| {
        let sender = sender.clone();
        async move {
            let asked = serve(stream, sends(ServingStatus::Serving)).await;
            sender.send(asked.expect("a request")).expect("a test that listens");
        }
    })
    .await;
    let path = "/grpc.health.v1.Health/Check";
    for (service, body) in [("", &b"\0\0\0\0\0"[..]), ("shop", b"\0\0\0\0\x06\x0a\x04shop")] {
        assert_eq!(asked(service).at(server.address).await, Ok(Answer::default()));
        assert_eq!(requests.recv().await, Some((path.into(), body.to_vec())));
    }
}

#[tokio::test]
async fn whatever_else_is_said_is_told() {
    let text = |body: &[u8]| Script { body: body.to_vec(), ..sends(ServingStatus::Serving) };
    let cases = [
        ("", sends(ServingStatus::NotServing), "the server is NOT_SERVING, expected SERVING"),
        ("shop", sends(ServingStatus::NotServing), "the service 'shop' is NOT_SERVING, expected SERVING"),
        ("", sends(ServingStatus::Unknown), "the server is UNKNOWN, expected SERVING"),
        (
            "shop",
            sends(ServingStatus::ServiceUnknown),
            "the service 'shop' is SERVICE_UNKNOWN, expected SERVING",
        ),
        ("", text(b"\0\0\0\0\x02\x08\x09"), "the server is status 9, expected SERVING"),
        ("shop", ends("5", "unknown"), "the service 'shop' is not known to the health service (NOT_FOUND)"),
        (
            "",
            ends("12", ""),
            "the server has no service grpc.health.v1.Health (UNIMPLEMENTED): add it there, or use `type: tcp`",
        ),
        (
            "",
            ends("16", "no token"),
            "the health service refuses requests without credentials (UNAUTHENTICATED): let it answer lb, or \
             use `type: tcp`",
        ),
        (
            "",
            ends("7", "no"),
            "the health service refuses requests without credentials (PERMISSION_DENIED): let it answer lb, \
             or use `type: tcp`",
        ),
        ("", ends("14", "going away"), "the call ended with UNAVAILABLE: 'going away'"),
        ("", ends("99", "?"), "the call ended with 99: '?'"),
        (
            "",
            Script { trailers: vec![("grpc-status", "13")], ..sends(ServingStatus::Serving) },
            "the call ended with INTERNAL",
        ),
        (
            "",
            Script { trailers: vec![], ..sends(ServingStatus::Serving) },
            "the answer is not gRPC: it has no grpc-status",
        ),
        ("", Script { status: 404, ..ends("12", "") }, "status 404 Not Found, expected 200"),
        ("", text(b""), "the answer is not a health service's: ''"),
        (
            "",
            text(b"\x01\0\0\0\x02\x08\x01"),
            r"the answer is not a health service's: '\u{1}\0\0\0\u{2}\u{8}\u{1}'",
        ),
        ("", text(b"\0\0\0\0\x09\x08\x01"), r"the answer is not a health service's: '\0\0\0\0\t\u{8}\u{1}'"),
        ("", text(&[0; 5000]), "the answer has more than 4096 bytes"),
    ];
    for (service, script, words) in cases {
        assert_eq!(ask(service, script.clone()).await, Err(words.into()), "{script:?}");
    }
}

/// A frame of HTTP/2 on this stream.
fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(content.len()).expect("a short frame").to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, stream], content].concat()
}

const SETTINGS: u8 = 4;
/// Status 200 and no more, in HPACK.
const STATUS_200: &[u8] = b"\x88";
/// `grpc-status: 0` without indexing.
const STATUS_OK: &[u8] = b"\0\x0bgrpc-status\x010";
const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";

/// Servers and proxies that gRPC's own clients accept, as frames.
#[tokio::test]
async fn odd_servers_that_serve_are_up() {
    let settings = || frame(SETTINGS, 0, 0, b"");
    let head = || frame(1, 4, 1, STATUS_200);
    let body = || frame(0, 0, 1, SERVING);
    let trailers = || frame(1, 5, 1, STATUS_OK);
    let padded = [&[2][..], SERVING, &[0, 0]].concat();
    let unknown_field = b"\0\0\0\0\x06\x08\x01\x12\x02hi";
    let rows: [(&str, Vec<Vec<u8>>); 14] = [
        ("plain", vec![settings(), head(), body(), trailers()]),
        (
            "one slot for streams",
            vec![frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x01"), head(), body(), trailers()],
        ),
        (
            "settings that nobody knows",
            vec![frame(SETTINGS, 0, 0, b"\x12\x34\0\0\0\x01"), head(), body(), trailers()],
        ),
        ("acknowledges late", vec![settings(), head(), body(), frame(SETTINGS, 1, 0, b""), trailers()]),
        ("a wider window first", vec![settings(), frame(8, 0, 0, b"\0\x0f\0\0"), head(), body(), trailers()]),
        ("pings us first", vec![settings(), frame(6, 0, 0, b"12345678"), head(), body(), trailers()]),
        ("a frame that nobody knows", vec![settings(), frame(0x42, 0, 0, b"?"), head(), body(), trailers()]),
        (
            "the message in two",
            vec![
                settings(),
                head(),
                frame(0, 0, 1, &SERVING[..3]),
                frame(0, 0, 1, &SERVING[3..]),
                trailers(),
            ],
        ),
        ("an empty frame of data", vec![settings(), head(), frame(0, 0, 1, b""), body(), trailers()]),
        ("padding", vec![settings(), head(), frame(0, 8, 1, &padded), trailers()]),
        (
            "the header in two frames",
            vec![settings(), frame(1, 0, 1, STATUS_200), frame(9, 4, 1, STATUS_OK), body(), trailers()],
        ),
        ("a field that nobody knows", vec![settings(), head(), frame(0, 0, 1, unknown_field), trailers()]),
        (
            "goes away behind the answer",
            vec![settings(), head(), body(), trailers(), frame(7, 0, 0, b"\0\0\0\x01\0\0\0\0")],
        ),
        (
            "ends the stream behind the answer",
            vec![settings(), head(), body(), trailers(), frame(3, 0, 1, b"\0\0\0\0")],
        ),
    ];
    for (name, frames) in rows {
        let server = test_servers::serving(move |mut stream: TcpStream| {
            let frames = frames.clone();
            async move {
                // The answer must follow the request: preface, settings, header, message.
                let mut asked = Vec::new();
                while !asked.windows(5).any(|end| end == b"\0\0\0\0\0") || asked.len() < 120 {
                    if stream.read_buf(&mut asked).await.is_ok_and(|length| length == 0) {
                        return;
                    }
                }
                let _ = stream.write_all(&frames.concat()).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await;
        assert_eq!(asked("").at(server.address).await, Ok(Answer::default()), "{name}");
    }
}

#[tokio::test]
async fn speaks_http2_inside_tls() {
    let certificate = test_servers::self_signed("grpc.example.org");
    let server = test_servers::serving_tls(certificate, &["h2"], |stream| async move {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        serve(stream, sends(ServingStatus::Serving)).await;
    })
    .await;
    let tls = Tls { name: None, verify: false, expiry_warning: Duration::ZERO };
    let report = asked("").with(|check| check.tls = Some(tls)).report(server.address).await;
    assert_eq!(report.result.expect("SERVING"), Answer::default());
    let steps: Vec<_> = report.steps.iter().map(|step| step.what.as_ref()).collect();
    assert_eq!(steps, ["connected", "TLS 1.3 negotiated", "got an answer"]);
}

#[tokio::test]
async fn silence_and_endings_are_told() {
    let http1 = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    let silent = test_servers::silent().await;
    let found = asked("").within(LIMIT).at(silent.address).await;
    assert_eq!(found, Err("no answer within 500ms".into()));
    let cases = [
        (test_servers::closing_after(b"").await, "closed before the answer"),
        (test_servers::resetting().await, "reset before the answer"),
        (test_servers::closing_after(http1).await, "the answer is not HTTP/2: "),
        // SETTINGS, then GOAWAY for a protocol error.
        (
            test_servers::closing_after(b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01")
                .await,
            "the server ends it: ",
        ),
    ];
    for (server, words) in cases {
        let failure = asked("").at(server.address).await.expect_err(words);
        assert!(failure.starts_with(words), "'{failure}', not '{words}'");
    }
}

#[tokio::test]
async fn whatever_is_not_grpc_is_a_failure() {
    test_servers::fails_at_all(&asked("").within(LIMIT)).await;
    // SETTINGS without end.
    let server = test_servers::endless(b"\0\0\0\x04\0\0\0\0\0", Duration::ZERO).await;
    let failure = asked("").within(LIMIT).at(server.address).await.expect_err("no answer");
    assert!(!failure.is_empty());
}

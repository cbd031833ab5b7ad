//! What clients of our own servers send: the control socket, the HTTP endpoint, the page with the
//! API, the sorry page.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_api::findings::Findings;
use lb_api::wire::Reply;
use lb_fuzz::bytes::samples;
use lb_fuzz::script::{End, Script, runtime, scripts};
use lb_fuzz::{Failed, hold, targets};
use lb_model::Web;
use lb_web::Prepared;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

use crate::observe::web::Asked;
use crate::observe::{http, requests, samples as observed, socket};
use crate::sorry;

targets! {
    control 60 "requests to the control socket" => run_control;
    metrics 60 "requests to the HTTP endpoint" => run_metrics;
    sorry 60 "requests to the sorry page" => run_sorry;
    web 60 "requests to the page and the API" => run_web;
}

/// Far beyond every limit of theirs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients do not wait for answers that may not come.
fn client(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Script> {
    scripts(samples).prop_map(|mut script| {
        script.pieces.iter_mut().for_each(|piece| piece.waits = false);
        if matches!(script.end, End::StaysOpen) {
            script.end = End::Closes;
        }
        script
    })
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, TestCaseError> {
    timeout(PATIENCE, work).await.map_err(|_| TestCaseError::fail("no end"))
}

pub(crate) fn run_control(config: Config) -> Result<(), Failed> {
    let requests = samples([
        b"{\"command\":\"status\"}\n",
        b"{\"command\":\"events\"}\n",
        b"{\"command\":\"failover\",\"group\":\"web\"}\n",
        b"{\"command\":\"standby\",\"force\":true}\n{\"command\":\"resume\"}\n",
        b"{\"command\":\"maintenance\",\"on\":true}\n",
        b"{\"command\":\"disable\",\"server\":\"www1:80\",\"reason\":\"new disk\"}\n",
        b"{\"command\":\"probe\",\"service\":\"web\",\"server\":\"192.0.2.21\"}\n",
        b"\n\n[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
    ]);
    let runtime = runtime();
    hold(config, client(requests), |script| runtime.block_on(in_time(control(&script)))?)
}

/// Every line that comes back is a reply, and a good request after the bad ones is answered by the
/// last.
async fn control(script: &Script) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lb.sock");
    let listener = socket::bind(&lb_model::Control::at(path.clone())).expect("a socket");
    let server = tokio::spawn(socket::serve(listener, requests::fixed(observed::cluster())));
    let (mut reader, mut writer) = UnixStream::connect(&path).await.expect("a connection").into_split();
    let asking = async {
        for piece in &script.pieces {
            writer.write_all(&piece.says).await?;
        }
        writer.write_all(b"\n{\"command\":\"status\"}\n").await?;
        writer.shutdown().await
    };
    let mut replies = Vec::new();
    let (asked, answered) = tokio::join!(asking, reader.read_to_end(&mut replies));
    asked.expect("requests are taken");
    answered.expect("replies come");
    let mut last = None;
    for line in replies.split_inclusive(|byte| *byte == b'\n') {
        let reply = serde_json::from_slice::<Reply>(line);
        prop_assert!(reply.is_ok(), "{reply:?}: {}", String::from_utf8_lossy(line));
        last = reply.ok();
    }
    prop_assert!(matches!(last, Some(Reply::Status(_))), "the last reply is {last:?}");
    server.abort();
    Ok(())
}

fn http_requests() -> Vec<Vec<u8>> {
    samples([
        b"GET /metrics HTTP/1.1\r\nHost: lb\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n",
        b"HEAD http://lb/metrics HTTP/1.1\r\nHost: lb\r\nAccept: text/plain;version=0.0.4\r\n\r\n",
        b"POST /form HTTP/1.1\r\nHost: lb\r\nContent-Length: 5\r\n\r\nhello",
        b"PUT /x?a=%ff%00 HTTP/1.1\r\nHost: lb\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: lb\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: lb\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03",
    ])
}

/// Plays the script to the server there, then asks it for `path` in good order; returns the answer
/// to that.
async fn asked_well_after(script: &Script, server: SocketAddr, path: &str) -> String {
    script.play(TcpStream::connect(server).await.expect("a connection")).await;
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

pub(crate) fn run_metrics(config: Config) -> Result<(), Failed> {
    let runtime = runtime();
    hold(config, client(http_requests()), |script| {
        let answer = runtime.block_on(in_time(async {
            let (listener, address) = listener().await;
            let server = tokio::spawn(http::serve(listener, requests::fixed(observed::cluster()), true));
            let answer = asked_well_after(&script, address, "/healthz").await;
            server.abort();
            answer
        }))?;
        prop_assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(())
    })
}

fn web_requests() -> Vec<Vec<u8>> {
    let mut all = http_requests();
    all.extend(samples([
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /?search=%ff%00&from=18446744073709551615 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /service?name=web&from=99999999999 HTTP/1.1\r\nHost: [::1]:9106\r\n\r\n",
        b"GET /api/v1/servers?limit=1000&offset=18446744073709551615 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /api/v1/events?after=18446744073709551615 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 31\r\n\r\ndo=disable&server=www1&token=%ff",
        b"POST /api/v1/servers/disable HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"server\":\"www1\"}",
    ]));
    all
}

pub(crate) fn run_web(config: Config) -> Result<(), Failed> {
    let runtime = runtime();
    hold(config, client(web_requests()), |script| {
        let answer = runtime.block_on(in_time(async {
            let (listener, address) = listener().await;
            let web = Web { listen: address, tls: None, tokens: None, hosts: Vec::new() };
            let asked =
                Asked { requests: requests::fixed(observed::cluster()), findings: Findings::default() };
            let server = Prepared::new(&web).expect("no files").serve(listener, Arc::new(asked));
            let server = tokio::spawn(server);
            let answer = asked_well_after(&script, address, "/api/v1/openapi.json").await;
            server.abort();
            answer
        }))?;
        prop_assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(())
    })
}

pub(crate) fn run_sorry(config: Config) -> Result<(), Failed> {
    let runtime = runtime();
    hold(config, client(http_requests()), |script| {
        let answer = runtime.block_on(in_time(async {
            let (listener, address) = listener().await;
            let server = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(sorry::serve_one(stream));
                }
            });
            let answer = asked_well_after(&script, address, "/healthz").await;
            server.abort();
            answer
        }))?;
        prop_assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        Ok(())
    })
}

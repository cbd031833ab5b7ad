//! Both sides of the control socket together, and each against a peer that misbehaves.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_api::client::{self, request_status};
use lb_api::status::{ServiceStatus, Status};
use lb_api::trace::{Bounds, End, Filter};

use super::*;
use crate::observe::requests::{self, ControlRequest, Requests};
use crate::observe::samples;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run/lb.sock");
    (folder, path)
}

fn at(path: &Path) -> Control {
    Control::at(path.to_owned())
}

/// A server on `path` that answers with [`samples::cluster`].
fn serving(path: &Path) {
    tokio::spawn(serve(bind(&at(path)).expect("a socket"), requests::fixed(samples::cluster())));
}

/// Runs `client` beside the server, which shares this thread's runtime.
async fn beside<T: Send + 'static>(client: impl FnOnce() -> T + Send + 'static) -> T {
    let running = tokio::task::spawn_blocking(client);
    tokio::time::timeout(Duration::from_secs(60), running).await.expect("an end").expect("no panic")
}

async fn ask(path: &Path) -> anyhow::Result<Status> {
    let path = path.to_owned();
    beside(move || request_status(&path)).await
}

/// Sends `text` and returns the replies, one for each line of it that is not empty.
async fn replies(path: &Path, text: &'static [u8]) -> Vec<Reply> {
    let path = path.to_owned();
    beside(move || {
        let mut stream = StdStream::connect(path).expect("a connection");
        stream.write_all(text).expect("asking");
        stream.shutdown(std::net::Shutdown::Write).expect("closing");
        let lines = BufReader::new(stream).lines();
        lines.map(|line| serde_json::from_str(&line.expect("a line")).expect("a reply")).collect()
    })
    .await
}

fn error(reply: &Reply) -> &str {
    match reply {
        Reply::Error(error) => error,
        _ => panic!("no error: {reply:?}"),
    }
}

#[tokio::test]
async fn status_goes_round() {
    let (_folder, path) = folder();
    serving(&path);
    assert_eq!(ask(&path).await.expect("a status"), samples::cluster());
    let mode = fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn the_status_of_one_service_is_short() {
    let (_folder, path) = folder();
    let mut many = samples::cluster();
    let one = many.services[0].clone();
    many.services = (80..90).map(|port| ServiceStatus { port, ..one.clone() }).collect();
    tokio::spawn(serve(bind(&at(&path)).expect("a socket"), requests::fixed(many)));
    let ports = async |port: u16| {
        let (path, vip) = (path.clone(), one.vip);
        let status = beside(move || client::request_status_of(&path, "tcp", vip, port)).await;
        let services = status.expect("a status").services;
        services.iter().map(|service| service.port).collect::<Vec<u16>>()
    };
    assert_eq!(ports(85).await, [85]);
    assert_eq!(ports(90).await, [0_u16; 0]);
}

#[tokio::test]
async fn the_wire_is_as_documented() {
    let (_folder, path) = folder();
    serving(&path);
    let status = Reply::Status(Box::new(samples::cluster()));
    assert_eq!(replies(&path, b"{\"command\":\"status\"}\n").await, std::slice::from_ref(&status));
    assert_eq!(replies(&path, b"\n \r\n{\"command\":\"status\"}").await, [status], "no newline at the end");
    assert_eq!(serde_json::to_string(&Reply::Error("x".into())).expect("JSON"), r#"{"error":"x"}"#);
}

#[tokio::test]
async fn bad_requests_are_told_and_lose_nothing() {
    let (_folder, path) = folder();
    serving(&path);
    let mut text = b"{\"command\":\"dance\"}\nnot json\n\xff\xfe\n[1]\n".to_vec();
    text.extend(std::iter::repeat_n(b'x', REQUEST_LIMIT + 100_000));
    text.extend(b"\n{\"command\":\"status\"}\n");
    let replies = replies(&path, text.leak()).await;
    assert_eq!(replies.len(), 6, "{replies:?}");
    assert!(error(&replies[0]).contains("unknown variant `dance`"), "{:?}", replies[0]);
    for reply in &replies[..4] {
        assert!(error(reply).starts_with("request not understood: "), "{reply:?}");
    }
    assert_eq!(error(&replies[4]), "request longer than 16777216 bytes");
    assert_eq!(replies[5], Reply::Status(Box::new(samples::cluster())));
}

#[tokio::test]
async fn an_idle_connection_keeps_nobody_waiting() {
    let (_folder, path) = folder();
    serving(&path);
    let _idle = StdStream::connect(&path).expect("a connection");
    ask(&path).await.expect("a status");
}

#[tokio::test]
async fn a_controller_that_is_gone_is_told() {
    let (_folder, path) = folder();
    let (requests, waiting) = Requests::new();
    drop(waiting);
    tokio::spawn(serve(bind(&at(&path)).expect("a socket"), requests));
    let error = ask(&path).await.expect_err("no status").to_string();
    assert!(error.ends_with("answered: the controller has ended"), "{error}");
}

/// Replies to a trace that its director keeps up until it is told to stop.
#[tokio::test]
async fn a_trace_has_replies_until_its_client_has_enough() {
    let (_folder, path) = folder();
    let (requests, mut waiting) = Requests::new();
    tokio::spawn(serve(bind(&at(&path)).expect("a socket"), requests));
    tokio::spawn(async move {
        while let Some(ControlRequest::Trace(_, bounds, reply)) = waiting.recv().await {
            assert_eq!(bounds.count, Some(7));
            let (sender, packets) = tokio::sync::mpsc::channel(4);
            let (stop, enough) = tokio::sync::oneshot::channel();
            reply.send(Ok(Trace { packets, stop })).expect("somebody waits");
            sender.send(Traced::Packets(Vec::new())).await.expect("somebody reads");
            enough.await.expect_err("the client's side is shut down");
            let end = End { told: 0, matched: 3, lost: 1, error: None };
            sender.send(Traced::End(end)).await.expect("somebody reads");
        }
    });
    let end = beside(move || {
        let bounds = Bounds { count: Some(7), ..Bounds::default() };
        let mut trace = client::Trace::begin(&path, Filter::default(), bounds).expect("a connection");
        assert!(matches!(trace.hear().expect("a reply"), Traced::Packets(packets) if packets.is_empty()));
        trace.stop().expect("a handle")();
        match trace.hear().expect("a reply") {
            Traced::End(end) => end,
            other => panic!("no end: {other:?}"),
        }
    });
    assert_eq!(end.await, End { told: 0, matched: 3, lost: 1, error: None });
}

#[tokio::test]
async fn a_trace_that_is_refused_says_why() {
    let (_folder, path) = folder();
    serving(&path);
    let told = replies(&path, b"{\"command\":\"trace\"}\n{\"command\":\"status\"}\n").await;
    assert_eq!((error(&told[0]), told.len()), ("not today", 2), "the connection goes on");
}

#[tokio::test]
async fn a_listing_that_is_refused_says_why() {
    let (_folder, path) = folder();
    serving(&path);
    let told = replies(&path, b"{\"command\":\"connections\"}\n{\"command\":\"status\"}\n").await;
    assert_eq!((error(&told[0]), told.len()), ("not today", 2), "the connection goes on");
}

#[tokio::test]
async fn replaces_a_stale_socket_and_refuses_a_live_one() {
    let (_folder, path) = folder();
    drop(bind(&at(&path)).expect("a socket"));
    assert!(path.exists(), "a listener leaves its socket behind");
    let live = bind(&at(&path)).expect("the place of the stale one");
    let error = bind(&at(&path)).expect_err("somebody is there").to_string();
    assert!(error.starts_with("another process listens on "), "{error}");
    assert!(path.exists(), "and stays there");
    drop(live);
}

#[tokio::test]
async fn leaves_alone_what_is_no_socket() {
    let (folder, _) = folder();
    let path = folder.path().join("precious");
    fs::write(&path, "data").expect("a file");
    let error = bind(&at(&path)).expect_err("a file is there").to_string();
    assert!(error.contains("is no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("a file"), "data");
}

#[tokio::test]
async fn nobody_there_is_told_in_plain_words() {
    let (_folder, path) = folder();
    for _ in 0..2 {
        let error = ask(&path).await.expect_err("nobody listens").to_string();
        let wanted = format!("no lb is listening on {}: is `lb run` running?", path.display());
        assert!(error.starts_with(&wanted), "{error}");
        drop(bind(&at(&path)).expect("a socket, then a stale one"));
    }
}

#[tokio::test]
async fn an_answer_that_is_no_status_is_told() {
    for (answer, wanted) in [
        ("hello\n", "cannot read the answer from"),
        ("", "closed the connection before the end"),
        ("{\"status\":", "closed the connection before the end"),
    ] {
        let (folder, _) = folder();
        let path = folder.path().join("other.sock");
        let listener = StdListener::bind(&path).expect("a socket");
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut stream = BufReader::new(stream);
            stream.read_line(&mut String::new()).expect("a request");
            stream.get_mut().write_all(answer.as_bytes()).expect("answering");
        });
        let error = ask(&path).await.expect_err("no status").to_string();
        assert!(error.contains(wanted), "{answer:?}: {error}");
        server.join().expect("no panic");
    }
}

#[tokio::test]
async fn the_socket_belongs_to_whom_the_configuration_names() {
    let (_folder, path) = folder();
    // Root may give it to others, all others to themselves.
    let is_root = Uid::effective().is_root();
    let owner = if is_root { 65_534 } else { Uid::effective().as_raw() };
    let group = if is_root { 65_533 } else { Gid::effective().as_raw() };
    let control =
        Control { owner: Some(owner.to_string()), group: Some(group.to_string()), mode: 0o600, ..at(&path) };
    let _socket = bind(&control).expect("a socket");
    let found = fs::metadata(&path).expect("a socket");
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (owner, group, 0o600));
    fs::remove_file(&path).expect("it goes");
    let error =
        bind(&Control { owner: Some("nosuchuser".to_owned()), ..at(&path) }).expect_err("there is none");
    assert!(format!("{error:#}").contains("there is no user nosuchuser"), "{error:#}");
}

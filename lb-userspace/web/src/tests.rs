//! The server, asked over real connections; behind it a director that only remembers what it was
//! asked.
//!
//! - `api`: lists, problems, orders, the document; `page`: what people see; `tls`: certificates

mod api;
mod page;
mod tls;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lb_api::connections::{Bounds, Connection, End, Filter};
use lb_api::difference::{Difference, Kind};
use lb_api::events::{Level, Record};
use lb_api::samples;
use lb_api::status::{Accepted, Move, ProbeReport, Status};
use lb_api::top::TopClient;
use lb_api::wire::{LeftOut, Overlay, Replaced, Reply, Request, ServerRequest};
use lb_model::overlay::{CLI, Change, NewService, Overlays};
use lb_model::{Forwarding, Web};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{Answer, Director, Listing, NoListing, Prepared};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A director that says what it was given.
struct Fixed {
    status: Mutex<Option<Status>>,
    events: Vec<Record>,
    asked: Mutex<Vec<Request>>,
    noted: Mutex<Vec<Record>>,
}

impl Director for Fixed {
    fn ask(&self, request: Request) -> Answer<'_> {
        Box::pin(async move {
            let Some(status) = self.status.lock().expect("no panic").clone() else {
                anyhow::bail!("the controller has ended");
            };
            let reply = match &request {
                Request::Status => return Ok(Reply::Status(Box::new(status))),
                Request::Events { .. } => return Ok(Reply::Events(self.events.clone())),
                Request::Drain(ServerRequest { server, .. }) if server == "nobody" => {
                    Reply::Error("no service has a server nobody".to_owned())
                }
                Request::Drain(ServerRequest { server, .. }) => Reply::Done(format!("{server} is drained")),
                Request::Probe { .. } => Reply::Probes(vec![report()]),
                Request::Failover { .. }
                | Request::Failback { .. }
                | Request::Standby { .. }
                | Request::Resume
                | Request::Maintenance { .. } => Reply::Accepted(Accepted {
                    moves: vec![Move { group: "web".into(), from: "ha1".into() }],
                    note: None,
                }),
                Request::Reload => Reply::Differences(Vec::new()),
                Request::Changes { .. } | Request::ClearOverlay { .. } | Request::Diff => {
                    Reply::Differences(vec![difference("web", "211.58.250.6:80")])
                }
                Request::Overlay { to_save: false } => return Ok(Reply::Overlay(overlay())),
                Request::TopClients => return Ok(Reply::TopClients(vec![client(); 3])),
                Request::TestAlerts { .. } => Reply::AlertTests(Vec::new()),
                Request::ReplaceSource { services, .. } => Reply::Replaced(replaced(services)),
                _ => Reply::Done("done".to_owned()),
            };
            self.asked.lock().expect("no panic").push(request);
            Ok(reply)
        })
    }

    fn list(&self, filter: Filter, bounds: Bounds) -> Listing<'_> {
        Box::pin(async move {
            match filter.service.as_deref() {
                Some("nothing") => {
                    return Ok(Err(NoListing::Wrong("there is no service \"nothing\"".to_owned())));
                }
                Some("much") => return Ok(Err(NoListing::Busy("4 listings are under way".to_owned()))),
                _ => {}
            }
            let of_client =
                |one: &Connection| filter.client.as_ref().is_none_or(|ip| *ip == one.client.to_string());
            let all = connections().into_iter().filter(of_client).skip(bounds.from as usize);
            let limit = bounds.limit.unwrap_or(u64::MAX) as usize;
            let mut found: Vec<Connection> = all.collect();
            let next = (found.len() > limit).then(|| bounds.from + limit as u64);
            found.truncate(limit);
            let end = End { next, listed: found.len() as u64 };
            Ok(Ok((found, end)))
        })
    }

    fn note(&self, record: Record) {
        self.noted.lock().expect("no panic").push(record);
    }
}

/// Three connections of two clients.
fn connections() -> Vec<Connection> {
    let of = |client: [u8; 4], client_port| Connection {
        protocol: "tcp".into(),
        client: client.into(),
        client_port,
        vip: [211, 58, 250, 6].into(),
        port: 80,
        server_address: Some([211, 58, 250, 25].into()),
        server_port: Some(80),
        service: Some("web".into()),
        server: "www1".into(),
        method: Some(Forwarding::Direct),
        state: "ESTABLISHED".into(),
        expires_in_s: 890,
    };
    vec![of([192, 0, 2, 7], 40_001), of([192, 0, 2, 8], 40_002), of([192, 0, 2, 7], 40_003)]
}

fn difference(service: &str, vip: &str) -> Difference {
    let (subject, to) = (format!("service {service}"), Some(vip.to_owned()));
    Difference { kind: Kind::Added, subject, key: None, from: None, to }
}

fn client() -> TopClient {
    TopClient {
        client: "192.0.2.7".to_owned(),
        service: "web".to_owned(),
        connections: 3,
        new_per_second: None,
        packets_per_second: Some(2.0),
        refused_per_second: 0.0,
        limited: 0,
        denied: 0,
    }
}

fn overlay() -> Overlay {
    let change = Change::RemoveService { service: "mail".to_owned() };
    let sources = Overlays::from([(CLI.to_owned(), vec![change])]);
    Overlay { config: PathBuf::from("/etc/lb/lb.yaml"), sources, saving: None }
}

/// The first service is left out, all others come.
fn replaced(services: &[NewService]) -> Replaced {
    let (first, others) = services.split_at(services.len().min(1));
    let left_out =
        first.iter().map(|service| LeftOut { service: service.called(), why: "it is there".into() });
    let differences = others.iter().map(|service| difference(&service.called(), &service.vip));
    Replaced { differences: differences.collect(), left_out: left_out.collect() }
}

fn report() -> ProbeReport {
    ProbeReport {
        check: "http".into(),
        target: ([211, 58, 250, 25], 80).into(),
        via_vip: false,
        took_us: 1234,
        steps: Vec::new(),
        warning: None,
        advice: None,
        failure: Some("status 500".into()),
    }
}

/// A served director.
struct Served {
    address: SocketAddr,
    director: Arc<Fixed>,
    folder: tempfile::TempDir,
}

/// The talk's directors, with three events.
fn status() -> Status {
    let findings = vec![samples::finding("vip_claimed", "211.58.250.6")];
    Status { cluster: Some(samples::directors()), findings, ..samples::cluster() }
}

fn events() -> Vec<Record> {
    (0..3_u64)
        .map(|number| Record {
            number,
            time: format!("2026-07-12T08:30:0{number}.000Z"),
            ..Record::new(Level::Info, "server_up", format!("event {number}")).server("www1")
        })
        .collect()
}

impl Served {
    async fn new(status: Status) -> Self {
        Self::with(status, |_| {}).await
    }

    /// With tokens: alice's is [`TOKEN`].
    async fn with_tokens(status: Status) -> Self {
        Self::with(status, |web| web.tokens = Some(PathBuf::from("tokens"))).await
    }

    async fn with(status: Status, change: impl FnOnce(&mut Web)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut web = Web { listen: ([127, 0, 0, 1], 0).into(), tls: None, tokens: None, hosts: Vec::new() };
        change(&mut web);
        if let Some(tokens) = &mut web.tokens {
            *tokens = folder.path().join(&tokens);
            std::fs::write(&*tokens, format!("alice {TOKEN}\n")).expect("a file");
            std::fs::set_permissions(&*tokens, PermissionsExt::from_mode(0o600)).expect("chmod");
        }
        let director = Arc::new(Fixed {
            status: Mutex::new(Some(status)),
            events: events(),
            asked: Mutex::default(),
            noted: Mutex::default(),
        });
        let listener = TcpListener::bind(web.listen).await.expect("a port on loopback");
        let address = listener.local_addr().expect("an address");
        let prepared = Prepared::new(&web).expect("its files");
        let asked: Arc<dyn Director> = Arc::clone(&director) as Arc<dyn Director>;
        tokio::spawn(prepared.serve(listener, asked));
        Self { address, director, folder }
    }

    async fn get(&self, path: &str) -> Heard {
        // The first snapshot may not be there yet.
        for _ in 0..200 {
            let heard = self.ask("GET", path, &[], "").await;
            if heard.status != 503 {
                return heard;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        self.ask("GET", path, &[], "").await
    }

    async fn order(&self, path: &str, token: Option<&str>, body: &str) -> Heard {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(bearer.as_ref().map(|bearer| ("Authorization", &**bearer)));
        self.ask("POST", path, &headers, body).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Heard {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        converse(stream, method, path, headers, body).await
    }

    fn asked(&self) -> Vec<Request> {
        self.director.asked.lock().expect("no panic").clone()
    }

    fn noted(&self) -> Vec<Record> {
        self.director.noted.lock().expect("no panic").clone()
    }
}

/// An answer.
#[derive(Debug)]
struct Heard {
    status: u16,
    /// In lower case.
    header: String,
    body: String,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The detail of a problem.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.header.contains("content-type: application/problem+json"), "{}", self.header);
        let problem = self.json();
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().expect("a detail").to_owned()
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Heard {
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += "Host: localhost\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.expect("asking");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (header, body) = answer.split_once("\r\n\r\n").expect("an empty line");
    let status = header.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = match header.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => panic!("chunked: {header}"),
        false => body.to_owned(),
    };
    Heard { status, header: header.to_ascii_lowercase(), body }
}

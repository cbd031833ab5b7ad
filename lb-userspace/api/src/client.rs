//! The client of the control socket. Blocking, for a command-line tool.

use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use lb_model::overlay::{Change, NewService, Overlays};

use crate::connections::{self, Connection};
use crate::difference::Difference;
use crate::events::Record;
use crate::status::{Accepted, AlertTest, ProbeReport, Status};
use crate::top::TopClient;
use crate::trace::{Bounds, End, Filter, Frame, Packet};
use crate::wire::{Overlay, Replaced, Reply, Request};

/// Time limit of a request; the director's own limit for a snapshot is 2 s.
const PATIENCE: Duration = Duration::from_secs(5);
/// The director walks over the whole connection table first.
const LONGEST_WALK: Duration = Duration::from_secs(65);

/// Time limit of a probe: a check's time-out may be an hour. The operator can interrupt the
/// command.
const LONGEST_CHECK: Duration = Duration::from_secs(60 * 60 + 5);

/// The director gives up an attempt to deliver a message after 30 s.
const LONGEST_DELIVERY: Duration = Duration::from_secs(35);

/// The director reads and compares a file with thousands of services.
const LONGEST_RELOAD: Duration = Duration::from_secs(65);

/// Replies of which none comes for so long have lost their director: of a trace it sends an empty
/// list of packets every second, and a listing's parts follow each other.
const SILENCE: Duration = Duration::from_secs(30);

/// Maximum length of a reply, enough for some hundred thousand servers.
const REPLY_LIMIT: u64 = 256 * 1024 * 1024;

/// No director listens on this control socket.
#[derive(Debug)]
pub struct NoDirector(PathBuf);

impl Error for NoDirector {}

impl fmt::Display for NoDirector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no lb is listening on {}: is `lb run` running? (if its configuration has another control socket, give it \
             with --socket)",
            self.0.display()
        )
    }
}

/// This user may not use the control socket.
#[derive(Debug)]
pub struct NoPermission(PathBuf);

impl Error for NoPermission {}

impl fmt::Display for NoPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no permission to use {}: only root and the socket's group have access; try sudo",
            self.0.display()
        )
    }
}

/// Requests the status of the `lb` that listens on `path`.
pub fn request_status(path: &Path) -> anyhow::Result<Status> {
    match request(path, &Request::Status)? {
        Reply::Status(status) => Ok(*status),
        other => Err(unexpected(path, other)),
    }
}

/// Requests the status with the services at this address alone, for whoever asks thousands of
/// times.
pub fn request_status_of(path: &Path, protocol: &str, vip: IpAddr, port: u16) -> anyhow::Result<Status> {
    match request(path, &Request::StatusOf { protocol: protocol.to_owned(), vip, port })? {
        Reply::Status(status) => Ok(*status),
        // A director of an earlier version.
        Reply::Error(_) => request_status(path),
        other => Err(unexpected(path, other)),
    }
}

/// Requests the last events, oldest first; only those behind `after`, if the director knows it.
pub fn request_events(path: &Path, after: Option<u64>) -> anyhow::Result<Vec<Record>> {
    match request(path, &Request::Events { after })? {
        Reply::Events(events) => Ok(events),
        other => Err(unexpected(path, other)),
    }
}

/// Requests which clients do most, or are refused most, whoever does most first. Takes a second or
/// more.
pub fn request_top_clients(path: &Path) -> anyhow::Result<Vec<TopClient>> {
    match request_within(path, &Request::TopClients, LONGEST_WALK)? {
        Reply::TopClients(clients) => Ok(clients),
        Reply::Error(error) => bail!("{error}"),
        other => Err(unexpected(path, other)),
    }
}

/// Sends a command for groups and returns its result. A refusal is an error with the director's
/// message.
pub fn request_order(path: &Path, order: &Request) -> anyhow::Result<Accepted> {
    match request(path, order)? {
        Reply::Accepted(accepted) => Ok(accepted),
        Reply::Error(error) => bail!("{error}"),
        other => Err(unexpected(path, other)),
    }
}

/// Enables or disables a server, or zeroes counters, and returns the director's message. A refusal
/// is an error with its message.
pub fn request_server_order(path: &Path, order: &Request) -> anyhow::Result<String> {
    match request(path, order)? {
        Reply::Done(message) => Ok(message),
        Reply::Error(error) => bail!("{error}"),
        other => Err(unexpected(path, other)),
    }
}

/// Runs the checks of a server once and returns their results. A refusal is an error with the
/// director's message.
pub fn request_probe(path: &Path, service: &str, server: &str) -> anyhow::Result<Vec<ProbeReport>> {
    let probe = Request::Probe { service: service.to_owned(), server: server.to_owned() };
    match request_within(path, &probe, LONGEST_CHECK)? {
        Reply::Probes(reports) => Ok(reports),
        Reply::Error(error) => bail!("{error}"),
        other => Err(unexpected(path, other)),
    }
}

/// Has a test message sent to a receiver of alerts, or to all, and returns what came of it.
pub fn request_alert_test(path: &Path, receiver: Option<String>) -> anyhow::Result<Vec<AlertTest>> {
    match request_within(path, &Request::TestAlerts { receiver }, LONGEST_DELIVERY)? {
        Reply::AlertTests(tests) => Ok(tests),
        Reply::Error(error) => bail!("{error}"),
        other => Err(unexpected(path, other)),
    }
}

/// Has the director read its configuration file again and returns what that has changed. A refusal
/// is an error with the director's message.
pub fn request_reload(path: &Path) -> anyhow::Result<Vec<Difference>> {
    differences(path, &Request::Reload)
}

/// Returns what a reload would change. A file that would be refused is an error with the director's
/// message.
pub fn request_diff(path: &Path) -> anyhow::Result<Vec<Difference>> {
    differences(path, &Request::Diff)
}

/// Changes the configuration at run time and returns what that has changed.
pub fn request_change(path: &Path, source: &str, change: Change) -> anyhow::Result<Vec<Difference>> {
    differences(path, &Request::Change { source: source.to_owned(), change })
}

/// Makes several changes as one and returns what they have changed.
pub fn request_changes(path: &Path, source: &str, changes: Vec<Change>) -> anyhow::Result<Vec<Difference>> {
    differences(path, &Request::Changes { source: source.to_owned(), changes })
}

/// Makes these the services of a source, in place of all that it has changed before. A refusal of
/// all is an error with the director's message.
pub fn request_replacement(path: &Path, source: &str, services: Vec<NewService>) -> anyhow::Result<Replaced> {
    let request = Request::ReplaceSource { source: source.to_owned(), services };
    match request_within(path, &request, LONGEST_RELOAD)? {
        Reply::Replaced(replaced) => Ok(replaced),
        Reply::Error(error) => bail!("{error}"),
        other => Err(unexpected(path, other)),
    }
}

/// Undoes the changes of a source, or of all, and returns what that has changed. `saved`: only if
/// nothing else was changed.
pub fn request_clear_overlay(
    path: &Path,
    source: Option<String>,
    saved: Option<Overlays>,
) -> anyhow::Result<Vec<Difference>> {
    differences(path, &Request::ClearOverlay { source, saved })
}

/// Returns what was changed at run time; `to_save`: with what is to be written into the files.
pub fn request_overlay(path: &Path, to_save: bool) -> anyhow::Result<Overlay> {
    match request(path, &Request::Overlay { to_save })? {
        Reply::Overlay(overlay) => Ok(overlay),
        other => Err(unexpected(path, other)),
    }
}

fn differences(path: &Path, request: &Request) -> anyhow::Result<Vec<Difference>> {
    match request_within(path, request, LONGEST_RELOAD)? {
        Reply::Differences(found) => Ok(found),
        Reply::Error(error) => bail!("{error}"),
        other => Err(unexpected(path, other)),
    }
}

/// Replies that come one after the other.
#[derive(Debug)]
struct Replies {
    replies: BufReader<UnixStream>,
    path: PathBuf,
}

impl Replies {
    fn begin(path: &Path, request: &Request) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path).map_err(|error| not_connected(path, error))?;
        let told = ask(&stream, request, SILENCE);
        told.map_err(|error| anyhow!("cannot ask lb on {}: {error}", path.display()))?;
        Ok(Self { replies: BufReader::new(stream), path: path.to_owned() })
    }

    /// Waits for the next one. A refusal is an error with the director's message.
    fn hear(&mut self) -> anyhow::Result<Reply> {
        let mut text = Vec::new();
        let read = (&mut self.replies).take(REPLY_LIMIT).read_until(b'\n', &mut text);
        read.map_err(|error| anyhow!("cannot hear lb on {}: {error}", self.path.display()))?;
        match parse(&self.path, &text)? {
            Reply::Error(error) => bail!("{error}"),
            reply => Ok(reply),
        }
    }
}

/// Lists a part of the connection table: hands over its connections as they come, and returns its
/// end.
pub fn list_connections(
    path: &Path,
    filter: &connections::Filter,
    bounds: connections::Bounds,
    mut found: impl FnMut(Vec<Connection>) -> anyhow::Result<()>,
) -> anyhow::Result<connections::End> {
    let mut replies = Replies::begin(path, &Request::Connections { filter: filter.clone(), bounds })?;
    loop {
        match replies.hear()? {
            Reply::Connections(some) => found(some)?,
            Reply::ListingEnded(end) => return Ok(end),
            other => return Err(unexpected(path, other)),
        }
    }
}

/// A trace that goes on: its packets come as they are told.
#[derive(Debug)]
pub struct Trace(Replies);

/// What comes of a trace.
#[derive(Debug)]
pub enum Traced {
    Packets(Vec<Packet>),
    Frames(Vec<Frame>),
    End(End),
}

impl Trace {
    /// Has the director begin.
    pub fn begin(path: &Path, filter: Filter, bounds: Bounds) -> anyhow::Result<Self> {
        Replies::begin(path, &Request::Trace { filter, bounds }).map(Self)
    }

    /// A handle by which another thread asks for the end: [`Self::hear`] returns it soon after.
    pub fn stop(&self) -> io::Result<impl FnOnce() + Send + use<>> {
        let stream = self.0.replies.get_ref().try_clone()?;
        Ok(move || drop(stream.shutdown(Shutdown::Write)))
    }

    /// Waits for more. A refusal is an error with the director's message.
    pub fn hear(&mut self) -> anyhow::Result<Traced> {
        match self.0.hear()? {
            Reply::Packets(packets) => Ok(Traced::Packets(packets)),
            Reply::Frames(frames) => Ok(Traced::Frames(frames)),
            Reply::TraceEnded(end) => Ok(Traced::End(end)),
            other => Err(unexpected(&self.0.path, other)),
        }
    }
}

fn unexpected(path: &Path, reply: Reply) -> anyhow::Error {
    match reply {
        Reply::Error(error) => anyhow!("lb on {} answered: {error}", path.display()),
        _ => anyhow!("lb on {} sent an answer of another type than requested", path.display()),
    }
}

fn request(path: &Path, request: &Request) -> anyhow::Result<Reply> {
    request_within(path, request, PATIENCE)
}

fn request_within(path: &Path, request: &Request, patience: Duration) -> anyhow::Result<Reply> {
    let stream = UnixStream::connect(path).map_err(|error| not_connected(path, error))?;
    let shown = path.display();
    let text = exchange(stream, request, patience).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            anyhow!("lb on {shown} does not answer within {} s", patience.as_secs())
        }
        _ => anyhow!("cannot ask lb on {shown}: {error}"),
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &[u8]) -> anyhow::Result<Reply> {
    let shown = path.display();
    if !text.ends_with(b"\n") {
        bail!("lb on {shown} closed the connection before the end of its answer");
    }
    serde_json::from_slice(text).with_context(|| {
        format!("cannot read the answer from {shown}: does another version of lb run there?")
    })
}

/// Sends a request; each read of its replies may take `patience`.
fn ask(mut stream: &UnixStream, request: &Request, patience: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn exchange(stream: UnixStream, request: &Request, patience: Duration) -> io::Result<Vec<u8>> {
    ask(&stream, request, patience)?;
    let mut text = Vec::new();
    BufReader::new(stream.take(REPLY_LIMIT)).read_until(b'\n', &mut text)?;
    Ok(text)
}

fn not_connected(path: &Path, error: io::Error) -> anyhow::Error {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => NoDirector(path.to_owned()).into(),
        ErrorKind::PermissionDenied => NoPermission(path.to_owned()).into(),
        _ => anyhow!("cannot connect to {shown}: {error}"),
    }
}

//! The controller's side of the control socket.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use lb_api::client::Traced;
use lb_api::wire::{Reply, Request};
use lb_cluster::standing::Wish;
use lb_model::Control;
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tracing::{debug, warn};

use crate::observe::requests::{Lines, Order, ProbeOrder, Requests, ServerOrder, Trace};

/// Longest request there can be, in bytes: `ipvsadm -R` brings all services and servers at once.
const REQUEST_LIMIT: usize = 16 * 1024 * 1024;

/// A connection on which nothing is asked, or whose replies nobody takes, is closed after this
/// long.
const IDLE: Duration = Duration::from_secs(60);

/// Listens on the control socket, in a tokio runtime. Makes the folder it is in, and takes the
/// place of a socket that nobody listens on.
///
/// # Errors
/// If another process listens there, something that is no socket is in the place, or it cannot be
/// given to whom the configuration names.
pub(crate) fn bind(control: &Control) -> anyhow::Result<UnixListener> {
    let path = &*control.socket;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    }
    clear(path)?;
    let listener = UnixListener::bind(path).with_context(|| format!("listening on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(control.mode))
        .with_context(|| format!("setting the mode of {}", path.display()))?;
    // After that: the mode of what another user owns only CAP_FOWNER may change.
    give(control).with_context(|| format!("giving {} to its owner and group", path.display()))?;
    Ok(listener)
}

/// Gives the socket to the owner and the group that the configuration names.
fn give(control: &Control) -> anyhow::Result<()> {
    let Control { socket, owner, group, mode: _ } = control;
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    let number = |name: &str| name.parse::<u32>().ok();
    let owner = owner.as_deref().map(|name| match number(name) {
        Some(number) => anyhow::Ok(Uid::from_raw(number)),
        None => Ok(User::from_name(name)?.with_context(|| format!("there is no user {name}"))?.uid),
    });
    let group = group.as_deref().map(|name| match number(name) {
        Some(number) => anyhow::Ok(Gid::from_raw(number)),
        None => Ok(Group::from_name(name)?.with_context(|| format!("there is no group {name}"))?.gid),
    });
    match nix::unistd::chown(socket, owner.transpose()?, group.transpose()?) {
        Err(Errno::EPERM) => bail!(
            "lb may not do that: `control: owner, group` take CAP_CHOWN; under systemd add it to CapabilityBoundingSet"
        ),
        result => Ok(result?),
    }
}

/// Removes a socket that nobody listens on.
fn clear(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let is_socket = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type().is_socket(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("looking at {shown}")),
    };
    if !is_socket {
        bail!("{shown} is in the way and is no socket: move it, or name another control socket");
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => bail!("another process listens on {shown}: is lb running already?"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("removing the stale socket {shown}"))
        }
        Err(error) => Err(error).with_context(|| format!("seeing whether anyone listens on {shown}")),
    }
}

/// Answers requests for as long as it is polled.
pub(crate) async fn serve(listener: UnixListener, requests: Requests) -> anyhow::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, requests).await {
                        debug!("control connection: {error}");
                    }
                });
            }
            Err(error) => {
                // Descriptors may have run out; they come back, the socket would not.
                warn!("accepting on the control socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers the requests of one connection, in their order.
async fn converse(stream: UnixStream, requests: Requests) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let reply = match tokio::time::timeout(IDLE, read_line(&mut reader)).await?? {
            Line::End => return Ok(()),
            Line::TooLong => Reply::Error(format!("request longer than {REQUEST_LIMIT} bytes")),
            Line::Text(line) if line.trim_ascii().is_empty() => continue,
            Line::Text(line) => match answer(&line, &requests).await {
                Answer::One(reply) => *reply,
                Answer::Trace(trace) => tell(trace, &mut reader, &mut writer).await?,
                Answer::Lines(mut lines) => {
                    while let Some(line) = lines.recv().await {
                        write_text(&mut writer, &line).await?;
                    }
                    continue;
                }
            },
        };
        write(&mut writer, &reply).await?;
    }
}

async fn write(writer: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut text = serde_json::to_vec(reply)?;
    text.push(b'\n');
    write_text(writer, &text).await
}

async fn write_text(writer: &mut OwnedWriteHalf, text: &[u8]) -> io::Result<()> {
    tokio::time::timeout(IDLE, writer.write_all(text)).await?
}

/// Writes what a trace tells until it ends; that is its last reply. Whatever the client sends
/// meanwhile, or its leaving, ends it.
async fn tell(
    trace: Trace,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<Reply> {
    let Trace { mut packets, stop } = trace;
    let mut stop = Some(stop);
    loop {
        let traced = tokio::select! {
            traced = packets.recv() => traced,
            _ = reader.fill_buf(), if stop.is_some() => {
                drop(stop.take());
                continue;
            }
        };
        match traced {
            Some(Traced::Packets(packets)) => write(writer, &Reply::Packets(packets)).await?,
            Some(Traced::Frames(frames)) => write(writer, &Reply::Frames(frames)).await?,
            Some(Traced::End(end)) => return Ok(Reply::TraceEnded(end)),
            None => return Ok(Reply::Error("the director has ended the trace".to_owned())),
        }
    }
}

/// What comes of a request.
enum Answer {
    One(Box<Reply>),
    Trace(Trace),
    Lines(Lines),
}

async fn answer(line: &[u8], requests: &Requests) -> Answer {
    let reply = match serde_json::from_slice(line) {
        Ok(Request::Trace { filter, bounds }) => match requests.trace(filter, bounds).await {
            Ok(Ok(trace)) => return Answer::Trace(trace),
            Ok(Err(why)) => Reply::Error(why),
            Err(error) => Reply::Error(format!("{error:#}")),
        },
        Ok(Request::Connections { filter, bounds }) => match requests.connections(filter, bounds).await {
            Ok(Ok(lines)) => return Answer::Lines(lines),
            Ok(Err(none)) => Reply::Error(none.to_string()),
            Err(error) => Reply::Error(format!("{error:#}")),
        },
        Ok(request) => {
            fulfil(request, requests).await.unwrap_or_else(|error| Reply::Error(format!("{error:#}")))
        }
        Err(error) => {
            Reply::Error(format!("request not understood: {error}; try {{\"command\":\"status\"}}"))
        }
    };
    Answer::One(Box::new(reply))
}

/// Has the controller fulfil a request that has one reply.
///
/// # Errors
/// The controller does not answer; a refusal is a reply.
pub(crate) async fn fulfil(request: Request, requests: &Requests) -> anyhow::Result<Reply> {
    let cluster = async |order| anyhow::Ok(requests.order(order).await?.map(Reply::Accepted));
    let server = async |about, wish| {
        anyhow::Ok(requests.order_server(ServerOrder { about, wish }).await?.map(Reply::Done))
    };
    let answer = match request {
        Request::Status => Ok(Reply::Status(Box::new(requests.status().await?))),
        Request::StatusOf { protocol, vip, port } => {
            let mut status = requests.status().await?;
            let place = (protocol.as_str(), vip, port);
            status.services.retain(|one| (one.protocol.as_str(), one.vip, one.port) == place);
            status.overlay.clear();
            Ok(Reply::Status(Box::new(status)))
        }
        Request::Events { after } => Ok(Reply::Events(requests.events(after).await?)),
        Request::Reload => requests.reload().await?.map(Reply::Differences),
        Request::Overlay { to_save } => Ok(Reply::Overlay(requests.overlay(to_save).await?)),
        Request::Change { source, change } => {
            requests.change(source, vec![change]).await?.map(Reply::Differences)
        }
        Request::Changes { source, changes } => {
            requests.change(source, changes).await?.map(Reply::Differences)
        }
        Request::ReplaceSource { source, services } => {
            requests.replace_source(source, services).await?.map(Reply::Replaced)
        }
        Request::Zero { service } => requests.zero(service).await?.map(Reply::Done),
        Request::ClearOverlay { source, saved } => {
            requests.clear_overlay(source, saved).await?.map(Reply::Differences)
        }
        Request::Diff => requests.diff().await?.map(Reply::Differences),
        Request::TopClients => requests.top_clients().await?.map(Reply::TopClients),
        Request::Failover { group } => cluster(Order::Failover(group)).await?,
        Request::Failback { group } => cluster(Order::Failback(group)).await?,
        Request::Standby { force } => cluster(Order::Standby { force }).await?,
        Request::Resume => cluster(Order::Resume).await?,
        Request::Maintenance { on, force } => cluster(Order::Maintenance { on, force }).await?,
        Request::Stop { release } => requests.stop(release).await?.map(Reply::Done),
        Request::Drain(about) => server(about, Wish::Drain).await?,
        Request::Enable(about) => server(about, Wish::Serve).await?,
        Request::Weight { about, weight } => {
            server(about, weight.map_or(Wish::ConfiguredWeight, Wish::Weight)).await?
        }
        Request::Probe { service, server } => {
            requests.probe(ProbeOrder { service, server }).await?.map(Reply::Probes)
        }
        Request::TestAlerts { receiver } => requests.test_alerts(receiver).await?.map(Reply::AlertTests),
        Request::Trace { .. } | Request::Connections { .. } => {
            Err("a trace or a listing has replies of its own".to_owned())
        }
    };
    Ok(answer.unwrap_or_else(Reply::Error))
}

/// One line of a connection.
enum Line {
    Text(Vec<u8>),
    /// It was longer than a request can be, and has been skipped.
    TooLong,
    End,
}

/// Reads the next line; keeps at most [`REQUEST_LIMIT`] bytes of it.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Line> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let piece = reader.fill_buf().await?;
        let (length, ended) = match piece.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at, true),
            None => (piece.len(), false),
        };
        let eof = piece.is_empty();
        too_long |= line.len() + length > REQUEST_LIMIT;
        if too_long {
            line = Vec::new();
        } else {
            line.extend_from_slice(&piece[..length]);
        }
        reader.consume(length + usize::from(ended));
        if eof && line.is_empty() && !too_long {
            return Ok(Line::End);
        }
        if ended || eof {
            return Ok(if too_long { Line::TooLong } else { Line::Text(line) });
        }
    }
}

#[cfg(test)]
mod tests;

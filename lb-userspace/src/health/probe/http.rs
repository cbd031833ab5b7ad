//! HTTP/1.1: `GET path` answers with the wanted status and, if asked for, the wanted text.

use std::net::{IpAddr, SocketAddr};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::{Answer, Attempt, Failure, Limit};
use crate::config::{HttpProbe, ServiceKey};

/// How much of a body is looked through; a page that has not said its text by then is taken not to have it.
pub const BODY_LIMIT: usize = 256 * 1024;

const USER_AGENT: &str = concat!("lb/", env!("CARGO_PKG_VERSION"));

/// Fetches the page. Redirects are not followed: they are answers like any other.
pub async fn probe(attempt: &Attempt<'_>, check: &HttpProbe) -> Result<Answer, Failure> {
    let request = request(check, attempt)?;
    let limit = attempt.limit;
    let stream = attempt.connect().await?;
    let (mut sender, connection) = limit
        .wait(http1::handshake(TokioIo::new(stream)), Failure::NoAnswer)
        .await?
        .map_err(|error| header_failure(&error))?;

    let exchange = async {
        let response = limit
            .wait(sender.send_request(request), Failure::NoAnswer)
            .await?
            .map_err(|error| header_failure(&error))?;
        judge(check, response, attempt).await
    };
    // The connection is driven here and not by a task of its own, so that dropping this future closes the socket.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        result = &mut exchange => return result,
        // It ends first when the server closes; the answer is read then. Its errors reach the exchange as well.
        _ = connection => {}
    }
    exchange.await
}

fn request(check: &HttpProbe, attempt: &Attempt<'_>) -> Result<Request<Empty<Bytes>>, Failure> {
    let host = match &check.host {
        Some(host) => host.clone(),
        None => default_host(attempt.subject.service),
    };
    Request::builder()
        .method(check.method.name())
        .uri(&check.request)
        .header("host", &host)
        .header("user-agent", USER_AGENT)
        .header("accept", "*/*")
        .header("connection", "close")
        .body(Empty::new())
        .map_err(|error| Failure::Wrong(format!("cannot ask for '{}' of '{host}': {error}", check.request)))
}

/// The Host header of a client that has the VIP for a name (RFC 9110 section 7.2).
fn default_host(service: ServiceKey) -> String {
    match (service.vip, service.port) {
        (IpAddr::V4(vip), 80) => vip.to_string(),
        (IpAddr::V6(vip), 80) => format!("[{vip}]"),
        (vip, port) => SocketAddr::new(vip, port).to_string(),
    }
}

async fn judge(
    check: &HttpProbe,
    response: Response<Incoming>,
    attempt: &Attempt<'_>,
) -> Result<Answer, Failure> {
    let status = response.status();
    attempt.step(format!("got status {}", status.as_u16()));
    if !check.status.contain(status.as_u16()) {
        return Err(Failure::Status { got: status.as_u16(), wanted: check.status.clone() });
    }
    if let Some(text) = &check.wanted.text {
        find(text, response.into_body(), attempt.limit).await?;
    }
    Ok(Answer::default())
}

/// Reads the body until it has said `text`.
async fn find(text: &str, mut body: Incoming, limit: Limit) -> Result<(), Failure> {
    let mut finder = Finder::new(text);
    while finder.seen < BODY_LIMIT {
        let seen = finder.seen;
        let late = |within| Failure::TextLate { text: text.to_owned(), seen, within };
        let frame = match limit.wait(body.frame(), late).await? {
            None => return Err(Failure::TextMissing { text: text.to_owned(), seen, whole: true }),
            Some(Err(_)) => return Err(Failure::BodyBroken { text: text.to_owned(), seen }),
            Some(Ok(frame)) => frame,
        };
        if frame.data_ref().is_some_and(|chunk| finder.feed(chunk)) {
            return Ok(());
        }
    }
    Err(Failure::TextMissing { text: text.to_owned(), seen: finder.seen, whole: false })
}

const HEADER: &str = "answer's header";

/// What an error before the answer's header means.
fn header_failure(error: &hyper::Error) -> Failure {
    if error.is_incomplete_message() || error.is_canceled() {
        return Failure::Closed { wanted: HEADER };
    }
    if error.is_parse() {
        return Failure::NotHttp(error.to_string());
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match source.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe) => {
            Failure::Reset { wanted: HEADER }
        }
        _ => Failure::Wrong(error.to_string()),
    }
}

/// Looks for a text in a body that comes in pieces; keeps no more of it than the text is long.
struct Finder<'a> {
    text: &'a [u8],
    /// The end of what was seen, for a text across the border of two pieces: less than the text's length.
    tail: Vec<u8>,
    /// Bytes fed so far.
    seen: usize,
}

impl<'a> Finder<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), tail: Vec::new(), seen: 0 }
    }

    /// Takes the next piece; true once the text was there.
    fn feed(&mut self, chunk: &[u8]) -> bool {
        self.seen += chunk.len();
        let keep = self.text.len().saturating_sub(1);
        self.tail.extend_from_slice(&chunk[..chunk.len().min(keep)]);
        if contains(&self.tail, self.text) || contains(chunk, self.text) {
            return true;
        }
        if chunk.len() >= keep {
            self.tail.clear();
            self.tail.extend_from_slice(&chunk[chunk.len() - keep..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(keep));
        }
        false
    }
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || hay.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests;

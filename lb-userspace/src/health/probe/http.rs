//! HTTP/1.1: a request is answered with a wanted status and, if asked for, a text, a match or a digest.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper::header::LOCATION;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};

use super::wanted::Search;
use super::{Answer, Attempt, Failure, excerpt};
use crate::config::{HttpProbe, Method, ServiceKey};

/// How much of a body is looked through; a page that has not said its text by then is taken not to have it, and a
/// longer one has no digest.
pub const BODY_LIMIT: usize = 256 * 1024;
const HEADER_LIMIT: usize = 64 * 1024;

const HEADER: &str = "answer's header";
const BODY_END: &str = "end of the answer";
pub const USER_AGENT: &str = concat!("lb/", env!("CARGO_PKG_VERSION"));

/// Fetches the page. Redirects are not followed: they are answers like any other.
pub async fn probe(attempt: &Attempt<'_>, check: &HttpProbe) -> Result<Answer, Failure> {
    let request = request(check, attempt)?;
    let limit = attempt.limit;
    let stream = attempt.connect().await?;
    let (mut sender, connection) = limit
        .wait(
            http1::Builder::new().max_buf_size(HEADER_LIMIT).handshake(TokioIo::new(stream)),
            Failure::NoAnswer,
        )
        .await?
        .map_err(|error| failure(&error, HEADER))?;

    let exchange = async {
        let response = limit
            .wait(sender.send_request(request), Failure::NoAnswer)
            .await?
            .map_err(|error| failure(&error, HEADER))?;
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
        None => default_host(attempt.subject.service, attempt.check.tls.is_some()),
    };
    let request = Request::builder()
        .method(check.method.name())
        .uri(&check.request)
        .header("host", &host)
        .header("user-agent", USER_AGENT)
        .header("accept", "*/*")
        .header("connection", "close");
    // Servers refuse a POST that does not tell its length (411, RFC 9110 section 8.6).
    let request = if check.method == Method::Post { request.header("content-length", 0) } else { request };
    request
        .body(Empty::new())
        .map_err(|error| Failure::Wrong(format!("cannot ask for '{}' of '{host}': {error}", check.request)))
}

/// The Host header of a client that has the VIP for a name (RFC 9110 section 7.2).
pub fn default_host(service: ServiceKey, tls: bool) -> String {
    let default_port = if tls { 443 } else { 80 };
    match service.vip {
        vip if service.port != default_port => SocketAddr::new(vip, service.port).to_string(),
        IpAddr::V4(vip) => vip.to_string(),
        IpAddr::V6(vip) => format!("[{vip}]"),
    }
}

async fn judge(
    check: &HttpProbe,
    response: Response<Incoming>,
    attempt: &Attempt<'_>,
) -> Result<Answer, Failure> {
    let status = response.status().as_u16();
    attempt.step(format!("got status {status}"));
    if !check.status.contain(status) {
        return Err(Failure::Status { got: status_words(&response), wanted: check.status.clone() });
    }
    if !check.wanted.is_nothing() || check.digest.is_some() {
        let seen = read(check, response.into_body(), attempt).await?;
        attempt.step(format!("read {seen} bytes as wanted"));
    }
    Ok(Answer::default())
}

/// The code, the server's words for it, and where a redirect leads.
fn status_words(response: &Response<Incoming>) -> String {
    let status = response.status();
    let own = response.extensions().get::<ReasonPhrase>().map(|phrase| excerpt(phrase.as_bytes()));
    let phrase = own.as_deref().or(status.canonical_reason()).unwrap_or_default();
    let location = response.headers().get(LOCATION).filter(|_| status.is_redirection());
    let leads = location.map(|to| format!(" to {}", excerpt(to.as_bytes()))).unwrap_or_default();
    format!("{} {phrase}{leads}", status.as_u16())
}

/// Reads the body as far as it takes to know that it is as wanted; returns how far that was.
async fn read(check: &HttpProbe, mut body: Incoming, attempt: &Attempt<'_>) -> Result<usize, Failure> {
    let mut search = Search::new(&check.wanted);
    let mut hash = Sha256::new();
    while check.digest.is_some() || !search.is_settled() {
        let piece = match next_piece(&mut body, attempt).await {
            Ok(Some(piece)) => piece,
            Ok(None) => return at_the_end(check, &search, hash),
            Err(failure) => return Err(search.cut_short(failure)),
        };
        let room = BODY_LIMIT - search.seen();
        search.feed(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Err(too_long(&search));
        }
        if check.digest.is_some() {
            hash.update(&piece);
        }
    }
    Ok(search.seen())
}

/// `None` at the end.
async fn next_piece(body: &mut Incoming, attempt: &Attempt<'_>) -> Result<Option<Bytes>, Failure> {
    let late = |within| Failure::Late { wanted: BODY_END, within };
    match attempt.limit.wait(body.frame(), late).await? {
        None => Ok(None),
        // What is no data are trailers.
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
        Some(Err(error)) => Err(failure(&error, BODY_END)),
    }
}

/// The body had its limit, and there is more of it.
fn too_long(search: &Search<'_>) -> Failure {
    match search.unmet() {
        Some(unmet) => Failure::Unmet { unmet, whole: false },
        None => Failure::Wrong(format!("the answer has more than {BODY_LIMIT} bytes, too many to digest")),
    }
}

fn at_the_end(check: &HttpProbe, search: &Search<'_>, hash: Sha256) -> Result<usize, Failure> {
    if let Some(unmet) = search.unmet() {
        return Err(Failure::Unmet { unmet, whole: true });
    }
    let got: [u8; 32] = hash.finalize().into();
    match check.digest {
        Some(wanted) if wanted != got => {
            let digits: String = got.iter().map(|byte| format!("{byte:02x}")).collect();
            Err(Failure::Wrong(format!("the answer's {} bytes have the digest {digits}", search.seen())))
        }
        _ => Ok(search.seen()),
    }
}

/// What an error means while `wanted` was waited for.
fn failure(error: &hyper::Error, wanted: &'static str) -> Failure {
    if error.is_incomplete_message() || error.is_canceled() {
        return Failure::Closed { wanted };
    }
    if error.is_parse() {
        return Failure::NotHttp(error.to_string());
    }
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(error) => Failure::from_stream(error, wanted),
        None => Failure::Wrong(error.to_string()),
    }
}

#[cfg(test)]
mod tests;

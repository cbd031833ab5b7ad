//! HTTP/1.1: the server answers a request with an expected status and, if configured, a text, a
//! match or a digest.
//!
//! A client library would refuse answers of real servers that curl accepts: answers before the
//! request, lines without a carriage return, malformed headers, a missing last chunk. So [`head`]
//! and [`body`] parse the little that a check needs.

mod body;
mod head;

use std::net::{IpAddr, SocketAddr};

use lb_model::{HttpProbe, Method, ServiceKey};
use sha2::{Digest, Sha256};

use self::body::Decoder;
use self::head::Head;
use super::excerpt::clean;
use super::expectation::Search;
use super::line_client::LineClient;
use super::{Answer, Attempt, Failure, excerpt};

/// Maximum number of searched bytes of a body. A page without the expected text in them fails, and
/// a longer page has no digest.
pub(super) const BODY_LIMIT: usize = 256 * 1024;
/// Limit of all headers together; curl has the same limit for a line.
const HEADER_LIMIT: usize = 100 * 1024;

const HEADER: &str = "answer's header";
const BODY_END: &str = "end of the answer";
pub(super) const USER_AGENT: &str = concat!("lb/", env!("CARGO_PKG_VERSION"));

/// Requests the page. Redirects are answers like any other; the probe does not follow them.
pub(super) async fn probe(attempt: &Attempt<'_>, check: &HttpProbe) -> Result<Answer, Failure> {
    let request = request(check, attempt)?;
    let mut server = LineClient::open(attempt).await?;
    match server.send(request.as_bytes(), HEADER).await {
        // Some servers answer without a request, and close with the request unread: their answer
        // can still be read.
        Err(Failure::Reset { .. }) | Ok(()) => {}
        Err(failure) => return Err(failure),
    }
    let head = answer(&mut server).await?;
    attempt.step(format!("got status {}", head.status));
    if !check.status.contain(head.status) {
        return Err(Failure::Status { got: status_words(&head), expected: check.status.clone() });
    }
    if !check.expected.is_nothing() || check.digest.is_some() {
        let seen = read(check, &head, &mut server).await.map_err(|failure| compressed(&head, failure))?;
        attempt.step(format!("read {seen} bytes as expected"));
    }
    Ok(Answer::default())
}

/// The request in curl's notation: some servers know `Host` only in this case.
fn request(check: &HttpProbe, attempt: &Attempt<'_>) -> Result<String, Failure> {
    let host = match &check.host {
        Some(host) => host.clone(),
        None => default_host(attempt.subject.service, attempt.check.tls.is_some()),
    };
    let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain(&check.request) || !is_plain(&host) {
        return Err(Failure::Wrong(format!("cannot ask for '{}' of '{host}'", check.request.escape_debug())));
    }
    // Servers refuse a POST without a length (411, RFC 9110 section 8.6).
    let length = if check.method == Method::Post { "Content-Length: 0\r\n" } else { "" };
    Ok(format!(
        "{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\n{length}\
         Connection: close\r\n\r\n",
        check.method.name(),
        check.request
    ))
}

/// The Host header of a client that uses the VIP as the host name (RFC 9110 section 7.2).
pub(super) fn default_host(service: ServiceKey, tls: bool) -> String {
    let default_port = if tls { 443 } else { 80 };
    match service.vip {
        vip if ![0, default_port].contains(&service.port) => SocketAddr::new(vip, service.port).to_string(),
        IpAddr::V4(vip) => vip.to_string(),
        IpAddr::V6(vip) => format!("[{vip}]"),
    }
}

/// The header of the final response; skips interim responses, such as 103.
async fn answer(server: &mut LineClient<'_>) -> Result<Head, Failure> {
    let begins = server.peek(HEADER).await.map_err(no_answer)?;
    if begins.first().is_some_and(|byte| !b"hHiI\r\n".contains(byte)) {
        return Err(not_http(begins));
    }
    let mut room = HEADER_LIMIT;
    loop {
        let first = line(server, &mut room).await?.ok_or(Failure::Closed { expected: HEADER })?;
        if first.is_empty() {
            // An empty line left over from an earlier body, or from a script: the answer follows.
            continue;
        }
        let mut head = Head::begin(&first).ok_or_else(|| not_http(&first))?;
        // After the status line the end of the connection ends the header.
        while let Some(line) = rest_of_header(line(server, &mut room).await)? {
            head.line(&line);
        }
        if !head.is_interim() {
            return Ok(head);
        }
    }
}

/// The next line of a header, complete or not; `None` at the end of the connection.
async fn line(server: &mut LineClient<'_>, room: &mut usize) -> Result<Option<Vec<u8>>, Failure> {
    let too_long = || Failure::NotHttp(format!("its header has more than {HEADER_LIMIT} bytes"));
    let (line, whole) = server.line_within(*room, HEADER).await.map_err(|failure| match failure {
        Failure::Wrong(_) => too_long(),
        failure => no_answer(failure),
    })?;
    *room = room.checked_sub(line.len() + 1).ok_or_else(too_long)?;
    Ok(if whole || !line.is_empty() { Some(line) } else { None })
}

/// `None` for an empty line, and for the end of the connection in its place.
fn rest_of_header(line: Result<Option<Vec<u8>>, Failure>) -> Result<Option<Vec<u8>>, Failure> {
    match line {
        Ok(line) => Ok(line.filter(|line| !line.is_empty())),
        Err(Failure::Closed { .. } | Failure::Reset { .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn no_answer(failure: Failure) -> Failure {
    match failure {
        Failure::Late { expected: _, within } => Failure::NoAnswer(within),
        failure => failure,
    }
}

/// The failure for an answer that is not HTTP; names the protocol if it is known.
fn not_http(begins: &[u8]) -> Failure {
    let instead = match begins {
        [0x15 | 0x16, 3, ..] => "the server speaks TLS: use `type: https`".into(),
        // HTTP/2: a SETTINGS frame opens every connection.
        [0, _, _, 4, _, 0, 0, 0, 0, ..] => {
            "the server speaks HTTP/2 only, which lb does not: use `type: tcp`, or an external check with `curl \
             --http2-prior-knowledge`"
                .into()
        }
        [b'<', ..] => format!(
            "it has no header (HTTP/0.9): {}; for a page without one use `type: tcp` with `send` and `receive`",
            excerpt(begins)
        ),
        _ => excerpt(begins),
    };
    Failure::NotHttp(instead)
}

/// The status code, its reason phrase, and the target of a redirect.
fn status_words(head: &Head) -> String {
    let known = hyper::StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
    let phrase = match known {
        Some(known) if head.phrase.is_empty() || head.phrase.eq_ignore_ascii_case(known.as_bytes()) => {
            known.into()
        }
        _ if head.phrase.is_empty() => String::new(),
        _ => excerpt(&head.phrase),
    };
    let location = head.location.as_ref().filter(|_| matches!(head.status, 300..=399));
    let leads = location.map(|to| format!(" to {}", excerpt(to))).unwrap_or_default();
    format!("{} {phrase}{leads}", head.status).trim_end().to_owned()
}

/// Reads the body until it meets the expectation; returns the number of bytes read.
async fn read(check: &HttpProbe, head: &Head, server: &mut LineClient<'_>) -> Result<usize, Failure> {
    let mut decoder = Decoder::new(head.framing(check.method == Method::Head));
    let (mut search, mut hash) = (Search::new(&check.expected), Sha256::new());
    while check.digest.is_some() || !search.is_settled() {
        if decoder.is_done() {
            return at_the_end(check, &search, hash);
        }
        let bytes = match server.piece(BODY_END).await {
            // Only the end of the connection ends such an answer, and closing with unread data
            // would send a reset.
            Err(Failure::Reset { .. }) if decoder.may_end() => Vec::new(),
            Err(failure) => return Err(search.cut_short(failure)),
            Ok(bytes) => bytes,
        };
        if bytes.is_empty() {
            let whole = decoder.may_end();
            let cut_short = || search.cut_short(Failure::Closed { expected: BODY_END });
            return if whole { at_the_end(check, &search, hash) } else { Err(cut_short()) };
        }
        let mut piece = Vec::new();
        decoder.feed(&bytes, &mut piece).map_err(Failure::NotHttp)?;
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

/// The failure for a body that is longer than the limit.
fn too_long(search: &Search<'_>) -> Failure {
    match search.mismatch() {
        Some(mismatch) => Failure::Mismatch { mismatch, whole: false },
        None => Failure::Wrong(format!("the answer has more than {BODY_LIMIT} bytes, too many to digest")),
    }
}

fn at_the_end(check: &HttpProbe, search: &Search<'_>, hash: Sha256) -> Result<usize, Failure> {
    if let Some(mismatch) = search.mismatch() {
        return Err(Failure::Mismatch { mismatch, whole: true });
    }
    let got: [u8; 32] = hash.finalize().into();
    match check.digest {
        Some(expected) if expected != got => {
            let digits: String = got.iter().map(|byte| format!("{byte:02x}")).collect();
            Err(Failure::Wrong(format!("the answer's {} bytes have the digest {digits}", search.seen())))
        }
        _ => Ok(search.seen()),
    }
}

/// Adds a hint if the body is compressed although the request did not accept that: the search
/// cannot find text in it, nor do curl and ldirectord decompress it.
fn compressed(head: &Head, failure: Failure) -> Failure {
    match (&head.coding, failure) {
        (Some(coding), failure @ Failure::Mismatch { .. }) if !coding.eq_ignore_ascii_case(b"identity") => {
            let coding = clean(coding);
            Failure::Wrong(format!(
                "{failure}; the server compresses it (Content-Encoding: {coding}) although the request did \
                 not accept compression"
            ))
        }
        (_, failure) => failure,
    }
}

#[cfg(test)]
mod tests;

//! HTTP/1.1: the server answers a request with an expected status and, if configured, a text, a
//! match or a digest.
//!
//! A client library would refuse answers of real servers that curl accepts: answers before the
//! request, lines without a carriage return, malformed headers, a missing last chunk. So [`head`]
//! and [`body`] parse the little that a check needs.

mod body;
mod head;

use std::net::{IpAddr, SocketAddr};

use lb_model::{HttpProbe, Method, ServiceKey, Statuses};
use sha2::{Digest, Sha256};

use self::body::Decoder;
use self::head::Head;
use super::excerpt::clean;
use super::expectation::Search;
use super::line_client::LineClient;
use super::{Answer, Attempt, Failure, excerpt};

/// Maximum number of bytes of a body that are read, for a text or a digest: so much a server can
/// cost the director with each check. Neither takes memory.
const BODY_LIMIT: usize = 16 << 20;
/// Maximum number of bytes of a body that are searched for a match of an expression, which needs
/// them all in memory.
const MATCH_LIMIT: usize = 1 << 20;
/// Limit of all headers together; curl has the same limit for a line.
const HEADER_LIMIT: usize = 100 * 1024;

const HEADER: &str = "answer's header";
const BODY_END: &str = "end of the answer";
pub(super) const USER_AGENT: &str = concat!("lb/", env!("CARGO_PKG_VERSION"));

/// Requests the page. Redirects are answers like any other; the probe does not follow them: they
/// may lead to another server, or through the VIP to any of them.
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
    let statuses = check.statuses();
    if !statuses.contain(head.status) {
        return Err(wrong_status(check, &head, statuses));
    }
    if check.expects_a_page() {
        let seen = read(check, &head, &mut server).await.map_err(|failure| advised(&head, failure))?;
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

/// The failure for a status that does not count as success. Of a redirect in the place of an
/// expected page it says what to do, because ldirectord and browsers follow it.
fn wrong_status(check: &HttpProbe, head: &Head, expected: Statuses) -> Failure {
    let leads = leads_to(head);
    if leads.is_empty() || !check.expects_a_page() {
        return Failure::Status { got: status_words(head), expected };
    }
    // The server's own phrase would make the message too long for a reason.
    let phrase = known_phrase(head.status).map(|phrase| format!(" {phrase}")).unwrap_or_default();
    Failure::Wrong(format!(
        "status {}{phrase}{leads}, expected {expected}; redirects are not followed: name that page in `request`, or \
         set `status: 200-399` without `receive`, `matches` and `digest`",
        head.status
    ))
}

fn known_phrase(status: u16) -> Option<&'static str> {
    hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason())
}

/// The target of a redirect.
fn leads_to(head: &Head) -> String {
    let location = head.location.as_ref().filter(|_| matches!(head.status, 300..=399));
    location.map(|to| format!(" to {}", excerpt(to))).unwrap_or_default()
}

/// The status code, its reason phrase, and the target of a redirect.
fn status_words(head: &Head) -> String {
    let known = known_phrase(head.status);
    let phrase = match known {
        Some(known) if head.phrase.is_empty() || head.phrase.eq_ignore_ascii_case(known.as_bytes()) => {
            known.into()
        }
        _ if head.phrase.is_empty() => String::new(),
        _ => excerpt(&head.phrase),
    };
    format!("{} {phrase}{}", head.status, leads_to(head)).trim_end().to_owned()
}

/// Reads the body until it meets the expectation; returns the number of bytes read.
async fn read(check: &HttpProbe, head: &Head, server: &mut LineClient<'_>) -> Result<usize, Failure> {
    let mut decoder = Decoder::new(head.framing(check.method == Method::Head));
    let (mut search, mut hash) = (Search::new(&check.expected), Sha256::new());
    let mut length = 0;
    while check.digest.is_some() || !search.is_settled() {
        if decoder.is_done() {
            return at_the_end(check, &search, hash, length);
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
            return if whole { at_the_end(check, &search, hash, length) } else { Err(cut_short()) };
        }
        let mut piece = Vec::new();
        decoder.feed(&bytes, &mut piece).map_err(Failure::NotHttp)?;
        length += piece.len();
        if check.digest.is_some() {
            hash.update(&piece);
        }
        let (first, rest) = piece.split_at(piece.len().min(room(&search)));
        search.feed(first);
        if !rest.is_empty() && !search.settle() && room(&search) == 0 {
            return Err(too_long(&search));
        }
        search.feed(rest);
        if check.digest.is_some() && length > BODY_LIMIT {
            return Err(Failure::Wrong(format!(
                "the answer has more than {BODY_LIMIT} bytes, too many to digest: ask for a shorter page"
            )));
        }
    }
    Ok(length)
}

/// How many more bytes are searched.
fn room(search: &Search<'_>) -> usize {
    let limit = if search.stores() { MATCH_LIMIT } else { BODY_LIMIT };
    limit.saturating_sub(search.seen())
}

/// The failure for a body that is longer than what is searched.
fn too_long(search: &Search<'_>) -> Failure {
    match search.mismatch() {
        Some(mismatch) => Failure::Mismatch { mismatch, whole: false },
        // It matches where the search ends, but nothing shows how the answer ends.
        None => Failure::Wrong(format!(
            "the answer has more than {MATCH_LIMIT} bytes, too many for a match at its end: use `receive`, or ask for \
             a shorter page"
        )),
    }
}

fn at_the_end(check: &HttpProbe, search: &Search<'_>, hash: Sha256, length: usize) -> Result<usize, Failure> {
    if let Some(mismatch) = search.mismatch() {
        return Err(Failure::Mismatch { mismatch, whole: true });
    }
    let got: [u8; 32] = hash.finalize().into();
    match check.digest {
        Some(expected) if expected != got => {
            let digits = hex::encode(got);
            Err(Failure::Wrong(format!("the answer's {length} bytes have the digest {digits}")))
        }
        _ => Ok(length),
    }
}

/// Adds a hint if the body is compressed although the request did not accept that: the search
/// cannot find text in it, nor do curl and ldirectord decompress it. Another one if the body is
/// longer than what is searched.
fn advised(head: &Head, failure: Failure) -> Failure {
    let coding = head.coding.as_ref().filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    match (coding, failure) {
        (Some(coding), failure @ Failure::Mismatch { .. }) => {
            let coding = clean(coding);
            Failure::Wrong(format!(
                "{failure}; the server compresses it (Content-Encoding: {coding}) although the request did \
                 not accept compression"
            ))
        }
        (None, Failure::Mismatch { mismatch, whole: false }) => {
            let instead = if mismatch.seen < BODY_LIMIT { "use `receive`, or ask" } else { "ask" };
            let failure = Failure::Mismatch { mismatch, whole: false };
            Failure::Wrong(format!("{failure}; the check looks no further: {instead} for a shorter page"))
        }
        (_, failure) => failure,
    }
}

#[cfg(test)]
mod tests;

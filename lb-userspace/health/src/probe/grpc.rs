//! gRPC: `grpc.health.v1.Health/Check` returns SERVING for a service, or for the whole server.

mod message;
mod status;

use std::io;

use h2::RecvStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use hyper::Request;
use hyper::body::Bytes;
use lb_model::Statuses;

use self::status::Status;
use super::{Answer, Attempt, Failure, http};

/// Limit of the headers, and of the trailers.
const HEADER_LIMIT: u32 = 16 * 1024;
/// Limit of the body; the expected message has 7 bytes.
const MESSAGE_LIMIT: usize = 4096;
const ANSWER: &str = "answer";

pub(super) async fn probe(attempt: &Attempt<'_>, service: &str) -> Result<Answer, Failure> {
    let request = request(attempt)?;
    let stream = attempt.connect().await?;
    let handshake = Builder::new().enable_push(false).max_header_list_size(HEADER_LIMIT).handshake(stream);
    let (client, connection) = within(attempt, handshake).await?;
    let mut exchange = std::pin::pin!(ask(attempt, client, request, service));
    // The connection is driven here, so that dropping this future closes the socket.
    tokio::select! {
        biased;
        result = &mut exchange => return result,
        _ = connection => {}
    }
    exchange.await
}

fn request(attempt: &Attempt<'_>) -> Result<Request<()>, Failure> {
    let tls = attempt.check.tls.as_ref();
    let name = tls.and_then(|tls| tls.name.clone());
    let host = name.unwrap_or_else(|| http::default_host(attempt.subject.service, tls.is_some()));
    let scheme = if tls.is_some() { "https" } else { "http" };
    Request::post(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", http::USER_AGENT)
        .body(())
        .map_err(|error| Failure::Wrong(format!("cannot ask '{host}': {error}")))
}

async fn ask(
    attempt: &Attempt<'_>,
    client: SendRequest<Bytes>,
    request: Request<()>,
    service: &str,
) -> Result<Answer, Failure> {
    let mut client = within(attempt, client.ready()).await?;
    let (response, mut body) = client.send_request(request, false).map_err(|error| failure(&error))?;
    body.send_data(message::request(service).into(), true).map_err(|error| failure(&error))?;
    answer(attempt, response, service).await
}

async fn answer(attempt: &Attempt<'_>, response: ResponseFuture, service: &str) -> Result<Answer, Failure> {
    let (head, mut body) = within(attempt, response).await?.into_parts();
    attempt.step("got an answer");
    if head.status != 200 {
        return Err(Failure::Status { got: head.status.to_string(), expected: Statuses(vec![200..=200]) });
    }
    let message = whole(attempt, &mut body).await?;
    let trailers = within(attempt, body.trailers()).await?;
    // An error may have no body (trailers-only): its trailers are in the header.
    match trailers.as_ref().and_then(Status::of).or_else(|| Status::of(&head.headers)) {
        Some(status) => status.judge(service)?,
        None => return Err(Failure::Wrong("the answer is not gRPC: it has no grpc-status".into())),
    }
    message::judge(&message, service)
}

/// The whole body.
async fn whole(attempt: &Attempt<'_>, body: &mut RecvStream) -> Result<Vec<u8>, Failure> {
    let mut whole = Vec::new();
    while let Some(piece) = attempt.limit.wait(body.data(), Failure::NoAnswer).await? {
        whole.extend_from_slice(&piece.map_err(|error| failure(&error))?);
        if whole.len() > MESSAGE_LIMIT {
            return Err(Failure::Wrong(format!("the answer has more than {MESSAGE_LIMIT} bytes")));
        }
    }
    Ok(whole)
}

async fn within<T>(
    attempt: &Attempt<'_>,
    work: impl Future<Output = Result<T, h2::Error>>,
) -> Result<T, Failure> {
    attempt.limit.wait(work, Failure::NoAnswer).await?.map_err(|error| failure(&error))
}

fn failure(error: &h2::Error) -> Failure {
    if let Some(error) = error.get_io() {
        // The kernel's errors have numbers; h2's error for an orderly end has none.
        let closed = error.kind() == io::ErrorKind::BrokenPipe && error.raw_os_error().is_none();
        return if closed {
            Failure::Closed { expected: ANSWER }
        } else {
            Failure::from_stream(error, ANSWER)
        };
    }
    match error.reason() {
        Some(reason) if error.is_remote() => {
            Failure::Wrong(format!("the server ends it: {}", reason.description()))
        }
        _ => Failure::Wrong(format!("the answer is not HTTP/2: {error} (is `tls` as the server wants it?)")),
    }
}

#[cfg(test)]
mod tests;

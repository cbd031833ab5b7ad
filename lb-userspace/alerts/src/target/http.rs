//! POST requests to webhooks and Alertmanagers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lb_api::words;
use lb_model::{HttpUrl, Secret};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Bytes of an answer that are read, and characters of it that are told.
const ANSWER: usize = 64 * 1024;
const QUOTED: usize = 200;
/// How long a connection to one of the host's addresses may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Sends JSON to a path there.
pub(super) async fn post(
    url: &HttpUrl,
    path: &str,
    token: Option<&Secret>,
    body: String,
) -> Result<(), String> {
    let request = request(url, path, token, body)?;
    let stream = connect(url).await.map_err(|error| format!("cannot connect to {url}: {error}"))?;
    let answer = match url.tls {
        false => exchange(stream, request).await,
        true => exchange(wrap(url, stream).await?, request).await,
    };
    let answer = answer.map_err(|error| format!("no answer from {url}: {error}"))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = Limited::new(answer.into_body(), ANSWER).collect().await;
    let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
    let line: String = body.lines().next().unwrap_or_default().chars().take(QUOTED).collect();
    let quoted = if line.is_empty() { String::new() } else { format!(": {}", words::printable(&line)) };
    Err(format!("{url} answered {status}{quoted}"))
}

/// The first of the host's addresses that answers.
async fn connect(url: &HttpUrl) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((&*url.host, url.port)).await? {
        last = match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, format!("no answer from {address}")),
        };
    }
    Err(last)
}

fn request(
    url: &HttpUrl,
    path: &str,
    token: Option<&Secret>,
    body: String,
) -> Result<Request<Full<Bytes>>, String> {
    let name = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let usual = if url.tls { 443 } else { 80 };
    let host = if url.port == usual { name } else { format!("{name}:{}", url.port) };
    let mut request = Request::post(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("lb/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json");
    if let Some(Secret(token)) = token {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| "`token` cannot be sent in a header".to_owned())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let request = request.body(Full::new(Bytes::from(body)));
    request.map_err(|error| format!("no request can be made for {url}: {error}"))
}

/// One request on a connection of its own.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's body.
    tokio::spawn(connection);
    sender.send_request(request).await
}

async fn wrap(
    url: &HttpUrl,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(url.host.clone()).map_err(|error| error.to_string())?;
    let handshake = TlsConnector::from(trusting_roots().await?).connect(name, stream);
    handshake.await.map_err(|error| format!("TLS with {url}: {error}"))
}

/// A client that trusts this host's roots, which are read each time: messages are rare, and roots
/// are renewed.
async fn trusting_roots() -> Result<Arc<ClientConfig>, String> {
    let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read.map_err(|error| error.to_string())?.certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_address_of_a_host_is_tried() {
        // Nobody listens on ::1, which may be the first address of `localhost`.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let url = HttpUrl { tls: false, host: "localhost".into(), port, path: "/".into() };
        assert!(connect(&url).await.is_ok());
        drop(listener);
        assert!(connect(&url).await.is_err());
    }
}

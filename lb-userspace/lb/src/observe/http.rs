//! The HTTP endpoint: metrics for Prometheus, a liveness answer, and a page that names them.

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::warn;

use super::metrics;
use super::requests::Requests;

/// What the metrics are made of.
#[derive(Clone)]
struct Source {
    requests: Requests,
    ipvs_names: bool,
}

const INDEX: &str = concat!(
    "lb ",
    env!("CARGO_PKG_VERSION"),
    ": layer-4 load balancer\n\n/metrics  for Prometheus\n/healthz  200 while the controller answers\n"
);

/// Serves until `listener` fails for good. `ipvs_names`: see [`metrics::encode`].
pub(crate) async fn serve(listener: TcpListener, requests: Requests, ipvs_names: bool) -> anyhow::Result<()> {
    axum::serve(listener, router(Source { requests, ipvs_names })).await.context("serving metrics")
}

fn router(source: Source) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .with_state(source)
}

async fn metrics(State(source): State<Source>) -> Response {
    match text(source).await {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => unavailable(&error),
    }
}

/// Made apart from the controller's thread: with thousands of servers it takes some time.
async fn text(Source { requests, ipvs_names }: Source) -> anyhow::Result<String> {
    let status = requests.status().await?;
    let encode = move || metrics::encode(&status, ipvs_names);
    tokio::task::spawn_blocking(encode).await.context("the thread that encodes the metrics has failed")?
}

async fn healthz(State(Source { requests, .. }): State<Source>) -> Response {
    match requests.status().await {
        Ok(_) => "ok\n".into_response(),
        Err(error) => unavailable(&error),
    }
}

fn unavailable(error: &anyhow::Error) -> Response {
    warn!("no snapshot for the HTTP endpoint: {error:#}");
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::observe::{requests, samples};

    async fn serving(requests: Requests) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, requests, false));
        address
    }

    /// Header, in lower case, and body of the answer to `GET path`.
    async fn get(address: SocketAddr, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("asking");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (header, body) = answer.split_once("\r\n\r\n").expect("an empty line");
        (header.to_ascii_lowercase(), body.to_owned())
    }

    /// Without the lines about the process, which differ from moment to moment.
    fn own(page: &str) -> Vec<&str> {
        page.lines().filter(|line| !line.contains("process_")).collect()
    }

    #[tokio::test]
    async fn serves_metrics() {
        let address = serving(requests::fixed(samples::cluster())).await;
        let (header, body) = get(address, "/metrics").await;
        assert!(header.starts_with("http/1.1 200 "), "{header}");
        assert!(
            header.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            "{header}"
        );
        let wanted = metrics::encode(&samples::cluster(), false).expect("metrics");
        assert_eq!(own(&body), own(&wanted));
        assert!(body.contains("\nprocess_resident_memory_bytes "), "{body}");
    }

    #[tokio::test]
    async fn names_its_paths() {
        let address = serving(requests::fixed(samples::cluster())).await;
        assert_eq!(get(address, "/healthz").await.1, "ok\n");
        let (_, index) = get(address, "/").await;
        assert!(index.contains("/metrics") && index.contains("/healthz"), "{index}");
        assert!(get(address, "/nothing").await.0.starts_with("http/1.1 404 "));
    }

    #[tokio::test]
    async fn says_so_when_the_controller_is_gone() {
        let (requests, waiting) = Requests::new();
        drop(waiting);
        let address = serving(requests).await;
        for path in ["/metrics", "/healthz"] {
            let (header, body) = get(address, path).await;
            assert!(header.starts_with("http/1.1 503 "), "{header}");
            assert_eq!(body, "the controller has ended\n");
        }
    }
}

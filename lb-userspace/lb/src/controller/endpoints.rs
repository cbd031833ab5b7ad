//! Where the director is asked: the control socket, the metrics, and the page with the HTTP API.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_api::findings::{Finding, Findings, Kind};
use lb_model::{Config, Metrics, Web};
use lb_system::worker::Worker;
use lb_web::Prepared;
use tokio::net::TcpListener;

use crate::observe::requests::Requests;
use crate::observe::web::Asked;
use crate::observe::{http, socket};

/// From one try to listen to the next.
const RETRY: Duration = Duration::from_secs(2);

/// From now on all are there; metrics and page as soon as their addresses can be had. Returns the
/// page's thread, if there is one.
pub(super) async fn serve(
    config: &Config,
    findings: &Findings,
    requests: Requests,
) -> Result<Option<Worker>> {
    let listener = socket::bind(&config.control)?;
    tokio::spawn(log_failure("control socket", socket::serve(listener, requests.clone())));
    if let Some(metrics) = &config.metrics {
        let first = TcpListener::bind(metrics.listen).await;
        let serving = serve_metrics(metrics.clone(), first, findings.clone(), requests.clone());
        tokio::spawn(log_failure("metrics", serving));
    }
    let Some(web) = &config.web else { return Ok(None) };
    let thread = Worker::start("web").context("cannot start the page's thread")?;
    thread.handle().spawn(serve_web(web.clone(), findings.clone(), requests));
    Ok(Some(thread))
}

/// What an address is listened on for.
struct Endpoint {
    address: SocketAddr,
    kind: Kind,
    /// As the configuration calls it.
    key: &'static str,
    /// What there is not without it.
    lacking: &'static str,
}

impl Endpoint {
    /// Waits for an address that another program has: clients are served all the same.
    async fn listener(&self, mut attempt: io::Result<TcpListener>, findings: &Findings) -> TcpListener {
        loop {
            match attempt {
                Ok(listener) => {
                    findings.clear(self.kind, &self.address.to_string());
                    return listener;
                }
                Err(error) => findings.raise(self.unavailable(&error)),
            }
            tokio::time::sleep(RETRY).await;
            attempt = TcpListener::bind(self.address).await;
        }
    }

    fn unavailable(&self, error: &io::Error) -> Finding {
        let Self { address, kind, key, lacking } = self;
        let (why, mend) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                "another program has it".to_owned(),
                format!(
                    "`ss -ltnp` shows which: end it, or name another address in `{key}` and restart lb; {AGAIN}"
                ),
            ),
            io::ErrorKind::AddrNotAvailable => (
                "this host does not have that address".to_owned(),
                format!("add the address, or name another one in `{key}` and restart lb; {AGAIN}"),
            ),
            _ => (error.to_string(), format!("name another address in `{key}` and restart lb; {AGAIN}")),
        };
        Finding {
            kind: *kind,
            subject: address.to_string(),
            text: format!("{lacking}, because lb cannot listen on {address}: {why}"),
            mend,
        }
    }
}

const AGAIN: &str = "lb tries again every 2 s";

async fn serve_metrics(
    Metrics { listen: address, ipvs_names }: Metrics,
    first: io::Result<TcpListener>,
    findings: Findings,
    requests: Requests,
) -> Result<()> {
    let kind = Kind::MetricsUnavailable;
    let endpoint = Endpoint { address, kind, key: "metrics", lacking: "there are no metrics" };
    let listener = endpoint.listener(first, &findings).await;
    tracing::info!("metrics on http://{address}/metrics");
    http::serve(listener, requests, ipvs_names).await
}

/// Serves the page as soon as its certificate, its tokens and its address can be had.
async fn serve_web(web: Web, findings: Findings, requests: Requests) {
    let (address, kind) = (web.listen, Kind::WebUnavailable);
    let endpoint = Endpoint { address, kind, key: "web", lacking: "the page is not served" };
    let prepared = loop {
        match Prepared::new(&web) {
            Ok(prepared) => break prepared,
            Err(error) => findings.raise(Finding {
                kind,
                subject: address.to_string(),
                text: format!("the page is not served: {error:#}"),
                mend: format!("put the file right that `web` names; {AGAIN}"),
            }),
        }
        tokio::time::sleep(RETRY).await;
    };
    let listener = endpoint.listener(TcpListener::bind(address).await, &findings).await;
    tracing::info!("page on {}", prepared.url());
    prepared.serve(listener, Arc::new(Asked { requests, findings })).await;
}

/// An endpoint that fails leaves the data path alone, but not in silence.
async fn log_failure(what: &str, serving: impl Future<Output = Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!("{what}: {error:#}");
    }
}

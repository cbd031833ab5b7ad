//! Where the director is asked: the control socket and the metrics.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use lb_api::findings::{Finding, Findings, Kind};
use lb_model::Config;
use tokio::net::TcpListener;

use crate::observe::requests::Requests;
use crate::observe::{http, socket};

/// From one try to listen for readers of the metrics to the next.
const RETRY: Duration = Duration::from_secs(2);

/// From now on both are there; the metrics as soon as their address can be had.
pub(super) async fn serve(config: &Config, findings: &Findings, requests: Requests) -> Result<()> {
    let listener = socket::bind(&config.control)?;
    tokio::spawn(log_failure("control socket", socket::serve(listener, requests.clone())));
    if let Some(metrics) = &config.metrics {
        let first = TcpListener::bind(metrics.listen).await;
        let serving = serve_metrics(metrics.listen, first, findings.clone(), requests);
        tokio::spawn(log_failure("metrics", serving));
    }
    Ok(())
}

/// Clients are served without metrics as well: an address that another program has is waited for.
async fn serve_metrics(
    address: SocketAddr,
    mut attempt: io::Result<TcpListener>,
    findings: Findings,
    requests: Requests,
) -> Result<()> {
    let listener = loop {
        match attempt {
            Ok(listener) => break listener,
            Err(error) => findings.raise(unavailable(address, &error)),
        }
        tokio::time::sleep(RETRY).await;
        attempt = TcpListener::bind(address).await;
    };
    findings.clear(Kind::MetricsUnavailable, &address.to_string());
    tracing::info!("metrics on http://{address}/metrics");
    http::serve(listener, requests).await
}

fn unavailable(address: SocketAddr, error: &io::Error) -> Finding {
    let (why, mend) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "another program has it".to_owned(),
            format!(
                "`ss -ltnp` shows which: end it, or name another address in `metrics` and restart lb; {AGAIN}"
            ),
        ),
        io::ErrorKind::AddrNotAvailable => (
            "this host does not have that address".to_owned(),
            format!("add the address, or name another one in `metrics` and restart lb; {AGAIN}"),
        ),
        _ => (error.to_string(), format!("name another address in `metrics` and restart lb; {AGAIN}")),
    };
    Finding {
        kind: Kind::MetricsUnavailable,
        subject: address.to_string(),
        text: format!("there are no metrics, because lb cannot listen on {address}: {why}"),
        mend,
    }
}

const AGAIN: &str = "lb tries again every 2 s";

/// An endpoint that fails leaves the data path alone, but not in silence.
async fn log_failure(what: &str, serving: impl Future<Output = Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!("{what}: {error:#}");
    }
}

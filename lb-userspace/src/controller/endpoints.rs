//! Where the director is asked: the control socket and the metrics.

use anyhow::{Context as _, Result};

use super::Controller;
use crate::observe::inquiries::Inquiries;
use crate::observe::{http, socket};

impl Controller {
    /// From now on both are there.
    pub(super) async fn serve(&self, inquiries: Inquiries) -> Result<()> {
        let path = &self.config.control.socket;
        let listener = socket::bind(path)?;
        tokio::spawn(told("control socket", socket::serve(listener, inquiries.clone())));
        if let Some(metrics) = &self.config.metrics {
            let listener = tokio::net::TcpListener::bind(metrics.listen).await.with_context(|| {
                format!("metrics: cannot listen on {}: is another program there?", metrics.listen)
            })?;
            tracing::info!("metrics on http://{}/metrics", metrics.listen);
            tokio::spawn(told("metrics", http::serve(listener, inquiries)));
        }
        Ok(())
    }
}

/// An endpoint that fails leaves the data path alone, but not in silence.
async fn told(what: &str, serving: impl Future<Output = Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!("{what}: {error:#}");
    }
}

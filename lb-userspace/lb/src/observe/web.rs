//! The director, as the page and the HTTP API see it.

use anyhow::bail;
use lb_api::connections::{Bounds, Filter};
use lb_api::events::Record;
use lb_api::findings::Findings;
use lb_api::wire::{Reply, Request};
use lb_web::{Answer, Director, Listing};

use super::requests::Requests;
use super::socket;

/// Hands what is asked by HTTP on to the controller.
pub(crate) struct Asked {
    pub requests: Requests,
    pub findings: Findings,
}

impl Director for Asked {
    fn ask(&self, request: Request) -> Answer<'_> {
        Box::pin(socket::fulfil(request, &self.requests))
    }

    fn list(&self, filter: Filter, bounds: Bounds) -> Listing<'_> {
        Box::pin(async move {
            let mut lines = match self.requests.connections(filter, bounds).await? {
                Ok(lines) => lines,
                Err(none) => return Ok(Err(none)),
            };
            let mut found = Vec::new();
            while let Some(line) = lines.recv().await {
                match serde_json::from_slice(&line)? {
                    Reply::Connections(part) => found.extend(part),
                    Reply::ListingEnded(end) => return Ok(Ok((found, end))),
                    other => bail!("a listing has no reply {other:?}"),
                }
            }
            bail!("the listing ended too early")
        })
    }

    fn note(&self, record: Record) {
        self.findings.note(record);
    }
}

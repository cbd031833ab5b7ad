//! The director, as the page and the HTTP API see it.

use lb_api::events::Record;
use lb_api::findings::Findings;
use lb_api::wire::Request;
use lb_web::{Answer, Director};

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

    fn note(&self, record: Record) {
        self.findings.note(record);
    }
}

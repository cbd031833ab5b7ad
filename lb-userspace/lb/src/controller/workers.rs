//! Threads that follow the configuration beside the controller: the checks', the sorry pages', and
//! that of the page and the HTTP API.

use std::io;

use lb_health::Verdict;
use lb_model::{Config, Fallback};
use lb_system::worker::Worker;
use tokio::sync::mpsc::UnboundedSender;

use super::checks::Checks;
use crate::sorry::Sorry;

pub(super) struct Workers {
    pub checks: Checks,
    pub sorry: Sorry,
    /// It serves until it is dropped.
    _web: Option<Worker>,
}

impl Workers {
    /// # Errors
    /// The checks' thread cannot be started.
    pub(super) fn start(verdicts: UnboundedSender<Verdict>) -> io::Result<Self> {
        Ok(Self { checks: Checks::start(verdicts)?, sorry: Sorry::default(), _web: None })
    }

    /// Keeps the page's thread.
    pub(super) fn keep_web(&mut self, web: Option<Worker>) {
        self._web = web;
    }

    /// The configuration's sorry pages are served from now on, and no others.
    pub(super) fn follow_sorry_pages(&mut self, config: &Config) {
        let pages = config.services.iter().filter_map(|service| match &service.fallback {
            Fallback::Sorry(page) => Some((service, page)),
            Fallback::None | Fallback::Refuse | Fallback::Local | Fallback::Server(_) => None,
        });
        let pages =
            pages.flat_map(|(service, page)| service.addresses().map(move |address| (address, page.clone())));
        if let Err(error) = self.sorry.set(&pages.collect()) {
            tracing::error!("cannot start the thread of the sorry pages: {error}");
        }
    }
}

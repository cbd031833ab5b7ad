//! What keeps a sorry page from being shown, for the log and for `lb status`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Written by the page's task, read by whoever asks. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    address: SocketAddr,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    listens: bool,
    listen: Option<String>,
    page: Option<String>,
}

impl Trouble {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, known: Arc::default() }
    }

    /// `None`: it is there.
    pub(super) fn listening(&self, why_not: Option<String>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).listens = why_not.is_none();
        self.note(|known| &mut known.listen, why_not, "the sorry page cannot be shown");
    }

    /// `None`: the operator's page can be read, or there is none.
    pub(super) fn reading(&self, why_not: Option<String>) {
        self.note(|known| &mut known.page, why_not, "the built-in sorry page is shown");
    }

    pub(super) fn listens(&self) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).listens
    }

    pub(super) fn text(&self) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let page = || known.page.as_ref().map(|why| format!("the built-in page in place of {why}"));
        known.listen.clone().or_else(page)
    }

    /// Into the log when it changes: it is looked at again and again.
    fn note(&self, which: fn(&mut Known) -> &mut Option<String>, why: Option<String>, what: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let old = which(&mut known);
        if *old == why {
            return;
        }
        match &why {
            Some(why) => tracing::error!("{}: {what}: {why}", self.address),
            None => tracing::info!("{}: the sorry page is well again", self.address),
        }
        *old = why;
    }
}

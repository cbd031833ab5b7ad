//! What the controller is told, by whom.

use tokio::sync::mpsc::{Receiver, UnboundedReceiver};

use super::membership::News;
use crate::dataplane::neighbours;
use crate::health::Verdict;
use crate::observe::inquiries::Inquiry;

pub(super) struct Inputs {
    pub findings: Findings,
    pub inquiries: Receiver<Inquiry>,
    /// Of the cluster; a director that is alone hears none.
    pub news: UnboundedReceiver<News>,
}

/// What is found out about servers.
pub(super) struct Findings {
    pub verdicts: UnboundedReceiver<Verdict>,
    pub neighbours: UnboundedReceiver<neighbours::Event>,
}

pub(super) enum Finding {
    Verdict(Verdict),
    Neighbour(neighbours::Event),
}

impl Findings {
    pub(super) async fn next(&mut self) -> Finding {
        tokio::select! {
            Some(verdict) = self.verdicts.recv() => Finding::Verdict(verdict),
            Some(event) = self.neighbours.recv() => Finding::Neighbour(event),
            else => std::future::pending().await,
        }
    }

    /// The next one, if it is there already.
    pub(super) fn waiting(&mut self) -> Option<Finding> {
        let verdict = self.verdicts.try_recv().ok().map(Finding::Verdict);
        verdict.or_else(|| self.neighbours.try_recv().ok().map(Finding::Neighbour))
    }
}

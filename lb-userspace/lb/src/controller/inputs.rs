//! What comes to the controller, and from whom.

use lb_health::Verdict;
use lb_net::neighbours;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};

use super::membership::ClusterInput;
use crate::observe::requests::ControlRequest;

pub(super) struct Inputs {
    pub observations: Observations,
    pub requests: Receiver<ControlRequest>,
    /// A director that is alone gets none.
    pub cluster: UnboundedReceiver<ClusterInput>,
}

/// What is found out about servers.
pub(super) struct Observations {
    pub verdicts: UnboundedReceiver<Verdict>,
    pub neighbours: UnboundedReceiver<neighbours::Event>,
}

pub(super) enum Observation {
    Verdict(Verdict),
    Neighbour(neighbours::Event),
}

impl Observations {
    pub(super) async fn next(&mut self) -> Observation {
        tokio::select! {
            Some(verdict) = self.verdicts.recv() => Observation::Verdict(verdict),
            Some(event) = self.neighbours.recv() => Observation::Neighbour(event),
            else => std::future::pending().await,
        }
    }

    /// The next one, if it is there already.
    pub(super) fn waiting(&mut self) -> Option<Observation> {
        let verdict = self.verdicts.try_recv().ok().map(Observation::Verdict);
        verdict.or_else(|| self.neighbours.try_recv().ok().map(Observation::Neighbour))
    }
}

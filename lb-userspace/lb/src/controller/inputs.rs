//! What comes to the controller, and from whom.

use lb_health::Verdict;
use lb_net::{neighbours, routes};
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
    /// With the index of the interface on whose segment that is.
    pub neighbours: UnboundedReceiver<(u32, neighbours::Event)>,
    pub routes: UnboundedReceiver<routes::Event>,
    pub tables: UnboundedReceiver<routes::Table>,
}

pub(super) enum Observation {
    Verdict(Verdict),
    Neighbour(u32, neighbours::Event),
    Route(routes::Event),
    Table(routes::Table),
}

impl Observations {
    pub(super) async fn next(&mut self) -> Observation {
        tokio::select! {
            Some(verdict) = self.verdicts.recv() => Observation::Verdict(verdict),
            Some((interface, event)) = self.neighbours.recv() => Observation::Neighbour(interface, event),
            Some(event) = self.routes.recv() => Observation::Route(event),
            Some(table) = self.tables.recv() => Observation::Table(table),
            else => std::future::pending().await,
        }
    }

    /// The next one, if it is there already.
    pub(super) fn waiting(&mut self) -> Option<Observation> {
        let verdict = self.verdicts.try_recv().ok().map(Observation::Verdict);
        // Routes first: with one it is known whose a next hop's MAC is.
        let route = || self.routes.try_recv().ok().map(Observation::Route);
        let table = || self.tables.try_recv().ok().map(Observation::Table);
        let waiting = verdict.or_else(route).or_else(table);
        waiting.or_else(|| {
            let (interface, event) = self.neighbours.try_recv().ok()?;
            Some(Observation::Neighbour(interface, event))
        })
    }
}

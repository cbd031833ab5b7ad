//! What the endpoints ask of the controller: they ask, it answers when it comes to it.

use std::time::Duration;

use anyhow::Context;
use lb_api::client::Traced;
use lb_api::events::Record;
use lb_api::status::{Accepted, ProbeReport, Status};
use lb_api::trace::{Bounds, Filter};
use tokio::sync::{mpsc, oneshot};

/// How long the controller has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Requests that may wait; more askers wait to ask.
const QUEUE: usize = 16;

/// One request, and where its answer goes. Whoever asked may have gone by then; that is no concern
/// of the controller.
#[derive(Debug)]
pub(crate) enum ControlRequest {
    Status(oneshot::Sender<Status>),
    Events(oneshot::Sender<Vec<Record>>),
    Order(Order, oneshot::Sender<Result<Accepted, String>>),
    /// The answer is what there is to say of it, or why it is refused.
    Server(ServerOrder, oneshot::Sender<Result<String, String>>),
    /// With `release` nothing is left behind. The answer is what there is to say of it.
    Stop {
        release: bool,
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// The configuration file is read again. The answer is what there is to say of it, or why it is
    /// refused.
    Reload(oneshot::Sender<Result<String, String>>),
    /// The answer is that the checks are under way.
    Probe(ProbeOrder, oneshot::Sender<Result<Probing, String>>),
    /// The answer is where packets will come, or why not.
    Trace(Filter, Bounds, oneshot::Sender<Result<Trace, String>>),
}

/// A trace under way.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Packets as they come, then the end.
    pub packets: mpsc::Receiver<Traced>,
    /// Used or dropped, it ends the trace; the end still comes.
    pub stop: oneshot::Sender<()>,
}

/// What an operator wants done with a server, which goes by name or address, with a port or
/// without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerOrder {
    /// It gets no new connections, over restarts too.
    Disable {
        server: String,
        reason: Option<String>,
    },
    Enable {
        server: String,
    },
}

/// The checks of one server, to be made at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeOrder {
    /// Name or `VIP:PORT`.
    pub service: String,
    /// Name or address.
    pub server: String,
}

/// Where the reports come when the checks have ended.
pub(crate) type Probing = oneshot::Receiver<Vec<ProbeReport>>;

/// What an operator wants done in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// The group, or each that is here, goes to the next node.
    Failover(Option<String>),
    /// The group, or each that is not there, goes to its preferred node.
    Failback(Option<String>),
    /// Everything here goes elsewhere, until resumed or restarted; with `force` even if nobody
    /// takes it.
    Standby {
        force: bool,
    },
    Resume,
    /// Like standby, and remembered over restarts.
    Maintenance {
        on: bool,
        force: bool,
    },
}

/// The asking side.
#[derive(Debug, Clone)]
pub(crate) struct Requests(mpsc::Sender<ControlRequest>);

impl Requests {
    /// The asking side, and the requests that the controller is to answer.
    pub(crate) fn new() -> (Self, mpsc::Receiver<ControlRequest>) {
        let (sender, requests) = mpsc::channel(QUEUE);
        (Self(sender), requests)
    }

    /// The controller's state of this moment.
    ///
    /// # Errors
    /// If the controller has ended, or does not answer within 2 s. So with the others.
    pub(crate) async fn status(&self) -> anyhow::Result<Status> {
        self.ask(ControlRequest::Status).await
    }

    /// The last events, oldest first.
    pub(crate) async fn events(&self) -> anyhow::Result<Vec<Record>> {
        self.ask(ControlRequest::Events).await
    }

    /// What came of it; or why it is refused.
    pub(crate) async fn order(&self, order: Order) -> anyhow::Result<Result<Accepted, String>> {
        self.ask(|reply| ControlRequest::Order(order, reply)).await
    }

    /// What there is to say of it; or why it is refused.
    pub(crate) async fn order_server(&self, order: ServerOrder) -> anyhow::Result<Result<String, String>> {
        self.ask(|reply| ControlRequest::Server(order, reply)).await
    }

    /// What there is to say of it.
    pub(crate) async fn stop(&self, release: bool) -> anyhow::Result<Result<String, String>> {
        self.ask(|reply| ControlRequest::Stop { release, reply }).await
    }

    /// What there is to say of it; or why the file is refused.
    pub(crate) async fn reload(&self) -> anyhow::Result<Result<String, String>> {
        self.ask(ControlRequest::Reload).await
    }

    /// One report for each check of the server, or why there is none. Takes as long as the checks
    /// do.
    pub(crate) async fn probe(&self, order: ProbeOrder) -> anyhow::Result<Result<Vec<ProbeReport>, String>> {
        match self.ask(|reply| ControlRequest::Probe(order, reply)).await? {
            Ok(probing) => Ok(Ok(probing.await.context("the checks were given up")?)),
            Err(why) => Ok(Err(why)),
        }
    }

    /// A trace, or why there is none.
    pub(crate) async fn trace(
        &self,
        filter: Filter,
        bounds: Bounds,
    ) -> anyhow::Result<Result<Trace, String>> {
        self.ask(|reply| ControlRequest::Trace(filter, bounds, reply)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> ControlRequest) -> anyhow::Result<T> {
        let ask = async {
            let (reply, answer) = oneshot::channel();
            self.0.send(request(reply)).await.ok().context("the controller has ended")?;
            answer.await.context("the controller dropped the request")
        };
        tokio::time::timeout(PATIENCE, ask).await.context("the controller does not answer within 2 s")?
    }
}

/// A controller that always answers the same, for tests. It refuses orders.
#[cfg(test)]
pub(crate) fn fixed(status: Status) -> Requests {
    let (requests, mut waiting) = Requests::new();
    tokio::spawn(async move {
        while let Some(request) = waiting.recv().await {
            match request {
                ControlRequest::Status(reply) => drop(reply.send(status.clone())),
                ControlRequest::Events(reply) => drop(reply.send(Vec::new())),
                ControlRequest::Order(_, reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Stop { reply, .. } => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Reload(reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Server(_, reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Probe(_, reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Trace(_, _, reply) => drop(reply.send(Err("not today".to_owned()))),
            }
        }
    });
    requests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples;

    #[tokio::test]
    async fn gets_what_the_controller_says() {
        let requests = fixed(samples::cluster());
        assert_eq!(requests.status().await.expect("a status"), samples::cluster());
        assert_eq!(requests.order(Order::Resume).await.expect("an answer"), Err("not today".to_owned()));
    }

    #[tokio::test]
    async fn a_controller_that_is_gone_is_an_error() {
        let (requests, waiting) = Requests::new();
        drop(waiting);
        assert!(requests.status().await.is_err());
    }

    #[tokio::test]
    async fn a_controller_that_hangs_is_an_error() {
        let (requests, _waiting) = Requests::new();
        let error = requests.status().await.expect_err("nobody answers");
        assert_eq!(error.to_string(), "the controller does not answer within 2 s");
    }
}

//! What the endpoints ask of the controller: they ask, it answers when it comes to it.

use std::time::Duration;

use anyhow::Context;
use lb_api::client::Traced;
use lb_api::connections;
use lb_api::difference::Difference;
use lb_api::events::Record;
use lb_api::status::{Accepted, AlertTest, ProbeReport, Status};
use lb_api::top::TopClient;
use lb_api::trace::{Bounds, Filter};
use lb_api::wire::{Overlay, Replaced, ServerRequest};
use lb_cluster::standing::Wish;
use lb_model::overlay::{Change, NewService, Overlays};
use lb_web::NoListing;
use tokio::sync::{mpsc, oneshot};

/// How long the controller has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same where it reads a configuration of thousands of services.
const LONGEST_RELOAD: Duration = Duration::from_secs(60);

/// The longest walk over a connection table that somebody waits for.
const LONGEST_WALK: Duration = Duration::from_secs(60);

/// Requests that may wait; more askers wait to ask.
const QUEUE: usize = 16;

/// One request, and where its answer goes. Whoever asked may have gone by then; that is no concern
/// of the controller.
#[derive(Debug)]
pub(crate) enum ControlRequest {
    Status(oneshot::Sender<Status>),
    Events(Option<u64>, oneshot::Sender<Vec<Record>>),
    /// The answer is where the lines of the reply will come, or why none do.
    Connections(connections::Filter, connections::Bounds, oneshot::Sender<Result<Lines, NoListing>>),
    /// The answer is what has changed, or why nothing has.
    Reload(oneshot::Sender<Result<Vec<Difference>, String>>),
    Overlay {
        to_save: bool,
        reply: oneshot::Sender<Overlay>,
    },
    /// Changes of the configuration by this source, all or none; the answer is as of a reload.
    Change(String, Vec<Change>, oneshot::Sender<Result<Vec<Difference>, String>>),
    /// The services of this source, in place of those it had.
    ReplaceSource(String, Vec<NewService>, oneshot::Sender<Result<Replaced, String>>),
    ClearOverlay {
        source: Option<String>,
        /// Only if nothing else was changed.
        saved: Option<Overlays>,
        reply: oneshot::Sender<Result<Vec<Difference>, String>>,
    },
    /// The answer is what there is to say of it.
    Zero(Option<String>, oneshot::Sender<Result<String, String>>),
    /// The answer is what a reload would change, or why it would be refused.
    Diff(oneshot::Sender<Result<Vec<Difference>, String>>),
    TopClients(oneshot::Sender<Result<Vec<TopClient>, String>>),
    Order(Order, oneshot::Sender<Result<Accepted, String>>),
    /// The answer is what there is to say of it, or why it is refused.
    Server(ServerOrder, oneshot::Sender<Result<String, String>>),
    /// With `release` nothing is left behind. The answer is what there is to say of it.
    Stop {
        release: bool,
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// The answer is that the checks are under way.
    Probe(ProbeOrder, oneshot::Sender<Result<Probing, String>>),
    /// A receiver of alerts, or all. The answer is where its tests will come.
    TestAlerts(Option<String>, oneshot::Sender<AlertTests>),
    /// The answer is where packets will come, or why not.
    Trace(Filter, Bounds, oneshot::Sender<Result<Trace, String>>),
}

/// A reply that comes in lines.
pub(crate) type Lines = mpsc::Receiver<Vec<u8>>;

/// A trace under way.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Packets as they come, then the end.
    pub packets: mpsc::Receiver<Traced>,
    /// Used or dropped, it ends the trace; the end still comes.
    pub stop: oneshot::Sender<()>,
}

/// What an operator wants done with a server, on all directors, over restarts too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerOrder {
    /// The server goes by name or address, with a port or without.
    pub about: ServerRequest,
    pub wish: Wish,
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

/// Where it comes what became of test messages, or why there are none.
pub(crate) type AlertTests = oneshot::Receiver<Result<Vec<AlertTest>, String>>;

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

    /// The last events, oldest first, or those behind `after`.
    pub(crate) async fn events(&self, after: Option<u64>) -> anyhow::Result<Vec<Record>> {
        self.ask(|reply| ControlRequest::Events(after, reply)).await
    }

    /// A part of the connection table, as replies that are written already.
    pub(crate) async fn connections(
        &self,
        filter: connections::Filter,
        bounds: connections::Bounds,
    ) -> anyhow::Result<Result<Lines, NoListing>> {
        self.ask(|reply| ControlRequest::Connections(filter, bounds, reply)).await
    }

    /// Has the configuration file read again.
    pub(crate) async fn reload(&self) -> anyhow::Result<Result<Vec<Difference>, String>> {
        self.ask_within(LONGEST_RELOAD, ControlRequest::Reload).await
    }

    /// What was changed at run time; `to_save`: with what is to be written into the files.
    pub(crate) async fn overlay(&self, to_save: bool) -> anyhow::Result<Overlay> {
        self.ask(|reply| ControlRequest::Overlay { to_save, reply }).await
    }

    /// Changes the configuration at run time.
    pub(crate) async fn change(
        &self,
        source: String,
        changes: Vec<Change>,
    ) -> anyhow::Result<Result<Vec<Difference>, String>> {
        self.ask_within(LONGEST_RELOAD, |reply| ControlRequest::Change(source, changes, reply)).await
    }

    /// Makes these the services of a source; or why none of them are.
    pub(crate) async fn replace_source(
        &self,
        source: String,
        services: Vec<NewService>,
    ) -> anyhow::Result<Result<Replaced, String>> {
        let request = |reply| ControlRequest::ReplaceSource(source, services, reply);
        self.ask_within(LONGEST_RELOAD, request).await
    }

    /// Has what ipvsadm's listings count begin at 0 again, of one service or of all.
    pub(crate) async fn zero(&self, service: Option<String>) -> anyhow::Result<Result<String, String>> {
        self.ask(|reply| ControlRequest::Zero(service, reply)).await
    }

    /// Undoes what a source has changed, or all have; `saved`: if nothing else was changed.
    pub(crate) async fn clear_overlay(
        &self,
        source: Option<String>,
        saved: Option<Overlays>,
    ) -> anyhow::Result<Result<Vec<Difference>, String>> {
        let request = |reply| ControlRequest::ClearOverlay { source, saved, reply };
        self.ask_within(LONGEST_RELOAD, request).await
    }

    /// What that would change.
    pub(crate) async fn diff(&self) -> anyhow::Result<Result<Vec<Difference>, String>> {
        self.ask_within(LONGEST_RELOAD, ControlRequest::Diff).await
    }

    /// Whoever does most first; or why there is no telling.
    pub(crate) async fn top_clients(&self) -> anyhow::Result<Result<Vec<TopClient>, String>> {
        self.ask_within(LONGEST_WALK, ControlRequest::TopClients).await
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

    /// One report for each check of the server, or why there is none. Takes as long as the checks
    /// do.
    pub(crate) async fn probe(&self, order: ProbeOrder) -> anyhow::Result<Result<Vec<ProbeReport>, String>> {
        match self.ask(|reply| ControlRequest::Probe(order, reply)).await? {
            Ok(probing) => Ok(Ok(probing.await.context("the checks were given up")?)),
            Err(why) => Ok(Err(why)),
        }
    }

    /// What became of test messages, or why there are none.
    pub(crate) async fn test_alerts(
        &self,
        receiver: Option<String>,
    ) -> anyhow::Result<Result<Vec<AlertTest>, String>> {
        let tests = self.ask(|reply| ControlRequest::TestAlerts(receiver, reply)).await?;
        tests.await.context("the alerts are too busy for a test")
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
        self.ask_within(PATIENCE, request).await
    }

    async fn ask_within<T>(
        &self,
        patience: Duration,
        request: impl FnOnce(oneshot::Sender<T>) -> ControlRequest,
    ) -> anyhow::Result<T> {
        let ask = async {
            let (reply, answer) = oneshot::channel();
            self.0.send(request(reply)).await.ok().context("the controller has ended")?;
            answer.await.context("the controller dropped the request")
        };
        let answered = tokio::time::timeout(patience, ask).await;
        answered.with_context(|| format!("the controller does not answer within {} s", patience.as_secs()))?
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
                ControlRequest::Events(_, reply) => drop(reply.send(Vec::new())),
                ControlRequest::Connections(_, _, reply) => {
                    drop(reply.send(Err(NoListing::Busy("not today".to_owned()))));
                }
                ControlRequest::Reload(reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Overlay { reply, .. } => drop(reply.send(Overlay::default())),
                ControlRequest::Change(_, _, reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::ReplaceSource(_, _, reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::ClearOverlay { reply, .. } => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Zero(_, reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Diff(reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::TopClients(reply) => drop(reply.send(Ok(Vec::new()))),
                ControlRequest::Order(_, reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Stop { reply, .. } => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Server(_, reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Probe(_, reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::Trace(_, _, reply) => drop(reply.send(Err("not today".to_owned()))),
                ControlRequest::TestAlerts(_, reply) => drop(reply.send(oneshot::channel().1)),
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

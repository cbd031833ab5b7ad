//! Answers to what operators ask for by the control socket.

use lb_api::status::{Accepted, Status};

use super::Controller;
use super::status::View;
use crate::observe::requests::{ControlRequest, Order, ServerOrder};

impl Controller {
    pub(super) async fn answer(&mut self, request: ControlRequest) {
        // Whoever asked may have gone; that is no concern of ours.
        match request {
            ControlRequest::Status(reply) => {
                // A server that is shown as up gets connections.
                if self.throttle.is_requested() {
                    self.refresh();
                }
                let cluster = self.membership.status(&self.config.groups).await;
                let _ = reply.send(Status { cluster, ..self.view().status() });
            }
            ControlRequest::Events(reply) => drop(reply.send(self.notifier.recent())),
            ControlRequest::Order(order, reply) => {
                let outcome = self.order(order).await;
                let _ = reply.send(outcome);
            }
            ControlRequest::Stop { release, reply } => {
                let outcome = self.stop_by_command(release);
                let _ = reply.send(Ok(outcome));
            }
            ControlRequest::Reload(reply) => drop(reply.send(self.reload_by_command())),
            ControlRequest::Server(order, reply) => drop(reply.send(self.order_server(&order))),
            ControlRequest::Trace(filter, bounds, reply) => {
                drop(reply.send(self.begin_trace(&filter, bounds)));
            }
            ControlRequest::Probe(order, reply) => drop(reply.send(self.checks.probe(&order, &self.config))),
        }
    }

    fn view(&self) -> View<'_> {
        View {
            config: &self.config,
            config_file: &self.config_file,
            runtime: &self.runtime,
            forwarder: &self.forwarder,
            interface: &self.interface,
            ingresses: &self.ingresses,
            checks: &self.checks,
            sorry: &self.sorry,
            findings: self.notifier.findings(),
            started: self.started,
            stopping: self.leaving.is_some(),
        }
    }

    /// What came of the order; or why it is refused.
    async fn order(&mut self, order: Order) -> Result<Accepted, String> {
        if self.leaving.is_some() {
            return Err("this node is stopping".to_owned());
        }
        self.membership.order(order, &self.config.groups).await
    }

    /// `lb disable` and `lb enable`; returns what there is to say of it, or why it is refused.
    fn order_server(&mut self, order: &ServerOrder) -> Result<String, String> {
        self.poll_maintenance();
        let outcome = self.maintenance.apply(order, &self.config);
        self.poll_maintenance();
        self.plan_refresh();
        outcome
    }
}

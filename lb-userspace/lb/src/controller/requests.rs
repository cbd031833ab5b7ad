//! Answers to what operators ask for by the control socket.

use lb_api::events::{Level, Record};
use lb_api::status::{Accepted, Status};
use lb_api::wire::Overlay;
use lb_cluster::standing::Wish;
use lb_model::{Server, Service};

use super::Controller;
use super::status::View;
use crate::observe::requests::{ControlRequest, Order, ServerOrder};

impl Controller {
    pub(super) async fn answer(&mut self, request: ControlRequest) {
        // Whoever asked may have gone; that is no concern of ours.
        match request {
            ControlRequest::Status(reply) => {
                // A server that is shown as up gets connections.
                if self.program.throttle.is_requested() {
                    self.refresh();
                }
                let cluster = self.membership.status(&self.config.groups).await;
                let _ = reply.send(Status { cluster, ..self.view().status() });
            }
            ControlRequest::Events(after, reply) => drop(reply.send(self.announcer.notifier.recent(after))),
            ControlRequest::Connections(filter, bounds, reply) => {
                drop(reply.send(self.list_connections(&filter, bounds)));
            }
            ControlRequest::Reload(reply) => drop(reply.send(self.reload("lb reload"))),
            ControlRequest::Overlay { to_save, reply } => {
                let config = self.origin.path().to_owned();
                let sources = self.origin.overlay.sources().clone();
                let saving = to_save.then(|| self.origin.overlay.saving());
                drop(reply.send(Overlay { config, sources, saving }));
            }
            ControlRequest::Change(source, changes, reply) => {
                drop(reply.send(self.change_overlay(source, changes)));
            }
            ControlRequest::ReplaceSource(source, services, reply) => {
                drop(reply.send(self.replace_source(source, services)));
            }
            ControlRequest::Zero(service, reply) => drop(reply.send(self.zero(service.as_deref()))),
            ControlRequest::ClearOverlay { source, saved, reply } => {
                drop(reply.send(self.clear_overlay(source.as_deref(), saved.as_ref())));
            }
            ControlRequest::Diff(reply) => drop(reply.send(self.difference())),
            ControlRequest::TopClients(reply) => self.top_clients(reply),
            ControlRequest::Order(order, reply) => {
                let outcome = self.order(order).await;
                let _ = reply.send(outcome);
            }
            ControlRequest::Stop { release, reply } => {
                let outcome = self.stop_by_command(release);
                let _ = reply.send(Ok(outcome));
            }
            ControlRequest::Server(order, reply) => drop(reply.send(self.order_server(&order))),
            ControlRequest::Trace(filter, bounds, reply) => {
                drop(reply.send(self.begin_trace(&filter, bounds)));
            }
            ControlRequest::Probe(order, reply) => {
                drop(reply.send(self.workers.checks.probe(&order, &self.config)));
            }
            ControlRequest::TestAlerts(receiver, reply) => {
                drop(reply.send(self.announcer.alerts.test(receiver)));
            }
        }
    }

    /// `ipvsadm -Z`; returns what there is to say of it, or why it is refused.
    fn zero(&mut self, name: Option<&str>) -> Result<String, String> {
        let mut known = self.config.services.iter().chain(self.runtime.draining.services());
        let service = name.map(|name| {
            let found = known.find(|service| service.is_called(name));
            found.ok_or_else(|| format!("there is no service {name:?}"))
        });
        let service = service.transpose()?;
        self.program.forwarder.zero(service.map(|service| &service.key));
        let whose = service.map_or_else(|| "all services".to_owned(), |one| format!("service {}", one.name));
        let told = format!("what ipvsadm -L --stats prints of {whose} begins at 0 again");
        let record = Record::new(Level::Info, "counters_zeroed", told.clone());
        self.announcer.record(match service {
            Some(service) => record.service(&service.name),
            None => record,
        });
        Ok(told)
    }

    fn view(&self) -> View<'_> {
        View {
            config: &self.config,
            origin: &self.origin,
            runtime: &self.runtime,
            program: &self.program,
            workers: &self.workers,
            standing: self.operators.standing(),
            announcer: &self.announcer,
            lifecycle: &self.lifecycle,
        }
    }

    /// What came of the order; or why it is refused.
    async fn order(&mut self, order: Order) -> Result<Accepted, String> {
        if self.lifecycle.is_leaving() {
            return Err("this node is stopping".to_owned());
        }
        self.membership.order(order, &self.config.groups).await
    }

    /// `lb drain`, `lb enable` and `lb weight`; returns what there is to say of it, or why it is
    /// refused.
    fn order_server(&mut self, order: &ServerOrder) -> Result<String, String> {
        let enabled = match order.wish {
            Wish::Serve => self.remove_maintenance(order)?,
            Wish::Drain | Wish::Weight(_) | Wish::ConfiguredWeight => false,
        };
        let (told, orders) = self.operators.give(order, enabled, &self.config)?;
        if !orders.is_empty() {
            let by = orders.first().map(|order| order.by.clone()).unwrap_or_default();
            let record = Record::new(Level::Info, "order_given", format!("{told}; ordered by {by}"));
            self.announcer.record(record.server(&order.about.server).cause(by));
            self.membership.tell_standing(orders);
            self.follow_orders();
        }
        self.plan_refresh();
        Ok(told)
    }

    /// Removes the files that keep the servers of an order out. True if there were any.
    fn remove_maintenance(&mut self, order: &ServerOrder) -> Result<bool, String> {
        let removed = self.operators.remove_maintenance(order, &self.config, self.announcer.findings());
        self.follow_orders();
        removed
    }

    /// Lets servers go and return as the folder of maintenance says.
    pub(super) fn poll_maintenance(&mut self) {
        if self.operators.poll(&self.config, self.announcer.findings()) {
            self.follow_orders();
        }
    }

    /// Keeps servers out, and gives them weights, as operators have ordered.
    pub(super) fn follow_orders(&mut self) {
        let Self { config, runtime, operators, lifecycle, .. } = self;
        let orders = |service: &Service, server: &Server| operators.orders(service, server);
        let notifications = runtime.follow_orders(&config.services, orders, lifecycle.age());
        self.notify(notifications);
    }
}

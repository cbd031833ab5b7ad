//! Answers to what operators ask for by the control socket.

use lb_api::events::{Level, Record};
use lb_api::status::{Accepted, Status};
use lb_api::wire::Overlay;
use lb_cluster::standing::Wish;
use lb_model::{Server, Service};

use super::runtime::Orders;
use super::status::View;
use super::{Controller, maintenance, standing};
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
            ControlRequest::Events(after, reply) => drop(reply.send(self.notifier.recent(after))),
            ControlRequest::Connections(filter, bounds, reply) => {
                drop(reply.send(self.list_connections(&filter, bounds)));
            }
            ControlRequest::Reload(reply) => drop(reply.send(self.reload("lb reload"))),
            ControlRequest::Overlay { to_save, reply } => {
                let config = self.config_file.path().to_owned();
                let sources = self.overlay.sources().clone();
                let saving = to_save.then(|| self.overlay.saving());
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
            ControlRequest::Probe(order, reply) => drop(reply.send(self.checks.probe(&order, &self.config))),
            ControlRequest::TestAlerts(receiver, reply) => drop(reply.send(self.alerts.test(receiver))),
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
        self.forwarder.zero(service.map(|service| &service.key));
        let whose = service.map_or_else(|| "all services".to_owned(), |one| format!("service {}", one.name));
        let told = format!("what ipvsadm -L --stats prints of {whose} begins at 0 again");
        let record = Record::new(Level::Info, "counters_zeroed", told.clone());
        self.notifier.record(match service {
            Some(service) => record.service(&service.name),
            None => record,
        });
        Ok(told)
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
            standing: &self.standing,
            overlay: &self.overlay,
            sorry: &self.sorry,
            findings: self.notifier.findings(),
            alerts: &self.alerts,
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

    /// `lb drain`, `lb enable` and `lb weight`; returns what there is to say of it, or why it is
    /// refused.
    fn order_server(&mut self, order: &ServerOrder) -> Result<String, String> {
        let enabled = match order.wish {
            Wish::Serve => self.remove_maintenance(order)?,
            Wish::Drain | Wish::Weight(_) | Wish::ConfiguredWeight => false,
        };
        let (told, orders) = self.standing.give(order, enabled, &self.config)?;
        if !orders.is_empty() {
            let by = orders.first().map(|order| order.by.clone()).unwrap_or_default();
            let record = Record::new(Level::Info, "order_given", format!("{told}; ordered by {by}"));
            self.notifier.record(record.server(&order.about.server).cause(by));
            self.membership.tell_standing(orders);
            self.follow_orders();
        }
        self.plan_refresh();
        Ok(told)
    }

    /// Removes the files that keep the servers of an order out. True if there were any.
    fn remove_maintenance(&mut self, order: &ServerOrder) -> Result<bool, String> {
        self.poll_maintenance();
        let meant =
            standing::meant(&self.config, &order.about)?.into_iter().map(maintenance::shown).collect();
        let removed = self.maintenance.enable(&order.about.server, &meant, &self.config);
        self.poll_maintenance();
        removed
    }

    /// Lets servers go and return as the folder of maintenance says.
    pub(super) fn poll_maintenance(&mut self) {
        if self.maintenance.poll(&self.config, self.notifier.findings()) {
            self.follow_orders();
        }
    }

    /// Keeps servers out, and gives them weights, as operators have ordered.
    pub(super) fn follow_orders(&mut self) {
        let Self { config, runtime, standing, maintenance, started, .. } = self;
        let orders = |service: &Service, server: &Server| Orders {
            kept_out: maintenance
                .reason(server)
                .or_else(|| standing.drain(service, server).map(standing::why_drained)),
            weight: standing.weight(service, server),
        };
        let notifications = runtime.follow_orders(&config.services, orders, started.elapsed());
        self.notify(notifications);
    }
}

//! What follows when the configuration has changed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lb_api::difference::Difference;
use lb_api::events::{Level, Record};
use lb_config::Mistake;
use lb_model::{Cluster, Config, Fallback, Group, Server, Service};

use super::overlay::{self, Loaded, Overlay};
use super::{Controller, difference, inheritance, service_manager};

/// The event of a configuration with a mistake.
pub(super) fn refused(why: &str, error: &anyhow::Error) -> Record {
    let text = format!("{why}configuration refused, the old one stays in force: {error:#}");
    Record::new(Level::Error, "config_refused", text).cause(format!("{error:#}"))
}

/// An event for each warning about a configuration.
pub(super) fn warn(warnings: &[Mistake], mut record: impl FnMut(Record)) {
    for warning in warnings {
        record(Record::new(Level::Warning, "config_warning", warning.to_string()));
    }
}

/// Whether a group that stays is to be on another interface.
fn groups_have_moved(old: &Config, new: &Config) -> bool {
    let interface_of =
        |config: &Config, group: &Group| config.interfaces().nth(config.segment_of(group)).map(str::to_owned);
    let same = |group: &Group| new.groups.iter().find(|other| other.id() == group.id());
    old.groups
        .iter()
        .any(|group| same(group).is_some_and(|other| interface_of(new, other) != interface_of(old, group)))
}

impl Controller {
    /// Reads the file again. What is wrong with it is logged and shown, and the running state stays
    /// as it is. Returns what has changed, or why nothing has.
    pub(super) fn reload(&mut self, why: &str) -> Result<Vec<Difference>, String> {
        if self.leaving.is_some() {
            tracing::info!("{why}: not reloaded, this director is stopping");
            return Err("not reloaded: this director is stopping".to_owned());
        }
        let keys = self.membership.reload_keys();
        keys.into_iter().for_each(|record| self.notifier.record(record));
        let Some(found) = self.config_file.read(overlay::load) else {
            self.wait_for_writer(why);
            return Err(format!("not reloaded yet: {}", self.config_file.being_written()));
        };
        service_manager::reloading();
        let found = found.map_err(Into::into);
        let found = found.and_then(|Loaded { config, overlay, warnings }| {
            warn(&warnings, |record| self.notifier.record(record));
            Ok((self.accepted(config)?, overlay))
        });
        let outcome = match found {
            Ok((config, mut overlay)) => {
                overlay.put_aside().into_iter().for_each(|record| self.notifier.record(record));
                let text = format!("{why}: configuration {} reloaded", self.config_file.path().display());
                let record = Record::new(Level::Info, "config_reloaded", text);
                self.notifier.record(record.cause(why.to_owned()));
                self.config_file.accepted();
                Ok(self.take(config, overlay))
            }
            Err(error) => {
                self.notifier.record(refused(&format!("{why}: "), &error));
                self.config_file.refused(&error);
                Err(format!("refused, the configuration before it stays in force:\n{error:#}"))
            }
        };
        service_manager::reloaded();
        outcome
    }

    /// What [`Self::reload`] would change, or why it would not.
    pub(super) fn difference(&self) -> Result<Vec<Difference>, String> {
        let Some(new) = self.config_file.glance(overlay::load) else {
            return Err(format!("not compared yet: {}", self.config_file.being_written()));
        };
        let new = new.map_err(anyhow::Error::from);
        let new = new.and_then(|new| self.accepted(new.config)).map_err(|error| format!("{error:#}"))?;
        Ok(difference::between(&self.config, &new))
    }

    /// Returns what has changed.
    pub(super) fn take(&mut self, config: Config, overlay: Overlay) -> Vec<Difference> {
        self.overlay = overlay;
        let old = std::mem::replace(&mut self.config, config);
        self.runtime.draining.reload(&old.services, &self.config.services, Instant::now());
        if let Err(error) = self.forwarder.set_vips(&self.config) {
            self.forwarder.note_failure(&error);
        }
        self.alerts.follow(&self.config);
        self.follow_configuration();
        self.inspections.follow_configuration(&self.config);
        if self.config.xdp_mode != old.xdp_mode {
            self.change_mode("the configuration has changed");
            if let Err(error) = self.interface.watch(self.config.xdp_mode) {
                self.forwarder.note_failure(&error);
            }
            self.change_mode_of_ingresses("the configuration has changed", false);
        }
        self.membership.set_config(&self.config);
        let small = inheritance::outgrown(&self.config, self.forwarder.table());
        small.into_iter().for_each(|record| self.notifier.record(record));
        difference::between(&old, &self.config)
    }

    pub(super) fn wait_for_writer(&mut self, why: &str) {
        if let Some(waits) = self.config_file.wait_for_writer() {
            let record =
                Record::new(Level::Warning, "config_unfinished", format!("{why}: not reloaded yet: {waits}"));
            self.notifier.record(record);
        }
    }

    pub(super) fn accepted(&self, mut new: Config) -> Result<Config> {
        let Config {
            interface,
            other_interfaces,
            xdp_mode: _,
            connections,
            bindings,
            control,
            metrics,
            web,
            alerts: _,
            timeouts: _,
            maintenance,
            zero_copy,
            announce_rate: _,
            cluster,
            groups: _,
            denied: _,
            services: _,
            kept_elsewhere: _,
        } = &self.config;
        for (key, changed) in [
            ("interface", *interface != new.interface),
            ("interfaces", *other_interfaces != new.other_interfaces),
            ("groups: interface", groups_have_moved(&self.config, &new)),
            ("connections", *connections != new.connections),
            ("bindings", *bindings != new.bindings),
            ("control", *control != new.control),
            ("metrics", *metrics != new.metrics),
            ("web", *web != new.web),
            // What was changed at run time is kept beside it.
            ("maintenance_dir", *maintenance != new.maintenance),
            ("zero_copy", *zero_copy != new.zero_copy),
            ("cluster", *cluster != new.cluster),
        ] {
            if changed {
                bail!(
                    "{}: `{key}` cannot change while lb runs; restart it",
                    self.config_file.path().display()
                );
            }
        }
        self.membership
            .number_groups(&mut new.groups)
            .with_context(|| self.config_file.path().display().to_string())?;
        Ok(new)
    }

    /// Makes checks, neighbours and maps those of the configuration.
    pub(super) fn follow_configuration(&mut self) {
        self.follow_servers();
        self.refresh();
    }

    /// Checks the configuration's servers and follows their MACs, and forgets what was known of
    /// others.
    pub(super) fn follow_servers(&mut self) {
        let now = self.started.elapsed();
        let watched = self.runtime.draining.with(&self.config.services);
        let servers = || watched.iter().flat_map(|service| &service.servers);
        let fallbacks: Vec<Server> =
            self.config.services.iter().filter_map(Service::fallback_server).collect();
        let nodes = self.config.cluster.iter().flat_map(Cluster::others).map(|node| node.address);
        let nodes: BTreeSet<IpAddr> = nodes.collect();
        let all = || servers().chain(&fallbacks);
        let direct = all().filter(|server| !server.is_routed()).map(|server| server.address);
        self.segment = direct.chain(nodes.iter().copied()).collect();
        let addresses = all().map(|server| server.address).chain(nodes.iter().copied()).collect();
        self.runtime.follow_addresses(&addresses, now);
        self.routes.want(self.runtime.ways.follow(all(), &nodes));
        self.routes.want_table(self.runtime.ways.translated());
        self.checks.set(&watched);
        let notifications = self.runtime.follow(&watched, now);
        drop(watched);
        self.want_neighbours();
        self.notify(notifications);
        self.follow_orders();
        self.follow_sorry_pages();
        self.follow_vip_checks();
    }

    /// Has the MACs of servers and next hops followed.
    pub(super) fn want_neighbours(&mut self) {
        let mut wanted = self.runtime.ways.next_hops();
        let here = self.segment.iter().filter(|address| !self.runtime.ways.is_elsewhere(**address));
        let main = wanted.entry(self.interface.index()).or_default();
        main.extend(here);
        main.extend(self.runtime.clients.next_hops());
        self.neighbours.want(wanted);
    }

    fn follow_sorry_pages(&mut self) {
        let pages = self.config.services.iter().filter_map(|service| match &service.fallback {
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

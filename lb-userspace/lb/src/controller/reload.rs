//! What follows when the configuration has changed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lb_api::difference::Difference;
use lb_api::events::{Level, Record};
use lb_config::Mistake;
use lb_model::{Cluster, Config, Group, Server, Service};

use super::overlay::{Loaded, Overlay};
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
        if self.lifecycle.is_leaving() {
            tracing::info!("{why}: not reloaded, this director is stopping");
            return Err("not reloaded: this director is stopping".to_owned());
        }
        let keys = self.membership.reload_keys();
        self.announcer.record_all(keys);
        let Some(found) = self.origin.read() else {
            self.wait_for_writer(why);
            return Err(format!("not reloaded yet: {}", self.origin.file.being_written()));
        };
        service_manager::reloading();
        let found = found.map_err(Into::into);
        let found = found.and_then(|Loaded { config, overlay, warnings }| {
            warn(&warnings, |record| self.announcer.record(record));
            Ok((self.accepted(config)?, overlay))
        });
        let outcome = match found {
            Ok((config, mut overlay)) => {
                overlay.put_aside().into_iter().for_each(|record| self.announcer.record(record));
                let text = format!("{why}: configuration {} reloaded", self.origin.path().display());
                let record = Record::new(Level::Info, "config_reloaded", text);
                self.announcer.record(record.cause(why.to_owned()));
                self.origin.file.accepted();
                Ok(self.take(config, overlay))
            }
            Err(error) => {
                self.announcer.record(refused(&format!("{why}: "), &error));
                self.origin.file.refused(&error);
                Err(format!("refused, the configuration before it stays in force:\n{error:#}"))
            }
        };
        service_manager::reloaded();
        outcome
    }

    /// What [`Self::reload`] would change, or why it would not.
    pub(super) fn difference(&self) -> Result<Vec<Difference>, String> {
        let Some(new) = self.origin.glance() else {
            return Err(format!("not compared yet: {}", self.origin.file.being_written()));
        };
        let new = new.map_err(anyhow::Error::from);
        let new = new.and_then(|new| self.accepted(new.config)).map_err(|error| format!("{error:#}"))?;
        Ok(difference::between(&self.config, &new))
    }

    /// Returns what has changed.
    pub(super) fn take(&mut self, config: Config, overlay: Overlay) -> Vec<Difference> {
        self.origin.overlay = overlay;
        let old = std::mem::replace(&mut self.config, config);
        self.runtime.draining.reload(&old.services, &self.config.services, Instant::now());
        if let Err(error) = self.program.forwarder.set_vips(&self.config) {
            self.program.forwarder.note_failure(&error);
        }
        self.announcer.alerts.follow(&self.config);
        self.follow_configuration();
        self.inspections.follow_configuration(&self.config);
        if self.config.xdp_mode != old.xdp_mode {
            self.change_mode("the configuration has changed");
            if let Err(error) = self.program.interface.watch(self.config.xdp_mode) {
                self.program.forwarder.note_failure(&error);
            }
            self.change_mode_of_ingresses("the configuration has changed", false);
        }
        self.membership.set_config(&self.config);
        let small = inheritance::outgrown(&self.config, self.program.forwarder.table());
        self.announcer.record_all(small);
        difference::between(&old, &self.config)
    }

    pub(super) fn wait_for_writer(&mut self, why: &str) {
        if let Some(waits) = self.origin.file.wait_for_writer() {
            let record =
                Record::new(Level::Warning, "config_unfinished", format!("{why}: not reloaded yet: {waits}"));
            self.announcer.record(record);
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
                bail!("{}: `{key}` cannot change while lb runs; restart it", self.origin.path().display());
            }
        }
        self.membership
            .number_groups(&mut new.groups)
            .with_context(|| self.origin.path().display().to_string())?;
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
        let now = self.lifecycle.age();
        let watched = self.runtime.draining.with(&self.config.services);
        let servers = || watched.iter().flat_map(|service| &service.servers);
        let fallbacks: Vec<Server> =
            self.config.services.iter().filter_map(Service::fallback_server).collect();
        let nodes = self.config.cluster.iter().flat_map(Cluster::others).map(|node| node.address);
        let nodes: BTreeSet<IpAddr> = nodes.collect();
        let all = || servers().chain(&fallbacks);
        let direct = all().filter(|server| !server.is_routed()).map(|server| server.address);
        self.network.set_segment(direct.chain(nodes.iter().copied()).collect());
        let addresses = all().map(|server| server.address).chain(nodes.iter().copied()).collect();
        self.runtime.follow_addresses(&addresses, now);
        self.network.want_routes(self.runtime.ways.follow(all(), &nodes));
        self.network.want_table(self.runtime.ways_back(&self.config.services));
        self.workers.checks.set(&watched);
        let notifications = self.runtime.follow(&watched, now);
        drop(watched);
        self.want_neighbours();
        self.notify(notifications);
        self.follow_orders();
        self.workers.follow_sorry_pages(&self.config);
        self.follow_vip_checks();
    }

    /// Has the MACs of servers and next hops followed.
    pub(super) fn want_neighbours(&mut self) {
        self.network.want_neighbours(&self.runtime, self.program.interface.index());
    }
}

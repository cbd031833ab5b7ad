//! What follows when the configuration has changed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lb_model::{Cluster, Config, Fallback, Service};
use sd_notify::NotifyState;

use super::{Controller, tell_supervisor};

impl Controller {
    /// Reads the file again. What is wrong with it is told, and the running state stays as it is.
    pub(super) fn reload(&mut self, why: &str) {
        if self.leaving.is_some() {
            return tracing::info!("{why}: not reloaded, this director is stopping");
        }
        self.membership.reload_keys();
        let Some(found) = self.file.read(lb_config::load) else { return self.wait_for_writer(why) };
        tell_supervisor(NotifyState::Reloading);
        match found.map_err(Into::into).and_then(|new| self.accepted(new)) {
            Ok(config) => {
                tracing::info!("{why}: configuration {} reloaded", self.file.path().display());
                let old = std::mem::replace(&mut self.config, config);
                self.knowledge.draining.reload(&old.services, &self.config.services, Instant::now());
                self.config_error = None;
                if let Err(error) =
                    self.data_path.executor.set_vips(&Vec::from_iter(self.config.grouped_vips()))
                {
                    tracing::error!("the data path could not be changed: {error:#}");
                }
                self.follow_configuration();
                self.firewall.look(&self.config);
                if self.config.xdp_mode != old.xdp_mode {
                    self.follow_xdp_mode();
                }
                self.membership.set_config(&self.config);
            }
            Err(error) => {
                tracing::error!("{why}: configuration refused, the old one stays in force: {error:#}");
                self.config_error = Some(format!("{error:#}"));
            }
        }
        tell_supervisor(NotifyState::Ready);
    }

    /// Half a configuration would take half of the services away.
    pub(super) fn wait_for_writer(&mut self, why: &str) {
        let waits = self.file.being_written();
        if self.config_error.as_ref() != Some(&waits) {
            tracing::warn!("{why}: not reloaded yet: {waits}");
            self.config_error = Some(waits);
        }
    }

    fn accepted(&self, mut new: Config) -> Result<Config> {
        let Config {
            interface,
            xdp_mode: _,
            connections,
            control,
            metrics,
            timeouts: _,
            maintenance: _,
            zero_copy,
            announce_rate: _,
            cluster,
            groups: _,
            services: _,
        } = &self.config;
        for (key, changed) in [
            ("interface", *interface != new.interface),
            ("connections", *connections != new.connections),
            ("control", *control != new.control),
            ("metrics", *metrics != new.metrics),
            ("zero_copy", *zero_copy != new.zero_copy),
            ("cluster", *cluster != new.cluster),
        ] {
            if changed {
                bail!("{}: `{key}` cannot change while lb runs; restart it", self.file.path().display());
            }
        }
        self.number_groups(&mut new.groups).with_context(|| self.file.path().display().to_string())?;
        Ok(new)
    }

    /// Makes checks, neighbours and maps those of the configuration.
    pub(super) fn follow_configuration(&mut self) {
        self.follow_servers();
        self.refresh();
    }

    /// Checks the configuration's servers and follows their MACs, and forgets what was known of others.
    pub(super) fn follow_servers(&mut self) {
        let now = self.started.elapsed();
        let watched = self.knowledge.draining.with(&self.config.services);
        let configured = watched.iter().flat_map(|service| &service.servers).map(|server| server.address);
        let fallbacks = self.config.services.iter().filter_map(Service::fallback_server);
        let fallbacks = fallbacks.map(|server| server.address);
        let nodes = self.config.cluster.iter().flat_map(Cluster::others).map(|node| node.address);
        let addresses: BTreeSet<IpAddr> = configured.chain(fallbacks).chain(nodes).collect();
        self.knowledge.follow_addresses(&addresses, now);
        self.neighbours.want(addresses);
        self.checker.set(&watched);
        let notices = self.knowledge.follow(&watched, now);
        drop(watched);
        self.tell(notices);
        self.follow_maintenance();
        self.follow_sorry_pages();
        self.follow_vip_checks();
    }

    fn follow_sorry_pages(&mut self) {
        let pages = self.config.services.iter().filter_map(|service| match &service.fallback {
            Fallback::Sorry(page) => Some((service.key.address(), page.clone())),
            Fallback::None | Fallback::Refuse | Fallback::Local | Fallback::Server(_) => None,
        });
        if let Err(error) = self.sorry.set(&pages.collect()) {
            tracing::error!("cannot start the thread of the sorry pages: {error}");
        }
    }
}

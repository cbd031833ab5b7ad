//! A binding lives as long as the client's connections: those from which nothing comes prolong none
//! by their packets, so the sweep does it for them.
//!
//! Packets do not know of it. Before a walk over the connection table the bindings are listed that
//! are about to run out, after it those are prolonged that the walk has met a living connection of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use lb_common::addr::V6;
use lb_common::server::{ServerEntry, ServerId};
use lb_common::service::binding::{Binding, Key, Persistence};

use super::Bindings;
use crate::mapped::Mapped;

pub struct Keeper {
    bindings: Bindings,
    persistence: Arc<Mapped<Persistence>>,
    servers: Arc<Mapped<ServerEntry>>,
    /// Addresses of the servers.
    targets: Arc<Mapped<V6>>,
}

/// Bindings that are about to run out, for one walk.
pub struct Due<'a> {
    keeper: &'a Keeper,
    bindings: HashMap<Key, Binding>,
    /// Those that a connection was met of, and for how long they hold.
    alive: Mutex<HashMap<Key, u64>>,
}

impl Keeper {
    pub(crate) fn new(
        bindings: &Bindings,
        persistence: Arc<Mapped<Persistence>>,
        servers: Arc<Mapped<ServerEntry>>,
        targets: Arc<Mapped<V6>>,
    ) -> Result<Self> {
        Ok(Self { bindings: bindings.try_clone()?, persistence, servers, targets })
    }

    /// Those that run out within `time` from `now` (CLOCK_MONOTONIC, ns), or did just before.
    /// Without any service that binds clients nothing is looked at.
    pub fn due(&self, now: u64, time: Duration) -> Result<Due<'_>> {
        let services = 0..self.persistence.elements();
        let bindings = match services.into_iter().any(|id| self.persistence.read(id).group != 0) {
            true => self.bindings.all()?,
            false => Vec::new(),
        };
        let until = now.saturating_add(time.as_nanos() as u64);
        let due = bindings.into_iter().filter(|(_, binding)| binding.until_ns < until);
        Ok(Due { keeper: self, bindings: due.collect(), alive: Mutex::default() })
    }

    /// Prolongs bindings that a walk has met a connection of; `time` is the least that they hold.
    pub fn prolong(&mut self, alive: Vec<(Key, Binding, u64)>, now: u64, time: Duration) {
        for (key, binding, timeout) in alive {
            let until_ns = now + timeout.max(time.as_nanos() as u64);
            // The client may have got another server meanwhile, or have been forgotten.
            let _ = self.bindings.change(key, Binding { until_ns, ..binding });
        }
    }
}

impl Due<'_> {
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// The walk has met a living connection of this client.
    pub fn meet(&self, client: V6, server: ServerId) {
        let Keeper { persistence, servers, targets, .. } = self.keeper;
        let service = servers.read(usize::from(server.0)).service;
        if usize::from(service.id.0) >= persistence.elements() {
            return;
        }
        let persistence = persistence.read(usize::from(service.id.0));
        let key = persistence.key(client);
        let bound = persistence.group != 0
            && self
                .bindings
                .get(&key)
                .is_some_and(|binding| binding.server == targets.read(usize::from(server.0)));
        if bound {
            let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
            let timeout = alive.entry(key).or_default();
            *timeout = (*timeout).max(persistence.timeout_ns);
        }
    }

    /// What was met, for [`Keeper::prolong`].
    pub fn alive(self) -> Vec<(Key, Binding, u64)> {
        let Self { bindings, alive, .. } = self;
        let alive = alive.into_inner().unwrap_or_else(PoisonError::into_inner);
        let found = |(key, timeout): (Key, u64)| Some((key, *bindings.get(&key)?, timeout));
        alive.into_iter().filter_map(found).collect()
    }
}

//! Which client is bound to which server. Nothing runs out here: time-outs are longer than any
//! test.

use std::collections::HashMap;

use lb_common::addr::V6;
use lb_common::reason::TableEvent;
use lb_common::service::binding::{Persistence, mask};
use lb_datapath::plan::Target;

use super::Model;
use super::setting::ModelService;

/// Group and masked client.
type Key = (u64, [u64; 2]);

#[derive(Default)]
pub(super) struct Bindings {
    /// By clients with an established connection.
    full: HashMap<Key, Target>,
    /// By clients that have sent first packets.
    tentative: HashMap<Key, Target>,
}

/// `None`: the service binds nobody.
fn key(service: &ModelService, client: V6) -> Option<Key> {
    let settings = service.settings.persistence?;
    let mask = mask(service.key.vip.is_ipv4(), settings.prefix);
    let key = Persistence { mask, group: settings.group, ..Persistence::default() }.key(client);
    Some((settings.group, key.client.0))
}

/// Where the server of this address is in the service, if bound clients may go there.
fn place(service: &ModelService, server: Target) -> Option<usize> {
    let may = |index: &usize| {
        let found = &service.servers[*index];
        found.target == server && found.binds && found.usable && server != Target::Local
    };
    (0..service.servers.len()).find(may)
}

impl Model {
    /// The server that the client is bound to.
    pub(super) fn bound(&self, service: usize, client: V6) -> Option<usize> {
        let service = &self.setting.services[service];
        let key = key(service, client)?;
        let Bindings { full, tentative } = &self.bindings;
        place(service, *full.get(&key).or_else(|| tentative.get(&key))?)
    }

    /// A first packet was given to a server.
    pub(super) fn bind(&mut self, service: usize, client: V6, server: usize) {
        let service = &self.setting.services[service];
        let target = service.servers[server].target;
        let Some(key) = key(service, client).filter(|_| place(service, target) == Some(server)) else {
            return;
        };
        self.bindings.full.remove(&key);
        self.bindings.tentative.insert(key, target);
    }

    /// The client has an established connection to a server.
    pub(super) fn prolong(&mut self, service: usize, client: V6, server: usize) {
        let service = &self.setting.services[service];
        let target = service.servers[server].target;
        let Some(key) = key(service, client).filter(|_| place(service, target) == Some(server)) else {
            return;
        };
        let Bindings { full, tentative } = &self.bindings;
        let other = full.get(&key).or_else(|| tentative.get(&key)).filter(|other| **other != target);
        let is_bound = full.contains_key(&key) || tentative.contains_key(&key);
        if other.is_none_or(|other| place(service, *other).is_none()) {
            self.bindings.full.insert(key, target);
            if !is_bound {
                self.event(TableEvent::BindingLost);
            }
        }
    }
}

//! What servers have carried that are gone: totals of those that have departed, and of those that
//! are being purged.

use std::collections::HashMap;

use lb_common::server::ServerId;
use lb_model::{ServiceKey, Totals};

#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// Totals of servers that have departed, by service.
    departed: HashMap<ServiceKey, Totals>,
    /// Servers whose connections are being removed, and the service that each belonged to.
    purging: HashMap<ServerId, ServiceKey>,
}

impl Accounts {
    /// The server's connections are being removed from now on.
    pub(super) fn purge(&mut self, service: ServiceKey, server: ServerId) {
        self.purging.insert(server, service);
    }

    /// The server's connections are removed; `totals` are the last that its number stands for.
    pub(super) fn purged(&mut self, server: ServerId, totals: Totals) {
        if let Some(service) = self.purging.remove(&server) {
            self.departed.entry(service).or_default().add(totals);
        }
    }

    /// Forgets services of which `is_known` does not hold.
    pub(super) fn retain(&mut self, is_known: impl Fn(&ServiceKey) -> bool) {
        self.departed.retain(|key, _| is_known(key));
    }

    /// Totals of the service's departed servers. `read` tells those of a server that is being
    /// purged.
    pub(super) fn departed(&self, service: &ServiceKey, read: impl Fn(ServerId) -> Totals) -> Totals {
        let mut totals = self.departed.get(service).copied().unwrap_or_default();
        let purging = self.purging.iter().filter(|(_, key)| *key == service);
        purging.for_each(|(server, _)| totals.add(read(*server)));
        totals
    }
}

#[cfg(test)]
mod tests {
    use lb_model::Protocol;

    use super::*;

    fn carried(connections: u64) -> Totals {
        Totals { connections, ..Totals::default() }
    }

    #[test]
    fn a_server_counts_once_while_it_is_purged_and_afterwards() {
        let key = |port| ServiceKey { vip: [192, 0, 2, 10].into(), port, protocol: Protocol::Tcp };
        let mut accounts = Accounts::default();
        accounts.purge(key(80), ServerId(1));
        accounts.purge(key(443), ServerId(2));
        let departed = |accounts: &Accounts| {
            [80, 443].map(|port| accounts.departed(&key(port), |server| carried(server.0.into())).connections)
        };
        assert_eq!(departed(&accounts), [1, 2]);
        accounts.purged(ServerId(1), carried(7));
        assert_eq!(departed(&accounts), [7, 2], "the number may have another server now");
        accounts.retain(|service| *service == key(443));
        assert_eq!(departed(&accounts), [0, 2]);
    }
}

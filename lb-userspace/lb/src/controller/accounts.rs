//! What servers have carried that are gone: totals of those that have departed, and of those that
//! are being purged; and from where listings in ipvsadm's way count (`ipvsadm -Z`).

use std::collections::HashMap;

use lb_common::server::ServerId;
use lb_model::{ServiceKey, Totals};

#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// Totals of servers that have departed, by service.
    departed: HashMap<ServiceKey, Totals>,
    /// Servers whose connections are being removed, and the service that each belonged to.
    purging: HashMap<ServerId, ServiceKey>,
    /// Totals of servers at the last `ipvsadm -Z`. They are no part of the totals, which only rise.
    zeroed: HashMap<ServerId, Totals>,
    /// The same of the departed ones of a service.
    zeroed_departed: HashMap<ServiceKey, Totals>,
}

impl Accounts {
    /// The server's connections are being removed from now on.
    pub(super) fn purge(&mut self, service: ServiceKey, server: ServerId) {
        self.purging.insert(server, service);
    }

    /// The server's connections are removed; `totals` are the last that its number stands for.
    pub(super) fn purged(&mut self, server: ServerId, totals: Totals) {
        let zeroed = self.zeroed.remove(&server);
        if let Some(service) = self.purging.remove(&server) {
            self.departed.entry(service).or_default().add(totals);
            if let Some(zeroed) = zeroed {
                self.zeroed_departed.entry(service).or_default().add(zeroed);
            }
        }
    }

    /// Forgets services of which `is_known` does not hold.
    pub(super) fn retain(&mut self, is_known: impl Fn(&ServiceKey) -> bool) {
        self.departed.retain(|key, _| is_known(key));
        self.zeroed_departed.retain(|key, _| is_known(key));
    }

    /// Listings in ipvsadm's way count the server from these totals on.
    pub(super) fn zero(&mut self, server: ServerId, totals: Totals) {
        self.zeroed.insert(server, totals);
    }

    /// The same for the service's departed servers, and for those that are being purged.
    pub(super) fn zero_departed(&mut self, service: &ServiceKey, read: impl Fn(ServerId) -> Totals) {
        let purging = self.purging.iter().filter(|(_, key)| *key == service);
        self.zeroed.extend(purging.map(|(server, _)| (*server, read(*server))));
        let totals = self.departed.get(service).copied().unwrap_or_default();
        self.zeroed_departed.insert(*service, totals);
    }

    /// From where the server counts.
    pub(super) fn zeroed(&self, server: ServerId) -> Totals {
        self.zeroed.get(&server).copied().unwrap_or_default()
    }

    /// From where the service's departed servers count.
    pub(super) fn zeroed_departed(&self, service: &ServiceKey) -> Totals {
        let mut totals = self.zeroed_departed.get(service).copied().unwrap_or_default();
        let purging = self.purging.iter().filter(|(_, key)| *key == service);
        purging.for_each(|(server, _)| totals.add(self.zeroed(*server)));
        totals
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

    /// What a listing shows, of three servers: one is there, one leaves, one has left.
    #[test]
    fn what_was_zeroed_stays_so_when_a_server_leaves() {
        let key = ServiceKey { vip: [192, 0, 2, 10].into(), port: 80, protocol: Protocol::Tcp };
        let mut accounts = Accounts::default();
        let shown = |accounts: &Accounts, [there, leaving]: [u64; 2]| {
            let departed = accounts.departed(&key, |_| carried(leaving));
            let departed = departed.since(accounts.zeroed_departed(&key));
            (carried(there).since(accounts.zeroed(ServerId(1))).connections, departed.connections)
        };
        accounts.purge(key, ServerId(2));
        accounts.purge(key, ServerId(3));
        accounts.purged(ServerId(3), carried(5));
        assert_eq!(shown(&accounts, [100, 10]), (100, 15));
        accounts.zero(ServerId(1), carried(100));
        accounts.zero_departed(&key, |_| carried(10));
        assert_eq!(shown(&accounts, [100, 10]), (0, 0));
        assert_eq!(shown(&accounts, [103, 14]), (3, 4));
        accounts.purged(ServerId(2), carried(14));
        assert_eq!(shown(&accounts, [103, 0]), (3, 4), "it is among the departed now");
        assert_eq!(accounts.zeroed(ServerId(2)), Totals::default(), "the number may have another server");
        accounts.purge(key, ServerId(1));
        accounts.purged(ServerId(1), carried(105));
        assert_eq!(shown(&accounts, [0, 0]), (0, 9));
        accounts.retain(|_| false);
        assert_eq!(shown(&accounts, [0, 0]), (0, 0));
    }
}

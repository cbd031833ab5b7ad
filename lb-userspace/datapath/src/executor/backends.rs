//! Servers that are reached by address translation: where each is, whose a packet is that comes
//! from one, and the routes by which it gets to the client.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use lb_common::control::{Control, Vips};
use lb_common::forward::egress::Egress;
use lb_common::forward::nat::source::MOST_POOLS;
use lb_common::forward::nat::{
    ANY_PORT, Backend, LONGEST_RING, MOST_ROUTES, Route, RoutesInForce, Translation,
};
use lb_common::server::ServerId;
use lb_model::ServiceKey;

use super::Executor;

/// Whether both are of one address and protocol, one with a port and one with any.
fn may_meet(one: &Backend, other: &Backend) -> bool {
    (one.address, one.protocol) == (other.address, other.protocol)
        && (one.port == ANY_PORT) != (other.port == ANY_PORT)
}

/// Where packets of servers come from.
#[derive(Debug, Default)]
pub(super) struct Backends {
    servers: BTreeMap<ServerId, Backend>,
    /// The maps do not hold all of it yet.
    changed: bool,
    /// Number of the switch that has put the present routes in force.
    routes_switched: u64,
}

impl Executor {
    /// The server is reached by address translation from now on, or not any more.
    pub(super) fn set_translation(
        &mut self,
        key: &ServiceKey,
        id: ServerId,
        given: Option<Translation>,
        egress: Option<Egress>,
    ) -> Result<()> {
        let Some(given) = given else {
            self.backends.changed |= self.backends.servers.remove(&id).is_some();
            return Ok(());
        };
        let pool = self.pool_of(key)?;
        let backend = Backend::new(given.address, given.port, key.protocol);
        let before = self.maps.translations.read(usize::from(id.0));
        // Its place in the ring stays until that is made anew.
        let same = before.address == given.address && before.port == given.port && before.next != 0;
        let Translation { next, ring_has_pools, beside, .. } = match same {
            true => before,
            false => Translation { next: id.0, ..Translation::UNSET },
        };
        let protocol = key.protocol.number().into();
        // The fast way knows one port of a service, and no tags.
        let tagged = egress.is_some_and(|egress| !egress.is_untagged());
        let slow_answers = (given.port == ANY_PORT || tagged).into();
        let each_datagram = self.record(key)?.settings.each_datagram.into();
        let after = Translation {
            next,
            pool,
            ring_has_pools,
            protocol,
            beside,
            slow_answers,
            each_datagram,
            ..given
        };
        self.maps.translations.write(usize::from(id.0), after);
        self.backends.changed |= self.backends.servers.insert(id, backend) != Some(backend);
        self.backends.changed |= before.pool != pool;
        Ok(())
    }

    /// The servers of this service have its addresses in the place of clients from now on, and
    /// answer as its datagrams are scheduled.
    pub(super) fn write_pool(&mut self, key: &ServiceKey) -> Result<()> {
        let pool = self.pool_of(key)?;
        let record = self.record(key)?;
        let each_datagram = record.settings.each_datagram.into();
        let servers: Vec<ServerId> = record.servers.values().chain(&record.purging).copied().collect();
        for id in servers.into_iter().filter(|id| self.backends.servers.contains_key(id)) {
            let before = self.maps.translations.read(usize::from(id.0));
            self.maps.translations.write(usize::from(id.0), Translation { pool, each_datagram, ..before });
            self.backends.changed |= before.pool != pool;
        }
        Ok(())
    }

    /// The number of the service's pool; 0: it has none.
    fn pool_of(&mut self, key: &ServiceKey) -> Result<u16> {
        let Some(wanted) = self.record(key)?.settings.source_nat else { return Ok(0) };
        let mut numbers = 1..MOST_POOLS as u16;
        if let Some(known) = numbers.clone().find(|number| self.maps.pools.read((*number).into()) == wanted) {
            return Ok(known);
        }
        let servers = self.backends.servers.keys().chain(self.unclaimed.servers.values());
        let used: BTreeSet<u16> =
            servers.map(|id| self.maps.translations.read(usize::from(id.0)).pool).collect();
        let free = numbers.find(|number| !used.contains(number));
        let number = free.context("there is no room for another list of `source_nat`")?;
        // A packet may be under way with the pool that had the number.
        self.switches += 1;
        self.settle(self.switches);
        self.maps.pools.write(number.into(), wanted);
        Ok(number)
    }

    /// Nothing comes from this server any more.
    pub(super) fn forget_backend(&mut self, id: ServerId) -> Result<()> {
        self.backends.changed |= self.backends.servers.remove(&id).is_some();
        self.write_backends()
    }

    /// Servers of one address, port and protocol become a ring.
    pub(super) fn write_backends(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.backends.changed) {
            return Ok(());
        }
        let mut rings: BTreeMap<Backend, Vec<ServerId>> = BTreeMap::new();
        for (id, backend) in &self.backends.servers {
            rings.entry(*backend).or_default().push(*id);
        }
        let mut filter = Vips::default();
        for (backend, ring) in &rings {
            ensure!(
                ring.len() <= LONGEST_RING as usize,
                "more than {LONGEST_RING} services use one port of a server"
            );
            filter.insert(backend.address);
            let beside = rings.keys().any(|other| may_meet(backend, other)).into();
            let next = ring.iter().skip(1).chain(ring.first());
            let known: Vec<Translation> =
                ring.iter().map(|id| self.maps.translations.read(usize::from(id.0))).collect();
            let ring_has_pools = known.iter().any(Translation::has_pool).into();
            for ((id, next), known) in ring.iter().zip(next).zip(known) {
                let after = Translation { next: next.0, ring_has_pools, beside, ..known };
                self.maps.translations.write(usize::from(id.0), after);
            }
        }
        let wanted = rings
            .iter()
            .filter_map(|(backend, ring)| Some((zerocopy::transmute!(*backend), u32::from(ring.first()?.0))));
        let wanted: BTreeMap<[u64; 3], u32> = wanted.collect();
        // The filter never lacks one that is in the map.
        let before = self.maps.control.read(0).translated.get();
        self.write_translated(&filter.union(&before));
        self.maps.backends.set("servers that are reached by address translation", &wanted)?;
        self.write_translated(&filter);
        Ok(())
    }

    fn write_translated(&self, filter: &Vips) {
        for (index, word) in filter.0.iter().enumerate() {
            let place = self.maps.control.word(0, offset_of!(Control, translated) + index * 8);
            place.store(*word, Ordering::Release);
        }
    }

    /// From now on these are the routes to clients, longer prefixes first.
    pub fn set_routes(&mut self, routes: &[Route]) -> Result<()> {
        ensure!(routes.len() <= MOST_ROUTES as usize, "there is room for {MOST_ROUTES} routes to clients");
        self.settle(self.backends.routes_switched);
        let before = self.maps.control.read(0).routes.get();
        let first = if before.first() == 0 { MOST_ROUTES } else { 0 };
        for (index, route) in (first..).zip(routes) {
            self.maps.routes.write(index as usize, *route);
        }
        let word = RoutesInForce::new(first, routes.len() as u32);
        self.routes_word().store(word.0, Ordering::Release);
        self.switches += 1;
        self.backends.routes_switched = self.switches;
        Ok(())
    }

    fn routes_word(&self) -> &AtomicU32 {
        self.maps.control.half_word(0, offset_of!(Control, routes))
    }
}

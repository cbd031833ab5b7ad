//! Servers that are reached by address translation: where each is, whose a packet is that comes
//! from one, and the routes by which it gets to the client.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use lb_common::control::{Control, Vips};
use lb_common::nat::{Backend, LONGEST_RING, MOST_ROUTES, Route, RoutesInForce, Translation};
use lb_common::server::ServerId;
use lb_model::ServiceKey;

use super::Executor;

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
    pub(super) fn set_translation(&mut self, key: &ServiceKey, id: ServerId, given: Option<Translation>) {
        let Some(given) = given else {
            self.backends.changed |= self.backends.servers.remove(&id).is_some();
            return;
        };
        let backend = Backend::new(given.address, given.port, key.protocol);
        let before = self.maps.translations.read(usize::from(id.0));
        // Its place in the ring stays until that is made anew.
        let same = before.address == given.address && before.port == given.port && before.next != 0;
        let next = if same { before.next } else { id.0 };
        self.maps.translations.write(usize::from(id.0), Translation { next, ..given });
        self.backends.changed |= self.backends.servers.insert(id, backend) != Some(backend);
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
            let next = ring.iter().skip(1).chain(ring.first());
            for (id, next) in ring.iter().zip(next) {
                let known = self.maps.translations.read(usize::from(id.0));
                self.maps.translations.write(usize::from(id.0), Translation { next: next.0, ..known });
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

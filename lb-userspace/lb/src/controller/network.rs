//! The network around the director: who is to be on its segment, and by which routes and MACs all
//! others are reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_net::routes::{Others, Routes, Want};

use super::neighbourhood::Neighbourhood;
use super::runtime::Runtime;

pub(super) struct Network {
    neighbours: Neighbourhood,
    routes: Routes,
    /// Servers of direct routing, fallbacks and nodes, which must be on the segment.
    segment: BTreeSet<IpAddr>,
}

impl Network {
    pub(super) const fn new(neighbours: Neighbourhood, routes: Routes) -> Self {
        Self { neighbours, routes, segment: BTreeSet::new() }
    }

    /// These addresses must be on the segment from now on.
    pub(super) fn set_segment(&mut self, addresses: BTreeSet<IpAddr>) {
        self.segment = addresses;
    }

    /// Has routes to these addresses found.
    pub(super) fn want_routes(&self, addresses: BTreeMap<IpAddr, Want>) {
        self.routes.want(addresses);
    }

    /// Has the kernel's routes copied, by the main interface and what these say; `None`: they are
    /// not needed.
    pub(super) fn want_table(&self, others: Option<Others>) {
        self.routes.want_table(others);
    }

    /// Has the MACs of servers and next hops followed; `main` is the index of the main interface.
    pub(super) fn want_neighbours(&mut self, runtime: &Runtime, main: u32) {
        let mut wanted = runtime.ways.next_hops();
        let here = self.segment.iter().filter(|address| !runtime.ways.is_elsewhere(**address));
        let on_main = wanted.entry(main).or_default();
        on_main.extend(here);
        for (interface, gateways) in runtime.clients.next_hops() {
            wanted.entry(interface.unwrap_or(main)).or_default().extend(gateways);
        }
        self.neighbours.want(wanted);
    }

    /// Makes the kernel verify at once that the address still has its MAC.
    pub(super) fn verify(&self, address: IpAddr) {
        self.neighbours.verify(address);
    }
}

//! What a director is configured with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::addr::V6;
use lb_common::control::Vips;
use lb_common::forward::egress::Egress;
use lb_common::forward::nat::{ANY_PORT, Backend, Route, Translation};
use lb_common::forward::tunnel::Tunnel;
use lb_common::lease::Lease;
use lb_common::mac::Mac;
use lb_common::packet::vlan::Vlan;
use lb_common::schedule::compile::{Candidate, Compiled, Holding, compile};
use lb_common::server::{GivesUp, ServerId};
use lb_common::shared::Shared;
use lb_datapath::plan::clients::Clients;
use lb_datapath::plan::quic::Quic;
use lb_datapath::plan::{Server, Service, Settings, State, Target};
use lb_model::ids::GroupNumber;
use lb_model::{Forwarding, Ports, Protocol, Scheduler, ServiceKey};

pub struct Setting {
    pub mac: Mac,
    pub services: Vec<ModelService>,
    by_address: BTreeMap<(V6, u16, u8), usize>,
    /// Services with several ports.
    with_ports: Vec<usize>,
    /// Where packets of servers behind address translation come from, and whose they may be: by
    /// service and server, in the order of the services.
    backends: BTreeMap<Backend, Vec<(usize, usize)>>,
    /// Which addresses may be such servers'.
    translated: Shared<Vips>,
    /// To clients, the longest prefix first.
    pub routes: Vec<Route>,
    /// Of the groups.
    pub vips: BTreeMap<V6, u8>,
    /// Which addresses may be VIPs of services.
    filter: Shared<Vips>,
    pub leases: Vec<Lease>,
    pub directors: BTreeSet<Mac>,
    /// What the program's hashes are mixed with, where the test knows.
    pub hash_keys: Option<[u64; 2]>,
}

pub struct ModelService {
    pub key: ServiceKey,
    pub settings: Settings,
    pub clients: Clients,
    pub quic: Quic,
    pub scheduler: Scheduler,
    pub servers: Vec<ModelServer>,
    /// Picks of rr and wrr so far.
    pub cursor: u64,
    pub compiled: Compiled,
    /// Directors of the cluster are among its servers, and this host is.
    pub shared: bool,
    pub served_here: bool,
}

pub struct ModelServer {
    pub target: Target,
    pub forwarding: Forwarding,
    pub mac: Option<Mac>,
    pub tunnel: Option<Tunnel>,
    pub translation: Option<Translation>,
    pub egress: Option<Egress>,
    /// It may have new connections.
    pub usable: bool,
    /// New connections of bound clients may go to it.
    pub binds: bool,
    pub is_member: bool,
    pub weight: u16,
    /// What becomes of its connections, if they do not stay although it is dead.
    pub gives_up: Option<GivesUp>,
}

impl Setting {
    pub fn new(
        mac: Mac,
        state: &State,
        vips: &[(IpAddr, GroupNumber)],
        leases: Vec<Lease>,
        directors: BTreeSet<Mac>,
    ) -> Self {
        let services: Vec<ModelService> = state
            .services
            .iter()
            .map(|(key, service)| ModelService::new(mac, *key, service, &directors))
            .collect();
        let address = |service: &ModelService| {
            let ServiceKey { vip, port, protocol } = service.key;
            (V6::from(vip), port, protocol.number())
        };
        let has_one = |index: &usize| services[*index].settings.ports.is_none();
        let (with_one, with_ports): (Vec<usize>, Vec<usize>) = (0..services.len()).partition(has_one);
        let by_address = with_one.iter().map(|index| (address(&services[*index]), *index)).collect();
        let mut translated = Vips::default();
        let mut backends: BTreeMap<Backend, Vec<(usize, usize)>> = BTreeMap::new();
        for (index, service) in services.iter().enumerate() {
            for (server, translation) in service.translations() {
                translated.insert(translation.address);
                let backend = Backend::new(translation.address, translation.port, service.key.protocol);
                backends.entry(backend).or_default().push((index, server));
            }
        }
        let mut filter = Vips::default();
        state.services.keys().for_each(|key| filter.insert(V6::from(key.vip)));
        Self {
            mac,
            services,
            by_address,
            with_ports,
            backends,
            translated: Shared::new(translated),
            routes: Vec::new(),
            vips: vips.iter().map(|(vip, group)| (V6::from(*vip), group.0)).collect(),
            filter: Shared::new(filter),
            leases,
            directors,
            hash_keys: None,
        }
    }

    pub fn service_at(&self, address: V6, port: u16, protocol: Protocol) -> Option<usize> {
        let exact = self.by_address.get(&(address, port, protocol.number())).copied();
        // The port itself wins over a range, and a range over all ports.
        let among = |wanted: fn(&Ports) -> bool| {
            self.with_ports.iter().copied().find(|index| {
                let ModelService { key, settings, .. } = &self.services[*index];
                let is_at = (V6::from(key.vip), key.protocol) == (address, protocol);
                is_at && settings.ports.is_some_and(|ports| wanted(&ports) && ports.contains(port))
            })
        };
        exact.or_else(|| among(|ports| !ports.is_all())).or_else(|| among(Ports::is_all))
    }

    /// The servers behind address translation whose packets come from there: of that port, and of
    /// any.
    pub fn backends(&self, address: V6, port: u16, protocol: Protocol) -> [&[(usize, usize)]; 2] {
        [port.to_be(), ANY_PORT].map(|port| {
            let found = self.backends.get(&Backend::new(address, port, protocol));
            found.map_or(&[][..], Vec::as_slice)
        })
    }

    /// The port of the VIP that belongs to this one of a server's.
    pub fn port_of(&self, service: usize, server_port: u16) -> u16 {
        let ModelService { key, settings, .. } = &self.services[service];
        if settings.ports.is_some() { server_port } else { key.port }
    }

    pub fn may_be_translated(&self, address: V6) -> bool {
        self.translated.may_contain(address)
    }

    /// The MAC of the next hop to a client in this VLAN.
    pub fn way_to(&self, client: V6, vlan: Vlan) -> Option<Mac> {
        let bits = |address: V6| u128::from(address.0[0].to_be()) << 64 | u128::from(address.0[1].to_be());
        let leads = |route: &&Route| (bits(client) ^ bits(route.prefix)) & bits(route.mask) == 0;
        self.routes.iter().filter(|route| route.vlan == vlan).find(leads)?.hop.mac()
    }

    pub fn may_be_vip(&self, address: V6) -> bool {
        self.filter.may_contain(address)
    }

    /// The same services with the same servers, some of which are not as they were.
    pub fn change(&mut self, state: &State) {
        for service in &mut self.services {
            let new =
                ModelService::new(self.mac, service.key, &state.services[&service.key], &self.directors);
            *service = ModelService { cursor: service.cursor, ..new };
        }
    }

    /// Of a service's group; without one always active.
    pub fn lease(&self, service: usize) -> Lease {
        match self.services[service].settings.group {
            Some(group) => self.leases[usize::from(group.0)],
            None => Lease::UNLIMITED,
        }
    }
}

impl ModelService {
    fn new(own: Mac, key: ServiceKey, service: &Service, directors: &BTreeSet<Mac>) -> Self {
        let servers: Vec<ModelServer> =
            service.servers.iter().map(|server| ModelServer::new(own, server)).collect();
        let is_at = |server: &&ModelServer| server.tunnel.is_none() && server.mac.is_some();
        let macs: BTreeSet<Mac> = servers.iter().filter(is_at).filter_map(|server| server.mac).collect();
        let among_directors = !directors.is_empty();
        let served_here = among_directors && macs.contains(&own);
        let shared = served_here || macs.iter().any(|mac| directors.contains(mac));
        let candidate = |(index, server): (usize, &Server)| Candidate {
            server: ServerId(index as u16 + 1),
            weight: if server.usable { server.weight } else { 0 },
            holding: Holding {
                address: server.target.address(),
                share: server.share,
                keeps: server.usable && server.weight == 0,
            },
            thresholds: server.thresholds,
        };
        let candidates: Vec<Candidate> = service.servers.iter().enumerate().map(candidate).collect();
        Self {
            key,
            settings: service.settings,
            clients: service.clients.clone(),
            quic: service.quic.clone(),
            scheduler: service.scheduler,
            servers,
            cursor: 0,
            compiled: compile(service.scheduler, service.hashing, &candidates),
            shared,
            served_here,
        }
    }

    fn translations(&self) -> impl Iterator<Item = (usize, Translation)> {
        let servers = self.servers.iter().enumerate();
        servers.filter_map(|(index, server)| Some((index, server.translation?)))
    }

    pub fn has_members(&self) -> bool {
        self.servers.iter().any(|server| server.is_member)
    }
}

impl ModelServer {
    fn new(own: Mac, server: &Server) -> Self {
        let forwarding = server.forwarding(own);
        let is_reachable = server.mac.is_some() || forwarding == Forwarding::Local;
        Self {
            target: server.target,
            forwarding,
            mac: server.mac,
            tunnel: server.tunnel,
            translation: server.translation,
            egress: server.egress,
            binds: server.binds,
            usable: server.usable && is_reachable,
            is_member: server.usable && server.weight > 0,
            weight: server.weight,
            gives_up: server.gives_up,
        }
    }

    pub fn is_reachable(&self) -> bool {
        self.mac.is_some() || self.forwarding == Forwarding::Local
    }
}

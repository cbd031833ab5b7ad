//! The director's services as IPVS would have them.

use std::net::IpAddr;

use lb_api::rates::{Rate, Rates};
use lb_api::status::{ServerStatus, ServiceStatus, Status};
use lb_model::{Forwarding, Health, Protocol, Totals};

use super::options::Address;

/// Bytes of a frame that IPVS does not count.
const ETHERNET: u64 = 14;

pub(super) struct Table {
    /// Of the connection table: slots.
    pub size: u64,
    /// In IPVS's order.
    pub services: Vec<Service>,
}

/// Connections, packets and bytes, in and out; or those of a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts(pub [u64; 5]);

pub(super) struct Service {
    pub protocol: Protocol,
    pub address: IpAddr,
    /// Of several ports the first one; 0: all.
    pub port: u16,
    pub scheduler: String,
    /// Such as `sh-port`.
    pub flags: Vec<String>,
    pub persistence: Option<Persistence>,
    pub ops: bool,
    pub counts: Counts,
    pub servers: Vec<Server>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Persistence {
    pub timeout: u64,
    pub prefix: u8,
}

pub(super) struct Server {
    pub address: IpAddr,
    pub port: u16,
    pub method: Forwarding,
    pub tunnel: Option<Tunnel>,
    pub weight: u16,
    pub active: u32,
    pub inactive: u32,
    pub bound: u64,
    pub upper: u32,
    pub lower: u32,
    pub counts: Counts,
}

pub(super) enum Tunnel {
    Ipip,
    /// With the server's port.
    Gue(u16),
    Gre,
}

impl Table {
    /// With the counters, or with the rates if there are some. What is to be saved has the
    /// configured weights, and nothing that drains: a backup that was made during an outage is none
    /// of the outage.
    pub(super) fn of(status: &Status, rates: Option<&Rates>, save: bool) -> Self {
        let services = status.services.iter().filter(|service| !(save && service.draining));
        let mut services: Vec<Service> = services.map(|one| Service::of(one, rates, save)).collect();
        services.sort_by_key(|one| (one.address.is_ipv6(), one.protocol, one.address, one.port));
        Self { size: status.table.capacity, services }
    }
}

impl Service {
    fn of(status: &ServiceStatus, rates: Option<&Rates>, save: bool) -> Self {
        let ServiceStatus { vip, port, scheduler, hash, persistence, ops, .. } = status;
        let protocol = if status.protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        let flags = [(hash.fallback, "fallback"), (hash.port, "port")];
        let flags = flags.into_iter().filter(|(is_set, _)| *is_set);
        let listed = status.servers.iter().filter(|server| !(save && server.health == Health::Draining));
        let mut servers: Vec<Server> = listed.map(|one| Server::of(status, one, rates, save)).collect();
        if !save {
            servers.extend(fallback(status, rates));
        }
        servers.sort_by_key(|one| (one.address, one.port));
        let mut counts = Counts::default();
        servers.iter().for_each(|server| counts.add(server.counts));
        if rates.is_none() {
            counts.add(Counts::of(status.departed.since(status.zeroed_departed)));
        }
        Self {
            protocol,
            address: *vip,
            port: *port,
            scheduler: scheduler.clone(),
            flags: flags.map(|(_, flag)| format!("{scheduler}-{flag}")).collect(),
            persistence: persistence
                .as_ref()
                .map(|own| Persistence { timeout: own.timeout_s, prefix: own.prefix }),
            ops: *ops,
            counts,
            servers,
        }
    }

    pub(super) fn is(&self, wanted: &Address) -> bool {
        let Address { protocol, address, port } = *wanted;
        (self.protocol, self.address, self.port) == (protocol, address, port)
    }
}

/// The one that serves in the place of the servers: ldirectord adds it to the table then.
fn fallback(service: &ServiceStatus, rates: Option<&Rates>) -> Option<Server> {
    if !service.on_fallback {
        return None;
    }
    match &service.fallback_server {
        Some(server) => Some(Server { weight: 1, ..Server::of(service, server, rates, false) }),
        None if service.fallback == "local" => Some(Server {
            address: if service.vip.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            },
            port: service.port,
            method: Forwarding::Local,
            tunnel: None,
            weight: 1,
            active: 0,
            inactive: 0,
            bound: 0,
            upper: 0,
            lower: 0,
            counts: Counts::default(),
        }),
        None => None,
    }
}

impl Server {
    fn of(service: &ServiceStatus, status: &ServerStatus, rates: Option<&Rates>, save: bool) -> Self {
        let counts = match rates {
            None => {
                let ServerStatus { connections, packets, bytes, zeroed, .. } = *status;
                Counts::of(Totals { connections, packets, bytes }.since(zeroed))
            }
            Some(rates) => Counts::of_rate(rates.of(service, status).unwrap_or_default()),
        };
        Self {
            address: status.address,
            port: status.port,
            method: status.method,
            tunnel: status.tunnel.as_deref().map(|kind| match kind {
                "gue" => Tunnel::Gue(status.tunnel_port.unwrap_or(lb_model::GUE_PORT)),
                "gre" => Tunnel::Gre,
                _ => Tunnel::Ipip,
            }),
            weight: if save { status.weight } else { status.effective_weight },
            active: status.active,
            inactive: status.inactive,
            bound: status.bound,
            upper: status.upper_threshold,
            lower: status.lower_threshold,
            counts,
        }
    }
}

impl Counts {
    /// What servers send does not pass the director, or is not counted: it is 0, as in IPVS with
    /// direct routing.
    fn of(Totals { connections, packets, bytes }: Totals) -> Self {
        Self([connections, packets, 0, bytes.saturating_sub(packets.saturating_mul(ETHERNET)), 0])
    }

    fn of_rate(Rate { connections, packets, bytes }: Rate) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rates are small and positive"
        )]
        let [connections, packets, bytes] = [connections, packets, bytes].map(|rate| rate.round() as u64);
        Self::of(Totals { connections, packets, bytes })
    }

    fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

//! What checks through the VIP need of the controller: sockets, a program that knows their answers, and MACs and addresses.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::{Context as _, Result};
use lb_common::probe::{Answer, Ports};
use lb_health::net::{Neighbour, Neighbours};
use lb_model::{Config, Protocol, Server, Service, Via};
use lb_net::xsk::{self, Copying};
use socket2::SockRef;

use super::Controller;
use super::desired::Knowledge as _;

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What was found and told the last time.
#[derive(Default)]
pub(super) struct VipChecks {
    /// This host's address towards each server that is checked through the VIP.
    own: HashMap<IpAddr, Option<Ipv4Addr>>,
    answers: BTreeSet<Answer>,
    /// Why the checks cannot be made.
    trouble: Option<String>,
    has_looked_at_ports: bool,
}

impl Controller {
    /// Makes all that these checks need what configuration and interface are now. Addresses and queues of the interface change
    /// without a word, so this is done now and then as well.
    pub(super) fn follow_vip_checks(&mut self) {
        let watched = self.knowledge.draining.with(&self.config.services);
        let servers = checked_through_vip(&watched).map(|(_, server, _)| server.address);
        self.vip_checks.own = servers.map(|server| (server, own_address(&self.config, server))).collect();
        let done = self.follow_answers().and_then(|()| self.follow_sockets());
        let trouble = done.err().map(|error| format!("{error:#}"));
        if trouble != self.vip_checks.trouble {
            match &trouble {
                Some(trouble) => tracing::error!("checks through the VIP cannot be made: {trouble}"),
                None => tracing::info!("checks through the VIP can be made again"),
            }
            self.vip_checks.trouble = trouble;
        }
        self.tell_stations();
    }

    /// Tries again what did not work.
    pub(super) fn retry_vip_checks(&mut self) {
        if self.vip_checks.trouble.is_some() {
            self.follow_vip_checks();
        }
    }

    /// Tells the probes where servers are.
    pub(super) fn tell_stations(&mut self) {
        let servers = self.vip_checks.own.iter().map(|(server, own)| {
            let neighbour = Neighbour { mac: self.knowledge.mac(*server), own: *own };
            (*server, neighbour)
        });
        let neighbours = Neighbours {
            interface: self.config.interface.clone(),
            mac: self.data_path.executor.mac(),
            servers: servers.collect(),
        };
        self.checker.vip().set_neighbours(neighbours);
    }

    fn follow_answers(&mut self) -> Result<()> {
        let own = &self.vip_checks.own;
        let watched = self.knowledge.draining.with(&self.config.services);
        let answers: BTreeSet<Answer> = checked_through_vip(&watched)
            .flat_map(|(service, server, place)| {
                let check = &server.checks[place];
                let own = check.source.or_else(|| own.get(&server.address)?.map(IpAddr::V4));
                let transports = check.probe.transports().iter();
                transports.filter_map(move |transport| answer(service, *transport, own?))
            })
            .collect();
        if answers != self.vip_checks.answers {
            self.data_path.executor.set_answers(&answers)?;
            self.vip_checks.answers = answers;
        }
        Ok(())
    }

    /// Opens the sockets that are lacking: all of them at first, later those of queues that the interface has got since.
    fn follow_sockets(&mut self) -> Result<()> {
        let open = self.checker.vip().queues();
        if self.vip_checks.own.is_empty() {
            if open > 0 {
                self.checker.vip().close();
            }
            return Ok(());
        }
        if self.attachment.is_none() {
            return Ok(());
        }
        let copying = if self.config.zero_copy { Copying::Zero } else { Copying::Copy };
        let sockets = xsk::open_from(open, self.index, copying)?;
        for socket in &sockets {
            self.data_path.executor.set_xsk(socket.queue(), socket.fd())?;
        }
        if let Some(socket) = sockets.first() {
            tracing::info!(
                "checks through the VIP: {} AF_XDP sockets, {}",
                sockets.len(),
                socket.copying().name()
            );
            self.checker.add_sockets(sockets).context("cannot wait at an AF_XDP socket")?;
            self.look_at_ports();
        }
        Ok(())
    }

    fn look_at_ports(&mut self) {
        let Ports { first, count } = Ports::OWN;
        if !std::mem::replace(&mut self.vip_checks.has_looked_at_ports, true)
            && last_port_of_kernel().is_some_and(|last| last >= first)
        {
            tracing::warn!(
                "checks through the VIP use ports {first} to {}, and so does this host: where it is a client of its own \
                 services, it may miss answers; sysctl net.ipv4.ip_local_port_range='32768 {}' keeps them apart",
                first + count - 1,
                first - 1
            );
        }
    }
}

/// All checks through the VIP, by their place among the server's.
pub(super) fn checked_through_vip(services: &[Service]) -> impl Iterator<Item = (&Service, &Server, usize)> {
    services.iter().flat_map(|service| {
        service.servers.iter().flat_map(move |server| {
            let through = server.checks.iter().enumerate().filter(|(_, check)| check.via == Via::Vip);
            through.map(move |(place, _)| (service, server, place))
        })
    })
}

fn answer(service: &Service, transport: Protocol, own: IpAddr) -> Option<Answer> {
    let (IpAddr::V4(vip), IpAddr::V4(own)) = (service.key.vip, own) else { return None };
    let word = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
    Some(Answer {
        vip: word(vip),
        own: word(own),
        port: service.key.port.to_be(),
        protocol: u16::from(transport.number()),
    })
}

/// The address that this host has towards `server`: the kernel's choice, unless that is a VIP, which may go at any time.
fn own_address(config: &Config, server: IpAddr) -> Option<Ipv4Addr> {
    let found = source_towards(server, &config.interface).ok()?;
    let of_services = config.services.iter().map(|service| service.key.vip);
    let of_groups = config.groups.iter().flat_map(|group| &group.vips).map(|vip| vip.address);
    match found {
        IpAddr::V4(own) if !of_services.chain(of_groups).any(|vip| vip == found) => Some(own),
        _ => None,
    }
}

/// Nothing is sent: a UDP socket gets its address when it is connected.
fn source_towards(server: IpAddr, interface: &str) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    SockRef::from(&socket).bind_device(Some(interface.as_bytes()))?;
    const DISCARD: u16 = 9;
    socket.connect((server, DISCARD))?;
    Ok(socket.local_addr()?.ip())
}

fn last_port_of_kernel() -> Option<u32> {
    let range = std::fs::read_to_string(PORT_RANGE).ok()?;
    range.split_whitespace().nth(1)?.parse().ok()
}

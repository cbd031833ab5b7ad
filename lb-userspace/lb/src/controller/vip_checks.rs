//! What checks through the VIP need of the controller: sockets, a program that knows their answers,
//! and MACs and addresses.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use anyhow::{Context as _, Result};
use lb_api::events::{Level, Record};
use lb_api::findings::Findings;
use lb_common::program::probe::{Answer, Ports};
use lb_health::Checker;
use lb_health::net::{Neighbour, Neighbours, Station};
use lb_model::{Config, Protocol, Server, Service, ServiceKey, Via};
use lb_net::xsk::{self, Copying};
use nix::ifaddrs::getifaddrs;
use socket2::SockRef;

use super::desired::{Packets, Way};
use super::forwarder::Forwarder;
use super::interface::Interface;
use super::neighbourhood;
use super::program::Program;
use super::runtime::Runtime;

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What was found and told the last time.
#[derive(Default)]
pub(super) struct VipChecks {
    servers: Vec<Checked>,
    answers: BTreeSet<Answer>,
    /// Why the checks cannot be made.
    trouble: Option<String>,
    has_compared_ports: bool,
}

/// A server that is checked through the VIP.
struct Checked {
    service: ServiceKey,
    packets: Packets,
    server: Server,
    /// This host's address that it answers to.
    own: Option<IpAddr>,
}

/// What these checks take from the rest of the controller.
pub(super) struct Needs<'a> {
    pub config: &'a Config,
    pub runtime: &'a Runtime,
    pub program: &'a mut Program,
    pub findings: &'a Findings,
}

impl Needs<'_> {
    /// The interfaces with a program that knows answers, the main one first, and their indices.
    fn stations(&self) -> impl Iterator<Item = (u32, Station)> {
        let station = |interface: &Interface| {
            let station = Station { interface: interface.name().to_owned(), mac: interface.mac() };
            (interface.index(), station)
        };
        self.program.interfaces().map(station)
    }
}

impl VipChecks {
    /// Why the checks cannot be made is known, and may have ended.
    pub(super) const fn lacks_something(&self) -> bool {
        self.trouble.is_some()
    }

    /// Makes all that these checks need what configuration and interface are now. Addresses and
    /// queues of the interface change without a word, so this is done now and then as well.
    pub(super) fn follow(&mut self, checker: &Checker, mut needs: Needs<'_>) {
        let watched = needs.runtime.draining.with(&needs.config.services);
        let checked = watched.iter().flat_map(|service| {
            let through_vip = |server: &&Server| server.checks.iter().any(|check| check.via == Via::Vip);
            service.servers.iter().filter(through_vip).map(move |server| (service, server))
        });
        let checked = checked.map(|(service, server)| Checked {
            service: service.key,
            packets: Packets::of(service),
            server: server.clone(),
            own: own_address(&needs, service.key.vip, server.address),
        });
        self.servers = checked.collect();
        let done = self
            .follow_answers(&mut needs.program.forwarder)
            .and_then(|()| self.follow_sockets(checker, &mut needs));
        let trouble = done.err().map(|error| format!("{error:#}"));
        if trouble != self.trouble {
            needs.findings.note(match &trouble {
                Some(trouble) => {
                    let text = format!("checks through the VIP cannot be made: {trouble}");
                    Record::new(Level::Error, "vip_checks_failed", text)
                }
                None => {
                    let text = "checks through the VIP can be made again".to_owned();
                    Record::new(Level::Info, "vip_checks_work", text)
                }
            });
            self.trouble = trouble;
        }
        self.publish_stations(checker, &needs);
    }

    /// The checks learn where the servers are.
    pub(super) fn publish_stations(&self, checker: &Checker, needs: &Needs<'_>) {
        let servers = self.servers.iter().map(|Checked { service, packets, server, own }| {
            let Way { address, mac, tunnel, egress, .. } = Way::to(*packets, server, needs.runtime);
            ((*service, address), Neighbour { mac, own: *own, tunnel, egress })
        });
        let neighbours = Neighbours {
            stations: needs.stations().map(|(_, station)| station).collect(),
            servers: servers.collect(),
        };
        checker.vip().set_neighbours(neighbours);
    }

    fn follow_answers(&mut self, forwarder: &mut Forwarder) -> Result<()> {
        let answers: BTreeSet<Answer> = self
            .servers
            .iter()
            .flat_map(|Checked { service, server, own, .. }| {
                let checks = server.checks.iter().filter(|check| check.via == Via::Vip);
                checks.flat_map(move |check| {
                    let own = check.source.or(*own);
                    let transports = check.probe.transports().iter();
                    transports.filter_map(move |transport| answer(service, *transport, own?))
                })
            })
            .collect();
        if answers != self.answers {
            forwarder.set_answers(&answers)?;
            self.answers = answers;
        }
        Ok(())
    }

    /// Opens the sockets that are lacking: all of them at first, later those of queues that the
    /// interface has got since.
    fn follow_sockets(&mut self, checker: &Checker, needs: &mut Needs<'_>) -> Result<()> {
        if self.servers.is_empty() {
            if checker.vip().queues(0) > 0 {
                checker.vip().close();
            }
            return Ok(());
        }
        if needs.program.interface.mode().is_none() {
            return Ok(());
        }
        let copying = if needs.config.zero_copy { Copying::Zero } else { Copying::Copy };
        let indices: Vec<u32> = needs.stations().map(|(index, _)| index).collect();
        for (place, index) in indices.into_iter().enumerate() {
            let sockets = xsk::open_from(checker.vip().queues(place), index, copying)?;
            for socket in &sockets {
                needs.program.forwarder.set_xsk(place as u32, socket.queue(), socket.fd())?;
            }
            if let Some(socket) = sockets.first() {
                tracing::info!(
                    "checks through the VIP: {} AF_XDP sockets on {}, {}",
                    sockets.len(),
                    neighbourhood::name(index),
                    socket.copying().name()
                );
                checker.add_sockets(place, sockets).context("cannot wait at an AF_XDP socket")?;
                self.compare_ports();
            }
        }
        Ok(())
    }

    /// The checks' ports are not to be the kernel's own.
    fn compare_ports(&mut self) {
        let Ports { first, count } = Ports::OWN;
        if !std::mem::replace(&mut self.has_compared_ports, true)
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

fn answer(service: &ServiceKey, transport: Protocol, own: IpAddr) -> Option<Answer> {
    let vip = service.vip;
    (vip.is_ipv4() == own.is_ipv4()).then(|| Answer {
        vip: vip.into(),
        own: own.into(),
        port: service.port.to_be(),
        protocol: u16::from(transport.number()),
        reserved: 0,
    })
}

/// The address that the server answers to, of the VIP's family: this host's towards the server, or
/// one of its interface's, unless that is a VIP, which may go at any time.
fn own_address(needs: &Needs<'_>, vip: IpAddr, server: IpAddr) -> Option<IpAddr> {
    let Needs { config, runtime, .. } = needs;
    let of_services = config.services.iter().map(|service| service.key.vip);
    let of_groups = config.groups.iter().flat_map(|group| &group.vips).map(|vip| vip.address);
    let vips: BTreeSet<IpAddr> = of_services.chain(of_groups).collect();
    if server.is_ipv4() != vip.is_ipv4() {
        return addresses_of(&config.interface)
            .find(|own| own.is_ipv4() == vip.is_ipv4() && !vips.contains(own));
    }
    // That of a VLAN device, where the server is in its VLAN, or of another interface.
    let behind = runtime.ways.interface(server).map(neighbourhood::name);
    let found = source_towards(server, behind.as_ref().unwrap_or(&config.interface)).ok()?;
    (!vips.contains(&found)).then_some(found)
}

/// Those that other hosts can answer to.
fn addresses_of(interface: &str) -> impl Iterator<Item = IpAddr> {
    let entries = getifaddrs().into_iter().flatten();
    let of_it = entries.filter(move |entry| entry.interface_name == interface);
    let addresses = of_it.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    addresses.filter(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    })
}

/// Nothing is sent: a UDP socket gets its address when it is connected.
fn source_towards(server: IpAddr, interface: &str) -> io::Result<IpAddr> {
    let any = match server {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    SockRef::from(&socket).bind_device(Some(interface.as_bytes()))?;
    const DISCARD: u16 = 9;
    socket.connect((server, DISCARD))?;
    Ok(socket.local_addr()?.ip())
}

fn last_port_of_kernel() -> Option<u32> {
    let range = std::fs::read_to_string(PORT_RANGE).ok()?;
    range.split_whitespace().nth(1)?.parse().ok()
}

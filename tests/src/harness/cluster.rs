//! Services and servers in tests. Servers have numbers from 1 on, which their addresses and MACs
//! carry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::mac::Mac;
use lb_datapath::plan::clients::Clients;
use lb_datapath::plan::quic::Quic;
use lb_datapath::plan::{Server, Service, Settings, Target};
use lb_model::ids::GroupNumber;
use lb_model::{Hashing, Protocol, Scheduler, ServiceKey, Stray, Timeouts};

pub const VIP: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 6);
pub const OTHER_VIP: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 7);
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6);
/// Port of the services below.
pub const PORT: u16 = 80;

pub const fn tcp(vip: Ipv4Addr, port: u16) -> ServiceKey {
    ServiceKey { vip: IpAddr::V4(vip), port, protocol: Protocol::Tcp }
}

pub const fn udp(vip: Ipv4Addr, port: u16) -> ServiceKey {
    ServiceKey { vip: IpAddr::V4(vip), port, protocol: Protocol::Udp }
}

/// Where [`super::Packet::syn`] and the like go.
pub const WEB: ServiceKey = tcp(VIP, PORT);
/// Where [`super::Packet::udp`] goes.
pub const WEB_UDP: ServiceKey = udp(VIP, PORT);

/// The group of the services below, and so the number of their lease.
pub const GROUP: GroupNumber = GroupNumber(0);

/// Servers 1, 2, 3, … of these weights; strays pass, default time-outs.
pub fn service(scheduler: Scheduler, weights: &[u16]) -> Service {
    let servers = weights.iter().zip(1..).map(|(weight, number)| server(number, *weight)).collect();
    let settings = Settings {
        ports: None,
        stray: Stray::Pass,
        refuses: false,
        each_datagram: false,
        quic: false,
        timeouts: Timeouts::default(),
        persistence: None,
        source_nat: None,
        group: Some(GROUP),
        departed: false,
    };
    let hashing = Hashing::default();
    Service { settings, scheduler, hashing, quic: Quic::default(), clients: Clients::default(), servers }
}

/// Round robin over these servers.
pub fn rr(numbers: impl IntoIterator<Item = u16>) -> Service {
    let servers = numbers.into_iter().map(|number| server(number, 1)).collect();
    Service { servers, ..service(Scheduler::Rr, &[]) }
}

pub fn target(number: u16) -> Target {
    let [high, low] = number.to_be_bytes();
    Target::Real(IpAddr::V4(Ipv4Addr::new(10, 1, high, low)))
}

pub const fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac::new([0x02, 0, 0, 0x01, high, low])
}

#[track_caller]
pub fn server_of_mac(mac: &[u8]) -> u16 {
    let [0x02, 0, 0, 0x01, high, low] = *mac else { panic!("no server's MAC: {mac:02x?}") };
    u16::from_be_bytes([high, low])
}

pub fn server(number: u16, weight: u16) -> Server {
    Server {
        target: target(number),
        weight,
        share: weight.max(1),
        mac: Some(mac(number)),
        tunnel: None,
        translation: None,
        egress: None,
        usable: true,
        gives_up: None,
        binds: true,
        thresholds: lb_common::service::limits::Thresholds::NONE,
    }
}

/// The director's own host.
pub fn local(usable: bool) -> Server {
    Server {
        target: Target::Local,
        weight: 1,
        share: 0,
        mac: None,
        tunnel: None,
        translation: None,
        egress: None,
        usable,
        gives_up: None,
        binds: false,
        thresholds: lb_common::service::limits::Thresholds::NONE,
    }
}

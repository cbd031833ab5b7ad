//! Services, and the table that finds one by address, port and protocol.
//!
//! The table is a cuckoo hash of two candidate slots per service, built whole by the controller
//! (which picks a seed that gives every service a place) and read by the program: at most two cache
//! lines, no pointer to follow. There are two halves; the controller fills the idle one and then
//! switches [`crate::control::Control::half`].

pub mod admission;
pub mod binding;
pub mod limits;
pub mod refusal;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::V6;
use crate::lease::GroupIndex;
use crate::table::connection::Timeouts;

/// Transport protocol of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
}

impl Protocol {
    /// Protocol number of the IP header.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The reverse of [`Self::number`]; `None` for a protocol that is not balanced.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    /// The name that the configuration and the metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Number of a service in the maps; 0 means unset.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct ServiceId(pub u16);

impl ServiceId {
    pub const UNSET: Self = Self(0);
    /// The largest that there is.
    pub const LAST: Self = Self(u16::MAX);
}

/// Ports that one slot holds of a range. The ports before its first whole block and behind its
/// last one have slots of their own.
pub const BLOCK: u16 = 256;

/// What a packet is looked up by: the address as two words, port and protocol as a third. A service
/// with a range of ports stands under blocks of them, one with all ports under none; whoever has
/// found no service of the port itself asks for those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceAddress {
    pub address: V6,
    /// Port as it stands in a packet (network byte order) in the low half, protocol number above.
    pub port_and_protocol: u32,
}

impl ServiceAddress {
    /// `port` as it stands in a packet (network byte order in memory).
    #[inline(always)]
    pub const fn new(address: V6, port: u16, protocol: Protocol) -> Self {
        Self { address, port_and_protocol: (protocol.number() as u32) << 16 | port as u32 }
    }

    const IS_BLOCK: u32 = 1 << 24;
    const IS_ALL: u32 = 2 << 24;

    /// Whether it stands for many ports.
    pub const fn is_wide(&self) -> bool {
        self.port_and_protocol >= Self::IS_BLOCK
    }

    /// The key of the block that has this port.
    #[inline(always)]
    pub const fn of_block(&self) -> Self {
        let block = u16::from_be(self.port_and_protocol as u16) / BLOCK;
        let protocol = self.port_and_protocol & 0xff_0000;
        Self { address: self.address, port_and_protocol: protocol | Self::IS_BLOCK | block as u32 }
    }

    /// The key of a service with all ports.
    #[inline(always)]
    pub const fn of_all(&self) -> Self {
        let protocol = self.port_and_protocol & 0xff_0000;
        Self { address: self.address, port_and_protocol: protocol | Self::IS_ALL }
    }

    /// The two slots of a half where this service may stand.
    #[inline(always)]
    pub const fn candidates(&self, seed: u32, mask: u32) -> [u32; 2] {
        let words = self.address.0[0].wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ self.address.0[1]
            ^ (self.port_and_protocol as u64) << 8
            ^ seed as u64;
        // The last bytes of an address stand at the top, whence a product carries nothing down.
        let mixed = (words ^ words >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93 ^ (seed as u64) << 1);
        let mixed = mixed ^ (mixed >> 32);
        [mixed as u32 & mask, (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32 & mask]
    }
}

/// What the program needs of a service for each of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ServiceInfo {
    pub address: V6,
    pub port_and_protocol: u32,
    pub id: ServiceId,
    pub flags: u8,
    /// The group of its VIP, whose lease it is under, and whether there are rules about its clients
    /// ([`GroupIndex::is_guarded`]): all flags are taken.
    pub group: GroupIndex,
    /// Ticks, by the number of the connection's state.
    pub timeouts: Timeouts,
}

impl ServiceInfo {
    pub const UNSET: Self = Self {
        address: V6::UNSPECIFIED,
        port_and_protocol: 0,
        id: ServiceId::UNSET,
        flags: 0,
        group: GroupIndex::UNGROUPED,
        timeouts: [0; 8],
    };

    /// Flag: a TCP packet in mid-connection that no entry knows goes to the server that a hash of
    /// the client picks.
    pub const STRAY_BY_HASH: u8 = 1;
    /// Flag: with no server to go to, clients get an answer from the VIP (see
    /// [`crate::service::refusal`]).
    pub const REFUSES: u8 = 2;
    /// Flag, UDP: each datagram is scheduled by itself, and none gets an entry.
    pub const EACH_DATAGRAM: u8 = 4;
    /// Flag: the director's own host is one of the servers, and so may others take it (see
    /// [`crate::forward::peer`]).
    pub const HOST_SERVES: u8 = 8;
    /// Flag: a director of the cluster, this one or another, is one of the servers.
    pub const DIRECTOR_SERVES: u8 = 16;
    /// Packets are of QUIC, and their connection IDs name servers.
    pub const QUIC: u8 = 128;

    /// Flag: the service has several ports. Of its servers' copies, the port is
    /// [`ServiceAddress`]'s of its first one (0: of all).
    pub const MANY_PORTS: u8 = 32;

    /// Flag: clients are bound to their server, see [`crate::service::binding`].
    pub const PERSISTENT: u8 = 64;

    #[inline(always)]
    pub const fn service(&self) -> ServiceId {
        self.id
    }

    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// An unset one serves nothing: it has no protocol.
    #[inline(always)]
    pub fn serves(&self, wanted: &ServiceAddress) -> bool {
        self.address.0[1] == wanted.address.0[1]
            && self.port_and_protocol == wanted.port_and_protocol
            && self.address.0[0] == wanted.address.0[0]
    }

    /// Whether a connection that was found by its client and ports, and whose server has this copy,
    /// is one to this address: of a service with several ports it had one of them when it was made.
    /// One branch for both kinds.
    #[inline(always)]
    pub fn knows(&self, wanted: &ServiceAddress) -> bool {
        let ports = u32::from(self.flags & Self::MANY_PORTS) >> 1;
        self.id.0 != 0
            && self.address.0[1] == wanted.address.0[1]
            && (self.port_and_protocol ^ wanted.port_and_protocol) >> ports == 0
            && self.address.0[0] == wanted.address.0[0]
    }

    /// The port of a connection of this service, whose servers' copy this is. `own`: that which its
    /// packets have, for a service with several.
    #[inline(always)]
    pub const fn port_of(&self, own: u16) -> u16 {
        if self.has(Self::MANY_PORTS) { own } else { self.port_and_protocol as u16 }
    }

    pub const fn key(&self) -> ServiceAddress {
        ServiceAddress { address: self.address, port_and_protocol: self.port_and_protocol }
    }
}

/// Entry of the map `SERVICES`. One cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct ServiceSlot {
    pub service: ServiceInfo,
    pub reserved: u64,
}

const _: () = assert!(size_of::<ServiceSlot>() == 64);

impl ServiceSlot {
    pub const EMPTY: Self = Self::new(ServiceInfo::UNSET);

    pub const fn new(service: ServiceInfo) -> Self {
        Self { service, reserved: 0 }
    }
}

/// Places every slot of `services` in `half`, whose length is a power of two. `false`: this seed
/// does not fit, try another one. At most a quarter as many services as slots, or no seed may fit.
pub fn place(services: &[ServiceInfo], seed: u32, half: &mut [ServiceSlot]) -> bool {
    half.fill(ServiceSlot::EMPTY);
    let mask = half.len() as u32 - 1;
    services.iter().all(|service| place_one(ServiceSlot::new(*service), seed, mask, half))
}

fn place_one(mut homeless: ServiceSlot, seed: u32, mask: u32, half: &mut [ServiceSlot]) -> bool {
    let mut to = homeless.service.key().candidates(seed, mask)[0];
    // A cuckoo insertion that takes longer than this walks in a circle.
    for _ in 0..64 {
        core::mem::swap(&mut homeless, &mut half[to as usize]);
        if homeless.service.id == ServiceId::UNSET {
            return true;
        }
        let [first, second] = homeless.service.key().candidates(seed, mask);
        to = if to == first { second } else { first };
    }
    false
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::addr::{Address as _, V4};

    fn find(half: &[ServiceSlot], wanted: &ServiceAddress, seed: u32) -> Option<ServiceId> {
        wanted
            .candidates(seed, half.len() as u32 - 1)
            .into_iter()
            .map(|slot| &half[slot as usize].service)
            .find(|service| service.serves(wanted))
            .map(|service| service.id)
    }

    #[test]
    fn a_copy_knows_all_ports_of_its_service_and_no_other_protocol() {
        let key = |port: u16, protocol| ServiceAddress::new(V4(1).mapped(), port.to_be(), protocol);
        let info = info((7, &key(80, Protocol::Tcp)));
        let many = ServiceInfo { flags: ServiceInfo::MANY_PORTS | ServiceInfo::REFUSES, ..info };
        for (port, protocol, one, several) in [
            (80, Protocol::Tcp, true, true),
            (443, Protocol::Tcp, false, true),
            (80, Protocol::Udp, false, false),
        ] {
            let key = key(port, protocol);
            assert_eq!((info.knows(&key), many.knows(&key)), (one, several), "{port} {protocol:?}");
            assert_eq!((info.serves(&key), many.serves(&key)), (one, one));
        }
        let elsewhere = ServiceAddress { address: V4(2).mapped(), ..key(80, Protocol::Tcp) };
        assert!(
            !many.knows(&elsewhere)
                && !ServiceInfo { id: ServiceId::UNSET, ..many }.knows(&key(80, Protocol::Tcp))
        );
    }

    #[test]
    fn blocks_and_all_ports_are_no_port_of_their_own() {
        let key = |port: u16| ServiceAddress::new(V4(1).mapped(), port.to_be(), Protocol::Tcp);
        assert_eq!(key(8192).of_block(), key(8447).of_block());
        assert_ne!(key(8191).of_block(), key(8192).of_block());
        assert_eq!(key(1).of_all(), key(65535).of_all());
        for port in [0, 1, 255, 256, 8192, 65535] {
            let keys = [key(port), key(port).of_block(), key(port).of_all()];
            assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
        }
        let udp = ServiceAddress::new(V4(1).mapped(), 80_u16.to_be(), Protocol::Udp);
        assert!(udp.of_all() != key(80).of_all() && udp.of_block() != key(80).of_block());
    }

    fn info((id, address): (u16, &ServiceAddress)) -> ServiceInfo {
        let ServiceAddress { address, port_and_protocol } = *address;
        ServiceInfo { address, port_and_protocol, id: ServiceId(id), ..ServiceInfo::UNSET }
    }

    /// Services as people number them: VIPs in a row with one port, ports in a row of one VIP,
    /// both.
    #[test]
    fn services_in_a_row_find_their_places() {
        let key = |vip: u32, port: u16| {
            let address = V4(u32::from_ne_bytes((0x0a00_0000 + vip).to_be_bytes())).mapped();
            ServiceAddress::new(address, port.to_be(), Protocol::Tcp)
        };
        let rows: [fn(u32) -> (u32, u16); 4] = [
            |number| (number, 80),
            |number| (1, 1 + number as u16),
            |number| (number / 1000, 1 + (number % 1000) as u16),
            |number| (number << 8, 443),
        ];
        for row in rows {
            let keys: Vec<ServiceAddress> = (0..16_000)
                .map(|number| {
                    let (vip, port) = row(number);
                    key(vip, port)
                })
                .collect();
            let services: Vec<ServiceInfo> = (1..).zip(&keys).map(info).collect();
            let mut half = vec![ServiceSlot::EMPTY; 1 << 16];
            let seed = (1..20).find(|seed| place(&services, *seed, &mut half)).expect("an arrangement");
            for service in &services {
                assert_eq!(find(&half, &service.key(), seed), Some(service.id));
            }
        }
    }

    proptest! {
        #[test]
        fn every_service_is_found_and_nothing_else(
            addresses in proptest::collection::btree_set((any::<u32>(), any::<u16>(), any::<bool>()), 1..300),
            stranger in (any::<u32>(), any::<u16>(), any::<bool>()),
        ) {
            let protocol = |tcp| if tcp { Protocol::Tcp } else { Protocol::Udp };
            let services: Vec<_> = addresses.iter().enumerate().map(|(index, &(address, port, tcp))| {
                let key = ServiceAddress::new(V4(address).mapped(), port, protocol(tcp));
                info((index as u16 + 1, &key))
            }).collect();
            let mut half = vec![ServiceSlot::EMPTY; 1024];
            let seed = (1..).find(|seed| place(&services, *seed, &mut half)).unwrap();
            prop_assert!(seed < 10, "a quarter full, yet it took {seed} seeds");
            for service in &services {
                prop_assert_eq!(find(&half, &service.key(), seed), Some(service.id));
            }
            if !addresses.contains(&stranger) {
                let key = ServiceAddress::new(V4(stranger.0).mapped(), stranger.1, protocol(stranger.2));
                prop_assert_eq!(find(&half, &key, seed), None);
            }
        }
    }
}

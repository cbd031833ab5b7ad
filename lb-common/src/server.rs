//! A real server as the program sees it, and its counters.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::mac::Mac;
use crate::service::ServiceInfo;
use crate::shared::Shared;

/// Number of a server in the maps `SERVERS`, `TARGETS`, `COUNTS`, `LEAVES` and `STATS`; 0 means
/// unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ServerId(pub u16);

impl ServerId {
    /// The largest that there is.
    pub const LAST: Self = Self(u16::MAX);
    /// How many there are, the unset one included.
    pub const NUMBERS: usize = Self::LAST.0 as usize + 1;
}

/// Entry of the map `SERVERS`: all that a packet of a known connection needs. One cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct ServerEntry {
    /// One word, so that MAC and flags change in one store.
    pub next_hop: Shared<NextHop>,
    /// Copy of the service it belongs to, so that a known connection needs no lookup of its
    /// service.
    pub service: ServiceInfo,
}

const _: () = assert!(size_of::<ServerEntry>() == 64);

impl ServerEntry {
    pub const UNSET: Self = Self { next_hop: Shared::new(NextHop::UNSET), service: ServiceInfo::UNSET };
}

/// How a server is reached: its MAC in bits 0 to 47 (see [`Mac`]), flags above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct NextHop(pub u64);

impl NextHop {
    /// The entry is in use. Clear: nothing is there.
    const PRESENT: u64 = 1 << 48;
    /// The MAC is known, or none is needed.
    const REACHABLE: u64 = 1 << 49;
    /// New connections may go to it. Clear: known TCP connections stay, everything else finds
    /// another server.
    const USABLE: u64 = 1 << 50;
    /// The server is the director's own host: packets are passed up its stack. With a MAC, a real
    /// server; without, the fallback.
    const LOCAL: u64 = 1 << 51;
    /// The fast way is not for its packets: something has to be looked at that only the slow way
    /// looks at.
    const SLOW_WAY: u64 = 1 << 52;
    /// Packets get there inside others, see [`crate::forward::tunnel`]; the MAC is that of the next
    /// hop.
    const TUNNEL: u64 = 1 << 53;
    /// Packets get there with another destination, see [`crate::forward::nat`]; the MAC is that of
    /// the next hop.
    const MASQ: u64 = 1 << 54;
    /// They do not leave as they have come, see [`crate::forward::egress`].
    const EGRESS: u64 = 1 << 55;
    /// The server is down, and its TCP connections go to others.
    const MOVES: u64 = 1 << 56;
    /// The server is down, and its TCP connections are reset.
    const RESETS: u64 = 1 << 57;

    pub const UNSET: Self = Self(0);

    pub const fn remote(mac: Option<Mac>, usable: bool) -> Self {
        match mac {
            Some(mac) => {
                Self(mac.word() | Self::PRESENT | Self::REACHABLE | if usable { Self::USABLE } else { 0 })
            }
            None => Self(Self::PRESENT),
        }
    }

    /// The director's own host as a fallback.
    pub const fn local(usable: bool) -> Self {
        Self(Self::PRESENT | Self::REACHABLE | Self::LOCAL | if usable { Self::USABLE } else { 0 })
    }

    /// The director's own host, which has this MAC, as a real server.
    pub const fn local_server(mac: Mac, usable: bool) -> Self {
        Self(Self::remote(Some(mac), usable).0 | Self::LOCAL)
    }

    /// A server that is reached by a tunnel, whose next hop has this MAC.
    pub const fn tunnel(mac: Option<Mac>, usable: bool) -> Self {
        Self(Self::remote(mac, usable).0 | Self::TUNNEL)
    }

    /// A server that is reached by address translation, whose next hop has this MAC.
    pub const fn masq(mac: Option<Mac>, usable: bool) -> Self {
        Self(Self::remote(mac, usable).0 | Self::MASQ)
    }

    /// The same server; with `other` packets leave to it as the map `EGRESSES` says.
    pub const fn by_egress(self, other: bool) -> Self {
        Self(if other { self.0 | Self::EGRESS } else { self.0 & !Self::EGRESS })
    }

    /// The same server, which is down and gives its TCP connections up so; `None`: it keeps them.
    pub const fn giving_up(self, how: Option<GivesUp>) -> Self {
        Self(match how {
            None => self.0,
            Some(GivesUp::Moves) => self.0 & !Self::USABLE | Self::MOVES,
            Some(GivesUp::Resets) => self.0 & !Self::USABLE | Self::RESETS,
        })
    }

    /// The same server; with `always` all its packets go the slow way.
    pub const fn by_the_slow_way(self, always: bool) -> Self {
        Self(if always { self.0 | Self::SLOW_WAY } else { self.0 & !Self::SLOW_WAY })
    }

    #[inline(always)]
    pub const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }
    #[inline(always)]
    pub const fn is_reachable(self) -> bool {
        self.0 & Self::REACHABLE != 0
    }
    #[inline(always)]
    pub const fn is_usable(self) -> bool {
        self.0 & Self::USABLE != 0
    }
    /// Known TCP connections do not stay either.
    #[inline(always)]
    pub const fn gives_up(self) -> bool {
        self.0 & (Self::MOVES | Self::RESETS) != 0
    }
    #[inline(always)]
    pub const fn moves(self) -> bool {
        self.0 & Self::MOVES != 0
    }
    #[inline(always)]
    pub const fn forwarding(self) -> Forwarding {
        match self.0 & (Self::LOCAL | Self::TUNNEL | Self::MASQ) {
            0 => Forwarding::Direct,
            Self::TUNNEL => Forwarding::Tunnel,
            Self::MASQ => Forwarding::Masq,
            _ => Forwarding::Local,
        }
    }
    /// Packets leave to it as the map `EGRESSES` says.
    #[inline(always)]
    pub const fn has_egress(self) -> bool {
        self.0 & Self::EGRESS != 0
    }
    /// Another program sends its packets.
    #[inline(always)]
    pub const fn is_handed_on(self) -> bool {
        self.0 & (Self::TUNNEL | Self::MASQ | Self::EGRESS) != 0
    }
    /// A server of direct routing with a MAC that takes new connections: the case without any
    /// exception.
    #[inline(always)]
    pub const fn is_plain(self) -> bool {
        const WANTED: u64 = NextHop::PRESENT | NextHop::REACHABLE | NextHop::USABLE;
        const OTHERS: u64 =
            NextHop::LOCAL | NextHop::SLOW_WAY | NextHop::TUNNEL | NextHop::MASQ | NextHop::EGRESS;
        self.0 & (WANTED | OTHERS) == WANTED
    }
    /// The same of a server whose packets another program sends.
    #[inline(always)]
    pub const fn is_plain_but_handed_on(self) -> bool {
        const WANTED: u64 = NextHop::PRESENT | NextHop::REACHABLE | NextHop::USABLE;
        self.is_handed_on() && self.0 & (WANTED | Self::LOCAL | Self::SLOW_WAY) == WANTED
    }
    #[inline(always)]
    pub const fn mac(self) -> Mac {
        Mac::from_word(self.0)
    }
}

/// What becomes of the TCP connections of a server that is down, if it does not keep them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivesUp {
    /// They go on at another server, which had better know what they are about.
    Moves,
    /// With its next packet the client is told.
    Resets,
}

/// The method by which packets get to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// Direct routing (`gate` of ipvsadm): the frame's MACs change and nothing else.
    Direct,
    /// The director's own host takes them.
    Local,
    /// Inside other packets, see [`crate::forward::tunnel`].
    Tunnel,
    /// With another destination, see [`crate::forward::nat`]; the server's packets come back by the
    /// director.
    Masq,
}

/// Entry of the per-CPU map `STATS`: totals since the server was added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ServerStats {
    pub connections: u64,
    pub packets: u64,
    /// From the Ethernet header to the end of the IP packet.
    pub bytes: u64,
    pub reserved: u64,
}

/// Entry of the map `COUNTS`: a server's connections now, in one word so that both change in one
/// atomic addition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts(pub u64);

impl Counts {
    const ACTIVE: u64 = 1 << 32;
    const INACTIVE: u64 = 1;

    pub const fn new(active: u32, inactive: u32) -> Self {
        Self((active as u64) << 32 | inactive as u64)
    }
    #[inline(always)]
    pub const fn active(self) -> u32 {
        (self.0 >> 32) as u32
    }
    #[inline(always)]
    pub const fn inactive(self) -> u32 {
        self.0 as u32
    }
    /// What one connection adds; subtract it by wrapping negation.
    #[inline(always)]
    pub const fn of_one(active: bool) -> u64 {
        if active { Self::ACTIVE } else { Self::INACTIVE }
    }
    /// The load that lc and wlc compare: `active * 256 + inactive`, as the IPVS module weighs them.
    #[inline(always)]
    pub const fn load(self) -> u64 {
        ((self.0 >> 32) << 8) + (self.0 & 0xffff_ffff)
    }
}

//! Which server a packet goes to: the one the table remembers, or the scheduler's pick, which the table then learns.

use lb_common::connection::{self, Entry, Generation, Key, State, Step, TICK_SHIFT, Tick};
use lb_common::control::Control;
use lb_common::frame::Flow;
use lb_common::lease::Slot;
use lb_common::probe;
use lb_common::reason::Reason;
use lb_common::server::{Forward, ServerEntry, ServerId};
use lb_common::service::{Protocol, ServiceAddress, ServiceInfo};
use lb_common::table::{self, Page as _, Place, Seen};

use crate::counts::owe;
use crate::maps::{OVERFLOW_GROUPS, OVERFLOWS, SERVERS};
use crate::table::{MapPage, learn};
use crate::{schedule, service, unknown_to_the_compiler};

/// Where a packet goes.
#[derive(Clone, Copy)]
pub struct Target {
    pub server: ServerId,
    pub forward: Forward,
    /// The packet opens a connection.
    pub opens: bool,
    /// The connection found no slot and goes by the hash of its client.
    pub without_entry: bool,
}

/// Whose a packet is.
pub struct Owner {
    place: Place,
    page: MapPage,
    key: Key,
    service: &'static ServiceInfo,
    /// What the table knows of its connection.
    known: Option<(Seen, Forward)>,
}

impl Owner {
    /// The lease of its service.
    #[inline(always)]
    pub fn lease(&self) -> Slot {
        self.service.lease
    }

    #[inline(always)]
    fn has(&self, flag: u8) -> bool {
        self.service.has(flag)
    }

    /// Whether this director or another one is one of the servers.
    #[inline(always)]
    pub fn is_served_by_a_director(&self) -> bool {
        self.has(ServiceInfo::DIRECTOR_SERVES)
    }

    /// Whether this director's host is one that other directors may pick.
    #[inline(always)]
    pub fn is_served_here(&self) -> bool {
        self.has(ServiceInfo::HOST_SERVES)
    }

    /// The connection is another director's: what the table knows of it is of an earlier one with the same addresses.
    #[inline(always)]
    pub fn forget(&self) {
        if let Some((seen, _)) = self.known
            && self.page.swap_entry(seen.slot, seen.entry, Entry::EMPTY)
        {
            owe(seen.entry.server(), seen.entry.counts().wrapping_neg());
        }
    }

    /// Whether the packet is a TCP packet in mid-connection that no entry of this generation knows: another director may
    /// know better.
    #[inline(always)]
    pub fn is_doubtful(&self, flow: &Flow, flags: u8, generation: Generation) -> bool {
        self.entry().is_none_or(|entry| entry.generation() != generation)
            && connection::first(flow.protocol, flags).is_none()
    }

    /// Marks an entry of an earlier generation: the other director was asked about it in this one.
    #[inline(always)]
    pub fn dispute(&self, generation: Generation) {
        if let Some((seen, _)) = self.known {
            let disputed = seen.entry.with_generation(generation.disputed());
            if disputed != seen.entry {
                // Another packet of the connection may be faster; that one is right.
                self.page.swap_entry(seen.slot, seen.entry, disputed);
            }
        }
    }

    /// What the table knows of the packet's connection.
    #[inline(always)]
    pub fn entry(&self) -> Option<Entry> {
        self.known.map(|(seen, _)| seen.entry)
    }
}

/// Looks for the packet's connection, and if the table knows none, for its service. `None`: for none of our services.
///
/// Connections first: most packets belong to one, and its server's entry tells the rest.
#[inline(always)]
pub fn owner(control: &Control, flow: &Flow) -> Result<Option<Owner>, Reason> {
    let address = ServiceAddress::v4(flow.destination, flow.destination_port, flow.protocol);
    let key = Key::new(flow.source, flow.source_port, flow.destination_port);
    let place = Place::of(flow, control.hash_keys, control.page_mask);
    let Some(page) = MapPage::get(place.page) else { return Err(Reason::Hole) };
    let found = table::find(&page, &place, key, |entry| {
        server(entry.server()).filter(|server| server.service.serves(&address))
    });
    Ok(match found {
        Some((seen, server)) => {
            Some(Owner { place, page, key, service: &server.service, known: Some((seen, forward(server))) })
        }
        None => {
            service::find(control, &address).map(|service| Owner { place, page, key, service, known: None })
        }
    })
}

#[inline(always)]
pub fn server(id: ServerId) -> Option<&'static ServerEntry> {
    SERVERS.get(u32::from(id.0))
}

#[inline(always)]
pub fn forward(server: &ServerEntry) -> Forward {
    // SAFETY: a map's value, aligned; volatile, because the controller changes it at any time.
    Forward(unsafe { (&raw const server.forward).read_volatile() })
}

/// The server of this packet, after the table has learnt what the packet tells.
#[inline(always)]
pub fn target(
    control: &Control,
    owner: Owner,
    flow: &Flow,
    flags: u8,
    generation: Generation,
    now_ns: u64,
) -> Result<Target, Reason> {
    let packet = Packet { control, flow, flags, generation, now: Tick::from_ns(now_ns), now_ns };
    match owner.known {
        _ if owner.has(ServiceInfo::EACH_DATAGRAM) => opened(schedule::pick(owner.service.service())?),
        Some((seen, forward)) => known(&owner, &packet, seen, forward),
        None if probe::is_astray(flow, crate::probe::ports(control)) => Err(Reason::ProbeAstray),
        None => unknown(&owner, &packet),
    }
}

/// What the steps below need to know of the packet.
struct Packet<'a> {
    control: &'a Control,
    flow: &'a Flow,
    flags: u8,
    /// Of the entry that it writes.
    generation: Generation,
    now: Tick,
    now_ns: u64,
}

impl Packet<'_> {
    /// State of a connection that begins with this packet.
    #[inline(always)]
    fn first(&self) -> Option<State> {
        connection::first(self.flow.protocol, self.flags)
    }
}

#[inline(always)]
fn timeout(service: &ServiceInfo, state: State) -> u32 {
    service.timeouts[unknown_to_the_compiler(state as usize) & 7]
}

#[inline(always)]
fn entry(service: &ServiceInfo, server: ServerId, state: State, packet: &Packet) -> Entry {
    let timeout = timeout(service, state);
    Entry::new(server, state, packet.now.plus(timeout + connection::slack(timeout)), packet.generation)
}

#[inline(always)]
fn known(owner: &Owner, packet: &Packet, seen: Seen, forward: Forward) -> Result<Target, Reason> {
    let server = seen.entry.server();
    let Some(state) = seen.entry.state() else { return Err(Reason::Hole) };
    match connection::step(state, packet.flags) {
        Step::To(next) if forward.is_usable() || stays(packet) => {
            // The entry is left alone as long as it expires late enough.
            let timeout = timeout(owner.service, state);
            if next != state || !seen.entry.is_settled(state, packet.generation, packet.now, timeout) {
                let entry = entry(owner.service, server, next, packet).in_place_of(seen.entry);
                if owner.page.swap_entry(seen.slot, seen.entry, entry) {
                    owe(server, entry.counts().wrapping_sub(seen.entry.counts()));
                }
            }
            Ok(Target { server, forward, opens: false, without_entry: false })
        }
        _ => match packet.first() {
            Some(state) => reschedule(owner, packet, seen, state),
            None => Ok(Target { server, forward, opens: false, without_entry: false }),
        },
    }
}

/// Whether a packet of a known connection stays with a server that takes no new connections.
#[inline(always)]
fn stays(packet: &Packet) -> bool {
    match packet.flow.protocol {
        Protocol::Tcp => !connection::opens(packet.flags),
        Protocol::Udp => false,
    }
}

/// The entry's connection begins anew: its server is gone, or the client uses the port again.
#[inline(always)]
fn reschedule(owner: &Owner, packet: &Packet, seen: Seen, state: State) -> Result<Target, Reason> {
    let target = opened(schedule::pick(owner.service.service())?)?;
    let entry = entry(owner.service, target.server, state, packet).in_place_of(seen.entry);
    if owner.page.swap_entry(seen.slot, seen.entry, entry) {
        owe(seen.entry.server(), seen.entry.counts().wrapping_neg());
        owe(target.server, entry.counts());
    }
    Ok(target)
}

/// The target of a packet that opens a connection to `server`.
#[inline(always)]
fn opened(id: ServerId) -> Result<Target, Reason> {
    let Some(server) = server(id) else { return Err(Reason::Hole) };
    Ok(Target { server: id, forward: forward(server), opens: true, without_entry: false })
}

#[inline(always)]
fn unknown(owner: &Owner, packet: &Packet) -> Result<Target, Reason> {
    let Some(state) = packet.first() else { return stray(owner, packet) };
    let target = opened(schedule::pick(owner.service.service())?)?;
    let entry = entry(owner.service, target.server, state, packet);
    if learn(&owner.place, owner.key, entry, packet.now_ns) {
        return Ok(target);
    }
    by_hash(owner, packet).map(|target| Target { without_entry: true, ..target })
}

/// A TCP packet in mid-connection that no entry knows.
#[inline(always)]
fn stray(owner: &Owner, packet: &Packet) -> Result<Target, Reason> {
    // SAFETY: a map's value, aligned; volatile, because the controller writes it.
    if packet.now_ns < unsafe { (&raw const packet.control.hold_strays_until).read_volatile() } {
        return Err(Reason::StrayHeld);
    }
    if !owner.has(ServiceInfo::STRAY_BY_HASH) && !overflowed(owner, packet) {
        return Err(Reason::Stray);
    }
    by_hash(owner, packet).map(|target| Target { opens: false, ..target })
}

/// Whether a connection with this place may live without an entry: its page was full not long ago, and what found no
/// slot then goes by the hash of its client ever since.
#[inline(always)]
fn overflowed(owner: &Owner, packet: &Packet) -> bool {
    let Some(last) = OVERFLOWS.get(owner.place.page % OVERFLOW_GROUPS) else { return false };
    let since = packet.now_ns.wrapping_sub(*last);
    *last != 0 && (since >> TICK_SHIFT) < u64::from(timeout(owner.service, State::Established))
}

#[inline(always)]
fn by_hash(owner: &Owner, packet: &Packet) -> Result<Target, Reason> {
    let server = schedule::by_hash(owner.service.service(), packet.flow.source);
    opened(server.ok_or(Reason::NoServer)?)
}

//! Whose a packet is, and which server it goes to: the one the table remembers, or the scheduler's
//! pick, which the table then learns.

use lb_common::control::Control;
use lb_common::lease::GroupIndex;
use lb_common::packet::frame::Flow;
use lb_common::program::probe;
use lb_common::reason::Reason;
use lb_common::server::{Forwarding, NextHop, ServerId};
use lb_common::service::{Protocol, ServiceId, ServiceInfo};
use lb_common::table::connection::{self, Entry, Generation, State, Step, TICK_SHIFT, Tick};
use lb_common::table::spills::Spills as _;
use lb_common::table::{self, NO_SLOT, Page as _, Place, Seen};

use super::table::{MapPage, learn, settle_in};
use super::{quic, service};
use crate::context::Context;
use crate::family::Family;
use crate::guard;
use crate::maps::{OVERFLOW_GROUPS, OVERFLOWS, server};
use crate::schedule::tournament::owe;
use crate::schedule::{self, Request, binding};
use crate::sys::{forgotten, opaque};

/// Where a packet goes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Decision {
    pub server: ServerId,
    pub next_hop: NextHop,
    /// The packet opens a connection.
    pub opens: bool,
    /// The connection found no slot and goes by the hash of its client.
    pub without_entry: bool,
}

impl Decision {
    /// No service is at its port.
    pub const HOST: Self =
        Self { server: ServerId(0), next_hop: NextHop::UNSET, opens: false, without_entry: false };
}

/// Whose a packet is: its connection's, or at least a service's.
pub struct Found<A> {
    place: Place,
    page: MapPage<A>,
    service: &'static ServiceInfo,
    /// Whether the table knows its connection; what it knows follows. No `Option`: the compiler
    /// would store registers that hold nothing in place of what is not there, which the verifier
    /// refuses.
    is_known: bool,
    seen: Seen,
    next_hop: NextHop,
    /// An empty slot in its first line, or [`NO_SLOT`] where nobody has looked for one.
    room: u32,
}

/// A packet that perhaps opens a connection, before anything is read of the table.
pub struct Newcomer<A: Family> {
    place: Place,
    page: MapPage<A>,
    pub service: &'static ServiceInfo,
}

impl<A: Family> Newcomer<A> {
    /// `None`: for none of our services.
    #[inline(always)]
    pub fn to_service(control: &Control, flow: &Flow<A>) -> Option<Self> {
        let place = Place::of(flow, control.hash_keys, A::page_mask(control));
        let page = MapPage::get(place.page)?;
        // The line comes from far away. Whatever does not depend on it is done meanwhile.
        let _ = page.entry(place.slot::<A::Key>(0));
        let service = service::find(control, &flow.service())?;
        Some(Self { place, page, service })
    }

    /// `None`: the table may know the connection.
    #[inline(always)]
    pub fn unknown(self, flow: &Flow<A>) -> Option<Found<A>> {
        let Self { place, page, service } = self;
        let room = table::room_for_newcomer(&page, &place, flow.key())?;
        let seen = Seen { slot: 0, entry: Entry::EMPTY };
        Some(Found { place, page, service, is_known: false, seen, next_hop: NextHop::UNSET, room })
    }
}

impl<A: Family> Found<A> {
    /// What the table knows of its connection.
    #[inline(always)]
    fn seen(&self) -> Option<(Seen, NextHop)> {
        self.is_known.then_some((self.seen, self.next_hop))
    }

    /// The group of its VIP.
    #[inline(always)]
    pub fn group(&self) -> GroupIndex {
        self.service.group
    }

    /// Whether there are rules about its clients.
    #[inline(always)]
    pub fn is_guarded(&self) -> bool {
        self.service.group.is_guarded()
    }

    #[inline(always)]
    pub fn service_id(&self) -> ServiceId {
        self.service.service()
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

    /// The connection is another director's: what the table knows of it is of an earlier one with
    /// the same addresses.
    #[inline(always)]
    pub fn forget(&self) {
        if let Some((seen, _)) = self.seen()
            && self.page.swap_entry(seen.slot, seen.entry, Entry::EMPTY)
        {
            owe(seen.entry.server(), seen.entry.counts().wrapping_neg());
        }
    }

    /// Whether the packet is a TCP packet in mid-connection that no entry of this generation knows:
    /// another director may know better.
    #[inline(always)]
    pub fn is_doubtful(&self, flow: &Flow<A>, flags: u8, generation: Generation) -> bool {
        self.entry().is_none_or(|entry| entry.generation() != generation)
            && connection::first(flow.protocol, flags).is_none()
    }

    /// Marks an entry of an earlier generation: the other director was asked about it in this one.
    #[inline(always)]
    pub fn dispute(&self, generation: Generation) {
        if let Some((seen, _)) = self.seen() {
            let disputed = seen.entry.with_generation(generation.disputed());
            if disputed != seen.entry {
                // Another packet of the connection may be faster; that one is right.
                self.page.swap_entry(seen.slot, seen.entry, disputed);
            }
        }
    }

    /// Where the packets of its connection go, if the table knows it; no step is taken.
    #[inline(always)]
    pub fn known(&self) -> Option<Decision> {
        self.seen().map(|(seen, next_hop)| {
            let server = seen.entry.server();
            Decision { server, next_hop, opens: false, without_entry: false }
        })
    }

    #[inline(always)]
    fn timeout(&self, state: State) -> u32 {
        // The verifier wants the mask, which the compiler would drop.
        self.service.timeouts[opaque(state.timeout_index()) & 7]
    }

    #[inline(always)]
    fn new_entry(&self, server: ServerId, state: State, generation: Generation, now: Tick) -> Entry {
        let timeout = self.timeout(state);
        let expires = now.plus(timeout + connection::slack(timeout));
        Entry::new(server, state, expires, generation).written(now)
    }

    /// Lets the connection take the step of a packet that its server has sent.
    #[inline(always)]
    pub fn answered(&self, flags: u8, generation: Generation, now: Tick) {
        let Some((seen, _)) = self.seen() else { return };
        let Some(state) = seen.entry.state() else { return };
        let next = connection::answer(state, flags);
        if next != state || !seen.entry.is_settled(state, generation, now, self.timeout(state)) {
            let server = seen.entry.server();
            let entry = self.new_entry(server, next, generation, now).in_place_of(seen.entry);
            if self.page.swap_entry(seen.slot, seen.entry, entry) {
                owe(server, entry.counts().wrapping_sub(seen.entry.counts()));
                if next != state && connection::is_news(state, next) {
                    self.page.note_change();
                }
            }
        }
    }

    /// What the table knows of the packet's connection.
    #[inline(always)]
    pub fn entry(&self) -> Option<Entry> {
        self.seen().map(|(seen, _)| seen.entry)
    }
}

/// Looks for the packet's connection, and if the table knows none, for its service. `None`: for
/// none of our services.
///
/// Connections first: most packets belong to one, and its server's entry tells the rest.
#[inline(always)]
pub fn look_up<A: Family>(context: &Context<A>) -> Result<Option<Found<A>>, Reason> {
    let Context { control, flow, .. } = context;
    let address = flow.service();
    let place = Place::of(flow, control.hash_keys, A::page_mask(control));
    let Some(page) = MapPage::get(place.page) else { return Err(Reason::MapInconsistency) };
    let found = table::find(&page, &place, flow.key(), |entry| {
        Some(server(entry.server())).filter(|server| server.service.knows(&address))
    });
    Ok(match found {
        Some((seen, server)) => {
            // One state for all slots that it may stand in.
            let slot = forgotten(seen.slot as usize, seen.entry.0 as usize) as u32;
            let (seen, next_hop) = (Seen { slot, ..seen }, server.next_hop.get());
            let service = &server.service;
            Some(Found { place, page, service, is_known: true, seen, next_hop, room: NO_SLOT })
        }
        None => service::find(control, &address).map(|service| {
            let (seen, next_hop) = (Seen { slot: 0, entry: Entry::EMPTY }, NextHop::UNSET);
            Found { place, page, service, is_known: false, seen, next_hop, room: NO_SLOT }
        }),
    })
}

/// The server of this packet, after the table has learnt what the packet tells.
#[inline(always)]
pub fn decide<A: Family>(
    context: &Context<A>,
    found: &Found<A>,
    flags: u8,
    generation: Generation,
) -> Result<Decision, Reason> {
    let named = if found.has(ServiceInfo::QUIC) { quic::server(context, found) } else { NOBODY };
    let steps = Steps { context, found, flags, generation, named, now: Tick::from_ns(context.now_ns) };
    match found.seen() {
        _ if found.has(ServiceInfo::EACH_DATAGRAM) => steps.scheduled(),
        Some((seen, _)) if named != NOBODY && named != seen.entry.server() => {
            steps.reschedule(seen, State::Udp)
        }
        Some((seen, next_hop)) => steps.known(seen, next_hop),
        None if probe::is_astray(&context.flow, guard::probe::ports(context.control)) => {
            Err(Reason::ProbeAstray)
        }
        None => steps.unknown(),
    }
}

/// No server's number.
const NOBODY: ServerId = ServerId(0);

/// What the steps towards a decision need to know.
struct Steps<'a, A> {
    context: &'a Context<'a, A>,
    found: &'a Found<A>,
    flags: u8,
    /// Of the entry that is written.
    generation: Generation,
    /// The server that the packet itself names, or [`NOBODY`].
    named: ServerId,
    now: Tick,
}

impl<A: Family> Steps<'_, A> {
    /// State of a connection that begins with this packet.
    #[inline(always)]
    fn first(&self) -> Option<State> {
        connection::first(self.context.flow.protocol, self.flags)
    }

    #[inline(always)]
    fn timeout(&self, state: State) -> u32 {
        self.found.timeout(state)
    }

    #[inline(always)]
    fn entry(&self, server: ServerId, state: State) -> Entry {
        self.found.new_entry(server, state, self.generation, self.now)
    }

    /// The scheduler's pick, as a packet's that opens a connection.
    #[inline(always)]
    fn scheduled(&self) -> Result<Decision, Reason> {
        Ok(opened(match self.named {
            NOBODY => schedule::pick(&self.request())?,
            server => server,
        }))
    }

    /// Where a flood has filled the page, nobody hears of what proves nothing.
    #[inline(always)]
    fn is_news(&self, before: State, after: State) -> bool {
        connection::is_news(before, after)
            && (after != State::Unproven || !self.found.page.pressed().is_recent(self.now))
    }

    #[inline(always)]
    fn request(&self) -> Request<A> {
        let flow = &self.context.flow;
        Request {
            service: binding::numbered(self.found.service),
            client: flow.source,
            client_port: flow.source_port,
            destination: flow.destination,
        }
    }

    #[inline(always)]
    fn known(&self, seen: Seen, next_hop: NextHop) -> Result<Decision, Reason> {
        let server = seen.entry.server();
        let Some(state) = seen.entry.state() else { return Err(Reason::MapInconsistency) };
        let stays = Decision { server, next_hop, opens: false, without_entry: false };
        match State::from_bits(lb_step(state as u32, u32::from(self.flags)) as u8) {
            Some(next) if next_hop.is_usable() || self.stays() && !next_hop.gives_up() => {
                // The entry is left alone as long as it expires late enough.
                let timeout = self.timeout(state);
                if next != state || !seen.entry.is_settled(state, self.generation, self.now, timeout) {
                    let next = if next == state { connection::matured(state) } else { next };
                    let entry = self.entry(server, next).in_place_of(seen.entry);
                    if self.found.page.swap_entry(seen.slot, seen.entry, entry) {
                        owe(server, entry.counts().wrapping_sub(seen.entry.counts()));
                        if next != state && self.is_news(state, next) {
                            self.found.page.note_change();
                        }
                    }
                    self.prolong(server, next, next_hop);
                }
                Ok(stays)
            }
            _ => {
                // One call for both: it is long, and the verifier follows each.
                let (anew, begins) = match self.first() {
                    Some(state) => (true, state),
                    None => (next_hop.moves(), self.in_midst()),
                };
                if anew {
                    return self.reschedule(seen, begins);
                }
                if !next_hop.gives_up() {
                    return Ok(stays);
                }
                if state != State::Closed {
                    self.close(seen);
                }
                Err(Reason::ServerDead)
            }
        }
    }

    /// The connection has ended. Its entry stays for a while: more of its packets are under way.
    #[inline(always)]
    fn close(&self, seen: Seen) {
        let entry = self.entry(seen.entry.server(), State::Closed).in_place_of(seen.entry);
        if self.found.page.swap_entry(seen.slot, seen.entry, entry) {
            owe(entry.server(), entry.counts().wrapping_sub(seen.entry.counts()));
            self.found.page.note_change();
        }
    }

    /// An entry is written anew at least every 17 s while packets come: often enough for the
    /// client's binding, which goes by packets, too.
    #[inline(always)]
    fn prolong(&self, server: ServerId, state: State, next_hop: NextHop) {
        let goes_on = matches!(state, State::Established | State::Udp) && next_hop.is_usable();
        if goes_on && self.found.has(ServiceInfo::PERSISTENT) {
            let [high, low] = self.context.flow.source.mapped().0;
            binding::lb_prolong(binding::numbered(self.found.service), high, low, u32::from(server.0));
        }
    }

    /// Whether a packet of a known connection stays with a server that takes no new connections.
    #[inline(always)]
    fn stays(&self) -> bool {
        match self.context.flow.protocol {
            Protocol::Tcp => !connection::opens(self.flags),
            Protocol::Udp => self.named != NOBODY,
        }
    }

    /// The entry's connection begins anew: its server is gone, or the client uses the port again.
    #[inline(always)]
    fn reschedule(&self, seen: Seen, state: State) -> Result<Decision, Reason> {
        let decision = self.scheduled()?;
        let entry = self.entry(decision.server, state).in_place_of(seen.entry);
        if self.found.page.swap_entry(seen.slot, seen.entry, entry) {
            owe(seen.entry.server(), seen.entry.counts().wrapping_neg());
            owe(decision.server, entry.counts());
            self.found.page.note_change();
        }
        Ok(decision)
    }

    #[inline(always)]
    fn unknown(&self) -> Result<Decision, Reason> {
        let (decision, state) = match self.first() {
            Some(state) => (self.scheduled()?, state),
            None => {
                let decision = self.stray()?;
                if !matches!(decision.next_hop.forwarding(), Forwarding::Masq) {
                    return Ok(decision);
                }
                // Its server's answers are found by the entry.
                (decision, self.in_midst())
            }
        };
        let entry = self.entry(decision.server, state);
        let Found { place, page, room, .. } = self.found;
        let key = self.context.flow.key();
        let learnt = *room != NO_SLOT && settle_in(page, place, *room, key, entry, self.now);
        if learnt || learn::<A>(place, key, entry, self.context.now_ns) {
            return Ok(decision);
        }
        Ok(Decision { without_entry: true, opens: decision.opens, ..self.by_hash()? })
    }

    /// State of a TCP connection that is known from this packet on, and so is unproven: anybody can
    /// send one.
    #[inline(always)]
    fn in_midst(&self) -> State {
        match State::from_bits(lb_step(State::SynRecv as u32, u32::from(self.flags)) as u8) {
            Some(State::SynRecv) | None => State::Unproven,
            Some(next) => next,
        }
    }

    /// A TCP packet in mid-connection that no entry knows.
    #[inline(always)]
    fn stray(&self) -> Result<Decision, Reason> {
        if self.context.now_ns < self.context.control.hold_strays_until.get() {
            return Err(Reason::StrayHeld);
        }
        if !self.found.has(ServiceInfo::STRAY_BY_HASH) && !self.overflowed() {
            return Err(Reason::Stray);
        }
        Ok(Decision { opens: false, ..self.by_hash()? })
    }

    /// Whether a connection with this place may live without an entry: its page was full not long
    /// ago, and what found no slot then goes by the hash of its client ever since.
    #[inline(always)]
    fn overflowed(&self) -> bool {
        let Some(last) = OVERFLOWS.get(self.found.place.page % OVERFLOW_GROUPS) else { return false };
        let last = last.get();
        let since = self.context.now_ns.wrapping_sub(last);
        last != 0 && (since >> TICK_SHIFT) < u64::from(self.timeout(State::Established))
    }

    #[inline(always)]
    fn by_hash(&self) -> Result<Decision, Reason> {
        Ok(opened(schedule::by_hash(&self.request()).ok_or(Reason::NoServer)?))
    }
}

/// [`connection::step`] in numbers, as [`schedule::lb_choose`]. 0: the packet opens another
/// connection.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_step(state: u32, flags: u32) -> u32 {
    let Some(state) = State::from_bits(state as u8) else { return 0 };
    match connection::step(state, flags as u8) {
        Step::To(next) => next as u32,
        Step::Reopen => 0,
    }
}

/// The decision for a packet that opens a connection to `server`.
#[inline(always)]
fn opened(id: ServerId) -> Decision {
    Decision { server: id, next_hop: server(id).next_hop.get(), opens: true, without_entry: false }
}

//! Which server a packet goes to: the one the table remembers, or the scheduler's pick, which the table then learns.

use lb_common::connection::{self, Entry, Key, State, Step, TICK_SHIFT, Tick};
use lb_common::control::Control;
use lb_common::frame::Flow;
use lb_common::reason::{Reason, TableEvent};
use lb_common::server::{Forward, ServerId};
use lb_common::service::{Protocol, ServiceId, ServiceSlot};
use lb_common::table::{self, Page, Place, RawPage, SLOTS_PER_PAGE, Seen};

use crate::maps::{CONNECTIONS_V4, COUNTS, OVERFLOW_GROUPS, OVERFLOWS, SERVERS};
use crate::{atomic, count, schedule, unknown_to_the_compiler};

/// A page of the map, shared with other CPUs and with the controller.
pub struct MapPage(*mut RawPage);

impl MapPage {
    #[inline(always)]
    pub fn get(index: u32) -> Option<Self> {
        CONNECTIONS_V4.get_ptr_mut(index).map(Self)
    }

    #[inline(always)]
    fn word(&self, slot: u32, word: usize) -> *mut u64 {
        let index = (slot & (SLOTS_PER_PAGE - 1)) as usize * 2 + word;
        // SAFETY: the mask keeps the index within the page's words.
        unsafe { (&raw mut (*self.0).0).cast::<u64>().add(index) }
    }
}

// SAFETY of the four accesses: `word` points into a map's value and is aligned; volatile, because others write there.
impl Page for MapPage {
    #[inline(always)]
    fn key(&self, slot: u32) -> Key {
        // SAFETY: see above.
        Key(unsafe { self.word(slot, 0).read_volatile() })
    }
    #[inline(always)]
    fn set_key(&self, slot: u32, key: Key) {
        // SAFETY: see above.
        unsafe { self.word(slot, 0).write_volatile(key.0) };
    }
    #[inline(always)]
    fn entry(&self, slot: u32) -> Entry {
        // SAFETY: see above.
        Entry(unsafe { self.word(slot, 1).read_volatile() })
    }
    #[inline(always)]
    fn set_entry(&self, slot: u32, entry: Entry) {
        // SAFETY: see above.
        unsafe { self.word(slot, 1).write_volatile(entry.0) };
    }
    #[inline(always)]
    fn swap_entry(&self, slot: u32, from: Entry, to: Entry) -> bool {
        // SAFETY: see above.
        unsafe { atomic::compare_and_swap(self.word(slot, 1), from.0, to.0) }
    }
}

/// Where a packet goes.
#[derive(Clone, Copy)]
pub struct Target {
    pub server: ServerId,
    pub forward: Forward,
}

impl Target {
    #[inline(always)]
    fn of(server: ServerId) -> Result<Self, Reason> {
        match SERVERS.get(u32::from(server.0)) {
            // SAFETY: a map's value, aligned; volatile, because the controller changes it at any time.
            Some(entry) => {
                let forward = Forward(unsafe { (&raw const entry.forward).read_volatile() });
                Ok(Self { server, forward })
            }
            None => Err(Reason::Hole),
        }
    }
}

/// What all the steps below need to know.
struct Context<'a> {
    service: &'a ServiceSlot,
    flow: &'a Flow,
    flags: u8,
    now: Tick,
    now_ns: u64,
}

impl Context<'_> {
    #[inline(always)]
    fn id(&self) -> ServiceId {
        ServiceId(self.service.id)
    }
    #[inline(always)]
    fn timeout(&self, state: State) -> u32 {
        self.service.timeouts[unknown_to_the_compiler(state as usize) & 7]
    }
    #[inline(always)]
    fn entry(&self, server: ServerId, state: State) -> Entry {
        let timeout = self.timeout(state);
        Entry::new(server, state, self.now.plus(timeout + connection::slack(timeout)))
    }
    /// Whether an entry in this state expires late enough as it is.
    #[inline(always)]
    fn is_fresh(&self, entry: Entry, state: State) -> bool {
        entry.expires().ticks_after(self.now) >= self.timeout(state)
    }
}

/// The server of this packet, after the table has learnt what the packet tells.
#[inline(always)]
pub fn target(
    control: &Control,
    service: &ServiceSlot,
    flow: &Flow,
    flags: u8,
    now_ns: u64,
) -> Result<Target, Reason> {
    let context = Context { service, flow, flags, now: Tick::from_ns(now_ns), now_ns };
    let key = Key::new(flow.source, flow.source_port, context.id());
    let place = Place::of(flow, control.hash_keys, control.page_mask);
    let Some(page) = MapPage::get(place.page) else { return Err(Reason::Hole) };
    match table::find(&page, &place, key) {
        Some(seen) => known(&context, &page, seen),
        None => unknown(&context, &page, &place, key),
    }
}

#[inline(always)]
fn known(context: &Context, page: &MapPage, seen: Seen) -> Result<Target, Reason> {
    let target = Target::of(seen.entry.server())?;
    let Some(state) = seen.entry.state() else { return Err(Reason::Hole) };
    match connection::step(state, context.flags) {
        Step::To(next) if target.forward.is_usable() || stays(context) => {
            if next != state || !context.is_fresh(seen.entry, state) {
                let entry = context.entry(target.server, next);
                if page.swap_entry(seen.slot, seen.entry, entry) {
                    owe(target.server, entry.counts().wrapping_sub(seen.entry.counts()));
                }
            }
            Ok(target)
        }
        _ => reschedule(context, page, seen, target),
    }
}

/// Whether a packet of a known connection stays with a server that takes no new connections.
#[inline(always)]
fn stays(context: &Context) -> bool {
    match context.flow.protocol {
        Protocol::Tcp => !connection::opens(context.flags),
        Protocol::Udp => false,
    }
}

/// The entry's connection begins anew: its server is gone, or the client uses the port again.
#[inline(always)]
fn reschedule(context: &Context, page: &MapPage, seen: Seen, old: Target) -> Result<Target, Reason> {
    let Some(state) = connection::first(context.flow.protocol, context.flags) else { return Ok(old) };
    let Some(server) = schedule::pick(context.id()) else { return Err(Reason::NoServer) };
    let entry = context.entry(server, state);
    if page.swap_entry(seen.slot, seen.entry, entry) {
        owe(old.server, seen.entry.counts().wrapping_neg());
        owe(server, entry.counts());
        count::scheduled(server);
        count::table(TableEvent::Inserted);
    }
    Target::of(server)
}

#[inline(always)]
fn unknown(context: &Context, page: &MapPage, place: &Place, key: Key) -> Result<Target, Reason> {
    match connection::first(context.flow.protocol, context.flags) {
        Some(state) => {
            let Some(server) = schedule::pick(context.id()) else { return Err(Reason::NoServer) };
            count::scheduled(server);
            let server = learn(context, page, place, key, context.entry(server, state))?;
            Target::of(server)
        }
        None if context.service.flags & ServiceSlot::STRAY_BY_HASH != 0 => by_hash(context),
        None if overflowed(context, place) => by_hash(context),
        None => Err(Reason::Stray),
    }
}

/// Gives a new connection its entry; returns its server, which is another one if no slot could be had.
#[inline(always)]
fn learn(context: &Context, page: &MapPage, place: &Place, key: Key, entry: Entry) -> Result<ServerId, Reason> {
    // Twice: if another CPU takes the slot first, there is another one.
    for _ in 0..2 {
        let Some(seen) = table::victim(page, place, context.now) else { break };
        if table::take(page, seen, key, entry, context.now) {
            owe(entry.server(), entry.counts());
            if seen.entry != Entry::EMPTY {
                owe(seen.entry.server(), seen.entry.counts().wrapping_neg());
                if !seen.entry.expires().is_past(context.now) {
                    count::table(TableEvent::Evicted);
                }
            }
            count::table(TableEvent::Inserted);
            return Ok(entry.server());
        }
        count::table(TableEvent::Contended);
    }
    count::table(TableEvent::Full);
    if let Some(last) = OVERFLOWS.get_ptr_mut(place.page % OVERFLOW_GROUPS) {
        // SAFETY: a map's value, aligned; whichever CPU writes last, the time is right.
        unsafe { last.write_volatile(context.now_ns) };
    }
    by_hash(context).map(|target| target.server)
}

/// Whether a connection with this place may live without an entry: its page was full not long ago, and what found no
/// slot then goes by the hash of its client ever since.
#[inline(always)]
fn overflowed(context: &Context, place: &Place) -> bool {
    let Some(last) = OVERFLOWS.get(place.page % OVERFLOW_GROUPS) else { return false };
    let since = context.now_ns.wrapping_sub(*last);
    *last != 0 && (since >> TICK_SHIFT) < u64::from(context.timeout(State::Established))
}

#[inline(always)]
fn by_hash(context: &Context) -> Result<Target, Reason> {
    match schedule::by_hash(context.id(), context.flow.source) {
        Some(server) => Target::of(server),
        None => Err(Reason::NoServer),
    }
}

/// Settles with a server's counts what a change of an entry made of them.
#[inline(always)]
fn owe(server: ServerId, difference: u64) {
    if let Some(counts) = COUNTS.get_ptr_mut(u32::from(server.0)) {
        // SAFETY: a map's value, aligned to 8 bytes.
        unsafe { atomic::add(counts, difference) };
    }
}

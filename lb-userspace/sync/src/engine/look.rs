//! What has changed in the table since it was last looked at.

use lb_common::forward::nat::source::{Client, Endpoint};
use lb_common::server::ServerId;
use lb_common::service::ServiceInfo;
use lb_common::table::connection::{self, Entry, Key, KeyV4, KeyV6, State, Tick};
use lb_common::table::{Layout, Page};
use lb_model::ids::GroupId;

use std::time::Duration;

use super::{Mirrors, SPARE, WHOLE};
use crate::digest::Regions;
use crate::directory::{self, Directory, KnownGroup};
use crate::message::{Connection, WireKey};
use crate::mirror::{Identity, Mark, Owner, Seen};
use crate::peer::{Absent, Peer};
use crate::table::{Pages, Table};

/// Ticks of a time-out that would be over before its next quarter was told: 12 s.
const SHORT: u32 = 45;

/// Ticks from one look at a page until the next one.
const BETWEEN_LOOKS: u32 = connection::ticks_from_ms(WHOLE.as_millis() as u64);

/// Whether a connection in this state is worth telling: one that somebody would miss. A first
/// packet is not, and what is over is told as its end.
pub(super) const fn is_alive(state: State) -> bool {
    !state.is_evictable()
}

/// Whether a connection in this state is told with what stands in its client's place. An end is
/// told without.
pub(super) const fn has_source(state: State) -> bool {
    is_alive(state) || matches!(state, State::Unproven)
}

/// The client of a connection to this server, as what stands in its place is known by.
pub(super) fn client<K: Key>(table: &impl Table, key: K, server: ServerId) -> Client {
    use lb_common::addr::Address as _;
    let [port, service_port] = key.ports();
    let service_port = if table.service(server).has(ServiceInfo::MANY_PORTS) { service_port } else { 0 };
    Client::new(key.client().mapped(), port, server.0, service_port)
}

pub(super) fn identity<K: Key>(key: K, backend: u64) -> Identity {
    use lb_common::addr::Address as _;
    Identity::new(key.client().mapped().0, key.ports(), backend)
}

/// The mark of a client's connection, whichever server it goes to.
pub(super) fn mark<K: Key>(key: K) -> Mark {
    identity(key, 0).mark()
}

/// Whether what was not seen before was there already: then this director does not speak for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finds {
    Nothing,
    /// Others ask for all that there is.
    AtStart,
    /// With other servers: others have asked before, and are told of it by hearsay.
    Later,
}

impl Finds {
    fn found(self, now: Seen, balances: bool) -> Seen {
        if balances && self == Self::Later { now.raised() } else { now }
    }
}

pub(super) struct Look<'a, T> {
    pub table: &'a T,
    pub directory: &'a Directory,
    pub mirrors: &'a mut Mirrors,
    pub peers: &'a mut [Peer],
    pub absent: Absent,
    pub now: Duration,
    pub tick: Tick,
    /// Groups that are balanced here, a bit each.
    pub balanced: u64,
    pub finds: Finds,
    /// This walk over all pages tells what was used since the one before.
    pub tells_use: bool,
    /// Unproven connections that may be told now.
    pub unproven: &'a mut u64,
}

impl<T: Table> Look<'_, T> {
    /// A page of either family; those of IPv4 come first.
    pub(super) fn page(&mut self, index: usize) {
        match index.checked_sub(self.table.v4().count()) {
            None => self.page_v4(index),
            Some(index) => self.page_v6(index),
        }
    }

    /// Whether nothing was seen on the page when it was last looked at.
    pub(super) fn is_blank(&mut self, index: usize) -> bool {
        let Mirrors { v4, v6 } = &mut *self.mirrors;
        are_blank(match index.checked_sub(self.table.v4().count()) {
            None => of_page::<KeyV4>(v4, index),
            Some(index) => of_page::<KeyV6>(v6, index),
        })
    }

    pub(super) fn page_v4(&mut self, index: usize) {
        let table = self.table;
        let mut mirror = std::mem::take(&mut self.mirrors.v4);
        self.slots::<KeyV4>(&table.v4().page(index), of_page::<KeyV4>(&mut mirror, index));
        self.mirrors.v4 = mirror;
    }

    pub(super) fn page_v6(&mut self, index: usize) {
        let table = self.table;
        let mut mirror = std::mem::take(&mut self.mirrors.v6);
        self.slots::<KeyV6>(&table.v6().page(index), of_page::<KeyV6>(&mut mirror, index));
        self.mirrors.v6 = mirror;
    }

    fn slots<K: WireKey>(&mut self, page: &impl Page<Key = K>, mirror: &mut [Seen]) {
        for (slot, seen) in (0..).zip(mirror) {
            match read(page, slot) {
                Some((key, entry, state)) => self.slot(page, slot, (key, entry, state), seen),
                None => *seen = Seen::NOTHING,
            }
        }
    }

    fn slot<K: WireKey>(
        &mut self,
        page: &impl Page<Key = K>,
        slot: u32,
        (key, entry, state): (K, Entry, State),
        seen: &mut Seen,
    ) {
        let Some(server) = self.directory.known(entry.server()) else {
            *seen = Seen::NOTHING;
            return;
        };
        let identity = identity(key, server.hash);
        let KnownGroup { number, anycast, sourced, .. } = server.known.group;
        let balances = self.balanced >> (number.0 % 64) & 1 != 0;
        let speaks = anycast && balances;
        if !is_alive(state) {
            if seen.is_nothing() {
                // Whoever has ended it, it stays so.
                if balances {
                    self.unproven((key, entry, state), server, seen);
                }
                if anycast && self.finds != Finds::Nothing && state.is_over() {
                    // What comes there from the same client began after it.
                    *seen = Seen::ended(mark(key), Owner::Nobody);
                }
                return;
            }
            if balances && seen.region() == identity.region() {
                self.tell(key, entry, state, server);
            }
            *seen = match speaks && seen.is_of(identity) {
                true => Seen::ended(mark(key), Owner::Me),
                false => Seen::NOTHING,
            };
            return;
        }
        let now = Seen::new(identity, state, entry.expires(), number);
        // What lacks the end in its client's place must be told again.
        let has_end = balances || seen.is_same(now) && seen.is_sourced();
        let is_whole = || has_end || self.source(key, entry).is_some();
        let now = if sourced && is_whole() { now.sourced() } else { now };
        let mine = if speaks { now.owned_by(Owner::Me) } else { now };
        if !seen.is_same(now) || balances && !anycast && seen.is_sourced() != sourced {
            let found = anycast && self.finds != Finds::Nothing && seen.is_nothing();
            // Nothing but a client's new connection is established after its old one has ended.
            let succeeds = || state.is_active() && (seen.has_ended(mark(key)) || seen.is_of(identity));
            if speaks && state.is_over() && seen.has_ended(mark(key)) {
                // Its end alone would be taken for something older than the end that all know.
                self.tell(key, entry, State::Established, server);
            }
            *seen = match found {
                true => self.finds.found(now, balances),
                false if speaks && succeeds() => mine.successor(),
                false => mine,
            };
            if balances && !found {
                self.tell(key, entry, state, server);
            }
        } else if balances {
            // What nobody speaks for who is there is this director's as soon as a packet comes.
            let timeout = || self.table.service(entry.server()).timeouts[state.timeout_index()];
            let is_news = match anycast && self.absent.present(seen.owner()) == Owner::Nobody {
                true => seen.is_used(now),
                false => seen.is_prolonged(now, timeout()) || self.is_in_use(entry, *seen, now, timeout()),
            };
            if is_news {
                *seen = mine;
                self.tell(key, entry, state, server);
            } else if seen.is_raised() {
                *seen = seen.owned_by(Owner::Nobody);
                self.tell_as(key, entry, state, server, true);
            }
        } else if seen.is_confirmed() {
            let next = self.table.generation(number).next();
            if entry.generation() != next {
                // A packet may be faster; the next look tries again.
                page.swap_entry(slot, entry, entry.with_generation(next));
            }
        }
    }

    /// With a time-out of some seconds: whether the connection was used since the last look. A
    /// quarter of so little is less than what is remembered of an expiry.
    fn is_in_use(&self, entry: Entry, seen: Seen, now: Seen, timeout: u32) -> bool {
        timeout < SHORT
            && match seen.owner() {
                // What another director tells is written here, too.
                Owner::Other(_) => seen.is_used(now),
                Owner::Me | Owner::Nobody => self.tells_use && entry.age(self.tick) <= BETWEEN_LOOKS,
            }
    }

    /// A connection of whose client nothing proves that it is real. Others are told once that the
    /// handshake was answered, after all else and as long as there is an allowance for it, so that
    /// a flood of such costs little; and once more that it is over.
    fn unproven<K: WireKey>(
        &mut self,
        (key, entry, state): (K, Entry, State),
        server: &directory::Entry,
        seen: &mut Seen,
    ) {
        let now = Seen::unproven(identity(key, server.hash));
        let was_told = *seen == now;
        if state.is_over() && was_told && !server.known.group.anycast {
            *seen = Seen::NOTHING;
            self.tell(key, entry, state, server);
        }
        // A successor is known by the end in its slot.
        let waits = state == State::Unproven && !was_told && !seen.has_ended(mark(key));
        if !waits {
            return;
        }
        if *self.unproven == 0 {
            // The next walk looks at a page that is not blank.
            if *seen == Seen::NOTHING {
                *seen = Seen::WAITING;
            }
            return;
        }
        *self.unproven -= 1;
        *seen = now;
        let (connection, at) = (self.connection(key, entry, state, server), self.now);
        let Some(connection) = connection else { return };
        let peers = self.peers.iter_mut().filter(|peer| peer.link.room() > SPARE);
        peers.for_each(|peer| peer.tell(&connection, server, at));
    }

    fn tell<K: WireKey>(&mut self, key: K, entry: Entry, state: State, server: &directory::Entry) {
        self.tell_as(key, entry, state, server, false);
    }

    fn tell_as<K: WireKey>(
        &mut self,
        key: K,
        entry: Entry,
        state: State,
        server: &directory::Entry,
        hearsay: bool,
    ) {
        let Some(connection) = self.connection(key, entry, state, server) else { return };
        let (connection, now) = (Connection { hearsay, ..connection }, self.now);
        self.peers.iter_mut().for_each(|peer| peer.tell(&connection, server, now));
    }

    fn source<K: Key>(&self, key: K, entry: Entry) -> Option<Endpoint> {
        self.table.source(&client(self.table, key, entry.server()))
    }

    /// `None`: nothing stands in the client's place, though it should. The server gets nothing from
    /// it, so nobody would miss it.
    fn connection<K: WireKey>(
        &self,
        key: K,
        entry: Entry,
        state: State,
        server: &directory::Entry,
    ) -> Option<Connection<K>> {
        let remaining = entry.expires().ticks_after(self.tick);
        let source = match server.known.group.sourced && has_source(state) {
            true => Some(self.source(key, entry)?),
            false => None,
        };
        Some(Connection { server: entry.server(), key, state, remaining, hearsay: false, source })
    }

    /// Tells one peer what the page has of these regions of the group.
    pub(super) fn again(&mut self, index: usize, peer: usize, group: GroupId, regions: &Regions) {
        if self.directory.group(group).is_some_and(|group| group.anycast) {
            // Whoever speaks for what is there must be known.
            self.page(index);
        }
        let (table, about) = (self.table, (peer, group, regions));
        match index.checked_sub(table.v4().count()) {
            None => {
                let mut mirror = std::mem::take(&mut self.mirrors.v4);
                self.slots_again::<KeyV4>(
                    &table.v4().page(index),
                    of_page::<KeyV4>(&mut mirror, index),
                    about,
                );
                self.mirrors.v4 = mirror;
            }
            Some(index) => {
                let mut mirror = std::mem::take(&mut self.mirrors.v6);
                self.slots_again::<KeyV6>(
                    &table.v6().page(index),
                    of_page::<KeyV6>(&mut mirror, index),
                    about,
                );
                self.mirrors.v6 = mirror;
            }
        }
    }

    fn slots_again<K: WireKey>(
        &mut self,
        page: &impl Page<Key = K>,
        mirror: &[Seen],
        (peer, group, regions): (usize, GroupId, &Regions),
    ) {
        for (slot, seen) in (0..).zip(mirror) {
            let Some((key, entry, state)) = read(page, slot) else { continue };
            let Some(server) = self.directory.known(entry.server()) else { continue };
            // Whoever speaks for it knows it, or it has ended there: then it must not come back.
            let owner = Owner::Other(self.peers[peer].id);
            if server.known.group.anycast && *regions == Regions::ALL && seen.owner() == owner {
                continue;
            }
            let wanted = || regions.contains(identity(key, server.hash).region());
            if is_alive(state) && server.known.group.id == group && wanted() {
                let hearsay = server.known.group.anycast && seen.owner() != Owner::Me;
                let Some(connection) = self.connection(key, entry, state, server) else { continue };
                let connection = Connection { hearsay, ..connection };
                self.peers[peer].tell(&connection, server, self.now);
            }
        }
    }
}

fn of_page<K: Layout>(mirror: &mut [Seen], index: usize) -> &mut [Seen] {
    let slots = K::SLOTS_PER_PAGE as usize;
    mirror.get_mut(index * slots..(index + 1) * slots).unwrap_or_default()
}

/// Apart from the rest, which is compiled where the table is known: this is what is done most.
fn are_blank(mirror: &[Seen]) -> bool {
    mirror.iter().all(|seen| *seen == Seen::NOTHING)
}

/// What a slot holds, if it is a connection's.
fn read<K: Key>(page: &impl Page<Key = K>, slot: u32) -> Option<(K, Entry, State)> {
    let entry = page.entry(slot);
    let state = entry.state()?;
    let key = page.key(slot);
    // The entry again: whoever takes the slot changes it before the key.
    (page.entry(slot) == entry).then_some((key, entry, state))
}

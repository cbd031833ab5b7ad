//! What others tell, into the table.

use std::time::Duration;

use lb_common::addr::Address as _;
use lb_common::forward::nat::source::Client;
use lb_common::packet::frame::Flow;
use lb_common::server::ServerId;
use lb_common::table::connection::{self, Entry, KeyV4, KeyV6, State};
use lb_common::table::{self, Layout, Page, Place, Seen as Slot};
use lb_model::ids::{GroupId, NodeId};

use super::Mirrors;
use super::last_use::{Here, Known, Outcome, Told, Word, idle};
use super::look::{client, has_source, identity, is_alive, mark};
use crate::directory::{Directory, KnownGroup};
use crate::message::{Connection, WireKey};
use crate::mirror::{Owner, Seen};
use crate::peer::{Absent, Mentions, Peer, is_mentioned, mention};
use crate::status::Drops;
use crate::table::{Entered, Pages, Table};

/// Packets may change an entry at the same moment.
const TRIES: usize = 4;

pub(super) struct Take<'a, T> {
    pub me: NodeId,
    pub table: &'a T,
    pub directory: &'a Directory,
    pub mirrors: &'a mut Mirrors,
    pub absent: Absent,
    pub peer: &'a mut Peer,
    pub drops: &'a mut Drops,
}

/// The family of a key: its pages, its mirror, its mentions.
pub(super) trait Family<T: Table>: WireKey {
    type Pages: Pages<Self>;

    fn pages(table: &T) -> &Self::Pages;
    fn mirror(mirrors: &mut Mirrors) -> &mut Vec<Seen>;
    fn mentions(mentions: &Mentions) -> &[u64];
    fn mentions_mut(mentions: &mut Mentions) -> &mut [u64];
}

impl<T: Table> Family<T> for KeyV4 {
    type Pages = T::V4;

    fn pages(table: &T) -> &T::V4 {
        table.v4()
    }
    fn mirror(mirrors: &mut Mirrors) -> &mut Vec<Seen> {
        &mut mirrors.v4
    }
    fn mentions(mentions: &Mentions) -> &[u64] {
        &mentions.v4
    }
    fn mentions_mut(mentions: &mut Mentions) -> &mut [u64] {
        &mut mentions.v4
    }
}

impl<T: Table> Family<T> for KeyV6 {
    type Pages = T::V6;

    fn pages(table: &T) -> &T::V6 {
        table.v6()
    }
    fn mirror(mirrors: &mut Mirrors) -> &mut Vec<Seen> {
        &mut mirrors.v6
    }
    fn mentions(mentions: &Mentions) -> &[u64] {
        &mentions.v6
    }
    fn mentions_mut(mentions: &mut Mentions) -> &mut [u64] {
        &mut mentions.v6
    }
}

impl<T: Table> Take<'_, T> {
    /// A connection that the other director tells of.
    pub(super) fn connection<K: Family<T>>(&mut self, told: &Connection<K>, now: Duration) {
        let Some((group, backend)) = self.peer.theirs.get(&told.server) else {
            self.drops.malformed += 1;
            return;
        };
        let known = self.directory.number(backend).zip(self.directory.group(*group));
        // While one of the two is being reloaded they may differ about clients' addresses.
        let is_alike = |(server, group): &(ServerId, KnownGroup)| {
            self.directory.known(*server).is_some_and(|known| known.known.group.sourced == group.sourced)
        };
        let Some((server, group)) = known.filter(is_alike) else {
            self.drops.unknown_server += 1;
            self.peer.note_lack(now);
            self.peer.lacks_hearsay |= told.hearsay;
            return;
        };
        if !group.anycast && (told.hearsay || self.table.holds(group.number)) {
            self.drops.balanced_here += 1;
            return;
        }
        if group.sourced && has_source(told.state) && told.source.is_none() {
            self.drops.malformed += 1;
            return;
        }
        self.peer.note_taken(group.id);
        match self.enter(told, server, group, now) {
            Some(slot) if !self.enter_source(told, server, group) => {
                self.remove::<K>(slot);
                self.drops.without_source += 1;
            }
            Some(slot) => {
                if let Some(mentions) = self.peer.mentions.get_mut(&group.id) {
                    mention(K::mentions_mut(mentions), slot);
                }
            }
            None if is_alive(told.state) => self.drops.without_slot += 1,
            None => {}
        }
    }

    /// Writes the connection into the table. Returns its slot.
    fn enter<K: Family<T>>(
        &mut self,
        told: &Connection<K>,
        server: ServerId,
        group: KnownGroup,
        at: Duration,
    ) -> Option<usize> {
        let service = self.table.service(server);
        let flow = Flow::<K::Address>::of_connection(told.key, &service)?;
        let pages = K::pages(self.table);
        let page_mask = u32::try_from(pages.count()).ok()?.checked_sub(1)?;
        let place = Place::of(&flow, self.table.hash_keys(), page_mask);
        let page = pages.page(place.page as usize);
        let (address, now) = (flow.service(), self.table.now());
        let entry = {
            let timeout = service.timeouts[told.state.timeout_index()];
            let expires = now.plus(told.remaining.min(timeout + connection::slack(timeout)));
            // Of a group that one director balances it is of the lease to come.
            let generation = self.table.generation(group.number);
            let generation = if group.anycast { generation } else { generation.next() };
            Entry::new(server, told.state, expires, generation).written(now)
        };
        let proves_nothing = told.state == State::Unproven;
        for _ in 0..TRIES {
            let is_its = |entry: Entry| self.table.service(entry.server()).knows(&address).then_some(());
            let found = table::find(&page, &place, told.key, is_its).map(|(seen, ())| seen);
            let is_free = |entry: Entry| entry == Entry::EMPTY || entry.expires().is_past(now);
            let index = |slot: u32| place.page as usize * K::SLOTS_PER_PAGE as usize + slot as usize;
            let taken = match found {
                // What is here comes of packets, too, and proves as much.
                Some(seen) if group.anycast && proves_nothing && !is_free(seen.entry) => return None,
                Some(seen)
                    if group.anycast && self.stays(told, server, (seen.entry, index(seen.slot)), at) =>
                {
                    return Some(index(seen.slot));
                }
                Some(seen) => {
                    let entry = entry.in_place_of(seen.entry);
                    page.swap_entry(seen.slot, seen.entry, entry).then_some(seen)
                }
                // Of one that is over nothing is left to tell.
                None if !is_alive(told.state) && !proves_nothing => return None,
                None => {
                    // Nothing gives way for what is unproven.
                    let victim = table::victim(&page, &place, now)
                        .filter(|victim| !proves_nothing || is_free(victim.entry))?;
                    table::take(&page, &place, victim, told.key, entry, now).then_some(victim)
                }
            };
            if let Some(Slot { slot, entry: before }) = taken {
                self.table.count(entry, before);
                let had_ended = found.is_some() && before.state().is_some_and(State::is_over);
                self.note::<K>(index(slot), told, entry, group, had_ended);
                return Some(index(slot));
            }
        }
        None
    }

    /// What stands in the client's place. The director that balances the group gives each port to
    /// one connection, so whoever has it here has lost it there: such a connection is removed. What
    /// is balanced here keeps its port, and that of no group does.
    fn enter_source<K: Family<T>>(
        &mut self,
        told: &Connection<K>,
        server: ServerId,
        group: KnownGroup,
    ) -> bool {
        let Some(endpoint) = told.source.filter(|_| group.sourced) else { return true };
        let client = client(self.table, told.key, server);
        let gives_way = |holder: &Client| {
            let known = self.directory.known(ServerId(holder.server));
            known.is_some_and(|known| {
                let number = known.known.group.number;
                !self.table.balances(number) && !self.table.holds(number)
            })
        };
        match self.table.enter_source(&client, &endpoint, &gives_way) {
            Entered::WasFree => true,
            Entered::InPlaceOf(holder) => {
                if let Some(slot) = self.slot_of::<K>(&holder) {
                    self.remove::<K>(slot);
                }
                true
            }
            Entered::Refused => false,
        }
    }

    /// Where the client's connection stands.
    fn slot_of<K: Family<T>>(&self, client: &Client) -> Option<usize> {
        let server = ServerId(client.server);
        let service = self.table.service(server);
        let key =
            K::Address::of_mapped(client.address)?.key(client.port, service.port_of(client.service_port));
        let flow = Flow::<K::Address>::of_connection(key, &service)?;
        let pages = K::pages(self.table);
        let page_mask = u32::try_from(pages.count()).ok()?.checked_sub(1)?;
        let place = Place::of(&flow, self.table.hash_keys(), page_mask);
        let page = pages.page(place.page as usize);
        let is_its = |entry: Entry| (entry.server() == server).then_some(());
        let (found, ()) = table::find(&page, &place, key, is_its)?;
        Some(place.page as usize * K::SLOTS_PER_PAGE as usize + found.slot as usize)
    }

    fn remove<K: Family<T>>(&mut self, slot: usize) {
        let per_page = K::SLOTS_PER_PAGE as usize;
        let page = K::pages(self.table).page(slot / per_page);
        let slot_in_page = (slot % per_page) as u32;
        let entry = page.entry(slot_in_page);
        if entry.state().is_some() && page.swap_entry(slot_in_page, entry, Entry::EMPTY) {
            self.table.count(Entry::EMPTY, entry);
        }
        if let Some(seen) = K::mirror(self.mirrors).get_mut(slot) {
            *seen = Seen::NOTHING;
        }
    }

    /// Whether what a slot has of the connection stays, in a group that several directors balance:
    /// by the rules of [`super::last_use`].
    fn stays<K: Family<T>>(
        &mut self,
        told: &Connection<K>,
        server: ServerId,
        (entry, slot): (Entry, usize),
        at: Duration,
    ) -> bool {
        let Some(known) = self.directory.known(entry.server()) else { return false };
        let Some(told_server) = self.directory.known(server) else { return false };
        let (service, now) = (self.table.service(entry.server()), self.table.now());
        let Some(state) = entry.state().filter(|_| !entry.expires().is_past(now)) else { return false };
        let Some(seen) = K::mirror(self.mirrors).get_mut(slot) else { return false };
        let (teller, group) = (self.peer.id, known.known.group);
        let found = Seen::new(identity(told.key, known.hash), state, entry.expires(), group.number);
        // A packet has changed it here, and the next look tells.
        let is_news = if is_alive(state) { !found.is_same(*seen) } else { !seen.is_nothing() };
        if is_news {
            return true;
        }
        let word = match told.hearsay {
            true => Word::Hearsay,
            // Nobody tells an end again.
            false if is_alive(told.state) && self.peer.mentions.contains_key(&group.id) => Word::Again,
            false => Word::News,
        };
        let remaining = entry.expires().ticks_after(now);
        let there = idle(&service, told.state, told.remaining);
        let timeout = service.timeouts[state.timeout_index()];
        let told_as = now.plus((timeout + connection::slack(timeout)).saturating_sub(there));
        let owner = match seen.owner_of(mark(told.key)) {
            Owner::Other(node) if node == teller => Owner::Other(node),
            owner => self.absent.present(owner),
        };
        let here = Here {
            me: self.me,
            known: Known { server: known.hash, state, idle: idle(&service, state, remaining) },
            owner,
            outlives: seen.is_successor() && seen.is_recent(told_as),
        };
        let known_there = Known { server: told_server.hash, state: told.state, idle: there };
        let outcome = here.outcome(Told { known: known_there, teller, word });
        let Outcome::Stays { owner: speaks, answers } = outcome else { return false };
        if speaks != owner {
            *seen = seen.owned_by(speaks);
        }
        if answers {
            let hearsay = speaks != Owner::Me;
            let (server, source) = (entry.server(), None);
            let answer = Connection { server, state, remaining, hearsay, source, ..*told };
            self.peer.tell(&answer, known, at);
        }
        true
    }

    /// `had_ended`: what it takes the place of was a connection of the same client and ports.
    fn note<K: Family<T>>(
        &mut self,
        slot: usize,
        told: &Connection<K>,
        entry: Entry,
        group: KnownGroup,
        had_ended: bool,
    ) {
        let Some(hash) = self.directory.known(entry.server()).map(|known| known.hash) else { return };
        if told.state == State::Unproven {
            // As if this director had told of it; but an end in its slot is remembered.
            if let Some(to) = K::mirror(self.mirrors).get_mut(slot)
                && !(group.anycast && to.has_ended(mark(told.key)))
            {
                *to = Seen::unproven(identity(told.key, hash));
            }
            return;
        }
        let alive = is_alive(told.state);
        let seen = match alive {
            true => Seen::new(identity(told.key, hash), told.state, entry.expires(), group.number),
            false if group.anycast => Seen::ended(mark(told.key), Owner::Nobody),
            false => Seen::NOTHING,
        };
        let seen = match (group.anycast, told.hearsay) {
            (false, _) if alive && group.sourced => seen.sourced().confirmed(),
            (false, _) if alive => seen.confirmed(),
            (true, false) => seen.owned_by(Owner::Other(self.peer.id)),
            (false, _) | (true, true) => seen,
        };
        let seen = match alive && group.anycast && told.hearsay && had_ended {
            true => seen.raised(),
            false => seen,
        };
        let succeeds = group.anycast && !told.hearsay && had_ended && told.state.is_active();
        if let Some(to) = K::mirror(self.mirrors).get_mut(slot) {
            *to = if succeeds { seen.successor() } else { seen };
        }
    }

    /// Removes what the other director has not told of the regions that it was to tell again; in a
    /// group that several directors balance only what it has spoken for.
    pub(super) fn remove_unmentioned(&mut self, group: GroupId, mentions: &Mentions) {
        if let Some(group) = self.directory.group(group)
            && (group.anycast || !self.table.balances(group.number))
        {
            self.remove_unmentioned_of::<KeyV4>(group, mentions);
            self.remove_unmentioned_of::<KeyV6>(group, mentions);
        }
    }

    fn remove_unmentioned_of<K: Family<T>>(&mut self, group: KnownGroup, mentions: &Mentions) {
        let mentioned = <K as Family<T>>::mentions(mentions);
        let per_page = K::SLOTS_PER_PAGE as usize;
        let (KnownGroup { number, anycast, sourced, .. }, its) = (group, Owner::Other(self.peer.id));
        for (index, seen) in K::mirror(self.mirrors).iter_mut().enumerate() {
            let is_its = if anycast { seen.owner() == its } else { seen.is_sourced() == sourced };
            let wanted = !seen.is_nothing() && seen.group() == number && is_its;
            if !wanted || !mentions.regions.contains(seen.region()) || is_mentioned(mentioned, index) {
                continue;
            }
            let page = K::pages(self.table).page(index / per_page);
            let slot = (index % per_page) as u32;
            let entry = page.entry(slot);
            let state = entry.state().filter(|state| is_alive(*state));
            let known = self.directory.known(entry.server());
            // A packet may have made it this director's own.
            if anycast && let (Some(state), Some(known)) = (state, known) {
                let identity = identity(page.key(slot), known.hash);
                let found = Seen::new(identity, state, entry.expires(), number);
                if !found.is_same(*seen) {
                    continue;
                }
                // Packets come here: it is nobody's until the next look.
                if seen.is_used(found) {
                    *seen = seen.owned_by(Owner::Nobody);
                    continue;
                }
            }
            let is_alive = state.is_some();
            let is_of_group = || known.is_some_and(|known| known.known.group == group);
            if is_alive && is_of_group() && page.swap_entry(slot, entry, Entry::EMPTY) {
                self.table.count(Entry::EMPTY, entry);
            }
            *seen = Seen::NOTHING;
        }
    }
}

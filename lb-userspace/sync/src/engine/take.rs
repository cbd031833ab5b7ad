//! What others tell, into the table.

use std::time::Duration;

use lb_common::connection::{self, Entry, KeyV4, KeyV6};
use lb_common::frame::Flow;
use lb_common::server::ServerId;
use lb_common::table::{self, Layout, Page, Place, Seen as Slot};
use lb_model::ids::{GroupId, NodeId};

use super::Mirrors;
use super::look::{identity, is_alive};
use crate::directory::Directory;
use crate::message::{Connection, WireKey};
use crate::mirror::{Owner, Seen};
use crate::peer::{Mentions, Peer, is_mentioned, mention};
use crate::status::Drops;
use crate::table::{Pages, Table};

/// Packets may change an entry at the same moment.
const TRIES: usize = 4;

/// Ticks by which two directors' times may differ that mean the same.
const ALIKE: u32 = 16;

pub(super) struct Take<'a, T> {
    pub me: NodeId,
    pub table: &'a T,
    pub directory: &'a Directory,
    pub mirrors: &'a mut Mirrors,
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
        let number = self.directory.number(backend).zip(self.directory.group(*group));
        let Some((server, group_here)) = number else {
            self.drops.unknown_server += 1;
            self.peer.note_lack(now);
            return;
        };
        let shared = self.directory.is_shared(group_here);
        if !shared && (told.hearsay || self.table.holds(group_here)) {
            self.drops.balanced_here += 1;
            return;
        }
        let group = *group;
        self.peer.taken += 1;
        match self.enter(told, server, (group, group_here, shared)) {
            Some(slot) => {
                if let Some(mentions) = self.peer.mentions.get_mut(&group) {
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
        (group_id, group, shared): (GroupId, u8, bool),
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
            let generation = self.table.generation(group);
            let generation = if shared { generation } else { generation.next() };
            Entry::new(server, told.state, expires, generation).written(now)
        };
        for _ in 0..TRIES {
            let is_its = |entry: Entry| self.table.service(entry.server()).knows(&address).then_some(());
            let found = table::find(&page, &place, told.key, is_its).map(|(seen, ())| seen);
            let index = |slot: u32| place.page as usize * K::SLOTS_PER_PAGE as usize + slot as usize;
            let taken = match found {
                Some(seen) if shared && self.stays(told, seen.entry, index(seen.slot), group_id) => {
                    return Some(index(seen.slot));
                }
                Some(seen) => {
                    let entry = entry.in_place_of(seen.entry);
                    page.swap_entry(seen.slot, seen.entry, entry).then_some(seen)
                }
                // Of one that is over nothing is left to tell.
                None if !is_alive(told.state) => return None,
                None => {
                    let victim = table::victim(&page, &place, now)?;
                    table::take(&page, &place, victim, told.key, entry, now).then_some(victim)
                }
            };
            if let Some(Slot { slot, entry: before }) = taken {
                self.table.count(entry, before);
                self.note::<K>(index(slot), told, entry, group);
                let has_ended = before.state().is_some_and(|state| state.is_over());
                if shared && has_ended && (told.hearsay || self.peer.mentions.contains_key(&group_id)) {
                    // Its end may be on its way to whoever tells of it: should it begin again here,
                    // it is this director's.
                    self.forget::<K>(index(slot));
                }
                return Some(index(slot));
            }
        }
        None
    }

    /// The next look finds the connection as if this director had opened it.
    fn forget<K: Family<T>>(&mut self, slot: usize) {
        if let Some(seen) = K::mirror(self.mirrors).get_mut(slot) {
            *seen = Seen::NOTHING;
        }
    }

    /// Whether what a slot has of the connection is better than what is told: in a group that
    /// several directors balance.
    fn stays<K: Family<T>>(
        &mut self,
        told: &Connection<K>,
        entry: Entry,
        slot: usize,
        group: GroupId,
    ) -> bool {
        let (other, is_told_again) = (self.peer.id, self.peer.mentions.contains_key(&group));
        let Some(known) = self.directory.known(entry.server()) else { return false };
        let Some(seen) = K::mirror(self.mirrors).get_mut(slot) else { return false };
        let state = entry.state().filter(|state| is_alive(*state));
        let now = state.map(|state| {
            Seen::new(identity(told.key, known.hash), state, entry.expires(), known.known.group)
        });
        // A packet has changed it here, and the next look tells.
        let is_news = now.is_some_and(|now| !now.is_same(*seen));
        if told.hearsay && now.is_some() {
            if seen.owner() == Owner::Other(other) {
                *seen = seen.owned_by(Owner::Nobody);
            }
            return true;
        }
        // What is told again may be older than what this director would tell.
        let is_ours = is_told_again && now.is_some() && seen.owner() == Owner::Me;
        is_news || is_ours && self.was_used_last(told.remaining, entry)
    }

    /// Of two directors that both speak for a connection the one that has seen its last packet goes
    /// on, as far as the times tell: by those both come to the same.
    fn was_used_last(&self, told: u32, here: Entry) -> bool {
        let here = here.expires().ticks_after(self.table.now());
        if here.abs_diff(told) <= ALIKE { self.me < self.peer.id } else { here > told }
    }

    fn note<K: Family<T>>(&mut self, slot: usize, told: &Connection<K>, entry: Entry, group: u8) {
        let Some(hash) = self.directory.known(entry.server()).map(|known| known.hash) else { return };
        let alive = is_alive(told.state);
        let seen = || {
            let seen = Seen::new(identity(told.key, hash), told.state, entry.expires(), group);
            match (self.directory.is_shared(group), told.hearsay) {
                (false, _) => seen.confirmed(),
                (true, false) => seen.owned_by(Owner::Other(self.peer.id)),
                (true, true) => seen,
            }
        };
        let seen = if alive { seen() } else { Seen::NOTHING };
        if let Some(to) = K::mirror(self.mirrors).get_mut(slot) {
            *to = seen;
        }
    }

    /// Removes what the other director has not told of the regions that it was to tell again; in a
    /// group that several directors balance only what it has spoken for.
    pub(super) fn remove_unmentioned(&mut self, group: GroupId, mentions: &Mentions) {
        if let Some(group) = self.directory.group(group)
            && (self.directory.is_shared(group) || !self.table.balances(group))
        {
            self.remove_unmentioned_of::<KeyV4>(group, mentions);
            self.remove_unmentioned_of::<KeyV6>(group, mentions);
        }
    }

    fn remove_unmentioned_of<K: Family<T>>(&mut self, group: u8, mentions: &Mentions) {
        let mentioned = <K as Family<T>>::mentions(mentions);
        let per_page = K::SLOTS_PER_PAGE as usize;
        let (shared, its) = (self.directory.is_shared(group), Owner::Other(self.peer.id));
        for (index, seen) in K::mirror(self.mirrors).iter_mut().enumerate() {
            let wanted = !seen.is_nothing() && seen.group() == group && (!shared || seen.owner() == its);
            if !wanted || !mentions.regions.contains(seen.region()) || is_mentioned(mentioned, index) {
                continue;
            }
            let page = K::pages(self.table).page(index / per_page);
            let slot = (index % per_page) as u32;
            let entry = page.entry(slot);
            let state = entry.state().filter(|state| is_alive(*state));
            let known = self.directory.known(entry.server());
            // A packet may have made it this director's own.
            if shared && let (Some(state), Some(known)) = (state, known) {
                let identity = identity(page.key(slot), known.hash);
                if !Seen::new(identity, state, entry.expires(), group).is_same(*seen) {
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

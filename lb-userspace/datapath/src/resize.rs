//! Copies the connections of one table into another one of another size.
//!
//! First while the program before still forwards by the old table, then once more when the new one
//! does: what has changed in between is a few milliseconds' worth. Until that is done packets in
//! mid-connection that nobody knows wait (they are dropped, and TCP sends them again), because the
//! host would reset their connections.

use lb_common::control::Control;
use lb_common::packet::frame::Flow;
use lb_common::server::{ServerEntry, ServerId};
use lb_common::table::connection::{Key, Tick};
use lb_common::table::{self, Page as _, Place};
use lb_system::clock::now_ns;

use super::mapped::Mapped;
use super::table::{Pages, Table};

/// What became of the old table's entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Entries that stand in the new table now.
    pub copied: u64,
    /// Entries for which there was no slot.
    pub without_slot: u64,
}

/// What is the same of both tables.
pub struct Copier<'a> {
    pub from: &'a Table,
    pub to: &'a Table,
    /// Of the new program.
    pub control: Control,
    pub servers: &'a Mapped<ServerEntry>,
    /// Called for each page, because many take long.
    pub goes_on: &'a dyn Fn(),
}

impl Copier<'_> {
    /// Entries that the new table does not have. With `newer` also those that it has in an older
    /// state: only as long as its program does not run.
    pub fn copy(&self, newer: bool) -> Copied {
        let mut copied = Copied::default();
        let Control { page_mask_v4, page_mask_v6, .. } = self.control;
        self.copy_pages(&self.from.v4, &self.to.v4, page_mask_v4, newer, &mut copied);
        self.copy_pages(&self.from.v6, &self.to.v6, page_mask_v6, newer, &mut copied);
        copied
    }

    fn copy_pages<K: Key>(
        &self,
        from: &Pages<K>,
        to: &Pages<K>,
        page_mask: u32,
        newer: bool,
        result: &mut Copied,
    ) {
        let now = Tick::from_ns(now_ns());
        let pages = (0..from.count()).inspect(|_| (self.goes_on)());
        let entries = pages.flat_map(|index| from.entries_of(index));
        for (key, entry) in entries.filter(|(_, entry)| !entry.expires().is_past(now)) {
            let service = self.servers.read(usize::from(entry.server().0)).service;
            let Some(flow) = Flow::of_connection(key, &service) else { continue };
            let place = Place::of(&flow, self.control.hash_keys, page_mask);
            let page = to.page(place.page as usize);
            let address = service.key();
            let same = |server: ServerId| self.servers.read(usize::from(server.0)).service.knows(&address);
            let found = table::find(&page, &place, key, |found| same(found.server()).then_some(()));
            let (slot, before) = match found {
                Some((seen, ())) if newer && seen.entry != entry.in_place_of(seen.entry) => {
                    if page.swap_entry(seen.slot, seen.entry, entry.in_place_of(seen.entry)) {
                        self.to.count(entry, Some(seen.entry));
                    }
                    continue;
                }
                Some(_) => continue,
                None => match table::victim(&page, &place, now) {
                    Some(seen) => (seen, seen.entry),
                    None => {
                        result.without_slot += 1;
                        continue;
                    }
                },
            };
            if table::take(&page, &place, slot, key, entry, now) {
                self.to.count(entry, Some(before));
                result.copied += 1;
            }
        }
    }
}

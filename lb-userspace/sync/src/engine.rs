//! All of the synchronisation but its sockets: looks at the table, tells the others, takes what
//! they tell.
//!
//! - `look`: what has changed in the table since it was last looked at
//! - `take`: what others tell, into the table; `last_use`: who speaks for a connection, and whose
//!   word counts if two know different things
//! - `bindings`: clients that are bound to servers
//! - `footprint`: the memory that it takes

mod bindings;
#[cfg(any(test, feature = "simulation"))]
mod footprint;
mod last_use;
mod look;
mod take;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lb_cluster::auth::{ClusterId, Keys};
use lb_common::table::Layout as _;
use lb_common::table::connection::{KeyV4, KeyV6};
use lb_model::ids::NodeId;

use self::bindings::Bindings;
pub(crate) use self::bindings::Waiting;
#[cfg(any(test, feature = "simulation"))]
pub use self::footprint::Footprint;
use self::look::{Finds, Look};
use self::take::Take;
use crate::allowance::Allowance;
use crate::digest::{Digest, Digests, Regions};
use crate::directory::{Directory, KnownGroup, SharedDirectory};
use crate::link::Lot;
use crate::message::{self, Message, Reader};
use crate::mirror::{Owner, REGIONS, Seen};
use crate::peer::{Absent, MOST_GROUPS, Mentions, Peer};
use crate::status::{Drops, PeerStatus, Status};
use crate::table::{Pages as _, Table};
use crate::wire::{self, Refused};

/// All pages are looked at in this time, whether the program has said so or not: what idles is
/// prolonged, and what is gone is noticed.
const WHOLE: Duration = Duration::from_secs(2);

/// In the first walk and in every so manieth after it pages are looked at, too, on which nothing
/// was seen. The program tells when a connection comes there, but for what it does while it is
/// replaced.
const BLANK_TURNS: u32 = 8;

/// Pages that one job is told of before others get their turn.
const PAGES_AT_ONCE: usize = 64;

/// Unproven connections of which others are told in a second at most: a made-up one costs a sender
/// two packets.
const UNPROVEN: u64 = 10_000;

/// Room that must be left for changes while a job goes on, in datagrams.
const SPARE: usize = 256;

/// Who this director is.
pub struct Me {
    pub node: NodeId,
    /// Which life: larger than that of the life before.
    pub session: u64,
    pub cluster: ClusterId,
    pub keys: Keys,
}

pub struct Engine<T: Table> {
    me: Me,
    table: Arc<T>,
    shared: SharedDirectory,
    directory: Arc<Directory>,
    mirrors: Mirrors,
    peers: Vec<Peer>,
    absent: Absent,
    drops: Drops,
    changed: Vec<usize>,
    /// The next page of the walk over all.
    walk: usize,
    /// Walks that have begun.
    turn: u32,
    walked: Option<Duration>,
    /// Whether this walk tells what was used since the one before, and when one began that does.
    tells_use: bool,
    use_told: Option<Duration>,
    /// Groups that were balanced here at the last look, a bit each.
    balanced: u64,
    bindings: Bindings,
    unproven: Allowance,
}

/// What was last seen of each slot.
struct Mirrors {
    v4: Vec<Seen>,
    v6: Vec<Seen>,
}

impl Mirrors {
    fn all(&self) -> impl Iterator<Item = Seen> + '_ {
        self.v4.iter().chain(&self.v6).copied()
    }

    /// Of a group; of one that several directors balance what `owner` speaks for.
    fn digests(&self, group: KnownGroup, owner: Owner) -> Digests {
        let is_told = |seen: &Seen| match group.anycast {
            true => seen.owner() == owner,
            false => seen.is_sourced() == group.sourced,
        };
        let told = self.all().filter(is_told);
        Digests::of(told, group.number)
    }

    /// The director begins a new life: what it spoke for before is nobody's. What it has ended it
    /// has ended all the same.
    fn disown(&mut self, node: NodeId) {
        let seen = self.v4.iter_mut().chain(&mut self.v6);
        let its = seen.filter(|seen| !seen.is_nothing() && seen.owner() == Owner::Other(node));
        its.for_each(|seen| *seen = seen.owned_by(Owner::Nobody));
    }
}

impl<T: Table> Engine<T> {
    /// `lots` draws random numbers for each peer.
    pub fn new(
        me: Me,
        others: impl IntoIterator<Item = NodeId>,
        table: Arc<T>,
        directory: SharedDirectory,
        mut lots: impl FnMut(NodeId) -> Lot,
    ) -> Self {
        let slots = |pages: usize, per_page: u32| vec![Seen::NOTHING; pages * per_page as usize];
        let mirrors = Mirrors {
            v4: slots(table.v4().count(), KeyV4::SLOTS_PER_PAGE),
            v6: slots(table.v6().count(), KeyV6::SLOTS_PER_PAGE),
        };
        let peer = |id| Peer::new(me.node, id, me.session, lots(id));
        Self {
            peers: others.into_iter().map(peer).collect(),
            me,
            table,
            directory: directory.get(),
            shared: directory,
            mirrors,
            absent: Absent::default(),
            drops: Drops::default(),
            changed: Vec::new(),
            walk: 0,
            turn: 0,
            walked: None,
            tells_use: false,
            use_told: None,
            balanced: 0,
            bindings: Bindings::default(),
            unproven: Allowance::new(UNPROVEN, Duration::ZERO),
        }
    }

    /// From now on messages are signed and verified with these.
    pub fn set_keys(&mut self, keys: Keys) {
        self.me.keys = keys;
    }

    /// Takes what a socket has received.
    pub fn receive(&mut self, datagram: &[u8], now: Duration) -> Option<NodeId> {
        let opened = wire::open(self.me.cluster, &self.me.keys, datagram);
        let (header, messages) = match opened {
            Ok(opened) => opened,
            Err(refused) => {
                *match refused {
                    Refused::NotOurs => &mut self.drops.not_ours,
                    Refused::ForeignCluster => &mut self.drops.foreign_cluster,
                    Refused::Signature => &mut self.drops.signature,
                } += 1;
                return None;
            }
        };
        let Some(index) = self.peers.iter().position(|peer| peer.id == header.from) else {
            self.drops.unknown_node += 1;
            return None;
        };
        self.follow_directory(now);
        let received = self.peers[index].receive(&header, messages, now);
        if std::mem::take(&mut self.peers[index].has_begun) {
            self.mirrors.disown(header.from);
        }
        for messages in received {
            for message in Reader::new(&messages) {
                match message {
                    Ok(message) => self.obey(index, message, now),
                    Err(_) => self.drops.malformed += 1,
                }
            }
        }
        Some(header.from)
    }

    fn obey(&mut self, index: usize, message: Message, now: Duration) {
        let peer = &mut self.peers[index];
        match message {
            Message::Server { number, group, backend } => {
                peer.theirs.insert(number, (group, backend));
            }
            Message::V4(connection) => self.take(index, |taker| taker.connection(&connection, now)),
            Message::V6(connection) => self.take(index, |taker| taker.connection(&connection, now)),
            Message::Digests { group, first, digests } => {
                // No director has more groups.
                if peer.their_digests.len() >= MOST_GROUPS && !peer.their_digests.contains_key(&group) {
                    self.drops.malformed += 1;
                    return;
                }
                let told = &mut peer.their_digests.entry(group).or_default().0;
                told.iter_mut().skip(first).zip(digests).for_each(|(to, digest)| *to = digest);
            }
            Message::RoundEnds(round) => self.compare(index, round, now),
            Message::Want { group, regions } => peer.wants(group, regions),
            // Nothing of a group without a server here could be missed.
            Message::Begin { group, .. } if self.directory.group(group).is_none() => {}
            Message::Begin { group, regions } => {
                let bits = |seen: &[Seen]| vec![0; seen.len().div_ceil(64)];
                let (v4, v6) = (bits(&self.mirrors.v4), bits(&self.mirrors.v6));
                peer.mentions.insert(group, Mentions { regions, v4, v6 });
            }
            Message::End { group } => {
                if let Some(mentions) = peer.mentions.remove(&group) {
                    peer.wanted.remove(&group);
                    if mentions.regions == Regions::ALL {
                        peer.has_told_all.insert(group);
                    }
                    self.take(index, |taker| taker.remove_unmentioned(group, &mentions));
                }
                self.peers[index].note_progress(now);
            }
            Message::InStep(round) => peer.note_in_step(round),
            Message::Lacks => peer.compare_soon(),
            Message::Binding(binding) => self.take_binding(&binding, now),
            // They have their own place.
            Message::Features(_) => {}
        }
    }

    fn take(&mut self, index: usize, take: impl FnOnce(&mut Take<'_, T>)) {
        take(&mut Take {
            me: self.me.node,
            table: &*self.table,
            directory: &self.directory,
            mirrors: &mut self.mirrors,
            absent: self.absent,
            peer: &mut self.peers[index],
            drops: &mut self.drops,
        });
    }

    /// Compares what the other director has told of its table with this one.
    fn compare(&mut self, index: usize, round: u32, now: Duration) {
        self.peers[index].begin_comparison(round);
        let told = std::mem::take(&mut self.peers[index].their_digests);
        let (mut both, mut either, mut expected) = (0, 0, 0);
        for (group_id, theirs) in told {
            let Some(group) = self.directory.group(group_id) else {
                // None of its servers is here.
                if theirs != Digests::default() {
                    self.peers[index].note_lack(now);
                }
                continue;
            };
            if !group.anycast && self.table.balances(group.number) {
                continue;
            }
            let ours = self.mirrors.digests(group, Owner::Other(self.peers[index].id));
            let mut differ = Regions::default();
            for (region, (ours, theirs)) in ours.0.iter().zip(&theirs.0).enumerate() {
                let [one, other] = [ours, theirs].map(|digest| digest.connections());
                either += one.max(other);
                both += one.min(other);
                if ours != theirs {
                    differ.insert(region);
                }
            }
            // What it knows by hearsay no digest tells: all of it once.
            if group.anycast && !self.peers[index].has_told_all.contains(&group_id) {
                differ = Regions::ALL;
            }
            if !group.anycast {
                self.confirm(group, &differ);
            }
            if !differ.is_empty() {
                let wanted = theirs.0.iter().enumerate().filter(|(region, _)| differ.contains(*region));
                expected += wanted.map(|(_, digest)| digest.connections()).sum::<u64>();
                self.peers[index].wanted.insert(group_id, differ);
                self.peers[index].say(&Message::Want { group: group_id, regions: differ }, now);
            }
        }
        self.peers[index].expect(expected);
        self.peers[index].agreed = (either > 0).then_some((both, either));
        self.peers[index].note_progress(now);
    }

    /// What is alike on both sides is right.
    fn confirm(&mut self, group: KnownGroup, differ: &Regions) {
        let Mirrors { v4, v6 } = &mut self.mirrors;
        for seen in v4.iter_mut().chain(v6) {
            let is_its = seen.group() == group.number && seen.is_sourced() == group.sourced;
            if !seen.is_nothing() && is_its && !differ.contains(seen.region()) {
                *seen = seen.confirmed();
            }
        }
    }

    /// Looks at what has changed, and says what is to be said. Call it every few milliseconds.
    pub fn work(&mut self, now: Duration) {
        self.follow_directory(now);
        self.absent = Absent::of(&self.peers, now);
        self.note_balanced();
        self.unproven.refill(now);
        self.look_at_changes(now);
        self.walk(now);
        self.look_at_bindings(now);
        for index in 0..self.peers.len() {
            if self.peers[index].is_round_due(now) {
                self.tell_digests(index, now);
                if !std::mem::replace(&mut self.peers[index].has_bindings, true) {
                    self.peers[index].bindings = self.all_bindings();
                    self.tell_unproven_again();
                }
            }
            self.go_on_with_job(index, now);
        }
    }

    /// With other servers, and at the start, all of the table is looked at at once: what is there
    /// is compared with what others tell.
    fn follow_directory(&mut self, now: Duration) {
        let directory = self.shared.get();
        let first = self.walked.is_none();
        if first || !Arc::ptr_eq(&directory, &self.directory) {
            self.directory = directory;
            self.note_balanced();
            if !first {
                // What has just been opened is not taken for what was found.
                self.look_at_changes(now);
            }
            self.walked = Some(now);
            let pages = self.pages();
            self.look(now, |look| {
                look.finds = if first { Finds::AtStart } else { Finds::Later };
                (0..pages).for_each(|page| look.page(page));
            });
            self.peers.iter_mut().for_each(|peer| peer.note_servers(now));
        }
    }

    /// A director that has taken a group compares with the others at once, and walks over all pages
    /// anew: another program may have been there before.
    fn note_balanced(&mut self) {
        let balanced = self.directory.groups().filter(|group| self.table.balances(group.number));
        let balanced = balanced.fold(0, |bits, group| bits | 1 << (group.number.0 % 64));
        if balanced & !self.balanced != 0 {
            self.peers.iter_mut().for_each(Peer::compare_soon);
            (self.walk, self.turn) = (0, 0);
        }
        self.balanced = balanced;
    }

    /// A director that has just come was told of no unproven connection; digests lack them.
    fn tell_unproven_again(&mut self) {
        let Mirrors { v4, v6 } = &mut self.mirrors;
        v4.iter_mut().chain(v6).filter(|seen| seen.is_unproven()).for_each(|seen| *seen = Seen::NOTHING);
        (self.walk, self.turn) = (0, 0);
    }

    fn look(&mut self, now: Duration, look: impl FnOnce(&mut Look<'_, T>)) {
        look(&mut Look {
            table: &*self.table,
            directory: &self.directory,
            mirrors: &mut self.mirrors,
            peers: &mut self.peers,
            absent: self.absent,
            now,
            tick: self.table.now(),
            balanced: self.balanced,
            finds: Finds::Nothing,
            tells_use: false,
            unproven: &mut self.unproven.left,
        });
    }

    fn look_at_changes(&mut self, now: Duration) {
        let mut changed = std::mem::take(&mut self.changed);
        self.table.v4().take_changed(&mut changed);
        self.look(now, |look| changed.drain(..).for_each(|page| look.page_v4(page)));
        self.table.v6().take_changed(&mut changed);
        self.look(now, |look| changed.drain(..).for_each(|page| look.page_v6(page)));
        self.changed = changed;
    }

    /// Goes on with the walk over all pages.
    fn walk(&mut self, now: Duration) {
        let pages = self.pages();
        let passed = now.saturating_sub(self.walked.replace(now).unwrap_or(now)).min(WHOLE);
        let due = (pages as u128 * passed.as_micros()).div_ceil(WHOLE.as_micros()) as usize;
        let (from, all) = (self.walk, self.turn.is_multiple_of(BLANK_TURNS));
        let tells_use = self.tells_use;
        self.look(now, |look| {
            look.tells_use = tells_use;
            for page in (0..due.min(pages)).map(|step| (from + step) % pages) {
                if all || !look.is_blank(page) {
                    look.page(page);
                }
            }
        });
        if from + due >= pages {
            self.turn = self.turn.wrapping_add(1);
            // A small table is walked over more often.
            self.tells_use = self.use_told.is_none_or(|told| now >= told + WHOLE / 4 * 3);
            self.use_told = if self.tells_use { Some(now) } else { self.use_told };
        }
        self.walk = (from + due) % pages.max(1);
    }

    fn pages(&self) -> usize {
        self.table.v4().count() + self.table.v6().count()
    }

    fn tell_digests(&mut self, index: usize, now: Duration) {
        let takes_sources = self.peers[index].takes_sources;
        let understood = self.directory.groups().filter(|group| takes_sources || !group.sourced);
        for group in understood.filter(|group| self.table.balances(group.number)) {
            let digests = self.mirrors.digests(group, Owner::Me);
            for first in (0..REGIONS).step_by(message::DIGESTS) {
                let digests: Vec<Digest> =
                    digests.0.iter().skip(first).take(message::DIGESTS).copied().collect();
                self.peers[index].say(&Message::Digests { group: group.id, first, digests }, now);
            }
        }
        self.peers[index].end_round(now);
    }

    /// Tells the next part of what the other director wants, as far as there is room.
    fn go_on_with_job(&mut self, index: usize, now: Duration) {
        let pages = self.pages();
        // To a silent director none is told: it would take what is said for all that there is.
        while self.peers[index].link.is_up(now) && self.peers[index].link.room() > SPARE {
            let peer = &mut self.peers[index];
            let Some(job) = peer.jobs.front_mut() else { return };
            let (group, regions, begin) = (job.group, job.regions, !std::mem::replace(&mut job.begun, true));
            let range = job.page..pages.min(job.page + PAGES_AT_ONCE);
            job.page = range.end;
            if begin {
                peer.say(&Message::Begin { group, regions }, now);
            }
            self.look(now, |look| range.clone().for_each(|page| look.again(page, index, group, &regions)));
            let peer = &mut self.peers[index];
            if range.end == pages {
                peer.say(&Message::End { group }, now);
                peer.jobs.pop_front();
            }
            peer.flush(now);
        }
    }

    /// Hands over the datagrams that are due, for at most `budget` bytes.
    pub fn send(&mut self, now: Duration, budget: &mut u64, mut to: impl FnMut(NodeId, &[u8])) {
        let Me { cluster, keys, .. } = &self.me;
        for peer in &mut self.peers {
            let id = peer.id;
            peer.send(now, budget, |header, messages| {
                let datagram = wire::seal(*cluster, keys, header, messages);
                to(id, &datagram);
                datagram.len()
            });
        }
    }

    pub fn status(&self, now: Duration) -> Status {
        let peer = |peer: &Peer| PeerStatus {
            node: peer.id,
            is_up: peer.link.is_up(now),
            knows_ours: peer.knows_ours(),
            knows_theirs: peer.knows_theirs,
            learned: peer.learned(),
            told_again: peer.told_again(self.pages()),
            lag: peer.link.lag(),
            backlog: peer.link.backlog(),
            agreement: peer.agreed.map(|(both, either)| both as f64 / either as f64),
            told: peer.told,
            taken: peer.taken,
            sent: peer.link.totals.sent,
            sent_bytes: peer.link.totals.sent_bytes,
            sent_again: peer.link.totals.sent_again,
            received: peer.link.totals.received,
        };
        Status { peers: self.peers.iter().map(peer).collect(), drops: self.drops, busy: Duration::ZERO }
    }
}

//! One other director: what it has been told, and what is to come.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use lb_common::server::ServerId;
use lb_model::ids::{GroupId, NodeId};

use crate::backend::Backend;
use crate::digest::{Digests, Regions};
use crate::directory::Entry;
use crate::engine::Waiting;
use crate::link::{Link, Lot, Received};
use crate::message::{Connection, Message, WireKey};
use crate::wire::{Header, MESSAGES};

/// Digests are told so often.
const ROUND: Duration = Duration::from_secs(10);

pub(crate) struct Peer {
    pub id: NodeId,
    pub link: Link,
    /// Messages for the next datagram.
    batch: Vec<u8>,
    /// Servers that its stream has been told of, with the hash of their names.
    named: HashMap<ServerId, u64>,
    /// What its numbers mean.
    pub theirs: HashMap<ServerId, (GroupId, Backend)>,
    /// It was told less than all.
    behind: bool,
    /// When digests are due.
    round: Option<Duration>,
    /// Parts of the table that it wants, and how far each has got.
    pub jobs: VecDeque<Job>,
    /// Digests of this round that it has told.
    pub their_digests: BTreeMap<GroupId, Digests>,
    /// Regions that it is telling again, by group.
    pub wanted: BTreeMap<GroupId, Regions>,
    /// What it has told of them so far.
    pub mentions: BTreeMap<GroupId, Mentions>,
    /// This director knows what that one knows.
    pub knows_theirs: bool,
    /// It says that it knows what this director knows.
    pub knows_ours: bool,
    /// Connections that both know of those that either knows, at the last round that it told.
    pub agreed: Option<(u64, u64)>,
    pub told: u64,
    pub taken: u64,
    /// Clients' bindings that it is to be told of.
    pub bindings: Waiting,
    /// It was told of those that there were when it came.
    pub has_bindings: bool,
}

/// Regions of a group that are told again, page by page.
pub(crate) struct Job {
    pub group: GroupId,
    pub regions: Regions,
    /// The next page; those of IPv4 come first.
    pub page: usize,
    pub begun: bool,
}

/// Slots of both families that were told of since `begin`: a bit each.
pub(crate) struct Mentions {
    pub regions: Regions,
    pub v4: Vec<u64>,
    pub v6: Vec<u64>,
}

pub(crate) fn mention(bits: &mut [u64], slot: usize) {
    if let Some(word) = bits.get_mut(slot / 64) {
        *word |= 1 << (slot % 64);
    }
}

pub(crate) fn is_mentioned(bits: &[u64], slot: usize) -> bool {
    bits.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 != 0)
}

impl Peer {
    pub(crate) fn new(me: NodeId, id: NodeId, session: u64, lot: Lot) -> Self {
        Self {
            id,
            link: Link::new(me, id, session, lot),
            batch: Vec::new(),
            named: HashMap::new(),
            theirs: HashMap::new(),
            behind: false,
            round: None,
            jobs: VecDeque::new(),
            their_digests: BTreeMap::new(),
            wanted: BTreeMap::new(),
            mentions: BTreeMap::new(),
            knows_theirs: false,
            knows_ours: false,
            agreed: None,
            told: 0,
            taken: 0,
            bindings: Waiting::new(),
            has_bindings: false,
        }
    }

    /// Notes a datagram; returns the messages that it has brought in order.
    pub(crate) fn receive(&mut self, header: &Header, messages: &[u8], now: Duration) -> Vec<Vec<u8>> {
        let Received { begins_anew, stream_begins, messages } = self.link.receive(header, messages, now);
        if begins_anew {
            self.begin_stream();
            self.round = Some(now);
        }
        if begins_anew || stream_begins {
            self.theirs.clear();
            self.their_digests.clear();
            self.wanted.clear();
            self.mentions.clear();
            self.knows_theirs = false;
        }
        messages
    }

    /// Our stream begins again: what it was told of servers is forgotten.
    fn begin_stream(&mut self) {
        self.batch.clear();
        self.named.clear();
        self.jobs.clear();
        self.knows_ours = false;
        self.behind = false;
        self.bindings.clear();
        self.has_bindings = false;
    }

    /// Tells of one connection, or notes that it must learn of it later.
    pub(crate) fn tell<K: WireKey>(&mut self, connection: &Connection<K>, server: &Entry, now: Duration) {
        if !self.link.is_up(now) {
            return; // it gets digests when it is back
        }
        if self.link.room() == 0 {
            self.behind = true;
            return;
        }
        self.told += 1;
        if self.named.insert(connection.server, server.hash) != Some(server.hash) {
            let Entry { known, .. } = server;
            let number = connection.server;
            self.say(&Message::Server { number, group: known.group_id, backend: known.backend }, now);
        }
        let begin = self.batch.len();
        connection.encode(&mut self.batch);
        self.split(begin, now);
    }

    pub(crate) fn say(&mut self, message: &Message, now: Duration) {
        let begin = self.batch.len();
        message.encode(&mut self.batch);
        self.split(begin, now);
    }

    /// The message that begins at `begin` goes into the next datagram, if it does not fit this one.
    fn split(&mut self, begin: usize, now: Duration) {
        if self.batch.len() > MESSAGES {
            let rest = self.batch.split_off(begin);
            self.flush(now);
            self.batch = rest;
        }
    }

    /// Hands over what was said so far.
    pub(crate) fn flush(&mut self, now: Duration) {
        if !self.batch.is_empty() && self.link.push(std::mem::take(&mut self.batch), now).is_err() {
            self.behind = true;
            // Servers may have been named in what is lost, and bindings told.
            self.named.clear();
            self.has_bindings = false;
        }
    }

    /// Whether it should get digests now.
    pub(crate) fn is_round_due(&mut self, now: Duration) -> bool {
        let has_caught_up = self.link.backlog() == 0 && self.jobs.is_empty();
        let is_due = self.behind || self.round.is_none_or(|due| now >= due);
        let begins = self.link.is_up(now) && has_caught_up && is_due;
        if begins {
            self.behind = false;
            self.round = Some(now + ROUND);
        }
        begins
    }

    /// Has it get digests soon.
    pub(crate) fn compare_soon(&mut self) {
        self.behind = true;
    }

    /// It wants these regions again.
    pub(crate) fn wants(&mut self, group: GroupId, regions: Regions) {
        match self.jobs.iter_mut().find(|job| job.group == group && !job.begun) {
            Some(job) => job.regions.add(&regions),
            None => self.jobs.push_back(Job { group, regions, page: 0, begun: false }),
        }
    }

    pub(crate) fn send(&mut self, now: Duration, budget: &mut u64, to: impl FnMut(&Header, &[u8]) -> usize) {
        self.flush(now);
        if self.link.send(now, budget, to) {
            self.begin_stream();
            self.round = None;
        }
        if !self.link.is_up(now) {
            self.knows_ours = false;
            self.knows_theirs = false;
        }
    }
}

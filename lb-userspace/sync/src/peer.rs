//! One other director: what it has been told, and what is to come.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use lb_common::lease::GROUPS;
use lb_common::server::ServerId;
use lb_model::ids::{GroupId, NodeId};

use crate::backend::Backend;
use crate::digest::{Digests, Regions};
use crate::directory::Entry;
use crate::engine::Waiting;
use crate::link::{Link, Lot, QUEUE, Received};
use crate::message::{self, Connection, Message, Reader, WireKey};
use crate::mirror::Owner;
use crate::wire::{Header, MESSAGES};

/// Digests are told so often.
const ROUND: Duration = Duration::from_secs(10);
/// A director that is told of servers that it lacks waits so long for them before it calls itself
/// in step without them.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is under way is told as this at most.
const NEARLY_ALL: f64 = 0.99;
/// As directors tell each other of them: sourced connections are a group of their own.
pub(crate) const MOST_GROUPS: usize = 2 * GROUPS;
/// A round begins while no more datagrams than this wait for the other side's word.
const CAUGHT_UP: usize = QUEUE / 4;

pub(crate) struct Peer {
    pub id: NodeId,
    pub link: Link,
    /// Messages for the next datagram.
    batch: Vec<u8>,
    /// Servers that its stream has been told of, with a hash of their names and groups.
    named: HashMap<ServerId, u64>,
    /// What its numbers mean.
    pub theirs: HashMap<ServerId, (GroupId, Backend)>,
    /// It was told less than all: a round is due.
    behind: bool,
    /// When digests are due.
    round: Option<Duration>,
    /// Rounds that it has been told.
    rounds: u32,
    /// The first round that has all that it was told: who knows an earlier one may lack something.
    proving_round: u32,
    /// The round that it knows all of.
    in_step: u32,
    /// Parts of the table that it wants, and how far each has got.
    pub jobs: VecDeque<Job>,
    /// Groups of which it has asked for all that this director knows, since our stream began.
    all_wanted: BTreeSet<GroupId>,
    /// Digests of this round that it has told.
    pub their_digests: BTreeMap<GroupId, Digests>,
    /// The last round of it that was compared.
    compared: u32,
    /// Regions that it is telling again, by group.
    pub wanted: BTreeMap<GroupId, Regions>,
    /// What it has told of them so far.
    pub mentions: BTreeMap<GroupId, Mentions>,
    /// This director knows what that one knows.
    pub knows_theirs: bool,
    /// Of those connections that it told since digests were compared, some go to servers that are
    /// not here.
    lacks: bool,
    /// Since when that has been so.
    lacks_since: Option<Duration>,
    /// It has told of some of these by hearsay, which no digest has.
    pub lacks_hearsay: bool,
    /// Connections that both know of those that either knows, at the last round that it told.
    pub agreed: Option<(u64, u64)>,
    /// Connections that it was to tell again when digests were compared last, and has told since.
    again: (u64, u64),
    pub told: u64,
    pub taken: u64,
    /// Clients' bindings that it is to be told of.
    pub bindings: Waiting,
    /// It was told of those that there were when it came.
    pub has_bindings: bool,
    /// It begins a new life: what it spoke for is nobody's.
    pub has_begun: bool,
    /// Groups that several directors balance of which it has told all that it knows.
    pub has_told_all: BTreeSet<GroupId>,
    /// It understands connections with what stands in the place of their clients; earlier versions
    /// do not, and are not told of them.
    pub takes_sources: bool,
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

/// Directors that have been silent for long, or were never heard: a bit each. What they speak for
/// is anybody's meanwhile, and theirs again if they come back and nobody has needed it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Absent([u64; 4]);

impl Absent {
    pub(crate) fn of(peers: &[Peer], now: Duration) -> Self {
        let mut absent = Self::default();
        for Peer { id: NodeId(node), .. } in peers.iter().filter(|peer| peer.link.is_absent(now)) {
            mention(&mut absent.0, usize::from(*node));
        }
        absent
    }

    /// The owner, if it is there.
    pub(crate) fn present(&self, owner: Owner) -> Owner {
        match owner {
            Owner::Other(NodeId(node)) if is_mentioned(&self.0, usize::from(node)) => Owner::Nobody,
            owner => owner,
        }
    }
}

impl Peer {
    pub(crate) fn new(me: NodeId, id: NodeId, session: u64, lot: Lot) -> Self {
        let (mut link, mut greeting) = (Link::new(me, id, session, lot), Vec::new());
        Message::Features(message::FEATURES).encode(&mut greeting);
        link.greet_with(greeting);
        Self {
            id,
            link,
            batch: Vec::new(),
            named: HashMap::new(),
            theirs: HashMap::new(),
            behind: false,
            round: None,
            rounds: 0,
            proving_round: 1,
            in_step: 0,
            jobs: VecDeque::new(),
            all_wanted: BTreeSet::new(),
            their_digests: BTreeMap::new(),
            compared: 0,
            wanted: BTreeMap::new(),
            mentions: BTreeMap::new(),
            knows_theirs: false,
            lacks: false,
            lacks_hearsay: false,
            lacks_since: None,
            agreed: None,
            again: (0, 0),
            told: 0,
            taken: 0,
            bindings: Waiting::new(),
            has_bindings: false,
            has_begun: false,
            has_told_all: BTreeSet::new(),
            takes_sources: false,
        }
    }

    /// Notes a datagram; returns the messages that it has brought in order.
    pub(crate) fn receive(&mut self, header: &Header, messages: &[u8], now: Duration) -> Vec<Vec<u8>> {
        let received = self.link.receive(header, messages, now);
        let Received { begins_anew, stream_begins, messages, greeting } = received;
        if begins_anew {
            self.begin_stream();
        }
        if begins_anew || stream_begins {
            self.theirs.clear();
            self.their_digests.clear();
            self.wanted.clear();
            self.mentions.clear();
            self.knows_theirs = false;
            (self.lacks, self.lacks_since) = (false, None);
            self.has_begun |= begins_anew;
            self.has_told_all.clear();
        }
        if begins_anew {
            self.takes_sources = false;
        }
        for message in Reader::new(&greeting) {
            if let Ok(Message::Features(features)) = message {
                self.note_features(features);
            }
        }
        messages
    }

    /// It understands these.
    fn note_features(&mut self, features: u32) {
        let takes_sources = features & message::SOURCES != 0;
        if takes_sources && !self.takes_sources {
            // It was told of none before.
            self.compare_soon();
        }
        self.takes_sources = takes_sources;
    }

    /// Our stream begins again: what it was told of servers is forgotten.
    fn begin_stream(&mut self) {
        self.batch.clear();
        self.named.clear();
        self.jobs.clear();
        self.all_wanted.clear();
        self.compare_soon();
        self.bindings.clear();
        self.has_bindings = false;
    }

    /// Tells of one connection, or notes that it must learn of it later.
    pub(crate) fn tell<K: WireKey>(&mut self, connection: &Connection<K>, server: &Entry, now: Duration) {
        if server.known.group.sourced && !self.takes_sources {
            return; // it gets digests when it understands them
        }
        if !self.link.is_up(now) || self.link.room() == 0 {
            // It gets digests when it is back, but no digest has hearsay.
            self.compare_soon();
            let group = server.known.group.id;
            if connection.hearsay && self.all_wanted.contains(&group) {
                self.wants(group, Regions::ALL);
            }
            return;
        }
        self.told += 1;
        let Entry { known, hash } = server;
        // A service may get addresses for the place of its clients.
        let name = hash ^ u64::from(known.group.id.0);
        if self.named.insert(connection.server, name) != Some(name) {
            let number = connection.server;
            self.say(&Message::Server { number, group: known.group.id, backend: known.backend }, now);
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
            self.compare_soon();
            // Servers may have been named in what is lost, and bindings told.
            self.named.clear();
            self.has_bindings = false;
        }
    }

    /// Whether it should get digests now.
    pub(crate) fn is_round_due(&mut self, now: Duration) -> bool {
        let has_caught_up = self.link.backlog() <= CAUGHT_UP && self.jobs.is_empty();
        let is_due = self.behind || self.round.is_none_or(|due| now >= due);
        let begins = self.link.is_up(now) && has_caught_up && is_due;
        if begins {
            self.behind = false;
            self.round = Some(now + ROUND);
            self.rounds += 1;
        }
        begins
    }

    pub(crate) fn end_round(&mut self, now: Duration) {
        self.say(&Message::RoundEnds(self.rounds), now);
    }

    /// It may lack something: it gets digests soon, and knows all once it knows those.
    pub(crate) fn compare_soon(&mut self) {
        self.behind = true;
        self.proving_round = self.rounds + 1;
    }

    /// It says that it knows all that it was told up to the end of the round.
    pub(crate) fn note_in_step(&mut self, round: u32) {
        self.in_step = round;
    }

    /// Whether it knows what this director knows.
    pub(crate) fn knows_ours(&self) -> bool {
        self.in_step >= self.proving_round
    }

    /// It has told of a connection to a server that is not here.
    pub(crate) fn note_lack(&mut self, now: Duration) {
        self.lacks = true;
        let since = *self.lacks_since.get_or_insert(now);
        if self.knows_theirs && now < since + PATIENCE {
            self.knows_theirs = false;
            self.say(&Message::Lacks, now);
        }
    }

    /// Other servers are here than before.
    pub(crate) fn note_servers(&mut self, now: Duration) {
        let lacks_hearsay = std::mem::take(&mut self.lacks_hearsay);
        if lacks_hearsay {
            self.has_told_all.clear();
        }
        if self.lacks || lacks_hearsay {
            self.say(&Message::Lacks, now);
        }
    }

    /// Digests of the round are compared.
    pub(crate) fn begin_comparison(&mut self, round: u32) {
        self.compared = round;
        self.lacks = false;
    }

    /// It is to tell so many connections again.
    pub(crate) fn expect(&mut self, connections: u64) {
        self.again = (connections, 0);
    }

    /// It has told one of a group.
    pub(crate) fn note_taken(&mut self, group: GroupId) {
        self.taken += 1;
        self.again.1 += u64::from(self.mentions.contains_key(&group));
    }

    /// Share of what it tells again that has come.
    pub(crate) fn learned(&self) -> Option<f64> {
        let (expected, come) = self.again;
        // What it knows by hearsay was not counted before.
        let is_under_way = !self.wanted.is_empty() && expected > 0;
        is_under_way.then(|| (come as f64 / expected as f64).min(NEARLY_ALL))
    }

    /// Share of a table with so many pages that it was told again, of what it wants at present.
    pub(crate) fn told_again(&self, pages: usize) -> Option<f64> {
        self.jobs.front().map(|job| (job.page as f64 / pages.max(1) as f64).min(NEARLY_ALL))
    }

    /// Notes how far this director is with the round that was compared last.
    pub(crate) fn note_progress(&mut self, now: Duration) {
        if !self.wanted.is_empty() {
            return;
        }
        if !self.lacks {
            self.lacks_since = None;
        }
        self.knows_theirs = self.lacks_since.is_none_or(|since| now >= since + PATIENCE);
        if self.knows_theirs {
            self.say(&Message::InStep(self.compared), now);
        }
    }

    /// It wants these regions again.
    pub(crate) fn wants(&mut self, group: GroupId, regions: Regions) {
        if regions == Regions::ALL && self.all_wanted.len() < MOST_GROUPS {
            self.all_wanted.insert(group);
        }
        let is_full = self.jobs.len() >= 2 * MOST_GROUPS;
        match self.jobs.iter_mut().find(|job| job.group == group && !job.begun) {
            Some(job) => job.regions.add(&regions),
            // It asks again.
            None if is_full => {}
            None => self.jobs.push_back(Job { group, regions, page: 0, begun: false }),
        }
    }

    pub(crate) fn send(&mut self, now: Duration, budget: &mut u64, to: impl FnMut(&Header, &[u8]) -> usize) {
        self.flush(now);
        if self.link.send(now, budget, to) {
            self.begin_stream();
        }
        if !self.link.is_up(now) {
            self.compare_soon();
            self.knows_theirs = false;
        }
    }

    /// Bytes on the heap, see `engine::Footprint`.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn footprint(&self) -> usize {
        let servers = self.named.capacity() * size_of::<(ServerId, u64)>()
            + self.theirs.capacity() * size_of::<(ServerId, (GroupId, Backend))>();
        let digests = self.their_digests.values().map(|Digests(digests)| size_of_val(&digests[..]));
        let bits = |Mentions { v4, v6, .. }: &Mentions| size_of_val(&v4[..]) + size_of_val(&v6[..]);
        let mentions = self.mentions.values().map(bits);
        let waiting = self.batch.capacity() + self.jobs.capacity() * size_of::<Job>();
        self.link.footprint() + servers + digests.chain(mentions).sum::<usize>() + waiting
    }
}

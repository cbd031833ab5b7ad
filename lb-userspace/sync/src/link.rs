//! The conversation with one other director: no recorded datagram has an effect, messages come in
//! order, and what gets lost is sent again. Without I/O; time and random numbers are handed in.
//!
//! **Fresh.** As with heartbeats (`lb_cluster::replay`): a session of the other director counts
//! once it has sent our challenge back, which nobody can have recorded, and a challenge proves one
//! session only. Within a session the numbers of streams and datagrams do the rest.
//!
//! **In order.** Each side has a stream of numbered datagrams. The other one says which it has, and
//! what it lacks is sent again. Up to [`QUEUE`] are kept for that. A director that stays silent is
//! given up: what was for it is forgotten, and with a new stream it begins from what it knows then.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lb_model::ids::NodeId;

use crate::wire::Header;

#[cfg(test)]
mod tests;

/// Datagrams that wait for the other side's word at most.
pub(crate) const QUEUE: usize = 1024;
/// A datagram that so many overtake is lost.
const OVERTAKEN: u32 = 3;
/// The least and the most of datagrams that are under way at once.
const WINDOW: (usize, usize) = (8, QUEUE);
/// No word for so long: it is sent again.
const AGAIN: Duration = Duration::from_millis(50);
/// As long as nothing else is to say, something is said so often.
const HELLO: Duration = Duration::from_millis(200);
/// What it understands a director says so often.
const GREETING: Duration = Duration::from_secs(1);
/// No word for so long: nobody is there.
const SILENT: Duration = Duration::from_secs(1);
/// What was for a silent director is forgotten after so long.
const GIVEN_UP: Duration = Duration::from_secs(3);
/// Others go on with the connections of a director that is silent for so long.
const ABSENT: Duration = Duration::from_secs(10);
/// A session that has proven nothing gives way to another one after so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Draws random numbers.
pub(crate) type Lot = Box<dyn FnMut() -> u64 + Send>;

pub(crate) struct Link {
    me: NodeId,
    peer: NodeId,
    /// Which life of this director.
    session: u64,
    lot: Lot,
    challenge: u64,
    proof: Option<Proof>,
    candidate: Option<Candidate>,
    sending: Sending,
    receiving: Receiving,
    /// When the last datagram that counts came, and the time that it bore.
    heard: Option<(Duration, u32)>,
    said: Option<Duration>,
    /// The other side should hear from us soon.
    owes: bool,
    lag: Duration,
    /// Is said in datagrams without a number, now and then: they may get lost.
    greeting: Vec<u8>,
    greeted: Option<Duration>,
    pub(crate) totals: Totals,
}

/// The other director's session that counts.
struct Proof {
    session: u64,
    /// Of ours, which it has sent back.
    challenge: u64,
    /// Theirs.
    echo: u64,
}

/// A session that has proven nothing yet.
struct Candidate {
    session: u64,
    echo: u64,
    heard: Duration,
}

struct Sending {
    /// The first one of a session is drawn by lot, so that what the other side says about a stream
    /// of an earlier session is not taken to be about this one.
    stream: u32,
    /// Number of the first datagram in `queue`.
    first: u32,
    queue: VecDeque<Outgoing>,
    window: usize,
    cut: Duration,
}

struct Outgoing {
    messages: Vec<u8>,
    made: Duration,
    sent: Option<Duration>,
    is_there: bool,
    is_lost: bool,
}

#[derive(Default)]
struct Receiving {
    stream: u32,
    /// All up to this one have come.
    received: u32,
    early: BTreeMap<u32, Vec<u8>>,
}

/// Since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub sent: u64,
    pub sent_bytes: u64,
    pub sent_again: u64,
    pub received: u64,
}

/// What a datagram brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// The other director has begun anew: what we have told it is forgotten there, and our stream
    /// begins again.
    pub begins_anew: bool,
    /// Its stream begins: what it has told of servers holds no more.
    pub stream_begins: bool,
    /// Of one datagram each, in order.
    pub messages: Vec<Vec<u8>>,
    /// What came in a datagram without a number.
    pub greeting: Vec<u8>,
}

/// There is no room for more before the other side has caught up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Link {
    pub(crate) fn new(me: NodeId, peer: NodeId, session: u64, mut lot: Lot) -> Self {
        Self {
            me,
            peer,
            session,
            challenge: lot(),
            sending: Sending::new((lot() as u32) >> 1),
            lot,
            proof: None,
            candidate: None,
            receiving: Receiving::default(),
            heard: None,
            said: None,
            owes: false,
            lag: Duration::ZERO,
            greeting: Vec::new(),
            greeted: None,
            totals: Totals::default(),
        }
    }

    /// The other director shall hear of this, once it is there and every [`GREETING`] after that.
    pub(crate) fn greet_with(&mut self, greeting: Vec<u8>) {
        self.greeting = greeting;
    }

    /// Whether the other director is there.
    pub(crate) fn is_up(&self, now: Duration) -> bool {
        self.proof.is_some() && self.silence(now) < SILENT
    }

    /// Whether the other director has been silent for so long that nobody waits for its word.
    pub(crate) fn is_absent(&self, now: Duration) -> bool {
        self.silence(now) >= ABSENT
    }

    fn silence(&self, now: Duration) -> Duration {
        self.heard.map_or(Duration::MAX, |(heard, _)| now.saturating_sub(heard))
    }

    /// Datagrams that the other side has not confirmed.
    pub(crate) fn backlog(&self) -> usize {
        self.sending.queue.len()
    }

    /// Datagrams for which there is room.
    pub(crate) fn room(&self) -> usize {
        QUEUE - self.sending.queue.len()
    }

    /// How long the last messages took until the other side confirmed them.
    pub(crate) fn lag(&self) -> Duration {
        self.lag
    }

    /// Has the other side get these messages after all others.
    pub(crate) fn push(&mut self, messages: Vec<u8>, now: Duration) -> Result<(), Full> {
        if self.room() == 0 {
            return Err(Full);
        }
        let outgoing = Outgoing { messages, made: now, sent: None, is_there: false, is_lost: false };
        self.sending.queue.push_back(outgoing);
        Ok(())
    }

    /// Takes a datagram of the other director, whose signature is right.
    pub(crate) fn receive(&mut self, header: &Header, messages: &[u8], now: Duration) -> Received {
        let mut result = Received::default();
        if header.to != self.me || header.from != self.peer {
            return result;
        }
        match &self.proof {
            Some(Proof { session, challenge, .. })
                if header.session == *session
                    && (header.echo == self.challenge || header.echo == *challenge) => {}
            _ if header.echo == self.challenge => {
                self.begin_anew(header);
                result.begins_anew = true;
            }
            _ => {
                self.note_candidate(header, now);
                return result;
            }
        }
        if let Some(proof) = &mut self.proof {
            proof.echo = header.challenge;
        }
        if self.candidate.as_ref().is_some_and(|candidate| candidate.session == header.session) {
            self.candidate = None;
        }
        self.heard = Some((now, header.sent_at));
        self.totals.received += 1;
        if header.about == self.sending.stream
            && let Some(lag) = self.sending.confirm(header.received, header.beyond, now)
        {
            self.lag = lag;
        }
        if header.number != 0 {
            self.owes = true;
            self.receiving.take(header, messages, &mut result);
        } else {
            result.greeting = messages.to_vec();
        }
        result
    }

    /// The session has sent back our challenge, which is spent by that.
    fn begin_anew(&mut self, header: &Header) {
        self.proof =
            Some(Proof { session: header.session, challenge: self.challenge, echo: header.challenge });
        self.challenge = (self.lot)();
        self.greeted = None;
        self.receiving = Receiving::default();
        self.sending.begin();
        self.owes = true;
    }

    /// A session that does not know our challenge: it may be a new life of the other director, or a
    /// recording of an old one.
    fn note_candidate(&mut self, header: &Header, now: Duration) {
        let is_old =
            |session: u64, heard: Duration| header.session < session && now.saturating_sub(heard) < PATIENCE;
        let proven = self.proof.as_ref().map(|proof| proof.session).zip(self.heard.map(|(at, _)| at));
        let candidate = self.candidate.as_ref().map(|candidate| (candidate.session, candidate.heard));
        if proven.into_iter().chain(candidate).any(|(session, heard)| is_old(session, heard)) {
            return;
        }
        self.candidate = Some(Candidate { session: header.session, echo: header.challenge, heard: now });
        self.owes = true;
    }

    fn echo(&self, now: Duration) -> u64 {
        match (&self.candidate, &self.proof) {
            (Some(candidate), _) if now.saturating_sub(candidate.heard) < PATIENCE => candidate.echo,
            (_, Some(proof)) => proof.echo,
            _ => 0,
        }
    }

    /// Sends what is due, as long as `budget` has bytes for it. Returns whether what was for the
    /// other director is forgotten, because it stays silent.
    pub(crate) fn send(
        &mut self,
        now: Duration,
        budget: &mut u64,
        mut to: impl FnMut(&Header, &[u8]) -> usize,
    ) -> bool {
        let gives_up = self.silence(now) >= GIVEN_UP && !self.sending.queue.is_empty();
        if gives_up {
            self.sending.begin();
        }
        let mut header = self.header(now);
        let mut spoken = false;
        let greets = !self.greeting.is_empty() && self.greeted.is_none_or(|at| now >= at + GREETING);
        if greets && self.is_up(now) {
            self.greeted = Some(now);
            self.totals.sent += 1;
            self.totals.sent_bytes += to(&header, &self.greeting) as u64;
            spoken = true;
        }
        if self.is_up(now) {
            let Sending { queue, first, window, cut, .. } = &mut self.sending;
            for (index, outgoing) in queue.iter_mut().take(*window).enumerate() {
                if *budget == 0 {
                    break;
                }
                let again = outgoing.sent.is_some_and(|sent| outgoing.is_lost || now >= sent + AGAIN);
                if outgoing.is_there || outgoing.sent.is_some() && !again {
                    continue;
                }
                if again {
                    self.totals.sent_again += 1;
                    if now >= *cut + AGAIN {
                        *cut = now;
                        *window = (*window / 2).max(WINDOW.0);
                    }
                }
                (outgoing.sent, outgoing.is_lost) = (Some(now), false);
                header.number = first.wrapping_add(index as u32);
                let bytes = to(&header, &outgoing.messages) as u64;
                self.totals.sent += 1;
                self.totals.sent_bytes += bytes;
                *budget = budget.saturating_sub(bytes);
                spoken = true;
            }
        }
        if !spoken && (self.owes || self.said.is_none_or(|said| now >= said + HELLO)) {
            header.number = 0;
            self.totals.sent += 1;
            self.totals.sent_bytes += to(&header, &[]) as u64;
            spoken = true;
        }
        if spoken {
            self.said = Some(now);
            self.owes = false;
        }
        gives_up
    }

    fn header(&self, now: Duration) -> Header {
        let Receiving { stream, received, early } = &self.receiving;
        let bit = |number: &u32| number.wrapping_sub(*received).checked_sub(2).filter(|bit| *bit < u64::BITS);
        Header {
            from: self.me,
            to: self.peer,
            session: self.session,
            challenge: self.challenge,
            echo: self.echo(now),
            stream: self.sending.stream,
            number: 0,
            about: *stream,
            received: *received,
            beyond: early.keys().filter_map(bit).fold(0, |bits, bit| bits | 1 << bit),
            sent_at: now.as_millis() as u32,
            heard: self.heard.map_or(0, |(_, stamp)| stamp),
        }
    }

    /// Bytes on the heap, see `engine::Footprint`.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn footprint(&self) -> usize {
        let queue = &self.sending.queue;
        let sent: usize = queue.iter().map(|outgoing| outgoing.messages.capacity()).sum();
        let early: usize = self.receiving.early.values().map(Vec::capacity).sum();
        queue.capacity() * size_of::<Outgoing>() + sent + early
    }
}

impl Sending {
    fn new(stream: u32) -> Self {
        Self { stream, first: 1, queue: VecDeque::new(), window: 32, cut: Duration::ZERO }
    }

    /// The next stream.
    fn begin(&mut self) {
        *self = Self::new(self.stream + 1);
    }

    /// The other side has all up to `received`, and those beyond it. Returns how long the last of
    /// them took.
    fn confirm(&mut self, received: u32, beyond: u64, now: Duration) -> Option<Duration> {
        let mut lag = None;
        let mut confirmed = 0;
        // What is there beyond the first one that is missing: one that three of them overtook is
        // lost.
        let highest = u64::BITS - beyond.leading_zeros();
        for (index, outgoing) in self.queue.iter_mut().enumerate() {
            let ahead = self.first.wrapping_add(index as u32).wrapping_sub(received) as i32;
            if ahead > 1 + u64::BITS as i32 {
                break;
            }
            let is_there = ahead <= 0 || ahead >= 2 && beyond >> (ahead - 2) & 1 != 0;
            if is_there && !outgoing.is_there && outgoing.sent.is_some() {
                outgoing.is_there = true;
                confirmed += 1;
                lag = lag.max(Some(now.saturating_sub(outgoing.made)));
            } else if !is_there
                && beyond != 0
                && (ahead as u32) + OVERTAKEN <= highest + 1
                && outgoing.sent.is_some_and(|sent| now >= sent + AGAIN / 5)
            {
                outgoing.is_lost = true;
            }
        }
        while self.queue.front().is_some_and(|outgoing| outgoing.is_there) {
            self.queue.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        self.window = (self.window + confirmed).min(WINDOW.1);
        lag
    }
}

impl Receiving {
    fn take(&mut self, header: &Header, messages: &[u8], result: &mut Received) {
        if header.stream < self.stream {
            return;
        }
        if header.stream > self.stream {
            *self = Self { stream: header.stream, ..Self::default() };
            result.stream_begins = true;
        }
        let ahead = header.number.wrapping_sub(self.received);
        if ahead == 0 || ahead as usize > QUEUE {
            return;
        }
        self.early.insert(header.number, messages.to_vec());
        while let Some(messages) = self.early.remove(&self.received.wrapping_add(1)) {
            self.received = self.received.wrapping_add(1);
            result.messages.push(messages);
        }
    }
}

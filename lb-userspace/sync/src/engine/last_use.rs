//! Of groups that several directors balance: who speaks for a connection, and whose word counts if
//! two directors know different things of it.
//!
//! **Who speaks for it.** The owner of an entry is the director whose program changed it last, or
//! prolonged it by so much that it was told. The owner tells of it, and it alone takes it away by
//! not telling of it again. Nobody owns what was found at a start, what an owner's earlier life
//! spoke for, and what is known by hearsay: from a director that does not own it. While an owner is
//! silent for long, others treat its entries as nobody's; the entries stay its own, so that what
//! has ended there meanwhile goes once it is back. A director that asks for all is not told of what
//! it owns itself: what has ended there would come back. A director owns what is nobody's as soon
//! as a packet comes there. An entry that a packet has prolonged here is not taken away, although
//! its owner does not tell of it any more: it is nobody's from then on.
//!
//! **Whose word counts.** States do not tell which one is older: a client may use its port again.
//! Nor do expiries, because each state has another time-out. So:
//!
//! 1. What a packet has just changed here, and nobody was told of yet, stays: the next look tells.
//! 2. If one side has seen the last packet clearly later, its word counts, whoever the owner is.
//! 3. If that is alike:
//!    - What only begins here, and was told to nobody, gives way to what is established there, and
//!      to nothing else.
//!    - The owner's word counts, and so does that of who has ended a connection and tells of it
//!      now.
//!    - A connection that began after an end (a successor) is not ended by what is no later than
//!      its beginning: that is the end of its predecessor. If nobody speaks for it, an end by
//!      hearsay is its own.
//!    - Entries that go to different servers are different connections: the one that lives counts.
//!    - Of one connection the end counts, or what is nearer to it, and hearsay is as good as an
//!      owner's word. But what has ended is alive again if a director tells of it as news: it began
//!      again there. If it is only told again, or known by hearsay, it is alive unless the end was
//!      seen here; who has ended it, in an earlier life too, is believed in any case. What is alive
//!      again by hearsay is told by hearsay once more, because others may know of the end alone. No
//!      digest has it: a director that is silent then is told all again.
//!    - A connection that the client has half closed by the time that it is looked at, in the slot
//!      of one that has ended, is told as established first: its end would be taken for an older
//!      one's.
//!    - Of two directors that speak for the same the one with the lower number does. If two tell of
//!      living connections to different servers, news count, then what somebody speaks for, then
//!      the lower number or, by hearsay, the server whose name has the lower hash. News of one
//!      moment may have crossed on their way: of these the lower number's count.
//!
//! Whoever keeps what it has tells that to the director that told it otherwise, at once, unless
//! that were older news of what both know alike. By these rules at most one of two directors does
//! so: they never answer each other for ever. With different time-outs, as while one of them is
//! being reloaded, both may if they know different things, for some seconds after the last packet.
//! Both may give way, if what they tell crosses on its way. Then each has what the other had,
//! nobody owns it, and the next comparison of digests has both tell it by hearsay.

//!
//! **Who has ended a connection** is remembered by its slot (`Seen::ended`) for as long as nothing
//! else comes there, so one director may have forgotten it when another one has not. No take-over
//! depends on it: where one director balances a group, its word counts, and nobody asks who has
//! ended what. Where several do, who has forgotten it
//!
//! - takes what is told again for alive. So it is with what nobody has told the end of; the owner's
//!   next digest lacks it, and it goes.
//! - takes a new connection of the same client and ports for no successor, and its predecessor's
//!   end for its own. That end must come from a director that had the old connection alive until
//!   then, within [`ALIKE`] of the new one's beginning, though the old one had ended and its slot
//!   was taken again in between. The entry of what is taken for ended goes on leading packets to
//!   the server, for as long as they come, so the connection breaks only if routers send it
//!   elsewhere, too, before its entry is made anew.

use std::cmp::Ordering;

use lb_common::service::ServiceInfo;
use lb_common::table::connection::{State, slack};
use lb_model::ids::NodeId;

use super::look::is_alive;
use crate::mirror::Owner;

/// Ticks by which two directors' times may differ that mean the same.
const ALIKE: u32 = 16;

/// So many more until it was used later here. The same two times are compared on both sides, with
/// some time on the way and rounded: at most one side finds its own to be the later one.
const MARGIN: u32 = 2;

/// Ticks since the last packet of a connection in this state that expires in `remaining`; some more
/// if the expiry was written ahead, see [`slack`].
pub(super) fn idle(service: &ServiceInfo, state: State, remaining: u32) -> u32 {
    let timeout = service.timeouts[state.timeout_index()];
    (timeout + slack(timeout)).saturating_sub(remaining)
}

/// What one side knows of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// The hash of its name.
    pub server: u64,
    pub state: State,
    /// See [`idle`].
    pub idle: u32,
}

impl Known {
    const fn begins(self) -> bool {
        self.state.is_evictable() && !self.state.is_over()
    }

    const fn lives(self) -> bool {
        is_alive(self.state) && !self.state.is_over()
    }

    /// How near it is to its end, as it is told.
    const fn progress(self) -> u8 {
        match self.state {
            State::Established | State::Udp => 0,
            State::CloseWait => 1,
            State::FinWait => 2,
            // Also what begins: another one was there before.
            _ => 3,
        }
    }
}

/// How a connection is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// The teller speaks for it, and something has changed.
    News,
    /// The teller speaks for it, and tells all that it has: it may not know the latest.
    Again,
    /// The teller does not speak for it.
    Hearsay,
}

/// What another director tells of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub known: Known,
    pub teller: NodeId,
    pub word: Word,
}

/// What the table has of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    pub me: NodeId,
    pub known: Known,
    /// If it is there, or tells this. Of one that has ended: who has ended it.
    pub owner: Owner,
    /// It began after an end, and no earlier than what is told.
    pub outlives: bool,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// What is told takes the place of what is here.
    GivesWay,
    /// What is here stays, and is `owner`'s.
    Stays {
        owner: Owner,
        /// The teller is told of it at once.
        answers: bool,
    },
}

impl Here {
    pub(super) fn outcome(self, told: Told) -> Outcome {
        let is_its = is_alive(self.known.state) && self.owner == Owner::Other(told.teller);
        if is_its && told.word == Word::Hearsay {
            // It does not speak for it any more.
            return Self { owner: Owner::Nobody, ..self }.outcome(told);
        }
        let (here, there, order) = (self.known, told.known, self.order(told.known));
        if (here.server, here.state) == (there.server, there.state) {
            return self.same(told, order);
        }
        if !is_alive(here.state) && !is_alive(there.state) {
            return self.stays(false);
        }
        match order {
            Ordering::Greater => Outcome::GivesWay,
            // It speaks for something else.
            Ordering::Less if is_its => Outcome::Stays { owner: Owner::Nobody, answers: true },
            Ordering::Less => self.stays(!here.begins()),
            Ordering::Equal => self.tie(told),
        }
    }

    /// `Less`: the last packet came here.
    fn order(&self, told: Known) -> Ordering {
        if self.known.idle + ALIKE + MARGIN < told.idle {
            Ordering::Less
        } else if told.idle + ALIKE < self.known.idle {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    }

    const fn stays(self, answers: bool) -> Outcome {
        Outcome::Stays { owner: self.owner, answers }
    }

    /// Both know the same but for the time: whose it is.
    fn same(self, told: Told, order: Ordering) -> Outcome {
        if !is_alive(self.known.state) || told.word == Word::Hearsay {
            return self.stays(false);
        }
        let is_first = match self.owner {
            Owner::Me => order.is_lt() || self.me < told.teller,
            Owner::Other(node) => node != told.teller && (order.is_lt() || node < told.teller),
            Owner::Nobody => false,
        };
        if order.is_gt() {
            Outcome::GivesWay
        } else if is_first {
            // Older news need no answer: both know the connection at this server. Of directors with
            // different time-outs one would take each answer for older, and the other one for new.
            let is_asked = order.is_eq() || told.word == Word::Again;
            self.stays(self.owner == Owner::Me && is_asked)
        } else if self.known.idle <= told.known.idle {
            Outcome::Stays { owner: Owner::Other(told.teller), answers: false }
        } else {
            Outcome::GivesWay
        }
    }

    /// The last packets came at about the same time.
    fn tie(self, told: Told) -> Outcome {
        let (here, there) = (self.known, told.known);
        if here.begins() {
            return if there.lives() { Outcome::GivesWay } else { self.stays(false) };
        }
        let is_its = self.owner == Owner::Other(told.teller);
        // By hearsay too: it has ended it here, and knows a later one.
        if is_its && (told.word != Word::Hearsay || !is_alive(here.state) && is_alive(there.state)) {
            return Outcome::GivesWay;
        }
        let is_nobodys = self.owner == Owner::Nobody && told.word == Word::Hearsay;
        if self.outlives && is_alive(here.state) && !is_nobodys {
            return self.stays(self.owner == Owner::Me);
        }
        if here.server != there.server {
            return self.two(told);
        }
        let begins_again = told.word == Word::News && there.lives();
        if here.progress() < there.progress() || begins_again {
            Outcome::GivesWay
        } else if is_alive(here.state) {
            self.stays(true)
        } else if !there.lives() && (told.word == Word::News || self.owner == Owner::Me) {
            self.stays(false)
        } else if self.owner == Owner::Me {
            // The end is on its way to whoever does not know it.
            self.stays(true)
        } else {
            Outcome::GivesWay
        }
    }

    /// They are two connections, to different servers.
    fn two(self, told: Told) -> Outcome {
        let (here, there) = (self.known, told.known);
        match (here.lives(), there.lives()) {
            (true, false) => return self.stays(true),
            (false, true) => return Outcome::GivesWay,
            _ if !is_alive(there.state) => return self.stays(false),
            _ if !is_alive(here.state) => return Outcome::GivesWay,
            _ => {}
        }
        // Nobody may know of both yet. If both gave way, neither would speak for what it has told.
        let at_once = here.idle.abs_diff(there.idle) <= MARGIN;
        let (is_first, answers) = match (told.word, self.owner) {
            (Word::News, Owner::Me) => (at_once && self.me < told.teller, true),
            (Word::News, Owner::Other(node)) => (at_once && node < told.teller, false),
            (Word::News | Word::Again, Owner::Nobody) => (false, false),
            (Word::Again, Owner::Me) => (self.me < told.teller, true),
            (Word::Again, Owner::Other(node)) => (node < told.teller, false),
            (Word::Hearsay, Owner::Nobody) => (here.server < there.server, false),
            (Word::Hearsay, owner) => (true, owner == Owner::Me),
        };
        if is_first { self.stays(answers) } else { Outcome::GivesWay }
    }
}

#[cfg(test)]
mod tests;

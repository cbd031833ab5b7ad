//! Clients that are bound to servers: few change at a time, so all of them are listed now and then,
//! and what is new is told.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use lb_common::service::binding::Key;

use super::{Engine, SPARE};
use crate::message::{self, Message};
use crate::table::{Bound, Table};

/// They are listed so often, and for each thousand of them so much less often.
const PERIOD: Duration = Duration::from_secs(1);
const PER_THOUSAND: Duration = Duration::from_millis(20);

/// Two directors that bind one client within this time do so at once: neither is newer.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What was last seen of them.
#[derive(Default)]
pub(super) struct Bindings {
    seen: HashMap<[u64; 3], Bound>,
    due: Duration,
}

/// Bindings that a peer is still to be told of.
pub(crate) type Waiting = VecDeque<(Key, Bound)>;

fn word(key: &Key) -> [u64; 3] {
    [key.client.0[0], key.client.0[1], key.group]
}

/// Whether `now` says more than `before` did: another server, or a quarter of the time more.
fn is_news(before: Option<&Bound>, now: &Bound) -> bool {
    before.is_none_or(|before| {
        let more = now.until.saturating_sub(before.until);
        before.server != now.server || more > now.timeout / 4
    })
}

impl<T: Table> Engine<T> {
    /// Tells of bindings that are new, once they are due to be looked at.
    pub(super) fn look_at_bindings(&mut self, now: Duration) {
        if now >= self.bindings.due && self.directory.binds() {
            let listed = self.table.bindings();
            let thousands = u32::try_from(listed.len() / 1000).unwrap_or(u32::MAX);
            self.bindings.due = now + PERIOD + PER_THOUSAND * thousands;
            let before = std::mem::take(&mut self.bindings.seen);
            for (key, bound) in listed {
                let before = before.get(&word(&key));
                let is_news = is_news(before, &bound);
                // What was told stays what it was until there is news.
                let seen = if is_news { bound } else { before.copied().unwrap_or(bound) };
                self.bindings.seen.insert(word(&key), seen);
                if is_news && self.balances_binding(key.group) {
                    self.peers.iter_mut().for_each(|peer| peer.bindings.push_back((key, bound)));
                }
            }
        }
        for peer in &mut self.peers {
            if !peer.link.is_up(now) {
                // It gets them all when it is back.
                peer.has_bindings &= peer.bindings.is_empty();
                peer.bindings.clear();
                continue;
            }
            while peer.link.room() > SPARE
                && let Some((key, bound)) = peer.bindings.pop_front()
            {
                let remaining = bound.until.saturating_sub(now);
                if !remaining.is_zero() {
                    let binding = message::Binding { key, server: bound.server, remaining };
                    peer.say(&Message::Binding(binding), now);
                }
            }
        }
    }

    fn balances_binding(&self, number: u64) -> bool {
        self.directory.group_of_bindings(number).is_some_and(|group| self.table.balances(group))
    }

    /// All that are known, for a peer that has just come.
    pub(super) fn all_bindings(&self) -> Waiting {
        let seen = self.bindings.seen.iter().filter(|([.., group], _)| self.balances_binding(*group));
        let key = |[high, low, group]: [u64; 3]| Key { client: lb_common::addr::V6([high, low]), group };
        seen.map(|(words, bound)| (key(*words), *bound)).collect()
    }

    pub(super) fn take_binding(&mut self, binding: &message::Binding, now: Duration) {
        let message::Binding { key, server, remaining } = *binding;
        let Some(group) = self.directory.group_of_bindings(key.group) else {
            self.drops.unknown_server += 1;
            return;
        };
        if self.directory.is_anycast(group) {
            if !self.is_newer(binding, now) {
                return;
            }
        } else if self.table.balances(group) {
            self.drops.balanced_here += 1;
            return;
        }
        let until = now + remaining;
        self.table.bind(key, server, until);
        // As if it had been listed, so that it is not told back if this director takes the group.
        self.bindings.seen.insert(word(&key), Bound { server, until, timeout: remaining });
    }

    /// Whether a binding that another director tells takes the place of the one that there is, in a
    /// group that several balance: all come to the same, whoever tells whom first.
    fn is_newer(&self, told: &message::Binding, now: Duration) -> bool {
        let Some(here) = self.bindings.seen.get(&word(&told.key)).filter(|here| here.until > now) else {
            return true;
        };
        let until = now + told.remaining;
        if here.server == told.server {
            return until > here.until;
        }
        match until.abs_diff(here.until) < AT_ONCE {
            true => told.server.0 < here.server.0,
            false => until > here.until,
        }
    }
}

//! How long two are active together though a path works between them: at most the dead time,
//! whatever was lost before.
//!
//! Active is a data path whose lease runs, until its node decides to release: the lease ends with
//! the decision. There is a clock for each group and each contact of two nodes that are active for
//! it. It goes on while the contact works and both nodes run; it stands still while one of them is
//! frozen or gone, whose lease ends by itself; and it starts anew when the contact fails or one of
//! the two is not active any more.
//!
//! A path works from the moment at which it is mended, not from the first message that comes over
//! it.

use super::*;

pub(super) type Clocks = BTreeMap<(GroupId, Contact), u64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Contact {
    /// Each way some path is not cut, and no two heartbeats in a row were lost or late.
    Mutual(usize, usize),
    /// The second can hear the first: some path is not cut this way, and the last heartbeat was in
    /// time.
    OneWay(usize, usize),
}

impl Contact {
    fn nodes(self) -> (usize, usize) {
        match self {
            Self::Mutual(first, second) | Self::OneWay(first, second) => (first, second),
        }
    }
}

impl World {
    /// Time goes on until then, and nothing happens in between.
    pub(super) fn pass_time(&mut self, until: u64) {
        let mut clocks = Clocks::new();
        for group in self.groups() {
            for contact in self.contacts() {
                let (first, second) = contact.nodes();
                let end = self.active_until(first, group).min(self.active_until(second, group));
                if end <= self.now || !self.works(contact) {
                    continue;
                }
                let both_run = self.nodes[first].runs() && self.nodes[second].runs();
                let passed = if both_run { end.min(until) - self.now } else { 0 };
                let clock = self.clocks.get(&(group, contact)).copied().unwrap_or(0) + passed;
                if Duration::from_micros(clock) > DEAD {
                    self.broken(format!("two stay active for {group:?} beyond the dead time: {contact:?}"));
                }
                if end > until {
                    clocks.insert((group, contact), clock);
                }
            }
        }
        (self.clocks, self.now) = (clocks, until);
    }

    fn contacts(&self) -> impl Iterator<Item = Contact> + use<> {
        let count = self.nodes.len();
        let pairs = (0..count).flat_map(move |first| (0..first).map(move |second| (first, second)));
        pairs.flat_map(|(a, b)| [Contact::Mutual(a, b), Contact::OneWay(a, b), Contact::OneWay(b, a)])
    }

    fn works(&self, contact: Contact) -> bool {
        let carries = |from, to, losses| {
            (0..PATHS.len()).any(|path| !self.cut.contains(&(path, from, to)))
                && self.lost[from * self.nodes.len() + to] <= losses
        };
        match contact {
            Contact::Mutual(a, b) => carries(a, b, PARTITION - 1) && carries(b, a, PARTITION - 1),
            Contact::OneWay(from, to) => carries(from, to, 0),
        }
    }
}

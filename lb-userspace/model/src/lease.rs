//! The leases of the VIP groups, for whoever decides who is active.
//!
//! Each word is stored whole, one after the other, while packets come in. The order makes what they may see in between
//! safe:
//!
//! - Taken or renewed: first `balance_until`, then `answer_until`. Given up: first `answer_until`, then `balance_until`. In
//!   between packets are balanced and the host is silent, as in a grace time; it never answers for what is not balanced.
//! - A relay has no time left while its MAC changes: a packet goes to the old director, to the new one or to none.
//!
//! A packet that reads on while the words change is dropped rather than passed, see `lb_common::lease::Lease::refusal`.
//! One thread at a time changes the lease of a group.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lb_common::connection::Generation;
use lb_common::control::{Control, mac_to_word};
use lb_common::lease::{Lease, Slot};

/// For so long after its last heartbeat a node's program serves on, see [`Lease::serves_on`].
pub const SERVE_ON: Duration = Duration::from_nanos(lb_common::lease::SERVE_ON_NS);

/// Where the leases lie: the data path's memory that the XDP program reads. Only the one that made it knows where that is.
pub trait Memory: Send + Sync {
    /// The word at byte `offset` of [`Control`].
    fn word(&self, offset: usize) -> &AtomicU64;
}

/// A handle on the leases in the map `CONTROL`, for any thread. No call blocks or fails. Groups are numbered by their
/// place in the configuration; times are of CLOCK_MONOTONIC.
#[derive(Clone)]
pub struct Leases(Arc<dyn Memory>);

impl Leases {
    pub fn new(control: Arc<dyn Memory>) -> Self {
        Self(control)
    }

    /// This director is active for the group until then.
    pub fn renew(&self, group: u8, until: Duration) {
        self.hold(group, nanoseconds(until));
    }

    /// It is active for ever, or until told otherwise.
    pub fn unlimited(&self, group: u8) {
        self.hold(group, Lease::NEVER_ENDS);
    }

    /// The group is given up or taken, in whatever way: what the connection table has of it now is of an earlier
    /// generation.
    pub fn next_generation(&self, group: u8) {
        let word = self.word(group, offset_of!(Lease, generation));
        let next = Generation::from_number(word.load(Ordering::Acquire)).next();
        word.store(next.number(), Ordering::Release);
    }

    /// It runs out `now`, for whatever reason: packets are dropped until the group is ended or held again, because the
    /// host would answer them as long as the addresses are still on the interface.
    pub fn lapse(&self, group: u8, now: Duration) {
        self.store(group, offset_of!(Lease, answer_until), nanoseconds(now));
        self.store(group, offset_of!(Lease, balance_until), nanoseconds(now));
    }

    /// It is on standby from now on. The addresses must be gone from the interface.
    pub fn end(&self, group: u8) {
        self.give_up(group, 0);
    }

    /// It has handed the group over as planned: the host is silent from now on, but what still comes is balanced until
    /// then. The addresses must be gone from the interface.
    pub fn grace(&self, group: u8, until: Duration) {
        self.give_up(group, nanoseconds(until));
    }

    /// From now until then TCP packets in mid-connection that this director does not know go to the other one of a hand-over,
    /// at this MAC; `None`: from now on by their service's rule.
    pub fn relay(&self, group: u8, to: Option<([u8; 6], Duration)>) {
        let (mac, until) = to.map_or((0, 0), |(mac, until)| (mac_to_word(mac), nanoseconds(until)));
        // A renewal must not leave a moment without a relay.
        if self.word(group, offset_of!(Lease, relay)).load(Ordering::Acquire) != mac {
            self.store(group, offset_of!(Lease, relay_until), 0);
            self.store(group, offset_of!(Lease, relay), mac);
        }
        self.store(group, offset_of!(Lease, relay_until), until);
    }

    /// Until then packets in mid-connection that another director relays are served, whoever has
    /// the group: those of connections that this director knows.
    pub fn serve_on(&self, group: u8, until: Duration) {
        self.store(group, offset_of!(Lease, serve_on_until), nanoseconds(until));
    }

    /// Until when the group's packets are balanced; `None`: they are not since the group was given up.
    pub fn balance_until(&self, group: u8) -> Option<Duration> {
        self.load(group, offset_of!(Lease, balance_until))
    }

    /// Until when the host may answer for the group's VIPs; `None`: it may not since the group was given up.
    pub fn answer_until(&self, group: u8) -> Option<Duration> {
        self.load(group, offset_of!(Lease, answer_until))
    }

    fn hold(&self, group: u8, until: u64) {
        self.store(group, offset_of!(Lease, balance_until), until);
        self.store(group, offset_of!(Lease, answer_until), until);
    }

    fn give_up(&self, group: u8, balance_until: u64) {
        self.store(group, offset_of!(Lease, answer_until), 0);
        self.store(group, offset_of!(Lease, balance_until), balance_until);
    }

    fn store(&self, group: u8, word: usize, value: u64) {
        self.word(group, word).store(value, Ordering::Release);
    }

    fn load(&self, group: u8, word: usize) -> Option<Duration> {
        let value = self.word(group, word).load(Ordering::Acquire);
        (value != 0).then_some(Duration::from_nanos(value))
    }

    fn word(&self, group: u8, word: usize) -> &AtomicU64 {
        let lease = Slot::group(group).index() * size_of::<Lease>();
        self.0.word(offset_of!(Control, leases) + lease + word)
    }
}

/// As the program counts time. What does not fit never comes.
fn nanoseconds(until: Duration) -> u64 {
    u64::try_from(until.as_nanos()).unwrap_or(Lease::NEVER_ENDS)
}

//! Writes the leases of the VIP groups, for the cluster and for a director alone.
//!
//! Each word is stored atomically, one after the other, while the XDP program reads them. The order
//! of the stores keeps every intermediate state safe:
//!
//! - Take or renew: first `balance_until`, then `answer_until`. Give up: first `answer_until`, then
//!   `balance_until`. In between the program balances packets and the host is silent, as in a grace
//!   time. The host never answers for a group that is not balanced.
//! - While a relay's MAC changes, the relay has no time left: a packet goes to the old director, to
//!   the new one or to none.
//!
//! The program drops a packet, rather than passing it, if the words change while it reads them, see
//! `lb_common::lease::Lease::refusal`. Only one thread at a time changes the lease of a group.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lb_common::control::Control;
use lb_common::lease::Lease;
use lb_common::mac::Mac;
use lb_common::table::connection::Generation;

use crate::ids::GroupNumber;

/// For so long after its last heartbeat a node's program serves on, see [`Lease::serves_on`].
pub const SERVE_ON: Duration = Duration::from_nanos(lb_common::lease::SERVE_ON_NS);

/// The memory of the leases, which the XDP program reads. Only its implementation knows its
/// address.
pub trait Memory: Send + Sync {
    /// The word at byte `offset` of [`Control`].
    fn word(&self, offset: usize) -> &AtomicU64;
}

/// A handle on the leases in the map `CONTROL`, for any thread. No call blocks or fails. Times
/// are of CLOCK_MONOTONIC.
#[derive(Clone)]
pub struct Leases(Arc<dyn Memory>);

impl Leases {
    pub fn new(control: Arc<dyn Memory>) -> Self {
        Self(control)
    }

    /// Makes this director active for the group until `until`.
    pub fn renew(&self, group: GroupNumber, until: Duration) {
        self.hold(group, nanoseconds(until));
    }

    /// Makes this director active for the group without a time limit.
    pub fn unlimited(&self, group: GroupNumber) {
        self.hold(group, Lease::NEVER_ENDS);
    }

    /// Starts a new generation, whenever the group is given up or taken: present entries of the
    /// connection table then belong to an earlier generation.
    pub fn next_generation(&self, group: GroupNumber) {
        let word = self.word(group, offset_of!(Lease, generation));
        let next = Generation::from_number(word.load(Ordering::Acquire)).next();
        word.store(next.number(), Ordering::Release);
    }

    /// Number of the generation of entries that are written now.
    pub fn generation(&self, group: GroupNumber) -> u64 {
        self.word(group, offset_of!(Lease, generation)).load(Ordering::Acquire)
    }

    /// Lets the lease run out `now`: the program drops packets until the group is ended or held
    /// again, because the host would answer them while the addresses are still on the interface.
    pub fn lapse(&self, group: GroupNumber, now: Duration) {
        self.store(group, offset_of!(Lease, answer_until), nanoseconds(now));
        self.store(group, offset_of!(Lease, balance_until), nanoseconds(now));
    }

    /// Puts this director on standby for the group. The addresses must be gone from the interface.
    pub fn end(&self, group: GroupNumber) {
        self.give_up(group, 0);
    }

    /// Ends a planned hand-over: the host is silent from now on, and the program balances packets
    /// until `until`. The addresses must be gone from the interface.
    pub fn grace(&self, group: GroupNumber, until: Duration) {
        self.give_up(group, nanoseconds(until));
    }

    /// Relays strays until the given time to the other director of a hand-over, at this MAC;
    /// `None`: handles them by their service's rule from now on.
    pub fn relay(&self, group: GroupNumber, to: Option<(Mac, Duration)>) {
        let (mac, until) = to.map_or((0, 0), |(mac, until)| (mac.word(), nanoseconds(until)));
        // A renewal must not leave a moment without a relay.
        if self.word(group, offset_of!(Lease, relay)).load(Ordering::Acquire) != mac {
            self.store(group, offset_of!(Lease, relay_until), 0);
            self.store(group, offset_of!(Lease, relay), mac);
        }
        self.store(group, offset_of!(Lease, relay_until), until);
    }

    /// Until then packets in mid-connection that another director relays are served, whoever has
    /// the group: those of connections that this director knows.
    pub fn serve_on(&self, group: GroupNumber, until: Duration) {
        self.store(group, offset_of!(Lease, serve_on_until), nanoseconds(until));
    }

    /// Until when the program balances the group's packets; `None`: the group was given up.
    pub fn balance_until(&self, group: GroupNumber) -> Option<Duration> {
        self.load(group, offset_of!(Lease, balance_until))
    }

    /// Until when the host may answer for the group's VIPs; `None`: the group was given up.
    pub fn answer_until(&self, group: GroupNumber) -> Option<Duration> {
        self.load(group, offset_of!(Lease, answer_until))
    }

    fn hold(&self, group: GroupNumber, until: u64) {
        self.store(group, offset_of!(Lease, balance_until), until);
        self.store(group, offset_of!(Lease, answer_until), until);
    }

    fn give_up(&self, group: GroupNumber, balance_until: u64) {
        self.store(group, offset_of!(Lease, answer_until), 0);
        self.store(group, offset_of!(Lease, balance_until), balance_until);
    }

    fn store(&self, group: GroupNumber, word: usize, value: u64) {
        self.word(group, word).store(value, Ordering::Release);
    }

    fn load(&self, group: GroupNumber, word: usize) -> Option<Duration> {
        let value = self.word(group, word).load(Ordering::Acquire);
        (value != 0).then_some(Duration::from_nanos(value))
    }

    fn word(&self, group: GroupNumber, word: usize) -> &AtomicU64 {
        let lease = group.lease().index() * size_of::<Lease>();
        self.0.word(offset_of!(Control, leases) + lease + word)
    }
}

/// The program's representation of a time; the maximum (never) if it does not fit.
fn nanoseconds(until: Duration) -> u64 {
    u64::try_from(until.as_nanos()).unwrap_or(Lease::NEVER_ENDS)
}

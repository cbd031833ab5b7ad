//! Leases: until when this director serves a group of VIPs.
//!
//! The controller renews the lease of each group that it is active for. A controller that is
//! killed, frozen or starved renews nothing, so its director falls silent by itself before another
//! one takes the group over, although the addresses are still on its interface. All times are
//! nanoseconds of CLOCK_MONOTONIC.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::forward::hairpin;
use crate::mac::Mac;
use crate::reason::Reason;
use crate::table::connection::{Entry, Generation};

/// Groups of VIPs at most, each with a lease of its own.
pub const MAX_GROUPS: usize = 32;

/// Leases in [`crate::control::Control`]: the groups', one for services of no group, and unused
/// ones up to a power of two, so that a mask bounds an index.
pub const GROUPS: usize = 64;

const _: () = assert!(GROUPS.is_power_of_two() && GROUPS > MAX_GROUPS);

/// How long a director drops a group's packets after its lease has run out; see [`Lease::refusal`].
pub const LAPSE_NS: u64 = 10_000_000_000;

/// How long after a node's last heartbeat its program serves on, see [`Lease::serves_on`]. Long
/// enough for an upgrade with a look at what went wrong; nobody looks after the servers' MACs
/// meanwhile.
pub const SERVE_ON_NS: u64 = 600_000_000_000;

/// The time to live that a packet has at most once a director has returned it to the other one, see
/// [`Decides::Sender`]. Enough for one that goes back once more, because that director is its
/// server (`hairpin`).
pub const RETURNED_TTL: u8 = hairpin::TTL + 2;

/// The same of a server's answer, which has far to go from there: to its client.
pub const RETURNED_ANSWER_TTL: u8 = 32;

/// Number of a group of VIPs: which lease a service, or a VIP, is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct GroupIndex(u8);

impl GroupIndex {
    /// Services whose VIP is in no group: always active.
    pub const UNGROUPED: Self = Self(MAX_GROUPS as u8);

    /// The lease of group `number`, below [`MAX_GROUPS`].
    pub const fn group(number: u8) -> Self {
        assert!((number as usize) < MAX_GROUPS);
        Self(number)
    }

    /// From the number in a map; any number is within bounds once it is an [`Self::index`].
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        Self(number)
    }
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Of a service with rules about its clients ([`crate::service::admission`]): the bits above
    /// the number are nobody else's, and what reads the lease leaves them out anyway.
    const GUARDED: u8 = 0x80;

    #[inline(always)]
    pub const fn guarded(self, guarded: bool) -> Self {
        Self(if guarded { self.0 | Self::GUARDED } else { self.0 & !Self::GUARDED })
    }
    #[inline(always)]
    pub const fn is_guarded(self) -> bool {
        self.0 & Self::GUARDED != 0
    }

    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize & (GROUPS - 1)
    }
}

/// What a group's lease allows. All zero: standby. One cache line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Lease {
    /// Packets are balanced until then. Every packet reads this word and the next one.
    pub balance_until: u64,
    /// Number of the [`Generation`] of entries that are written now. A new one begins when the
    /// group is taken, and when it is given up.
    pub generation: u64,
    /// The host may answer ARP requests and neighbour solicitations for the VIPs until then. Before
    /// `balance_until` ends only in the grace time of a planned hand-over, when it is 0.
    pub answer_until: u64,
    /// MAC of the other director of a take-over, which may know the
    /// connections that this one does not know.
    pub relay: Mac,
    /// `relay` holds until then.
    pub relay_until: u64,
    /// See [`Lease::serves_on`].
    pub serve_on_until: u64,
    pub reserved: [u64; 2],
}

/// Who decides where a TCP packet in mid-connection goes; see [`Lease::decides`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decides {
    /// This director: by its entry, or if there is none by the service's own rule.
    This,
    /// The other director of the hand-over: the packet is relayed.
    Other,
    /// The other one again, which has sent the packet: it goes back, with the time to live that
    /// [`returned`] tells.
    Sender,
}

/// The time to live of a packet that goes back to the director that it came from with this one, at
/// most so much; `None`: its way ends here. So one that two directors return to each other, because
/// neither has the group for a moment, ends after a while.
#[inline(always)]
pub const fn returned(arrived: u8, most: u8) -> Option<u8> {
    match arrived {
        0 | 1 => None,
        _ if arrived <= most => Some(arrived - 1),
        _ => Some(most),
    }
}

/// Whether packets of services under a lease with this [`Lease::balance_until`] are balanced.
#[inline(always)]
pub const fn balances(balance_until: u64, now_ns: u64) -> bool {
    now_ns < balance_until
}

/// [`Lease::serves_on`] of its word, for those who read no more of the lease.
#[inline(always)]
pub const fn serves_on(serve_on_until: u64, now_ns: u64) -> bool {
    now_ns < serve_on_until
}

/// [`Lease::relay`] of its two words, for those who read no more of the lease.
#[inline(always)]
pub const fn relay(to: Mac, until: u64, now_ns: u64) -> Option<Mac> {
    if now_ns < until && !to.is_none() { Some(to) } else { None }
}

impl Lease {
    /// A time that never comes: a single director's lease.
    pub const NEVER_ENDS: u64 = u64::MAX;

    /// The lease of a director that is alone.
    pub const UNLIMITED: Self = Self {
        balance_until: Self::NEVER_ENDS,
        generation: 0,
        answer_until: Self::NEVER_ENDS,
        relay: Mac::NONE,
        relay_until: 0,
        serve_on_until: 0,
        reserved: [0; 2],
    };

    /// What the next `lb` begins with that finds this one, and that may balance nothing yet.
    /// Entries of a group that was held up to now are of the generation before from then on, as if
    /// it had been given up.
    pub const fn left_behind(self) -> Self {
        let held = self.answer_until != 0;
        let generation = Generation::from_number(self.generation);
        Self {
            balance_until: 0,
            generation: if held { generation.next().number() } else { generation.number() },
            answer_until: 0,
            relay: Mac::NONE,
            relay_until: 0,
            serve_on_until: self.serve_on_until,
            reserved: [0; 2],
        }
    }

    #[inline(always)]
    pub const fn answers(&self, now_ns: u64) -> bool {
        now_ns < self.answer_until
    }

    /// Why a packet is not balanced, for a lease that has ended.
    ///
    /// Given up in order (`answer_until` is 0): the address is gone from the interface, and the
    /// packet passes. A standby may be a real server itself, and its host must get what another
    /// director sends it.
    ///
    /// Run out: nobody has removed the address, so the host would take a packet of the next
    /// director's connections for its own and answer with a reset. It is dropped until clients have
    /// learnt the next director's MAC. A lease that is renewed at this moment, of which a packet
    /// may see one word and not the other, counts as run out too: a packet that is dropped comes
    /// again, a connection that is reset does not.
    #[inline(always)]
    pub const fn refusal(&self, now_ns: u64) -> Reason {
        if self.answer_until != 0 && now_ns.saturating_sub(self.balance_until) < LAPSE_NS {
            Reason::LeaseLapsed
        } else {
            Reason::Standby
        }
    }

    /// Whether packets in mid-connection that another director relays go on to their servers
    /// although the lease is over, as far as the table knows them; what it does not know goes back
    /// ([`Decides::Sender`]).
    ///
    /// The controller renews this with each heartbeat for all groups, whoever has them, and for
    /// [`SERVE_ON_NS`] ahead: the program goes on without it, as the kernel keeps it, while the
    /// process is restarted, or after it was killed. It balances nothing meanwhile.
    #[inline(always)]
    pub const fn serves_on(&self, now_ns: u64) -> bool {
        serves_on(self.serve_on_until, now_ns)
    }

    /// Whether a client's packet goes on to the server of its connection, which has this entry,
    /// although the lease has run out.
    ///
    /// Between the end of a dead director's lease and the moment when clients have learnt the next
    /// director's MAC nobody else has these packets, and the server is the right one whoever is
    /// active. Nothing is scheduled meanwhile, and the host's answers stay silenced: so there are
    /// never two that balance.
    #[inline(always)]
    pub const fn is_outlived_by(&self, entry: Entry, now_ns: u64) -> bool {
        self.wrote(entry) && matches!(self.refusal(now_ns), Reason::LeaseLapsed)
    }

    /// MAC of the other director of a hand-over, to which TCP packets in mid-connection may be
    /// sent.
    ///
    /// The one that took the group over sends it to its predecessor, whose table has the older
    /// connections. The predecessor, in its grace time, sends what still reaches it to its
    /// successor, whose table has the younger ones.
    #[inline(always)]
    pub const fn relay(&self, now_ns: u64) -> Option<Mac> {
        relay(self.relay, self.relay_until, now_ns)
    }

    /// Who of the two directors of a hand-over decides about a TCP packet in mid-connection.
    /// `known` is what the table knows of it here, `from_other` whether the other director has sent
    /// it.
    ///
    /// The holder's entries of this generation are right: it wrote them since it took the group. An
    /// earlier one may be of a connection that has ended since, unseen by this director, and whose
    /// port the client has used again through the other one. So the holder lets its predecessor
    /// look first, and marks the entry ([`Generation::disputed`]). What comes back is known there
    /// to nobody; then the holder's entry is right, or without one the service's own rule.
    ///
    /// The predecessor is sure of what it wrote in its grace time and while it last held the group.
    /// If it has only an older entry, that one is wrong if it bears the mark, or if the client had
    /// closed the connection; else it is taken to be right. What nobody knows goes back, because
    /// only the holder's host has the address and can answer it. It has fewer hops left then
    /// ([`returned`]), which end it should neither have the group for a moment, when it is handed
    /// back at once.
    ///
    /// A director whose lease has run out, or that is on standby, is a predecessor too, if it
    /// serves on ([`Self::serves_on`]).
    #[inline(always)]
    pub const fn decides(&self, known: Option<Entry>, from_other: bool, now_ns: u64) -> Decides {
        let holder = self.answers(now_ns);
        match (known, from_other) {
            (None, false) => Decides::Other,
            (None, true) if holder => Decides::This,
            (None, true) => Decides::Sender,
            (Some(entry), false) if holder && !self.wrote(entry) => Decides::Other,
            (Some(entry), true) if !holder && self.is_outdated(entry) => Decides::Sender,
            (Some(_), _) => Decides::This,
        }
    }

    #[inline(always)]
    const fn wrote(&self, entry: Entry) -> bool {
        entry.generation().number() == self.generation
    }

    /// The generation in which this director last held the group. A lease that has run out was not
    /// given up.
    #[inline(always)]
    const fn held(&self) -> Generation {
        let now = Generation::from_number(self.generation);
        if self.answer_until == 0 { now.before() } else { now }
    }

    /// Of a predecessor: whether an entry is not worth more than what the holder knows.
    #[inline(always)]
    const fn is_outdated(&self, entry: Entry) -> bool {
        let held = self.held();
        let of = entry.generation().number();
        let over = match entry.state() {
            Some(state) => state.is_over(),
            None => true,
        };
        of == held.disputed().number() || over && of != self.generation && of != held.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ServerId;
    use crate::table::connection::{State, Tick};

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 100 * SECOND;
    const NOTHING: Lease = Lease { balance_until: 0, answer_until: 0, ..Lease::UNLIMITED };

    const fn held_until(until: u64) -> Lease {
        Lease { balance_until: until, answer_until: until, ..NOTHING }
    }

    #[test]
    fn a_lease_that_ran_out_drops_for_a_while_and_one_given_up_passes() {
        for (description, lease, reason) in [
            ("never had", Lease::default(), Reason::Standby),
            ("ran out now", held_until(NOW), Reason::LeaseLapsed),
            ("ran out 9 s ago", held_until(NOW - 9 * SECOND), Reason::LeaseLapsed),
            ("ran out 10 s ago", held_until(NOW - LAPSE_NS), Reason::Standby),
            ("renewed meanwhile", held_until(NOW + SECOND), Reason::LeaseLapsed),
            ("grace is over", Lease { balance_until: NOW - SECOND, ..Lease::default() }, Reason::Standby),
        ] {
            assert_eq!(lease.refusal(NOW), reason, "{description}");
        }
        assert_eq!(held_until(1).refusal(NOW), Reason::Standby, "long ago");
        assert_eq!(Lease::default().refusal(SECOND), Reason::Standby, "a second after the machine's start");
    }

    #[test]
    fn connections_outlive_a_lease_that_ran_out_for_a_while() {
        let outlived = |lease: Lease, generation| {
            let generation = Generation::from_number(generation);
            lease.is_outlived_by(Entry::new(ServerId(1), State::Established, Tick(0), generation), NOW)
        };
        let ran_out = |before| Lease { generation: 3, ..held_until(NOW - before) };
        assert!(outlived(ran_out(0), 3) && outlived(ran_out(9 * SECOND), 3));
        assert!(!outlived(ran_out(0), 2), "an earlier generation's, which another director may have changed");
        assert!(!outlived(ran_out(LAPSE_NS), 3), "too long ago");
        assert!(!outlived(Lease { answer_until: 0, ..ran_out(SECOND) }, 3), "given up in order");
    }

    #[test]
    fn a_lease_ends_at_its_time() {
        for allows in [balances, serves_on] {
            assert!(allows(NOW + 1, NOW) && !allows(NOW, NOW) && !allows(0, 0));
            assert!(allows(Lease::NEVER_ENDS, u64::MAX - 1));
        }
    }

    #[test]
    fn a_relay_needs_a_mac_and_time() {
        let lease =
            |relay, relay_until| Lease { relay: Mac::from_word(relay), relay_until, ..Lease::default() };
        assert_eq!(lease(7, NOW + 1).relay(NOW), Some(Mac::from_word(7)));
        assert_eq!(lease(7, NOW).relay(NOW), None);
        assert_eq!(lease(0, NOW + 1).relay(NOW), None);
    }

    #[test]
    fn who_decides_in_a_hand_over() {
        use Decides::{Other, Sender, This};
        use State::{Closed, Established, FinWait, SynRecv};
        let holder = Lease { generation: 1, ..held_until(NOW + SECOND) };
        let grace = Lease { answer_until: 0, ..holder };
        // In its grace time a director has held the group in the generation before.
        let (this, before, older, disputed) = (1, 0, 15, 8);
        let entry = |state, generation| {
            Some(Entry::new(ServerId(1), state, Tick(0), Generation::from_number(generation)))
        };
        // What is known; who decides at the holder, for a packet from a client and one from the
        // other director, and the same in the grace time.
        for (known, at_the_holder, in_grace) in [
            (None, [Other, This], [Other, Sender]),
            (entry(SynRecv, this), [This, This], [This, This]),
            (entry(Established, this), [This, This], [This, This]),
            (entry(FinWait, this), [This, This], [This, This]),
            (entry(Established, before), [Other, This], [This, This]),
            (entry(FinWait, before), [Other, This], [This, This]),
            (entry(Established, older), [Other, This], [This, This]),
            (entry(FinWait, older), [Other, This], [This, Sender]),
            (entry(Closed, older), [Other, This], [This, Sender]),
            (entry(Established, disputed), [Other, This], [This, Sender]),
        ] {
            let decides =
                |lease: Lease| [false, true].map(|from_other| lease.decides(known, from_other, NOW));
            assert_eq!(decides(holder), at_the_holder, "{known:?} at the holder");
            assert_eq!(decides(grace), in_grace, "{known:?} in the grace time");
        }
    }

    #[test]
    fn a_director_without_its_process_serves_on_what_it_wrote_while_it_held_the_group() {
        use Decides::{Sender, This};
        use State::{Established, FinWait};
        // Killed while it held the group: nobody has given the lease up.
        let killed = Lease { generation: 1, ..held_until(NOW - SECOND) };
        // What the next process begins with is the same as what an orderly release leaves.
        let [again, released] = [killed.left_behind(), Lease { generation: 2, ..NOTHING }.left_behind()];
        assert_eq!(again, released);
        let (this, older, disputed) = (1, 0, 9);
        for lease in [killed, again] {
            let decides = |state, generation| {
                let generation = Generation::from_number(generation);
                lease.decides(Some(Entry::new(ServerId(1), state, Tick(0), generation)), true, NOW)
            };
            assert_eq!(lease.decides(None, true, NOW), Sender);
            for (state, generation, expected) in [
                (Established, this, This),
                (FinWait, this, This),
                (Established, older, This),
                (FinWait, older, Sender),
                (Established, disputed, Sender),
            ] {
                assert_eq!(decides(state, generation), expected, "{state:?} of {generation}, {lease:?}");
            }
        }
    }

    #[test]
    fn a_lease_that_was_left_behind_serves_on_and_balances_nothing() {
        let until = NOW + SERVE_ON_NS;
        let before =
            Lease { relay: Mac::from_word(7), relay_until: until, serve_on_until: until, ..Lease::UNLIMITED };
        let left = before.left_behind();
        assert!(left.serves_on(NOW) && !left.serves_on(until));
        assert!(!left.answers(NOW) && !balances(left.balance_until, 0) && left.relay(NOW).is_none());
        assert_eq!(left.left_behind(), left, "of a process that never had the group");
        assert!(!Lease::UNLIMITED.serves_on(0), "one that is alone has nobody who relays");
    }

    #[test]
    fn what_is_returned_ends_after_a_while() {
        for (arrived, most) in (0..=u8::MAX).flat_map(|ttl| [(ttl, RETURNED_TTL), (ttl, RETURNED_ANSWER_TTL)])
        {
            let hops = core::iter::successors(Some(arrived), |left| returned(*left, most)).count();
            assert!(hops <= 1 + usize::from(most), "{hops} hops of {arrived}");
        }
        assert!(
            returned(64, RETURNED_TTL).and_then(hairpin::time_to_live).is_some(),
            "its server may have sent it"
        );
    }

    #[test]
    fn every_slot_is_within_bounds() {
        for number in 0..=u8::MAX {
            assert!(GroupIndex::from_number(number).index() < GROUPS);
        }
        assert_eq!(GroupIndex::group(31).index(), 31);
        assert_eq!(GroupIndex::UNGROUPED.index(), 32);
    }
}

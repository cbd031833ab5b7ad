//! What was last seen of each slot of the connection table, in one word a slot. What a slot holds
//! now and this does not say has to be told.

use lb_common::lease::GROUPS;
use lb_common::table::connection::{State, Tick};
use lb_model::ids::{GroupNumber, NodeId};

use crate::backend::mixed;

/// Parts of the table that are compared; which one a connection is in depends on what it is, not on
/// where it stands.
pub(crate) const REGIONS: usize = 512;

const REGION_BITS: u32 = REGIONS.trailing_zeros();

/// A connection by one number: its client and ports, its service and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(u64);

impl Identity {
    /// `backend` is the hash of the server's name.
    pub(crate) fn new(client: [u64; 2], ports: [u16; 2], backend: u64) -> Self {
        let [high, low] = client.map(u64::from_be);
        let [client_port, service_port] = ports.map(u16::from_be);
        let ports = u64::from(client_port) << 16 | u64::from(service_port);
        Self(mixed(mixed(mixed(backend ^ high) ^ low) ^ ports))
    }

    pub(crate) const fn region(self) -> usize {
        (self.0 >> (u64::BITS - REGION_BITS)) as usize
    }

    pub(crate) const fn mark(self) -> Mark {
        Mark(self.0 as u16 | 1)
    }
}

/// By what the client and ports of a connection that has ended are known again. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u16);

/// A slot: bits 0 to 31 tell the connection and its state apart from others (the upper ones are its
/// region), 32 to 47 about when it expires, 48 to 53 its group's number here, 54 whether it is a
/// successor, 55 to 63 its owner or, in a group that one director balances, whether that one says
/// so and whether an own address stands in the client's place. With bits 0 to 31 at 0 it is nothing
/// worth telling. Then bits 32 to 47 are the mark of the connection that has ended there, or 0, and
/// the owner is who has ended it; or else others were told of an unproven connection, and bits 32
/// to 53 tell which.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen(u64);

/// Who tells of a connection of a group that several directors balance at once: whoever's program
/// changed it last. Only its owner can say that it is gone. `engine::last_use` has the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It was found, or is known by hearsay, or its owner has begun a new life, or has it no more
    /// while it is used here. Also of groups that one director balances.
    Nobody,
    Me,
    Other(NodeId),
}

/// Ticks per unit of the expiry that is kept: 4.3 s.
const COARSE: u32 = 4;

/// The states that are told: those that are not evictable.
const LIVING: [State; 4] = [State::Established, State::FinWait, State::Udp, State::CloseWait];

// Six bits tell the groups apart.
const _: () = assert!(GROUPS == 64);

impl Seen {
    pub(crate) const NOTHING: Self = Self(0);
    const GROUPS: u8 = GROUPS as u8 - 1;
    const SUCCESSOR: u64 = 1 << 54;
    const OWNER: u32 = 55;
    /// Nobody, this director, and as many others as a byte tells apart.
    const OWNERS: u64 = 0x1ff << Self::OWNER;
    /// In the place of an owner: nobody's, and confirmed. Nobody owns a connection of a group that
    /// one director balances.
    const CONFIRMED: u64 = 2 + 1 + u8::MAX as u64;
    /// In the place of an owner: nothing worth telling but once, see [`Self::unproven`].
    const UNPROVEN: u64 = Self::CONFIRMED + 1;
    /// In the place of an owner: nobody's, and others are still to be told that it lives.
    const RAISED: u64 = Self::UNPROVEN + 1;
    /// In the place of an owner: nobody's, and own addresses and ports stand in the place of its
    /// client. One more: and confirmed.
    const SOURCED: u64 = Self::RAISED + 1;
    const SOURCED_CONFIRMED: u64 = Self::SOURCED + 1;
    /// Others are still to be told of an unproven connection there.
    pub(crate) const WAITING: Self = Self(Self::UNPROVEN << Self::OWNER);
    const LOW: u32 = u32::BITS - REGION_BITS;

    pub(crate) fn new(identity: Identity, state: State, expires: Tick, group: GroupNumber) -> Self {
        let fingerprint = Self::fingerprint_of(identity, state);
        let expires = u64::from((expires.0 >> COARSE) as u16);
        Self(u64::from(group.0 & Self::GROUPS) << 48 | expires << 32 | u64::from(fingerprint))
    }

    /// The connection that was there has ended: `owner` has ended it.
    pub(crate) const fn ended(mark: Mark, owner: Owner) -> Self {
        Self((mark.0 as u64) << 32).owned_by(owner)
    }

    /// An unproven connection that others know, as far as they had room. It is in no digest.
    pub(crate) const fn unproven(identity: Identity) -> Self {
        Self((identity.0 & 0x003f_ffff) << 32).with_owner_number(Self::UNPROVEN)
    }

    /// Whether it is [`Self::unproven`], of whatever connection, or will be.
    pub(crate) const fn is_unproven(self) -> bool {
        self.is_nothing() && self.owner_number() == Self::UNPROVEN
    }

    const fn fingerprint_of(identity: Identity, state: State) -> u32 {
        let low = mixed(identity.0 ^ state as u64) as u32 >> REGION_BITS;
        // Never 0, which would be nothing.
        (identity.region() as u32) << Self::LOW | low | 1
    }

    pub(crate) const fn is_nothing(self) -> bool {
        self.fingerprint() == 0
    }

    const fn fingerprint(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn region(self) -> usize {
        (self.fingerprint() >> Self::LOW) as usize
    }

    pub(crate) const fn group(self) -> GroupNumber {
        GroupNumber((self.0 >> 48) as u8 & Self::GROUPS)
    }

    /// Whether both are of one connection in one state.
    pub(crate) const fn is_same(self, other: Self) -> bool {
        self.fingerprint() == other.fingerprint() && self.group().0 == other.group().0
    }

    /// Whether it is of this connection, whatever state it is in.
    pub(crate) fn is_of(self, identity: Identity) -> bool {
        LIVING.iter().any(|state| self.fingerprint() == Self::fingerprint_of(identity, *state))
    }

    /// Whether the connection of this mark has ended there, and nothing has come after it.
    pub(crate) const fn has_ended(self, mark: Mark) -> bool {
        self.is_nothing() && self.word() == mark.0 && !self.is_unproven()
    }

    /// About when it expires, or a mark.
    const fn word(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Units by which `now` expires later; 0: it does not.
    const fn later(self, now: Self) -> u32 {
        let later = now.word().wrapping_sub(self.word());
        if later < 1 << 15 { later as u32 } else { 0 }
    }

    /// Whether `now` expires so much later that it has to be told: by a quarter of the time-out,
    /// which is in ticks.
    pub(crate) const fn is_prolonged(self, now: Self, timeout: u32) -> bool {
        self.later(now) > (timeout >> COARSE) / 4 + 1
    }

    /// Whether `now` expires later at all: a packet has come here since this one was told.
    pub(crate) const fn is_used(self, now: Self) -> bool {
        self.later(now) > 0
    }

    /// Whether the director that balances the group says so.
    pub(crate) const fn is_confirmed(self) -> bool {
        matches!(self.owner_number(), Self::CONFIRMED | Self::SOURCED_CONFIRMED)
    }

    /// Of a group that one director balances: it is nobody's then.
    pub(crate) const fn confirmed(self) -> Self {
        self.with_owner_number(match self.is_sourced() {
            true => Self::SOURCED_CONFIRMED,
            false => Self::CONFIRMED,
        })
    }

    /// Of a group that one director balances: own addresses and ports stand in the client's place.
    pub(crate) const fn sourced(self) -> Self {
        self.with_owner_number(Self::SOURCED)
    }

    pub(crate) const fn is_sourced(self) -> bool {
        matches!(self.owner_number(), Self::SOURCED | Self::SOURCED_CONFIRMED)
    }

    /// A connection that is alive again by hearsay: nobody's, and other directors may take it for
    /// one that has ended, as this one did.
    pub(crate) const fn raised(self) -> Self {
        self.with_owner_number(Self::RAISED)
    }

    pub(crate) const fn is_raised(self) -> bool {
        self.owner_number() == Self::RAISED
    }

    const fn owner_number(self) -> u64 {
        (self.0 & Self::OWNERS) >> Self::OWNER
    }

    const fn with_owner_number(self, number: u64) -> Self {
        Self(self.0 & !Self::OWNERS | number << Self::OWNER & Self::OWNERS)
    }

    pub(crate) const fn owner(self) -> Owner {
        match self.owner_number() {
            0 | Self::CONFIRMED | Self::UNPROVEN | Self::RAISED => Owner::Nobody,
            Self::SOURCED | Self::SOURCED_CONFIRMED => Owner::Nobody,
            1 => Owner::Me,
            other => Owner::Other(NodeId((other - 2) as u8)),
        }
    }

    /// The owner of the connection of this mark, which the slot holds: of one that has ended, who
    /// has ended it.
    pub(crate) const fn owner_of(self, mark: Mark) -> Owner {
        if self.is_nothing() && !self.has_ended(mark) { Owner::Nobody } else { self.owner() }
    }

    pub(crate) const fn owned_by(self, owner: Owner) -> Self {
        self.with_owner_number(match owner {
            Owner::Nobody => 0,
            Owner::Me => 1,
            Owner::Other(NodeId(node)) => node as u64 + 2,
        })
    }

    /// A connection that began in the place of another one of its client and ports; others may
    /// still tell the end of that one.
    pub(crate) const fn successor(self) -> Self {
        Self(self.0 | Self::SUCCESSOR)
    }

    pub(crate) const fn is_successor(self) -> bool {
        self.0 & Self::SUCCESSOR != 0
    }

    /// Whether a packet after which it would expire at `expires` came before it was last told, or
    /// some seconds later at most (four to nine).
    pub(crate) const fn is_recent(self, expires: Tick) -> bool {
        let later = ((expires.0 >> COARSE) as u16).wrapping_sub(self.word());
        later <= 1 || later >= 1 << 15
    }

    /// What it adds to the digest of its region.
    pub(crate) const fn weight(self) -> u64 {
        mixed(self.fingerprint() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(number: u64) -> Identity {
        Identity::new([0, number.to_be()], [80, 81], 7)
    }

    #[test]
    fn state_and_group_tell_slots_apart_and_expiry_does_not() {
        let seen = |number, state, expires, group| {
            Seen::new(identity(number), state, Tick(expires), GroupNumber(group))
        };
        let one = seen(1, State::Established, 100, 0);
        assert!(one.is_same(seen(1, State::Established, 9000, 0)));
        for other in [
            seen(2, State::Established, 100, 0),
            seen(1, State::FinWait, 100, 0),
            seen(1, State::Established, 100, 1),
        ] {
            assert!(!one.is_same(other));
        }
        assert_eq!((one.region(), one.group()), (identity(1).region(), GroupNumber(0)));
        assert!(one.confirmed().is_confirmed() && one.confirmed().is_same(one) && !one.is_confirmed());
    }

    #[test]
    fn an_owner_is_a_thing_of_its_own() {
        let one = Seen::new(identity(1), State::Established, Tick(100), GroupNumber(31)).successor();
        assert_eq!(one.owner(), Owner::Nobody);
        let others = (0..=u8::MAX).map(|node| Owner::Other(NodeId(node)));
        for owner in others.chain([Owner::Me, Owner::Nobody]) {
            let owned = one.owned_by(Owner::Other(NodeId(7))).owned_by(owner);
            assert_eq!((owned.owner(), owned.group()), (owner, GroupNumber(31)));
            assert!(owned.is_successor() && !owned.is_confirmed());
            let raised = owned.raised();
            assert!(raised.is_raised() && raised.owner() == Owner::Nobody && raised.is_same(one));
            assert!(!owned.is_raised() && !raised.owned_by(owner).is_raised() && !raised.is_confirmed());
            let confirmed = owned.confirmed();
            assert!(confirmed.is_confirmed() && confirmed.is_same(one) && confirmed.is_successor());
            assert_eq!(confirmed.owner(), Owner::Nobody);
            assert!(owned.is_same(one) && owned.weight() == one.weight() && !owned.is_nothing());
        }
    }

    #[test]
    fn that_a_client_has_another_address_is_no_part_of_what_is_compared() {
        let plain = Seen::new(identity(1), State::Established, Tick(100), GroupNumber(63));
        let sourced = plain.sourced();
        assert!(sourced.is_sourced() && !plain.is_sourced() && !plain.confirmed().is_sourced());
        assert!(sourced.is_same(plain) && sourced.weight() == plain.weight());
        assert!(!sourced.is_confirmed() && sourced.owner() == Owner::Nobody);
        let confirmed = sourced.confirmed();
        assert!(confirmed.is_confirmed() && confirmed.is_sourced() && confirmed.owner() == Owner::Nobody);
    }

    #[test]
    fn of_one_that_has_ended_it_is_known_which_it_was_and_who_has_ended_it() {
        let [mark, other] = [identity(1).mark(), identity(2).mark()];
        let ended = Seen::ended(mark, Owner::Me);
        assert!(ended.is_nothing() && ended.has_ended(mark) && !ended.has_ended(other));
        assert_eq!((ended.owner_of(mark), ended.owner_of(other)), (Owner::Me, Owner::Nobody));
        assert!(!Seen::NOTHING.has_ended(mark) && Seen::NOTHING.owner_of(mark) == Owner::Nobody);
        let disowned = ended.owned_by(Owner::Nobody);
        assert!(disowned.has_ended(mark) && disowned.owner_of(mark) == Owner::Nobody);
        let next = Seen::new(identity(1), State::Established, Tick(100), GroupNumber(0));
        assert!(!next.is_same(ended) && !next.is_successor() && !next.has_ended(mark));
        let next = next.owned_by(Owner::Me).successor();
        assert!(next.is_successor() && next.owner_of(other) == Owner::Me && !next.is_nothing());
        assert!(next.owned_by(Owner::Nobody).is_successor());
    }

    #[test]
    fn a_connection_is_known_in_each_state_that_is_told() {
        for bits in 0..16 {
            let Some(state) = State::from_bits(bits) else { continue };
            assert_eq!(LIVING.contains(&state), !state.is_evictable(), "{state:?}");
            let seen = Seen::new(identity(1), state, Tick(100), GroupNumber(0));
            assert_eq!(seen.is_of(identity(1)), !state.is_evictable(), "{state:?}");
            assert!(!seen.is_of(identity(2)), "{state:?}");
        }
        assert!(!Seen::NOTHING.is_of(identity(1)));
    }

    #[test]
    fn what_is_unproven_is_nothing_but_told() {
        let [one, other] = [1, 2].map(|number| Seen::unproven(identity(number)));
        assert_ne!(one, other);
        assert!(Seen::WAITING.is_unproven() && Seen::WAITING != Seen::NOTHING && Seen::WAITING != one);
        assert!(one.is_nothing() && one.is_unproven() && !one.is_successor() && one != Seen::NOTHING);
        assert_eq!((one.owner(), one.owner_of(identity(1).mark())), (Owner::Nobody, Owner::Nobody));
        let same_word = Mark(one.word());
        assert!(!one.has_ended(same_word) && !one.is_of(identity(1)));
        let told = Seen::new(identity(1), State::Established, Tick(100), GroupNumber(0));
        assert!(!told.is_unproven() && !Seen::NOTHING.is_unproven() && !told.confirmed().is_unproven());
        assert!(!Seen::ended(same_word, Owner::Me).is_unproven());
    }

    #[test]
    fn it_is_recent_for_some_seconds() {
        let seen = Seen::new(identity(1), State::Established, Tick(0x00ff_fff8), GroupNumber(0));
        let is_recent = |later: u32| seen.is_recent(Tick(0x00ff_fff8).plus(later));
        assert!(is_recent(0) && is_recent(16));
        assert!(!is_recent(32) && !is_recent(3600));
        assert!(seen.is_recent(Tick(0x00ff_ff00)), "what came before it is no news");
    }

    #[test]
    fn an_expiry_is_told_again_once_a_quarter_of_the_time_out_is_used_up() {
        let seen = |expires| Seen::new(identity(1), State::Established, Tick(expires), GroupNumber(0));
        let timeout = 3600;
        assert!(!seen(10_000).is_prolonged(seen(10_000 + 800), timeout));
        assert!(seen(10_000).is_prolonged(seen(10_000 + 1000), timeout));
        assert!(!seen(10_000).is_prolonged(seen(9_000), timeout), "an earlier one is for its own director");
        // Over the end of the count.
        assert!(seen(0x00ff_ff00).is_prolonged(seen(0x300), timeout));
        assert!(seen(10_000).is_used(seen(10_016)) && seen(0x00ff_fff8).is_used(seen(0x18)));
        assert!(!seen(10_000).is_used(seen(10_000)) && !seen(10_000).is_used(seen(9_000)));
    }

    #[test]
    fn connections_spread_over_the_regions() {
        let mut found = [0_u32; REGIONS];
        (0..100_000).for_each(|number| found[identity(number).region()] += 1);
        assert!(found.iter().all(|count| (100..300).contains(count)), "{found:?}");
    }
}

//! Fragments that came too early, in bounded memory and for a bounded time. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_common::addr::{V4, V6};
use lb_common::packet::fragment::{Covered, HOLD_NS, Key, Piece};
use lb_common::packet::frame::{self, Head, RelatedHeaders};
use lb_common::reason::Reason;

/// Fragments, and bytes of them, that are held at most.
const MOST: usize = 1024;
const MOST_BYTES: usize = 1 << 20;

/// From one look for what a datagram waits for to the next: half of the time that it has waited
/// already, within these bounds.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

/// A later fragment, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) key: Key,
    pub(super) ipv6: bool,
    piece: Piece,
    pub(super) frame: Vec<u8>,
}

impl Fragment {
    /// `None`: it is none, or one that no datagram has.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        fn of<A: RelatedHeaders>(head: &Head<A>) -> Option<(Key, Piece)> {
            Some((head.key(), head.is_later_fragment().then(|| head.piece())?.ok()?))
        }
        let link = frame::link(frame)?;
        let (key, piece) = match link.is_ipv6() {
            true => of(&V6::head(frame, link.network())?)?,
            false => of(&V4::head(frame, link.network())?)?,
        };
        Some(Self { key, ipv6: link.is_ipv6(), piece, frame: frame.to_vec() })
    }
}

/// What is held of a datagram, in the order of their places in it.
#[derive(Debug)]
struct Waiting {
    since: Duration,
    look: Duration,
    fragments: Vec<Fragment>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    datagrams: BTreeMap<Key, Waiting>,
    count: usize,
    bytes: usize,
}

impl Store {
    /// Holds one more. Returns what must go for it: what has waited longest.
    pub(super) fn hold(&mut self, fragment: Fragment, now: Duration) -> Vec<Fragment> {
        let mut gone = Vec::new();
        while self.count >= MOST || self.bytes + fragment.frame.len() > MOST_BYTES {
            let oldest = self.datagrams.iter().min_by_key(|(_, waiting)| waiting.since);
            let Some(key) = oldest.map(|(key, _)| *key) else { break };
            gone.extend(self.take(&key));
        }
        self.count += 1;
        self.bytes += fragment.frame.len();
        let waiting = self.datagrams.entry(fragment.key).or_insert_with(|| Waiting {
            since: now,
            look: now + SHORTEST,
            fragments: Vec::new(),
        });
        waiting.look = waiting.look.min(now + SHORTEST);
        let place =
            waiting.fragments.partition_point(|other| other.piece.offset() <= fragment.piece.offset());
        waiting.fragments.insert(place, fragment);
        gone
    }

    /// Datagrams to look after now.
    pub(super) fn due(&self, now: Duration) -> Vec<Key> {
        self.datagrams.iter().filter(|(_, waiting)| waiting.look <= now).map(|(key, _)| *key).collect()
    }

    /// When something is to be done next.
    pub(super) fn next(&self) -> Option<Duration> {
        self.datagrams.values().map(|waiting| waiting.look).min()
    }

    /// What can be sent of a datagram of which so much has come; the others wait on.
    pub(super) fn take_fitting(&mut self, key: &Key, mut covered: Covered) -> Vec<Fragment> {
        let Some(waiting) = self.datagrams.get_mut(key) else { return Vec::new() };
        let mut fitting = Vec::new();
        loop {
            let place = waiting
                .fragments
                .iter()
                .position(|fragment| covered.with(fragment.piece) != Err(Reason::FragmentScattered));
            let Some(place) = place else { break };
            let fragment = waiting.fragments.remove(place);
            // One that overlaps has its reason told by the program.
            covered = covered.with(fragment.piece).unwrap_or(covered);
            fitting.push(fragment);
        }
        if waiting.fragments.is_empty() {
            self.datagrams.remove(key);
        }
        self.account(&fitting);
        fitting
    }

    /// Nothing has come yet that a datagram waits for. Returns its fragments if they have waited
    /// long enough.
    pub(super) fn wait(&mut self, key: &Key, now: Duration) -> Vec<Fragment> {
        let Some(waiting) = self.datagrams.get_mut(key) else { return Vec::new() };
        let waited = now.saturating_sub(waiting.since);
        if waited >= Duration::from_nanos(HOLD_NS) {
            return self.take(key);
        }
        waiting.look = now + (waited / 2).clamp(SHORTEST, LONGEST);
        Vec::new()
    }

    /// All that is held of a datagram.
    fn take(&mut self, key: &Key) -> Vec<Fragment> {
        let fragments = self.datagrams.remove(key).map(|waiting| waiting.fragments).unwrap_or_default();
        self.account(&fragments);
        fragments
    }

    fn account(&mut self, gone: &[Fragment]) {
        self.count -= gone.len();
        self.bytes -= gone.iter().map(|fragment| fragment.frame.len()).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Part number `part` of a datagram, of 8 bytes each.
    fn part(id: u16, part: u16, more: bool) -> Fragment {
        let mut frame = vec![0; 14 + 20 + 8];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[17] = 28;
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frame[20..22].copy_from_slice(&(part | if more { 0x2000 } else { 0 }).to_be_bytes());
        frame[23] = 17;
        Fragment::read(&frame).expect("a fragment")
    }

    fn parts(fragments: &[Fragment]) -> Vec<u16> {
        fragments.iter().map(|fragment| fragment.piece.offset()).collect()
    }

    fn came(part: u16) -> Covered {
        Covered::NOTHING.with(Piece::new(part, 8, true).expect("a piece")).expect("it fits")
    }

    #[test]
    fn what_fits_goes_in_its_order_and_the_rest_waits() {
        let mut store = Store::default();
        // Parts 1, 3, 5, … of a datagram of which part 0 has come: five stretches are too many.
        for number in [11, 9, 3, 5, 7, 1] {
            assert!(store.hold(part(7, number, true), Duration::ZERO).is_empty());
        }
        let key = part(7, 1, true).key;
        assert_eq!(parts(&store.take_fitting(&key, came(0))), [1, 3, 5, 7], "four stretches");
        assert_eq!(store.due(MS), [key]);
        assert_eq!(parts(&store.take_fitting(&key, came(8))), [9, 11], "their turn");
        assert_eq!((store.count, store.bytes, store.next()), (0, 0, None));
    }

    #[test]
    fn it_looks_soon_and_then_less_often_and_gives_up() {
        let mut store = Store::default();
        let one = part(7, 1, false);
        store.hold(one.clone(), Duration::ZERO);
        let mut looks = 0;
        let (gone, now) = loop {
            let now = store.next().expect("it waits");
            assert_eq!(store.due(now), [one.key]);
            looks += 1;
            let gone = store.wait(&one.key, now);
            if !gone.is_empty() {
                break (gone, now);
            }
        };
        assert_eq!(gone, [one]);
        assert!((500..=550).contains(&now.as_millis()) && (15..25).contains(&looks), "{looks} until {now:?}");
    }

    #[test]
    fn what_has_waited_longest_makes_room() {
        let mut store = Store::default();
        for id in 0..1024 {
            assert!(store.hold(part(id, 1, false), MS * u32::from(id)).is_empty());
        }
        let gone = store.hold(part(1024, 1, false), MS * 1024);
        assert_eq!(
            gone.iter().map(|fragment| fragment.key.id).collect::<Vec<_>>(),
            [part(0, 1, false).key.id]
        );
        assert_eq!(store.count, 1024);
        let mut jumbo = part(2000, 1, false);
        jumbo.frame.resize(MOST_BYTES - 42 * 3, 0);
        assert_eq!(store.hold(jumbo, MS * 2000).len(), 1021, "bytes are bounded, too");
    }

    #[test]
    fn only_later_fragments_are_held() {
        let whole = part(1, 1, true).frame;
        for (description, change) in [("no fragment", [0, 0]), ("a first one", [0x20, 0])] {
            let mut frame = whole.clone();
            frame[20..22].copy_from_slice(&change);
            assert_eq!(Fragment::read(&frame), None, "{description}");
        }
        assert_eq!(Fragment::read(&whole[..30]), None, "cut off");
    }
}

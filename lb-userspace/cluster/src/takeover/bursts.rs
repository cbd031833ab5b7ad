//! When each VIP that is held is announced, and at what pace: pure, times are handed in.
//!
//! An address is announced in a burst when it was taken, and then again and again. All addresses
//! share one pace. Whatever is due is sent in the order of its round: no address is announced a
//! second time while another one waits for its first, and a refresh waits for all bursts.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use lb_net::announce::Part;
use tokio::time::Instant;

/// A burst: how long after the taking, and what. It begins with one frame for each address, so that
/// a pace of 10,000 frames a second lets 3,000 clients' caches be right after 300 ms.
const BURST: [(Duration, Part); 7] = [
    (Duration::ZERO, Part::First),
    // In its place in a burst of an address that was announced before.
    (Duration::ZERO, Part::First),
    (Duration::ZERO, Part::Rest),
    (Duration::from_millis(100), Part::Whole),
    (Duration::from_millis(300), Part::Whole),
    (Duration::from_millis(1000), Part::Whole),
    (Duration::from_millis(2000), Part::Whole),
];

/// Where a burst begins.
const FIRST: usize = 0;
/// Where it begins for an address that was announced before.
const AGAIN: usize = 1;

/// How long announcements pause after another machine's that has the last word: longer than it
/// takes to ask whether that machine is still there, see [`lb_net::segment::watch`].
const ANNOUNCEMENT_PAUSE: Duration = Duration::from_secs(15);

/// After a rest, frames worth this time may be sent at once: timers and busy machines are late by
/// some milliseconds.
const AT_ONCE: Duration = Duration::from_millis(10);

/// The announcements of all addresses that are held.
#[derive(Debug)]
pub(super) struct Bursts {
    pace: Pace,
    news: HashMap<IpAddr, NextAnnouncement>,
    /// Not due yet.
    later: BTreeSet<(Instant, IpAddr)>,
    /// Due, in the order in which they are sent.
    due: BTreeSet<(usize, Instant, IpAddr)>,
}

/// When an address is announced next.
#[derive(Debug, Clone, Copy)]
struct NextAnnouncement {
    began: Instant,
    /// Index in [`BURST`]; beyond it, refreshes.
    round: usize,
    next: Option<Instant>,
    refresh: Duration,
}

impl NextAnnouncement {
    fn begin(began: Instant, round: usize, refresh: Duration) -> Self {
        Self { began, round, next: Some(began), refresh }
    }

    /// One round was made at `now`.
    fn made(&mut self, vip: IpAddr, now: Instant) {
        self.round = (self.round.max(AGAIN) + 1).min(BURST.len());
        if self.part().frames(vip) == 0 {
            self.round += 1;
        }
        self.next = match BURST.get(self.round) {
            Some((after, _)) => Some(self.began + *after),
            None => (!self.refresh.is_zero()).then(|| now + self.refresh),
        };
    }

    fn part(&self) -> Part {
        BURST.get(self.round).map_or(Part::Whole, |(_, part)| *part)
    }
}

impl Bursts {
    /// `rate` is in frames a second, at least 1.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self {
            pace: Pace { gap: gap(rate), next: now },
            news: HashMap::new(),
            later: BTreeSet::new(),
            due: BTreeSet::new(),
        }
    }

    pub(super) fn set_rate(&mut self, rate: u32) {
        self.pace.gap = gap(rate);
    }

    /// The address is held from now on, or was put back: it is announced in a burst.
    pub(super) fn begin(&mut self, vip: IpAddr, refresh: Duration, now: Instant) {
        match self.news.contains_key(&vip) {
            true => {
                self.set_refresh(vip, refresh, now);
                self.again(vip, now);
            }
            false => self.set(vip, NextAnnouncement::begin(now, FIRST, refresh), now),
        }
    }

    /// A new burst for an address that is held.
    pub(super) fn again(&mut self, vip: IpAddr, now: Instant) {
        let Some(&news) = self.news.get(&vip) else { return };
        // One that waits for the beginning of a burst keeps its place.
        if news.round > AGAIN {
            self.set(vip, NextAnnouncement::begin(now, AGAIN, news.refresh), now);
        }
    }

    /// Somebody else has announced the address and has the last word for now. Should that one be
    /// gone, the next announcement says where the address is.
    pub(super) fn pause_announcements(&mut self, vip: IpAddr, now: Instant) {
        let Some(&news) = self.news.get(&vip).filter(|news| news.round != FIRST) else { return };
        self.set(
            vip,
            NextAnnouncement { round: BURST.len(), next: Some(now + ANNOUNCEMENT_PAUSE), ..news },
            now,
        );
    }

    pub(super) fn set_refresh(&mut self, vip: IpAddr, refresh: Duration, now: Instant) {
        let Some(mut news) = self.news.get(&vip).copied().filter(|news| news.refresh != refresh) else {
            return;
        };
        news.refresh = refresh;
        if news.round >= BURST.len() {
            news.next = (!refresh.is_zero()).then(|| now + refresh);
        }
        self.set(vip, news, now);
    }

    /// The address is not announced any more.
    pub(super) fn end(&mut self, vip: IpAddr) {
        if let Some(old) = self.news.remove(&vip) {
            self.forget(vip, &old);
        }
    }

    /// What is to be sent now. With `first_only` nothing but first announcements: more addresses
    /// are on their way.
    pub(super) fn next(&mut self, now: Instant, first_only: bool) -> Option<(IpAddr, Part)> {
        while let Some(&(at, vip)) = self.later.first().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, vip));
            self.due.insert((self.news[&vip].round, at, vip));
        }
        let &(round, _, vip) = self.due.first()?;
        let may = (round == FIRST || !first_only) && self.pace.free_at() <= now;
        may.then(|| (vip, self.news[&vip].part()))
    }

    /// What [`Self::next`] has named was sent.
    pub(super) fn made(&mut self, vip: IpAddr, now: Instant) {
        let Some(mut news) = self.news.get(&vip).copied() else { return };
        self.pace.spend(news.part().frames(vip), now);
        news.made(vip, now);
        self.set(vip, news, now);
    }

    /// The interface takes nothing more just now.
    pub(super) fn pause(&mut self, until: Instant) {
        self.pace.next = self.pace.next.max(until + AT_ONCE);
    }

    /// When [`Self::next`] should be asked again.
    pub(super) fn wake(&self, first_only: bool) -> Option<Instant> {
        let due = self.due.first().filter(|(round, ..)| *round == FIRST || !first_only);
        let due = due.map(|_| self.pace.free_at());
        let later = self.later.first().map(|(at, _)| *at);
        due.into_iter().chain(later).min()
    }

    fn set(&mut self, vip: IpAddr, news: NextAnnouncement, now: Instant) {
        if let Some(old) = self.news.insert(vip, news) {
            self.forget(vip, &old);
        }
        match news.next {
            Some(next) if next <= now => _ = self.due.insert((news.round, next, vip)),
            Some(next) => _ = self.later.insert((next, vip)),
            None => {}
        }
    }

    fn forget(&mut self, vip: IpAddr, news: &NextAnnouncement) {
        if let Some(next) = news.next {
            self.later.remove(&(next, vip));
            self.due.remove(&(news.round, next, vip));
        }
    }
}

/// A limit of frames a second, spread evenly but for [`AT_ONCE`].
#[derive(Debug)]
struct Pace {
    gap: Duration,
    /// When the next frame would go if they were all spread evenly.
    next: Instant,
}

impl Pace {
    fn free_at(&self) -> Instant {
        self.next.checked_sub(AT_ONCE).unwrap_or(self.next)
    }

    fn spend(&mut self, frames: u32, now: Instant) {
        self.next = self.next.max(now) + self.gap * frames;
    }
}

fn gap(rate: u32) -> Duration {
    Duration::from_secs(1) / rate.max(1)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const REFRESH: Duration = Duration::from_secs(5);

    fn vip(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a08_0000 + number).into()
    }

    /// What is sent up to `until` after the start, and when, by somebody who is always in time.
    fn play(bursts: &mut Bursts, start: Instant, until: Duration) -> Vec<(Duration, IpAddr, Part)> {
        let mut sent = Vec::new();
        while let Some(wake) = bursts.wake(false).filter(|wake| *wake <= start + until) {
            let now = wake.max(start);
            while let Some((vip, part)) = bursts.next(now, false) {
                sent.push((now - start, vip, part));
                bursts.made(vip, now);
            }
        }
        sent
    }

    #[test]
    fn one_address_is_announced_in_a_burst_and_then_at_the_pace_of_its_refresh() {
        let start = Instant::now();
        for (address, frames) in [("10.8.0.1", 2), ("2001:db8::1", 1)] {
            let vip: IpAddr = address.parse().expect("an address");
            let mut bursts = Bursts::new(10_000, start);
            bursts.begin(vip, REFRESH, start);
            let sent = play(&mut bursts, start, Duration::from_secs(13));
            let times: Vec<u128> = sent.iter().map(|(at, ..)| at.as_millis()).collect();
            let first = vec![0; frames];
            assert_eq!(times, [first, vec![100, 300, 1000, 2000, 7000, 12_000]].concat(), "{vip}");

            bursts.begin(vip, Duration::ZERO, start + Duration::from_secs(20));
            let again = play(&mut bursts, start, Duration::from_secs(60));
            assert_eq!(again.len(), BURST.len() - 3 + frames, "{vip}: a burst, and nothing after it");
        }
    }

    #[test]
    fn every_address_is_announced_before_any_a_second_time_and_the_pace_holds() {
        let start = Instant::now();
        let mut bursts = Bursts::new(10_000, start);
        (0..3000).for_each(|number| bursts.begin(vip(number), REFRESH, start));
        let sent = play(&mut bursts, start, Duration::from_secs(4));
        let first = &sent[..3000];
        assert_eq!(first.iter().map(|(_, vip, _)| vip).collect::<BTreeSet<_>>().len(), 3000);
        let last = first[2999].0;
        assert!(last <= Duration::from_millis(300), "the last one after {last:?}");
        for part in [Part::First, Part::Rest] {
            assert_eq!(sent.iter().filter(|(.., sent)| *sent == part).count(), 3000);
        }
        let frames = |sent: &[(Duration, IpAddr, Part)]| -> u32 {
            sent.iter().map(|(_, vip, part)| part.frames(*vip)).sum()
        };
        assert_eq!(frames(&sent), 3000 * 10);
        // Any tenth of a second.
        for (index, (from, ..)) in sent.iter().enumerate() {
            let end = sent.partition_point(|(at, ..)| *at < *from + Duration::from_millis(100));
            assert!(frames(&sent[index..end]) <= 1000 + 100 + 2, "from {from:?}");
        }
    }

    #[test]
    fn a_group_that_is_taken_does_not_wait_for_what_another_one_says_again() {
        let start = Instant::now();
        let mut bursts = Bursts::new(1000, start);
        (0..1000).for_each(|number| bursts.begin(vip(number), REFRESH, start));
        // Its bursts want ten times the pace.
        play(&mut bursts, start, Duration::from_secs(3));
        let now = start + Duration::from_secs(3);
        (1000..1010).for_each(|number| bursts.begin(vip(number), REFRESH, now));
        let sent = play(&mut bursts, start, Duration::from_millis(3020));
        let mut new = sent.iter().take(11).filter(|(_, sent, _)| *sent >= vip(1000));
        assert!(new.by_ref().count() >= 10, "{:?}", &sent[..20]);
    }

    #[test]
    fn while_more_addresses_come_only_first_announcements_are_made() {
        let start = Instant::now();
        let mut bursts = Bursts::new(10_000, start);
        bursts.begin(vip(1), REFRESH, start);
        assert_eq!(bursts.next(start, true), Some((vip(1), Part::First)));
        bursts.made(vip(1), start);
        assert_eq!((bursts.next(start, true), bursts.wake(true)), (None, None));
        bursts.begin(vip(2), REFRESH, start);
        assert_eq!(bursts.next(start, true), Some((vip(2), Part::First)));
        bursts.made(vip(2), start);
        assert_eq!(bursts.next(start, false), Some((vip(1), Part::Rest)));
    }

    #[test]
    fn a_conflict_in_the_middle_of_a_take_over_does_not_hold_it_up() {
        let start = Instant::now();
        let mut bursts = Bursts::new(1000, start);
        (0..100).for_each(|number| bursts.begin(vip(number), REFRESH, start));
        let early = play(&mut bursts, start, Duration::from_millis(40));
        early.iter().for_each(|(_, vip, _)| bursts.again(*vip, start + Duration::from_millis(40)));
        let sent = play(&mut bursts, start, Duration::from_secs(1));
        let all: BTreeSet<IpAddr> = early.iter().chain(&sent).take(100).map(|(_, vip, _)| *vip).collect();
        assert_eq!(all.len(), 100);
    }

    /// Somebody else announces one of them again and again, and is answered each time.
    #[test]
    fn bursts_that_are_begun_anew_again_and_again_starve_nobody() {
        let start = Instant::now();
        let mut bursts = Bursts::new(1000, start);
        (0..1000).for_each(|number| bursts.begin(vip(number), REFRESH, start));
        let mut announced = BTreeSet::new();
        for step in 1..=60 {
            let until = Duration::from_millis(20 * step);
            announced.extend(play(&mut bursts, start, until).into_iter().map(|(_, vip, _)| vip));
            (0..1000).for_each(|number| bursts.again(vip(number), start + until));
        }
        assert_eq!(announced.len(), 1000);
    }

    #[test]
    fn announcements_pause_for_a_while_unless_the_address_was_never_announced() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        for (refresh, later) in [(REFRESH, vec![17, 22]), (Duration::ZERO, vec![17])] {
            let mut bursts = Bursts::new(10_000, start);
            bursts.begin(vip(1), refresh, start);
            bursts.pause_announcements(vip(1), start);
            assert_eq!(play(&mut bursts, start, second * 2).len(), 6, "the whole burst");
            bursts.pause_announcements(vip(1), start + second);
            bursts.pause_announcements(vip(1), start + second * 2);
            let sent = play(&mut bursts, start, second * 25);
            assert_eq!(sent.iter().map(|(at, ..)| at.as_secs()).collect::<Vec<_>>(), later);
        }
    }

    #[test]
    fn what_is_given_up_is_not_announced_any_more() {
        let start = Instant::now();
        let mut bursts = Bursts::new(10_000, start);
        bursts.begin(vip(1), REFRESH, start);
        bursts.end(vip(1));
        bursts.again(vip(1), start);
        assert_eq!((bursts.next(start, false), bursts.wake(false)), (None, None));
    }
}

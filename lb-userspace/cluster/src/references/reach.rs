//! Which hosts are reached: pure.

use std::net::IpAddr;
use std::time::Duration;

/// Times are since any fixed moment.
#[derive(Debug)]
pub(super) struct Reach {
    /// How long an answer counts, and how long it is waited for.
    fresh: Duration,
    hosts: Vec<Host>,
    /// Sequence numbers whose answers are still waited for, and since when.
    rounds: Vec<(u16, Duration)>,
    sequence: u16,
}

#[derive(Debug)]
struct Host {
    address: IpAddr,
    /// The last answer, while it counts.
    answered: Option<Duration>,
}

impl Reach {
    pub(super) fn new(hosts: Vec<IpAddr>, fresh: Duration) -> Self {
        let hosts = hosts.into_iter().map(|address| Host { address, answered: None }).collect();
        Self { fresh, hosts, rounds: Vec::new(), sequence: 0 }
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.hosts.iter().map(|host| host.address)
    }

    /// All hosts are asked now, by requests of the returned sequence number.
    pub(super) fn begin_round(&mut self, now: Duration) -> u16 {
        self.sequence = self.sequence.wrapping_add(1);
        self.rounds.push((self.sequence, now));
        self.sequence
    }

    /// A reply has come in. True if its host was not reached before. One from a stranger, to no
    /// request or to one of long ago changes nothing.
    pub(super) fn replied(&mut self, from: IpAddr, sequence: u16, now: Duration) -> bool {
        self.forget_rounds(now);
        let host = self.hosts.iter_mut().find(|host| host.address == from);
        let Some(host) = host.filter(|_| self.rounds.iter().any(|(asked, _)| *asked == sequence)) else {
            return false;
        };
        host.answered.replace(now).is_none()
    }

    fn forget_rounds(&mut self, now: Duration) {
        self.rounds.retain(|(_, begun)| *begun + self.fresh > now);
    }

    /// Hosts that were reached up to now, and are no longer.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<IpAddr> {
        self.forget_rounds(now);
        let fresh = self.fresh;
        let stale = |host: &mut Host| host.answered.take_if(|answered| *answered + fresh <= now).is_some();
        self.hosts.iter_mut().filter_map(|host| stale(host).then_some(host.address)).collect()
    }

    /// When [`Self::expire`] has something to do, unless there are answers before.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.hosts.iter().filter_map(|host| host.answered).min().map(|answered| answered + self.fresh)
    }

    /// How many hosts are reached.
    pub(super) fn count(&self) -> u8 {
        let reached = self.hosts.iter().filter(|host| host.answered.is_some()).count();
        u8::try_from(reached).unwrap_or(u8::MAX)
    }

    /// Hosts that are not reached.
    pub(super) fn missing(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.hosts.iter().filter(|host| host.answered.is_none()).map(|host| host.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Duration = Duration::from_millis(1500);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn host(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    fn two_hosts() -> Reach {
        Reach::new(vec![host(1), host(2)], FRESH)
    }

    #[test]
    fn a_host_is_reached_from_its_answer_until_that_is_stale() {
        let mut reach = two_hosts();
        let sequence = reach.begin_round(at(0));
        assert_eq!((reach.count(), reach.next_timeout()), (0, None));
        assert!(reach.replied(host(1), sequence, at(3)));
        assert_eq!((reach.count(), reach.next_timeout()), (1, Some(at(1503))));
        assert_eq!(reach.missing().collect::<Vec<_>>(), [host(2)]);
        assert!(reach.expire(at(1502)).is_empty());
        assert_eq!(reach.expire(at(1503)), [host(1)]);
        assert_eq!((reach.count(), reach.next_timeout()), (0, None));
    }

    #[test]
    fn two_lost_answers_change_nothing() {
        let mut reach = two_hosts();
        for round in 0..12 {
            let sequence = reach.begin_round(at(round * 500));
            if round % 3 == 0 {
                let is_news = reach.replied(host(2), sequence, at(round * 500 + 1));
                assert_eq!(is_news, round == 0);
            }
            assert_eq!((reach.expire(at(round * 500 + 1)), reach.count()), (vec![], 1), "round {round}");
        }
    }

    #[test]
    fn late_foreign_and_invented_replies_change_nothing() {
        let mut reach = two_hosts();
        let sequence = reach.begin_round(at(0));
        assert!(!reach.replied(host(3), sequence, at(1)), "a stranger");
        assert!(!reach.replied(host(1), sequence + 1, at(1)), "not asked yet");
        assert!(!reach.replied(host(1), sequence.wrapping_sub(1), at(1)), "never asked");
        assert!(!reach.replied(host(1), sequence, at(1500)), "too late");
        assert_eq!(reach.count(), 0);
    }

    #[test]
    fn sequence_numbers_begin_anew_after_the_last() {
        let mut reach = two_hosts();
        reach.sequence = u16::MAX;
        let sequence = reach.begin_round(at(0));
        assert_eq!(sequence, 0);
        assert!(reach.replied(host(1), sequence, at(1)));
    }
}

//! Where servers are reached: their MACs, and which of them do not answer ARP for so long that they
//! count as gone.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use lb_common::mac::Mac;

/// A server that has no check counts as gone after so long without a MAC. The kernel forgets MACs
/// for other reasons, too (`ip neigh flush`, a cable that was pulled for a moment); a server that
/// lives is found again within a second.
const GONE_AFTER: Duration = Duration::from_secs(3);

/// What is known of addresses that are resolved. Times are since the controller's start.
#[derive(Debug, Default)]
pub(super) struct Reach {
    macs: HashMap<IpAddr, Mac>,
    /// Addresses without a MAC.
    silent: HashMap<IpAddr, Silence>,
}

#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Duration,
    /// It has lasted.
    gone: bool,
}

impl Reach {
    pub(super) fn mac(&self, address: IpAddr) -> Option<Mac> {
        self.macs.get(&address).copied()
    }

    pub(super) fn is_gone(&self, address: IpAddr) -> bool {
        self.silent.get(&address).is_some_and(|silence| silence.gone)
    }

    /// Returns what it was before, and whether the address had counted as gone and is back.
    pub(super) fn set(&mut self, address: IpAddr, mac: Option<Mac>, now: Duration) -> (Option<Mac>, bool) {
        match mac {
            Some(mac) => {
                let gone = self.silent.remove(&address).is_some_and(|silence| silence.gone);
                (self.macs.insert(address, mac), gone)
            }
            None => {
                self.expect(address, now);
                (self.macs.remove(&address), false)
            }
        }
    }

    /// From now on these are the addresses. What is known of others is forgotten.
    pub(super) fn follow(&mut self, addresses: &BTreeSet<IpAddr>, now: Duration) {
        self.macs.retain(|address, _| addresses.contains(address));
        self.silent.retain(|address, _| addresses.contains(address));
        for address in addresses {
            if self.mac(*address).is_none() {
                self.expect(*address, now);
            }
        }
    }

    /// The addresses that count as gone from now on.
    pub(super) fn pass_time(&mut self, now: Duration) -> Vec<IpAddr> {
        let due = |silence: &Silence| !silence.gone && now.saturating_sub(silence.since) >= GONE_AFTER;
        let due = self.silent.iter_mut().filter(|(_, silence)| due(silence));
        due.map(|(address, silence)| {
            silence.gone = true;
            *address
        })
        .collect()
    }

    fn expect(&mut self, address: IpAddr, now: Duration) {
        self.silent.entry(address).or_insert(Silence { since: now, gone: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const NOBODY: [IpAddr; 0] = [];

    #[test]
    fn c7b_who_does_not_answer_for_long_is_gone_until_it_answers() {
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let at = |millis| Duration::from_millis(millis);
        let mut reach = Reach::default();
        reach.follow(&[one, other].into(), at(0));
        assert_eq!(reach.set(one, Some(MAC), at(10)), (None, false));
        assert_eq!(reach.pass_time(at(2999)), NOBODY);
        assert_eq!(reach.pass_time(at(3000)), [other], "one that never answered");
        assert_eq!(reach.pass_time(at(3001)), NOBODY, "it is told once");
        assert_eq!(reach.set(other, Some(MAC), at(3002)), (None, true));

        assert_eq!(reach.set(one, None, at(5000)), (Some(MAC), false));
        assert_eq!(reach.set(one, None, at(6000)), (None, false), "it counts from the first time");
        assert!(!reach.is_gone(one) && reach.mac(one).is_none());
        assert_eq!(reach.set(one, Some(MAC), at(7999)), (None, false), "forgotten for a moment only");
        assert_eq!(reach.pass_time(at(20_000)), NOBODY);
        reach.set(one, None, at(20_000));
        assert_eq!(reach.pass_time(at(23_000)), [one]);
        assert!(reach.is_gone(one));
        reach.follow(&[other].into(), at(23_001));
        reach.follow(&[one, other].into(), at(23_002));
        assert!(!reach.is_gone(one), "all is forgotten of one that is not wanted");
    }
}

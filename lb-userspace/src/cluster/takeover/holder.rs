//! Keeps VIPs on the interface and the segment informed, for as long as this node holds them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::addresses::{Addresses, VipAddress};
use super::announce::Announcer;
use crate::config::Group;

/// When a VIP is announced after it was taken: at once, and again for whoever missed it.
const BURST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];

/// What shall be held, and by which MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    groups: Vec<Group>,
    mac: [u8; 6],
    /// Give everything up and end.
    end: bool,
}

/// A task that holds VIPs. Dropping it leaves them where they are; [`Self::release`] gives them up.
#[derive(Debug)]
pub struct Holder {
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

impl Holder {
    /// Needs a tokio runtime around it. `interface` is the interface's index.
    pub fn start(interface: u32, mac: [u8; 6]) -> Result<Self> {
        let (wanted, receiver) = watch::channel(Wanted { groups: Vec::new(), mac, end: false });
        let keeper = Keeper {
            addresses: Addresses::of(interface)?,
            announcer: Announcer::new(interface)?,
            held: BTreeMap::new(),
        };
        let task = tokio::spawn(keeper.run(receiver));
        Ok(Self { wanted, task })
    }

    /// From now on these groups' VIPs are held, and no others of those it held before.
    pub fn hold(&self, groups: &[Group]) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.groups != groups;
            wanted.groups = groups.to_vec();
            changed
        });
    }

    /// The interface's MAC has changed: everyone is told.
    pub fn set_mac(&self, mac: [u8; 6]) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(&mut wanted.mac, mac) != mac);
    }

    /// Gives all VIPs up; returns when they are off the interface.
    pub async fn release(self) {
        self.wanted.send_modify(|wanted| {
            wanted.groups.clear();
            wanted.end = true;
        });
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that holds the VIPs has failed");
        }
    }
}

struct Keeper {
    addresses: Addresses,
    announcer: Announcer,
    held: BTreeMap<VipAddress, News>,
}

/// When a held VIP is announced next.
#[derive(Debug)]
struct News {
    /// Announcements of the burst that are done.
    done: usize,
    taken: Instant,
    next: Option<Instant>,
    refresh: Duration,
}

impl News {
    fn from(taken: Instant, refresh: Duration) -> Self {
        Self { done: 0, taken, next: Some(taken), refresh }
    }

    /// One announcement was made at `now`.
    fn made(&mut self, now: Instant) {
        self.done += 1;
        self.next = match BURST.get(self.done) {
            Some(after) => Some(self.taken + *after),
            None => (!self.refresh.is_zero()).then(|| now + self.refresh),
        };
    }
}

impl Keeper {
    async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        loop {
            let now = wanted.borrow_and_update().clone();
            self.follow(&now).await;
            if now.end {
                return;
            }
            self.announce(now.mac);
            let next = self.held.values().filter_map(|news| news.next).min();
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if wanted.borrow().mac != now.mac {
                        let begin = Instant::now();
                        self.held.values_mut().for_each(|news| *news = News::from(begin, news.refresh));
                    }
                }
                () = sleep_until(next) => {}
            }
        }
    }

    /// Takes what is wanted and not held, gives up what is held and not wanted.
    async fn follow(&mut self, wanted: &Wanted) {
        let wanted = vips(&wanted.groups);
        let surplus: Vec<VipAddress> =
            self.held.keys().filter(|vip| !wanted.contains_key(vip)).cloned().collect();
        for vip in surplus {
            self.held.remove(&vip);
            match self.addresses.delete(vip.address).await {
                Ok(()) => tracing::info!("IP address {} released", vip.address),
                Err(error) => tracing::error!("{error:#}"),
            }
        }
        for (vip, refresh) in wanted {
            if self.held.contains_key(&vip) {
                continue;
            }
            match self.addresses.add(&vip).await {
                Ok(()) => {
                    tracing::info!("IP address {}/{} taken, sending gratuitous ARP", vip.address, vip.prefix);
                    self.held.insert(vip, News::from(Instant::now(), refresh));
                }
                Err(error) => tracing::error!("{error:#}"),
            }
        }
    }

    fn announce(&mut self, mac: [u8; 6]) {
        let now = Instant::now();
        for (vip, news) in &mut self.held {
            if news.next.is_some_and(|next| next <= now) {
                if let Err(error) = self.announcer.announce(vip.address, mac) {
                    tracing::warn!("{error:#}");
                }
                news.made(now);
            }
        }
    }
}

fn vips(groups: &[Group]) -> BTreeMap<VipAddress, Duration> {
    let of_group = |group: &Group| {
        let Group { name: _, vips, label, refresh, nodes: _, failback: _ } = group.clone();
        vips.into_iter().map(move |vip| {
            // IPv6 addresses have no labels.
            let label = label.clone().filter(|_| vip.address.is_ipv4());
            (VipAddress { address: vip.address, prefix: vip.prefix, label }, refresh)
        })
    };
    groups.iter().flat_map(of_group).collect()
}

/// Every address that `groups` name.
pub fn addresses_of(groups: &[Group]) -> impl Iterator<Item = IpAddr> + '_ {
    groups.iter().flat_map(|group| group.vips.iter().map(|vip| vip.address))
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_comes_in_a_burst_and_then_at_the_pace_of_the_refresh() {
        let taken = Instant::now();
        let mut news = News::from(taken, Duration::from_secs(5));
        let mut now = taken;
        for after in BURST {
            assert_eq!(news.next, Some(taken + after));
            now = taken + after;
            news.made(now);
        }
        assert_eq!(news.next, Some(now + Duration::from_secs(5)));

        let mut once = News::from(taken, Duration::ZERO);
        (0..BURST.len()).for_each(|_| once.made(now));
        assert_eq!(once.next, None);
    }
}

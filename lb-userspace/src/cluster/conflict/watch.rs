//! Hears claims for as long as this node runs, and tells those that concern it.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Claim, Listener};

/// From a failure to the next attempt.
const RETRY: Duration = Duration::from_secs(1);

/// From a conflict that was told to the next one. Who announces more often is not answered more often, and what comes
/// meanwhile waits in the socket, which has its bounds.
const PACE: Duration = Duration::from_millis(20);

/// What nobody else may announce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    /// This node's own on the VIPs' interface: what is announced with it is no conflict.
    pub mac: [u8; 6],
    /// The VIPs, each with the number of its group.
    pub vips: HashMap<IpAddr, u8>,
}

impl Ours {
    /// The group whose VIP somebody else says to have. The machine knows whether this node means to have it.
    fn in_conflict(&self, claim: &Claim) -> Option<u8> {
        self.vips.get(&claim.address).copied().filter(|_| claim.mac != self.mac)
    }
}

/// Where claims come from.
trait Source {
    async fn next(&mut self) -> io::Result<Claim>;
}

impl Source for Listener {
    async fn next(&mut self) -> io::Result<Claim> {
        Self::next(self).await
    }
}

/// Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    ours: watch::Sender<Ours>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// `interface` is the interface's index; `tell` is told the number of the group.
    pub fn start(interface: u32, ours: Ours, tell: impl Fn(u8) + Send + 'static) -> Result<Self> {
        let listener =
            Listener::open(interface).context("cannot listen for others that announce the VIPs")?;
        let (ours, latest) = watch::channel(ours);
        let open = move || Listener::open(interface);
        let task = tokio::spawn(hear(listener, open, latest, tell));
        Ok(Self { ours, task })
    }

    pub fn change(&self, change: impl FnOnce(&mut Ours)) {
        self.ours.send_modify(change);
    }
}

/// A source that fails is opened anew, again and again; that it does is told once.
async fn hear<S: Source>(
    mut source: S,
    open: impl Fn() -> io::Result<S>,
    ours: watch::Receiver<Ours>,
    tell: impl Fn(u8),
) {
    let mut failing = false;
    loop {
        match source.next().await {
            Ok(claim) => {
                failing = false;
                let group = ours.borrow().in_conflict(&claim);
                if let Some(group) = group {
                    tracing::debug!("{} is announced by {:02x?}", claim.address, claim.mac);
                    tell(group);
                    sleep(PACE).await;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!("announcements of VIPs by others are not seen for now: {error}");
                }
                sleep(RETRY).await;
                if let Ok(anew) = open() {
                    source = anew;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 7];

    /// Has nothing more to say after the last one.
    struct Script(VecDeque<io::Result<Claim>>);

    impl Source for Script {
        async fn next(&mut self) -> io::Result<Claim> {
            match self.0.pop_front() {
                Some(said) => said,
                None => std::future::pending().await,
            }
        }
    }

    fn claim(address: &str, mac: [u8; 6]) -> io::Result<Claim> {
        Ok(Claim { address: address.parse().expect("an address"), mac })
    }

    fn failure() -> io::Result<Claim> {
        Err(io::Error::other("no buffer space"))
    }

    fn ours() -> watch::Receiver<Ours> {
        let vips = [("10.9.9.6", 0), ("2001:db8::6", 3)];
        let vips = vips.map(|(vip, group)| (vip.parse().expect("an address"), group));
        watch::channel(Ours { mac: MAC, vips: vips.into() }).1
    }

    /// The groups that are told within a minute, of which each source that is opened says its part.
    async fn told(sources: Vec<Vec<io::Result<Claim>>>) -> Vec<u8> {
        let told: RefCell<Vec<u8>> = RefCell::default();
        let tell = |group| told.borrow_mut().push(group);
        let mut sources = sources.into_iter().map(|said| Script(said.into()));
        let first = sources.next().expect("a source");
        let rest = Cell::new(Some(sources.collect::<VecDeque<_>>()));
        let open = || {
            let mut left = rest.take().expect("one at a time");
            let next = left.pop_front().ok_or_else(|| io::Error::other("no such device"));
            rest.set(Some(left));
            next
        };
        let heard = hear(first, open, ours(), tell);
        assert!(tokio::time::timeout(Duration::from_secs(60), heard).await.is_err(), "it goes on");
        told.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn our_vips_announced_by_others_are_told_and_nothing_else() {
        let said = vec![
            claim("10.9.9.6", MAC),
            claim("10.9.9.7", OTHER),
            claim("2001:db8::6", OTHER),
            claim("2001:db8::7", OTHER),
            claim("10.9.9.6", OTHER),
        ];
        assert_eq!(told(vec![said]).await, [3, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_it_hears_again() {
        let sources = vec![
            vec![failure()],
            vec![failure(), claim("10.9.9.6", OTHER), failure()],
            vec![claim("2001:db8::6", OTHER), failure(), claim("10.9.9.6", OTHER)],
        ];
        assert_eq!(told(sources).await, [3, 0], "the old source is kept where there is no new one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_conflicts_is_told_at_a_pace() {
        let flood = (0..1_000_000).map(|_| claim("10.9.9.6", OTHER)).collect();
        let most = Duration::from_secs(60).as_millis() / PACE.as_millis();
        let told = told(vec![flood]).await;
        assert!((1..=most as usize + 1).contains(&told.len()), "{} times", told.len());
    }
}

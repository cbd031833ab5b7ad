//! Listens for claims on the segment, asks for this director's VIPs now and then, and says what concerns it.
//!
//! A claim is often a unicast answer that only the asking machine sees: so the director asks for its own VIPs itself, by
//! ARP requests without a sender's address (RFC 5227, section 2.1), which change nobody's cache.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_api::findings::{Finding, Findings};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::claimant::{Claimant, Machines};
use super::claims::{Claim, Listener};
use super::own_interfaces;
use crate::announce::Announcer;

/// From a failure to the next attempt.
const RETRY: Duration = Duration::from_secs(1);

/// From a claim that was judged to the next one. Who announces more often is not answered more often, and what comes
/// meanwhile waits in the socket, which has its bounds.
const PACE: Duration = Duration::from_millis(20);

/// From one answer to claims on a group to the next one.
const DEFENCE_PAUSE: Duration = Duration::from_millis(500);

/// How often each VIP is asked for, if there are no more than [`QUESTIONS`] in each [`ROUND`].
const ASK_EVERY: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_secs(1);
const QUESTIONS: usize = 100;

/// How long a claim that was seen once stands as a finding: three questions without an answer end it.
const CLAIM_LASTS: Duration = Duration::from_secs(35);

/// How long the start waits for other interfaces of this host to answer; they do in microseconds.
const FIRST_ANSWERS: Duration = Duration::from_millis(20);

/// What nobody else may announce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    /// The VIPs' interface.
    pub interface: String,
    /// This node's own on that interface: what is announced with it is no conflict.
    pub mac: [u8; 6],
    /// The VIPs, each with the number of its group.
    pub vips: HashMap<IpAddr, u8>,
    /// The machines that the configuration names, as far as their MACs are known.
    pub machines: Machines,
}

/// What is to be done about a claim on a VIP of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// The station with this MAC may hold it in earnest: if this director does, the two must come to an end.
    Conflict(u8, [u8; 6]),
    /// Somebody answers for it by mistake: clients are to be told again where it is.
    Announce(u8),
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

/// What the watch needs of the director around it.
pub struct Surroundings {
    /// Index of the VIPs' interface.
    pub interface: u32,
    pub findings: Findings,
    /// Whether this director holds the group now.
    pub holds: Box<dyn Fn(u8) -> bool + Send + Sync>,
    /// Must not wait.
    pub respond: Box<dyn Fn(Response) + Send>,
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
    /// Needs CAP_NET_RAW. Returns once other interfaces of this host that are on the segment are known and silent.
    pub async fn start(ours: Ours, surroundings: Surroundings) -> Result<Self> {
        let interface = surroundings.interface;
        let mut listener =
            Listener::open(interface).context("cannot listen for others that announce the VIPs")?;
        let announcer = Announcer::new(interface)?;
        let (ours, latest) = watch::channel(ours);
        let judge = Judge {
            ours: latest.clone(),
            own_interface: Box::new(own_interfaces::with_mac),
            findings: surroundings.findings,
            holds: Arc::from(surroundings.holds),
            respond: surroundings.respond,
            defended: HashMap::new(),
        };
        judge.look_for_own_interfaces(&mut listener, &announcer).await;
        let holds = Arc::clone(&judge.holds);
        let open = move || Listener::open(interface);
        let task = tokio::spawn(async move {
            tokio::join!(listen(listener, open, judge), ask(announcer, latest, holds));
        });
        Ok(Self { ours, task })
    }

    pub fn change(&self, change: impl FnOnce(&mut Ours)) {
        self.ours.send_modify(change);
    }
}

/// Tells the interface of this host that has a MAC and is not the one named.
type OwnInterface = Box<dyn Fn([u8; 6], &str) -> Option<String> + Send>;

/// Says of claims what is wrong and what is to be done.
struct Judge {
    ours: watch::Receiver<Ours>,
    own_interface: OwnInterface,
    findings: Findings,
    holds: Arc<dyn Fn(u8) -> bool + Send + Sync>,
    respond: Box<dyn Fn(Response) + Send>,
    /// When each group was answered for last.
    defended: HashMap<u8, Instant>,
}

impl Judge {
    /// Asks for this director's own address, for which any interface of the host on the segment answers, before there is a
    /// VIP that it could answer for.
    async fn look_for_own_interfaces(&self, listener: &mut Listener, announcer: &Announcer) {
        let Ours { interface, mac, vips, .. } = self.ours.borrow().clone();
        let own = own_interfaces::ipv4_of(&interface, |address| vips.contains_key(&address.into()));
        let Some(&address) = own.first() else { return };
        if let Err(error) = announcer.ask(address, mac) {
            return tracing::debug!("{error:#}");
        }
        let until = Instant::now() + FIRST_ANSWERS;
        while let Ok(Ok(claim)) = tokio::time::timeout_at(until, listener.next()).await {
            if claim.address == IpAddr::V4(address)
                && claim.mac != mac
                && let Some(name) = own_interfaces::with_mac(claim.mac, &interface)
            {
                silence(
                    &name,
                    Claimant::OwnInterface(name.clone()).finding(&claim, &interface),
                    &self.findings,
                );
            }
        }
    }

    /// `true` if the claim was about one of the VIPs.
    fn judge(&mut self, claim: &Claim) -> bool {
        let ours = self.ours.borrow().clone();
        let Some(&group) = ours.vips.get(&claim.address) else { return false };
        if claim.mac == ours.mac {
            return false;
        }
        let own_interface = (self.own_interface)(claim.mac, &ours.interface);
        let claimant = Claimant::of(claim, &ours.machines, own_interface);
        let holds = (self.holds)(group);
        if holds {
            let finding = claimant.finding(claim, &ours.interface);
            match &claimant {
                Claimant::OwnInterface(name) => silence(name, finding, &self.findings),
                Claimant::Known(_) | Claimant::Unknown => self.findings.raise_for(finding, CLAIM_LASTS),
            }
        }
        let recent = self.defended.get(&group).is_some_and(|then| then.elapsed() < DEFENCE_PAUSE);
        if !recent && (holds || claimant.may_be_a_rival()) {
            self.defended.insert(group, Instant::now());
            (self.respond)(match claimant.may_be_a_rival() {
                true => Response::Conflict(group, claim.mac),
                false => Response::Announce(group),
            });
        }
        true
    }
}

/// An interface of ours is kept from answering; what was wrong is told all the same, because a restart of the network
/// brings it back.
fn silence(name: &str, finding: Finding, findings: &Findings) {
    let mend = match own_interfaces::silence(name) {
        Ok(()) => format!(
            "lb has set net.ipv4.conf.{name}.arp_ignore=1, so it answers no more; write that into /etc/sysctl.d to keep it"
        ),
        Err(error) => format!("{}; lb could not do it: {error}", finding.mend),
    };
    findings.raise_for(Finding { mend, ..finding }, CLAIM_LASTS);
}

/// A source that fails is opened anew, again and again; that it does is told once.
async fn listen<S: Source>(mut source: S, open: impl Fn() -> io::Result<S>, mut judge: Judge) {
    let mut failing = false;
    loop {
        match source.next().await {
            Ok(claim) => {
                failing = false;
                if judge.judge(&claim) {
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

/// Asks for the VIPs that this director holds. Whether there are answers is the listener's concern.
async fn ask(
    announcer: Announcer,
    ours: watch::Receiver<Ours>,
    holds: Arc<dyn Fn(u8) -> bool + Send + Sync>,
) {
    let mut questions = Questions::default();
    loop {
        sleep(ROUND).await;
        let Ours { mac, vips, .. } = ours.borrow().clone();
        for vip in questions.due(&vips, &*holds, Instant::now()) {
            // An interface that is down is told elsewhere.
            if let Err(error) = announcer.ask(vip, mac) {
                tracing::debug!("{error:#}");
            }
        }
    }
}

/// When each VIP was asked for last.
#[derive(Debug, Default)]
struct Questions(HashMap<Ipv4Addr, Instant>);

impl Questions {
    /// Those whose turn it is, those that waited longest first. IPv6 addresses need no question: Linux answers for them on
    /// the interface that has them, and on no other.
    fn due(&mut self, vips: &HashMap<IpAddr, u8>, holds: &dyn Fn(u8) -> bool, now: Instant) -> Vec<Ipv4Addr> {
        let held = vips.iter().filter_map(|(vip, group)| match vip {
            IpAddr::V4(vip) if holds(*group) => Some(*vip),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        });
        let mut due: Vec<(Option<Instant>, Ipv4Addr)> = held
            .map(|vip| (self.0.get(&vip).copied(), vip))
            .filter(|(last, _)| last.is_none_or(|last| now - last >= ASK_EVERY))
            .collect();
        due.sort_unstable();
        due.truncate(QUESTIONS);
        self.0.retain(|vip, _| vips.contains_key(&IpAddr::V4(*vip)));
        self.0.extend(due.iter().map(|(_, vip)| (*vip, now)));
        due.into_iter().map(|(_, vip)| vip).collect()
    }
}

#[cfg(test)]
mod tests;

//! Address conflict detection: listens for claims on the segment, and asks who has this director's
//! VIPs.
//!
//! A claim is often a unicast answer that only the asking machine receives. So the director asks
//! for its own VIPs, by ARP probes and neighbour solicitations without a sender address (RFC 5227,
//! section 2.1; RFC 4862, section 5.4), which change no neighbour cache.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_api::findings::{Finding, Findings};
use lb_common::mac::Mac;
use lb_model::ids::GroupNumber;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::claimant::{Claimant, Machines};
use super::claims::{Claim, Heard, Listener};
use super::own_interfaces;
use crate::announce::Announcer;

/// Delay after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Minimum time between two processed claims (rate limit). Further claims wait in the socket, whose
/// buffer is bounded.
const PACE: Duration = Duration::from_millis(20);

/// Minimum time between two reactions to claims on a group.
const DEFENCE_PAUSE: Duration = Duration::from_millis(500);

/// Interval of questions for each VIP, if there are at most [`QUESTIONS`] in each [`ROUND`].
const ASK_EVERY: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_secs(1);
const QUESTIONS: usize = 100;

/// How long a claim lasts as a finding: three questions without an answer end it.
const CLAIM_LASTS: Duration = Duration::from_secs(35);

/// How long the start waits for answers of this host's other interfaces, which take microseconds.
const FIRST_ANSWERS: Duration = Duration::from_millis(20);

/// The addresses that no other machine may announce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    /// The VIPs' interface.
    pub interface: String,
    /// The interface's own MAC: claims with it are no conflict.
    pub mac: Mac,
    /// The VIPs, each with the number of its group.
    pub vips: HashMap<IpAddr, GroupNumber>,
    /// The machines of the configuration with known MACs.
    pub machines: Machines,
}

/// The reaction to a claim on a VIP of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// The machine with this MAC may hold the VIP on purpose, and said so this long ago: if this
    /// director held it then, too, one of the two must give it up.
    Conflict(GroupNumber, Mac, Duration),
    /// A machine answers for the VIP by mistake: announce the VIP again.
    Announce(GroupNumber),
}

/// A source of claims.
trait Source {
    async fn next(&mut self) -> io::Result<Heard>;
}

impl Source for Listener {
    async fn next(&mut self) -> io::Result<Heard> {
        Self::next(self).await
    }
}

/// The watch's connections to the director.
pub struct Surroundings {
    /// Index of the VIPs' interface.
    pub interface: u32,
    pub findings: Findings,
    /// Whether this director holds the group now, and nobody else did this long ago.
    pub holds: Box<dyn Fn(GroupNumber, Duration) -> bool + Send + Sync>,
    /// Must not block.
    pub respond: Box<dyn Fn(Response) + Send>,
}

/// The running watch. Dropping it ends the task.
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
    /// Needs CAP_NET_RAW. Returns once other interfaces of this host on the segment are detected
    /// and silenced.
    pub async fn start(ours: Ours, surroundings: Surroundings) -> Result<Self> {
        let interface = surroundings.interface;
        let mut listener =
            Listener::open(interface).context("cannot listen for others that announce the VIPs")?;
        let announcer = Announcer::new(interface)?;
        let (ours, latest) = watch::channel(ours);
        let (own, own_latest) = watch::channel(own_address(&latest.borrow()));
        let judge = Judge {
            ours: latest.clone(),
            own: own_latest,
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
            tokio::join!(listen(listener, open, judge), ask(announcer, latest, own, holds));
        });
        Ok(Self { ours, task })
    }

    pub fn change(&self, change: impl FnOnce(&mut Ours)) {
        self.ours.send_modify(change);
    }
}

/// Finds the interface of this host with a MAC, except the named one.
type OwnInterface = Box<dyn Fn(Mac, &str) -> Option<String> + Send>;

/// Turns claims into findings and reactions.
struct Judge {
    ours: watch::Receiver<Ours>,
    /// An address of the VIPs' interface that is no VIP.
    own: watch::Receiver<Option<IpAddr>>,
    own_interface: OwnInterface,
    findings: Findings,
    holds: Arc<dyn Fn(GroupNumber, Duration) -> bool + Send + Sync>,
    respond: Box<dyn Fn(Response) + Send>,
    /// When the last reaction for each group was.
    defended: HashMap<GroupNumber, Instant>,
}

impl Judge {
    /// Asks for this director's own address, for which any interface of this host on the segment
    /// answers. That detects such interfaces before the director holds a VIP.
    async fn look_for_own_interfaces(&self, listener: &mut Listener, announcer: &Announcer) {
        let Some(address) = *self.own.borrow() else { return };
        if let Err(error) = announcer.ask(address, self.ours.borrow().mac) {
            return tracing::debug!("{error:#}");
        }
        let until = Instant::now() + FIRST_ANSWERS;
        while let Ok(Ok(heard)) = tokio::time::timeout_at(until, listener.next()).await {
            self.judge_own(&heard.claim);
        }
    }

    /// Whether the claim is about this director's own address. Another interface of this host that
    /// answers for it is silenced.
    fn judge_own(&self, claim: &Claim) -> bool {
        if *self.own.borrow() != Some(claim.address) {
            return false;
        }
        let Ours { interface, mac, .. } = &*self.ours.borrow();
        if claim.mac != *mac
            && let Some(name) = (self.own_interface)(claim.mac, interface)
        {
            let finding = Claimant::OwnInterface(name.clone()).finding(claim, interface);
            silence(&name, finding, &self.findings);
        }
        true
    }

    /// Handles a claim; `true` if it was about one of the VIPs or this director's own address.
    ///
    /// After a planned move the announcements of the director that had the VIP before may still
    /// wait in the socket: a claim is judged by who held the VIP when it came.
    fn judge(&mut self, Heard { claim, age }: &Heard) -> bool {
        // Most claims are about neither: they cost no copy of thousands of VIPs.
        let group = self.ours.borrow().vips.get(&claim.address).copied();
        let Some(group) = group else { return self.judge_own(claim) };
        let ours = self.ours.borrow().clone();
        if claim.mac == ours.mac {
            return false;
        }
        let own_interface = (self.own_interface)(claim.mac, &ours.interface);
        let claimant = Claimant::of(claim, &ours.machines, own_interface);
        let holds = (self.holds)(group, *age);
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
                true => Response::Conflict(group, claim.mac, *age),
                false => Response::Announce(group),
            });
        }
        true
    }
}

/// An address of the VIPs' interface that is no VIP.
fn own_address(ours: &Ours) -> Option<IpAddr> {
    let is_vip = |address: Ipv4Addr| ours.vips.contains_key(&address.into());
    own_interfaces::ipv4_of(&ours.interface, is_vip).first().copied().map(IpAddr::from)
}

/// Silences another interface of this host. The finding is raised anyway, because a restart of the
/// network undoes it.
fn silence(name: &str, finding: Finding, findings: &Findings) {
    let mend = match own_interfaces::silence(name) {
        Ok(()) => format!(
            "lb has set net.ipv4.conf.{name}.arp_ignore=1, so it no longer answers; add the setting to \
             /etc/sysctl.d to keep it"
        ),
        Err(error) => format!("{}; lb could not set it: {error}", finding.mend),
    };
    findings.raise_for(Finding { mend, ..finding }, CLAIM_LASTS);
}

/// Reopens a source that fails, again and again; logs the failure once.
async fn listen<S: Source>(mut source: S, open: impl Fn() -> io::Result<S>, mut judge: Judge) {
    let mut failing = false;
    loop {
        match source.next().await {
            Ok(heard) => {
                failing = false;
                if judge.judge(&heard) {
                    sleep(PACE).await;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!("cannot see announcements of VIPs by other machines for now: {error}");
                }
                sleep(RETRY).await;
                if let Ok(anew) = open() {
                    source = anew;
                }
            }
        }
    }
}

/// Asks who has the VIPs that this director holds, as clients do, and in each round who has its own
/// address: an interface of this host that joins the segment answers for that one, too. The
/// listener receives the answers.
async fn ask(
    announcer: Announcer,
    ours: watch::Receiver<Ours>,
    own: watch::Sender<Option<IpAddr>>,
    holds: Arc<dyn Fn(GroupNumber, Duration) -> bool + Send + Sync>,
) {
    let mut questions = Questions::default();
    let mut looked = Instant::now();
    loop {
        sleep(ROUND).await;
        let latest = ours.borrow().clone();
        // To look it up takes a while where there are thousands of VIPs.
        if looked.elapsed() >= ASK_EVERY {
            looked = Instant::now();
            own.send_replace(own_address(&latest));
        }
        let own = *own.borrow();
        let due = questions.due(&latest.vips, &|group| holds(group, Duration::ZERO), Instant::now());
        let as_client = own.and_then(|own| match own {
            IpAddr::V4(own) => Some(own),
            IpAddr::V6(_) => None,
        });
        // For its own address alone it asks as if it had none.
        let questions =
            own.map(|own| (own, None)).into_iter().chain(due.into_iter().map(|vip| (vip, as_client)));
        for (address, from) in questions {
            // An interface that is down is reported elsewhere.
            if let Err(error) = announcer.ask_as(address, (latest.mac, from)) {
                tracing::debug!("{error:#}");
            }
        }
    }
}

/// When the last question for each VIP was.
#[derive(Debug, Default)]
struct Questions(HashMap<IpAddr, Instant>);

impl Questions {
    /// The VIPs to ask for next, longest waiting first.
    fn due(
        &mut self,
        vips: &HashMap<IpAddr, GroupNumber>,
        holds: &dyn Fn(GroupNumber) -> bool,
        now: Instant,
    ) -> Vec<IpAddr> {
        let held = vips.iter().filter(|(_, group)| holds(**group));
        let mut asked: Vec<(Option<Instant>, IpAddr)> = held
            .map(|(vip, _)| (self.0.get(vip).copied(), *vip))
            .filter(|(last, _)| last.is_none_or(|last| now - last >= ASK_EVERY))
            .collect();
        asked.sort_unstable();
        asked.truncate(QUESTIONS);
        self.0.retain(|vip, _| vips.contains_key(vip));
        self.0.extend(asked.iter().map(|(_, vip)| (*vip, now)));
        asked.into_iter().map(|(_, vip)| vip).collect()
    }
}

#[cfg(test)]
mod tests;

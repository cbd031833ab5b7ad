//! What an injected fault may lose, and what nothing excuses.
//!
//! | fault | what it may lose |
//! |---|---|
//! | partition, one-way loss | both hold the VIP, so anything, until a moment after it is healed |
//! | server crash | connections of that server; requests, until its checks have noticed |
//! | kill, power loss, freeze, link flap, restart, upgrade, corrupted state | connections that are too young for the other director to know them |
//! | any other | nothing |
//!
//! And whatever was lost, an event of a director tells of its cause: what operators read of why
//! their clients were cut off.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::DEAD;
use super::clients::{Loss, Seen};
use super::event_log::Told;
use super::growth::Growth;
use super::schedule::{Fault, Kind};
use super::watch::Answered;

/// Within this time after a partition one of two owners has given way, and clients know the other.
const HEALED: Duration = Duration::from_secs(5);
/// A server's check has noticed that it is gone, or back.
const NOTICED: Duration = Duration::from_secs(4);
/// A connection that is older is known to the other director (0.1 s with ordinary load).
const YOUNG: Duration = Duration::from_millis(500);
/// From a director's death until the other one has taken its place, on a busy machine.
const TAKEN_OVER: Duration = Duration::from_millis(DEAD.as_millis() as u64 + 2000);

/// An event that tells of a loss comes so long before the last byte that was right, or after the
/// end, at most: after a dead time, or after so many checks.
const NEAR: Duration = Duration::from_secs(5);
/// What directors tell when another one serves from then on, or neither hears the other.
const TAKE_OVERS: [&str; 4] = ["node_dead", "role_changed", "split_brain", "split_brain_resolved"];

/// A fault that was injected.
#[derive(Debug, Clone)]
pub struct Injected {
    pub fault: Fault,
    /// Who was active then.
    pub holder: Option<String>,
    pub begin: Instant,
    /// `None`: the run ended before.
    pub end: Option<Instant>,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Verdict {
    pub blocks: u64,
    pub requests: u64,
    /// Losses by what excuses them.
    pub excused: BTreeMap<&'static str, usize>,
    pub violations: Vec<String>,
}

impl Injected {
    /// Whether the fault, until so long after its end, and this time have a moment in common.
    fn meets(&self, begin: Instant, end: Instant, after: Duration) -> bool {
        begin <= self.end.map_or(end, |own| own + after) && self.begin <= end
    }

    fn splits(&self) -> bool {
        matches!(self.fault.kind, Kind::Partition | Kind::OneWay(_))
    }

    /// Whether this is a cause of the loss.
    fn explains(&self, loss: &Loss) -> bool {
        match self.fault.kind {
            Kind::Partition | Kind::OneWay(_) => self.meets(loss.last_heard, loss.ended, HEALED),
            Kind::ServerCrash(server) => {
                let its = loss.server.as_ref().is_none_or(|name| *name == format!("www{}", server + 1));
                let established = loss.established.is_some() && !loss.request;
                its && self.meets(loss.last_heard, loss.ended, if established { YOUNG } else { NOTICED })
            }
            Kind::Kill(_)
            | Kind::PowerLoss(_)
            | Kind::Restart(_)
            | Kind::Upgrade(_)
            | Kind::CorruptedState(_)
            | Kind::Freeze(_)
            | Kind::LinkFlap(..) => loss.established.is_some_and(|established| {
                established + YOUNG >= self.begin && established <= self.begin + TAKEN_OVER
            }),
            Kind::OnePath { .. } | Kind::Clock(..) | Kind::FullDisk(_) | Kind::MapUpdates(_) => false,
        }
    }

    /// Whether an event tells of what this fault has lost.
    fn is_told(&self, loss: &Loss, told: &[Told]) -> bool {
        let is_near = |told: &&Told| told.at + NEAR >= loss.last_heard && told.at <= loss.ended + NEAR;
        let mut near = told.iter().filter(is_near).map(|told| &told.event);
        match self.fault.kind {
            Kind::ServerCrash(server) => {
                let name = format!("www{}", server + 1);
                near.any(|event| event.event == "server_down" && event.server.as_ref() == Some(&name))
            }
            _ => near.any(|event| TAKE_OVERS.contains(&event.event.as_str())),
        }
    }
}

/// What became of everything.
pub(super) fn judge(
    injected: &[Injected],
    seen: &Seen,
    answered: &[Answered],
    told: &[Told],
    growth: &[Growth],
) -> Verdict {
    let mut verdict = Verdict {
        blocks: seen.blocks.load(Ordering::Relaxed),
        requests: seen.requests.load(Ordering::Relaxed),
        ..Verdict::default()
    };
    let wrong = seen.wrong.lock().unwrap_or_else(PoisonError::into_inner);
    verdict.violations.extend(wrong.iter().map(|what| format!("answered wrongly: {what}")));
    for loss in seen.losses() {
        let causes: Vec<&Injected> = injected.iter().filter(|fault| fault.explains(&loss)).collect();
        match causes.iter().find(|fault| fault.is_told(&loss, told)) {
            Some(fault) => *verdict.excused.entry(fault.fault.kind.name()).or_default() += 1,
            None => {
                let rule = match &causes[..] {
                    [] => "lost without a cause",
                    _ => "lost, and no event tells why",
                };
                verdict.violations.push(unexplained(rule, &loss, injected));
            }
        }
    }
    verdict.violations.extend(two_owners(answered, injected));
    verdict.violations.extend(growth.iter().flat_map(Growth::troubles));
    if verdict.blocks == 0 || verdict.requests == 0 {
        verdict.violations.push("the clients were not served at all".to_owned());
    }
    verdict
}

fn unexplained(rule: &str, loss: &Loss, injected: &[Injected]) -> String {
    let Loss { request, established, last_heard, ended, server, why, began } = loss;
    let what = if *request { "a request" } else { "an open connection" };
    let server = server.as_deref().unwrap_or("no server");
    let age = established.map_or_else(
        || "never established".to_owned(),
        |established| format!("{:.1} s old", last_heard.saturating_duration_since(established).as_secs_f64()),
    );
    let last = injected.iter().rev().find(|fault| fault.begin <= *ended);
    let context = last.map_or_else(
        || "before any fault".to_owned(),
        |fault| {
            let since = ended.saturating_duration_since(fault.begin);
            let holder = fault.holder.as_deref().unwrap_or("nobody");
            format!("{:.1} s after the begin of: {} (active: {holder})", since.as_secs_f64(), fault.fault)
        },
    );
    format!(
        "{rule}: {what} to {server}, {age}, {why} after {:.1} s of silence, begun {:.1} s before: {context}",
        ended.saturating_duration_since(*last_heard).as_secs_f64(),
        ended.saturating_duration_since(*began).as_secs_f64(),
    )
}

/// One question may see a take-over, so it takes two of them one after the other.
fn two_owners(answered: &[Answered], injected: &[Injected]) -> Vec<String> {
    let excused = |answer: &Answered| {
        injected.iter().any(|fault| fault.splits() && fault.meets(answer.begin, answer.end, HEALED))
    };
    let both = |answer: &Answered| answer.macs.len() > 1 && !excused(answer);
    let pairs = answered.windows(2).filter(|pair| pair.iter().all(both));
    pairs.map(|pair| format!("two answer for the VIP, for a second or longer: {:?}", pair[1].macs)).collect()
}

/// How often each kind of fault was injected.
pub(super) fn counted(injected: &[Injected]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in injected {
        *counts.entry(fault.fault.kind.name()).or_default() += 1;
    }
    list(&counts)
}

fn list(counts: &BTreeMap<&'static str, usize>) -> String {
    if counts.is_empty() {
        return "nothing".to_owned();
    }
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    counts.join(", ")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, requests, excused, violations } = self;
        writeln!(f, "blocks that came back right: {blocks}, requests: {requests}")?;
        writeln!(f, "connections and requests lost, by the fault that may lose them: {}", list(excused))?;
        for violation in violations {
            writeln!(f, "AGAINST THE RULES: {violation}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use lb_api::events::{Level, Record};

    use super::*;
    use crate::chaos::schedule::{Schedule, Who};

    const SECOND: Duration = Duration::from_secs(1);

    /// A fault of this kind, from a moment to a second later.
    fn injected(kind: Kind, begin: Instant) -> Injected {
        let fault = Fault { kind, ..Schedule::new(0).next().expect("a fault").main };
        Injected { fault, holder: None, begin, end: Some(begin + SECOND) }
    }

    /// A connection that was established and lost at these seconds.
    fn loss(from: Instant, established: u32, ended: u32, server: &str) -> Loss {
        let established = from + SECOND * established;
        Loss {
            request: false,
            began: established,
            established: Some(established),
            last_heard: from + SECOND * ended,
            ended: from + SECOND * ended,
            server: Some(server.to_owned()),
            why: "reset".to_owned(),
        }
    }

    #[test]
    fn a_fault_excuses_what_it_may_lose_and_nothing_else() {
        let start = Instant::now();
        let at = |second: u32| start + SECOND * second;
        let crash = injected(Kind::ServerCrash(0), at(10));
        assert!(crash.explains(&loss(start, 0, 10, "www1")));
        assert!(!crash.explains(&loss(start, 0, 10, "www2")), "another server's");
        assert!(!crash.explains(&loss(start, 0, 20, "www1")), "long after");
        let kill = injected(Kind::Kill(Who::Ha1), at(10));
        assert!(!kill.explains(&loss(start, 0, 10, "www1")), "the other director knows it");
        assert!(kill.explains(&loss(start, 10, 11, "www1")), "too young");
        let partition = injected(Kind::Partition, at(10));
        assert!(partition.explains(&loss(start, 0, 12, "www1")));
        assert!(!partition.explains(&loss(start, 0, 30, "www1")), "long healed");
        for kind in [Kind::Clock(Who::Ha1, 5), Kind::FullDisk(Who::Ha1), Kind::MapUpdates(Who::Ha1)] {
            assert!(!injected(kind, at(10)).explains(&loss(start, 10, 10, "www1")), "{kind:?}");
        }
    }

    fn told(at: Instant, id: &str, server: Option<&str>) -> Told {
        let server = server.map(str::to_owned);
        let event = Record { server, ..Record::new(Level::Info, id, String::new()) };
        Told { at, director: "ha2".to_owned(), event }
    }

    #[test]
    fn no_loss_is_excused_that_no_event_tells_of() {
        let start = Instant::now();
        let at = |second: u32| start + SECOND * second;
        let violations = |injected: &[Injected], told: &[Told]| {
            let seen = Seen { blocks: AtomicU64::new(1), requests: AtomicU64::new(1), ..Seen::default() };
            seen.losses.lock().expect("a list").push(loss(start, 20, 21, "www1"));
            judge(injected, &seen, &[], told, &[]).violations
        };
        let crash = [injected(Kind::ServerCrash(0), at(20))];
        let down = |second, server| told(at(second), "server_down", Some(server));
        assert_eq!(violations(&crash, &[down(22, "www1")]), Vec::<String>::new());
        for nothing in [vec![], vec![down(22, "www2")], vec![down(50, "www1")], vec![down(5, "www1")]] {
            let violations = violations(&crash, &nothing);
            assert!(violations[0].starts_with("lost, and no event tells why"), "{violations:?}");
        }
        let kill = [injected(Kind::Kill(Who::Ha1), at(20))];
        assert_eq!(violations(&kill, &[told(at(21), "role_changed", None)]), Vec::<String>::new());
        assert_eq!(violations(&kill, &[down(21, "www1")]).len(), 1, "another event");
        let both = [injected(Kind::ServerCrash(0), at(20)), injected(Kind::Kill(Who::Ha1), at(20))];
        assert_eq!(violations(&both, &[told(at(21), "node_dead", None)]), Vec::<String>::new());
        let nothing = violations(&[], &[told(at(21), "role_changed", None)]);
        assert!(nothing[0].starts_with("lost without a cause"), "an event alone is no excuse: {nothing:?}");
    }

    #[test]
    fn two_owners_are_against_the_rules_unless_heartbeats_are_lost() {
        let start = Instant::now();
        let answer = |second: u32, macs: &[&str]| Answered {
            begin: start + SECOND * second,
            end: start + SECOND * (second + 1),
            macs: macs.iter().map(|mac| (*mac).to_owned()).collect(),
        };
        let take_over = [answer(0, &["a"]), answer(1, &["a", "b"]), answer(2, &["b"])];
        assert_eq!(two_owners(&take_over, &[]), Vec::<String>::new());
        let both = [answer(0, &["a", "b"]), answer(1, &["a", "b"])];
        assert_eq!(two_owners(&both, &[]).len(), 1);
        assert_eq!(two_owners(&both, &[injected(Kind::Partition, start)]), Vec::<String>::new());
        assert_eq!(two_owners(&both, &[injected(Kind::Kill(Who::Ha1), start)]).len(), 1);
    }
}

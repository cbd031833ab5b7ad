//! Findings: problems around the director (on the segment, on its interface, caused by other
//! machines) although the configuration is right. All such warnings use this mechanism.
//!
//! Any thread can raise a [`Finding`]. While it lasts, `lb status` and the metric `lb_finding` show
//! it; its beginning and its end are events, so they appear in the log and in `lb events`. A
//! finding that comes and goes is logged at most once a minute; one that stays is logged in the
//! end.
//!
//! - [`kinds`]: all kinds of findings, one entry each

pub mod kinds;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::kinds::Kind;
use crate::events::{self, Level, Record};
use crate::status::FindingStatus;

/// Minimum time between two log lines about the same finding (rate limit).
const LOG_PACE: Duration = Duration::from_secs(60);

/// Maximum number of findings of one kind: a thousand wrong addresses on a segment have one cause.
const MAX_SUBJECTS: usize = 100;

/// Maximum number of notes until the controller takes them, several times a second.
const MAX_NOTED: usize = 1000;

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// What the finding concerns, such as a VIP or an interface. Findings of one kind with
    /// different subjects coexist.
    pub subject: String,
    /// What is wrong, one sentence without a full stop.
    pub text: String,
    /// What the operator can do about it, one sentence without a full stop.
    pub mend: String,
}

/// The director's findings. Clones share them; any thread may raise and clear.
#[derive(Debug, Clone, Default)]
pub struct Findings(Arc<Mutex<Registry>>);

impl Findings {
    /// Raises a finding until it is cleared. Raising it again updates its text.
    pub fn raise(&self, finding: Finding) {
        self.lock().raise(finding, None, Instant::now());
    }

    /// Raises a finding for the time `lasts`, which begins anew if it is raised again: for problems
    /// that are seen as single events.
    pub fn raise_for(&self, finding: Finding, lasts: Duration) {
        let now = Instant::now();
        self.lock().raise(finding, Some(now + lasts), now);
    }

    /// Ends the finding, if it exists.
    pub fn clear(&self, kind: Kind, subject: &str) {
        self.lock().clear(kind, subject, Instant::now());
    }

    /// Replaces all findings of `kind`: for problems that are examined as a whole.
    pub fn set(&self, kind: Kind, findings: Vec<Finding>) {
        self.lock().set(kind, findings, Instant::now());
    }

    /// Takes the events of beginnings and ends since the last call, in order.
    pub fn take_records(&self) -> Vec<Record> {
        let mut registry = self.lock();
        registry.pass_time(Instant::now());
        std::mem::take(&mut registry.records)
    }

    /// Logs an event that is no finding at once, and stores it for [`Self::take_noted`]: for
    /// threads without access to the event log.
    pub fn note(&self, record: Record) {
        events::log(&record);
        let mut registry = self.lock();
        if registry.noted.len() < MAX_NOTED {
            registry.noted.push(record);
        }
    }

    /// Takes the events noted since the last call.
    pub fn take_noted(&self) -> Vec<Record> {
        std::mem::take(&mut self.lock().noted)
    }

    /// All current findings: errors first, then by kind and subject.
    pub fn status(&self) -> Vec<FindingStatus> {
        let mut registry = self.lock();
        registry.pass_time(Instant::now());
        registry.status(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Key = (Kind, String);

/// The registry, with time as a parameter.
#[derive(Debug, Default)]
struct Registry {
    lasting: BTreeMap<Key, Lasting>,
    /// When each finding was last logged; entries older than [`LOG_PACE`] are removed.
    logged: BTreeMap<Key, Instant>,
    /// Beginnings and ends that are not taken yet.
    records: Vec<Record>,
    /// Notes that are logged and not taken yet.
    noted: Vec<Record>,
}

#[derive(Debug)]
struct Lasting {
    finding: Finding,
    since: Instant,
    /// When it ends; `None`: when it is cleared.
    until: Option<Instant>,
    /// Whether its beginning was logged; only then its end is logged.
    is_logged: bool,
}

impl Registry {
    fn raise(&mut self, finding: Finding, until: Option<Instant>, now: Instant) {
        self.pass_time(now);
        let key = (finding.kind, finding.subject.clone());
        let of_kind = self.lasting.keys().filter(|(kind, _)| *kind == finding.kind).count();
        if of_kind >= MAX_SUBJECTS && !self.lasting.contains_key(&key) {
            return;
        }
        let may_log = !self.logged.contains_key(&key);
        let lasting = self.lasting.entry(key.clone());
        let is_news = match &lasting {
            std::collections::btree_map::Entry::Vacant(_) => true,
            std::collections::btree_map::Entry::Occupied(known) => known.get().finding != finding,
        };
        let lasting = lasting.or_insert_with(|| Lasting {
            finding: finding.clone(),
            since: now,
            until,
            is_logged: false,
        });
        lasting.finding = finding;
        lasting.until = until;
        if is_news && may_log {
            lasting.is_logged = true;
            self.records.push(begun(&lasting.finding));
            self.logged.insert(key, now);
        }
    }

    fn clear(&mut self, kind: Kind, subject: &str, now: Instant) {
        self.pass_time(now);
        self.end(&(kind, subject.to_owned()), now);
    }

    fn set(&mut self, kind: Kind, findings: Vec<Finding>, now: Instant) {
        let stays = |key: &Key| findings.iter().any(|finding| finding.subject == key.1);
        let gone: Vec<Key> =
            self.lasting.keys().filter(|key| key.0 == kind && !stays(key)).cloned().collect();
        gone.iter().for_each(|key| self.end(key, now));
        for finding in findings {
            debug_assert_eq!(finding.kind, kind);
            self.raise(finding, None, now);
        }
    }

    fn end(&mut self, key: &Key, now: Instant) {
        if let Some(Lasting { finding, since, is_logged: true, .. }) = self.lasting.remove(key) {
            self.records.push(ended(&finding, now - since));
        }
    }

    fn pass_time(&mut self, now: Instant) {
        let over = |lasting: &Lasting| lasting.until.is_some_and(|until| until <= now);
        let over: Vec<Key> =
            self.lasting.iter().filter(|(_, lasting)| over(lasting)).map(|(key, _)| key.clone()).collect();
        over.iter().for_each(|key| self.end(key, now));
        self.logged.retain(|_, logged| now - *logged < LOG_PACE);
        // One that came back too soon to be logged, and has stayed.
        for (key, lasting) in &mut self.lasting {
            if !lasting.is_logged && !self.logged.contains_key(key) {
                lasting.is_logged = true;
                self.records.push(begun(&lasting.finding));
                self.logged.insert(key.clone(), now);
            }
        }
    }

    fn status(&self, now: Instant) -> Vec<FindingStatus> {
        let mut all: Vec<FindingStatus> = self
            .lasting
            .values()
            .map(|Lasting { finding, since, .. }| FindingStatus {
                finding: finding.kind.label().to_owned(),
                subject: finding.subject.clone(),
                level: finding.kind.level(),
                text: finding.text.clone(),
                mend: finding.mend.clone(),
                since_s: (now - *since).as_secs(),
            })
            .collect();
        all.sort_by_key(|finding| finding.level != Level::Error);
        all
    }
}

fn begun(finding: &Finding) -> Record {
    let Finding { kind, subject, text, mend } = finding;
    Record::new(kind.level(), "finding", format!("{text}; {mend}")).finding(kind.label()).subject(subject)
}

fn ended(finding: &Finding, lasted: Duration) -> Record {
    let text = format!("ended: {}", finding.text);
    let record = Record::new(Level::Info, "finding_ended", text).finding(finding.kind.label());
    record.subject(&finding.subject).took(lasted)
}

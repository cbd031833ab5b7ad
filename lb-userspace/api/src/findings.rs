//! Findings: what is wrong around the director (on the segment, on its interface, in what others do) although the
//! configuration is right. The one mechanism for every such warning.
//!
//! Whoever sees that something is wrong raises a [`Finding`]; any thread may. While it lasts it stands in `lb status` and
//! in the metric `lb_finding`; its beginning and its end are events, and so stand in the log and in `lb events`. A finding
//! that comes and goes is logged at most once a minute.
//!
//! - [`kinds`]: every kind of finding, one entry each

pub mod kinds;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::kinds::Kind;
use crate::events::{self, Level, Record};
use crate::status::FindingStatus;

/// From one line in the log about a finding to the next one about the same.
const LOG_PACE: Duration = Duration::from_secs(60);

/// Findings of one kind at most: a segment where a thousand addresses are wrong has one cause.
const MAX_SUBJECTS: usize = 100;

/// Notes that are kept until the controller takes them, some times a second.
const MAX_NOTED: usize = 1000;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// What it is about, such as a VIP or an interface: findings of one kind with different subjects stand side by side.
    pub subject: String,
    /// What is wrong, one sentence without a full stop.
    pub text: String,
    /// What the operator can do about it, one sentence without a full stop.
    pub mend: String,
}

/// The director's findings. Clones share the same ones; any thread may raise and clear.
#[derive(Debug, Clone, Default)]
pub struct Findings(Arc<Mutex<Registry>>);

impl Findings {
    /// It lasts until it is cleared. Raised again, it goes on, with the new text.
    pub fn raise(&self, finding: Finding) {
        self.lock().raise(finding, None, Instant::now());
    }

    /// It lasts for `lasts` after it was raised last: for what is seen as single events.
    pub fn raise_for(&self, finding: Finding, lasts: Duration) {
        let now = Instant::now();
        self.lock().raise(finding, Some(now + lasts), now);
    }

    /// Ends the finding, if there is one.
    pub fn clear(&self, kind: Kind, subject: &str) {
        self.lock().clear(kind, subject, Instant::now());
    }

    /// From now on these are the findings of `kind`, and no others: for what is looked at as a whole.
    pub fn set(&self, kind: Kind, findings: Vec<Finding>) {
        self.lock().set(kind, findings, Instant::now());
    }

    /// What has begun and ended since the last call, in order.
    pub fn take_records(&self) -> Vec<Record> {
        let mut registry = self.lock();
        registry.pass_time(Instant::now());
        std::mem::take(&mut registry.records)
    }

    /// Writes an event that is no finding into the log at once, and keeps it for [`Self::take_noted`]: for threads that have
    /// no other way to the event log.
    pub fn note(&self, record: Record) {
        events::log(&record);
        let mut registry = self.lock();
        if registry.noted.len() < MAX_NOTED {
            registry.noted.push(record);
        }
    }

    /// What was noted since the last call.
    pub fn take_noted(&self) -> Vec<Record> {
        std::mem::take(&mut self.lock().noted)
    }

    /// Those that last, errors first, then by kind and subject.
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

/// Times are handed in.
#[derive(Debug, Default)]
struct Registry {
    lasting: BTreeMap<Key, Lasting>,
    /// When each finding was logged last; those of more than [`LOG_PACE`] ago are forgotten.
    logged: BTreeMap<Key, Instant>,
    /// Not taken yet.
    records: Vec<Record>,
    /// Noted and logged, not taken yet.
    noted: Vec<Record>,
}

#[derive(Debug)]
struct Lasting {
    finding: Finding,
    since: Instant,
    /// `None`: until it is cleared.
    until: Option<Instant>,
    /// Its beginning was logged, so its end is.
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
    let Finding { kind, text, mend, .. } = finding;
    Record::new(kind.level(), "finding", format!("{text}; {mend}")).finding(kind.label())
}

fn ended(finding: &Finding, lasted: Duration) -> Record {
    let text = format!("no longer: {}", finding.text);
    Record::new(Level::Info, "finding_ended", text).finding(finding.kind.label()).took(lasted)
}

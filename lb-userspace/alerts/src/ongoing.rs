//! What lasts: which event begins it, and which one ends it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_api::events::{Level, Record};
use lb_model::{Config, Receiver, Severity};

/// An event, and what it means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alert {
    pub state: State,
    pub record: Arc<Record>,
    /// What has begun: of one that is resolved, the event that began it.
    pub begun: Arc<Record>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It lasts until another event ends it.
    Firing,
    /// It lasts, and was told before: so often it is told again.
    Repeated(u32),
    /// It has ended what another event began.
    Resolved,
    /// It happened, and nothing lasts.
    Event,
}

impl State {
    /// For programs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Firing | Self::Repeated(_) => "firing",
            Self::Resolved => "resolved",
            Self::Event => "event",
        }
    }
}

/// What is said by another event, too: by the finding of the same name, and by `server_down` where
/// this one has the maps' words.
const DOUBLED: [&str; 2] = ["overlay_unreadable", "server_removed"];

impl Alert {
    fn new(state: State, record: Arc<Record>) -> Self {
        Self { state, begun: Arc::clone(&record), record }
    }

    /// Whether the receiver is told. An end is told to whoever is told of the beginning.
    pub(crate) fn is_for(&self, receiver: &Receiver) -> bool {
        let Self { record, begun, .. } = self;
        if receiver.events.contains(&record.event) || receiver.events.contains(&begun.event) {
            return true;
        }
        let is_doubled = DOUBLED.contains(&&*record.event);
        !is_doubled && receiver.severity.is_some_and(|least| severity(begun.level) >= least)
    }
}

pub(crate) const fn severity(level: Level) -> Severity {
    match level {
        Level::Info => Severity::Info,
        Level::Warning => Severity::Warning,
        Level::Error => Severity::Error,
    }
}

/// A field of events.
type Field = fn(&Record) -> Option<&String>;

const SERVICE: Field = |record| record.service.as_ref();
const SERVER: Field = |record| record.server.as_ref();
const GROUP: Field = |record| record.group.as_ref();
const NODE: Field = |record| record.node.as_ref();
const FINDING: Field = |record| record.finding.as_ref();
const SUBJECT: Field = |record| record.subject.as_ref();

/// What begins, what ends it, and the fields that both have in common.
const LASTING: [(&str, &[&str], &[Field]); 14] = [
    ("server_down", &["server_up", "server_maintenance"], &[SERVICE, SERVER]),
    ("server_full", &["server_has_room"], &[SERVICE, SERVER]),
    ("quorum_lost", &["quorum_won"], &[SERVICE]),
    ("fallback_started", &["fallback_ended"], &[SERVICE]),
    ("finding", &["finding_ended"], &[FINDING, SUBJECT]),
    (CONFIG_REFUSED, &[CONFIG_RELOADED], &[]),
    ("keys_refused", &["keys_reloaded"], &[]),
    ("thread_hangs", &["thread_answers"], &[]),
    ("vip_checks_failed", &["vip_checks_work"], &[]),
    ("node_dead", &["node_up"], &[NODE]),
    ("config_differs", &["config_agrees"], &[NODE]),
    (SPLIT_BRAIN, &["split_brain_resolved"], &[GROUP]),
    ("path_closed", &["path_open"], &[SUBJECT]),
    ("path_sends_fail", &["path_sends_again", "path_open"], &[SUBJECT]),
];

/// The event of a role that changes begins and ends what it says of `fault`. A node that gives its
/// group up has no rival any more.
const ROLE: &str = "role_changed";
const FAULT: &str = "fault";
const GIVEN_UP: [&str; 2] = ["standby", FAULT];
/// One that was seen by an announcement names no node, and no event tells its end.
const SPLIT_BRAIN: &str = "split_brain";
const CONFIG_REFUSED: &str = "config_refused";
const CONFIG_RELOADED: &str = "config_reloaded";
/// A life of the director after the first one begins with it.
const INTERFACE_BACK: &str = "interface_back";

/// All events that begin something.
#[cfg(test)]
pub(crate) fn lasting() -> impl Iterator<Item = &'static str> {
    LASTING.into_iter().map(|(begins, ..)| begins).chain([ROLE])
}

/// Which one of what lasts: the event that begins it, and its fields.
type Key = (&'static str, Vec<Option<String>>);

/// What lasts at most, all together.
pub(crate) const MOST: usize = 10_000;

/// What lasts now, each by the last event that told of it.
#[derive(Debug, Default)]
pub(crate) struct Ongoing(BTreeMap<Key, Alert>);

impl Ongoing {
    /// What the event means: all that it ends, and what it begins; at least one.
    pub(crate) fn take(&mut self, record: Record) -> Vec<Alert> {
        let record = Arc::new(record);
        let ended = ended_by(&record).into_iter().filter_map(|key| self.0.remove(&key));
        let mut alerts: Vec<Alert> = ended
            .map(|known| Alert { state: State::Resolved, record: Arc::clone(&record), ..known })
            .collect();
        if let Some(key) = begun_by(&record)
            && (self.0.len() < MOST || self.0.contains_key(&key))
        {
            // What is told anew has begun before.
            let begun = self.0.get(&key).map_or(&record, |known| &known.begun);
            let alert = Alert { state: State::Firing, begun: Arc::clone(begun), record: Arc::clone(&record) };
            self.0.insert(key, alert.clone());
            alerts.push(alert);
        } else if alerts.is_empty() {
            alerts.push(Alert::new(State::Event, record));
        }
        alerts
    }

    /// Of an event that means one thing.
    #[cfg(test)]
    pub(crate) fn one(&mut self, record: Record) -> Alert {
        let mut alerts = self.take(record);
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        alerts.remove(0)
    }

    /// All of it.
    pub(crate) fn all(&self) -> impl Iterator<Item = Alert> {
        self.0.values().cloned()
    }

    /// Whether what the alert tells of lasts.
    pub(crate) fn has(&self, alert: &Alert) -> bool {
        let known = begun_by(&alert.begun).and_then(|key| self.0.get(&key));
        known.is_some_and(|known| known.begun.number == alert.begun.number)
    }

    /// Ends what concerns something that is not in the configuration any more: no other event will.
    pub(crate) fn keep(&mut self, known: &Known) -> Vec<Alert> {
        let mut ended = Vec::new();
        self.0.retain(|_, Alert { begun, .. }| {
            let stays = known.has(begun);
            if !stays {
                ended.push(ended_without_event(begun, CONFIG_RELOADED, "no longer in the configuration"));
            }
            stays
        });
        ended
    }

    /// Ends what the director knew in its life before: it looks at everything anew, and tells what
    /// is still so. A configuration that was refused is the same file in this life.
    pub(crate) fn begin_life(&mut self) -> Vec<Alert> {
        let mut ended = Vec::new();
        self.0.retain(|(event, _), Alert { begun, .. }| {
            let stays = *event == CONFIG_REFUSED;
            if !stays {
                ended.push(ended_without_event(begun, INTERFACE_BACK, "the director has begun anew since"));
            }
            stays
        });
        ended
    }
}

/// The end of what no recorded event ends: as by `event`, because of `why`.
fn ended_without_event(begun: &Arc<Record>, event: &str, why: &str) -> Alert {
    let Record { service, server, group, node, finding, subject, vip, .. } = Record::clone(begun);
    let record = Record::new(Level::Info, event, format!("{why}: {}", begun.text));
    let record = Record { service, server, group, node, finding, subject, vip, ..record };
    Alert { state: State::Resolved, record: Arc::new(record), begun: Arc::clone(begun) }
}

fn key(event: &'static str, fields: &[Field], record: &Record) -> Key {
    (event, fields.iter().map(|field| field(record).cloned()).collect())
}

fn begun_by(record: &Record) -> Option<Key> {
    if record.event == ROLE {
        let lasts = record.level != Level::Info && record.to.as_deref() == Some(FAULT);
        return lasts.then(|| key(ROLE, &[GROUP], record));
    }
    if record.event == SPLIT_BRAIN && record.node.is_none() {
        return None;
    }
    let (event, _, fields) = LASTING.iter().find(|(event, ..)| *event == record.event)?;
    Some(key(event, fields, record))
}

fn ended_by(record: &Record) -> Vec<Key> {
    if record.event == ROLE {
        let to = record.to.as_deref().unwrap_or_default();
        let fault = (to != FAULT).then(|| key(ROLE, &[GROUP], record));
        let rival = GIVEN_UP.contains(&to).then(|| key(SPLIT_BRAIN, &[GROUP], record));
        return fault.into_iter().chain(rival).collect();
    }
    LASTING
        .iter()
        .filter(|(_, ends, _)| ends.contains(&&*record.event))
        .map(|(event, _, fields)| key(event, fields, record))
        .collect()
}

/// Names that the configuration has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// With their servers, by name and address.
    services: BTreeMap<String, BTreeSet<String>>,
    groups: BTreeSet<String>,
}

impl Known {
    pub(crate) fn of(config: &Config) -> Self {
        let services = config.services.iter().map(|service| {
            let servers = service.servers.iter();
            let names = servers.flat_map(|server| [server.name.clone(), server.address.to_string()]);
            (service.name.clone(), names.collect())
        });
        let groups = config.groups.iter().map(|group| group.name.clone());
        Self { services: services.collect(), groups: groups.collect() }
    }

    fn has(&self, record: &Record) -> bool {
        let group = record.group.as_ref().is_none_or(|group| self.groups.contains(group));
        let service = record.service.as_ref().is_none_or(|service| {
            let servers = self.services.get(service);
            servers
                .is_some_and(|servers| record.server.as_ref().is_none_or(|server| servers.contains(server)))
        });
        group && service
    }
}

#[cfg(test)]
mod tests {
    use lb_model::{Channel, HttpUrl, Webhook};

    use super::*;

    fn down() -> Record {
        Record::new(Level::Warning, "server_down", "www1 is down".into()).service("web").server("www1")
    }

    fn up(server: &str) -> Record {
        Record::new(Level::Info, "server_up", "it is up".into()).service("web").server(server)
    }

    fn finding(event: &str, subject: &str) -> Record {
        let level = if event == "finding" { Level::Error } else { Level::Info };
        Record::new(level, event, subject.into()).finding("vip_claimed").subject(subject)
    }

    #[test]
    fn an_end_resolves_what_has_the_same_subject() {
        let mut ongoing = Ongoing::default();
        assert_eq!(ongoing.one(down()).state, State::Firing);
        assert_eq!(ongoing.one(up("www2")).state, State::Event, "another server");
        let resolved = ongoing.one(up("www1"));
        assert_eq!((resolved.state, &*resolved.begun.event), (State::Resolved, "server_down"));
        assert_eq!(ongoing.one(up("www1")).state, State::Event, "once");

        assert_eq!(ongoing.one(finding("finding", "10.0.0.6")).state, State::Firing);
        assert_eq!(ongoing.one(finding("finding_ended", "10.0.0.7")).state, State::Event);
        assert_eq!(ongoing.one(finding("finding_ended", "10.0.0.6")).state, State::Resolved);
        assert_eq!(ongoing.all().count(), 0);
    }

    #[test]
    fn a_role_is_a_fault_until_it_is_another() {
        let mut ongoing = Ongoing::default();
        let mut role = |level, from, to| {
            let record = Record::new(level, "role_changed", String::new()).group("web".into());
            ongoing.one(record.from_to(from, to)).state
        };
        assert_eq!(role(Level::Info, "active", "fault"), State::Event, "it was meant");
        assert_eq!(role(Level::Info, "fault", "standby"), State::Event);
        assert_eq!(role(Level::Warning, "active", "fault"), State::Firing);
        assert_eq!(role(Level::Info, "fault", "standby"), State::Resolved);
        assert_eq!(role(Level::Info, "standby", "active"), State::Event);
    }

    #[test]
    fn one_event_ends_all_that_it_can_end() {
        let mut ongoing = Ongoing::default();
        let path = |event: &str| Record::new(Level::Warning, event, String::new()).subject("eth0");
        ongoing.one(path("path_sends_fail"));
        ongoing.one(path("path_closed"));
        let ended = ongoing.take(path("path_open"));
        let ended: Vec<_> = ended.iter().map(|alert| (alert.state, &*alert.begun.event)).collect();
        assert_eq!(ended, [(State::Resolved, "path_closed"), (State::Resolved, "path_sends_fail")]);
        assert_eq!(ongoing.all().count(), 0);
    }

    #[test]
    fn a_split_brain_ends_where_the_group_is_given_up() {
        let mut ongoing = Ongoing::default();
        let split = || Record::new(Level::Error, "split_brain", String::new()).group("web".into());
        let role = |level, to: &str| {
            Record::new(level, "role_changed", String::new()).group("web".into()).from_to("active", to)
        };
        assert_eq!(ongoing.one(split()).state, State::Event, "an announcement: nothing tells its end");
        assert_eq!(ongoing.one(split().node("lb2".into())).state, State::Firing);
        let resolved = ongoing.one(role(Level::Info, "standby"));
        assert_eq!((resolved.state, &*resolved.begun.event), (State::Resolved, "split_brain"));
        ongoing.one(split().node("lb2".into()));
        let both = ongoing.take(role(Level::Warning, "fault"));
        let both: Vec<_> = both.iter().map(|alert| (alert.state, &*alert.begun.event)).collect();
        assert_eq!(both, [(State::Resolved, "split_brain"), (State::Firing, "role_changed")]);
    }

    #[test]
    fn what_is_told_anew_has_begun_before() {
        let mut ongoing = Ongoing::default();
        let first = ongoing.one(Record { number: 7, ..down() });
        let anew = ongoing.one(Record { number: 9, ..down() });
        assert_eq!((anew.state, anew.record.number, &anew.begun), (State::Firing, 9, &first.record));
        assert_eq!(ongoing.all().collect::<Vec<_>>(), std::slice::from_ref(&anew));
        assert!(ongoing.has(&anew) && ongoing.has(&first));
        assert_eq!(ongoing.one(up("www1")).begun.number, 7);
        assert!(!ongoing.has(&anew));
        ongoing.one(Record { number: 12, ..down() });
        assert!(!ongoing.has(&anew), "another outage");
    }

    #[test]
    fn all_events_of_the_table_are_some() {
        for (begins, ends, _) in LASTING {
            assert!(lb_model::is_event(begins) && ends.iter().all(|end| lb_model::is_event(end)), "{begins}");
        }
        assert!([ROLE, INTERFACE_BACK].into_iter().chain(DOUBLED).all(lb_model::is_event));
    }

    #[test]
    fn what_leaves_the_configuration_is_resolved() {
        let with = |server: &str| Known {
            services: [("web".to_owned(), [server.to_owned()].into())].into(),
            groups: BTreeSet::new(),
        };
        let mut ongoing = Ongoing::default();
        ongoing.one(down());
        ongoing.one(Record::new(Level::Error, "thread_hangs", String::new()));
        assert_eq!(ongoing.keep(&with("www1")), []);
        let ended = ongoing.keep(&with("www2"));
        let [ended] = &ended[..] else { panic!("{ended:?}") };
        assert_eq!((ended.state, ended.record.server.as_deref()), (State::Resolved, Some("www1")));
        assert_eq!(ongoing.all().count(), 1, "what concerns no server lasts");
    }

    #[test]
    fn a_new_life_ends_all_but_a_refused_configuration() {
        let mut ongoing = Ongoing::default();
        ongoing.one(down());
        ongoing.one(finding("finding", "10.0.0.6"));
        ongoing.one(Record::new(Level::Error, "config_refused", String::new()));
        let ended = ongoing.begin_life();
        let told = ended.iter().map(|alert| (alert.state, &*alert.record.event, &*alert.begun.event));
        let told: Vec<_> = told.collect();
        let end = |begun| (State::Resolved, "interface_back", begun);
        assert_eq!(told, [end("finding"), end("server_down")]);
        assert_eq!(ended[0].record.subject.as_deref(), Some("10.0.0.6"));
        assert_eq!(ended[1].record.server.as_deref(), Some("www1"));
        assert_eq!(ongoing.begin_life(), [], "once");
        assert_eq!(ongoing.one(down()).state, State::Firing, "it is so in this life, too");
        let reloaded = ongoing.one(Record::new(Level::Info, "config_reloaded", String::new()));
        assert_eq!((reloaded.state, &*reloaded.begun.event), (State::Resolved, "config_refused"));
    }

    fn receiver(severity: Option<Severity>, events: &[&str]) -> Receiver {
        let url = HttpUrl { tls: false, host: "localhost".into(), port: 80, path: "/".into() };
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        let channel = Channel::Webhook(Webhook { url, token: None });
        Receiver { name: "chat".into(), severity, events, limit: 30, repeat: None, channel }
    }

    #[test]
    fn receivers_are_told_what_they_want_and_its_end() {
        let mut ongoing = Ongoing::default();
        let events = [down(), up("www1"), up("www2")].map(|record| ongoing.one(record));
        let told = |receiver: &Receiver| events.each_ref().map(|alert| alert.is_for(receiver));
        assert_eq!(told(&receiver(Some(Severity::Warning), &[])), [true, true, false]);
        assert_eq!(told(&receiver(Some(Severity::Error), &[])), [false; 3]);
        assert_eq!(told(&receiver(Some(Severity::Info), &[])), [true; 3]);
        assert_eq!(told(&receiver(None, &["server_down"])), [true, true, false]);
        assert_eq!(told(&receiver(None, &["server_up"])), [false, true, true]);
        let removed = ongoing.one(Record::new(Level::Warning, "server_removed", String::new()));
        assert!(!removed.is_for(&receiver(Some(Severity::Info), &[])), "server_down says it");
        assert!(removed.is_for(&receiver(None, &["server_removed"])));
        let aside = ongoing.one(Record::new(Level::Error, "overlay_unreadable", String::new()));
        assert!(!aside.is_for(&receiver(Some(Severity::Info), &[])), "its finding says it");
    }
}

//! The event log. Each event is a line of the log for people (with `--log-format json` fields for
//! programs), and `lb events` lists the last ones.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of stored events of servers, and of other events: an outage of a rack must not displace a
/// take-over.
const KEPT: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// One event. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Rises from event to event, and from one start of the director to the next; 0 until it is
    /// stored.
    #[serde(default)]
    pub number: u64,
    /// UTC, RFC 3339 with milliseconds.
    pub time: String,
    pub level: Level,
    /// The event's name in `snake_case`; names are stable.
    pub event: String,
    /// The whole event as text.
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// Name of the service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server: Option<String>,
    /// The other node that the event concerns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<String>,
    /// Id of the finding that has begun or ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finding: Option<String>,
    /// What the event concerns, where that is none of the others: a heartbeat path, or what a
    /// finding is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub vip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// What kind of cause, in `snake_case`; these names stay. Only changes of a role have it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause_id: Option<String>,
    /// Who gave an order by way of the network.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// Milliseconds: how long the event took, or how long the previous state lasted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub took_ms: Option<f64>,
}

impl Record {
    /// A record with the current time.
    pub fn new(level: Level, event: &str, text: String) -> Self {
        debug_assert!(lb_model::is_event(event) || cfg!(test), "lb_model::EVENTS lacks {event}");
        Self {
            number: 0,
            time: rfc3339(SystemTime::now()),
            level,
            event: event.to_owned(),
            text,
            group: None,
            service: None,
            server: None,
            node: None,
            finding: None,
            subject: None,
            vip: None,
            from: None,
            to: None,
            cause: None,
            cause_id: None,
            by: None,
            took_ms: None,
        }
    }

    pub fn at(self, time: SystemTime) -> Self {
        Self { time: rfc3339(time), ..self }
    }

    pub fn group(self, group: String) -> Self {
        Self { group: Some(group), ..self }
    }

    pub fn service(self, service: &str) -> Self {
        Self { service: Some(service.to_owned()), ..self }
    }

    pub fn server(self, server: &str) -> Self {
        Self { server: Some(server.to_owned()), ..self }
    }

    pub fn node(self, node: String) -> Self {
        Self { node: Some(node), ..self }
    }

    pub fn finding(self, finding: &str) -> Self {
        Self { finding: Some(finding.to_owned()), ..self }
    }

    pub fn subject(self, subject: &str) -> Self {
        Self { subject: Some(subject.to_owned()), ..self }
    }

    pub fn vip(self, vip: IpAddr) -> Self {
        Self { vip: Some(vip.to_string()), ..self }
    }

    /// What was there before.
    pub fn from(self, from: &str) -> Self {
        Self { from: Some(from.to_owned()), ..self }
    }

    /// What there is now.
    pub fn to(self, to: &str) -> Self {
        Self { to: Some(to.to_owned()), ..self }
    }

    pub fn from_to(self, from: &str, to: &str) -> Self {
        Self { from: Some(from.to_owned()), to: Some(to.to_owned()), ..self }
    }

    pub fn cause(self, cause: String) -> Self {
        Self { cause: Some(cause), ..self }
    }

    pub fn cause_id(self, id: &str) -> Self {
        Self { cause_id: Some(id.to_owned()), ..self }
    }

    pub fn by(self, who: &str) -> Self {
        Self { by: Some(who.to_owned()), ..self }
    }

    pub fn took(self, took: Duration) -> Self {
        Self { took_ms: Some((took.as_secs_f64() * 1e6).round() / 1e3), ..self }
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// The last events.
#[derive(Debug)]
pub struct Events {
    of_servers: VecDeque<Record>,
    others: VecDeque<Record>,
    /// Number of the last event.
    last: u64,
    listener: Option<Listener>,
}

/// Whoever is told each event as it is stored. It must not wait for anybody.
struct Listener(Box<dyn Fn(&Record) + Send>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Default for Events {
    /// Numbers begin with the time of day in microseconds: those of the director before are
    /// smaller.
    fn default() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let last = u64::try_from(since.as_micros()).unwrap_or_default();
        Self { of_servers: VecDeque::new(), others: VecDeque::new(), last, listener: None }
    }
}

impl Events {
    /// Has `listener` told what is stored, and each event from now on.
    pub fn tell(&mut self, listener: impl Fn(&Record) + Send + 'static) {
        self.recent(None).iter().for_each(&listener);
        self.listener = Some(Listener(Box::new(listener)));
    }

    /// Logs the event, and stores it.
    pub fn record(&mut self, record: Record) {
        log(&record);
        self.keep(record);
    }

    /// Stores an event that is logged already.
    pub fn keep(&mut self, record: Record) {
        let kept = if record.server.is_some() { &mut self.of_servers } else { &mut self.others };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        self.last += 1;
        let record = Record { number: self.last, ..record };
        if let Some(Listener(tell)) = &self.listener {
            tell(&record);
        }
        kept.push_back(record);
    }

    /// All stored events with a larger number than `after`, in the order of recording. With a
    /// number that was not given yet, as after a start with a clock that was set back, all of them.
    pub fn recent(&self, after: Option<u64>) -> Vec<Record> {
        let after = after.filter(|after| *after <= self.last).unwrap_or(0);
        let all = self.of_servers.iter().chain(&self.others);
        let mut all: Vec<Record> = all.filter(|record| record.number > after).cloned().collect();
        all.sort_by_key(|record| record.number);
        all
    }
}

/// Logs an event without its missing fields.
pub fn log(record: &Record) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                event = record.event,
                group = record.group,
                service = record.service,
                server = record.server,
                node = record.node,
                finding = record.finding,
                subject = record.subject,
                vip = record.vip,
                from = record.from,
                to = record.to,
                cause = record.cause,
                cause_id = record.cause_id,
                by = record.by,
                took_ms = record.took_ms,
                "{}",
                record.text
            )
        };
    }
    match record.level {
        Level::Info => line!(info),
        Level::Warning => line!(warn),
        Level::Error => line!(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_events_make_room() {
        let mut events = Events::default();
        events.record(Record::new(Level::Info, "test", "take-over".to_owned()));
        for number in 0..KEPT + 3 {
            events.record(Record::new(Level::Info, "test", number.to_string()).server("www1"));
        }
        events.record(Record::new(Level::Info, "test", "quorum".to_owned()));
        let recent = events.recent(None);
        assert_eq!(recent.len(), KEPT + 2);
        let numbers = [0, 1, KEPT, KEPT + 1].map(|index| recent[index].number - recent[0].number);
        assert_eq!(numbers, [0, 4, 503, 504]);
        let texts = [0, 1, KEPT, KEPT + 1].map(|index| &*recent[index].text);
        assert_eq!(texts, ["take-over", "3", "502", "quorum"]);
    }

    #[test]
    fn a_listener_hears_what_was_before_it_and_what_comes() {
        let mut events = Events::default();
        let (sender, heard) = std::sync::mpsc::channel();
        events.record(Record::new(Level::Info, "test", "before".to_owned()));
        events.tell(move |record| drop(sender.send((record.number, record.text.clone()))));
        events.record(Record::new(Level::Info, "test", "after".to_owned()));
        let wanted: Vec<_> =
            events.recent(None).into_iter().map(|record| (record.number, record.text)).collect();
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), wanted);
        assert_eq!(wanted.len(), 2);
    }

    #[test]
    fn a_reader_goes_on_after_the_last_event_that_it_has_seen() {
        let mut events = Events::default();
        for text in ["one", "two", "three"] {
            events.record(Record::new(Level::Info, "test", text.to_owned()));
        }
        let all = events.recent(None);
        assert!(all.is_sorted_by(|one, other| one.number < other.number));
        let after =
            |number| events.recent(Some(number)).into_iter().map(|event| event.text).collect::<Vec<_>>();
        assert_eq!(after(all[0].number), ["two", "three"]);
        assert!(after(all[2].number).is_empty());
        assert_eq!(after(all[2].number + 1).len(), 3, "the number of another director");
    }
}

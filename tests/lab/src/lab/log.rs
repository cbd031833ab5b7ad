//! The log of an `lb` that the lab has started, which is in JSON: tests go by ids and fields of
//! events, so that other words break none.

use lb_api::events::{Level, Record};
use serde_json::{Map, Value};

/// What is logged as an event, in order.
pub(super) fn events(log: &str) -> Vec<Record> {
    log.lines().filter_map(event).collect()
}

/// The event of a line, if it has one.
pub fn event(text: &str) -> Option<Record> {
    line(text)?.event()
}

/// What the process has printed besides its log: why it could not start or go on.
pub(super) fn last_words(log: &str) -> String {
    let others: Vec<&str> = log.lines().filter(|text| line(text).is_none()).collect();
    others.join("\n")
}

/// A line for people to read. What is no line of such a log stays as it is.
pub(super) fn readable(text: &str) -> String {
    let Some(line) = line(text) else { return text.to_owned() };
    let level = match line.level {
        Level::Info => "INFO",
        Level::Warning => "WARN",
        Level::Error => "ERROR",
    };
    let event = line.fields.get("event").and_then(Value::as_str);
    let event = event.map_or_else(String::new, |event| format!(" [{event}]"));
    format!("{} {level} {}{event}", line.time, line.message())
}

struct Line {
    time: String,
    level: Level,
    fields: Map<String, Value>,
}

fn line(text: &str) -> Option<Line> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    let level = match value.get("level")?.as_str()? {
        "ERROR" => Level::Error,
        "WARN" => Level::Warning,
        _ => Level::Info,
    };
    let Value::Object(fields) = value.get_mut("fields")?.take() else { return None };
    Some(Line { time: value.get("timestamp")?.as_str()?.to_owned(), level, fields })
}

impl Line {
    fn message(&self) -> String {
        self.fields.get("message").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// `None`: it is a line without an event's id.
    fn event(self) -> Option<Record> {
        let event = self.fields.get("event")?.as_str()?.to_owned();
        let text = self.message();
        let Self { time, level, mut fields } = self;
        fields.insert("text".to_owned(), text.into());
        fields.insert("time".to_owned(), time.into());
        fields.insert("level".to_owned(), serde_json::to_value(level).ok()?);
        fields.insert("event".to_owned(), event.into());
        serde_json::from_value(fields.into()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"timestamp":"2026-11-28T20:00:00Z","level":"INFO","fields":{"message":"IP address 192.0.2.10/32 taken","event":"vip_taken","vip":"192.0.2.10"}}
{"timestamp":"2026-11-28T20:00:01Z","level":"ERROR","fields":{"message":"a thread has failed"}}
{"timestamp":"2026-11-28T20:00:02Z","level":"ERROR","fields":{"message":"node ha1 is dead","event":"node_dead","node":"ha1","took_ms":201.5}}
lb: it cannot go on
"#;

    #[test]
    fn events_have_their_fields() {
        let events = events(LOG);
        assert_eq!((&*events[0].event, events[0].vip.as_deref()), ("vip_taken", Some("192.0.2.10")));
        let dead = &events[1];
        assert_eq!(
            (&*dead.event, dead.node.as_deref(), dead.took_ms),
            ("node_dead", Some("ha1"), Some(201.5))
        );
        assert_eq!((dead.level, events.len()), (Level::Error, 2));
    }

    #[test]
    fn what_is_no_event_is_told_apart() {
        assert_eq!(last_words(LOG), "lb: it cannot go on");
    }

    #[test]
    fn lines_can_be_read() {
        let lines: Vec<String> = LOG.lines().map(readable).collect();
        assert_eq!(lines[2], "2026-11-28T20:00:02Z ERROR node ha1 is dead [node_dead]");
        assert_eq!(lines[3], "lb: it cannot go on");
    }
}

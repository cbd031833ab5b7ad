//! A message in words, and as JSON.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lb_api::events::{Level, Record};
use lb_api::{schema, words};
use serde::Serialize;

use super::ongoing::{Alert, State};
use super::outbox::Message;

/// Characters of a subject at most.
const SUBJECT: usize = 120;

/// The subject of a mail from `director`.
pub(crate) fn subject(message: &Message, director: &str) -> String {
    let lines = lines(message);
    let Some(first) = lines.first() else { return format!("[lb {director}] test") };
    let text = words::printable(&first.record.text);
    let mut subject = format!("[lb {director}] {}{text}", still(first.state));
    if subject.chars().count() > SUBJECT {
        subject = subject.chars().take(SUBJECT - 1).chain(['…']).collect();
    }
    match lines.len() + message.more - 1 {
        0 => subject,
        others => format!("{subject} (and {others} more)"),
    }
}

/// What a mail's id begins with: the same each time that the same message is tried, and another one
/// for each receiver, and for what is told again. A test is another message each time.
pub(crate) fn id(message: &Message, receiver: &str) -> String {
    let Some(first) = message.alerts.first() else {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        return format!("lb.test-{}", since.as_nanos());
    };
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let Record { number, time, .. } = &*first.record;
    let count = message.alerts.len() + message.more;
    let again = match first.state {
        State::Repeated(times) => format!("-again{times}"),
        State::Firing | State::Resolved | State::Event => String::new(),
    };
    format!("lb.{number}-{}-{count}{again}-{}", plain(time), plain(receiver))
}

/// What stands before an event that is told again.
const fn still(state: State) -> &'static str {
    match state {
        State::Repeated(_) => "still: ",
        State::Firing | State::Resolved | State::Event => "",
    }
}

/// What has a line of its own: an event that ends two things is told once.
fn lines(message: &Message) -> Vec<&Alert> {
    let mut alerts: Vec<&Alert> = message.alerts.iter().collect();
    alerts.dedup_by(|next, told| next.state == told.state && Arc::ptr_eq(&next.record, &told.record));
    alerts
}

/// All of it, line by line.
pub(crate) fn text(message: &Message, director: &str) -> String {
    let Message { alerts, more, dropped, held } = message;
    let mut text = format!("The director {director} tells:\n\n");
    if alerts.is_empty() {
        text += "This is a test of its alerts.\n";
    }
    for Alert { state, record, .. } in lines(message) {
        let word = match (state, record.level) {
            (State::Resolved, _) => "RESOLVED",
            (_, Level::Error) => "ERROR",
            (_, Level::Warning) => "WARNING",
            (_, Level::Info) => "INFO",
        };
        // Writing to a string cannot fail.
        let (still, told) = (still(*state), words::printable(&record.text));
        let _ = writeln!(text, "{} {word:8} {still}{told}", record.time);
    }
    if *more > 0 {
        let _ = writeln!(text, "\n{more} more are not listed here: see `lb events`.");
    }
    if *dropped > 0 {
        let _ = writeln!(
            text,
            "\nBefore these, {dropped} were given up and told to nobody here: see `lb events`."
        );
    }
    if let Some(held) = held {
        let held = humantime::format_duration(Duration::from_secs(held.as_secs()));
        let _ = writeln!(
            text,
            "\nThis message was held back for {held}: its limit of messages an hour was reached."
        );
    }
    text
}

/// What a webhook gets.
#[derive(Debug, Serialize)]
struct Body<'a> {
    director: &'a str,
    receiver: &'a str,
    /// In words, for chats.
    text: String,
    /// Nothing has happened.
    test: bool,
    alerts: Vec<AlertBody<'a>>,
    more: usize,
    dropped: u64,
    held_s: u64,
}

#[derive(Debug, Serialize)]
struct AlertBody<'a> {
    state: &'static str,
    /// Number of the event that began what lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    begun: Option<u64>,
    /// How often it is told again.
    repeated: u32,
    #[serde(flatten)]
    record: &'a Record,
}

/// The body for the webhook `receiver`.
pub(crate) fn json(message: &Message, director: &str, receiver: &str) -> serde_json::Result<String> {
    let alerts = message.alerts.iter().map(|Alert { state, record, begun }| AlertBody {
        state: state.name(),
        begun: (*state != State::Event).then_some(begun.number),
        repeated: match state {
            State::Repeated(times) => *times,
            State::Firing | State::Resolved | State::Event => 0,
        },
        record,
    });
    let body = Body {
        director,
        receiver,
        text: text(message, director),
        test: message.alerts.is_empty(),
        alerts: alerts.collect(),
        more: message.more,
        dropped: message.dropped,
        held_s: message.held.unwrap_or_default().as_secs(),
    };
    schema::line(schema::ALERTS, &body)
}

#[cfg(test)]
mod tests {
    use super::super::ongoing::Ongoing;
    use super::*;

    fn message() -> Message {
        let mut ongoing = Ongoing::default();
        let at =
            |record: Record, number| Record { number, time: "2026-11-29T12:00:00.000Z".into(), ..record };
        let down = Record::new(Level::Warning, "server_down", "web: www1 is down: no\nanswer".into());
        let up = Record::new(Level::Info, "server_up", "web: www1 is up".into());
        let alerts = [(down, 7), (up, 9)]
            .map(|(record, number)| ongoing.one(at(record.service("web").server("www1"), number)));
        Message { alerts: alerts.to_vec(), more: 3, dropped: 2, held: Some(Duration::from_millis(90_500)) }
    }

    #[test]
    fn a_mail_says_what_happened_and_what_it_leaves_out() {
        assert_eq!(subject(&message(), "lb1"), "[lb lb1] web: www1 is down: no answer (and 4 more)");
        let wanted = "The director lb1 tells:\n\n\
                      2026-11-29T12:00:00.000Z WARNING  web: www1 is down: no answer\n\
                      2026-11-29T12:00:00.000Z RESOLVED web: www1 is up\n\n\
                      3 more are not listed here: see `lb events`.\n\n\
                      Before these, 2 were given up and told to nobody here: see `lb events`.\n\n\
                      This message was held back for 1m 30s: its limit of messages an hour was reached.\n";
        assert_eq!(text(&message(), "lb1"), wanted);
        assert_eq!(subject(&Message::default(), "lb1"), "[lb lb1] test");
    }

    #[test]
    fn an_event_that_ends_two_things_is_told_once_in_words() {
        let mut ongoing = Ongoing::default();
        let path = |event: &str| Record::new(Level::Info, event, event.replace('_', " ")).subject("eth0");
        ongoing.one(path("path_sends_fail"));
        ongoing.one(path("path_closed"));
        let message = Message { alerts: ongoing.take(path("path_open")), ..Message::default() };
        assert_eq!(message.alerts.len(), 2);
        let said = text(&message, "lb1");
        assert_eq!(said.matches("RESOLVED path open").count(), 1, "{said}");
        assert_eq!(subject(&message, "lb1"), "[lb lb1] path open");
        let body = json(&message, "lb1", "chat").expect("JSON");
        assert_eq!(body.matches("\"path_open\"").count(), 2, "programs are told what has ended: {body}");
        // One that ends and begins something says both.
        let role = |level, to: &str| Record::new(level, "role_changed", to.to_owned()).group("web".into());
        let split = Record::new(Level::Error, "split_brain", String::new()).group("web".into());
        ongoing.one(split.node("lb2".into()));
        let alerts = ongoing.take(role(Level::Warning, "it failed").from_to("active", "fault"));
        let said = text(&Message { alerts, ..Message::default() }, "lb1");
        assert!(said.contains("RESOLVED it failed") && said.contains("WARNING  it failed"), "{said}");
    }

    #[test]
    fn what_is_told_again_says_so() {
        let first = message().alerts.swap_remove(0);
        let again = |times| Message {
            alerts: vec![Alert { state: State::Repeated(times), ..first.clone() }],
            ..Message::default()
        };
        assert_eq!(subject(&again(1), "lb1"), "[lb lb1] still: web: www1 is down: no answer");
        let said = text(&again(1), "lb1");
        let line = "2026-11-29T12:00:00.000Z WARNING  still: web: www1 is down: no answer\n";
        assert!(said.ends_with(line), "{said}");
        // It is another mail each time.
        assert_eq!(id(&again(2), "chat"), "lb.7-20261129T120000000Z-1-again2-chat");
        let body = json(&again(2), "lb1", "chat").expect("JSON");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let told = &body["alerts"][0];
        assert_eq!(
            (&told["state"], &told["repeated"], &told["begun"]),
            (&"firing".into(), &2.into(), &7.into())
        );
    }

    #[test]
    fn a_mail_that_is_tried_again_has_the_same_id() {
        assert_eq!(id(&message(), "ops mail"), "lb.7-20261129T120000000Z-5-opsmail");
        assert_ne!(id(&message(), "chat"), id(&Message { more: 4, ..message() }, "chat"));
        assert!(id(&Message::default(), "chat").starts_with("lb.test-"));
    }

    #[test]
    fn a_webhook_gets_events_as_lb_events_tells_them() {
        let body = json(&message(), "lb1", "chat").expect("JSON");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&body["schema"], &body["director"]), (&"lb/alerts/1".into(), &"lb1".into()));
        assert_eq!((&body["more"], &body["dropped"], &body["held_s"]), (&3.into(), &2.into(), &90.into()));
        let [down, up] = &body["alerts"].as_array().expect("a list")[..] else { panic!("{body}") };
        assert_eq!(
            (&down["state"], &down["event"], &down["begun"]),
            (&"firing".into(), &"server_down".into(), &7.into())
        );
        assert_eq!(
            (&up["state"], &up["server"], &up["begun"]),
            (&"resolved".into(), &"www1".into(), &7.into())
        );
        assert_eq!(body["test"], false);
    }
}

//! `lb events`: what happened to the cluster, services and servers.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Args;
use lb_api::client::{self, NoPermission};
use lb_api::events::{Level, Record};
use lb_api::schema;

use super::output::{Director, go_on, json_line};

/// How often a director is asked for more.
const LOOK: Duration = Duration::from_millis(200);
/// The same of one that does not run.
const WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Go on with what happens from now on, over restarts of the director too; Ctrl-C ends it
    #[arg(short, long)]
    follow: bool,
    /// Only what happened since then: a time of day such as 2026-11-29T12:00:00Z, or how long ago,
    /// such as 10m or 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<SystemTime>,
    /// Only events of this server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only events of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Print one JSON object a line, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    director: Director,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let mut after = None;
    loop {
        let events = match client::request_events(&options.director.socket, after) {
            Ok(events) => events,
            // A director that stops may end amid an answer; the next one goes on.
            Err(error) if options.follow && after.is_some() && !error.is::<NoPermission>() => {
                sleep(WAIT);
                continue;
            }
            Err(error) => return Err(error),
        };
        after = events.last().map(|event| event.number).or(after).or(Some(0));
        let mut text = String::new();
        for event in events.iter().filter(|event| options.wants(event)) {
            text += &if options.json { json_line(schema::EVENT, event)? } else { line(event) };
        }
        if !options.follow && text.is_empty() {
            eprintln!("{}", options.in_vain(&events));
        }
        if !go_on(&text)? || !options.follow {
            return Ok(());
        }
        sleep(LOOK);
    }
}

impl Options {
    fn wants(&self, event: &Record) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| {
            wanted.is_none() || found.is_some() && wanted == found
        };
        // One whose time cannot be read is better told than left out.
        let old = |since| humantime::parse_rfc3339(&event.time).is_ok_and(|time| time < since);
        is(&self.server, &event.server) && is(&self.service, &event.service) && !self.since.is_some_and(old)
    }

    /// What there is to say where no event is wanted.
    fn in_vain(&self, events: &[Record]) -> String {
        let all = events.len();
        if self.service.is_some() && !events.iter().any(|event| event.service == self.service) {
            let services = named(events.iter().map(|event| event.service.clone()));
            return format!("none of {all} events is about that service{services}");
        }
        if self.server.is_some() && !events.iter().any(|event| event.server == self.server) {
            let servers = named(events.iter().map(|event| event.server.clone()));
            return format!("none of {all} events is about that server{servers}");
        }
        match events.first().filter(|_| self.since.is_some()) {
            Some(first) => format!("none of {all} events is so new; the first one is of {}", first.time),
            None => format!("none of {all} events is such a one"),
        }
    }
}

/// The names that events have, so that a slip is seen.
fn named(names: impl Iterator<Item = Option<String>>) -> String {
    const MANY: usize = 8;
    let names: BTreeSet<String> = names.flatten().collect();
    let first: Vec<&str> = names.iter().take(MANY).map(String::as_str).collect();
    let more = if names.len() > MANY { ", …" } else { "" };
    if first.is_empty() {
        String::new()
    } else {
        format!("; there are some about {}{more}", first.join(", "))
    }
}

/// A time of day, or how long ago.
fn moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| "there is no time so long ago".to_owned());
    }
    humantime::parse_rfc3339_weak(text).map_err(|_| {
        "expected a time such as 2026-11-29T12:00:00Z (UTC), or how long ago, such as 10m".to_owned()
    })
}

fn line(event: &Record) -> String {
    let level = match event.level {
        Level::Info => " ",
        Level::Warning => "!",
        Level::Error => "E",
    };
    format!("{} {level} {}\n", event.time, event.text)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn options() -> Options {
        let director = Director { socket: PathBuf::new() };
        Options { follow: false, since: None, server: None, service: None, json: false, director }
    }

    #[test]
    fn times_are_of_the_day_or_ago() {
        let now = SystemTime::now();
        let ago = moment("10m").expect("a time");
        let age = now.duration_since(ago).expect("it is past");
        assert!((595..=605).contains(&age.as_secs()), "{age:?}");
        let noon = moment("2026-11-29T12:00:00Z").expect("a time");
        assert_eq!(moment("2026-11-29 12:00:00"), Ok(noon));
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn a_name_that_no_event_has_is_told() {
        let about = |service: &str| Record::new(Level::Info, "server_up", "up".into()).service(service);
        let events: Vec<Record> = ["web", "mail", "web"].into_iter().map(about).collect();
        let of = |service: &str| Options { service: Some(service.into()), ..options() };
        assert_eq!(
            of("wbe").in_vain(&events),
            "none of 3 events is about that service; there are some about mail, web"
        );
        let of_server = Options { server: Some("www1".into()), ..of("web") };
        assert_eq!(of_server.in_vain(&events), "none of 3 events is about that server");
        let late = Options { since: Some(SystemTime::now()), ..of("web") };
        assert!(late.in_vain(&events).starts_with("none of 3 events is so new; the first one is of "));
        assert_eq!(options().in_vain(&[]), "none of 0 events is such a one");
    }

    #[test]
    fn filters_hold_together() {
        let event = |time: &str| {
            let record =
                Record::new(Level::Info, "server_up", "www1 is up".into()).service("web").server("www1");
            Record { time: time.to_owned(), ..record }
        };
        let noon = event("2026-11-29T12:00:00.000Z");
        let www1 = Options { server: Some("www1".into()), ..options() };
        assert!(www1.wants(&noon));
        assert!(!Options { service: Some("dns".into()), ..www1 }.wants(&noon));
        assert!(
            !Options { server: Some("www1".into()), ..options() }
                .wants(&Record { server: None, ..noon.clone() })
        );
        let since = moment("2026-11-29T12:00:00.5Z").ok();
        let late = Options { since, ..options() };
        assert!(!late.wants(&noon) && late.wants(&event("2026-11-29T12:00:01.000Z")));
    }
}

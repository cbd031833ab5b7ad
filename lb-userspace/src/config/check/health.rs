//! A service's health check.

use std::time::Duration;

use super::{Checker, Value};
use crate::config::model::{Check, HttpProbe, Probe};
use crate::config::places::Place;
use crate::config::{values, yaml};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
}

const KINDS: [(&str, Kind); 2] = [("tcp", Kind::Tcp), ("http", Kind::Http)];
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

impl Checker {
    pub(super) fn health(&mut self, check: &yaml::Check, place: Place<'_>) -> Check {
        let value = |scalar, key| Value::of(scalar, key, place);
        let kind = self
            .needed(value(&check.r#type, "type"), "one of tcp, http", |text| values::choice(text, &KINDS));
        Check {
            probe: self.probe(kind, check, place),
            interval: self.probe_time(value(&check.interval, "interval"), DEFAULT_INTERVAL),
            timeout: self.probe_time(value(&check.timeout, "timeout"), DEFAULT_TIMEOUT),
            rise: self.in_a_row(value(&check.rise, "rise")),
            fall: self.in_a_row(value(&check.fall, "fall")),
            port: self.optional(value(&check.port, "port"), |text| values::whole(text, 1..=65535)),
        }
    }

    fn probe_time(&mut self, value: Value<'_>, default: Duration) -> Duration {
        let range = Duration::from_millis(10)..=Duration::from_secs(60 * 60);
        self.optional(value, |text| values::time(text, range)).unwrap_or(default)
    }

    fn in_a_row(&mut self, value: Value<'_>) -> u32 {
        self.optional(value, |text| values::whole(text, 1..=100)).unwrap_or(1)
    }

    fn probe(&mut self, kind: Option<Kind>, check: &yaml::Check, place: Place<'_>) -> Probe {
        let value = |scalar, key| Value::of(scalar, key, place);
        let request = value(&check.request, "request");
        let receive = value(&check.receive, "receive");
        let host = value(&check.host, "host");
        let status = value(&check.status, "status");
        if kind == Some(Kind::Tcp) {
            self.only_for_http(&[request, receive, host, status]);
            return Probe::Tcp;
        }
        Probe::Http(HttpProbe {
            request: self.optional(request, values::request_path).unwrap_or_else(|| "/".into()),
            host: self.optional(host, values::host),
            receive: self.optional(receive, values::needle),
            status: self.optional(status, |text| values::whole(text, 100..=599)),
        })
    }

    fn only_for_http(&mut self, values: &[Value<'_>]) {
        for value in values.iter().filter(|value| value.text.is_some()) {
            let message = format!("`{}` belongs to a check of type http, this one is of type tcp", value.key);
            self.mistake(value.place().key_at(), message);
        }
    }
}

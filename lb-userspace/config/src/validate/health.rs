//! Health checks: interval, time-out, rise and fall, source, TLS. `probe` validates what a check
//! sends and expects.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_model::{Check, Tls, Via};

use super::probe::Kind;
use super::{DAY, Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

const VIAS: [(&str, Via); 2] = [("server", Via::Server), ("vip", Via::Vip)];
const EXPIRY_WARNING: Duration = DAY.saturating_mul(14);
const MOST_CHECKS: usize = 16;

impl Validator {
    /// A single check or a list of them.
    pub(super) fn checks(&mut self, checks: Option<&yaml::Checks>, span: SourceSpan<'_>) -> Arc<[Check]> {
        match checks {
            None => Arc::default(),
            Some(yaml::Checks::One(check)) => self.health(check, span).into_iter().collect(),
            Some(yaml::Checks::Several(checks)) => {
                self.at_most(MOST_CHECKS, checks.len(), "checks of one server", span);
                let each = checks.iter().enumerate();
                each.filter_map(|(index, check)| self.health(check, span.item(index))).collect()
            }
        }
    }

    /// `None` for the type `none`, and if the type is wrong.
    fn health(&mut self, check: &yaml::Check, span: SourceSpan<'_>) -> Option<Check> {
        let value = |scalar, key| Value::of(scalar, key, span);
        let kind = self.needed(value(&check.r#type, "type"), Kind::ALL_NAMES, Kind::read);
        if let Some(kind) = kind {
            self.keys_of_other_kinds(kind, check, span);
        }
        let (via, tls) = (self.via(kind, check, span), self.tls(kind, check, span));
        let default = Check::new(self.probe(kind, check, span)?);
        let interval = self.probe_time(value(&check.interval, "interval"), default.interval);
        let fast = self.probe_time(value(&check.fast_interval, "fast_interval"), interval);
        if fast > interval {
            let wrong = "expected a time no longer than `interval`";
            self.wrong(value(&check.fast_interval, "fast_interval"), wrong);
        }
        Some(Check {
            via,
            tls,
            interval,
            fast_interval: fast,
            timeout: self.probe_time(value(&check.timeout, "timeout"), default.timeout),
            rise: self.in_a_row(value(&check.rise, "rise"), default.rise),
            fall: self.in_a_row(value(&check.fall, "fall"), default.fall),
            port: self.optional(value(&check.port, "port"), |text| values::whole(text, 1..=65535)),
            source: self.source(value(&check.source, "source")),
            interface: self.optional(value(&check.interface, "interface"), values::interface),
            ..default
        })
    }

    fn probe_time(&mut self, value: Value<'_>, default: Duration) -> Duration {
        let range = Duration::from_millis(10)..=Duration::from_secs(60 * 60);
        self.optional(value, |text| values::time(text, range)).unwrap_or(default)
    }

    fn in_a_row(&mut self, value: Value<'_>, default: u32) -> u32 {
        self.optional(value, |text| values::whole(text, 1..=100)).unwrap_or(default)
    }

    fn source(&mut self, value: Value<'_>) -> Option<IpAddr> {
        self.optional(value, values::any_host)
    }

    fn via(&mut self, kind: Option<Kind>, check: &yaml::Check, span: SourceSpan<'_>) -> Via {
        let via = Value::of(&check.via, "via", span);
        let read = self.one_of(via, &VIAS, Via::Server);
        if read == Via::Vip {
            if let Some(kind) = kind.filter(|kind| !kind.goes_by_vip()) {
                let wrong = format!(
                    "expected server: checks of type {} cannot go through the VIP, only those of type tcp, http, \
                     https, udp and dns can",
                    kind.name()
                );
                self.wrong(via, &wrong);
            }
            for (key, scalar) in [("port", &check.port), ("interface", &check.interface)] {
                if scalar.is_given() {
                    let message = format!(
                        "`{key}` cannot be used with `via: vip`: the check connects to the service's own address and \
                         port, through the director's interface"
                    );
                    self.mistake(span.key(key).key_at(), message);
                }
            }
        }
        read
    }

    fn tls(&mut self, kind: Option<Kind>, check: &yaml::Check, span: SourceSpan<'_>) -> Option<Tls> {
        let value = |scalar, key| Value::of(scalar, key, span);
        let default = kind == Some(Kind::Https);
        let on = self.one_of(value(&check.tls, "tls"), &values::SWITCH, default);
        let name = value(&check.tls_name, "tls_name");
        let verify = value(&check.verify, "verify");
        let warning = value(&check.expiry_warning, "expiry_warning");
        if !on {
            for value in [name, verify, warning].iter().filter(|value| value.text.is_some()) {
                let message = format!("`{}` belongs to a check with `tls: on`", value.key);
                self.mistake(value.span().key_at(), message);
            }
            return None;
        }
        Some(Tls {
            name: self.optional(name, values::tls_name),
            verify: self.one_of(verify, &values::SWITCH, false),
            expiry_warning: self
                .optional(warning, |text| values::time(text, Duration::ZERO..=1000 * DAY))
                .unwrap_or(EXPIRY_WARNING),
        })
    }
}

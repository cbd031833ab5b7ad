//! Who hears of what happens: the log, events, findings and hooks, and receivers of alerts.

use lb_alerts::Alerts;
use lb_api::events::{Events, Record};
use lb_api::findings::Findings;

use super::notifications::Notifier;

pub(super) struct Announcer {
    pub notifier: Notifier,
    /// They hear of events by themselves, and outlive the director's lives.
    pub alerts: Alerts,
}

impl Announcer {
    pub(super) fn new(events: Events, findings: Findings, alerts: Alerts) -> Self {
        Self { notifier: Notifier::new(events, findings), alerts }
    }

    pub(super) fn findings(&self) -> &Findings {
        self.notifier.findings()
    }

    pub(super) fn record(&mut self, record: Record) {
        self.notifier.record(record);
    }

    pub(super) fn record_all(&mut self, records: impl IntoIterator<Item = Record>) {
        records.into_iter().for_each(|record| self.notifier.record(record));
    }
}

//! What an Alertmanager is told: pure.
//!
//! An Alertmanager forgets what it is not told again, so all that lasts is told each minute with an
//! end a few minutes ahead: should this director die, its alerts end. It groups, limits and repeats
//! by itself, so changes are told at once. Alerts are known by their labels.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use humantime::format_rfc3339_millis;
use lb_api::events::{Level, Record};
use lb_model::Receiver;
use serde::Serialize;

use super::names;
use super::ongoing::{Alert, State};
use super::pace::Backoff;

/// From one time to the next that what lasts is told.
const AGAIN: Duration = Duration::from_secs(60);
/// After so long an alert ends that is not told again, and one about what does not last.
const LASTS: Duration = Duration::from_secs(5 * 60);
/// Alerts at most, all together.
const MOST: usize = 2000;

type Labels = BTreeMap<&'static str, String>;

/// An alert as `/api/v2/alerts` takes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Posted {
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: String,
    pub ends_at: String,
}

impl Posted {
    /// An alert that ends soon, and says that it is none.
    pub(crate) fn test(director: &str) -> Self {
        let now = SystemTime::now();
        let labels = [
            ("alertname", "LbTest".to_owned()),
            ("severity", "info".to_owned()),
            ("job", "lb".to_owned()),
            ("instance", director.to_owned()),
        ];
        let summary = format!("This is a test of the alerts of {director}");
        Self {
            labels: labels.into(),
            annotations: [("summary", summary)].into(),
            starts_at: format_rfc3339_millis(now).to_string(),
            ends_at: format_rfc3339_millis(now + AGAIN).to_string(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// It lasts.
    Open,
    /// It happened, and ends by itself after it was told.
    ByItself,
    At(SystemTime),
}

#[derive(Debug)]
struct Shown {
    /// As it was told last.
    alert: Alert,
    begins: SystemTime,
    ends: Ends,
    /// Number of the change that made it so.
    changed: u64,
}

/// The alerts of one Alertmanager.
#[derive(Debug)]
pub(crate) struct Board {
    /// Who tells it.
    director: String,
    shown: BTreeMap<Labels, Shown>,
    /// Number of the last change, of the last one that was told, and of the last one that is under
    /// way.
    changes: u64,
    told: u64,
    under_way: Option<u64>,
    told_at: Option<Instant>,
    backoff: Backoff,
}

impl Board {
    pub(crate) fn new(director: &str) -> Self {
        Self {
            director: director.to_owned(),
            shown: BTreeMap::new(),
            changes: 0,
            told: 0,
            under_way: None,
            told_at: None,
            backoff: Backoff::default(),
        }
    }

    /// Returns how many alerts were given up for it.
    pub(crate) fn push(&mut self, alert: &Alert, wall: SystemTime) -> u64 {
        let labels = labels(&alert.begun, &self.director);
        let known = self.shown.get(&labels).filter(|shown| shown.ends == Ends::Open);
        if let (State::Firing, Some(known)) = (alert.state, known)
            && known.alert.record.text == alert.record.text
        {
            return 0;
        }
        if known.is_none() && alert.state != State::Resolved && self.shown.len() >= MOST {
            return 1;
        }
        self.changes += 1;
        // One that is told again has begun before.
        let begins = known.map_or_else(|| time(&alert.begun).unwrap_or(wall), |known| known.begins);
        let ends = match alert.state {
            State::Firing | State::Repeated(_) => Ends::Open,
            State::Resolved => Ends::At(wall),
            State::Event => Ends::ByItself,
        };
        let shown = Shown { alert: alert.clone(), begins, ends, changed: self.changes };
        self.shown.insert(labels, shown);
        0
    }

    /// Changes that are not told yet.
    pub(crate) fn waiting(&self) -> usize {
        self.shown.values().filter(|shown| shown.changed > self.told).count()
    }

    /// Forgets what the receiver does not want to be told any more: at the Alertmanager it ends by
    /// itself.
    pub(crate) fn follow(&mut self, receiver: &Receiver) {
        self.shown.retain(|_, shown| shown.alert.is_for(receiver));
    }

    /// Another Alertmanager is told from now on, which knows nothing yet, and where nothing has
    /// failed.
    pub(crate) fn redirect(&mut self) {
        (self.told, self.under_way, self.told_at) = (0, None, None);
        self.backoff.succeeded();
    }

    /// The next attempt is made at once, after a failure too.
    pub(crate) const fn hurry(&mut self) {
        self.backoff.hurry();
    }

    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        if self.under_way.is_some() || self.shown.is_empty() {
            return None;
        }
        let due = match self.told_at {
            Some(told) if self.changes == self.told => told + AGAIN,
            _ => now,
        };
        Some(self.backoff.again().map_or(due, |again| again.max(due)))
    }

    /// What is told now, if anything is. What becomes of it comes by [`Self::done`].
    pub(crate) fn next(&mut self, now: Instant, wall: SystemTime) -> Option<Vec<Posted>> {
        if self.due(now)? > now {
            return None;
        }
        self.under_way = Some(self.changes);
        let posted = self.shown.iter().map(|(labels, shown)| {
            // The clock may have been set back.
            let ends = match shown.ends {
                Ends::Open | Ends::ByItself => wall + LASTS,
                Ends::At(ends) => ends.min(wall),
            };
            Posted {
                labels: labels.clone(),
                annotations: [("summary", shown.alert.record.text.clone())].into(),
                starts_at: format_rfc3339_millis(shown.begins.min(wall).min(ends)).to_string(),
                ends_at: format_rfc3339_millis(ends).to_string(),
            }
        });
        Some(posted.collect())
    }

    pub(crate) fn done(&mut self, delivered: bool, now: Instant) {
        let Some(under_way) = self.under_way.take() else { return };
        if delivered {
            self.told = under_way;
            self.told_at = Some(now);
            self.backoff.succeeded();
            self.shown.retain(|_, shown| shown.ends == Ends::Open || shown.changed > under_way);
        } else {
            self.backoff.failed(now);
        }
    }

    pub(crate) const fn backoff(&self) -> &Backoff {
        &self.backoff
    }
}

fn time(record: &Record) -> Option<SystemTime> {
    humantime::parse_rfc3339(&record.time).ok()
}

/// What stays the same from an alert's beginning to its end.
fn labels(begun: &Record, director: &str) -> Labels {
    let severity = match begun.level {
        Level::Error => "critical",
        Level::Warning => "warning",
        Level::Info => "info",
    };
    let always = [
        ("alertname", names::name(&begun.event)),
        ("severity", severity.to_owned()),
        ("job", "lb".to_owned()),
        ("instance", director.to_owned()),
    ];
    let fields = [
        ("service", &begun.service),
        ("server", &begun.server),
        ("group", &begun.group),
        ("node", &begun.node),
        ("finding", &begun.finding),
        ("subject", &begun.subject),
        ("vip", &begun.vip),
    ];
    let given = fields.into_iter().filter_map(|(label, value)| Some((label, value.clone()?)));
    always.into_iter().chain(given).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lb_model::{Channel, Severity};

    use super::super::ongoing::Ongoing;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn down(text: &str) -> Record {
        Record::new(Level::Warning, "server_down", text.into()).service("web").server("www1")
    }

    fn up() -> Record {
        Record::new(Level::Info, "server_up", "www1 is up".into()).service("web").server("www1")
    }

    /// The wall clock is ahead of the records' times.
    fn clocks() -> (Instant, SystemTime) {
        (Instant::now(), SystemTime::now() + SECOND)
    }

    #[test]
    fn what_lasts_is_told_at_once_and_each_minute_with_an_end_ahead() {
        let (mut board, mut ongoing, (start, wall)) = (Board::new("lb1"), Ongoing::default(), clocks());
        assert_eq!(board.due(start), None);
        board.push(&ongoing.one(down("www1 is down")), wall);
        assert_eq!((board.due(start), board.waiting()), (Some(start), 1));
        let posted = board.next(start, wall).expect("an alert");
        let [one] = &posted[..] else { panic!("{posted:?}") };
        let wanted = [
            ("alertname", "LbServerDown"),
            ("severity", "warning"),
            ("job", "lb"),
            ("instance", "lb1"),
            ("service", "web"),
            ("server", "www1"),
        ];
        assert_eq!(one.labels, wanted.map(|(label, value)| (label, value.to_owned())).into());
        assert_eq!(one.annotations["summary"], "www1 is down");
        assert_eq!(one.ends_at, format_rfc3339_millis(wall + LASTS).to_string());
        assert_eq!(board.due(start), None, "it is under way");
        board.done(true, start);
        assert_eq!((board.due(start), board.waiting()), (Some(start + AGAIN), 0));
        let again = board.next(start + AGAIN, wall + AGAIN).expect("the alert");
        assert_eq!(again[0].starts_at, one.starts_at);
        assert_eq!(again[0].ends_at, format_rfc3339_millis(wall + AGAIN + LASTS).to_string());
    }

    #[test]
    fn an_end_is_told_with_the_labels_of_its_beginning_and_forgotten() {
        let (mut board, mut ongoing, (start, wall)) = (Board::new("lb1"), Ongoing::default(), clocks());
        board.push(&ongoing.one(down("www1 is down")), wall);
        let begun = board.next(start, wall).expect("an alert");
        // It ends while its beginning is under way.
        board.push(&ongoing.one(up()), wall + SECOND);
        board.done(true, start + SECOND);
        let ended = board.next(start + SECOND, wall + SECOND).expect("its end");
        assert_eq!((ended.len(), &ended[0].labels), (1, &begun[0].labels));
        assert_eq!(ended[0].ends_at, format_rfc3339_millis(wall + SECOND).to_string());
        assert_eq!(ended[0].starts_at, begun[0].starts_at);
        board.done(true, start + SECOND);
        assert_eq!((board.due(start + SECOND), board.waiting()), (None, 0));
    }

    #[test]
    fn what_does_not_last_ends_by_itself() {
        let (mut board, mut ongoing, (start, wall)) = (Board::new("lb1"), Ongoing::default(), clocks());
        board.push(&ongoing.one(Record::new(Level::Warning, "stalled", "it stood still".into())), wall);
        assert!(board.next(start, wall).is_some());
        board.done(false, start);
        // It could not be told for longer than it lasts.
        let (later, wall) = (start + 2 * LASTS, wall + 2 * LASTS);
        let posted = board.next(later, wall).expect("an alert");
        assert_eq!(posted[0].ends_at, format_rfc3339_millis(wall + LASTS).to_string());
        board.done(true, later);
        assert_eq!(board.due(later), None);
    }

    #[test]
    fn nothing_begins_later_than_it_ends_or_than_now() {
        let (mut board, mut ongoing, (start, wall)) = (Board::new("lb1"), Ongoing::default(), clocks());
        board.push(&ongoing.one(down("www1 is down")), wall);
        let back = wall - 3600 * SECOND;
        let told = format_rfc3339_millis(back).to_string();
        assert_eq!(board.next(start, back).expect("an alert")[0].starts_at, told);
        board.done(true, start);
        board.push(&ongoing.one(up()), wall);
        let ended = board.next(start, back).expect("its end");
        assert_eq!((&ended[0].starts_at, &ended[0].ends_at), (&told, &told));
    }

    #[test]
    fn what_was_not_taken_is_told_again_less_and_less_often() {
        let (mut board, mut ongoing, (start, wall)) = (Board::new("lb1"), Ongoing::default(), clocks());
        board.push(&ongoing.one(down("www1 is down")), wall);
        for wait in [5, 10] {
            assert!(board.next(start, wall).is_some());
            board.done(false, start);
            assert_eq!(board.due(start), Some(start + wait * SECOND));
            board.hurry();
        }
        assert_eq!(board.waiting(), 1);
    }

    #[test]
    fn another_alertmanager_is_told_all_that_lasts_at_once() {
        let (mut board, mut ongoing, (start, wall)) = (Board::new("lb1"), Ongoing::default(), clocks());
        board.push(&ongoing.one(down("www1 is down")), wall);
        assert!(board.next(start, wall).is_some());
        board.done(true, start);
        board.push(&ongoing.one(Record::new(Level::Error, "thread_hangs", String::new())), wall);
        assert!(board.next(start, wall).is_some());
        board.done(false, start);
        board.redirect();
        assert_eq!((board.due(start), board.waiting()), (Some(start), 2));
        assert_eq!(board.next(start, wall).expect("all").len(), 2);
        // What was under way to the one before is no matter here.
        board.redirect();
        assert_eq!(board.next(start, wall).expect("all").len(), 2);
        board.done(true, start);
        assert_eq!((board.due(start), board.waiting()), (Some(start + AGAIN), 0));
        for alert in ongoing.all() {
            board.push(&alert, wall);
        }
        assert_eq!((board.due(start), board.waiting()), (Some(start + AGAIN), 0), "nothing is new");
    }

    #[test]
    fn what_a_receiver_does_not_want_any_more_is_not_told_again() {
        let (mut board, mut ongoing, (start, wall)) = (Board::new("lb1"), Ongoing::default(), clocks());
        board.push(&ongoing.one(down("www1 is down")), wall);
        board.push(&ongoing.one(Record::new(Level::Error, "thread_hangs", String::new())), wall);
        assert_eq!(board.next(start, wall).expect("alerts").len(), 2);
        board.done(true, start);
        board.follow(&Receiver {
            name: "am".into(),
            severity: Some(Severity::Error),
            events: BTreeSet::new(),
            limit: 30,
            repeat: None,
            channel: Channel::Alertmanager(Vec::new()),
        });
        let told = board.next(start + AGAIN, wall + AGAIN).expect("the error");
        let [one] = &told[..] else { panic!("{told:?}") };
        assert_eq!(one.labels["alertname"], "LbThreadHangs");
    }

    #[test]
    fn one_that_is_told_anew_has_begun_before() {
        let (mut board, mut ongoing, (start, wall)) = (Board::new("lb1"), Ongoing::default(), clocks());
        let first = ongoing.one(down("www1 is down"));
        board.push(&first, wall);
        let later = Record { time: "2030-01-01T00:00:00.000Z".into(), ..down("another reason") };
        board.push(&ongoing.one(later), wall);
        let posted = board.next(start, wall).expect("an alert");
        assert_eq!(posted[0].starts_at, first.record.time);
        assert_eq!(posted[0].annotations["summary"], "another reason");
    }
}

use super::*;

fn finding(subject: &str, text: &str) -> Finding {
    let mend = "do something".to_owned();
    Finding { kind: Kind::VipClaimed, subject: subject.to_owned(), text: text.to_owned(), mend }
}

fn events(registry: &mut Registry) -> Vec<(String, String)> {
    let records = std::mem::take(&mut registry.records);
    records.into_iter().map(|record| (record.event, record.text)).collect()
}

fn event(event: &str, text: &str) -> (String, String) {
    (event.to_owned(), text.to_owned())
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn beginning_and_end_are_told_once_and_what_lasts_is_shown() {
    let (mut registry, start) = (Registry::default(), Instant::now());
    for after in 0..5 {
        registry.raise(finding("10.0.0.6", "w1 answers"), None, start + after * SECOND);
    }
    assert_eq!(events(&mut registry), [event("finding", "w1 answers; do something")]);
    let [shown] = &registry.status(start + 9 * SECOND)[..] else { panic!("one") };
    assert_eq!((&*shown.finding, shown.since_s, shown.level), ("vip_claimed", 9, Level::Error));
    registry.clear(Kind::VipClaimed, "10.0.0.6", start + 9 * SECOND);
    registry.clear(Kind::VipClaimed, "10.0.0.6", start + 10 * SECOND);
    assert_eq!(events(&mut registry), [event("finding_ended", "ended: w1 answers")]);
    assert_eq!(registry.status(start + 10 * SECOND), []);
}

#[test]
fn one_that_comes_and_goes_is_logged_once_a_minute() {
    let (mut registry, start) = (Registry::default(), Instant::now());
    for second in 0..150 {
        let now = start + second * SECOND;
        match second % 2 {
            0 => registry.raise(finding("10.0.0.6", "w1 answers"), None, now),
            _ => registry.clear(Kind::VipClaimed, "10.0.0.6", now),
        }
    }
    let begun = events(&mut registry).into_iter().filter(|(event, _)| event == "finding").count();
    assert_eq!(begun, 3, "at 0, 60 and 120 s");
}

#[test]
fn one_that_comes_back_at_once_and_stays_is_logged_a_minute_later() {
    let (mut registry, start) = (Registry::default(), Instant::now());
    registry.raise(finding("10.0.0.6", "w1 answers"), None, start);
    registry.clear(Kind::VipClaimed, "10.0.0.6", start + SECOND);
    registry.raise(finding("10.0.0.6", "w1 answers"), None, start + 2 * SECOND);
    registry.pass_time(start + 59 * SECOND);
    assert_eq!(events(&mut registry).len(), 2, "its first beginning and end");
    registry.pass_time(start + 60 * SECOND);
    assert_eq!(events(&mut registry), [event("finding", "w1 answers; do something")]);
    registry.clear(Kind::VipClaimed, "10.0.0.6", start + 61 * SECOND);
    assert_eq!(events(&mut registry), [event("finding_ended", "ended: w1 answers")]);
}

#[test]
fn a_new_text_is_logged_no_sooner_than_a_minute_after_the_old_one() {
    let (mut registry, start) = (Registry::default(), Instant::now());
    registry.raise(finding("10.0.0.6", "w1 answers"), None, start);
    registry.raise(finding("10.0.0.6", "w2 answers"), None, start + 59 * SECOND);
    assert_eq!(registry.status(start)[0].text, "w2 answers", "it is shown at once");
    registry.raise(finding("10.0.0.6", "w3 answers"), None, start + 60 * SECOND);
    let texts: Vec<String> = events(&mut registry).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["w1 answers; do something", "w3 answers; do something"]);
}

#[test]
fn one_that_is_not_seen_again_ends_by_itself() {
    let (mut registry, start) = (Registry::default(), Instant::now());
    let until = |second: u32| Some(start + second * SECOND);
    registry.raise(finding("10.0.0.6", "w1 answers"), until(10), start);
    registry.raise(finding("10.0.0.6", "w1 answers"), until(15), start + 5 * SECOND);
    registry.pass_time(start + 14 * SECOND);
    assert_eq!(registry.status(start).len(), 1);
    registry.pass_time(start + 15 * SECOND);
    assert_eq!(registry.status(start).len(), 0);
}

#[test]
fn setting_a_kind_begins_and_ends_what_differs_and_leaves_other_kinds_alone() {
    let (mut registry, start) = (Registry::default(), Instant::now());
    let other = Finding { kind: Kind::VipRemoved, ..finding("10.0.0.6", "it was removed") };
    registry.raise(other, None, start);
    registry.set(Kind::VipClaimed, vec![finding("a", "a"), finding("b", "b")], start);
    registry.set(Kind::VipClaimed, vec![finding("b", "b"), finding("c", "c")], start + SECOND);
    let subjects: Vec<String> =
        registry.status(start + SECOND).into_iter().map(|status| status.subject).collect();
    assert_eq!(subjects, ["b", "c", "10.0.0.6"], "errors first");
}

#[test]
fn the_number_of_findings_is_bounded() {
    let (mut registry, start) = (Registry::default(), Instant::now());
    for number in 0..10_000 {
        registry.raise(finding(&number.to_string(), "w1 answers"), None, start);
    }
    assert_eq!(registry.status(start).len(), MAX_SUBJECTS);
    assert_eq!(registry.records.len(), MAX_SUBJECTS);
}

#[test]
fn labels_are_unique() {
    let labels: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.label()).collect();
    assert_eq!(labels.len(), Kind::ALL.len());
}

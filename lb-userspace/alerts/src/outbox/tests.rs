use lb_api::events::{Level, Record};

use super::super::ongoing::Ongoing;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const RULES: Rules =
    Rules { group_wait: Duration::from_secs(10), limit: 30, repeat: Some(Duration::from_secs(4 * 60 * 60)) };

fn alert(level: Level, text: &str) -> Alert {
    Ongoing::default().one(Record::new(level, "stalled", text.to_owned()))
}

fn warning(text: &str) -> Alert {
    alert(Level::Warning, text)
}

fn outbox() -> Outbox {
    Outbox::new(RULES)
}

/// Without a wait for others.
fn prompt(limit: u32) -> Outbox {
    Outbox::new(Rules { group_wait: Duration::ZERO, limit, ..RULES })
}

fn texts(message: &Message) -> Vec<&str> {
    message.alerts.iter().map(|alert| &*alert.record.text).collect()
}

#[test]
fn what_happens_within_the_wait_is_one_message() {
    let (mut outbox, start) = (outbox(), Instant::now());
    assert_eq!(outbox.due(start), None);
    outbox.push(warning("a"), start);
    outbox.push(warning("b"), start + 9 * SECOND);
    assert_eq!(outbox.due(start + 9 * SECOND), Some(start + 10 * SECOND));
    assert_eq!(outbox.next(start + 9 * SECOND), None);
    let message = outbox.next(start + 10 * SECOND).expect("a message");
    assert_eq!((texts(&message), message.held), (vec!["a", "b"], None));

    outbox.push(warning("c"), start + 11 * SECOND);
    assert_eq!(outbox.due(start + 30 * SECOND), None, "one is under way");
    outbox.done(true, start + 12 * SECOND);
    let message = outbox.next(start + 21 * SECOND).expect("a message");
    assert_eq!(texts(&message), ["c"]);
}

#[test]
fn what_is_not_taken_goes_again_with_what_came_meanwhile() {
    let (mut outbox, start) = (outbox(), Instant::now());
    outbox.push(warning("a"), start);
    let mut now = start + 10 * SECOND;
    for wait in [5, 10, 20] {
        assert!(outbox.next(now).is_some());
        outbox.push(warning("b"), now);
        outbox.done(false, now);
        assert_eq!(outbox.due(now), Some(now + wait * SECOND));
        now += wait * SECOND;
    }
    assert_eq!(outbox.backoff().lasted(now), 35 * SECOND);
    let message = outbox.next(now).expect("a message");
    assert_eq!(texts(&message), ["a", "b", "b", "b"]);
    outbox.done(true, now);
    assert_eq!((outbox.waiting(), outbox.due(now)), (0, None));
}

#[test]
fn what_the_limit_holds_back_is_one_message_that_says_so() {
    let (mut outbox, mut now) = (prompt(2), Instant::now());
    for _ in 0..2 {
        outbox.push(warning("a"), now);
        assert_eq!(outbox.next(now).expect("a message").held, None);
        outbox.done(true, now);
    }
    for _ in 0..50 {
        outbox.push(warning("b"), now);
        assert_eq!(outbox.next(now), None);
        now += 10 * SECOND;
    }
    // Two an hour: there is room each half an hour.
    let due = outbox.due(now).expect("it waits");
    assert_eq!(due.duration_since(now), (1800 - 500) * SECOND);
    let message = outbox.next(due).expect("a message");
    assert_eq!((message.alerts.len(), message.held), (50, Some(1800 * SECOND)));
}

#[test]
fn a_failure_costs_nothing_of_the_limit() {
    let (mut outbox, mut now) = (prompt(1), Instant::now());
    outbox.push(warning("a"), now);
    for _ in 0..20 {
        assert!(outbox.next(now).is_some());
        outbox.done(false, now);
        now = outbox.due(now).expect("it is tried again");
    }
}

#[test]
fn of_too_many_the_oldest_are_given_up_and_the_worst_are_listed() {
    let (mut outbox, start) = (outbox(), Instant::now());
    outbox.push(warning("oldest"), start);
    assert_eq!(outbox.push(warning("a"), start), 0);
    for _ in 0..MOST - 2 {
        outbox.push(warning("a"), start);
    }
    assert_eq!(outbox.push(alert(Level::Error, "worst"), start), 1);
    let message = outbox.next(start + 10 * SECOND).expect("a message");
    assert_eq!((message.alerts.len(), message.more, message.dropped), (LISTED, MOST - LISTED, 1));
    assert_eq!((texts(&message)[0], texts(&message)[1]), ("worst", "a"));

    // While it is under way one more is given up, which is among those of the message, and two are
    // lost that no message has told of.
    outbox.push(warning("last"), start + 11 * SECOND);
    outbox.lose(2);
    outbox.done(true, start + 12 * SECOND);
    assert_eq!(outbox.waiting(), 1);
    let message = outbox.next(start + 30 * SECOND).expect("a message");
    assert_eq!((texts(&message), message.dropped), (vec!["last"], 2));
}

#[test]
fn nothing_waits_for_longer_than_a_day() {
    let (mut outbox, start) = (outbox(), Instant::now());
    outbox.push(warning("a"), start);
    outbox.push(warning("b"), start + 3600 * SECOND);
    assert_eq!(outbox.forget(start + KEPT), 0);
    assert_eq!(outbox.forget(start + KEPT + SECOND), 1);
    outbox.lose(3);
    let message = outbox.next(start + KEPT + SECOND).expect("a message");
    assert_eq!((texts(&message), message.dropped), (vec!["b"], 4));
}

#[test]
fn who_hurries_waits_neither_for_others_nor_after_a_failure() {
    let (mut outbox, start) = (outbox(), Instant::now());
    outbox.push(warning("a"), start);
    outbox.hurry();
    assert!(outbox.next(start).is_some());
    outbox.done(false, start);
    assert_eq!(outbox.next(start), None, "once");
    outbox.hurry();
    assert!(outbox.next(start).is_some());
}

#[test]
fn who_hurries_while_a_message_is_under_way_hurries_the_next_one() {
    let (mut outbox, start) = (outbox(), Instant::now());
    outbox.push(warning("a"), start);
    assert!(outbox.next(start + 10 * SECOND).is_some());
    outbox.push(warning("b"), start + 11 * SECOND);
    outbox.hurry();
    outbox.done(true, start + 12 * SECOND);
    let message = outbox.next(start + 12 * SECOND).expect("a message");
    assert_eq!(texts(&message), ["b"]);
    outbox.done(true, start + 12 * SECOND);
    outbox.push(warning("c"), start + 12 * SECOND);
    assert_eq!(outbox.due(start + 12 * SECOND), Some(start + 22 * SECOND), "once");
}

#[test]
fn other_rules_hold_for_what_waits() {
    let (mut outbox, start) = (prompt(1), Instant::now());
    outbox.push(warning("a"), start);
    assert!(outbox.next(start).is_some());
    outbox.done(true, start);
    outbox.push(warning("b"), start);
    assert_eq!(outbox.due(start), Some(start + 3600 * SECOND));
    outbox.follow(Rules { limit: 60, ..RULES });
    assert_eq!(outbox.due(start), Some(start + 60 * SECOND), "the only message of an hour has gone");
    outbox.push(warning("c"), start + 3600 * SECOND);
    let message = outbox.next(start + 3600 * SECOND).expect("a message");
    assert_eq!(texts(&message), ["b", "c"]);
}

#[test]
fn what_was_under_way_goes_where_all_goes_from_now_on() {
    let (mut outbox, start) = (outbox(), Instant::now());
    outbox.push(warning("a"), start);
    outbox.lose(2);
    let now = start + 10 * SECOND;
    assert!(outbox.next(now).is_some());
    outbox.done(false, now);
    let now = now + 5 * SECOND;
    assert!(outbox.next(now).is_some());
    outbox.redirect();
    assert_eq!((outbox.due(now), outbox.backoff().lasted(now)), (Some(now), Duration::ZERO));
    let message = outbox.next(now).expect("a message");
    assert_eq!((texts(&message), message.dropped), (vec!["a"], 2));
    outbox.done(true, now);
    assert_eq!(outbox.waiting(), 0);
}

/// What begins and ends at a server.
struct Server(Ongoing);

impl Server {
    fn new() -> Self {
        Self(Ongoing::default())
    }

    fn is(&mut self, event: &str, number: u64) -> Alert {
        let record = Record::new(Level::Warning, event, format!("{event} {number}"));
        self.0.one(Record { number, ..record.service("web").server("www1") })
    }

    fn down(&mut self, number: u64) -> Alert {
        self.is("server_down", number)
    }

    fn up(&mut self, number: u64) -> Alert {
        self.is("server_up", number)
    }
}

/// The message that goes at `now`, and is taken.
fn taken(outbox: &mut Outbox, now: Instant) -> Vec<(State, u64)> {
    let message = outbox.next(now).expect("a message");
    outbox.done(true, now);
    message.alerts.iter().map(|alert| (alert.state, alert.record.number)).collect()
}

#[test]
fn what_lasts_is_told_again_until_it_ends() {
    let (mut server, mut outbox, start) = (Server::new(), outbox(), Instant::now());
    outbox.push(server.down(7), start);
    let mut now = start + 10 * SECOND;
    assert_eq!(taken(&mut outbox, now), [(State::Firing, 7)]);
    for times in 1..4 {
        assert_eq!(outbox.due(now), Some(now + 4 * HOUR));
        outbox.repeat(now + 4 * HOUR - SECOND, |_| true);
        assert_eq!(outbox.waiting(), 0);
        now += 4 * HOUR;
        outbox.repeat(now, |_| true);
        outbox.repeat(now + SECOND, |_| true);
        // As at first: with what happens within the wait.
        assert_eq!((outbox.waiting(), outbox.due(now)), (1, Some(now + 10 * SECOND)));
        now += 10 * SECOND;
        assert_eq!(taken(&mut outbox, now), [(State::Repeated(times), 7)]);
    }
    outbox.push(server.up(8), now);
    now += 10 * SECOND;
    assert_eq!(taken(&mut outbox, now), [(State::Resolved, 8)]);
    outbox.repeat(now + 4 * HOUR, |_| true);
    assert_eq!((outbox.waiting(), outbox.due(now + 4 * HOUR)), (0, None));
}

#[test]
fn what_was_told_anew_is_told_again_as_it_was_then() {
    let (mut server, mut outbox, start) = (Server::new(), outbox(), Instant::now());
    outbox.push(server.down(7), start);
    assert_eq!(taken(&mut outbox, start + 10 * SECOND), [(State::Firing, 7)]);
    let anew = start + HOUR;
    outbox.push(server.down(9), anew);
    assert_eq!(taken(&mut outbox, anew + 10 * SECOND), [(State::Firing, 9)]);
    outbox.repeat(start + 4 * HOUR + 10 * SECOND, |_| true);
    assert_eq!(outbox.waiting(), 0, "it was told since");
    outbox.repeat(anew + 4 * HOUR + 10 * SECOND, |_| true);
    assert_eq!(taken(&mut outbox, anew + 5 * HOUR), [(State::Repeated(1), 9)]);
}

#[test]
fn what_has_ended_is_not_told_again_before_its_end() {
    let (mut server, mut outbox, start) = (Server::new(), outbox(), Instant::now());
    outbox.push(server.down(7), start);
    assert_eq!(taken(&mut outbox, start + 10 * SECOND), [(State::Firing, 7)]);
    let again = start + 5 * HOUR;
    outbox.repeat(again, |_| true);
    outbox.push(server.up(8), again);
    assert_eq!(taken(&mut outbox, again + 10 * SECOND), [(State::Resolved, 8)]);

    // Its end may have been lost on the way.
    outbox.push(server.down(9), again);
    assert_eq!(taken(&mut outbox, again + 10 * SECOND), [(State::Firing, 9)]);
    server.up(10);
    outbox.repeat(again + 5 * HOUR, |alert| server.0.has(alert));
    assert_eq!((outbox.waiting(), outbox.due(again + 5 * HOUR)), (0, None));
}

#[test]
fn what_is_not_taken_is_told_again_no_sooner_than_after_it_was() {
    let (mut server, mut outbox, start) = (Server::new(), outbox(), Instant::now());
    outbox.push(server.down(7), start);
    let mut now = start + 10 * SECOND;
    while now < start + 9 * HOUR {
        assert!(outbox.next(now).is_some());
        outbox.done(false, now);
        now = outbox.due(now).expect("it is tried again");
        outbox.repeat(now, |_| true);
        assert_eq!(outbox.waiting(), 1);
    }
    assert_eq!(taken(&mut outbox, now), [(State::Firing, 7)]);
    assert_eq!(outbox.due(now), Some(now + 4 * HOUR));
}

#[test]
fn what_is_told_again_counts_for_the_limit() {
    let mut outbox = Outbox::new(Rules { limit: 1, repeat: Some(60 * SECOND), ..RULES });
    let (mut server, start) = (Server::new(), Instant::now());
    outbox.push(server.down(7), start);
    let now = start + 10 * SECOND;
    assert_eq!(taken(&mut outbox, now), [(State::Firing, 7)]);
    for minute in 1..=60_u32 {
        outbox.repeat(now + minute * 60 * SECOND, |_| true);
        assert_eq!(outbox.waiting(), 1, "once");
        assert!(minute == 60 || outbox.next(now + minute * 60 * SECOND).is_none());
    }
    assert_eq!(taken(&mut outbox, now + HOUR), [(State::Repeated(1), 7)]);
}

#[test]
fn never_is_never_until_a_reload_says_otherwise() {
    let mut outbox = Outbox::new(Rules { repeat: None, ..RULES });
    let (mut server, start) = (Server::new(), Instant::now());
    outbox.push(server.down(7), start);
    assert_eq!(taken(&mut outbox, start + 10 * SECOND), [(State::Firing, 7)]);
    outbox.repeat(start + 1000 * HOUR, |_| true);
    assert_eq!((outbox.waiting(), outbox.due(start + 1000 * HOUR)), (0, None));
    outbox.follow(RULES);
    outbox.repeat(start + 1000 * HOUR, |_| true);
    assert_eq!(taken(&mut outbox, start + 1001 * HOUR), [(State::Repeated(1), 7)]);
}

//! The machine with chosen results, and with random ones.

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    interval: Duration::from_secs(5),
    fast_interval: Duration::from_secs(5),
    timeout: Duration::from_secs(3),
    rise: 2,
    fall: 3,
};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn bad() -> Outcome {
    Outcome::Bad("connection refused".into())
}

fn good() -> Outcome {
    Outcome::Good(Duration::from_micros(400))
}

/// A machine and its clock, driven as by the task.
struct Bench {
    machine: Machine,
    now: Duration,
    flight: Option<ProbeId>,
    starts: Vec<Duration>,
}

impl Bench {
    fn new(rules: Rules, state: State) -> Self {
        let start = Start { first: s(1), beat: s(1) };
        Self { machine: Machine::new(rules, state, start, 7), now: s(0), flight: None, starts: Vec::new() }
    }

    /// Passes `input` to the machine and returns the outputs that do not concern probes.
    fn feed(&mut self, input: Input) -> Vec<Output> {
        let outputs = self.machine.handle(input, self.now);
        let (probes, news) = outputs.into_iter().partition::<Vec<_>, _>(|output| {
            matches!(output, Output::StartProbe { .. } | Output::AbandonProbe { .. })
        });
        for output in probes {
            match output {
                Output::StartProbe { id, deadline } => {
                    assert_eq!(self.flight.replace(id), None, "two probes in flight");
                    assert_eq!(deadline, self.now + self.machine.rules.timeout);
                    self.starts.push(self.now);
                }
                Output::AbandonProbe { id } => assert_eq!(self.flight.take(), Some(id)),
                _ => unreachable!(),
            }
        }
        news
    }

    fn timer(&mut self) -> Vec<Output> {
        self.now = self.now.max(self.machine.next_timeout().expect("a time-out"));
        self.feed(Input::Timer)
    }

    fn done(&mut self, after: Duration, outcome: Outcome) -> Vec<Output> {
        self.now += after;
        let id = self.flight.take().expect("a probe in flight");
        self.feed(Input::ProbeDone(id, outcome))
    }

    /// A complete probe that takes no time.
    fn round(&mut self, outcome: Outcome) -> Vec<Output> {
        assert_eq!(self.timer(), []);
        self.done(s(0), outcome)
    }
}

fn changed(from: State, to: State, reason: Option<&str>) -> Vec<Output> {
    vec![Output::Changed { from, to, reason: reason.map(str::to_owned) }]
}

fn explained(reason: &str) -> Vec<Output> {
    vec![Output::Explained { reason: Some(reason.to_owned()) }]
}

#[test]
fn first_result_decides_at_once() {
    for (outcome, to, reason) in [(good(), State::Up, None), (bad(), State::Down, Some("connection refused"))]
    {
        let mut bench = Bench::new(RULES, State::Unknown);
        assert_eq!(bench.round(outcome), changed(State::Unknown, to, reason));
        assert_eq!(bench.starts, [s(1)]);
    }
}

#[test]
fn falls_after_three_in_a_row_and_rises_after_two() {
    let mut bench = Bench::new(RULES, State::Unknown);
    bench.round(good());
    assert_eq!(bench.round(bad()), explained("connection refused, 1 of 3 in a row"));
    assert_eq!(bench.round(good()), [Output::Explained { reason: None }]);
    assert_eq!(bench.round(bad()), explained("connection refused, 1 of 3 in a row"));
    assert_eq!(bench.round(bad()), explained("connection refused, 2 of 3 in a row"));
    assert_eq!(bench.round(bad()), changed(State::Up, State::Down, Some("connection refused")));
    assert_eq!(bench.round(bad()), []);
    assert_eq!(bench.round(Outcome::Bad("status 500".into())), explained("status 500"));
    assert_eq!(bench.round(good()), explained("answers again, 1 of 2 in a row"));
    assert_eq!(bench.round(good()), changed(State::Down, State::Up, None));
    assert_eq!(bench.round(good()), []);
}

/// Starts are moved by at most a tenth of an interval of 5 s.
#[track_caller]
fn assert_starts(bench: &Bench, beats: &[f64]) {
    let off = |(start, beat): (&Duration, &f64)| (start.as_secs_f64() - beat).abs();
    let close = bench.starts.iter().zip(beats).all(|pair| off(pair) <= 0.5);
    assert!(close && bench.starts.len() == beats.len(), "{:?} is not {beats:?}", bench.starts);
}

#[test]
fn starts_keep_their_beat_and_never_overlap() {
    let mut bench = Bench::new(Rules { timeout: s(20), ..RULES }, State::Unknown);
    for took in [1, 6, 3, 9, 0] {
        if bench.flight.is_none() {
            bench.timer();
        }
        bench.done(s(took), good());
    }
    // The probe of 6 s ends at 12 s, 1 s after the next one was due, which starts at once; the beat
    // is unchanged. The probe of 17 s ends when it is nearer to the beat at 26 s than to the one at
    // 21 s.
    assert_starts(&bench, &[1.0, 6.0, 12.0, 16.0, 26.0]);
}

#[test]
fn results_against_the_state_make_haste() {
    let mut bench = Bench::new(Rules { fast_interval: s(1), ..RULES }, State::Unknown);
    bench.round(good());
    bench.round(bad());
    bench.round(bad());
    bench.round(bad());
    assert_eq!(bench.machine.state(), State::Down);
    bench.round(bad());
    bench.round(good());
    bench.round(good());
    assert_eq!(bench.machine.state(), State::Up);
    bench.round(good());
    // The third failure at 8 s takes the server down, the second success at 19 s brings it up.
    assert_starts(&bench, &[1.0, 6.0, 7.0, 8.0, 13.0, 18.0, 19.0, 24.0]);
}

#[test]
fn a_probe_that_outlives_its_time_is_abandoned_and_failed() {
    let mut bench = Bench::new(RULES, State::Unknown);
    bench.timer();
    let late = bench.flight.expect("a probe in flight");
    assert_eq!(bench.timer(), changed(State::Unknown, State::Down, Some("no result within 3s")));
    assert_eq!((bench.now, bench.flight), (s(4), None));
    assert_eq!(bench.feed(Input::ProbeDone(late, good())), [], "its result comes too late");
    assert_eq!(bench.machine.state(), State::Down);
    bench.timer();
    assert_starts(&bench, &[1.0, 6.0]);
}

#[test]
fn a_stalled_controller_does_not_catch_up_in_a_burst() {
    let mut bench = Bench::new(RULES, State::Unknown);
    bench.round(good());
    bench.now = s(99);
    bench.feed(Input::Timer);
    bench.timer();
    bench.done(s(0), good());
    bench.timer();
    assert_starts(&bench, &[1.0, 101.0, 106.0]);
}

#[test]
fn what_could_not_be_tried_says_nothing_of_the_server() {
    let mut bench = Bench::new(Rules { fall: 2, ..RULES }, State::Unknown);
    bench.round(good());
    bench.round(bad());
    let void = Outcome::Void("too many open files".into());
    assert_eq!(bench.round(void.clone()), explained("not checked: too many open files"));
    assert_eq!(bench.round(void), []);
    assert_eq!(bench.machine.state(), State::Up);
    assert_eq!(bench.round(bad()), changed(State::Up, State::Down, Some("connection refused")));
}

#[test]
fn a_changed_check_keeps_the_state_until_its_first_result() {
    let mut bench = Bench::new(RULES, State::Up);
    assert_eq!(bench.machine.state(), State::Up);
    assert_eq!(bench.round(bad()), changed(State::Up, State::Down, Some("connection refused")));
    let mut bench = Bench::new(RULES, State::Up);
    assert_eq!(bench.round(good()), []);
    assert_eq!(bench.round(bad()), explained("connection refused, 1 of 3 in a row"));
}

/// An action of a driver.
#[derive(Debug, Clone)]
enum Step {
    /// The timer, this many milliseconds late.
    Timer(u64),
    /// The timer, too early.
    Early,
    /// The probe in flight ends, at the latest this long before its deadline.
    Done(u64, Outcome),
    /// The result of an abandoned probe.
    Stale(Outcome),
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![4 => Just(good()), 4 => Just(bad()), 1 => Just(Outcome::Void("no socket".into()))]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..50u64).prop_map(Step::Timer),
        1 => Just(Step::Early),
        8 => (0..400u64, outcomes()).prop_map(|(after, outcome)| Step::Done(after, outcome)),
        1 => outcomes().prop_map(Step::Stale),
    ];
    prop::collection::vec(step, 1..200)
}

fn rules() -> impl Strategy<Value = Rules> {
    (1..300u64, 1..300u64, 1..300u64, 1..5u32, 1..5u32).prop_map(|(interval, fast, timeout, rise, fall)| {
        Rules {
            interval: Duration::from_millis(interval),
            fast_interval: Duration::from_millis(fast.min(interval)),
            timeout: Duration::from_millis(timeout),
            rise,
            fall,
        }
    })
}

/// A model of the machine's counts, computed from the list of all results.
fn state_by_history(rules: &Rules, history: &[bool]) -> State {
    let Some((&first, rest)) = history.split_first() else { return State::Unknown };
    let mut up = first;
    let mut row = Vec::new();
    for &result in rest {
        if result == up {
            row.clear();
        } else {
            row.push(result);
        }
        if row.len() == if up { rules.fall } else { rules.rise } as usize {
            up = !up;
            row.clear();
        }
    }
    if up { State::Up } else { State::Down }
}

proptest! {
    #[test]
    fn holds_its_promises(rules in rules(), steps in steps()) {
        let mut bench = Bench::new(rules, State::Unknown);
        let (mut history, mut state, mut stale) = (Vec::new(), State::Unknown, None);
        for step in steps {
            let flight = bench.flight;
            let deadline = bench.machine.next_timeout().expect("a time-out");
            let news = match step {
                Step::Timer(late) => {
                    bench.now = bench.now.max(deadline) + Duration::from_millis(late);
                    if flight.is_some() {
                        stale = flight;
                        history.push(false);
                    }
                    bench.feed(Input::Timer)
                }
                Step::Early => bench.feed(Input::Timer),
                Step::Done(after, outcome) => {
                    if flight.is_none() { continue; }
                    match outcome {
                        Outcome::Good(_) => history.push(true),
                        Outcome::Bad(_) => history.push(false),
                        Outcome::Void(_) => {}
                    }
                    bench.done(Duration::from_millis(after).min(deadline - bench.now), outcome)
                }
                Step::Stale(outcome) => match stale {
                    Some(id) => bench.feed(Input::ProbeDone(id, outcome)),
                    None => continue,
                },
            };
            let changes = news.iter().filter_map(|output| match output {
                Output::Changed { from, to, reason } => Some((*from, *to, reason.is_some())),
                _ => None,
            });
            for (from, to, explained) in changes {
                prop_assert_eq!(from, state, "changes follow one another");
                prop_assert_ne!(from, to);
                prop_assert_eq!(explained, to == State::Down, "down has a reason, up has none");
                state = to;
            }
            prop_assert_eq!(state, bench.machine.state(), "every change is told");
            prop_assert_eq!(state, state_by_history(&rules, &history));
            let next = bench.machine.next_timeout().expect("a time-out");
            prop_assert!(next > bench.now, "a time-out that has passed would spin");
            // A start that is late by half an interval does not move the next one; jitter may move
            // it by a fiftieth.
            let least = rules.fast_interval.mul_f64(0.47);
            prop_assert!(bench.starts.windows(2).all(|pair| pair[1] - pair[0] >= least), "{:?}", bench.starts);
        }
    }
}

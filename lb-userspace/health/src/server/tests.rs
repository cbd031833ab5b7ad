//! The machine with chosen inputs, and compared with a simple model.

use proptest::prelude::*;

use super::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rules(checks: usize) -> Rules {
    Rules { weight: 10, checks: vec!["http"; checks], slow_start: Duration::ZERO, damping: None }
}

/// A machine and its clock.
struct Bench {
    machine: Machine,
    now: Duration,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self { machine: Machine::new(rules, s(0)), now: s(0) }
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(input, self.now)
    }

    fn up(&mut self, index: usize) -> Vec<Output> {
        self.give(found(index, State::Up, None))
    }

    fn down(&mut self, index: usize) -> Vec<Output> {
        self.give(found(index, State::Down, Some("connection refused")))
    }

    /// Advances the clock by `seconds`, with timer inputs at the machine's deadlines.
    fn pass(&mut self, seconds: u64) -> Vec<Output> {
        let end = self.now + s(seconds);
        let mut outputs = Vec::new();
        while let Some(at) = self.machine.next_timeout().filter(|at| *at <= end) {
            assert!(at > self.now, "a time-out that has passed would spin");
            self.now = at;
            outputs.extend(self.give(Input::Timer));
        }
        self.now = end;
        outputs
    }

    fn advise(&mut self, index: usize, advice: Advice) {
        let result = CheckResult { state: State::Up, advice: Some(advice), ..CheckResult::NOTHING };
        self.give(Input::Found { index, result });
    }
}

fn found(index: usize, state: State, reason: Option<&str>) -> Input {
    Input::Found {
        index,
        result: CheckResult { state, reason: reason.map(str::to_owned), ..CheckResult::NOTHING },
    }
}

fn changed(from: Health, to: Health, lasted: u64, reason: Option<&str>) -> Output {
    Output::Changed { from, to, lasted: s(lasted), reason: reason.map(str::to_owned) }
}

#[test]
fn all_checks_must_be_passed() {
    let mut bench = Bench::new(rules(2));
    assert_eq!(bench.up(0), []);
    assert_eq!(
        (bench.machine.health(), bench.machine.availability()),
        (Health::Unknown, Availability::Unknown)
    );
    assert_eq!(bench.up(1), [changed(Health::Unknown, Health::Up, 0, None)]);
    assert_eq!(bench.machine.availability(), Availability::Usable { weight: 10 });
    bench.now = s(7);
    let reason = Some("check 2 (http): connection refused");
    assert_eq!(bench.down(1), [changed(Health::Up, Health::Down, 7, reason), Output::WentDown]);
    assert_eq!(bench.down(0), [], "it is down already");
    assert_eq!(bench.machine.reason().as_deref(), Some("check 1 (http): connection refused"));
    assert_eq!(bench.up(1), []);
    assert_eq!(bench.up(0), [changed(Health::Down, Health::Up, 0, None), Output::CameBack]);
}

#[test]
fn one_check_that_fails_is_enough_from_the_start() {
    let mut bench = Bench::new(rules(2));
    let reason = Some("check 1 (http): connection refused");
    assert_eq!(bench.down(0), [changed(Health::Unknown, Health::Down, 0, reason), Output::WentDown]);
    assert_eq!((bench.machine.availability(), bench.machine.weight()), (Availability::Down, 0));
}

#[test]
fn what_speaks_against_a_server_that_is_up_is_told() {
    let mut bench = Bench::new(rules(1));
    bench.up(0);
    assert_eq!(bench.give(found(0, State::Up, Some("status 500, 1 of 3 in a row"))), []);
    assert_eq!(bench.machine.reason().as_deref(), Some("status 500, 1 of 3 in a row"));
}

#[test]
fn without_a_check_it_is_taken_to_be_healthy() {
    let mut bench = Bench::new(rules(0));
    assert_eq!(bench.machine.availability(), Availability::Usable { weight: 10 });
    assert_eq!(bench.machine.health(), Health::Unchecked);
    assert_eq!(bench.down(0), [], "a late word of a check that is gone");
}

#[test]
fn a_check_that_is_added_takes_no_server_out_before_it_has_spoken() {
    let mut bench = Bench::new(rules(0));
    let reported = bench.give(Input::Rules(rules(1)));
    assert_eq!(reported, [changed(Health::Unchecked, Health::Up, 0, None)]);
    bench.give(Input::Rules(rules(2)));
    assert_eq!(bench.machine.availability(), Availability::Usable { weight: 10 });
    bench.down(1);
    assert_eq!(bench.machine.availability(), Availability::Down);
    bench.give(Input::Rules(rules(1)));
    assert_eq!(bench.machine.availability(), Availability::Down, "the first one has not spoken either");
    bench.up(0);
    assert_eq!(bench.machine.availability(), Availability::Usable { weight: 10 });
}

#[test]
fn the_weight_grows_when_a_server_comes_back_and_not_at_first() {
    let mut bench = Bench::new(Rules { weight: 21, slow_start: s(20), ..rules(1) });
    bench.up(0);
    assert_eq!(bench.machine.weight(), 21, "lb has just started");
    bench.down(0);
    bench.up(0);
    let mut weights = vec![bench.machine.weight()];
    for _ in 0..20 {
        bench.pass(1);
        weights.push(bench.machine.weight());
    }
    assert_eq!(weights, (1..=21).collect::<Vec<u16>>());
    assert_eq!((bench.machine.weight_limiter(), bench.machine.next_timeout()), (None, None));
    bench.give(Input::Maintenance(Some("new disk".into())));
    bench.give(Input::Maintenance(None));
    assert_eq!((bench.machine.weight(), bench.machine.weight_limiter()), (1, Some(WeightLimiter::SlowStart)));
    bench.pass(10);
    bench.down(0);
    bench.up(0);
    assert_eq!(bench.machine.weight(), 1, "it begins anew");
}

#[test]
fn c6_the_weight_of_a_newcomer_grows() {
    let grows = Rules { weight: 21, slow_start: s(20), ..rules(1) };
    let mut bench = Bench { machine: Machine::newcomer(grows.clone(), s(0)), now: s(0) };
    bench.pass(50);
    bench.up(0);
    assert_eq!((bench.machine.weight(), bench.machine.weight_limiter()), (1, Some(WeightLimiter::SlowStart)));
    bench.pass(10);
    assert_eq!(bench.machine.weight(), 11);
    bench.pass(10);
    assert_eq!((bench.machine.weight(), bench.machine.weight_limiter()), (21, None));
    let unchecked = Machine::newcomer(Rules { checks: Vec::new(), ..grows }, s(0));
    assert_eq!(unchecked.weight(), 1, "without a check, too");
}

#[test]
fn c7b_a_server_without_a_check_that_is_not_reached_is_down() {
    let mut bench = Bench::new(Rules { weight: 21, slow_start: s(20), ..rules(0) });
    bench.now = s(7);
    let reason = || Some("no answer to ARP".to_owned());
    let reported = bench.give(Input::Unreached(reason()));
    let down = changed(Health::Unchecked, Health::Down, 7, reason().as_deref());
    assert_eq!(reported, [down, Output::WentDown]);
    assert_eq!((bench.machine.availability(), bench.machine.reason()), (Availability::Down, reason()));
    let reported = bench.give(Input::Unreached(None));
    assert_eq!(reported, [changed(Health::Down, Health::Unchecked, 0, None), Output::CameBack]);
    assert_eq!(bench.machine.weight(), 1, "it has been away");

    let mut checked = Bench::new(rules(1));
    checked.up(0);
    assert_eq!(checked.give(Input::Unreached(reason())), [], "its check judges");
    assert_eq!(checked.machine.reason(), None);
}

#[test]
fn advice_weighs_in_and_the_least_counts() {
    let mut bench = Bench::new(rules(2));
    bench.up(1);
    let mut weight = |advice| {
        bench.advise(0, advice);
        bench.machine.weight()
    };
    assert_eq!(weight(Advice::Weight(300)), 300);
    assert_eq!(weight(Advice::Weight(0)), 0);
    assert_eq!(weight(Advice::Percent(1)), 1, "a little is not nothing");
    assert_eq!(weight(Advice::Percent(0)), 0);
    assert_eq!(weight(Advice::Percent(250)), 25);
    bench.advise(1, Advice::Weight(4));
    assert_eq!((bench.machine.weight(), bench.machine.weight_limiter()), (4, Some(WeightLimiter::Advice)));
    assert_eq!(bench.machine.availability(), Availability::Usable { weight: 4 });
    bench.give(Input::Rules(Rules { weight: 0, ..rules(2) }));
    assert_eq!(bench.machine.weight(), 0, "an operator's 0 stands");
    bench.give(Input::Rules(Rules { weight: 65535, ..rules(2) }));
    bench.advise(0, Advice::Percent(65535));
    bench.up(1);
    assert_eq!(bench.machine.weight(), 65535);
}

#[test]
fn maintenance_keeps_connections_and_bothers_nobody() {
    let mut bench = Bench::new(rules(1));
    bench.up(0);
    bench.now = s(9);
    let reported = bench.give(Input::Maintenance(Some("new disk".into())));
    assert_eq!(reported, [changed(Health::Up, Health::Maintenance, 9, Some("new disk"))]);
    assert_eq!(bench.machine.availability(), Availability::Usable { weight: 0 }, "UDP connections stay, too");
    assert_eq!(bench.down(0), []);
    assert_eq!(bench.machine.availability(), Availability::Down);
    assert_eq!(bench.machine.reason().as_deref(), Some("new disk; connection refused"));
    bench.up(0);
    assert_eq!(bench.give(Input::Maintenance(None)), [changed(Health::Maintenance, Health::Up, 0, None)]);

    bench.give(Input::Maintenance(Some("new disk".into())));
    bench.down(0);
    let ended = bench.give(Input::Maintenance(None));
    let refused = Some("connection refused");
    assert_eq!(ended, [changed(Health::Maintenance, Health::Down, 0, refused), Output::WentDown]);
    bench.give(Input::Maintenance(Some("new disk".into())));
    bench.up(0);
    let ended = bench.give(Input::Maintenance(None));
    assert_eq!(ended, [changed(Health::Maintenance, Health::Up, 0, None), Output::CameBack]);
}

#[test]
fn a_server_that_comes_and_goes_is_kept_out() {
    let damping = Some(Damping { falls: 2, within: s(60), hold: s(30) });
    let mut bench = Bench::new(Rules { damping, ..rules(1) });
    for _ in 0..2 {
        bench.up(0);
        bench.pass(5);
        bench.down(0);
    }
    bench.pass(5);
    assert_eq!(bench.up(0), [], "well, but not back");
    assert_eq!((bench.machine.health(), bench.machine.availability()), (Health::Down, Availability::Down));
    let reason = "kept out until it has been healthy for 30s: it went down 2 times within 1m";
    assert_eq!(bench.machine.reason().as_deref(), Some(reason));
    assert_eq!(bench.pass(29), []);
    bench.down(0);
    bench.up(0);
    assert_eq!(bench.pass(29), [], "from the beginning");
    assert_eq!(bench.pass(1), [changed(Health::Down, Health::Up, 64, None), Output::CameBack]);
}

#[test]
fn changes_are_counted_by_what_the_server_became_and_the_first_verdict_is_none() {
    let mut bench = Bench::new(rules(1));
    bench.up(0);
    assert_eq!(bench.machine.transitions(), Transitions::default());
    for _ in 0..2 {
        bench.down(0);
        bench.down(0);
        bench.up(0);
    }
    bench.give(Input::Maintenance(Some("new disk".into())));
    assert_eq!(bench.machine.transitions(), Transitions { up: 2, down: 2, maintenance: 1 });
}

#[test]
fn warnings_are_told_with_their_check() {
    let mut bench = Bench::new(Rules { checks: vec!["tcp", "https"], ..rules(0) });
    let warning = Some("its certificate ends in 3days".to_owned());
    bench.give(Input::Found {
        index: 1,
        result: CheckResult { state: State::Up, warning, ..CheckResult::NOTHING },
    });
    let reported = bench.machine.warning();
    assert_eq!(reported.as_deref(), Some("check 2 (https): its certificate ends in 3days"));
}

/// An event of a server with two checks.
#[derive(Debug, Clone)]
enum Step {
    Found(usize, bool, Option<Advice>),
    Maintenance(bool),
    Sleep(u64),
    Early,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let advice = prop_oneof![
        4 => Just(None),
        1 => (0..20u16).prop_map(|weight| Some(Advice::Weight(weight))),
        1 => (0..200u16).prop_map(|percent| Some(Advice::Percent(percent))),
    ];
    let step = prop_oneof![
        8 => (0..2usize, any::<bool>(), advice).prop_map(|(index, up, advice)| Step::Found(index, up, advice)),
        1 => any::<bool>().prop_map(Step::Maintenance),
        6 => (1..20u64).prop_map(Step::Sleep),
        1 => Just(Step::Early),
    ];
    prop::collection::vec(step, 1..150)
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let damping =
        proptest::option::of((2..4u32, 1..100u64, 1..40u64).prop_map(|(falls, within, hold)| Damping {
            falls,
            within: s(within),
            hold: s(hold),
        }));
    (0..40u16, 0..60u64, damping).prop_map(|(weight, slow_start, damping)| Rules {
        weight,
        slow_start: s(slow_start),
        damping,
        ..rules(2)
    })
}

/// The model: computes the machine's results from all events so far.
struct Model {
    rules: Rules,
    checks: [Option<(bool, Option<Advice>)>; 2],
    maintenance: bool,
    was_up: bool,
    falls: Vec<Duration>,
    /// Since when the server must be healthy, if it is damped.
    damped: Option<Duration>,
}

impl Model {
    fn learn(&mut self, step: &Step, now: Duration) {
        match step {
            Step::Found(index, up, advice) => self.checks[*index] = Some((*up, *advice)),
            Step::Maintenance(on) => self.maintenance = *on,
            Step::Sleep(_) | Step::Early => {}
        }
        let up = self.is_up();
        let Some(Damping { falls, within, hold }) = self.rules.damping else { return };
        if self.was_up && !up {
            self.falls.push(now);
            if self.falls.iter().filter(|fall| now - **fall < within).count() >= falls as usize {
                self.damped = Some(now);
            }
        }
        if !up && self.damped.is_some() {
            self.damped = Some(now);
        }
        self.was_up = up;
        let served = |since: &Duration| up && now >= *since + hold;
        if self.damped.is_some_and(|since| served(&since)) {
            self.damped = None;
            self.falls.clear();
        }
    }

    fn is_up(&self) -> bool {
        self.checks.iter().all(|check| check.is_some_and(|(up, _)| up))
    }

    fn limit(&self) -> u16 {
        let Rules { weight, .. } = self.rules;
        let advised = self.checks.iter().flatten().filter_map(|(_, advice)| *advice);
        let weights = advised.map(|advice| match advice {
            Advice::Weight(weight) => weight,
            Advice::Percent(percent) => (f64::from(weight) * f64::from(percent) / 100.0).ceil() as u16,
        });
        if weight == 0 { 0 } else { weights.min().unwrap_or(weight) }
    }
}

proptest! {
    #[test]
    fn holds_its_promises(rules in any_rules(), steps in steps()) {
        let mut bench = Bench::new(rules.clone());
        let mut model = Model {
            rules, checks: [None; 2], maintenance: false, was_up: false, falls: Vec::new(), damped: None,
        };
        let mut before = (0, Health::Unknown, 0);
        for step in steps {
            let outputs = match &step {
                Step::Found(index, up, advice) => {
                    let (state, reason) =
                        if *up { (State::Up, None) } else { (State::Down, Some("refused".to_owned())) };
                    let result = CheckResult { state, reason, advice: *advice, warning: None };
                    bench.give(Input::Found { index: *index, result })
                }
                Step::Maintenance(on) => bench.give(Input::Maintenance(on.then(|| "a reason".to_owned()))),
                Step::Sleep(seconds) => bench.pass(*seconds),
                Step::Early => bench.give(Input::Timer),
            };
            model.learn(&step, bench.now);
            let machine = &bench.machine;
            let (weight, limit) = (machine.weight(), model.limit());
            prop_assert!(weight <= limit, "{weight} of {limit}");
            let well = model.is_up() && model.damped.is_none();
            prop_assert_eq!(matches!(machine.availability(), Availability::Usable { .. }), well);
            prop_assert_eq!(machine.health() == Health::Up, well && !model.maintenance);
            prop_assert_eq!(machine.health() == Health::Maintenance, model.maintenance);
            prop_assert!(machine.health() == Health::Up || weight == 0);
            let (old_weight, old_health, old_limit) = before;
            let grows = machine.health() == Health::Up && old_health == Health::Up && old_limit == limit;
            let broken = outputs.iter().any(|output| matches!(output, Output::Changed { .. }));
            prop_assert!(!grows || broken || weight >= old_weight, "shrinks from {old_weight} to {weight}");
            before = (weight, machine.health(), limit);
        }
        if bench.machine.health() == Health::Up {
            bench.pass(60);
            prop_assert_eq!(bench.machine.weight(), model.limit(), "it has grown up");
        }
    }
}

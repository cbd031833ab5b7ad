use std::time::Duration;

use crate::figures::{Heal, Join, Size};
use crate::measure::simulate;
use crate::plan::Plan;
use crate::report;

fn plan() -> Plan {
    Plan {
        rates: Some(vec![20]),
        measured: Duration::from_secs(2),
        connections: 30,
        loss: 1.0,
        seed: 7,
        threads: 1,
    }
}

fn run(directors: usize, plan: &Plan) -> Size {
    let mut size = simulate(directors, plan, &mut |_| ());
    // What is measured differs from run to run.
    size.costs.iter_mut().for_each(|cost| cost.busy_share = 0.0);
    size.join.iter_mut().for_each(|join| join.busy_s = 0.0);
    size
}

#[test]
fn a_seed_gives_the_same_figures_on_any_number_of_processors() {
    let one = run(4, &plan());
    assert_eq!(one, run(4, &plan()));
    assert_eq!(one, run(4, &Plan { threads: 3, ..plan() }));
    assert_ne!(one, run(4, &Plan { seed: 8, ..plan() }));
}

#[test]
fn clusters_converge_whatever_gets_lost() {
    for (directors, loss) in [(2, 0.0), (3, 20.0), (5, 3.0)] {
        let Size { costs, memory, join, heal, .. } = run(directors, &Plan { loss, ..plan() });
        let Join { knows_all_s, in_step_s, received_mbyte, .. } = join.expect("one joins");
        assert!(knows_all_s.zip(in_step_s).is_some_and(|(all, says)| 0.0 < all && all <= says), "{join:?}");
        assert!(received_mbyte > 0.0);
        let Heal { know_all_s, in_step_s, .. } = heal.expect("some are cut off");
        assert!(know_all_s.is_some_and(|all| all > 0.0) && in_step_s.is_some(), "{heal:?}");
        assert_eq!(memory.connections, 30 * directors);
        assert!(memory.peers_bytes_most >= memory.peers_bytes, "{memory:?}");
        let [idle, busy] = costs[..] else { panic!("{costs:?}") };
        assert_eq!((idle.new_per_s, idle.known), (0, None));
        assert!(idle.sent_per_s < busy.sent_per_s && idle.sent_mbit_s < busy.sent_mbit_s, "{costs:?}");
        let lags = busy.known.expect("it was measured");
        assert!(lags.p50_ms >= 2.0 && lags.p50_ms <= lags.p99_ms, "{lags:?}");
        if loss == 0.0 {
            assert!(lags.p99_ms <= 10.0, "{lags:?}");
            assert_eq!(busy.sent_per_s.round(), busy.received_per_s.round());
        }
    }
}

/// What a connection adds to the traffic of a director goes by the number of others.
#[test]
fn what_a_connection_costs_for_each_other_director_does_not_go_by_their_number() {
    let bytes = |directors| {
        let size = run(directors, &Plan { loss: 0.0, ..plan() });
        size.marginal(&size.costs[1]).expect("a rate").bytes
    };
    let (few, many) = (bytes(3), bytes(9));
    assert!(few > 3.0 * 14.0, "{few}");
    assert!((few / many - 1.0).abs() < 0.25, "{few} with three, {many} with nine");
}

#[test]
fn more_directors_than_have_numbers_are_calculated() {
    let nine = run(9, &plan());
    let scaled = nine.scaled(33);
    assert_eq!((scaled.calculated_from, scaled.join, scaled.heal), (Some(9), None, None));
    assert_eq!(scaled.costs[1].sent_per_s, nine.costs[1].sent_per_s * 4.0);
    assert_eq!(scaled.memory.connections, nine.memory.connections * 33 / 9);
    let bytes = |size: &Size| size.marginal(&size.costs[1]).expect("a rate").bytes.round();
    assert_eq!(bytes(&scaled), bytes(&nine));
    let text = report::text(&[nine, scaled]);
    assert!(text.contains("33 directors are calculated from 9"), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    // Two heads with their rules, two rates of two sizes, and two sizes.
    assert_eq!(rows.len(), 2 * 2 + 2 * 2 + 2, "{text}");
}

#[test]
fn what_is_not_asked_for_is_affordable() {
    let plan = Plan { rates: None, ..plan() };
    assert_eq!(plan.rates(3), [0, 4, 40, 400, 4_000, 40_000]);
    assert_eq!(plan.rates(30), [0, 4, 40, 400]);
    assert_eq!(plan.rates(256), [0, 4]);
    assert_eq!(Plan { rates: Some(vec![9, 5]), ..plan }.rates(256), [0, 5, 9]);
}

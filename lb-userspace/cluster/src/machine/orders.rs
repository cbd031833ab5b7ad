//! Orders of operators close to each other, at one director or at several: whatever is ordered, one
//! director has the group, and no event and no finding tells of two.
//!
//! What is let go on purpose: a director that is stopped with everybody else out leaves the group
//! to nobody.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use plot::{Act, Delays, Plot, ms};
use scene::Scene;

mod plot;
mod scene;

const PLOT: Plot = Plot {
    directors: 2,
    vips: 2,
    failback: Failback::Auto { delay: Duration::ZERO },
    delays: Delays { least: Duration::ZERO, spread: Duration::ZERO, seed: 1 },
    work: ms(1),
    watch_late: Duration::ZERO,
};

/// How long nobody may have the group in planned moves, though messages overtake each other: an
/// offer is over after half a dead time, and who made it waits two more, and one for others.
const MOVED: Duration = ms(700);
/// And with stops, kills and freezes: a start listens for a second.
const BACK: Duration = ms(4000);

/// What the documents' lab did: the watch had announcements of the other director to read.
#[test]
fn a_failback_right_after_a_failover_is_no_split_brain() {
    for pause in (0..500).step_by(5).chain((500..=5000).step_by(100)) {
        for back_at in [0, 1] {
            let mut scene = Scene::new(PLOT);
            scene.at(0, 0, Act::Failover);
            scene.at(pause, back_at, Act::Failback);
            scene.run(ms(12_000));
            let alarms = scene.alarms();
            assert!(alarms.is_empty(), "after {pause} ms, given at {back_at}: {alarms:?}");
            assert_eq!(scene.overlap, Duration::ZERO, "after {pause} ms, given at {back_at}");
            assert!(scene.longest_gap < ms(5), "{:?} after {pause} ms", scene.longest_gap);
        }
    }
}

/// It serves within its lease, so nobody has seen two.
#[test]
fn a_director_that_thaws_tells_of_no_split_brain() {
    for frozen in (50..2000).step_by(50) {
        let mut scene = Scene::new(PLOT);
        scene.at(0, 0, Act::Freeze(frozen));
        scene.run(ms(12_000));
        assert!(scene.alarms().is_empty(), "frozen for {frozen} ms: {:?}", scene.alarms());
        assert_eq!(scene.overlap, Duration::ZERO, "frozen for {frozen} ms");
    }
}

#[derive(Debug, Clone)]
struct Story {
    plot: Plot,
    /// Milliseconds after the one before, at which director, what.
    acts: Vec<(u64, usize, Act)>,
}

fn failbacks() -> impl Strategy<Value = Failback> {
    let auto = |delay| Failback::Auto { delay: ms(delay) };
    select(vec![auto(0), auto(300), Failback::Manual])
}

/// How long heartbeats are under way at least and at most, milliseconds.
fn plots(least: u64, spread: u64) -> impl Strategy<Value = Plot> {
    let delays = (0..=least, 0..=spread, any::<u64>());
    let delays =
        delays.prop_map(|(least, spread, seed)| Delays { least: ms(least), spread: ms(spread), seed });
    let times = (select(vec![0, 1, 20, 60]), select(vec![0, 5, 50, 300]));
    (2..=3usize, 1..=4usize, failbacks(), delays, times).prop_map(
        |(directors, vips, failback, delays, (work, late))| {
            let (work, watch_late) = (ms(work), ms(late));
            Plot { directors, vips, failback, delays, work, watch_late }
        },
    )
}

fn stories(plots: impl Strategy<Value = Plot>, acts: &[Act], pause: u64) -> impl Strategy<Value = Story> {
    let acts = acts.to_vec();
    plots.prop_flat_map(move |plot| {
        let act = (0..=pause, 0..plot.directors, select(acts.clone()));
        vec(act, 1..8).prop_map(move |acts| Story { plot, acts })
    })
}

fn holds(story: &Story, longest_gap: Duration) -> Result<(), TestCaseError> {
    let mut scene = Scene::new(story.plot);
    let mut at = 0;
    for (pause, node, act) in &story.acts {
        at += pause;
        scene.at(at, *node, *act);
    }
    scene.run(ms(at + 15_000));
    prop_assert_eq!(scene.overlap, Duration::ZERO, "two owners");
    prop_assert!(scene.alarms().is_empty(), "{:?}", scene.alarms());
    prop_assert!(scene.longest_gap < longest_gap, "nobody has it for {:?}", scene.longest_gap);
    Ok(())
}

const MOVES: [Act; 4] = [Act::Failover, Act::Failback, Act::Behind(true), Act::Behind(false)];
const ALL: [Act; 16] = [
    Act::Failover,
    Act::Failback,
    Act::Standby,
    Act::Resume,
    Act::Maintenance(true),
    Act::Maintenance(false),
    Act::Forget,
    Act::Learn,
    Act::Stop,
    Act::Kill,
    Act::Start,
    Act::Freeze(120),
    Act::Freeze(400),
    Act::Freeze(3000),
    Act::Behind(true),
    Act::Behind(false),
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn moves_close_to_each_other_have_one_owner(story in stories(plots(0, 50), &MOVES, 5000)) {
        holds(&story, MOVED)?;
    }

    /// Beyond what the machine promises of messages that are late: they all are, by the same time.
    #[test]
    fn moves_on_a_long_way_have_one_owner(story in stories(plots(200, 0), &MOVES, 1000)) {
        holds(&story, MOVED)?;
    }

    #[test]
    fn orders_of_all_kinds_close_to_each_other_have_one_owner(story in stories(plots(0, 50), &ALL, 1000)) {
        holds(&story, BACK)?;
    }
}

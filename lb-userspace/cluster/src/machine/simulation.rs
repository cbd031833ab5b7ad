//! Long runs of larger clusters with many faults at random, and inputs that make no sense at all.
//!
//! What fails is shrunk by proptest to a short list of faults; `PROPTEST_CASES` sets how many runs
//! there are.

use lb_model::ids::GroupNumber;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::message::GroupStatus;
use super::world::*;
use super::*;

/// Ticks to wait, then a fault.
type Plan = Vec<(u32, Fault)>;

/// With or without partitions: they excuse so much of the first promise that what else goes wrong
/// could hide behind them.
fn faults(nodes: usize, cuts_too: bool) -> impl Strategy<Value = Fault> {
    let node = 0..nodes;
    prop_oneof![
        4 => (node.clone(), node.clone(), 0..PATH_COUNT).prop_flat_map(move |(node, other, path)| {
            let other = if other == node { (other + 1) % nodes } else { other };
            let cuts = [Fault::CutOneWay(node, other), Fault::CutAll, Fault::HealOneWay(node, other)];
            let cuts = cuts.into_iter().filter(|_| cuts_too);
            let others = [
                Fault::Crash(node),
                Fault::Freeze(node),
                Fault::CutPath(path),
                Fault::Lose(node),
                Fault::Delay(node),
                Fault::Repeat(node),
                Fault::LinkDown(node),
                Fault::DataPathDown(node),
                Fault::CutOff(node),
                Fault::TakeoverFails(node),
                Fault::Forget(node),
            ];
            select(others.into_iter().chain(cuts).collect::<Vec<_>>())
        }),
        4 => node.clone().prop_flat_map(|node| {
            select(vec![Fault::Restart(node), Fault::Thaw(node), Fault::Heal, Fault::Mend(node), Fault::Learn(node)])
        }),
        1 => (node, commands()).prop_map(|(node, command)| Fault::Command(node, command)),
    ]
}

fn commands() -> impl Strategy<Value = Command> {
    let group = GroupId(1);
    select(vec![
        Command::Failover(GROUP),
        Command::Failback(GROUP),
        Command::Failover(group),
        Command::Failback(group),
        Command::Standby,
        Command::Resume,
        Command::Maintenance(true),
        Command::Maintenance(false),
    ])
}

/// Thousandths off, either way.
fn speeds(off: u64) -> impl Strategy<Value = Speeds> {
    let work = select(vec![100, 2_000, 15_000, 30_000]);
    (prop::array::uniform4(1000 - off..=1000 + off), prop::array::uniform4(work))
        .prop_map(|(rates, work)| Speeds { rates, work })
}

/// A world that has just started, and what will happen to it.
fn runs(off: u64, cuts: impl Strategy<Value = bool>) -> impl Strategy<Value = (World, Plan)> {
    (2..=4usize, 1..=2usize, speeds(off), cuts).prop_flat_map(|(nodes, groups, speeds, cuts)| {
        (Just(World::new(nodes, groups, speeds)), vec((0..12u32, faults(nodes, cuts)), 0..40))
    })
}

fn sees_through(mut world: World, plan: Plan) -> Result<(), TestCaseError> {
    let mut told = Vec::new();
    for (wait, fault) in plan {
        for _ in 0..wait {
            world.step();
            told.push(world.line());
            prop_assert_eq!(world.check(), Ok(()), "{}", told.join("\n"));
        }
        if world.can(fault) {
            told.push(format!("{fault:?}"));
            world.strike(fault);
        }
    }
    world.heal();
    prop_assert_eq!(comes_to_rest(world, 110), Ok(()), "{}", told.join("\n"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Clocks are 1 % off: the rest of the margin is for messages that are late by the difference
    /// of two paths.
    #[test]
    fn a_cluster_keeps_its_promises_through_many_faults((world, plan) in runs(10, any::<bool>())) {
        sees_through(world, plan)?;
    }

    /// The second promise alone, by clocks 5 % off.
    #[test]
    fn two_are_never_active_for_long_whatever_is_lost((mut world, plan) in runs(50, Just(true))) {
        world.excuse_moments();
        sees_through(world, plan)?;
    }

    #[test]
    fn active_nodes_that_meet_do_not_stay_active((world, plan) in runs(50, Just(true))) {
        let mut world = split(put_to_work(world));
        world.excuse_moments();
        sees_through(world, plan)?;
    }

    #[test]
    fn no_input_makes_it_panic(settings in odd_settings(), inputs in vec((odd_times(), odd_inputs()), 0..60)) {
        let mut machine = Machine::new(settings, Duration::from_secs(5));
        for (now, input) in inputs {
            machine.handle(input, now);
            prop_assert!(machine.next_timeout().is_some());
        }
    }
}

const PATH_COUNT: usize = 2;

fn odd_times() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..10_000u64).prop_map(Duration::from_millis),
        Just(Duration::ZERO),
        Just(Duration::MAX),
        any::<u64>().prop_map(Duration::from_nanos),
    ]
}

fn odd_settings() -> impl Strategy<Value = Settings> {
    (0..4u8, 0..20u8, [odd_times(), odd_times(), odd_times()], any::<bool>(), odd_groups()).prop_map(
        |(me, nodes, [interval, dead, lease], usual, groups)| {
            let mut settings = Settings::new(NodeId(me), nodes, 1);
            if !usual {
                (settings.interval, settings.dead, settings.lease) = (interval, dead, lease);
            }
            settings.groups = groups;
            settings
        },
    )
}

fn odd_groups() -> impl Strategy<Value = Vec<GroupSettings>> {
    let group = (0..5u32, vec(0..20u8, 0..4), any::<bool>(), odd_times(), any::<Option<u8>>());
    let group = group.prop_map(|(id, preference, auto, delay, anycast)| GroupSettings {
        id: GroupId(id),
        preference: preference.into_iter().map(NodeId).collect(),
        failback: if auto { Failback::Auto { delay } } else { Failback::Manual },
        anycast: anycast.map(|number| Anycast { number: GroupNumber(number), withdraw_wait: delay }),
    });
    vec(group, 0..4)
}

fn odd_inputs() -> impl Strategy<Value = Input> {
    let group = || (0..5u32).prop_map(GroupId);
    prop_oneof![
        Just(Input::Timer),
        odd_heartbeats().prop_map(Input::Heartbeat),
        (odd_heartbeats(), odd_times()).prop_map(|(message, age)| Input::LateHeartbeat { message, age }),
        (any::<[bool; 2]>(), 0..3u16, 0..3u8, 0..4u16, any::<u32>()).prop_map(
            |(there, servers, references, behind, usable)| {
                let [data_path, link] = there;
                Input::Readiness(LocalReadiness {
                    data_path,
                    link,
                    servers,
                    references,
                    behind,
                    unlearned: behind,
                    usable,
                })
            }
        ),
        commands().prop_map(Input::Command),
        (any::<u64>(), odd_times(), odd_groups()).prop_map(|(config_digest, takeover, groups)| {
            Input::Changed(Change { config_digest, takeover, groups })
        }),
        group().prop_map(|group| Input::TakeoverDone { group }),
        group().prop_map(|group| Input::TakeoverFailed { group, why: String::new() }),
        group().prop_map(|group| Input::ReleaseDone { group }),
        (group(), proptest::option::of((0..3u8).prop_map(NodeId)), odd_times())
            .prop_map(|(group, rival, came)| Input::Conflict { group, rival, came }),
    ]
}

fn odd_heartbeats() -> impl Strategy<Value = Heartbeat> {
    let roles = select(vec![Role::Fault, Role::Standby, Role::Acquiring, Role::Active, Role::Releasing]);
    let term = prop_oneof![0..4u64, Just(u64::MAX)];
    let groups = vec((0..5u32, roles, term, prop::option::of(0..20u8), any::<bool>()), 0..6);
    let numbers = (0..20u8, 0..3u64, any::<u64>(), any::<u16>(), 0..3u16);
    (numbers, groups).prop_map(|((from, session, sequence, hears, servers), groups)| Heartbeat {
        from: NodeId(from),
        session,
        sequence,
        readiness: Readiness { data_path: true, link: true, maintenance: false, servers, references: 1 },
        hears,
        config_digest: 0,
        groups: groups
            .into_iter()
            .map(|(group, role, term, offered_to, yielded)| GroupStatus {
                group: GroupId(group),
                role,
                term,
                offered_to: offered_to.map(NodeId),
                yielded,
            })
            .collect(),
        standing: None,
    })
}

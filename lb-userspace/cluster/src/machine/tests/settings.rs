//! Settings that make sense, and those that do not.

use super::*;

fn settings() -> Settings {
    let mut settings = Settings::new(NodeId(0), 2, 1);
    let failback = Failback::Manual;
    settings.groups =
        vec![GroupSettings { id: GROUP, preference: vec![NodeId(0), NodeId(1)], failback, anycast: None }];
    settings
}

#[test]
fn the_defaults_are_good_and_the_lease_is_as_long_as_it_may_be() {
    assert_eq!(settings().check(), Ok(()));
    assert_eq!(settings().lease, ms(130));
}

#[test]
fn the_fastest_setting_of_the_goals_is_good() {
    let mut fast = settings();
    (fast.interval, fast.dead) = (ms(10), ms(40));
    fast.lease = Settings::longest_lease(fast.interval, fast.dead);
    assert_eq!((fast.lease, fast.check()), (ms(26), Ok(())));
}

#[test]
fn a_lease_must_end_before_a_peer_takes_over() {
    let mut long = settings();
    long.lease = ms(131);
    assert_eq!(long.check(), Err(SettingsError::LeaseTooLong { lease: ms(131), at_most: ms(130) }));
    let mut short = settings();
    short.lease = ms(99);
    assert_eq!(short.check(), Err(SettingsError::LeaseTooShort { lease: ms(99), at_least: ms(100) }));
}

#[test]
fn what_else_is_refused() {
    let check = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        settings.check().unwrap_err()
    };
    assert_eq!(check(|s| s.nodes = 0), SettingsError::Nodes(0));
    assert_eq!(check(|s| s.nodes = 17), SettingsError::Nodes(17));
    assert_eq!(check(|s| s.me = NodeId(2)), SettingsError::Me { me: NodeId(2), nodes: 2 });
    assert_eq!(check(|s| s.interval = ms(0)), SettingsError::Interval);
    let initial_dead = SettingsError::InitialDead { initial: ms(100), dead: ms(200) };
    assert_eq!(check(|s| s.initial_dead = ms(100)), initial_dead);
    assert_eq!(check(|s| s.groups[0].preference.clear()), SettingsError::NoNode(GROUP));
    let twice = SettingsError::NodeTwice { group: GROUP, node: NodeId(0) };
    assert_eq!(check(|s| s.groups[0].preference.push(NodeId(0))), twice);
    let unknown = SettingsError::UnknownNode { group: GROUP, node: NodeId(5) };
    assert_eq!(check(|s| s.groups[0].preference.push(NodeId(5))), unknown);
    assert_eq!(check(|s| s.groups = vec![s.groups[0].clone(); 33]), SettingsError::Groups(33));
    assert_eq!(check(|s| s.groups = vec![s.groups[0].clone(); 2]), SettingsError::GroupTwice(GROUP));
}

//! Who takes a group that nobody has, and when.

use super::*;

#[test]
fn a_start_removes_leftovers_and_listens_before_it_takes_anything() {
    let mut story = Story::starts(0, 2);
    assert_eq!(story.releases(), [Cause::Start]);
    story.pass(999);
    assert_eq!((story.role(), story.takes()), (Role::Fault, vec![]));
    story.pass(1);
    assert_eq!(story.role(), Role::Standby, "says that it is ready");
    story.pass(199);
    assert_eq!(story.takes(), []);
    story.pass(1);
    assert_eq!(story.takes(), [Cause::NobodyHasIt]);
    assert_eq!(story.leases(), [story.now + ms(130)]);
}

#[test]
fn the_peers_wait_until_leftovers_are_gone() {
    let settings = Story::starts(0, 2).machine.settings().clone();
    let mut machine = Machine::new(settings, ms(5));
    machine.handle(Input::Readiness(READY), ms(5));
    assert_eq!(machine.role(GROUP), Role::Releasing);
    assert!(!machine.is_idle());
    machine.handle(Input::ReleaseDone { group: GROUP }, ms(6));
    assert_eq!(machine.role(GROUP), Role::Fault);
    assert!(machine.is_idle());
}

#[test]
fn two_that_start_together_do_not_wait_out_the_initial_dead_time() {
    let mut story = Story::starts(0, 2);
    story.says(1, Role::Fault);
    story.pass(100);
    assert_eq!(story.role(), Role::Standby);
    story.pass(200);
    assert_eq!(story.takes(), [Cause::NobodyHasIt]);
}

#[test]
fn a_start_beside_an_active_peer_soon_stands_by() {
    let mut story = Story::starts(0, 2);
    story.says(1, Role::Active);
    story.pass(100);
    assert_eq!(story.role(), Role::Standby);
    assert_eq!(story.machine.holder(GROUP), Some(NodeId(1)));
    story.pass(10_000);
    assert_eq!(story.takes(), []);
}

#[test]
fn a_single_node_takes_its_groups_at_once() {
    let story = Story::starts(0, 1);
    assert_eq!(story.takes(), [Cause::NobodyHasIt]);
}

#[test]
fn a_silent_peer_is_dead_after_the_dead_time_and_not_before() {
    let mut story = Story::standby(1, 2, 0);
    story.speaks(0);
    story.falls_silent(0);
    story.pass(199);
    assert_eq!(story.takes(), []);
    story.pass(1);
    assert_eq!(story.takes(), [Cause::PeerDead { peer: NodeId(0) }]);
    assert!(story.has_event(&Event::PeerDead { peer: NodeId(0), silent: ms(200) }));
    assert_eq!((story.told().groups[0].role, story.told().groups[0].term), (Role::Acquiring, 2));
    story.input(Input::TakeoverDone { group: GROUP });
    let told = Event::RoleChanged {
        group: GROUP,
        from: Role::Acquiring,
        to: Role::Active,
        cause: Cause::Done,
        after: Duration::ZERO,
    };
    assert!(story.has_event(&told));
}

#[test]
fn the_heartbeat_goes_out_before_the_lease_and_every_interval() {
    let mut story = Story::active(0, 2);
    let start = story.now;
    story.pass(500);
    let sent = story.outputs.iter().filter(|output| matches!(output, Output::Send(_))).count();
    assert_eq!((sent, story.leases().len()), (10, 10));
    assert!(
        matches!(story.outputs[..], [Output::Send(_), Output::RenewLease { .. }, ..]),
        "{:?}",
        story.outputs
    );
    assert!(story.leases()[0] <= start + ms(50 + 130));
}

#[test]
fn a_standby_renews_no_lease() {
    let mut story = Story::standby(1, 2, 0);
    story.pass(1000);
    assert!(story.leases().is_empty(), "{:?}", story.leases());
}

#[test]
fn a_late_heartbeat_is_worth_a_warning() {
    let mut story = Story::standby(1, 2, 0);
    story.speaks(0);
    story.falls_silent(0);
    story.pass(150);
    story.speaks(0);
    assert!(story.has_event(&Event::PeerLate { peer: NodeId(0), silent: ms(150) }));
    assert_eq!(story.takes(), []);
}

#[test]
fn a_node_that_cannot_serve_takes_nothing() {
    for hindrance in [
        |local: &mut LocalReadiness| local.link = false,
        |local: &mut LocalReadiness| local.data_path = false,
    ] {
        let mut story = Story::standby(1, 2, 0);
        story.local(hindrance);
        assert_eq!(story.told().groups[0].role, Role::Fault, "said at once");
        story.falls_silent(0);
        story.pass(10_000);
        assert_eq!((story.takes(), story.role()), (vec![], Role::Fault));
    }
}

#[test]
fn a_node_that_becomes_ready_says_so_for_a_dead_time_before_it_takes_anything() {
    let mut story = Story::standby(0, 2, 1);
    story.local(|local| local.link = false);
    story.says(1, Role::Fault);
    story.pass(1000);
    story.local(|_| {});
    story.pass(99);
    assert_eq!(story.told().groups[0].role, Role::Fault, "long enough that everyone has heard it");
    story.pass(1);
    assert_eq!(story.told().groups[0].role, Role::Standby);
    story.pass(199);
    assert_eq!(story.takes(), []);
    story.pass(1);
    assert_eq!(story.takes(), [Cause::PeerGaveUp { peer: NodeId(1) }]);
}

#[test]
fn an_active_node_that_loses_its_link_gives_up_in_the_same_call() {
    let mut story = Story::active(0, 2);
    story.local(|local| local.link = false);
    assert_eq!(story.releases(), [Cause::NoLink]);
    assert_eq!((story.told().groups[0].role, story.leases()), (Role::Releasing, vec![]));
    story.input(Input::ReleaseDone { group: GROUP });
    assert_eq!(story.told().groups[0].role, Role::Fault);
}

#[test]
fn a_peer_that_gives_up_is_followed_on_its_word() {
    let mut story = Story::standby(1, 2, 0);
    story.says(0, Role::Releasing);
    assert_eq!(story.takes(), [], "it may still act");
    story.says(0, Role::Fault);
    assert_eq!(story.takes(), [Cause::PeerGaveUp { peer: NodeId(0) }]);
}

#[test]
fn a_release_that_hangs_does_not_keep_the_peer_waiting() {
    let mut story = Story::active(0, 2);
    story.local(|local| local.data_path = false);
    story.pass(200);
    assert_eq!(story.told().groups[0].role, Role::Fault);
    assert!(!story.machine.is_idle());
}

#[test]
fn a_failed_take_over_goes_back_and_keeps_the_node_out_longer_each_time() {
    let mut story = Story::standby(1, 2, 0);
    story.falls_silent(0);
    story.pass(200);
    for pause in [5_000, 10_000, 20_000] {
        story.forget();
        let why = "no such interface".to_owned();
        story.input(Input::TakeoverFailed { group: GROUP, why: why.clone() });
        assert_eq!(story.releases(), [Cause::TakeoverFailed { why }]);
        story.input(Input::ReleaseDone { group: GROUP });
        assert_eq!(story.told().groups[0].role, Role::Fault);
        story.pass(pause + 200);
        assert_eq!(story.takes(), [], "{pause} ms");
        story.pass(100);
        assert_eq!(story.takes().len(), 1, "{pause} ms");
    }
}

#[test]
fn a_take_over_that_does_not_end_has_failed() {
    let mut story = Story::standby(1, 2, 0);
    story.falls_silent(0);
    story.pass(200);
    story.pass(2000);
    assert_eq!(story.releases(), [Cause::TakeoverTimedOut]);
    story.input(Input::TakeoverDone { group: GROUP });
    assert_eq!(story.role(), Role::Releasing, "too late");
}

#[test]
fn of_three_the_next_takes_over_and_the_last_waits() {
    let mut next = Story::standby(1, 3, 0);
    next.falls_silent(0);
    next.pass(200);
    assert_eq!(next.takes(), [Cause::PeerDead { peer: NodeId(0) }]);

    let mut last = Story::standby(2, 3, 0);
    last.falls_silent(0);
    last.pass(799);
    assert_eq!(last.takes(), []);
    last.pass(1);
    assert_eq!(last.takes(), [Cause::PeerDead { peer: NodeId(0) }], "the next one did not");
}

#[test]
fn of_three_the_last_takes_over_at_once_when_the_next_cannot() {
    let mut last = Story::standby(2, 3, 0);
    last.says(1, Role::Fault);
    last.falls_silent(0);
    last.pass(200);
    assert_eq!(last.takes(), [Cause::PeerDead { peer: NodeId(0) }]);
}

#[test]
fn a_restarted_peer_is_not_taken_for_the_old_one() {
    let mut story = Story::standby(1, 2, 0);
    story.peer(0).message.session = 2;
    story.peer(0).message.sequence = 0;
    story.says(0, Role::Releasing);
    assert!(story.has_event(&Event::PeerRestarted { peer: NodeId(0), session: 2 }));
    assert_eq!(story.takes(), [], "its data path may still hold the old lease");
    story.says(0, Role::Fault);
    assert_eq!(story.takes(), [Cause::PeerGaveUp { peer: NodeId(0) }]);
}

#[test]
fn copies_old_messages_and_strangers_change_nothing() {
    let mut story = Story::standby(1, 2, 0);
    let newest = story.peers[0].message.clone();
    story.falls_silent(0);
    story.pass(100);
    for (session, sequence, from) in [
        (newest.session, newest.sequence, newest.from),
        (newest.session, newest.sequence - 1, newest.from),
        (newest.session - 1, newest.sequence + 100, newest.from),
        (9, 9, NodeId(1)),
        (9, 9, NodeId(200)),
    ] {
        let mut message = newest.clone();
        (message.session, message.sequence, message.from) = (session, sequence, from);
        message.groups[0].role = Role::Fault;
        story.input(Input::Heartbeat(message));
        assert_eq!((story.events(), story.takes()), (vec![], vec![]));
    }
}

#[test]
fn a_different_configuration_is_reported_once_and_so_is_its_end() {
    let mut story = Story::standby(1, 2, 0);
    story.peer(0).message.config_digest = 5;
    story.pass(500);
    assert_eq!(story.events(), [Event::ConfigDiffers { peer: NodeId(0), ours: 0, theirs: 5 }]);
    story.forget();
    story.peer(0).message.config_digest = 0;
    story.pass(500);
    assert_eq!(story.events(), [Event::ConfigAgrees { peer: NodeId(0) }]);
}

#[test]
fn each_group_goes_its_own_way() {
    let mut settings = Settings::new(NodeId(0), 2, 1);
    let failback = Failback::Manual;
    let group = |id, first, second| GroupSettings {
        id: GroupId(id),
        preference: vec![NodeId(first), NodeId(second)],
        failback,
        anycast: None,
    };
    settings.groups = vec![group(0, 0, 1), group(1, 1, 0)];
    let mut story = Story::with(settings);
    story.says(1, Role::Standby);
    story.peer(1).message.groups[1].role = Role::Active;
    story.pass(2000);
    assert_eq!(story.takes(), [Cause::NobodyHasIt]);
    assert_eq!(
        (story.machine.role(GroupId(0)), story.machine.role(GroupId(1))),
        (Role::Acquiring, Role::Standby)
    );
    story.falls_silent(1);
    story.pass(200);
    assert_eq!(story.machine.role(GroupId(1)), Role::Acquiring);
}

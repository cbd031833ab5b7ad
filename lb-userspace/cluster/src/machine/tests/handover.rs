//! Planned moves: by an operator, to the preferred node, to a better placed one.

use super::*;

const NEXT: NodeId = NodeId(1);

#[test]
fn a_hand_over_releases_first_and_names_the_receiver() {
    let mut story = Story::active(0, 2);
    story.command(Command::Failover(GROUP));
    assert_eq!(story.releases(), [Cause::Failover { to: NEXT }]);
    assert_eq!((story.told().groups[0].role, story.leases()), (Role::Releasing, vec![]));
    story.input(Input::ReleaseDone { group: GROUP });
    let told = story.told().groups[0];
    assert_eq!((told.role, told.offered_to, told.yielded), (Role::Standby, Some(NEXT), true));
    story.group_of(1).term = 2;
    story.says(1, Role::Acquiring);
    story.pass(10_000);
    assert_eq!(story.takes(), []);
    assert_eq!(story.told().groups[0].offered_to, None, "taken");
    assert!(story.told().groups[0].yielded, "still not to be brought back");
}

#[test]
fn the_receiver_takes_it_on_the_word_released_and_not_before() {
    let mut story = Story::standby(1, 2, 0);
    story.group_of(0).offered_to = Some(NEXT);
    story.says(0, Role::Releasing);
    assert_eq!(story.takes(), []);
    story.says(0, Role::Standby);
    assert_eq!(story.takes(), [Cause::Offered { by: NodeId(0) }]);
}

#[test]
fn the_third_does_not_take_what_is_offered_to_the_second() {
    let mut story = Story::standby(0, 3, 2);
    story.group_of(2).offered_to = Some(NEXT);
    story.says(2, Role::Standby);
    story.pass(599);
    assert_eq!(story.takes(), [], "though it is preferred");
    story.says(1, Role::Active);
    story.pass(1000);
    assert_eq!(story.takes(), []);
}

/// The second takes it, the third tells that its offer is over, and that comes first.
#[test]
fn an_offer_that_is_over_may_have_been_taken_up_by_a_node_that_is_heard_later() {
    for second_has_it in [true, false] {
        let mut story = Story::standby(0, 3, 2);
        story.group_of(2).offered_to = Some(NEXT);
        story.says(2, Role::Standby);
        story.pass(20);
        story.group_of(2).offered_to = None;
        story.speaks(2);
        story.pass(199);
        assert_eq!(story.takes(), [], "though it is preferred");
        if second_has_it {
            story.says(1, Role::Active);
        }
        story.pass(1);
        assert_eq!(story.takes().is_empty(), second_has_it);
    }
}

/// It was overtaken by the word that it is over.
#[test]
fn a_holder_that_stands_by_has_made_an_offer_whether_it_was_heard_or_not() {
    let mut story = Story::standby(0, 3, 2);
    story.says(2, Role::Standby);
    story.pass(199);
    assert_eq!(story.takes(), []);
    story.pass(1);
    assert_eq!(story.takes(), [Cause::PeerGaveUp { peer: NodeId(2) }]);
    // One that cannot serve has offered it to nobody.
    let mut story = Story::standby(0, 3, 2);
    story.says(2, Role::Fault);
    assert_eq!(story.takes(), [Cause::PeerGaveUp { peer: NodeId(2) }]);
}

#[test]
fn an_offer_that_is_not_taken_up_ends() {
    let mut story = Story::active(0, 2);
    story.command(Command::Failover(GROUP));
    story.input(Input::ReleaseDone { group: GROUP });
    story.pass(100);
    assert_eq!(story.told().groups[0].offered_to, None);
    story.pass(399);
    assert_eq!(story.takes(), [], "it may have been taken up, and that may be under way");
    story.pass(1);
    assert_eq!(story.takes().len(), 1);
}

/// An operator who has changed his mind.
#[test]
fn a_failback_withdraws_a_failover_that_waits() {
    let mut story = Story::active(0, 2);
    story.local(|local| local.behind = 1 << 1);
    story.command(Command::Failover(GROUP));
    story.pass(1000);
    assert_eq!(story.events(), []);
    story.command(Command::Failback(GROUP));
    let refused = |command, why| Event::CommandRefused { command, why };
    let wanted = [
        refused(Command::Failover(GROUP), Refusal::Withdrawn),
        refused(Command::Failback(GROUP), Refusal::AlreadyThere),
    ];
    assert_eq!(story.events(), wanted);
    story.local(|_| {});
    story.pass(20_000);
    assert_eq!((story.releases(), story.role()), (vec![], Role::Active));
}

#[test]
fn there_must_be_someone_to_hand_over_to() {
    let mut story = Story::active(0, 2);
    for (role, hears) in [(Role::Fault, u16::MAX), (Role::Standby, 0)] {
        story.peer(1).message.hears = hears;
        story.says(1, role);
        story.forget();
        let command = Command::Failover(GROUP);
        story.command(command);
        assert_eq!(story.events(), [Event::CommandRefused { command, why: Refusal::NobodyReady }]);
        assert_eq!(story.role(), Role::Active);
    }
}

#[test]
fn commands_for_what_is_not_here_say_where_it_is() {
    let mut story = Story::standby(1, 2, 0);
    for (command, why) in [
        (Command::Failover(GROUP), Refusal::NotHere { holder: Some(NodeId(0)) }),
        (Command::Failback(GROUP), Refusal::NotHere { holder: Some(NodeId(0)) }),
        (Command::Failover(GroupId(9)), Refusal::NoSuchGroup),
    ] {
        story.forget();
        story.command(command);
        assert_eq!(story.events(), [Event::CommandRefused { command, why }]);
    }
}

#[test]
fn automatic_failback_waits_for_a_peer_that_stays_ready() {
    let mut story = Story::active(1, 2);
    story.pass(4900);
    assert_eq!(story.releases(), []);
    story.says(0, Role::Fault);
    story.says(0, Role::Standby);
    story.pass(4900);
    assert_eq!(story.releases(), [], "its readiness flapped: the delay starts again");
    story.pass(100);
    assert_eq!(story.releases(), [Cause::Failback { to: NodeId(0) }]);
    story.input(Input::ReleaseDone { group: GROUP });
    assert_eq!(story.told().groups[0].offered_to, Some(NodeId(0)));
    assert!(!story.told().groups[0].yielded);
}

#[test]
fn a_restart_of_the_preferred_peer_starts_the_delay_again() {
    let mut story = Story::active(1, 2);
    story.pass(4900);
    story.peer(0).message.session = 2;
    story.pass(4900);
    assert_eq!(story.releases(), []);
}

#[test]
fn failback_waits_until_the_peer_has_found_its_servers() {
    let mut story = Story::active(1, 2);
    story.peer(0).message.readiness.servers = 0;
    story.speaks(0);
    story.pass(20_000);
    assert_eq!(story.releases(), []);
    story.peer(0).message.readiness.servers = 1;
    story.pass(20_000);
    assert_eq!(story.releases(), [], "one of two");
    story.peer(0).message.readiness.servers = 2;
    story.pass(100);
    assert_eq!(story.releases(), [Cause::Failback { to: NodeId(0) }]);
}

#[test]
fn failback_waits_until_the_peer_knows_the_connections() {
    let mut story = Story::active(1, 2);
    story.input(Input::Readiness(LocalReadiness { behind: 1 << 0, ..READY }));
    story.pass(20_000);
    assert_eq!(story.releases(), []);
    story.input(Input::Readiness(READY));
    story.pass(5100);
    assert_eq!(story.releases(), [Cause::Failback { to: NodeId(0) }]);
}

#[test]
fn an_ordered_move_waits_until_the_peer_knows_the_connections_and_not_without_end() {
    let back = Cause::Failback { to: NodeId(0) };
    for (me, command, cause) in
        [(0, Command::Failover(GROUP), Cause::Failover { to: NEXT }), (1, Command::Failback(GROUP), back)]
    {
        let behind = LocalReadiness { behind: 1 << (1 - me), ..READY };
        let mut story = Story::active(me, 2);
        story.input(Input::Readiness(behind));
        story.command(command);
        story.pass(9000);
        assert_eq!(story.releases(), []);
        story.input(Input::Readiness(READY));
        story.pass(50);
        assert_eq!(story.releases(), std::slice::from_ref(&cause));
        assert_eq!(story.told().groups[0].yielded, me == 0);

        let mut story = Story::active(me, 2);
        story.input(Input::Readiness(behind));
        story.command(command);
        story.pass(9900);
        assert_eq!(story.releases(), []);
        story.pass(200);
        assert_eq!(story.releases(), [cause]);
    }
}

#[test]
fn an_order_that_nobody_can_follow_any_more_ends() {
    let mut story = Story::active(0, 2);
    story.local(|local| local.behind = 1 << 1);
    let command = Command::Failover(GROUP);
    story.command(command);
    story.pass(1000);
    story.says(1, Role::Fault);
    story.pass(50);
    assert!(story.has_event(&Event::CommandRefused { command, why: Refusal::NobodyReady }));
    story.says(1, Role::Standby);
    story.pass(20_000);
    assert_eq!(story.releases(), []);
}

#[test]
fn a_move_goes_to_a_node_that_knows_the_connections() {
    let third = NodeId(2);
    let mut story = Story::active(0, 3);
    story.local(|local| local.behind = 1 << 1);
    story.command(Command::Failover(GROUP));
    assert_eq!(story.releases(), [Cause::Failover { to: third }]);

    let mut story = Story::active(0, 3);
    story.local(|local| (local.behind, local.servers) = (1 << 1, 0));
    story.pass(1100);
    assert_eq!(story.releases(), [Cause::BetterPlaced { to: third }]);

    for (command, cause) in
        [(Command::Standby, Cause::StandbyCommand), (Command::Maintenance(true), Cause::Maintenance)]
    {
        for (behind, to) in [(1 << 1, Some(third)), (0, None), (1 << 1 | 1 << 2, None)] {
            let mut story = Story::active(0, 3);
            story.local(|local| local.behind = behind);
            story.command(command);
            assert_eq!(story.releases(), std::slice::from_ref(&cause));
            story.input(Input::ReleaseDone { group: GROUP });
            assert_eq!(story.told().groups[0].offered_to, to, "{behind:#b}");
        }
    }
}

#[test]
fn a_node_asks_for_a_group_once_it_knows_the_connections() {
    let mut story = Story::standby(0, 2, 1);
    story.local(|local| local.unlearned = 1 << 1);
    story.command(Command::Failback(GROUP));
    story.pass(5000);
    assert_eq!(story.told().groups[0].offered_to, None);
    story.local(|_| {});
    story.pass(50);
    assert_eq!(story.told().groups[0].offered_to, Some(NodeId(0)));
    story.pass(400);
    assert_eq!(story.told().groups[0].offered_to, None, "not for ever");
    // Nor does it wait without end.
    story.local(|local| local.unlearned = 1 << 1);
    story.command(Command::Failback(GROUP));
    story.pass(10_100);
    assert_eq!(story.told().groups[0].offered_to, Some(NodeId(0)));
}

#[test]
fn what_an_operator_moved_away_does_not_come_back_by_itself() {
    let mut story = Story::active(1, 2);
    story.group_of(0).yielded = true;
    story.pass(60_000);
    assert_eq!(story.releases(), []);
    story.command(Command::Failback(GROUP));
    assert_eq!(story.releases(), [Cause::Failback { to: NodeId(0) }]);
}

#[test]
fn manual_failback_waits_for_the_command() {
    let mut settings = Settings::new(NodeId(1), 2, 1);
    settings.groups = vec![GroupSettings {
        id: GROUP,
        preference: vec![NodeId(0), NodeId(1)],
        failback: Failback::Manual,
        anycast: None,
    }];
    let mut story = Story::with(settings);
    story.pass(1200);
    story.input(Input::TakeoverDone { group: GROUP });
    story.forget();
    story.says(0, Role::Standby);
    story.pass(60_000);
    assert_eq!(story.releases(), []);
    story.command(Command::Failback(GROUP));
    assert_eq!(story.releases(), [Cause::Failback { to: NodeId(0) }]);
}

#[test]
fn failback_can_be_asked_for_on_the_preferred_side() {
    let mut asking = Story::standby(0, 2, 1);
    asking.command(Command::Failback(GROUP));
    assert_eq!(asking.told().groups[0].offered_to, Some(NodeId(0)));
    asking.pass(400);
    assert_eq!(asking.told().groups[0].offered_to, None, "not for ever");

    let mut asked = Story::active(1, 2);
    asked.group_of(0).offered_to = Some(NodeId(0));
    asked.speaks(0);
    assert_eq!(asked.releases(), [Cause::Failback { to: NodeId(0) }]);
}

#[test]
fn standby_gives_all_up_until_told_otherwise() {
    let mut story = Story::active(0, 2);
    story.command(Command::Standby);
    assert_eq!(story.releases(), [Cause::StandbyCommand]);
    story.input(Input::ReleaseDone { group: GROUP });
    assert_eq!((story.role(), story.told().readiness.maintenance), (Role::Fault, true));
    assert!(story.machine.is_idle());
    story.falls_silent(1);
    story.pass(10_000);
    assert_eq!(story.takes(), [], "even if nobody else is left");
    story.command(Command::Resume);
    story.pass(300);
    assert_eq!(story.takes().len(), 1);
}

#[test]
fn maintenance_is_there_from_the_start_if_it_was_before() {
    let mut settings = Story::starts(0, 2).machine.settings().clone();
    settings.maintenance = true;
    let mut story = Story::with(settings);
    story.pass(10_000);
    assert_eq!((story.takes(), story.told().readiness.maintenance), (vec![], true));
    story.command(Command::Maintenance(false));
    story.pass(300);
    assert_eq!(story.takes(), [Cause::NobodyHasIt]);
}

#[test]
fn a_node_that_reaches_nothing_hands_over_to_one_that_does() {
    for lost in
        [|local: &mut LocalReadiness| local.references = 0, |local: &mut LocalReadiness| local.servers = 0]
    {
        let mut story = Story::active(0, 2);
        story.local(lost);
        story.pass(999);
        assert_eq!(story.releases(), []);
        story.pass(1);
        assert_eq!(story.releases(), [Cause::BetterPlaced { to: NEXT }]);
    }
}

#[test]
fn a_node_that_reaches_nothing_stays_if_the_others_do_not_either() {
    let mut story = Story::active(0, 2);
    story.peer(1).message.readiness.servers = 0;
    story.speaks(1);
    story.local(|local| local.servers = 0);
    story.pass(60_000);
    assert_eq!((story.releases(), story.role()), (vec![], Role::Active));
}

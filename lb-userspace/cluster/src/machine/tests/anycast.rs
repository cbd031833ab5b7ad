//! Groups that every node serves.

use lb_model::ids::GroupNumber;

use super::*;

const NUMBER: GroupNumber = GroupNumber(3);
const WAIT: u64 = 1000;

/// Node 1 of three, just started; the others serve the group already, and say so.
fn starts() -> Story {
    let mut settings = Settings::new(NodeId(1), 3, 7);
    settings.groups = vec![GroupSettings {
        id: GROUP,
        preference: vec![NodeId(0), NodeId(1), NodeId(2)],
        failback: Failback::Manual,
        anycast: Some(Anycast { number: NUMBER, withdraw_wait: ms(WAIT) }),
    }];
    let mut story = Story::with(settings);
    story.local(|local| local.usable = NUMBER.bit());
    for peer in [0, 2] {
        story.says(peer, Role::Active);
    }
    story
}

/// It serves, too.
fn serves() -> Story {
    let mut story = starts();
    story.pass(1200);
    assert_eq!(story.takes(), [Cause::Ready]);
    story.input(Input::TakeoverDone { group: GROUP });
    assert_eq!(story.role(), Role::Active);
    story.forget();
    story
}

#[test]
fn every_node_serves_it_and_that_is_no_split_brain() {
    let mut story = serves();
    story.pass(20_000);
    assert_eq!((story.role(), story.events()), (Role::Active, vec![]));
    assert_eq!(story.machine.active(GROUP), [NodeId(0), NodeId(1), NodeId(2)]);
    story.falls_silent(0);
    story.pass(200);
    assert_eq!(story.machine.active(GROUP), [NodeId(1), NodeId(2)]);
    assert!(story.takes().is_empty() && story.releases().is_empty());
}

#[test]
fn it_is_served_once_the_others_connections_are_known_or_after_a_while() {
    let unlearned = |local: &mut LocalReadiness| (local.usable, local.unlearned) = (NUMBER.bit(), 1 << 2);
    let mut story = starts();
    story.local(unlearned);
    story.pass(9000);
    assert_eq!((story.role(), story.takes()), (Role::Standby, vec![]));
    let learns = |event: &Event| matches!(event, Event::RoleChanged { cause: Cause::NotInStep, .. });
    assert!(story.events().iter().any(learns), "{:?}", story.events());
    story.local(|local| local.usable = NUMBER.bit());
    assert_eq!(story.takes(), [Cause::Ready]);

    let mut story = starts();
    story.local(unlearned);
    story.pass(12_000);
    assert_eq!(story.takes(), [Cause::Ready], "a node that nobody tells anything");

    let mut story = starts();
    story.local(unlearned);
    story.falls_silent(2);
    story.pass(1500);
    assert_eq!(story.takes(), [Cause::Ready], "a dead node tells nothing");

    let mut story = serves();
    story.local(unlearned);
    story.pass(20_000);
    assert_eq!(story.role(), Role::Active, "what it serves it goes on serving");
}

#[test]
fn without_a_server_it_goes_and_with_one_it_comes_back() {
    let mut story = serves();
    story.local(|local| local.usable = NUMBER.bit() << 1);
    assert_eq!((story.releases(), story.role()), (vec![Cause::NoServer], Role::Releasing));
    story.pass(WAIT + 100);
    assert_eq!(story.role(), Role::Releasing, "it forwards on, as it should");
    story.input(Input::ReleaseDone { group: GROUP });
    assert_eq!(story.role(), Role::Fault);
    story.pass(5000);
    story.local(|local| local.usable = NUMBER.bit());
    story.pass(200);
    assert_eq!(story.takes(), [Cause::Ready]);
}

#[test]
fn it_goes_with_its_node_and_no_node_goes_for_it() {
    let mut story = serves();
    for command in [Command::Failover(GROUP), Command::Failback(GROUP)] {
        story.command(command);
        assert!(story.has_event(&Event::CommandRefused { command, why: Refusal::Anycast }));
    }
    story.conflict(None);
    assert_eq!((story.announces(), story.role()), (0, Role::Active));
    story.is_frozen_for(5000);
    story.pass(1000);
    assert_eq!(story.role(), Role::Active, "nobody took it meanwhile, because nobody takes it");
    assert!(!story.outputs.contains(&Output::LeaseLost));
    story.command(Command::Standby);
    assert_eq!(story.releases(), [Cause::StandbyCommand]);
    assert!(!story.machine.is_idle());
    story.input(Input::ReleaseDone { group: GROUP });
    assert!(story.machine.is_idle());
}

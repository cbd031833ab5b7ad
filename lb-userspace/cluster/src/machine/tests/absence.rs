//! A controller that was not called for a while: frozen, starved, or its machine paused.

use super::*;

#[test]
fn back_within_the_lease_it_goes_on_as_if_nothing_had_been() {
    let mut story = Story::active(0, 2);
    story.pass(1000);
    story.forget();
    story.is_frozen_for(120);
    assert!(!story.outputs.contains(&Output::LeaseLost));
    assert_eq!((story.role(), story.releases()), (Role::Active, vec![]));
    assert_eq!(story.leases().len(), 1);
}

#[test]
fn a_late_heartbeat_renews_as_if_it_had_been_in_time() {
    let mut story = Story::active(0, 2);
    story.pass(1000);
    let last = story.leases().last().copied().unwrap();
    story.forget();
    story.is_frozen_for(110);
    assert_eq!(story.leases(), [last + ms(50)], "it may be lost, and the peer counts from the one before");
}

#[test]
fn back_after_the_lease_it_listens_for_a_dead_time_and_goes_on() {
    let mut story = Story::active(0, 2);
    story.is_frozen_for(190);
    assert!(story.outputs.contains(&Output::LeaseLost));
    assert!(story.has_event(&Event::Stalled { pause: ms(190) }));
    assert_eq!((story.told().groups[0].role, story.leases()), (Role::Releasing, vec![]));
    story.pass(199);
    assert_eq!((story.leases(), story.announces()), (vec![], 0));
    story.pass(1);
    assert_eq!((story.role(), story.leases().len(), story.announces()), (Role::Active, 1, 1));
    assert_eq!(story.releases(), [], "its addresses stayed");
}

#[test]
fn away_again_while_it_listens_it_listens_anew() {
    let mut story = Story::active(0, 2);
    story.is_frozen_for(190);
    story.pass(150);
    story.is_frozen_for(190);
    assert!(story.leases().is_empty(), "{:?}", story.leases());
    story.pass(199);
    assert!(story.leases().is_empty(), "{:?}", story.leases());
    story.pass(1);
    assert_eq!(story.leases().len(), 1);
}

#[test]
fn back_after_the_lease_it_gives_up_when_someone_took_over() {
    let mut story = Story::active(0, 2);
    story.is_frozen_for(5000);
    assert_eq!(story.takes(), []);
    story.group_of(1).term = 0;
    story.says(1, Role::Acquiring);
    let cause = Cause::PeerTookOver { peer: NodeId(1) };
    assert_eq!(story.releases(), [cause], "whatever a comparison of two actives would say");
    assert!(story.leases().is_empty(), "{:?}", story.leases());
}

#[test]
fn a_take_over_that_was_under_way_is_broken_off() {
    let mut story = Story::standby(1, 2, 0);
    story.falls_silent(0);
    story.pass(200);
    story.is_frozen_for(190);
    assert_eq!(story.releases(), [Cause::LeaseLost]);
}

#[test]
fn a_single_node_goes_on_at_once() {
    let mut story = Story::starts(0, 1);
    story.input(Input::TakeoverDone { group: GROUP });
    story.forget();
    story.is_frozen_for(5000);
    assert!(story.outputs.contains(&Output::LeaseLost));
    assert_eq!((story.role(), story.leases()), (Role::Active, vec![story.now + ms(130)]));
}

#[test]
fn a_standby_does_not_take_its_own_absence_for_the_silence_of_others() {
    let mut story = Story::standby(1, 2, 0);
    story.is_frozen_for(5000);
    assert_eq!(story.takes(), []);
    story.speaks(0);
    story.pass(1000);
    assert_eq!(story.takes(), []);
}

#[test]
fn a_standby_that_was_away_finds_a_dead_peer_dead_all_the_same() {
    let mut story = Story::standby(1, 2, 0);
    story.falls_silent(0);
    story.is_frozen_for(5000);
    assert_eq!(story.told().groups[0].role, Role::Fault, "does not know enough");
    story.pass(299);
    assert_eq!(story.takes(), []);
    story.pass(1);
    assert_eq!(story.takes(), [Cause::PeerDead { peer: NodeId(0) }]);
}

#[test]
fn nothing_is_claimed_on_the_word_of_messages_that_waited() {
    let mut story = Story::standby(1, 2, 0);
    story.is_frozen_for(5000);
    story.group_of(0).offered_to = Some(NodeId(1));
    story.says(0, Role::Standby);
    story.group_of(0).offered_to = None;
    story.says(0, Role::Fault);
    story.says(0, Role::Active);
    story.pass(1000);
    assert_eq!(story.takes(), []);
}

#[test]
fn a_starved_node_is_slower_to_find_a_peer_dead_but_does() {
    let mut story = Story::standby(1, 2, 0);
    story.speaks(0);
    story.falls_silent(0);
    for _ in 0..2 {
        story.is_frozen_for(80);
        assert_eq!(story.takes(), []);
    }
    story.is_frozen_for(80);
    assert_eq!(story.takes(), [Cause::PeerDead { peer: NodeId(0) }]);
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut story = Story::active(0, 2);
    story.now -= ms(500);
    story.pass(100);
    story.now += ms(400);
    story.pass(1000);
    assert_eq!((story.role(), story.releases()), (Role::Active, vec![]));
}

/// What the peer said while this node was frozen: so many milliseconds before the thaw, in which
/// role, and what it offered.
fn thaws(story: &mut Story, said: &[(u64, Role, Option<NodeId>)]) {
    story.forget();
    story.falls_silent(1);
    for (age, role, offered_to) in said {
        let peer = story.peer(1);
        peer.message.sequence += 1;
        (peer.message.groups[0].role, peer.message.groups[0].offered_to) = (*role, *offered_to);
        let message = peer.message.clone();
        story.input(Input::LateHeartbeat { message, age: ms(*age) });
    }
    story.input(Input::Timer);
}

#[test]
fn a_thaw_after_a_take_over_is_no_split_brain() {
    let mut story = Story::active(0, 2);
    story.pass(1000);
    story.now += ms(1000);
    story.group_of(1).term = 2;
    let waited = [(950, Role::Standby, None), (800, Role::Acquiring, None), (790, Role::Active, None)];
    thaws(&mut story, &waited);
    assert_eq!(story.releases(), [Cause::PeerTookOver { peer: NodeId(1) }]);
    let split = |event: &Event| matches!(event, Event::SplitBrain { .. });
    assert!(!story.events().iter().any(split), "{:?}", story.events());
    let says = |output: &Output| match output {
        Output::Send(message) => Some(message.groups[0].role),
        _ => None,
    };
    let said: Vec<Role> = story.outputs.iter().filter_map(says).collect();
    assert!(said.iter().all(|role| *role == Role::Releasing), "{said:?}");
    assert!(story.leases().is_empty(), "{:?}", story.leases());
}

#[test]
fn an_offer_that_waited_while_the_node_was_frozen_is_not_taken_up() {
    let mut story = Story::standby(1, 2, 0);
    story.now += ms(5000);
    let peer = story.peer(0);
    let mut message = peer.message.clone();
    for (age, role) in [(4000, Role::Standby), (3600, Role::Active)] {
        message.sequence += 1;
        message.groups[0].role = role;
        message.groups[0].offered_to = (role == Role::Standby).then_some(NodeId(1));
        story.input(Input::LateHeartbeat { message: message.clone(), age: ms(age) });
    }
    story.peer(0).message.sequence = message.sequence;
    story.says(0, Role::Active);
    story.pass(1000);
    assert_eq!((story.takes(), story.role()), (vec![], Role::Standby));
}

/// Of a machine that is loaded: each message is read 60 ms late.
#[test]
fn a_message_counts_from_when_it_came() {
    let mut story = Story::standby(1, 2, 0);
    story.falls_silent(0);
    for _ in 0..20 {
        story.now += ms(50);
        story.peer(0).message.sequence += 1;
        let message = story.peer(0).message.clone();
        story.input(Input::LateHeartbeat { message, age: ms(40) });
    }
    let late = |event: &Event| matches!(event, Event::PeerLate { .. } | Event::PeerDead { .. });
    assert!(!story.events().iter().any(late), "{:?}", story.events());
    story.pass(159);
    assert!(story.machine.hears(NodeId(0)), "199 ms after the last one came");
    story.pass(1);
    assert_eq!(story.takes(), [Cause::PeerDead { peer: NodeId(0) }]);
}

#[test]
fn announcements_that_came_before_the_lease_was_regained_dispute_nothing() {
    let mut story = Story::active(0, 2);
    story.is_frozen_for(5000);
    let came = story.now;
    story.pass(300);
    assert_eq!(story.role(), Role::Active);
    story.forget();
    let rival = Some(NodeId(1));
    story.input(Input::Conflict { group: GROUP, rival, came });
    assert_eq!((story.events(), story.announces()), (vec![], 0));
    story.conflict(rival);
    assert!(story.has_event(&Event::SplitBrain { group: GROUP, seen: Seen::Announcement }));
}

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

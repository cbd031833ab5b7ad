//! Two that are active, and how one of them ends it.

use super::*;

/// Node 0, active with term 1, meets node 1, active too.
fn meets(mut story: Story, change: impl FnOnce(&mut Heartbeat)) -> Story {
    change(&mut story.peer(1).message);
    story.says(1, Role::Active);
    let seen = Seen::Heartbeat { peer: NodeId(1) };
    assert!(story.has_event(&Event::SplitBrain { group: GROUP, seen }));
    story
}

fn loses(story: &Story) -> bool {
    story.releases() == [Cause::SplitBrain { winner: NodeId(1) }]
}

#[test]
fn the_newer_claim_wins_because_it_announced_last() {
    assert!(loses(&meets(Story::active(0, 2), |peer| peer.groups[0].term = 2)));
    assert!(!loses(&meets(Story::active(0, 2), |peer| peer.groups[0].term = 0)));
}

#[test]
fn of_equal_claims_the_preferred_node_wins() {
    assert!(!loses(&meets(Story::active(0, 2), |peer| peer.groups[0].term = 1)));
    let mut second = Story::active(1, 2);
    second.group_of(0).term = 1;
    second.says(0, Role::Active);
    assert_eq!(second.releases(), [Cause::SplitBrain { winner: NodeId(0) }]);
}

#[test]
fn more_reference_hosts_come_before_the_newer_claim() {
    assert!(!loses(&meets(Story::active(0, 2), |peer| {
        peer.groups[0].term = 9;
        peer.readiness.references = 0;
    })));
    assert!(loses(&meets(Story::active(0, 2), |peer| {
        peer.groups[0].term = 0;
        peer.readiness.references = 2;
    })));
}

#[test]
fn one_that_has_no_server_at_all_loses_to_one_that_has() {
    assert!(!loses(&meets(Story::active(0, 2), |peer| {
        peer.groups[0].term = 9;
        peer.readiness.servers = 0;
    })));
    assert!(loses(&meets(Story::active(0, 2), |peer| {
        peer.groups[0].term = 9;
        peer.readiness.servers = 1;
    })));
}

#[test]
fn the_winner_announces_again_when_the_loser_has_released() {
    let mut story = meets(Story::active(0, 2), |_| {});
    story.pass(20);
    story.says(1, Role::Releasing);
    assert_eq!(story.announces(), 0, "its addresses are still there");
    story.says(1, Role::Standby);
    assert_eq!(story.announces(), 1);
    let (winner, lasted) = (NodeId(0), ms(20));
    assert!(story.has_event(&Event::SplitBrainResolved { group: GROUP, winner, lasted }));
    assert_eq!(story.role(), Role::Active);
}

/// Both would let go of the addresses within a millisecond, and a connection that began meanwhile
/// would be known to neither.
#[test]
fn the_winner_keeps_the_group_for_a_moment_before_it_goes_to_the_preferred_node() {
    let mut settings = Settings::new(NodeId(1), 2, 1);
    settings.groups = vec![GroupSettings {
        id: GROUP,
        preference: vec![NodeId(0), NodeId(1)],
        failback: Failback::Auto { delay: Duration::ZERO },
        anycast: None,
    }];
    let mut story = Story::with(settings);
    story.pass(1200);
    story.input(Input::TakeoverDone { group: GROUP });
    story.forget();
    story.says(0, Role::Active);
    assert_eq!(story.releases(), [], "the newer claim wins");
    story.says(0, Role::Standby);
    story.pass(199);
    assert_eq!(story.releases(), []);
    story.pass(1);
    assert_eq!(story.releases(), [Cause::Failback { to: NodeId(0) }]);
}

#[test]
fn the_loser_stands_by_afterwards() {
    let mut story = meets(Story::active(0, 2), |peer| peer.groups[0].term = 2);
    story.input(Input::ReleaseDone { group: GROUP });
    story.pass(10_000);
    assert_eq!((story.role(), story.takes()), (Role::Standby, vec![]));
}

#[test]
fn one_that_is_not_heard_gives_way_though_it_would_win() {
    let mut story = meets(Story::active(0, 2), |peer| peer.hears = 0);
    story.pass(99);
    assert_eq!(story.releases(), [], "the first message after a cut does not know of us yet");
    story.pass(1);
    assert_eq!(story.releases(), [Cause::NotHeard { peer: NodeId(1) }]);
}

#[test]
fn one_that_should_be_obeyed_and_is_not_gives_way_though_the_rival_says_that_it_hears() {
    let mut story = meets(Story::active(0, 2), |_| {});
    story.pass(100);
    assert_eq!(story.releases(), [Cause::NotHeard { peer: NodeId(1) }]);
}

#[test]
fn a_rival_is_told_at_once_and_waited_for_though_one_heartbeat_is_lost() {
    let mut story = Story::active(0, 2);
    story.pass(20);
    story.forget();
    let mut story = meets(story, |peer| peer.hears = 0);
    assert_eq!(
        story.told().groups[0].role,
        Role::Active,
        "it may have taken over because it did not hear us"
    );
    story.pass(90);
    story.says(1, Role::Releasing);
    story.pass(1000);
    assert_eq!(story.releases(), []);
}

#[test]
fn a_foreign_announcement_is_answered_but_not_every_time() {
    let mut story = Story::active(0, 2);
    story.conflict(None);
    assert!(story.has_event(&Event::SplitBrain { group: GROUP, seen: Seen::Announcement }));
    story.conflict(None);
    assert_eq!(story.announces(), 1);
    story.pass(1000);
    story.conflict(None);
    assert_eq!((story.announces(), story.releases()), (2, vec![]));
}

#[test]
fn an_announcement_of_a_node_that_is_not_heard_has_the_last_word() {
    let rival = Some(NodeId(1));
    let mut story = Story::active(0, 2);
    story.conflict(rival);
    assert_eq!((story.announces(), story.hushes()), (1, 0), "it is heard, and stands by");
    story.falls_silent(1);
    story.pass(1000);
    story.forget();
    story.conflict(rival);
    assert_eq!((story.announces(), story.hushes(), story.role()), (0, 1, Role::Active));
    let mut story = meets(story, |_| {});
    story.says(1, Role::Standby);
    assert_eq!(story.announces(), 1, "once it has given way");
}

#[test]
fn a_foreign_announcement_wins_over_one_that_reaches_no_reference() {
    let mut story = Story::active(0, 2);
    story.falls_silent(1);
    story.local(|local| local.references = 0);
    story.conflict(None);
    assert_eq!((story.releases(), story.announces()), (vec![Cause::AddressConflict], 0));
    story.input(Input::ReleaseDone { group: GROUP });
    story.pass(4000);
    assert_eq!(story.takes(), [], "not at once again");
}

/// The exact case: the watch reads what the other director announced after the group has come back.
#[test]
fn what_the_last_holder_announced_is_no_split_brain_after_a_planned_move() {
    let rival = Some(NodeId(1));
    let mut story = Story::active(0, 2);
    story.command(Command::Failover(GROUP));
    story.input(Input::ReleaseDone { group: GROUP });
    story.group_of(1).term = 2;
    story.says(1, Role::Active);
    let announced = story.now;
    story.pass(15);
    story.group_of(1).offered_to = Some(NodeId(0));
    story.says(1, Role::Releasing);
    story.says(1, Role::Standby);
    assert_eq!(story.takes(), [Cause::Offered { by: NodeId(1) }]);
    story.input(Input::TakeoverDone { group: GROUP });
    story.forget();
    for came in [announced, story.now, story.now + ms(199)] {
        story.input(Input::Conflict { group: GROUP, rival, came });
        assert_eq!((story.events(), story.announces()), (vec![], 0), "came at {came:?}");
    }
    let came = story.now + ms(200);
    assert_eq!(story.machine.disputed_from(GROUP), came);
    story.input(Input::Conflict { group: GROUP, rival, came });
    assert!(story.has_event(&Event::SplitBrain { group: GROUP, seen: Seen::Announcement }));
}

#[test]
fn an_announcement_counts_at_once_where_the_group_was_taken_from_a_node_that_is_silent() {
    let mut story = Story::standby(1, 2, 0);
    story.falls_silent(0);
    let before = story.now;
    story.pass(200);
    assert_eq!(story.takes(), [Cause::PeerDead { peer: NodeId(0) }]);
    story.input(Input::TakeoverDone { group: GROUP });
    story.forget();
    story.input(Input::Conflict { group: GROUP, rival: Some(NodeId(0)), came: before });
    assert_eq!(story.events(), [], "it was not dead then");
    story.conflict(Some(NodeId(0)));
    assert!(story.has_event(&Event::SplitBrain { group: GROUP, seen: Seen::Announcement }));
}

//! Groups that come and go while the machine runs.

use super::*;

const NEW: GroupId = GroupId(7);

fn group(id: GroupId, nodes: [u8; 2]) -> GroupSettings {
    GroupSettings { id, preference: nodes.map(NodeId).into(), failback: Failback::Manual, anycast: None }
}

impl Story {
    fn knows(&mut self, groups: &[GroupSettings]) {
        let change = Change { config_digest: 5, takeover: ms(2000), groups: groups.to_vec() };
        self.input(Input::Changed(change));
    }

    fn tells_of(&self, group: GroupId) -> Option<Role> {
        self.told().groups.iter().find(|status| status.group == group).map(|status| status.role)
    }

    fn says_of(&mut self, peer: u8, group: GroupId, role: Role) {
        let status = GroupStatus { group, role, term: 1, offered_to: None, yielded: false };
        self.peer(peer).message.groups.retain(|known| known.group != group);
        self.peer(peer).message.groups.push(status);
        self.speaks(peer);
    }
}

#[test]
fn a6_a_new_group_begins_with_a_release_and_is_taken_if_nobody_has_it() {
    let mut story = Story::active(0, 2);
    story.knows(&[group(GROUP, [0, 1]), group(NEW, [0, 1])]);
    assert_eq!(story.events()[0], Event::GroupAdded { group: NEW });
    assert_eq!(story.releases(), [Cause::Start], "what an earlier life may have left");
    assert_eq!(story.told().config_digest, 5);
    assert_eq!((story.role(), story.tells_of(NEW)), (Role::Active, Some(Role::Releasing)));
    story.input(Input::ReleaseDone { group: NEW });
    story.pass(250);
    assert_eq!(story.takes(), [], "it looks around for a dead time");
    story.pass(100);
    assert_eq!(story.takes(), [Cause::NobodyHasIt]);
    assert_eq!(story.machine.role(NEW), Role::Acquiring);
    assert_eq!(story.role(), Role::Active, "the other one is not touched");
}

#[test]
fn a6_who_has_a_new_group_is_known_from_the_last_heartbeat() {
    let mut story = Story::active(0, 2);
    story.says_of(1, NEW, Role::Active);
    story.knows(&[group(GROUP, [0, 1]), group(NEW, [0, 1])]);
    assert_eq!(story.machine.holder(NEW), Some(NodeId(1)));
    story.input(Input::ReleaseDone { group: NEW });
    story.pass(5000);
    assert_eq!(story.takes(), []);
    assert_eq!(story.machine.role(NEW), Role::Standby);
}

#[test]
fn a6_a_group_that_is_removed_is_given_up_before_it_is_forgotten() {
    let mut story = Story::active(0, 2);
    story.knows(&[]);
    assert_eq!(story.releases(), [Cause::Removed]);
    assert_eq!((story.tells_of(GROUP), story.leases()), (Some(Role::Releasing), vec![]));
    story.pass(60);
    assert_eq!(story.tells_of(GROUP), Some(Role::Releasing), "the addresses may still be there");
    story.input(Input::ReleaseDone { group: GROUP });
    assert_eq!(story.tells_of(GROUP), Some(Role::Fault));
    assert_eq!(story.events().last(), Some(&Event::GroupRemoved { group: GROUP }));
    story.pass(60);
    assert_eq!(story.tells_of(GROUP), None);
    story.command(Command::Failover(GROUP));
    let refused = Event::CommandRefused { command: Command::Failover(GROUP), why: Refusal::NoSuchGroup };
    assert!(story.has_event(&refused));
}

#[test]
fn a6_a_group_that_comes_back_while_it_goes_is_kept() {
    let mut story = Story::active(0, 2);
    story.knows(&[]);
    story.knows(&[group(GROUP, [0, 1])]);
    story.input(Input::ReleaseDone { group: GROUP });
    story.pass(1000);
    assert_eq!((story.role(), story.releases().len()), (Role::Acquiring, 1));
    assert!(!story.has_event(&Event::GroupRemoved { group: GROUP }));
}

#[test]
fn a6_a_peer_that_comes_back_without_a_group_may_still_act_for_it_until_it_would_be_dead() {
    let mut story = Story::standby(1, 2, 0);
    story.peer(0).message.session += 1;
    story.peer(0).message.groups.clear();
    story.speaks(0);
    story.pass(190);
    assert_eq!(story.takes(), [], "the lease of its earlier life");
    story.pass(60);
    assert_eq!(story.takes(), [Cause::PeerGaveUp { peer: NodeId(0) }]);
}

#[test]
fn a6_another_node_takes_what_one_has_forgotten() {
    let mut story = Story::standby(1, 2, 0);
    story.says(0, Role::Releasing);
    story.pass(60);
    assert_eq!(story.takes(), []);
    story.peer(0).message.groups.clear();
    story.speaks(0);
    assert_eq!(story.takes(), [Cause::PeerGaveUp { peer: NodeId(0) }]);
}

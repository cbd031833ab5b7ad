//! Groups that come and go by reload, on one node of the cluster after the other.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use lb_model::ids::{GroupId, GroupNumber, MAX_GROUPS};
use lb_model::{Group, GroupKind};

/// The configuration's groups, and those that left it and are not given up yet: their names and
/// numbers are still in use.
pub(super) struct Groups(Vec<Group>);

impl Groups {
    pub(super) fn new(groups: &[Group]) -> Self {
        Self(groups.to_vec())
    }

    pub(super) fn known(&self) -> &[Group] {
        &self.0
    }

    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        self.0.iter().find(|group| group.id() == id)
    }

    /// Those that stay keep their numbers, new ones get free ones. The error is what cannot change
    /// while `lb` runs.
    pub(super) fn number(&self, new: &mut [Group]) -> Result<()> {
        self.stay_with_their_vips(new)?;
        let taken: BTreeSet<GroupNumber> = self.0.iter().map(|group| group.number).collect();
        let numbers = (0..=u8::MAX).map(GroupNumber).take(MAX_GROUPS);
        let mut free = numbers.filter(|number| !taken.contains(number));
        for group in new {
            group.number = match self.get(group.id()) {
                Some(known) if known.nodes != group.nodes => bail!(
                    "group {}: `nodes` cannot change while lb runs in a cluster; restart it",
                    group.name
                ),
                Some(known) if !is_alike(&known.kind, &group.kind) => bail!(
                    "group {}: `kind` and `device` cannot change while lb runs in a cluster; restart it",
                    group.name
                ),
                Some(known) => known.number,
                None => free.next().with_context(|| {
                    format!(
                        "group {}: there are {MAX_GROUPS} groups with those that left the configuration and are still \
                         being given up (`lb events` tells when they are removed); reload again then",
                        group.name
                    )
                })?,
            };
        }
        Ok(())
    }

    /// A VIP in two groups at once would be held by two nodes, as long as one of them has not
    /// reloaded.
    fn stay_with_their_vips(&self, new: &[Group]) -> Result<()> {
        for group in new {
            for vip in &group.vips {
                let has = |known: &&Group| known.vips.iter().any(|other| other.address == vip.address);
                let Some(known) = self.0.iter().find(has).filter(|known| known.name != group.name) else {
                    continue;
                };
                bail!(
                    "VIP {} moves from group {} to group {}: take it out of {} first, on all nodes, and only then put it \
                     into {}",
                    vip.address,
                    known.name,
                    group.name,
                    known.name,
                    group.name
                );
            }
        }
        Ok(())
    }

    /// The configuration has these from now on.
    pub(super) fn follow(&mut self, new: &[Group]) {
        self.0.retain(|known| new.iter().all(|group| group.name != known.name));
        self.0.extend_from_slice(new);
    }

    /// It is given up. `false`: the configuration has it again.
    pub(super) fn forget(&mut self, id: GroupId, configured: &[Group]) -> bool {
        let is_back = configured.iter().any(|group| group.id() == id);
        self.0.retain(|group| group.id() != id || is_back);
        !is_back
    }
}

/// All but the time that a director waits.
fn is_alike(one: &GroupKind, other: &GroupKind) -> bool {
    match (one, other) {
        (GroupKind::Failover, GroupKind::Failover) => true,
        (GroupKind::Anycast(one), GroupKind::Anycast(other)) => one.device == other.device,
        (GroupKind::Failover, _) | (_, GroupKind::Failover) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use lb_model::ids::NodeId;
    use lb_model::{Anycast, Failback, GroupVip};

    fn group(name: &str, vip: u8) -> Group {
        let address = [192, 0, 2, vip].into();
        Group {
            number: GroupNumber(0),
            name: name.to_owned(),
            vips: vec![GroupVip { address, prefix: 24 }],
            interface: None,
            label: None,
            refresh: Duration::ZERO,
            nodes: [0, 1].map(NodeId).into(),
            failback: Failback::Manual,
            kind: GroupKind::Failover,
        }
    }

    fn numbers(groups: &[Group]) -> Vec<(&str, u8)> {
        groups.iter().map(|group| (&*group.name, group.number.0)).collect()
    }

    #[test]
    fn a6_a_number_is_given_again_only_when_its_group_is_forgotten() {
        let mut first = [group("web", 1), group("mail", 2)];
        let mut groups = Groups::new(&[]);
        groups.number(&mut first).expect("new ones");
        groups.follow(&first);
        let mut second = [group("dns", 3), group("web", 1)];
        groups.number(&mut second).expect("one goes, one comes");
        groups.follow(&second);
        assert_eq!(numbers(&second), [("dns", 2), ("web", 0)], "mail is still being given up");
        assert!(groups.forget(GroupId::of("mail"), &second));
        assert!(!groups.forget(GroupId::of("web"), &second), "it is back");
        let mut third = [group("web", 1), group("dns", 3), group("ftp", 4)];
        groups.number(&mut third).expect("mail's number is free");
        assert_eq!(numbers(&third), [("web", 0), ("dns", 2), ("ftp", 1)]);
    }

    #[test]
    fn a6_what_would_make_two_nodes_hold_one_vip_is_refused() {
        let groups = Groups::new(&[group("web", 1), group("mail", 2)]);
        let refused = |new: &mut [Group]| groups.number(new).expect_err("refused").to_string();
        let text = refused(&mut [group("www", 1), group("mail", 2)]);
        assert!(
            text.starts_with("VIP 192.0.2.1 moves from group web to group www: take it out of web first"),
            "{text}"
        );
        let other_nodes = Group { nodes: [1, 0].map(NodeId).into(), ..group("web", 1) };
        let text = refused(&mut [other_nodes, group("mail", 2)]);
        assert_eq!(text, "group web: `nodes` cannot change while lb runs in a cluster; restart it");
        let failback = Failback::Auto { delay: Duration::ZERO };
        groups.number(&mut [Group { failback, ..group("mail", 2) }]).expect("failback may change");
        let anycast = Anycast { device: "lb-anycast".to_owned(), withdraw_wait: Duration::ZERO };
        let kind = GroupKind::Anycast(anycast);
        let text = refused(&mut [Group { kind, ..group("mail", 2) }]);
        assert_eq!(
            text,
            "group mail: `kind` and `device` cannot change while lb runs in a cluster; restart it"
        );
    }

    #[test]
    fn a6_there_are_not_more_than_there_are_leases() {
        let many: Vec<Group> = (0..32)
            .map(|number| Group { number: GroupNumber(number), ..group(&format!("g{number}"), number) })
            .collect();
        let groups = Groups::new(&many);
        let error = groups.number(&mut [group("new", 99)]).expect_err("none is free");
        assert!(error.to_string().starts_with("group new: there are 32 groups"), "{error:#}");
    }
}

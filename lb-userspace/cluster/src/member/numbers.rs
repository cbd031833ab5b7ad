//! Which number each group has on this node: that of its lease, and of its orders to the holder of
//! addresses.

use std::collections::BTreeMap;

use lb_model::Group;
use lb_model::ids::{GroupId, GroupNumber};

/// Numbers and names of groups, also of those that left the configuration and are not given up yet.
#[derive(Debug, Default)]
pub struct GroupNumbers(BTreeMap<GroupId, NumberedGroup>);

#[derive(Debug, Clone)]
pub struct NumberedGroup {
    number: GroupNumber,
    name: String,
    is_anycast: bool,
}

impl GroupNumbers {
    /// These groups have these numbers from now on. Who gives numbers out gives none that is still
    /// in use.
    pub fn add(&mut self, numbers: impl IntoIterator<Item = (GroupId, NumberedGroup)>) {
        self.0.extend(numbers);
    }

    pub fn remove(&mut self, group: GroupId) -> Option<GroupNumber> {
        self.0.remove(&group).map(|group| group.number)
    }

    pub fn of(&self, group: GroupId) -> Option<GroupNumber> {
        self.0.get(&group).map(|group| group.number)
    }

    /// The group's name in the configuration.
    pub fn name(&self, group: GroupId) -> &str {
        self.0.get(&group).map_or("", |group| &group.name)
    }

    /// Every node serves it.
    pub fn is_anycast(&self, group: GroupId) -> bool {
        self.0.get(&group).is_some_and(|group| group.is_anycast)
    }

    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.0.keys().copied()
    }

    pub fn group(&self, number: GroupNumber) -> Option<GroupId> {
        self.0.iter().find(|(_, group)| group.number == number).map(|(id, _)| *id)
    }
}

/// The configuration's groups.
pub(super) fn numbers(groups: &[Group]) -> impl Iterator<Item = (GroupId, NumberedGroup)> + '_ {
    groups.iter().map(|group| {
        let (number, name) = (group.number, group.name.clone());
        (group.id(), NumberedGroup { number, name, is_anycast: group.anycast().is_some() })
    })
}

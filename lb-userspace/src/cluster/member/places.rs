//! Which number each group has on this node: that of its lease, and of its orders to the holder of addresses.

use std::collections::BTreeMap;

use crate::cluster::message::GroupId;
use crate::cluster::takeover::holder::GroupNumber;
use crate::config::Group;

/// Those groups too that left the configuration and are not given up yet.
#[derive(Debug, Default)]
pub struct Places(BTreeMap<GroupId, Place>);

#[derive(Debug, Clone)]
pub struct Place {
    number: GroupNumber,
    name: String,
}

impl Places {
    /// These groups have these numbers from now on. Who gives numbers out gives none that is still in use.
    pub fn add(&mut self, places: impl IntoIterator<Item = (GroupId, Place)>) {
        self.0.extend(places);
    }

    pub fn remove(&mut self, group: GroupId) -> Option<GroupNumber> {
        self.0.remove(&group).map(|place| place.number)
    }

    pub fn of(&self, group: GroupId) -> Option<GroupNumber> {
        self.0.get(&group).map(|place| place.number)
    }

    /// As the configuration calls it.
    pub fn name(&self, group: GroupId) -> &str {
        self.0.get(&group).map_or("", |place| &place.name)
    }

    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.0.keys().copied()
    }

    pub fn group(&self, number: GroupNumber) -> Option<GroupId> {
        self.0.iter().find(|(_, place)| place.number == number).map(|(group, _)| *group)
    }
}

/// The configuration's groups.
pub fn places(groups: &[Group]) -> impl Iterator<Item = (GroupId, Place)> + '_ {
    groups.iter().map(|group| (group.id(), Place { number: group.number, name: group.name.clone() }))
}

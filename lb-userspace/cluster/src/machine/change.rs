//! The configuration was read anew: groups come and go.

use super::group::Group;
use super::{Change, Event, Machine, Output};

impl Machine {
    pub(super) fn change(&mut self, change: Change, outputs: &mut Vec<Output>) {
        let Change { config_digest, takeover, groups } = change;
        for known in &mut self.groups {
            let settings = groups.iter().find(|settings| settings.id == known.id);
            known.removed = settings.is_none();
            if let Some(settings) = settings {
                known.settings = settings.clone();
            }
        }
        for settings in &groups {
            if self.group(settings.id).is_none() {
                let group = Group::new(settings.clone(), &self.node);
                outputs.push(Output::Event(Event::GroupAdded { group: group.id }));
                outputs.push(group.first_release());
                self.groups.push(group);
            }
        }
        self.groups.sort_by_key(|group| group.id);
        let settings = &mut self.node.settings;
        (settings.config_digest, settings.takeover, settings.groups) = (config_digest, takeover, groups);
    }

    /// Groups that left the configuration, of which nothing is left here.
    pub(super) fn forget_the_removed(&mut self, outputs: &mut Vec<Output>) {
        self.groups.retain(|group| {
            let gone = group.removed && group.is_idle();
            if gone {
                outputs.push(Output::Event(Event::GroupRemoved { group: group.id }));
            }
            !gone
        });
    }
}

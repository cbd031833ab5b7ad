//! The VIP groups.

use std::net::IpAddr;
use std::time::Duration;

use super::{Checker, Unique, Value, values};
use crate::config::model::{Failback, Group, GroupVip};
use crate::config::places::Place;
use crate::config::yaml;

/// How often held VIPs are announced again unless the file says otherwise.
const REFRESH: Duration = Duration::from_secs(5);
const LONGEST_REFRESH: Duration = Duration::from_secs(3600);

impl Checker {
    pub(super) fn groups(&mut self, file: &yaml::File, place: Place<'_>) -> Vec<Group> {
        let interface = file.interface.0.as_deref().unwrap_or("eth0");
        let mut names = Unique::default();
        let mut vips = Unique::default();
        let groups = file.groups.as_deref().unwrap_or_default();
        let groups = groups.iter().enumerate().map(|(index, group)| {
            let place = place.item(index);
            let group = self.group(group, place, interface, &mut vips);
            if let Err(line) = names.insert(group.name.clone(), place.key("name").at()) {
                let message = format!("name {:?}: the group in line {line} has it already", group.name);
                self.mistake(place.key("name").at(), message);
            }
            group
        });
        groups.collect()
    }

    fn group(
        &mut self,
        group: &yaml::Group,
        place: Place<'_>,
        interface: &str,
        taken: &mut Unique<IpAddr>,
    ) -> Group {
        let yaml::Group { name, vips: _, label, refresh } = group;
        let vips = self.group_vips(group, place, taken);
        let name = self.optional(Value::of(name, "name", place), values::name);
        let label = self.optional(Value::of(label, "label", place), |text| values::label(text, interface));
        let refresh = self.optional(Value::of(refresh, "refresh", place), |text| {
            values::time(text, Duration::ZERO..=LONGEST_REFRESH)
        });
        let first = || vips.first().map_or_else(String::new, |vip| vip.address.to_string());
        Group {
            name: name.unwrap_or_else(first),
            label,
            refresh: refresh.unwrap_or(REFRESH),
            vips,
            nodes: Vec::new(),
            failback: Failback::Auto { delay: Duration::ZERO },
        }
    }

    fn group_vips(
        &mut self,
        group: &yaml::Group,
        place: Place<'_>,
        taken: &mut Unique<IpAddr>,
    ) -> Vec<GroupVip> {
        let list = place.key("vips");
        let given = group.vips.as_deref().unwrap_or_default();
        if given.is_empty() {
            self.mistake(
                place.key_at(),
                "`vips` is missing, expected a list of addresses with prefix length",
            );
        }
        let mut vips = Vec::new();
        for (index, scalar) in given.iter().enumerate() {
            let at = list.item(index).at();
            let text = scalar.0.as_deref().unwrap_or_default();
            let vip = values::group_vip(text).and_then(|vip| match taken.insert(vip.address, at) {
                Ok(()) => Ok(vip),
                Err(line) => Err(format!("line {line} has this address already")),
            });
            match vip {
                Ok(vip) => vips.push(vip),
                Err(wrong) => self.mistake(at, format!("vips {text:?}: {wrong}")),
            }
        }
        vips
    }
}

//! The VIP groups.

use std::net::IpAddr;
use std::time::Duration;

use lb_model::ids::{GroupNumber, MAX_GROUPS, NodeId};
use lb_model::{Anycast, Failback, Group, GroupKind, GroupVip, MAX_VIPS};

use super::cluster::node;
use super::{DAY, Unique, Validator, Value, values};
use crate::source_map::SourceSpan;
use crate::yaml;

/// Default interval of the repeated announcements (gratuitous ARP) of held VIPs.
const REFRESH: Duration = Duration::from_secs(5);
const LONGEST_REFRESH: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Auto,
    Manual,
}

/// Default of `device`.
const DEVICE: &str = "lb-anycast";
/// Default of `withdraw_wait`: a routing daemon withdraws a route at once, and its router forgets
/// the way within some hundred milliseconds.
const WITHDRAW_WAIT: Duration = Duration::from_secs(1);
/// The service manager waits for a stop for thirty seconds.
const LONGEST_WITHDRAW_WAIT: Duration = Duration::from_secs(20);

/// Why keys of a group that one director has are refused.
const EVERY: &str = "every healthy director serves the group";
const NOWHERE: &str = "the group's VIPs are on no interface of the segment, a routing daemon announces them";

const KINDS: [(&str, bool); 2] = [("failover", false), ("anycast", true)];

const FAILBACKS: [(&str, Kind); 2] = [("auto", Kind::Auto), ("manual", Kind::Manual)];

impl Validator {
    /// `cluster` are the names of its nodes, if there is one.
    pub(super) fn groups(
        &mut self,
        file: &yaml::File,
        span: SourceSpan<'_>,
        main: &str,
        others: &[String],
        cluster: Option<&[String]>,
    ) -> Vec<Group> {
        let (mut names, mut ids) = (Unique::default(), Unique::default());
        let mut vips = Unique::default();
        let groups = file.groups.as_deref().unwrap_or_default();
        self.at_most(MAX_GROUPS, groups.len(), "groups", span);
        let groups = groups.iter().enumerate().map(|(index, group)| {
            let span = span.item(index);
            let mut group = self.group(group, span, (main, others), cluster, &mut vips);
            group.number = GroupNumber(u8::try_from(index).unwrap_or(u8::MAX));
            // The name is empty if name and VIPs are missing or wrong, which is reported already.
            if !group.name.is_empty() {
                let named = span.key("name");
                let name = names.insert(group.name.clone(), named);
                let name = name.map_err(|line| format!("the group in line {line} already has this name"));
                let taken = name.and_then(|()| {
                    let same = |line: String| {
                        format!(
                            "heartbeats cannot tell it from the name in line {line}, expected another name"
                        )
                    };
                    ids.insert(group.id(), named).map_err(same)
                });
                if let Err(why) = taken {
                    self.mistake(named.at(), format!("name {:?}: {why}", group.name));
                }
            }
            group
        });
        let groups: Vec<Group> = groups.collect();
        let count: usize = groups.iter().map(|group| group.vips.len()).sum();
        if count > MAX_VIPS {
            let message = format!("found {count} VIPs in all groups together, expected at most {MAX_VIPS}");
            self.mistake(span.key_at(), message);
        }
        groups
    }

    fn group<'m>(
        &mut self,
        group: &yaml::Group,
        span: SourceSpan<'m>,
        (main, others): (&str, &[String]),
        cluster: Option<&[String]>,
        taken: &mut Unique<'m, IpAddr>,
    ) -> Group {
        let yaml::Group {
            name,
            kind,
            vips: _,
            interface,
            label,
            refresh,
            nodes: _,
            failback: _,
            failback_delay: _,
            device: _,
            withdraw_wait: _,
        } = group;
        let is_anycast = self.one_of(Value::of(kind, "kind", span), &KINDS, false);
        let vips = self.group_vips(group, span, is_anycast, taken);
        let kind = match is_anycast {
            true => GroupKind::Anycast(self.anycast(group, span, cluster.is_some(), (main, others))),
            false => {
                self.nothing_of_anycast(group, span);
                GroupKind::Failover
            }
        };
        let name = self.optional(Value::of(name, "name", span), values::name);
        let interface = self.optional(Value::of(interface, "interface", span), |text| {
            let known = || [main].into_iter().chain(others.iter().map(String::as_str));
            match known().find(|name| *name == text) {
                Some(name) => Ok((name != main).then(|| name.to_owned())),
                None => Err(format!(
                    "expected one that packets come in by, of `interfaces`: {}",
                    known().collect::<Vec<_>>().join(", ")
                )),
            }
        });
        let interface = interface.flatten();
        let named = interface.as_deref().unwrap_or(if main.is_empty() { "eth0" } else { main });
        let label = self.optional(Value::of(label, "label", span), |text| values::label(text, named));
        let refresh = self.optional(Value::of(refresh, "refresh", span), |text| {
            values::time(text, Duration::ZERO..=LONGEST_REFRESH)
        });
        let (nodes, failback) = match cluster {
            Some(names) if is_anycast => {
                let all = (0..=u8::MAX).zip(names).map(|(node, _)| NodeId(node)).collect();
                (all, Failback::Manual)
            }
            Some(names) => (self.group_nodes(group, span.key("nodes"), names), self.failback(group, span)),
            None => {
                // Of one that is anycast they have been told already.
                if !is_anycast {
                    self.nothing_of_a_cluster(group, span);
                }
                (Vec::new(), Failback::Auto { delay: Duration::ZERO })
            }
        };
        let first = || vips.first().map_or_else(String::new, |vip| vip.address.to_string());
        Group {
            number: GroupNumber(0),
            name: name.unwrap_or_else(first),
            interface,
            label,
            refresh: refresh.unwrap_or(REFRESH),
            vips,
            nodes,
            failback,
            kind,
        }
    }

    /// What a group has that every director serves, and nothing of what a group has that one
    /// director has.
    fn anycast(
        &mut self,
        group: &yaml::Group,
        span: SourceSpan<'_>,
        in_cluster: bool,
        (main, others): (&str, &[String]),
    ) -> Anycast {
        let yaml::Group { interface, label, refresh, nodes, failback, failback_delay, device, .. } = group;
        if !in_cluster {
            let message =
                "`kind: anycast` is for groups of a cluster, and this configuration has no `cluster`";
            self.mistake(span.key("kind").key_at(), message);
        }
        let given = [
            ("interface", interface.is_given(), NOWHERE),
            ("label", label.is_given(), NOWHERE),
            ("refresh", refresh.is_given(), NOWHERE),
            ("nodes", nodes.is_some(), EVERY),
            ("failback", failback.is_given(), EVERY),
            ("failback_delay", failback_delay.is_given(), EVERY),
        ];
        for (key, _, why) in given.into_iter().filter(|(_, given, _)| *given) {
            let message = format!("a group of `kind: anycast` cannot have `{key}`: {why}");
            self.mistake(span.key(key).key_at(), message);
        }
        let device = self.optional(Value::of(device, "device", span), |text| {
            let device = values::interface(text)?;
            match device == main || others.contains(&device) {
                true => Err("expected a name that no interface has: lb makes the device itself".to_owned()),
                false => Ok(device),
            }
        });
        let withdraw_wait = self.optional(Value::of(&group.withdraw_wait, "withdraw_wait", span), |text| {
            values::time(text, Duration::ZERO..=LONGEST_WITHDRAW_WAIT)
        });
        Anycast {
            device: device.unwrap_or_else(|| DEVICE.to_owned()),
            withdraw_wait: withdraw_wait.unwrap_or(WITHDRAW_WAIT),
        }
    }

    /// Reports keys that only groups have that every director serves.
    fn nothing_of_anycast(&mut self, group: &yaml::Group, span: SourceSpan<'_>) {
        let yaml::Group { device, withdraw_wait, .. } = group;
        let given = [("device", device.is_given()), ("withdraw_wait", withdraw_wait.is_given())];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let message = format!("`{key}` is for groups of `kind: anycast`");
            self.mistake(span.key(key).key_at(), message);
        }
    }

    fn group_nodes(&mut self, group: &yaml::Group, list: SourceSpan<'_>, names: &[String]) -> Vec<NodeId> {
        let Some(given) = &group.nodes else {
            return (0..=u8::MAX).zip(names).map(|(node, _)| NodeId(node)).collect();
        };
        if given.is_empty() {
            self.mistake(list.key_at(), "`nodes` is empty, expected the nodes that may hold the group");
        }
        // Without nodes, which `node_names` reports, no name can be right.
        if names.is_empty() {
            return Vec::new();
        }
        let mut taken = Unique::default();
        self.items(given, "nodes", list, |text, at| taken.only(node(names, text)?, "node", at))
    }

    /// Reports keys that only a cluster's groups have.
    fn nothing_of_a_cluster(&mut self, group: &yaml::Group, span: SourceSpan<'_>) {
        let yaml::Group { nodes, failback, failback_delay, .. } = group;
        let given = [
            ("nodes", nodes.is_some()),
            ("failback", failback.is_given()),
            ("failback_delay", failback_delay.is_given()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let message =
                format!("`{key}` is for groups of a cluster, and this configuration has no `cluster`");
            self.mistake(span.key(key).key_at(), message);
        }
    }

    fn failback(&mut self, group: &yaml::Group, span: SourceSpan<'_>) -> Failback {
        let kind = self.one_of(Value::of(&group.failback, "failback", span), &FAILBACKS, Kind::Auto);
        let delay = Value::of(&group.failback_delay, "failback_delay", span);
        let read = self.optional(delay, |text| values::time(text, Duration::ZERO..=DAY));
        match kind {
            Kind::Auto => Failback::Auto { delay: read.unwrap_or_default() },
            Kind::Manual => {
                if delay.text.is_some() {
                    let message = "`failback_delay` belongs to `failback: auto`, this group's is manual";
                    self.mistake(delay.span().key_at(), message);
                }
                Failback::Manual
            }
        }
    }

    fn group_vips<'m>(
        &mut self,
        group: &yaml::Group,
        span: SourceSpan<'m>,
        is_anycast: bool,
        taken: &mut Unique<'m, IpAddr>,
    ) -> Vec<GroupVip> {
        let list = span.key("vips");
        let given = group.vips.as_deref().unwrap_or_default();
        if given.is_empty() {
            self.mistake(span.key_at(), "`vips` is missing, expected a list of addresses with prefix length");
        }
        self.items(given, "vips", list, |text, at| {
            let vip = values::group_vip(text)?;
            let whole = if vip.address.is_ipv4() { 32 } else { 128 };
            if is_anycast && vip.prefix != whole {
                return Err(format!(
                    "expected {}/{whole}: of a group of `kind: anycast` each address is announced by itself",
                    vip.address
                ));
            }
            taken.only(vip.address, "address", at)?;
            Ok(vip)
        })
    }
}

//! The groups' roles here, as hooks and `lb status` show them.

use std::collections::BTreeMap;
use std::time::Instant;

use lb_api::status::Count;
use lb_cluster::hooks;
use lb_cluster::machine::Cause;
use lb_cluster::message::Role;
use lb_cluster::words;
use lb_model::Group;
use lb_model::ids::GroupId;
use lb_system::command::environment;
use lb_system::vital_signs::Pulse;

use super::super::synchronisation::Synchronisation;
use super::{Clustered, Membership};

/// Of one group.
pub(super) struct RoleHere {
    pub since: Instant,
    /// Why the group was taken, released or cannot be taken; not merely that this is done.
    pub cause: String,
    /// Its id.
    cause_id: &'static str,
    /// How often the group was taken, by the cause's id.
    takeovers: BTreeMap<&'static str, u64>,
    /// The last one that was neither acquiring nor releasing.
    settled: Role,
}

impl RoleHere {
    pub(super) fn starting(group: &Group) -> Self {
        Self {
            since: Instant::now(),
            cause: "starting".to_owned(),
            cause_id: words::cause_id(&Cause::Start),
            takeovers: words::taking(group).iter().map(|cause| (*cause, 0)).collect(),
            settled: Role::Fault,
        }
    }

    /// How often the group was taken, by the cause's id; those that are usual are there from the
    /// start.
    pub(super) fn takeovers(&self) -> Vec<Count> {
        let count = |(cause, count): (&&str, &u64)| Count { reason: (*cause).to_owned(), count: *count };
        self.takeovers.iter().map(count).collect()
    }
}

impl Membership {
    /// Names of the groups that are active here; `None`: the director is alone, and always active.
    pub(in super::super) fn active_groups(&self) -> Option<Vec<&str>> {
        let clustered = self.clustered()?;
        let is_active = |group: &&Group| {
            clustered.roles.get(&group.id()).is_some_and(|here| here.settled == Role::Active)
        };
        let active = clustered.groups.known().iter().filter(is_active);
        Some(active.map(|group| group.name.as_str()).collect())
    }

    /// Its threads, by their names, give signs of life.
    pub(in super::super) fn pulses(&self) -> Vec<(&'static str, Pulse)> {
        let clustered = self.clustered().into_iter();
        let of = |clustered: &Clustered| {
            let synchronisation = clustered.synchronisation.as_ref().map(Synchronisation::pulse);
            [Some(clustered.member.pulse()), synchronisation].into_iter().flatten()
        };
        clustered.flat_map(of).collect()
    }
}

impl Clustered {
    pub(super) fn role_changed(&mut self, group: GroupId, to: Role, cause: &Cause) {
        let (text, node) = {
            let names = self.names();
            (words::cause(cause, names), names.node(self.cluster.me))
        };
        let (Some(here), Some(config)) = (self.roles.get_mut(&group), self.groups.get(group)) else { return };
        here.since = Instant::now();
        if *cause != Cause::Done {
            here.cause = text;
            here.cause_id = words::cause_id(cause);
        }
        let event = match to {
            Role::Active => hooks::Event::Active,
            Role::Standby => hooks::Event::Standby,
            Role::Fault if words::is_meant(cause) => return here.settled = to,
            Role::Fault => hooks::Event::Fault,
            Role::Acquiring | Role::Releasing => return,
        };
        let previous = std::mem::replace(&mut here.settled, to);
        if previous == to {
            return;
        }
        if to == Role::Active {
            *here.takeovers.entry(here.cause_id).or_default() += 1;
        }
        let vips: Vec<String> = config.vips.iter().map(|vip| vip.address.to_string()).collect();
        let environment = environment([
            ("GROUP", &config.name),
            ("ROLE", event.name()),
            ("PREVIOUS_ROLE", words::role(previous)),
            ("CAUSE", &here.cause),
            ("NODE", &node),
            ("VIPS", &vips.join(" ")),
        ]);
        self.hooks.run(&config.name, event, environment);
    }
}

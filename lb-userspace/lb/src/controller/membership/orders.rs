//! What operators order, see `cli::orders` for the other end.

use std::fs;

use anyhow::{Context as _, Result};
use lb_api::status::{Accepted, Move};
use lb_cluster::machine::{self, Refusal};
use lb_cluster::member::driver::Snapshot;
use lb_cluster::message::Role;
use lb_cluster::{standing, words};
use lb_model::ids::GroupId;
use lb_model::{Cluster, Group};

use super::{Clustered, Membership};
use crate::observe::requests::Order;

/// What operators have ordered that keeps this node out, one apart from the other.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub standby: bool,
    pub maintenance: bool,
}

const NOT_IN_STEP: &str = "no other node knows all connections yet (`lb status`): what is here goes once \
                           one does, and after ten seconds in any case";

impl Out {
    /// What one of them that has ended does not change.
    fn still(&self) -> Option<String> {
        let note = match self {
            Self { maintenance: true, .. } => {
                "maintenance still keeps this node out: `lb maintenance off` ends it"
            }
            Self { standby: true, .. } => "standby still keeps this node out: `lb resume` ends it",
            Self { standby: false, maintenance: false } => return None,
        };
        Some(note.to_owned())
    }
}

impl Membership {
    /// Other directors shall know these orders.
    pub(in crate::controller) fn tell_standing(&self, orders: Vec<standing::Order>) {
        if let Some(clustered) = self.clustered().filter(|_| !orders.is_empty()) {
            clustered.member.tell_standing(orders);
        }
    }

    /// What came of the order; or why it is refused.
    pub(in crate::controller) async fn order(
        &mut self,
        order: Order,
        groups: &[Group],
    ) -> Result<Accepted, String> {
        let Self::Clustered(clustered) = self else {
            return Err("this director is alone: its configuration has no `cluster`".to_owned());
        };
        let snapshot = clustered.member.snapshot().await.map_err(|error| format!("{error:#}"))?;
        let ordered = Ordered { clustered, groups, snapshot };
        let moves = ordered.carry_out(&order).await?;
        match order {
            Order::Failover(_) | Order::Failback(_) => {
                let note = clustered.is_alone_in_step().then(|| NOT_IN_STEP.to_owned());
                return Ok(Accepted { moves, note });
            }
            Order::Standby { .. } => clustered.out.standby = true,
            Order::Resume => clustered.out.standby = false,
            Order::Maintenance { on, .. } => clustered.out.maintenance = on,
        }
        let ends = matches!(order, Order::Resume | Order::Maintenance { on: false, .. });
        Ok(Accepted { moves, note: clustered.out.still().filter(|_| ends) })
    }
}

/// An order's matter.
struct Ordered<'a> {
    clustered: &'a Clustered,
    groups: &'a [Group],
    snapshot: Snapshot,
}

impl Ordered<'_> {
    /// Returns the groups that move.
    async fn carry_out(&self, order: &Order) -> Result<Vec<Move>, String> {
        match order {
            Order::Failover(group) => self.move_groups(group.as_deref(), machine::Command::Failover).await,
            Order::Failback(group) => self.move_groups(group.as_deref(), machine::Command::Failback).await,
            Order::Standby { force } => {
                self.may_leave(*force)?;
                self.leave(machine::Command::Standby).await
            }
            Order::Resume => self.command(machine::Command::Resume).await,
            Order::Maintenance { on, force } => {
                if *on {
                    self.may_leave(*force)?;
                }
                remember(&self.clustered.cluster, *on).map_err(|error| format!("{error:#}"))?;
                let command = machine::Command::Maintenance(*on);
                if *on { self.leave(command).await } else { self.command(command).await }
            }
        }
    }

    /// The outer error: nobody could be asked.
    async fn give(&self, command: machine::Command) -> Result<Result<(), Refusal>, String> {
        self.clustered.member.command(command).await.map_err(|error| format!("{error:#}"))
    }

    /// For commands that are never refused.
    async fn command(&self, command: machine::Command) -> Result<Vec<Move>, String> {
        self.give(command).await.map(|_| Vec::new())
    }

    /// The named group, or all that the command is for. Those it is not for are passed over, unless
    /// none is left.
    async fn move_groups(
        &self,
        group: Option<&str>,
        command: fn(GroupId) -> machine::Command,
    ) -> Result<Vec<Move>, String> {
        let chosen: Vec<(GroupId, &Group)> = match group {
            None => self.numbered().collect(),
            Some(name) => {
                let found = self.numbered().find(|(_, group)| group.name == *name);
                let known = || self.groups.iter().map(|group| &*group.name).collect::<Vec<_>>().join(", ");
                vec![found.ok_or_else(|| format!("there is no group {name:?}; there are: {}", known()))?]
            }
        };
        let (mut moves, mut refused, mut not_meant) = (Vec::new(), Vec::new(), Vec::new());
        for (id, group) in chosen {
            let why = match self.give(command(id)).await? {
                Ok(()) => {
                    moves.extend(self.leaving(id, group));
                    continue;
                }
                Err(why) => why,
            };
            let text = format!("{}: {}", group.name, words::refusal(why, self.clustered.names()));
            let passed_over =
                matches!(why, Refusal::NotHere { .. } | Refusal::AlreadyThere | Refusal::Anycast);
            if passed_over { not_meant.push(text) } else { refused.push(text) }
        }
        if refused.is_empty() && !moves.is_empty() {
            return Ok(moves);
        }
        refused.extend(moves.iter().map(|moved| format!("{}: leaves {}", moved.group, moved.from)));
        Err(if refused.is_empty() { not_meant } else { refused }.join("\n"))
    }

    /// Not if a group would be nobody's then, unless that is meant.
    fn may_leave(&self, force: bool) -> Result<(), String> {
        let deserted = self.here().filter(|(id, _)| !self.has_successor(*id));
        let deserted: Vec<&str> = deserted.map(|(_, group)| &*group.name).collect();
        if force || deserted.is_empty() {
            return Ok(());
        }
        Err(format!(
            "no other node is ready for {} (`lb status` tells why): nobody would have its addresses; \
             with --force this node goes all the same",
            deserted.join(", ")
        ))
    }

    /// Everything that is here goes. Returns what somebody will take.
    async fn leave(&self, command: machine::Command) -> Result<Vec<Move>, String> {
        self.command(command).await?;
        // Of those that every node serves none moves.
        let moves = self.here().filter(|(_, group)| group.anycast().is_none());
        let taken = moves.filter(|(id, _)| self.has_successor(*id));
        Ok(taken.filter_map(|(id, group)| self.leaving(id, group)).collect())
    }

    fn numbered(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().map(|group| (group.id(), group))
    }

    fn here(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.numbered().filter(|(id, _)| {
            let group = self.snapshot.groups.get(id);
            group.is_some_and(|group| matches!(group.role, Role::Active | Role::Acquiring))
        })
    }

    fn has_successor(&self, id: GroupId) -> bool {
        self.snapshot.groups.get(&id).is_some_and(|group| group.has_successor)
    }

    fn leaving(&self, id: GroupId, group: &Group) -> Option<Move> {
        let holder = self.snapshot.groups.get(&id)?.holder?;
        let names = self.clustered.names();
        Some(Move { group: group.name.clone(), from: names.node(holder) })
    }
}

fn remember(cluster: &Cluster, maintenance: bool) -> Result<()> {
    let file = cluster.maintenance_file();
    let remember = || match maintenance {
        true => {
            fs::create_dir_all(&cluster.state)?;
            fs::write(&file, "Made by `lb maintenance on`; `lb maintenance off` removes it.\n")
        }
        false => match fs::remove_file(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        },
    };
    remember().with_context(|| format!("cannot remember maintenance mode in {}", file.display()))
}

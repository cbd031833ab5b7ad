//! What an operator asks for.

use super::group::{Group, Move, Ordered};
use super::node::Node;
use super::{Command, Event, GroupId, Machine, Output, Refusal};

impl Machine {
    pub(super) fn command(&mut self, command: Command, outputs: &mut Vec<Output>) {
        let done = match command {
            Command::Failover(group) => self.command_on(group, Group::failover, outputs),
            Command::Failback(group) => self.command_on(group, Group::failback, outputs),
            Command::Standby => {
                self.node.standby = true;
                Ok(())
            }
            Command::Resume => {
                self.node.standby = false;
                Ok(())
            }
            Command::Maintenance(on) => {
                self.node.maintenance = on;
                Ok(())
            }
        };
        if let Err(why) = done {
            outputs.push(Output::Event(Event::CommandRefused { command, why }));
        }
    }

    fn command_on(
        &mut self,
        group: GroupId,
        act: impl FnOnce(&mut Group, &Node, &mut Vec<Output>) -> Result<(), Refusal>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        let group = self.groups.iter_mut().find(|known| known.id == group && !known.removed);
        act(group.ok_or(Refusal::NoSuchGroup)?, &self.node, outputs)
    }
}

impl Group {
    fn failover(&mut self, node: &Node, outputs: &mut Vec<Output>) -> Result<(), Refusal> {
        self.has_one_holder()?;
        if !self.is_held() {
            return Err(Refusal::NotHere { holder: node.holder(self.id) });
        }
        self.ordered = Some(Ordered { what: Move::Failover, since: node.watched });
        self.review_ordered(node, outputs)
    }

    fn failback(&mut self, node: &Node, outputs: &mut Vec<Output>) -> Result<(), Refusal> {
        self.has_one_holder()?;
        if !self.is_held() {
            return self.ask_back(node);
        }
        if self.place_of(node.settings.me) == Some(0) {
            self.withdraw_failover(outputs);
            return Err(Refusal::AlreadyThere);
        }
        self.ordered = Some(Ordered { what: Move::Failback, since: node.watched });
        self.review_ordered(node, outputs)
    }

    /// A failover that waits until the other node knows the connections is not what the operator
    /// wants any more.
    fn withdraw_failover(&mut self, outputs: &mut Vec<Output>) {
        if self.ordered.take().is_some() {
            let command = Command::Failover(self.id);
            outputs.push(Output::Event(Event::CommandRefused { command, why: Refusal::Withdrawn }));
        }
    }

    fn has_one_holder(&self) -> Result<(), Refusal> {
        self.settings.anycast.map_or(Ok(()), |_| Err(Refusal::Anycast))
    }

    /// Given on the side that wants the group: its holder is asked for it by heartbeat.
    fn ask_back(&mut self, node: &Node) -> Result<(), Refusal> {
        let holder = node.holder(self.id);
        let before = |holder| self.place_of(node.settings.me) < self.place_of(holder);
        if !holder.is_some_and(before) {
            return Err(Refusal::NotHere { holder });
        }
        if self.candidate_since.is_none() {
            return Err(Refusal::NotReady);
        }
        self.yielded = false;
        self.ordered = Some(Ordered { what: Move::Failback, since: node.watched });
        self.review_wish(node);
        Ok(())
    }
}

//! What goes wrong in the world, and how it ends.

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    Crash(usize),
    Freeze(usize),
    /// All paths from the first to the second, this way only.
    CutOneWay(usize, usize),
    /// All paths of all nodes.
    CutAll,
    CutPath(usize),
    /// The next heartbeat of the node is lost on all paths.
    Lose(usize),
    /// Its next heartbeat arrives 35 ms late, after those that follow.
    Delay(usize),
    /// Its next heartbeat arrives again 50 ms later.
    Repeat(usize),
    LinkDown(usize),
    DataPathDown(usize),
    /// Neither reference hosts nor servers are reached.
    CutOff(usize),
    TakeoverFails(usize),
    Command(usize, Command),
    /// Its configuration loses the last group.
    Forget(usize),
    // Ends of faults.
    Restart(usize),
    Thaw(usize),
    Heal,
    /// Of all cuts only those from the first to the second.
    HealOneWay(usize, usize),
    Mend(usize),
    /// Its configuration has all groups again.
    Learn(usize),
}

impl Fault {
    /// An end of other faults, which may come at any time and counts for nothing.
    pub(crate) fn is_end(self) -> bool {
        let for_one_node = matches!(self, Self::Restart(_) | Self::Thaw(_) | Self::Mend(_) | Self::Learn(_));
        for_one_node || matches!(self, Self::Heal | Self::HealOneWay(..))
    }

    fn mends(self, (_, from, to): (usize, usize, usize)) -> bool {
        self == Self::HealOneWay(from, to)
    }
}

impl World {
    /// Whether the fault would change anything.
    pub(crate) fn can(&self, fault: Fault) -> bool {
        let runs = |node: usize| self.nodes[node].runs();
        match fault {
            Fault::Crash(node) => self.nodes[node].machine.is_some(),
            Fault::Freeze(node)
            | Fault::Lose(node)
            | Fault::Delay(node)
            | Fault::Repeat(node)
            | Fault::Command(node, _) => runs(node),
            Fault::TakeoverFails(node) => runs(node) && !self.nodes[node].fails,
            Fault::LinkDown(node) => self.nodes[node].local.link,
            Fault::DataPathDown(node) => self.nodes[node].local.data_path,
            Fault::CutOff(node) => self.nodes[node].local.references > 0,
            Fault::Forget(node) => runs(node) && self.knows_all_groups(node),
            Fault::Learn(node) => runs(node) && !self.knows_all_groups(node),
            Fault::CutOneWay(..) | Fault::CutAll | Fault::CutPath(_) => self.cut.is_empty(),
            Fault::Restart(node) => self.nodes[node].machine.is_none(),
            Fault::Thaw(node) => self.nodes[node].frozen,
            Fault::Heal => !self.cut.is_empty(),
            Fault::HealOneWay(..) => self.cut.iter().any(|&cut| fault.mends(cut)),
            Fault::Mend(node) => self.nodes[node].local != READY || self.nodes[node].fails,
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        let count = self.nodes.len();
        match fault {
            Fault::Crash(node) => self.crash(node),
            Fault::Freeze(node) => self.nodes[node].frozen = true,
            Fault::CutOneWay(from, to) => self.cut.extend((0..PATHS.len()).map(|path| (path, from, to))),
            Fault::CutAll => (0..PATHS.len()).for_each(|path| self.cut_path(path, count)),
            Fault::CutPath(path) => self.cut_path(path, count),
            Fault::Lose(node) => self.nodes[node].fate.lost = true,
            Fault::Delay(node) => self.nodes[node].fate.delayed = true,
            Fault::Repeat(node) => self.nodes[node].fate.repeated = true,
            Fault::LinkDown(node) => self.change(node, |local| local.link = false),
            Fault::DataPathDown(node) => self.change(node, |local| local.data_path = false),
            Fault::CutOff(node) => self.change(node, |local| (local.references, local.servers) = (0, 0)),
            Fault::TakeoverFails(node) => self.nodes[node].fails = true,
            Fault::Command(node, command) => self.input(node, Input::Command(command)),
            Fault::Forget(node) => {
                self.nodes[node].settings.groups.pop();
                self.reload(node);
            }
            Fault::Learn(node) => {
                let (nodes, groups) = (self.nodes.len(), self.groups().count());
                self.nodes[node].settings.groups = settings(node, nodes, groups).groups;
                self.reload(node);
            }
            Fault::Restart(node) => self.restart(node),
            Fault::Thaw(node) => self.thaw(node),
            Fault::Heal => self.cut.clear(),
            Fault::HealOneWay(..) => self.cut.retain(|&cut| !fault.mends(cut)),
            Fault::Mend(node) => {
                self.nodes[node].fails = false;
                self.change(node, |local| *local = READY);
            }
        }
    }

    /// Ends all faults.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        for node in 0..self.nodes.len() {
            for end in [Fault::Restart(node), Fault::Thaw(node), Fault::Mend(node), Fault::Learn(node)] {
                if self.can(end) {
                    self.strike(end);
                }
            }
            self.input(node, Input::Command(Command::Resume));
            self.input(node, Input::Command(Command::Maintenance(false)));
        }
    }

    fn cut_path(&mut self, path: usize, count: usize) {
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        self.cut.extend(pairs.map(|(from, to)| (path, from, to)));
    }

    /// The controller is gone; kernel, data path and lease stay.
    fn crash(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        (node.machine, node.frozen, node.fails) = (None, false, false);
        node.work.clear();
        node.inbox.clear();
    }

    fn knows_all_groups(&self, node: usize) -> bool {
        self.nodes[node].settings.groups.len() == self.groups().count()
    }

    /// The controller reads its configuration anew; that it has another digest then plays no part
    /// here.
    fn reload(&mut self, node: usize) {
        let Settings { config_digest, takeover, ref groups, .. } = self.nodes[node].settings;
        let change = Change { config_digest, takeover, groups: groups.clone() };
        self.input(node, Input::Changed(change));
    }

    fn restart(&mut self, node: usize) {
        self.nodes[node].settings.session += 1;
        self.start(node);
    }

    /// The timer comes first, the messages that waited come after it.
    fn thaw(&mut self, node: usize) {
        self.nodes[node].frozen = false;
        self.input(node, Input::Timer);
        let local = self.nodes[node].local;
        for message in std::mem::take(&mut self.nodes[node].inbox) {
            self.input(node, Input::Heartbeat(message));
        }
        self.input(node, Input::Readiness(local));
    }

    fn change(&mut self, node: usize, change: impl FnOnce(&mut LocalReadiness)) {
        change(&mut self.nodes[node].local);
        let local = self.nodes[node].local;
        self.input(node, Input::Readiness(local));
    }
}

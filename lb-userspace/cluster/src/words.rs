//! What happened in the cluster, in words for operators and in fields for programs.

use std::time::Duration;

use lb_api::events::{Level, Record};
use lb_model::ids::{GroupId, NodeId};
use lb_model::{Cluster, Group};

use super::machine::{Cause, Command, Event, Refusal, Seen};
use super::member::driver::Report;
use super::member::handover::ServedOn;
use super::member::peers::Abandoned;
use super::message::Role;
use super::transport::PathId;
use super::transport::event_loop;
use super::transport::slot::Change;

/// What ids are called in the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    pub cluster: &'a Cluster,
    pub groups: &'a [Group],
    /// In the order of the paths.
    pub paths: &'a [String],
}

impl Names<'_> {
    pub fn node(&self, node: NodeId) -> String {
        let name = self.cluster.nodes.get(usize::from(node.0)).map(|node| node.name.clone());
        name.unwrap_or_else(|| format!("node {}", node.0))
    }

    pub fn group(&self, group: GroupId) -> String {
        let named = self.groups.iter().find(|known| known.id() == group);
        named.map_or_else(|| format!("{:08x}", group.0), |group| group.name.clone())
    }

    fn path(&self, path: PathId) -> String {
        self.paths.get(usize::from(path.0)).cloned().unwrap_or_else(|| format!("path {}", path.0))
    }
}

/// The role's name in listings, JSON and hooks.
pub const fn role(role: Role) -> &'static str {
    match role {
        Role::Fault => "fault",
        Role::Standby => "standby",
        Role::Acquiring => "acquiring",
        Role::Active => "active",
        Role::Releasing => "releasing",
    }
}

/// The event log's record of what the heartbeat thread reports.
pub fn record(report: &Report, names: Names<'_>) -> Record {
    match report {
        Report::Event(event) => cluster_event(event, names),
        Report::Transport(report) => transport_event(report, names),
        Report::ServedOn(news) => served_on(news, names),
        Report::Standing(node, orders) => {
            let (name, count) = (names.node(*node), orders.len());
            let text = format!(
                "node {name} has told {count} order{} for servers",
                if count == 1 { "" } else { "s" }
            );
            Record::new(Level::Info, "orders_learnt", text).node(name)
        }
        Report::Ended(why) => {
            Record::new(Level::Error, "heartbeat_ended", format!("the heartbeat thread has ended: {why}"))
        }
    }
}

fn cluster_event(event: &Event, names: Names<'_>) -> Record {
    use Level::{Error, Info, Warning};
    match event {
        Event::PeerUp { peer, .. } => {
            let node = names.node(*peer);
            Record::new(Info, "node_up", format!("node {node} is up")).node(node)
        }
        Event::PeerRestarted { peer, .. } => {
            let node = names.node(*peer);
            Record::new(Warning, "node_restarted", format!("node {node} has restarted")).node(node)
        }
        Event::PeerLate { peer, silent } => {
            let node = names.node(*peer);
            let text = format!("late heartbeat from node {node}: {} after the one before", millis(*silent));
            Record::new(Warning, "heartbeat_late", text).node(node).took(*silent)
        }
        Event::PeerDead { peer, silent } => {
            let node = names.node(*peer);
            let text = format!("node {node} is dead: silent on all paths for {}", millis(*silent));
            Record::new(Error, "node_dead", text).node(node).took(*silent)
        }
        Event::RoleChanged { group, from, to, cause, after } => {
            role_changed(names.group(*group), (*from, *to), cause, *after, names)
        }
        Event::GroupAdded { group } => {
            let name = names.group(*group);
            let text = format!("group {name} is in the configuration from now on");
            Record::new(Info, "group_added", text).group(name)
        }
        Event::GroupRemoved { group } => {
            let name = names.group(*group);
            let text = format!("group {name} left the configuration, and nothing of it is left here");
            Record::new(Info, "group_removed", text).group(name)
        }
        Event::SplitBrain { group, seen } => {
            let name = names.group(*group);
            let by = match seen {
                Seen::Heartbeat { peer } => format!("node {} is active too", names.node(*peer)),
                Seen::Announcement => "somebody else announces one of its addresses".to_owned(),
            };
            let record =
                Record::new(Error, "split_brain", format!("group {name}: SPLIT BRAIN: {by}")).group(name);
            match seen {
                Seen::Heartbeat { peer } => record.node(names.node(*peer)),
                Seen::Announcement => record,
            }
        }
        Event::SplitBrainResolved { group, winner, lasted } => {
            let (name, winner) = (names.group(*group), names.node(*winner));
            let text =
                format!("group {name}: split brain is over after {}: {winner} has it", millis(*lasted));
            Record::new(Warning, "split_brain_resolved", text).group(name).node(winner).took(*lasted)
        }
        Event::ConfigDiffers { peer, ours, theirs } => {
            let node = names.node(*peer);
            let text = format!(
                "node {node} has another configuration (digest {theirs:016x}, here {ours:016x}): make the files equal on all nodes"
            );
            Record::new(Warning, "config_differs", text).node(node)
        }
        Event::ConfigAgrees { peer } => {
            let node = names.node(*peer);
            Record::new(Info, "config_agrees", format!("node {node} has the same configuration again"))
                .node(node)
        }
        Event::CommandRefused { command, why } => {
            let text = format!("{} refused: {}", self::command(*command, names), refusal(*why, names));
            Record::new(Warning, "command_refused", text)
        }
        Event::Stalled { pause } => {
            let text = format!(
                "this process stood still for {}: is the machine overloaded, or was it stopped?",
                millis(*pause)
            );
            Record::new(Warning, "stalled", text).took(*pause)
        }
    }
}

fn role_changed(
    group: String,
    (from, to): (Role, Role),
    cause: &Cause,
    after: Duration,
    names: Names<'_>,
) -> Record {
    let (was, is) = (role(from), role(to));
    let level = if to == Role::Fault && !is_meant(cause) { Level::Warning } else { Level::Info };
    let lasted = if to == Role::Active { format!(" after {}", millis(after)) } else { String::new() };
    let why = self::cause(cause, names);
    let text = format!("group {group}: {was} -> {is}{lasted}: {why}");
    let record = Record::new(level, "role_changed", text).group(group).from_to(was, is);
    record.cause(why).cause_id(cause_id(cause)).took(after)
}

fn served_on(news: &ServedOn, names: Names<'_>) -> Record {
    let ServedOn { group, node, ended } = news;
    let (group, node) = (names.group(*group), names.node(*node));
    let text =
        |what: &str| format!("group {group}: connections that began on node {node}, which is silent: {what}");
    let Some(why) = ended else {
        let text = text("its program serves them on as long as its host answers");
        return Record::new(Level::Info, "served_on", text).group(group).node(node);
    };
    let (id, why) = match why {
        Abandoned::NoDataPath => ("no_program", "its program is gone"),
        Abandoned::Unreachable => ("unreachable", "its host does not answer"),
        Abandoned::TooLong => ("too_long", "it has been silent for too long"),
        Abandoned::Fenced => ("fenced", "it is fenced"),
    };
    let text = text(&format!("they follow the rule for strays: {why}"));
    let record = Record::new(Level::Warning, "served_on_ended", text);
    record.group(group).node(node).cause(why.to_owned()).cause_id(id)
}

fn command(command: Command, names: Names<'_>) -> String {
    match command {
        Command::Failover(group) => format!("failover of group {}", names.group(group)),
        Command::Failback(group) => format!("failback of group {}", names.group(group)),
        Command::Standby => "standby".to_owned(),
        Command::Resume => "resume".to_owned(),
        Command::Maintenance(on) => format!("maintenance {}", if on { "on" } else { "off" }),
    }
}

fn transport_event(report: &event_loop::Report, names: Names<'_>) -> Record {
    match report {
        event_loop::Report::Path { path, change } => {
            let path = names.path(*path);
            let record = match change {
                Change::Opened => {
                    Record::new(Level::Info, "path_open", format!("heartbeat path {path} is open"))
                }
                Change::Closed(why) => {
                    let text = format!("heartbeat path {path} is closed, trying again every second: {why}");
                    Record::new(Level::Error, "path_closed", text)
                }
                Change::SendsFail(why) => {
                    let text = format!("heartbeat path {path}: sending fails: {why}");
                    Record::new(Level::Warning, "path_sends_fail", text)
                }
                Change::SendsAgain => {
                    let text = format!("heartbeat path {path}: sending works again");
                    Record::new(Level::Info, "path_sends_again", text)
                }
            };
            record.subject(&path)
        }
        event_loop::Report::Dropped { path, reason, count } => {
            let text = format!(
                "heartbeat path {}: {count} messages dropped so far: {}",
                names.path(*path),
                reason.label()
            );
            Record::new(Level::Warning, "message_dropped", text).cause(reason.label().to_owned())
        }
        event_loop::Report::NotSent(why) => {
            Record::new(Level::Error, "message_not_sent", format!("a heartbeat could not be sent: {why}"))
        }
    }
}

/// Nothing is wrong with a node that could not serve for this reason.
pub const fn is_meant(cause: &Cause) -> bool {
    matches!(cause, Cause::Start | Cause::Maintenance | Cause::StandbyCommand | Cause::Removed)
}

/// The ids of causes for which a node takes a group that one node has at a time.
const TAKING: [&str; 4] = ["peer_dead", "peer_gave_up", "offered", "nobody_has_it"];
/// The same of a group that every node serves.
const TAKING_ANYCAST: [&str; 1] = ["ready"];

/// The ids of causes for which a node takes the group.
pub const fn taking(group: &Group) -> &'static [&'static str] {
    match group.anycast() {
        None => &TAKING,
        Some(_) => &TAKING_ANYCAST,
    }
}

/// The cause's id in events.
pub const fn cause_id(cause: &Cause) -> &'static str {
    match cause {
        Cause::Start => "start",
        Cause::NoDataPath => "no_data_path",
        Cause::NoLink => "no_link",
        Cause::Maintenance => "maintenance",
        Cause::StandbyCommand => "standby_command",
        Cause::NotListed => "not_listed",
        Cause::Removed => "removed",
        Cause::Waiting => "waiting",
        Cause::Absence => "absence",
        Cause::Ready => "ready",
        Cause::NoServer => "no_server",
        Cause::NotInStep => "not_in_step",
        Cause::PeerDead { .. } => "peer_dead",
        Cause::PeerGaveUp { .. } => "peer_gave_up",
        Cause::Offered { .. } => "offered",
        Cause::NobodyHasIt => "nobody_has_it",
        Cause::Done => "done",
        Cause::TakeoverFailed { .. } => "takeover_failed",
        Cause::TakeoverTimedOut => "takeover_timed_out",
        Cause::ReleaseStuck => "release_stuck",
        Cause::Failover { .. } => "failover",
        Cause::Failback { .. } => "failback",
        Cause::BetterPlaced { .. } => "better_placed",
        Cause::SplitBrain { .. } => "split_brain",
        Cause::NotHeard { .. } => "not_heard",
        Cause::AddressConflict => "address_conflict",
        Cause::LeaseLost => "lease_lost",
        Cause::LeaseRegained => "lease_regained",
        Cause::PeerTookOver { .. } => "peer_took_over",
    }
}

pub fn cause(cause: &Cause, names: Names<'_>) -> String {
    let node = |node: &NodeId| names.node(*node);
    match cause {
        Cause::Start => "starting, listening for the other nodes".into(),
        Cause::NoDataPath => "the XDP program is not attached".into(),
        Cause::NoLink => "the interface has no link".into(),
        Cause::Maintenance => "maintenance mode".into(),
        Cause::StandbyCommand => "standby by command, or stopping".into(),
        Cause::NotListed => "the group is not configured for this node".into(),
        Cause::Removed => "it left the configuration".into(),
        Cause::Waiting => "waiting after a take-over that failed".into(),
        Cause::Absence => "this process stood still".into(),
        Cause::Ready => "ready".into(),
        Cause::NoServer => "no server and no fallback could serve any of its services".into(),
        Cause::NotInStep => "learning the connections that other nodes know".into(),
        Cause::PeerDead { peer } => format!("node {} is dead", node(peer)),
        Cause::PeerGaveUp { peer } => format!("node {} gave it up", node(peer)),
        Cause::Offered { by } => format!("node {} hands it over", node(by)),
        Cause::NobodyHasIt => "nobody has it".into(),
        Cause::Done => "done".into(),
        Cause::TakeoverFailed { why } => format!("the take-over failed: {why}"),
        Cause::TakeoverTimedOut => "the take-over took too long".into(),
        Cause::ReleaseStuck => "the release does not come to an end".into(),
        Cause::Failover { to } => format!("failover to {} by command", node(to)),
        Cause::Failback { to } => format!("failback to {}", node(to)),
        Cause::BetterPlaced { to } => format!("node {} reaches more", node(to)),
        Cause::SplitBrain { winner } => format!("split brain, won by {}", node(winner)),
        Cause::NotHeard { peer } => format!("node {} is active too and does not hear this node", node(peer)),
        Cause::AddressConflict => {
            "somebody else announces its address, and no reference host is reached".into()
        }
        Cause::LeaseLost => "the lease ran out: this process stood still too long".into(),
        Cause::LeaseRegained => "nobody took it meanwhile".into(),
        Cause::PeerTookOver { peer } => format!("node {} took it over meanwhile", node(peer)),
    }
}

pub fn refusal(why: Refusal, names: Names<'_>) -> String {
    match why {
        Refusal::NoSuchGroup => "there is no such group".into(),
        Refusal::NobodyReady => "no other node is ready for it (`lb status` tells why)".into(),
        Refusal::NotHere { holder: Some(holder) } => {
            format!("it is on {}: give the command there", names.node(holder))
        }
        Refusal::NotHere { holder: None } => "it is not here, and no node has it".into(),
        Refusal::AlreadyThere => "it is where it belongs already".into(),
        Refusal::Anycast => {
            "every healthy node serves it (`kind: anycast`): `lb standby` takes a node out of it".into()
        }
        Refusal::Withdrawn => "failback came while it waited".into(),
        Refusal::NotReady => "this node is not ready for it (`lb status` tells why)".into(),
    }
}

fn millis(time: Duration) -> String {
    match time {
        time if time < Duration::from_millis(10) => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        time if time < Duration::from_secs(10) => format!("{} ms", time.as_millis()),
        time => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_of_take_overs_are_those_for_which_the_machine_takes_groups() {
        let (peer, by) = (NodeId(1), NodeId(1));
        let causes =
            [Cause::PeerDead { peer }, Cause::PeerGaveUp { peer }, Cause::Offered { by }, Cause::NobodyHasIt];
        assert_eq!(causes.each_ref().map(cause_id), TAKING);
        assert_eq!([cause_id(&Cause::Ready)], TAKING_ANYCAST);
    }

    /// Every name is the configuration's, and the fields say what the text says.
    #[test]
    fn a_change_of_role_says_who_what_and_why() {
        let config = lb_config::parse(
            "interface: eth0\ngroups: [{ name: web, vips: [192.0.2.10/24] }]\n\
             cluster: { node: a, nodes: [{ name: a, address: 192.0.2.1 }, { name: b, address: 192.0.2.2 }], \
             paths: [{ type: unicast }] }\n\
             services: [{ vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }] }]\n",
            "test.yaml",
        )
        .unwrap_or_else(|error| panic!("{error}"));
        let cluster = config.cluster.as_ref().expect("a cluster");
        let names = Names { cluster, groups: &config.groups, paths: &[] };
        let report = Report::Event(Event::RoleChanged {
            group: GroupId::of("web"),
            from: Role::Acquiring,
            to: Role::Active,
            cause: Cause::PeerDead { peer: NodeId(1) },
            after: Duration::from_micros(8400),
        });
        let record = record(&report, names);
        assert_eq!(record.text, "group web: acquiring -> active after 8.4 ms: node b is dead");
        let fields = (record.group.as_deref(), record.from.as_deref(), record.to.as_deref());
        assert_eq!(fields, (Some("web"), Some("acquiring"), Some("active")));
        assert_eq!((record.cause.as_deref(), record.took_ms), (Some("node b is dead"), Some(8.4)));
        assert_eq!(record.cause_id.as_deref(), Some("peer_dead"));

        let refused = Report::Event(Event::CommandRefused {
            command: Command::Failover(GroupId::of("web")),
            why: Refusal::NotHere { holder: Some(NodeId(1)) },
        });
        let text = "failover of group web refused: it is on b: give the command there";
        assert_eq!(super::record(&refused, names).text, text);
    }
}

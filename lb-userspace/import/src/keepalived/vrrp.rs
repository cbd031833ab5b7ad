//! VRRP instances and sync groups.

use std::net::IpAddr;

use super::statement::Statement;
use super::{address, hook, milliseconds, time};
use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::tree::{Item, Map, Value};

/// What a file says of VRRP.
#[derive(Debug, Default)]
pub(super) struct Vrrp {
    pub instances: Vec<Instance>,
    groups: Vec<(String, Vec<String>, Vec<At>)>,
    pub hooks: Map,
}

#[derive(Debug, Default)]
pub(super) struct Instance {
    pub name: String,
    from: Vec<At>,
    pub interface: Option<(String, At)>,
    pub is_master: bool,
    pub priority: Option<u64>,
    vips: Vec<(String, At)>,
    label: Option<(String, At)>,
    manual: Option<At>,
    delay: Option<(u64, At)>,
    refresh: Option<(u64, At)>,
    pub own: Option<(IpAddr, At)>,
    pub peers: Vec<(IpAddr, At)>,
    /// Lines that mean something only with several nodes.
    pub of_cluster: Vec<At>,
}

impl Vrrp {
    pub(super) fn instance(&mut self, statement: &Statement, ledger: &mut Ledger, parts: &mut Parts<'_>) {
        let mut instance = Instance {
            name: statement.argument().to_owned(),
            from: statement.from.clone(),
            ..Instance::default()
        };
        statement.from.iter().for_each(|at| ledger.kept(*at, "a group"));
        let interface = statement.last("interface").map(|line| line.argument().to_owned());
        for line in statement.inner() {
            self.line(line, &mut instance, interface.as_deref(), ledger, parts);
        }
        if let Some((name, at)) = &instance.interface {
            parts.interface(name, *at);
        }
        self.instances.push(instance);
    }

    fn line(
        &mut self,
        line: &Statement,
        instance: &mut Instance,
        interface: Option<&str>,
        ledger: &mut Ledger,
        parts: &mut Parts<'_>,
    ) {
        let (at, value) = (line.at(), line.argument());
        match line.name() {
            "interface" => {
                instance.interface = Some((value.to_owned(), at));
                ledger.kept(at, format!("`interface: {value}`"));
            }
            "state" => {
                instance.is_master = value.eq_ignore_ascii_case("MASTER");
                instance.of_cluster.push(at);
                ledger.changed(at, "the order of `nodes`: the preferred one comes first");
            }
            "priority" => {
                instance.priority = value.parse().ok();
                instance.of_cluster.push(at);
                ledger.changed(at, "the order of `nodes`: the preferred one comes first");
            }
            "virtual_ipaddress" | "virtual_ipaddress_excluded" => {
                line.from.iter().for_each(|at| ledger.kept(*at, "`vips`"));
                line.inner().iter().for_each(|vip| instance.vip(vip, interface, ledger, parts));
            }
            "nopreempt" => {
                instance.manual = Some(at);
                instance.of_cluster.push(at);
                ledger.kept(at, "`failback: manual`");
            }
            "preempt" => ledger.needless(at, "`failback: auto` is the default"),
            "preempt_delay" => {
                instance.delay = milliseconds(value).map(|delay| (delay, at));
                instance.of_cluster.push(at);
                ledger.kept(at, "`failback_delay`");
            }
            "garp_master_refresh" => {
                instance.refresh = milliseconds(value).map(|refresh| (refresh, at));
                ledger.kept(at, "`refresh`");
            }
            "advert_int" => {
                ledger.changed(at, "`lb` sends heartbeats every 50 ms, its default: see `interval` and `dead` of the cluster");
            }
            "unicast_src_ip" => match address(value, parts) {
                Some(address) => instance.own = Some((address, at)),
                None => ledger.lost(at, format!("{value:?} has no address: give `--hosts FILE` with it")),
            },
            "unicast_peer" => {
                line.from.iter().for_each(|at| ledger.kept(*at, "the addresses of `nodes`"));
                for peer in line.inner() {
                    match address(peer.name(), parts) {
                        Some(address) => instance.peers.push((address, peer.at())),
                        None => ledger.lost(peer.at(), format!("{:?} has no address", peer.name())),
                    }
                }
            }
            "mcast_src_ip" => ledger.needless(at, "heartbeats go between the nodes' own addresses"),
            "virtual_router_id" => {
                ledger.needless(at, "`name` of the cluster tells clusters on one network apart");
            }
            "authentication" | "auth_hmac" => {
                let why = "heartbeats are signed with the keys of `key_file`";
                line.lines().into_iter().for_each(|at| ledger.needless(at, why));
                for inner in line.inner().iter().filter(|inner| inner.name() != "auth_type") {
                    inner.arguments().iter().for_each(|secret| ledger.hide(inner.at(), secret));
                }
            }
            "notify_master" | "notify_backup" | "notify_fault" | "notify" => {
                self.notify(line, instance, ledger);
            }
            "smtp_alert" => {}
            _ => line.tell(&["vrrp"], ledger),
        }
    }

    /// Hooks are of the cluster: one for all groups.
    fn notify(&mut self, line: &Statement, instance: &mut Instance, ledger: &mut Ledger) {
        let at = line.at();
        instance.of_cluster.push(at);
        let mut set = |role: &str, hook: Map| match self.hooks.get(role) {
            Some(Value::Map(known)) if known.get("command") != hook.get("command") => {
                ledger.lost(
                    at,
                    format!(
                        "`hooks: {{ {role}: … }}` is of the cluster, and another instance has another program"
                    ),
                );
            }
            Some(_) => ledger.kept(at, format!("`hooks: {{ {role}: … }}`")),
            None => {
                self.hooks.set(role, hook, &[at]);
                ledger.changed(
                    at,
                    format!(
                        "`hooks: {{ {role}: … }}` of the cluster, for all groups: LB_GROUP says which one"
                    ),
                );
            }
        };
        let role = match line.name() {
            "notify_master" => "active",
            "notify_backup" => "standby",
            "notify_fault" => "fault",
            _ => {
                // keepalived gives it the kind, the name and the state.
                let words = super::command(line.arguments()).join(" ");
                for (role, state) in [("active", "MASTER"), ("standby", "BACKUP"), ("fault", "FAULT")] {
                    let script = format!("exec {words} INSTANCE \"$LB_GROUP\" {state}");
                    set(role, hook_of(&["/bin/sh", "-c", &script], at));
                }
                return;
            }
        };
        // A user and a group behind the program mean nothing here.
        let words = &line.arguments()[..line.arguments().len().min(1)];
        set(role, hook(words, at));
    }

    pub(super) fn sync_group(&mut self, statement: &Statement, ledger: &mut Ledger) {
        statement.from.iter().for_each(|at| ledger.kept(*at, "a group"));
        let mut members = Vec::new();
        let mut instance = Instance::default();
        for line in statement.inner() {
            match line.name() {
                "group" => {
                    line.from.iter().for_each(|at| ledger.frame(*at));
                    for member in line.inner() {
                        members.push(member.name().to_owned());
                        ledger.kept(member.at(), "its VIPs move together with the others'");
                    }
                }
                "notify_master" | "notify_backup" | "notify_fault" | "notify" => {
                    self.notify(line, &mut instance, ledger);
                }
                "smtp_alert" => {}
                _ => line.tell(&["vrrp"], ledger),
            }
        }
        self.groups.push((statement.argument().to_owned(), members, statement.from.clone()));
    }

    /// The groups, each with its instances.
    /// A group is on one interface: a sync group on several becomes several.
    pub(super) fn groups(&self, ledger: &mut Ledger) -> Vec<(Item, Vec<&Instance>)> {
        let interface = |instance: &Instance| instance.interface.as_ref().map(|(name, _)| name.clone());
        let mut groups = Vec::new();
        for (name, members, from) in &self.groups {
            let members: Vec<&Instance> =
                self.instances.iter().filter(|instance| members.contains(&instance.name)).collect();
            let mut places: Vec<Option<String>> = Vec::new();
            for place in members.iter().map(|instance| interface(instance)) {
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            for (index, place) in places.iter().enumerate() {
                let here: Vec<&Instance> =
                    members.iter().copied().filter(|instance| interface(instance) == *place).collect();
                let own = match (index, place) {
                    (0, _) | (_, None) => name.clone(),
                    (_, Some(place)) => format!("{name}-{place}"),
                };
                groups.push((group(&own, &here, from), here));
            }
            if places.len() > 1 {
                let what = "a group of `lb` is on one interface: this one became several, which a dead node loses together, \
                            but which do not follow each other when one interface fails";
                from.iter().for_each(|at| ledger.lost(*at, what));
            }
        }
        let alone = |instance: &&Instance| {
            !self.groups.iter().any(|(_, members, _)| members.contains(&instance.name))
        };
        for instance in self.instances.iter().filter(alone) {
            groups.push((group(&instance.name, &[instance], &instance.from), vec![instance]));
        }
        groups
    }
}

fn hook_of(words: &[&str], at: At) -> Map {
    let mut hook = Map::default();
    hook.set("command", Value::Words(words.iter().map(|word| (*word).to_owned()).collect()), &[at]);
    hook
}

fn group(name: &str, members: &[&Instance], from: &[At]) -> Item {
    let mut map = Map::default();
    let mut vips: Vec<(String, At)> = Vec::new();
    let address = |vip: &str| vip.split('/').next().unwrap_or_default().to_owned();
    for vip in members.iter().flat_map(|instance| &instance.vips) {
        if !vips.iter().any(|(known, _)| address(known) == address(&vip.0)) {
            vips.push(vip.clone());
        }
    }
    let all: Vec<At> =
        from.iter().copied().chain(members.iter().flat_map(|one| one.from.iter().copied())).collect();
    map.set("vips", Value::texts(vips), &[]);
    if !name.is_empty() {
        map.set("name", name, from);
    }
    let first =
        |get: &dyn Fn(&Instance) -> Option<(String, At)>| members.iter().find_map(|instance| get(instance));
    if let Some((interface, at)) = first(&|instance| instance.interface.clone()) {
        map.set("interface", interface, &[at]);
    }
    if let Some((label, at)) = first(&|instance| instance.label.clone()) {
        map.set("label", label, &[at]);
    }
    if let Some((refresh, at)) = first(&|instance| instance.refresh.map(|(refresh, at)| (time(refresh), at)))
    {
        map.set("refresh", refresh, &[at]);
    }
    if let Some(at) = members.iter().find_map(|instance| instance.manual) {
        map.set("failback", "manual", &[at]);
    } else if let Some((delay, at)) = first(&|instance| instance.delay.map(|(delay, at)| (time(delay), at))) {
        map.set("failback_delay", delay, &[at]);
    }
    Item::new(map, &all)
}

impl Instance {
    /// `ADDRESS[/LENGTH] [brd X] [dev X] [scope X] [label X] …`
    fn vip(&mut self, line: &Statement, interface: Option<&str>, ledger: &mut Ledger, parts: &mut Parts<'_>) {
        let at = line.at();
        let (host, prefix) =
            line.name().split_once('/').map_or((line.name(), None), |(host, prefix)| (host, Some(prefix)));
        let Some(address) = address(host, parts) else {
            ledger.lost(at, format!("{host:?} has no address: give `--hosts FILE` with it"));
            return;
        };
        let text = match prefix {
            Some(prefix) => format!("{address}/{prefix}"),
            None => address.to_string(),
        };
        ledger.kept(at, format!("`{text}` of `vips`"));
        self.vips.push((text, at));
        let mut words = line.words.iter().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "label" => self.label = words.next().map(|label| (label.clone(), at)).or(self.label.take()),
                "brd" | "broadcast" | "scope" | "peer" => {
                    words.next();
                    ledger.needless(at, format!("{word}: a VIP stands on its interface as a host's address"));
                }
                "dev" => match words.next() {
                    Some(name) if Some(name.as_str()) != interface && self.interface.is_none() => {
                        self.interface = Some((name.clone(), at));
                    }
                    Some(name) if Some(name.as_str()) != interface => {
                        let what = format!(
                            "the VIPs of a group are on one interface, and {name} is another one than the instance's"
                        );
                        ledger.lost(at, what);
                    }
                    _ => {}
                },
                "home" | "nodad" | "mngtmpaddr" | "noprefixroute" | "use_vmac" => {
                    ledger.needless(at, format!("{word}: the kernel is asked for none of that"));
                }
                other => ledger.lost(at, format!("{other:?}: `lb` gives a VIP no such property")),
            }
        }
    }
}

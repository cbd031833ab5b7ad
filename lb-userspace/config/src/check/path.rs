//! The paths that heartbeats travel.

use std::net::{IpAddr, Ipv4Addr};

use lb_model::{HeartbeatPath, Node};

use super::cluster::node;
use super::{Checker, Surroundings, Unique, Value};
use crate::places::Place;
use crate::{values, yaml};

const MOST_PATHS: usize = 16;
/// Heartbeat's of old (IANA: ha-cluster).
const DEFAULT_PORT: u16 = 694;
const DEFAULT_BAUD: u32 = 19_200;
/// Linux's own rates end here; within them a line does what its chip can divide.
const SLOWEST: u64 = 50;
const FASTEST: u64 = 4_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unicast,
    Multicast,
    Broadcast,
    Serial,
}

const KINDS: [(&str, Kind); 4] = [
    ("unicast", Kind::Unicast),
    ("multicast", Kind::Multicast),
    ("broadcast", Kind::Broadcast),
    ("serial", Kind::Serial),
];

impl Kind {
    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl Checker {
    /// `cluster` is where the cluster stands.
    pub(super) fn paths(
        &mut self,
        given: &yaml::Cluster,
        cluster: Place<'_>,
        around: &Surroundings<'_>,
        nodes: &[Node],
    ) -> Vec<HeartbeatPath> {
        let list = cluster.key("paths");
        let given = given.paths.as_deref().unwrap_or_default();
        if given.is_empty() && nodes.len() > 1 {
            let message = "`paths` is missing or empty, expected at least one way to the other nodes";
            self.mistake(list.key_at(), message);
        }
        self.at_most(MOST_PATHS, given.len(), "paths", list);
        let each = given.iter().take(MOST_PATHS).enumerate();
        let paths: Vec<_> = each
            .filter_map(|(index, path)| {
                let place = list.item(index);
                Some((place, self.path(path, place, around, nodes)?))
            })
            .collect();
        self.paths_get_along(&paths);
        paths.into_iter().map(|(_, path)| path).collect()
    }

    fn paths_get_along(&mut self, paths: &[(Place<'_>, HeartbeatPath)]) {
        for (index, (place, path)) in paths.iter().enumerate() {
            let clash = paths[..index].iter().find_map(|(first, other)| Some((first, clash(path, other)?)));
            if let Some((first, clash)) = clash {
                self.mistake(place.at(), format!("{clash} the path in line {}", first.at().line));
            }
        }
    }

    fn path(
        &mut self,
        path: &yaml::Path,
        place: Place<'_>,
        around: &Surroundings<'_>,
        nodes: &[Node],
    ) -> Option<HeartbeatPath> {
        let value = |scalar, key| Value::of(scalar, key, place);
        let kind = self.needed(
            value(&path.r#type, "type"),
            "one of unicast, multicast, broadcast, serial",
            |text| values::choice(text, &KINDS),
        )?;
        self.only_of_its_kind(kind, path, place);
        let interface = value(&path.interface, "interface");
        match kind {
            Kind::Unicast => self.unicast(path, place, around, nodes),
            Kind::Multicast => {
                let interface =
                    self.needed(interface, "the interface to send and receive on", values::interface);
                let group = self.needed(value(&path.group, "group"), values::MULTICAST, values::multicast);
                Some(HeartbeatPath::Multicast { interface: interface?, group: group? })
            }
            Kind::Broadcast => {
                let given = self.optional(interface, values::interface);
                let address =
                    self.needed(value(&path.address, "address"), values::BROADCAST, values::broadcast)?;
                if address.ip() == Ipv4Addr::BROADCAST && interface.text.is_none() {
                    self.interface_is_missing(place, "255.255.255.255");
                }
                Some(HeartbeatPath::Broadcast { interface: given, address })
            }
            Kind::Serial => self.serial(path, place, nodes),
        }
    }

    fn only_of_its_kind(&mut self, kind: Kind, path: &yaml::Path, place: Place<'_>) {
        let yaml::Path { r#type: _, interface, port, addresses, group, address, device, baud } = path;
        let given: [(_, _, &[Kind]); 7] = [
            ("interface", interface.0.is_some(), &[Kind::Unicast, Kind::Multicast, Kind::Broadcast]),
            ("port", port.0.is_some(), &[Kind::Unicast]),
            ("addresses", addresses.is_some(), &[Kind::Unicast]),
            ("group", group.0.is_some(), &[Kind::Multicast]),
            ("address", address.0.is_some(), &[Kind::Broadcast]),
            ("device", device.0.is_some(), &[Kind::Serial]),
            ("baud", baud.0.is_some(), &[Kind::Serial]),
        ];
        for (key, _, kinds) in given.into_iter().filter(|(_, given, kinds)| *given && !kinds.contains(&kind))
        {
            let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
            let (owners, own) = (names.join(", "), kind.name());
            let message = format!("`{key}` belongs to a path of type {owners}, this one is of type {own}");
            self.mistake(place.key(key).key_at(), message);
        }
    }

    fn unicast(
        &mut self,
        path: &yaml::Path,
        place: Place<'_>,
        around: &Surroundings<'_>,
        nodes: &[Node],
    ) -> Option<HeartbeatPath> {
        if nodes.len() == 1 {
            self.mistake(place.at(), "one node has nobody to send to, expected no unicast path");
        }
        let interface = Value::of(&path.interface, "interface", place);
        let name = self.optional(interface, values::interface);
        let port = Value::of(&path.port, "port", place);
        let port = self.optional(port, |text| values::whole(text, 1..=65535)).unwrap_or(DEFAULT_PORT);
        let addresses = match &path.addresses {
            None => nodes.iter().map(|node| node.address).collect(),
            Some(given) => self.addresses_by_node(given, place.key("addresses"), around)?,
        };
        let link_local = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if let Some(address) = addresses.iter().find(|address| link_local(address))
            && interface.text.is_none()
        {
            self.interface_is_missing(place, &address.to_string());
        }
        Some(HeartbeatPath::Unicast { interface: name, port, addresses })
    }

    /// Such an address means something on an interface only.
    fn interface_is_missing(&mut self, path: Place<'_>, address: &str) {
        let message = format!("`interface` is missing, expected the one to reach {address} by");
        self.mistake(path.key_at(), message);
    }

    /// The addresses in the order of the nodes.
    fn addresses_by_node(
        &mut self,
        given: &yaml::ByNode,
        map: Place<'_>,
        around: &Surroundings<'_>,
    ) -> Option<Vec<IpAddr>> {
        let mistakes = self.found.len();
        let mut addresses = vec![None; around.names.len()];
        let mut taken = Unique::default();
        for (node, place, text) in self.by_node(given, map, &around.names) {
            let address = values::any_host(text).and_then(|address| {
                around.not_a_vip(address)?;
                taken.only(address, "address", place.at())
            });
            match address {
                Ok(address) => addresses[usize::from(node)] = Some(address),
                Err(wrong) => self.wrong_at(place.at(), "addresses", text, &wrong),
            }
        }
        self.one_family(given, map);
        // Complete if nothing was wrong.
        if self.found.len() == mistakes { addresses.into_iter().collect() } else { None }
    }

    /// Of each node: its place in the cluster, the place and the text of its value.
    fn by_node<'a>(
        &mut self,
        given: &'a yaml::ByNode,
        map: Place<'a>,
        names: &[String],
    ) -> Vec<(u8, Place<'a>, &'a str)> {
        // Without nodes, which is said elsewhere, no name can be right.
        if names.is_empty() {
            return Vec::new();
        }
        let mut named = Unique::default();
        let mut found = Vec::new();
        for (name, text) in &given.0 {
            let place = map.key(name);
            match node(names, name).map(|node| (node, named.insert(node, place.key_at()))) {
                Ok((node, Ok(()))) => found.push((node, place, text.0.as_deref().unwrap_or_default())),
                Ok((_, Err(line))) => {
                    let again = map.occurrence(name, 1).unwrap_or(place).key_at();
                    self.mistake(again, format!("addresses: {name:?} is given in line {line} already"));
                }
                Err(wrong) => self.wrong_at(place.key_at(), "addresses", name, &wrong),
            }
        }
        for (node, name) in (0..=u8::MAX).zip(names) {
            if named.insert(node, map.at()).is_ok() {
                let message = format!("addresses: {name:?} is missing, expected an address of every node");
                self.mistake(map.key_at(), message);
            }
        }
        found
    }

    /// A path is one socket, and that speaks one of them.
    fn one_family(&mut self, given: &yaml::ByNode, map: Place<'_>) {
        let parsed = |text: &yaml::Scalar| text.0.as_deref()?.parse::<IpAddr>().ok();
        let mut addresses = given.0.iter().filter_map(|(name, text)| Some((name, parsed(text)?)));
        let Some((first_name, first)) = addresses.next() else { return };
        if let Some((name, other)) = addresses.find(|(_, address)| address.is_ipv4() != first.is_ipv4()) {
            let wrong =
                format!("not of the same family as {first} of {first_name:?}, expected a path for each");
            self.wrong_at(map.key(name).at(), "addresses", &other.to_string(), &wrong);
        }
    }

    fn serial(&mut self, path: &yaml::Path, place: Place<'_>, nodes: &[Node]) -> Option<HeartbeatPath> {
        if !nodes.is_empty() && nodes.len() != 2 {
            let message = format!("a serial line joins two nodes, and the cluster has {}", nodes.len());
            self.mistake(place.at(), message);
        }
        let device = Value::of(&path.device, "device", place);
        let device = self.needed(device, "the serial line's device, such as /dev/ttyS0", |text| {
            values::file_path(text, "/dev/ttyS0")
        });
        let baud = Value::of(&path.baud, "baud", place);
        let baud = self.optional(baud, |text| values::whole(text, SLOWEST..=FASTEST));
        Some(HeartbeatPath::Serial { device: device?, baud: baud.unwrap_or(DEFAULT_BAUD) })
    }
}

/// Why the two cannot both be: how `path` stands to `other`.
fn clash(path: &HeartbeatPath, other: &HeartbeatPath) -> Option<&'static str> {
    use HeartbeatPath::{Broadcast, Multicast, Serial, Unicast};
    const SAME: &str = "this path is the same as";
    match (path, other) {
        (Multicast { .. }, Multicast { .. }) => (path == other).then_some(SAME),
        (Serial { device, .. }, Serial { device: other, .. }) => (device == other).then_some(SAME),
        (
            Unicast { interface, port, addresses },
            Unicast { interface: other, port: other_port, addresses: others },
        ) => {
            let on_a_node = addresses.iter().zip(others).any(|(address, other)| address == other);
            (port == other_port && on_a_node && overlap(interface, other)).then_some(SAME)
        }
        (Broadcast { interface, address }, Broadcast { interface: other, address: other_address }) => {
            (address == other_address && overlap(interface, other)).then_some(SAME)
        }
        // A broadcast path listens on its port at all addresses of IPv4.
        (Unicast { interface, port, addresses }, Broadcast { interface: other, address })
        | (Broadcast { interface, address }, Unicast { interface: other, port, addresses }) => {
            let ipv4 = addresses.iter().any(IpAddr::is_ipv4);
            let same_port = ipv4 && *port == address.port() && overlap(interface, other);
            same_port
                .then_some("unicast and broadcast need different ports or interfaces, this is the port of")
        }
        _ => None,
    }
}

/// A socket without an interface receives from all of them.
fn overlap(one: &Option<String>, other: &Option<String>) -> bool {
    one.is_none() || other.is_none() || one == other
}

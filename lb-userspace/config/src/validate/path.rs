//! The `paths` of a cluster: how heartbeats reach the other nodes.

use std::net::{IpAddr, Ipv4Addr};

use lb_model::ids::NodeId;
use lb_model::{HeartbeatPath, Node};

use super::cluster::node;
use super::{Surroundings, Unique, Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

const MOST_PATHS: usize = 16;
/// The port of Linux-HA's heartbeat (IANA: ha-cluster).
const DEFAULT_PORT: u16 = 694;
const DEFAULT_BAUD: u32 = 19_200;
/// Linux's lowest and highest baud rates; the serial chip's divisors decide which rates between
/// them work.
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

impl Validator {
    /// `cluster` is the source span of the cluster.
    pub(super) fn paths(
        &mut self,
        given: &yaml::Cluster,
        cluster: SourceSpan<'_>,
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
                let span = list.item(index);
                Some((span, self.path(path, span, around, nodes)?))
            })
            .collect();
        self.paths_get_along(&paths);
        paths.into_iter().map(|(_, path)| path).collect()
    }

    fn paths_get_along(&mut self, paths: &[(SourceSpan<'_>, HeartbeatPath)]) {
        for (index, (span, path)) in paths.iter().enumerate() {
            let clash = paths[..index].iter().find_map(|(first, other)| Some((first, clash(path, other)?)));
            if let Some((first, clash)) = clash {
                self.mistake(span.at(), format!("{clash} the path in line {}", first.at().line));
            }
        }
    }

    fn path(
        &mut self,
        path: &yaml::Path,
        span: SourceSpan<'_>,
        around: &Surroundings<'_>,
        nodes: &[Node],
    ) -> Option<HeartbeatPath> {
        let value = |scalar, key| Value::of(scalar, key, span);
        let kind = self.needed(
            value(&path.r#type, "type"),
            "one of unicast, multicast, broadcast, serial",
            |text| values::choice(text, &KINDS),
        )?;
        self.only_of_its_kind(kind, path, span);
        let interface = value(&path.interface, "interface");
        match kind {
            Kind::Unicast => self.unicast(path, span, around, nodes),
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
                    self.interface_is_missing(span, "255.255.255.255");
                }
                Some(HeartbeatPath::Broadcast { interface: given, address })
            }
            Kind::Serial => self.serial(path, span, nodes),
        }
    }

    fn only_of_its_kind(&mut self, kind: Kind, path: &yaml::Path, span: SourceSpan<'_>) {
        let yaml::Path { r#type: _, interface, port, addresses, group, address, device, baud } = path;
        let given: [(_, _, &[Kind]); 7] = [
            ("interface", interface.is_given(), &[Kind::Unicast, Kind::Multicast, Kind::Broadcast]),
            ("port", port.is_given(), &[Kind::Unicast]),
            ("addresses", addresses.is_some(), &[Kind::Unicast]),
            ("group", group.is_given(), &[Kind::Multicast]),
            ("address", address.is_given(), &[Kind::Broadcast]),
            ("device", device.is_given(), &[Kind::Serial]),
            ("baud", baud.is_given(), &[Kind::Serial]),
        ];
        for (key, _, kinds) in given.into_iter().filter(|(_, given, kinds)| *given && !kinds.contains(&kind))
        {
            let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
            let (owners, own) = (names.join(", "), kind.name());
            let message = format!("`{key}` belongs to a path of type {owners}, this one is of type {own}");
            self.mistake(span.key(key).key_at(), message);
        }
    }

    fn unicast(
        &mut self,
        path: &yaml::Path,
        span: SourceSpan<'_>,
        around: &Surroundings<'_>,
        nodes: &[Node],
    ) -> Option<HeartbeatPath> {
        if nodes.len() == 1 {
            self.mistake(span.at(), "a unicast path needs at least two nodes, and the cluster has one");
        }
        let interface = Value::of(&path.interface, "interface", span);
        let name = self.optional(interface, values::interface);
        let port = Value::of(&path.port, "port", span);
        let port = self.optional(port, |text| values::whole(text, 1..=65535)).unwrap_or(DEFAULT_PORT);
        let addresses = match &path.addresses {
            None => self.addresses_of(nodes, span),
            Some(given) => self.addresses_by_node(given, span.key("addresses"), around)?,
        };
        let link_local = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if let Some(address) = addresses.iter().find(|address| link_local(address))
            && interface.text.is_none()
        {
            self.interface_is_missing(span, &address.to_string());
        }
        Some(HeartbeatPath::Unicast { interface: name, port, addresses })
    }

    /// The nodes' own addresses.
    fn addresses_of(&mut self, nodes: &[Node], path: SourceSpan<'_>) -> Vec<IpAddr> {
        let addresses: Vec<IpAddr> = nodes.iter().map(|node| node.address).collect();
        let mut known = addresses.iter().filter(|address| !address.is_unspecified());
        let first = known.next().copied();
        if known.any(|address| Some(address.is_ipv4()) != first.map(|first| first.is_ipv4())) {
            let message = "`addresses` is missing, expected an address of every node, all of one family (IPv4 or \
                           IPv6): the nodes' own are not";
            self.mistake(path.key_at(), message);
        }
        addresses
    }

    /// A link-local or limited broadcast address needs an interface.
    fn interface_is_missing(&mut self, path: SourceSpan<'_>, address: &str) {
        let message = format!("`interface` is missing, expected the one through which {address} is reached");
        self.mistake(path.key_at(), message);
    }

    /// The addresses, in the order of the nodes.
    fn addresses_by_node(
        &mut self,
        given: &yaml::ByNode,
        map: SourceSpan<'_>,
        around: &Surroundings<'_>,
    ) -> Option<Vec<IpAddr>> {
        let mistakes = self.found.len();
        let mut addresses = vec![None; around.names.len()];
        let mut taken = Unique::default();
        for (node, span, value) in self.by_node(given, map, &around.names) {
            let text = value.text(|| span).unwrap_or_default();
            let address = values::any_host(text).and_then(|address| {
                around.not_a_vip(address)?;
                taken.only(address, "address", span)
            });
            match address {
                Ok(address) => addresses[node.index()] = Some(address),
                Err(wrong) => {
                    self.wrong_at(span.at(), "addresses", value.raw().unwrap_or_default(), &wrong);
                }
            }
        }
        self.one_family(given, map);
        // Complete if nothing was wrong.
        if self.found.len() == mistakes { addresses.into_iter().collect() } else { None }
    }

    /// For each node its index in the cluster, and the source span of its value, and the value.
    fn by_node<'a>(
        &mut self,
        given: &'a yaml::ByNode,
        map: SourceSpan<'a>,
        names: &[String],
    ) -> Vec<(NodeId, SourceSpan<'a>, &'a yaml::Scalar)> {
        // Without nodes, which `node_names` reports, no name can be right.
        if names.is_empty() {
            return Vec::new();
        }
        let mut named = Unique::default();
        let mut found = Vec::new();
        for (name, value) in &given.0 {
            let span = map.key(name);
            match node(names, name).map(|node| (node, named.insert(node, span))) {
                Ok((node, Ok(()))) => found.push((node, span, value)),
                Ok((_, Err(line))) => {
                    let again = map.occurrence(name, 1).unwrap_or(span).key_at();
                    self.mistake(again, format!("addresses: {name:?} is already given in line {line}"));
                }
                Err(wrong) => self.wrong_at(span.key_at(), "addresses", name, &wrong),
            }
        }
        for (node, name) in (0..=u8::MAX).map(NodeId).zip(names) {
            if named.insert(node, map).is_ok() {
                let message = format!("addresses: {name:?} is missing, expected an address of every node");
                self.mistake(map.key_at(), message);
            }
        }
        found
    }

    /// A path has one socket, which is either IPv4 or IPv6.
    fn one_family(&mut self, given: &yaml::ByNode, map: SourceSpan<'_>) {
        let mut addresses = given.0.iter().filter_map(|(name, value)| {
            let address = value.text(|| map.key(name))?.parse::<IpAddr>().ok()?;
            Some((name, address))
        });
        let Some((first_name, first)) = addresses.next() else { return };
        if let Some((name, other)) = addresses.find(|(_, address)| address.is_ipv4() != first.is_ipv4()) {
            let wrong = format!(
                "not of the same family (IPv4 or IPv6) as {first} of {first_name:?}, expected a path for each family"
            );
            self.wrong_at(map.key(name).at(), "addresses", &other.to_string(), &wrong);
        }
    }

    fn serial(&mut self, path: &yaml::Path, span: SourceSpan<'_>, nodes: &[Node]) -> Option<HeartbeatPath> {
        if !nodes.is_empty() && nodes.len() != 2 {
            let message = format!("a serial line connects two nodes, and the cluster has {}", nodes.len());
            self.mistake(span.at(), message);
        }
        let device = Value::of(&path.device, "device", span);
        let device = self.needed(device, "the serial line's device, such as /dev/ttyS0", |text| {
            values::file_path(text, "/dev/ttyS0")
        });
        let baud = Value::of(&path.baud, "baud", span);
        let baud = self.optional(baud, |text| values::whole(text, SLOWEST..=FASTEST));
        Some(HeartbeatPath::Serial { device: device?, baud: baud.unwrap_or(DEFAULT_BAUD) })
    }
}

/// Why `path` and `other` exclude each other; the message continues with "the path in line N".
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
        // A broadcast path's socket is bound to its port on all IPv4 addresses.
        (Unicast { interface, port, addresses }, Broadcast { interface: other, address })
        | (Broadcast { interface, address }, Unicast { interface: other, port, addresses }) => {
            let ipv4 = addresses.iter().any(IpAddr::is_ipv4);
            let same_port = ipv4 && *port == address.port() && overlap(interface, other);
            same_port.then_some(
                "unicast and broadcast paths need different ports or interfaces, and this path has the port of",
            )
        }
        _ => None,
    }
}

/// Whether two sockets share an interface; one without an interface receives from all of them.
fn overlap(one: &Option<String>, other: &Option<String>) -> bool {
    one.is_none() || other.is_none() || one == other
}

//! The shape of the YAML file: which keys there are and where they nest.
//!
//! Scalars are kept as text, so that `validate` can report all wrong values of a file
//! at once and quote them literally.

mod alerts;
mod clients;
mod scalar;

use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

pub(crate) use self::alerts::{Alertmanager, Alerts, Email, Receiver, Webhook};
pub(crate) use self::clients::{Clients, EveryClient, LimitsOfAll, LimitsOfEach};
pub(crate) use scalar::Scalar;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `interface` and `services`")]
pub(crate) struct File {
    pub interface: Scalar,
    pub interfaces: Option<Vec<Scalar>>,
    pub xdp_mode: Scalar,
    pub connections: Scalar,
    pub bindings: Scalar,
    pub control: Option<Control>,
    pub metrics: Option<SwitchOr<Metrics>>,
    pub web: Option<SwitchOr<Web>>,
    #[serde(deserialize_with = "given")]
    pub alerts: Option<Alerts>,
    pub timeouts: Option<Timeouts>,
    #[serde(deserialize_with = "given")]
    pub clients: Option<EveryClient>,
    pub maintenance_dir: Scalar,
    pub zero_copy: Scalar,
    pub announce_rate: Scalar,
    #[serde(deserialize_with = "given")]
    pub cluster: Option<Cluster>,
    pub include: Option<Vec<Scalar>>,
    pub groups: Option<Vec<Group>>,
    pub services: Option<Vec<Service>>,
}

/// A file that another one includes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `services` or `groups`")]
pub(crate) struct Included {
    pub groups: Option<Vec<Group>>,
    pub services: Option<Vec<Service>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a group: a mapping with `vips`")]
pub(crate) struct Group {
    pub name: Scalar,
    pub kind: Scalar,
    pub vips: Option<Vec<Scalar>>,
    pub interface: Scalar,
    pub label: Scalar,
    pub refresh: Scalar,
    pub nodes: Option<Vec<Scalar>>,
    pub failback: Scalar,
    pub failback_delay: Scalar,
    pub device: Scalar,
    pub withdraw_wait: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `nodes` and `paths`")]
pub(crate) struct Cluster {
    pub name: Scalar,
    pub node: Scalar,
    pub key_file: Scalar,
    pub interval: Scalar,
    pub dead: Scalar,
    pub late: Scalar,
    pub initial_dead: Scalar,
    pub linger: Scalar,
    pub state: Scalar,
    pub sync: Scalar,
    pub sync_port: Scalar,
    pub sync_rate: Scalar,
    pub nodes: Option<Vec<Node>>,
    pub paths: Option<Vec<Path>>,
    pub references: Option<Vec<Scalar>>,
    pub hooks: Option<Hooks>,
    #[serde(deserialize_with = "given")]
    pub fence: Option<Command>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a node: a mapping with `name` and `address`")]
pub(crate) struct Node {
    pub name: Scalar,
    pub address: Scalar,
}

/// The keys of all types of heartbeat paths.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a path: a mapping with `type`")]
pub(crate) struct Path {
    pub r#type: Scalar,
    pub interface: Scalar,
    pub port: Scalar,
    pub addresses: Option<ByNode>,
    pub group: Scalar,
    pub address: Scalar,
    pub device: Scalar,
    pub baud: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping of roles and commands")]
pub(crate) struct Hooks {
    #[serde(deserialize_with = "given")]
    pub active: Option<Command>,
    #[serde(deserialize_with = "given")]
    pub standby: Option<Command>,
    #[serde(deserialize_with = "given")]
    pub fault: Option<Command>,
}

#[derive(Debug)]
pub(crate) enum Command {
    /// Only the list of words.
    Words(Vec<Scalar>),
    Timed(TimedCommand),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TimedCommand {
    pub command: Option<Vec<Scalar>>,
    pub timeout: Scalar,
}

/// Values by the number of a QUIC configuration, kept as [`ByNode`] keeps them.
#[derive(Debug)]
pub(crate) struct ByRotation(pub Vec<(String, Scalar)>);

/// A value by node name, in file order; duplicate names are kept.
#[derive(Debug)]
pub(crate) struct ByNode(pub Vec<(String, Scalar)>);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `socket`, `owner`, `group`, `mode`")]
pub(crate) struct Control {
    pub socket: Scalar,
    pub owner: Scalar,
    pub group: Scalar,
    pub mode: Scalar,
}

#[derive(Debug)]
pub(crate) enum SwitchOr<T> {
    /// `off`, `on` or a synonym.
    Switch(String),
    On(T),
}

/// A section that can be switched off.
trait Switched {
    const EXPECTED: &str;
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Metrics {
    pub listen: Scalar,
    pub ipvs_names: Scalar,
}

impl Switched for Metrics {
    const EXPECTED: &str = "`off` or a mapping with `listen`";
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Web {
    pub listen: Scalar,
    pub certificate: Scalar,
    pub key: Scalar,
    pub tokens: Scalar,
    pub hosts: Option<Vec<Scalar>>,
}

impl Switched for Web {
    const EXPECTED: &str = "`on`, `off` or a mapping with `listen`";
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping of connection states and times")]
pub(crate) struct Timeouts {
    pub established: Scalar,
    pub unproven: Scalar,
    pub fin_wait: Scalar,
    pub syn_recv: Scalar,
    pub closed: Scalar,
    pub udp: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a service: a mapping with `vip` and `servers`")]
pub(crate) struct Service {
    pub name: Scalar,
    pub vip: Scalar,
    pub protocol: Scalar,
    pub scheduler: Scalar,
    #[serde(deserialize_with = "given")]
    pub hash: Option<Hash>,
    #[serde(deserialize_with = "given")]
    pub quic_lb: Option<Vec<QuicEncoding>>,
    pub fallback: Scalar,
    pub sorry_page: Scalar,
    pub forward: Scalar,
    pub gue_port: Scalar,
    pub tunnel_mtu: Scalar,
    pub tunnel_source: Scalar,
    pub vlan: Scalar,
    pub stray: Scalar,
    pub ops: Scalar,
    #[serde(deserialize_with = "given")]
    pub source_nat: Option<Vec<Scalar>>,
    #[serde(deserialize_with = "given")]
    pub persistence: Option<Persistence>,
    #[serde(deserialize_with = "given")]
    pub clients: Option<Clients>,
    pub timeouts: Option<Timeouts>,
    pub drain: Scalar,
    pub quiescent: Scalar,
    pub dead_server: Scalar,
    pub slow_start: Scalar,
    #[serde(deserialize_with = "given")]
    pub damping: Option<Damping>,
    pub quorum: Scalar,
    pub hysteresis: Scalar,
    pub hooks: Option<ServiceHooks>,
    #[serde(deserialize_with = "given")]
    pub check: Option<Checks>,
    pub servers: Option<Vec<Server>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `port` or `fallback`")]
pub(crate) struct Hash {
    pub port: Scalar,
    pub fallback: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `server_id_length` and `nonce_length`")]
pub(crate) struct QuicEncoding {
    pub rotation: Scalar,
    pub server_id_length: Scalar,
    pub nonce_length: Scalar,
    pub key: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `timeout`")]
pub(crate) struct Persistence {
    pub timeout: Scalar,
    pub prefix: Scalar,
    pub group: Scalar,
    pub weight_zero: Scalar,
}

/// One check or several.
#[derive(Debug)]
pub(crate) enum Checks {
    One(Box<Check>),
    Several(Vec<Check>),
}

/// The keys of all types of checks.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `type`")]
pub(crate) struct Check {
    pub r#type: Scalar,
    pub via: Scalar,
    pub interval: Scalar,
    pub fast_interval: Scalar,
    pub timeout: Scalar,
    pub rise: Scalar,
    pub fall: Scalar,
    pub port: Scalar,
    pub source: Scalar,
    pub interface: Scalar,
    pub tls: Scalar,
    pub tls_name: Scalar,
    pub verify: Scalar,
    pub expiry_warning: Scalar,
    pub send: Scalar,
    pub send_hex: Scalar,
    pub receive: Scalar,
    pub matches: Scalar,
    pub method: Scalar,
    pub request: Scalar,
    pub host: Scalar,
    pub status: Scalar,
    pub digest: Scalar,
    pub query: Scalar,
    pub record: Scalar,
    pub answer: Scalar,
    pub helo: Scalar,
    pub user: Scalar,
    pub database: Scalar,
    pub grpc_service: Scalar,
    #[serde(deserialize_with = "given")]
    pub command: Option<Command>,
    pub dynamic: Scalar,
    pub path: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping of changes and commands")]
pub(crate) struct ServiceHooks {
    #[serde(deserialize_with = "given")]
    pub server_up: Option<Command>,
    #[serde(deserialize_with = "given")]
    pub server_down: Option<Command>,
    #[serde(deserialize_with = "given")]
    pub quorum_up: Option<Command>,
    #[serde(deserialize_with = "given")]
    pub quorum_down: Option<Command>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `falls`, `within` and `hold`")]
pub(crate) struct Damping {
    pub falls: Scalar,
    pub within: Scalar,
    pub hold: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a server: a mapping with `address`")]
pub(crate) struct Server {
    pub address: Scalar,
    pub name: Scalar,
    pub forward: Scalar,
    pub gue_port: Scalar,
    pub tunnel_mtu: Scalar,
    pub tunnel_source: Scalar,
    pub quic_server_ids: Option<ByRotation>,
    pub interface: Scalar,
    pub vlan: Scalar,
    pub weight: Scalar,
    pub upper_threshold: Scalar,
    pub lower_threshold: Scalar,
    #[serde(deserialize_with = "given")]
    pub check: Option<Checks>,
}

/// Makes a key without a value differ from an absent key: an empty `check` must not disable checks.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'de, T: Deserialize<'de> + Switched> Deserialize<'de> for SwitchOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchOrMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Switched> Visitor<'de> for SwitchOrMap<T> {
            type Value = SwitchOr<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SwitchOr<T>, E> {
                Ok(SwitchOr::Switch(text.to_owned()))
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<SwitchOr<T>, E> {
                Ok(SwitchOr::Switch(on.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SwitchOr<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(SwitchOr::On)
            }
        }
        deserializer.deserialize_any(SwitchOrMap(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrMap;
        impl<'de> Visitor<'de> for ListOrMap {
            type Value = Command;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of a program and its arguments, or a mapping with `command`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Command, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Command::Words)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Command, A::Error> {
                TimedCommand::deserialize(MapAccessDeserializer::new(map)).map(Command::Timed)
            }
        }
        deserializer.deserialize_any(ListOrMap)
    }
}

impl<'de> Deserialize<'de> for Checks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrMap;
        impl<'de> Visitor<'de> for ListOrMap {
            type Value = Checks;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mapping with `type`, or a list of such mappings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Checks, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Checks::Several)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Checks, A::Error> {
                let check = Check::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Checks::One(Box::new(check)))
            }
        }
        deserializer.deserialize_any(ListOrMap)
    }
}

impl<'de> Deserialize<'de> for ByNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries("a mapping of nodes and their addresses")).map(Self)
    }
}

impl<'de> Deserialize<'de> for ByRotation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries("a mapping of configurations and server IDs")).map(Self)
    }
}

/// A mapping as it stands in the file, and what it is.
struct Entries(&'static str);

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, Scalar)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

//! Changes of the configuration at run time, which are no part of its file: each source, such as
//! the command line, has a list of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Config, Protocol, TunnelKind};

/// The source of `lb add` and `lb remove`.
pub const CLI: &str = "cli";

/// The source of `lb-kube`: Services of a Kubernetes cluster.
pub const KUBERNETES: &str = "kubernetes";

/// Whether what this source has changed is kept by whoever feeds it, so that it never becomes a
/// part of the file: so do all programs, and only what operators have changed is nowhere but here.
pub fn is_kept_elsewhere(source: &str) -> bool {
    source != CLI
}

/// Whether a program may have services under this name: 1 to 64 ASCII characters without blanks,
/// and not that of the command line.
pub fn is_name_of_program(source: &str) -> bool {
    source != CLI && (1..=64).contains(&source.len()) && source.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The changes of all sources, by the sources' names.
pub type Overlays = BTreeMap<String, Vec<Change>>;

/// One change. Services go by their name, servers by name or address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    AddServer {
        service: String,
        server: NewServer,
    },
    RemoveServer {
        service: String,
        server: String,
    },
    /// The server keeps whatever settings do not name.
    EditServer {
        service: String,
        server: String,
        settings: ServerSettings,
    },
    AddService {
        service: NewService,
    },
    /// The service keeps whatever settings do not name.
    EditService {
        service: String,
        settings: Settings,
    },
    RemoveService {
        service: String,
    },
}

impl Change {
    /// The service that it changes or removes, as it names it; `None`: it adds one.
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::AddServer { service, .. }
            | Self::RemoveServer { service, .. }
            | Self::EditServer { service, .. }
            | Self::EditService { service, .. }
            | Self::RemoveService { service } => Some(service),
            Self::AddService { .. } => None,
        }
    }
}

/// A server in the words of the file; what is left out has the service's or the file's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewServer {
    /// With a port where that is not the service's.
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gue_port: Option<u16>,
}

impl NewServer {
    /// With these settings; where they name another method a port of GUE of before goes.
    pub fn edit(&mut self, settings: &ServerSettings) {
        let ServerSettings { weight, forward, upper_threshold, lower_threshold, gue_port } = settings;
        if is_not_gue(forward.as_deref()) {
            self.gue_port = None;
        }
        self.weight = weight.or(self.weight);
        self.forward = forward.clone().or_else(|| self.forward.take());
        self.upper_threshold = upper_threshold.or(self.upper_threshold);
        self.lower_threshold = lower_threshold.or(self.lower_threshold);
        self.gue_port = gue_port.or(self.gue_port);
    }
}

/// What `ipvsadm -e` can say of a server, in the words of the file; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<String>,
    /// 0: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    /// 0: three quarters of the upper one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gue_port: Option<u16>,
}

impl ServerSettings {
    /// What has come of both, of which these are the later ones.
    #[must_use]
    pub fn after(self, earlier: Self) -> Self {
        let has_port = !is_not_gue(self.forward.as_deref());
        Self {
            weight: self.weight.or(earlier.weight),
            forward: self.forward.or(earlier.forward),
            upper_threshold: self.upper_threshold.or(earlier.upper_threshold),
            lower_threshold: self.lower_threshold.or(earlier.lower_threshold),
            gue_port: self.gue_port.or_else(|| earlier.gue_port.filter(|_| has_port)),
        }
    }
}

/// A service, whose values are those of the file; the keys of its check, hash and persistence are
/// its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewService {
    pub vip: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(flatten)]
    pub settings: Settings,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// The type of a check that has its defaults but for the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Key `port` of the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_port: Option<u16>,
    /// Key `request` of the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_request: Option<String>,
    pub servers: Vec<NewServer>,
}

impl NewService {
    /// The name that it has in the configuration.
    pub fn called(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.place())
    }

    /// In the words of the file.
    pub fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or(Protocol::Tcp.name())
    }
}

/// How a service finds a server for a client: what `ipvsadm -A` and `-E` can say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `None`: the file's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// Key `port` of `hash`.
    #[serde(default, skip_serializing_if = "is_off")]
    pub hash_port: bool,
    /// Key `fallback` of `hash`.
    #[serde(default, skip_serializing_if = "is_off")]
    pub hash_fallback: bool,
    #[serde(default, skip_serializing_if = "is_off")]
    pub ops: bool,
    /// `None`: clients are not bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<NewPersistence>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPersistence {
    pub timeout_s: u64,
    /// `None`: each client by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<u8>,
}

/// Whether this method has no port of its own.
fn is_not_gue(forward: Option<&str>) -> bool {
    forward.is_some_and(|method| method != TunnelKind::Gue.name())
}

const fn is_off(switch: &bool) -> bool {
    !*switch
}

/// A file of the configuration that changes are to be written into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedFile {
    pub path: PathBuf,
    /// Its text as it was read.
    pub before: String,
    /// Its text with the changes.
    pub after: String,
}

/// As `lb overlay show` prints it.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddServer { service, server } => {
                let name = server.name.as_ref().unwrap_or(&server.address);
                write!(f, "+ server {service}/{name}")
            }
            Self::RemoveServer { service, server } => write!(f, "- server {service}/{server}"),
            Self::EditServer { service, server, .. } => write!(f, "~ server {service}/{server}"),
            Self::AddService { service } => {
                write!(f, "+ service {}", service.name.as_ref().unwrap_or(&service.vip))
            }
            Self::EditService { service, .. } => write!(f, "~ service {service}"),
            Self::RemoveService { service } => write!(f, "- service {service}"),
        }
    }
}

impl Config {
    /// The file that stores what was changed at run time. Each director has its own.
    pub fn overlay_file(&self) -> PathBuf {
        self.maintenance.with_file_name(format!("overlay.{}.json", self.interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_edits_of_a_server_the_later_one_counts() {
        let edit = |weight: Option<u16>, forward: Option<&str>, gue_port: Option<u16>| ServerSettings {
            weight,
            forward: forward.map(str::to_owned),
            gue_port,
            ..ServerSettings::default()
        };
        let first = edit(Some(2), Some("gue"), Some(6080));
        for (second, both) in [
            (edit(Some(3), None, None), edit(Some(3), Some("gue"), Some(6080))),
            (edit(None, Some("direct"), None), edit(Some(2), Some("direct"), None)),
            (edit(None, Some("gue"), None), edit(Some(2), Some("gue"), Some(6080))),
        ] {
            assert_eq!(second.clone().after(first.clone()), both);
            // A server that has come with the first one's words is the same after the second.
            let mut server = NewServer::default();
            server.edit(&first);
            server.edit(&second);
            let NewServer { weight, forward, gue_port, .. } = server;
            assert_eq!(edit(weight, forward.as_deref(), gue_port), both);
        }
        let full = ServerSettings { upper_threshold: Some(9), ..ServerSettings::default() };
        let none = ServerSettings { upper_threshold: Some(0), ..ServerSettings::default() };
        assert_eq!(none.clone().after(full), none);
    }

    #[test]
    fn every_source_but_that_of_the_command_line_is_a_programs() {
        assert!(!is_kept_elsewhere(CLI) && !is_name_of_program(CLI));
        for source in [KUBERNETES, "acme", "acme/2"] {
            assert!(is_kept_elsewhere(source) && is_name_of_program(source), "{source}");
        }
        let long = "a".repeat(65);
        for wrong in ["", "a b", "a\nb", "\u{1b}[2J", "bäcker", &long] {
            assert!(!is_name_of_program(wrong), "{wrong:?}");
        }
    }
}

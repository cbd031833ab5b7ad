//! The protocol of the control socket: a JSON request per line, a JSON reply per line, over a Unix
//! stream socket. Only two have several replies. A trace: [`Reply::Packets`] as they come, or
//! [`Reply::Frames`] if the packets' frames were asked for, then a [`Reply::TraceEnded`]; it ends
//! early if the client shuts its side of the connection down. A listing of connections:
//! [`Reply::Connections`], then a [`Reply::ListingEnded`].

use std::path::PathBuf;

use lb_model::overlay::{Change, ChangedFile, NewService, Overlays};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connections::{self, Connection};
use crate::difference::Difference;
use crate::events::Record;
use crate::status::{Accepted, AlertTest, ProbeReport, Status};
use crate::top::TopClient;
use crate::trace::{Bounds, End, Filter, Frame, Packet};

/// Default path of the control socket.
pub const DEFAULT_PATH: &str = lb_model::Control::SOCKET;

/// A request: `{"command":"status"}`, `{"command":"failover","group":"web"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    Status,
    Events {
        /// Only those with a larger [`Record::number`]; all if the director knows no such number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
    },
    /// A part of the connection table.
    Connections {
        #[serde(default)]
        filter: connections::Filter,
        #[serde(default)]
        bounds: connections::Bounds,
    },
    /// Read the configuration file again.
    Reload,
    /// Tell what that would change.
    Diff,
    /// Tell what was changed at run time.
    Overlay {
        /// With [`Overlay::saving`].
        #[serde(default)]
        to_save: bool,
    },
    /// Change the configuration at run time; `source` says who does.
    Change {
        source: String,
        change: Change,
    },
    /// Several changes as one: all of them, or none.
    Changes {
        source: String,
        changes: Vec<Change>,
    },
    /// Make these the services of a source, in place of all that it has changed before.
    ReplaceSource {
        source: String,
        services: Vec<NewService>,
    },
    /// Undo the changes of a source, or of all.
    ClearOverlay {
        #[serde(default)]
        source: Option<String>,
        /// What was saved of all sources: refused if that is no longer all there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saved: Option<Overlays>,
    },
    /// Have what `ipvsadm -L --stats` prints begin at 0 again: of a service, by its name or
    /// VIP:PORT, or of all. The totals themselves only rise.
    Zero {
        #[serde(default)]
        service: Option<String>,
    },
    /// Which clients do most, or are refused most; the reply takes a second or more.
    TopClients,
    /// `None`: all groups that are active on this node.
    Failover {
        #[serde(default)]
        group: Option<String>,
    },
    /// `None`: all groups that are not on their preferred node.
    Failback {
        #[serde(default)]
        group: Option<String>,
    },
    /// `force`: even if no other node is ready for the groups that are active here.
    Standby {
        #[serde(default)]
        force: bool,
    },
    Resume,
    Maintenance {
        on: bool,
        #[serde(default)]
        force: bool,
    },
    /// `release`: leave nothing behind (program, maps, addresses).
    Stop {
        #[serde(default)]
        release: bool,
    },
    /// Give a server no new connections; `server` is a name or address, with or without port.
    #[serde(alias = "disable")]
    Drain(ServerRequest),
    /// End that.
    Enable(ServerRequest),
    /// `None`: the configured weight again.
    Weight {
        #[serde(flatten)]
        about: ServerRequest,
        #[serde(default)]
        weight: Option<u16>,
    },
    /// Run the checks of a server once; both fields are names or addresses.
    Probe {
        service: String,
        server: String,
    },
    /// Send a test message to a receiver of alerts; `None`: to all.
    TestAlerts {
        #[serde(default)]
        receiver: Option<String>,
    },
    /// Tell what is decided for packets.
    Trace {
        #[serde(default)]
        filter: Filter,
        #[serde(default)]
        bounds: Bounds,
    },
}

/// What orders for a server have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRequest {
    pub server: String,
    /// `None`: in all services.
    #[serde(default)]
    pub service: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    /// Who gives the order.
    #[serde(default)]
    pub by: Option<String>,
}

impl ServerRequest {
    pub fn about(server: String) -> Self {
        Self { server, ..Self::default() }
    }

    pub fn because(self, reason: Option<String>) -> Self {
        Self { reason, ..self }
    }
}

/// What was changed at run time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overlay {
    /// The configuration file that it stands above.
    pub config: PathBuf,
    pub sources: Overlays,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saving: Option<Saving>,
}

/// What `lb save` writes. The director makes it, because references in the files stand for what its
/// own environment has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Saving {
    pub files: Vec<ChangedFile>,
    /// Changes that change nothing, by number, counted over all sources whose changes are saved
    /// ([`lb_model::overlay::is_kept_elsewhere`]); and why.
    pub unused: Vec<(usize, String)>,
    /// What a file must have that these do not, so that they are not to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
}

/// What has come of the services of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replaced {
    /// What that has changed.
    pub differences: Vec<Difference>,
    /// Those that are not served, such as one whose address and port the file has. They are tried
    /// again whenever the configuration changes.
    pub left_out: Vec<LeftOut>,
}

/// A service of a source that is not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// Its name.
    pub service: String,
    pub why: String,
}

/// A reply: `{"status":{…}}`, `{"events":[…]}`, `{"top_clients":[…]}`,
/// `{"accepted":{"moves":[…],"note":null}}`, `{"done":"…"}`, `{"probes":[…]}`,
/// `{"alert_tests":[…]}`, `{"packets":[…]}`, `{"frames":[…]}`, `{"trace_ended":{…}}`,
/// `{"connections":[…]}`, `{"listing_ended":{…}}`, `{"differences":[…]}`, `{"overlay":{…}}`,
/// `{"replaced":{…}}` or `{"error":"…"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Status(Box<Status>),
    Events(Vec<Record>),
    /// Whoever does most comes first.
    TopClients(Vec<TopClient>),
    /// The command was accepted.
    Accepted(Accepted),
    /// The command was executed; the message for the operator.
    Done(String),
    /// A report per check.
    Probes(Vec<ProbeReport>),
    /// What came of test messages.
    AlertTests(Vec<AlertTest>),
    /// Of a trace that goes on.
    Packets(Vec<Packet>),
    /// The same of a capture.
    Frames(Vec<Frame>),
    TraceEnded(End),
    /// Some connections of a listing.
    Connections(Vec<Connection>),
    ListingEnded(connections::End),
    /// What a reload has changed, or would change.
    Differences(Vec<Difference>),
    Overlay(Overlay),
    Replaced(Replaced),
    Error(String),
}

#[cfg(test)]
mod tests {
    use lb_model::overlay::{NewPersistence, Settings};

    use super::*;

    /// What earlier versions of `lb` have written is read, and written in the same way.
    #[test]
    fn overlays_are_read_again() {
        let text = r#"{"cli":[{"change":"add_service","service":{"vip":"192.0.2.10:80","scheduler":"rr","servers":[{"address":"192.0.2.21","weight":2}]}},{"change":"remove_service","service":"web"}]}"#;
        let overlays: Overlays = serde_json::from_str(text).expect("an overlay");
        assert_eq!(serde_json::to_string(&overlays).expect("JSON"), text);
        let Some(Change::AddService { service }) = overlays["cli"].first() else { panic!("{overlays:?}") };
        let scheduler = Some("rr".to_owned());
        assert_eq!(service.settings, Settings { scheduler, ..Settings::default() });
    }

    #[test]
    fn requests_are_as_documented() {
        let settings = Settings {
            scheduler: Some("mh".into()),
            hash_port: true,
            persistence: Some(NewPersistence { timeout_s: 600, prefix: None }),
            ..Settings::default()
        };
        let changes = vec![
            Change::EditService { service: "web".into(), settings },
            Change::RemoveService { service: "dns".into() },
        ];
        let saved = Overlays::from([("cli".to_owned(), changes[1..].to_vec())]);
        for (request, text) in [
            (
                Request::ClearOverlay { source: None, saved: None },
                r#"{"command":"clear_overlay","source":null}"#,
            ),
            (
                Request::ClearOverlay { source: None, saved: Some(saved) },
                r#"{"command":"clear_overlay","source":null,"saved":{"cli":[{"change":"remove_service","service":"dns"}]}}"#,
            ),
            (
                Request::ReplaceSource {
                    source: "kubernetes".into(),
                    services: vec![NewService {
                        vip: "192.0.2.10:80".into(),
                        check: Some("http".into()),
                        check_port: Some(10256),
                        check_request: Some("/healthz".into()),
                        ..NewService::default()
                    }],
                },
                r#"{"command":"replace_source","source":"kubernetes","services":[{"vip":"192.0.2.10:80","check":"http","check_port":10256,"check_request":"/healthz","servers":[]}]}"#,
            ),
            (Request::Zero { service: None }, r#"{"command":"zero","service":null}"#),
            (
                Request::Changes { source: "cli".into(), changes },
                r#"{"command":"changes","source":"cli","changes":[{"change":"edit_service","service":"web","settings":{"scheduler":"mh","hash_port":true,"persistence":{"timeout_s":600}}},{"change":"remove_service","service":"dns"}]}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).expect("JSON"), text);
            assert_eq!(serde_json::from_str::<Request>(text).expect("a request"), request);
        }
    }
}

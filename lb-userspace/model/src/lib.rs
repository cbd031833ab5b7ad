//! Types that all crates share. Nothing here reads a file, opens a socket or depends on the data
//! path.
//!
//! - [`config`]: the validated configuration; [`check`]: its part about health checks;
//!   `cluster`: its part about directors that stand in for each other
//! - `alerts`: its part about who is told of events; [`EVENTS`]: their names
//! - `digest`: a hash of every value that must be equal on all nodes of a cluster
//! - [`ids`]: ids of nodes and groups; `interfaces`: those that packets come in by
//! - `limits`: how much a configuration may hold
//! - [`GroupKind`]: whether one director serves a group of VIPs, or all
//! - `forwarding`: the method by which packets get to a server
//! - [`canonical`]: names of servers, as operators write them; [`ServiceNames`]: services by theirs
//! - [`Tunnel`]: the tunnel to a server; [`QuicEncoding`]: connection IDs that name servers
//! - [`Ports`]: the ports of a service
//! - [`Web`]: how the page and the HTTP API are served
//! - [`health`]: a server's health, traffic totals, the steps of a probe
//! - [`overlay`]: changes of the configuration at run time
//! - [`lease`]: until when the data path may serve each group of VIPs

mod alerts;
mod check;
mod clients;
mod cluster;
mod config;
mod digest;
mod events;
mod forwarding;
mod group;
mod health;
pub mod ids;
mod interfaces;
pub mod lease;
mod limits;
mod names;
pub mod overlay;
mod ports;
mod quic;
mod tunnel;
mod web;

pub use self::alerts::*;
pub use self::check::*;
pub use self::clients::*;
pub use self::cluster::*;
pub use self::config::*;
pub use self::events::{EVENTS, is_event, message_id};
pub use self::forwarding::{Forwarding, MOST_OF_A_BACKEND, MOST_SOURCE_LISTS, MOST_SOURCES};
pub use self::group::{Anycast, GroupKind};
pub use self::health::{Health, ProbeStep, Totals, millis};
pub use self::interfaces::MAX_INTERFACES;
pub use self::limits::*;
pub use self::names::{LONGEST_NAME, ServiceNames, canonical};
pub use self::ports::{PortKey, PortRange, Ports};
pub use self::quic::*;
pub use self::tunnel::*;
pub use self::web::{Web, WebTls};
pub use lb_common::packet::vlan::Vlan;

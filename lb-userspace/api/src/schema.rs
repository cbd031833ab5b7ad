//! What programs read from `--json`, and from `lb import --report json`: each object says which
//! shape it has.
//!
//! A shape's number rises when a field goes or gets another meaning; fields may come at any time.
//! `lb config schema SHAPE` prints its JSON schema.

use serde::Serialize;

pub const STATUS: &str = "lb/status/1";
pub const EVENT: &str = "lb/event/1";
pub const PROBE: &str = "lb/probe/1";
pub const PACKET: &str = "lb/packet/1";
pub const CONNECTION: &str = "lb/connection/1";
pub const CLIENT: &str = "lb/client/1";
pub const ALERTS: &str = "lb/alerts/1";
pub const ALERT_TEST: &str = "lb/alert_test/1";
pub const CHECK: &str = "lb/check/1";
pub const DIFF: &str = "lb/diff/1";
pub const DOCTOR: &str = "lb/doctor/1";
pub const IMPORT: &str = "lb/import/1";
pub const OVERLAY: &str = "lb/overlay/1";
pub const RELOAD: &str = "lb/reload/1";

/// An object with the name of its shape as the first field.
#[derive(Debug, Clone, Serialize)]
pub struct Versioned<T> {
    pub schema: &'static str,
    #[serde(flatten)]
    pub object: T,
}

/// The object as one line of JSON, without its end.
pub fn line<T: Serialize>(schema: &'static str, object: &T) -> serde_json::Result<String> {
    serde_json::to_string(&Versioned { schema, object })
}

/// The object as JSON for people, too.
pub fn pretty<T: Serialize>(schema: &'static str, object: &T) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Versioned { schema, object })
}

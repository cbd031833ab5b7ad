//! A server's health, traffic totals, the steps of a probe.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A server's health: whether it gets new connections, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No check has had a result yet.
    Unknown,
    Up,
    Down,
    /// No check is configured.
    Unchecked,
    /// An operator keeps the server out, whatever its checks report.
    Maintenance,
    /// The server left the configuration and keeps its open connections.
    Draining,
}

impl Health {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
            Self::Unchecked => "unchecked",
            Self::Maintenance => "maintenance",
            Self::Draining => "draining",
        }
    }
}

/// Traffic totals since some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    pub connections: u64,
    pub packets: u64,
    pub bytes: u64,
}

impl Totals {
    pub fn add(&mut self, other: Self) {
        let Self { connections, packets, bytes } = other;
        self.connections += connections;
        self.packets += packets;
        self.bytes += bytes;
    }

    /// What has come since these were `earlier`.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            connections: self.connections.saturating_sub(earlier.connections),
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

/// A completed step of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeStep {
    /// Microseconds since the probe began.
    pub after_us: u64,
    /// In the past tense: `connected`, `sent GET /`.
    pub what: Cow<'static, str>,
}

/// Formats microseconds as milliseconds, with as many digits as are useful.
pub fn millis(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

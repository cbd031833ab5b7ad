//! What becomes of a server, what was carried, and what a probe has done.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What becomes of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No check has had a result yet.
    Unknown,
    Up,
    Down,
    /// No check is configured.
    Unchecked,
    /// An operator keeps it out, whatever its checks say.
    Maintenance,
    /// It left the configuration and keeps what connections it has.
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

/// What was carried since some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Something that a probe has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Microseconds since the probe began.
    pub after_us: u64,
    /// In the past tense: `connected`, `sent GET /`.
    pub what: Cow<'static, str>,
}

/// Microseconds in milliseconds, with as many digits as are of use.
pub fn millis(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

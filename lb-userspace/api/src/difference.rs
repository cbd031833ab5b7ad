//! What differs between the running configuration and the file's.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    pub kind: Kind,
    /// What it concerns: `service web`, `server web/www1`, `group web`, or nothing for the file's
    /// own keys.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The key that changes; `None`: the whole subject comes or goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The running value, where it can be told in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The file's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

/// As in `lb diff`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, subject, key, from, to } = self;
        let sign = match kind {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        };
        write!(f, "{sign}")?;
        if !subject.is_empty() {
            write!(f, " {subject}")?;
        }
        if let Some(key) = key {
            write!(f, "{} {key}", if subject.is_empty() { "" } else { ":" })?;
        }
        match (from, to) {
            (Some(from), Some(to)) => write!(f, ": {from} -> {to}"),
            (Some(word), None) | (None, Some(word)) => write!(f, ": {word}"),
            (None, None) => Ok(()),
        }
    }
}

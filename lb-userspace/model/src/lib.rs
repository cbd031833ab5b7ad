//! Ids and words that everybody shares. Nothing here reads a file, opens a socket or knows the data path.
//!
//! - [`config`]: the checked configuration; [`check`]: the part of it that says how a server is checked
//! - `digest`: one number for everything that must be equal on all nodes of a cluster
//! - [`ids`]: what nodes and groups go by
//! - [`health`]: what becomes of a server, what was carried, what a probe has done
//! - [`lease`]: until when each group of VIPs is served

mod check;
mod config;
mod digest;
mod health;
pub mod ids;
pub mod lease;

pub use self::check::*;
pub use self::config::*;
pub use self::health::{Health, Step, Totals, millis};

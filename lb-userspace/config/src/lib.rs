//! The configuration: from YAML to a checked model.
//!
//! `files` reads the file and what it includes. Each passes two stages: `yaml` parses its shape
//! with serde_yaml and keeps every scalar as text, and `validate` reads the scalars of all of them,
//! `references` included, and builds the model. `source_map` stores the source span of each value,
//! so that both stages report mistakes with file, line and column. `surplus` continues after
//! mistakes of shape, so that one call reports all mistakes. `schema` tells the shape to editors.
//! `overlay` makes changes at run time, by `edit` in the text. `lists` adds the lists of clients
//! that stand in files of their own; `beside` reads such files, and those of `references`.

mod beside;
mod edit;
mod error;
mod files;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod keys;
mod lists;
mod overlay;
mod references;
mod schema;
mod source_map;
mod surplus;
mod syntax;
mod validate;
mod values;
mod yaml;

use std::path::{Path, PathBuf};

use lb_model::Config;

pub use error::{ConfigError, Mistake};
pub use files::{Files, Sources};
pub use overlay::{Base, Changed, ServiceChange};
pub use schema::SCHEMA;

use self::files::Document;

/// Reads and validates the configuration file at `path`, with what it includes.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    load_on(path, &host_name())
}

/// Parses and validates the configuration in `text`; messages begin with `origin`, usually a file
/// name. What it includes is looked for from there; lists of clients are not read.
pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
    parse_on(text, origin, &host_name())
}

/// Like [`load`], for the host name `host`: the name selects the cluster's node unless the file has
/// the key `node`.
pub fn load_on(path: &Path, host: &str) -> Result<Config, ConfigError> {
    Files::open(path)?.config_on(host)
}

/// Like [`parse`], for the host name `host`.
pub fn parse_on(text: &str, origin: &str, host: &str) -> Result<Config, ConfigError> {
    Files::of(Document::new(PathBuf::from(origin), text)).config_on(host)
}

/// The host's name; empty, and so no node's name, if it cannot be read or is not UTF-8.
fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

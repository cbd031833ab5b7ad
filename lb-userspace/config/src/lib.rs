//! The configuration: from YAML to a checked model.
//!
//! A file passes two stages. `yaml` parses its shape with serde_yaml and keeps every scalar as
//! text. `validate` reads the scalars and builds the model. `source_map` stores the source span of
//! each value, so that both stages report mistakes with line and column. `surplus` continues after
//! mistakes of shape, so that one call reports all mistakes of a file. `schema` tells the shape to
//! editors. `overlay` makes changes at run time, by `edit` in the text. `lists` has the files with
//! lists of clients.

mod edit;
mod error;
#[cfg(test)]
mod fuzz;
mod lists;
mod overlay;
mod schema;
mod source_map;
mod surplus;
mod syntax;
mod validate;
mod values;
mod yaml;

use std::path::Path;

use lb_model::Config;

pub use error::{ConfigError, Mistake};
pub use overlay::{Overlaid, load_with, overlaid};
pub use schema::schema;

/// Reads and validates the configuration file at `path`.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    load_on(path, &host_name())
}

/// Parses and validates the configuration in `text`; messages begin with `origin`, usually a file
/// name. Files that it names are not read.
pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
    parse_on(text, origin, &host_name())
}

/// Like [`load`], for the host name `host`: the name selects the cluster's node unless the file has
/// the key `node`.
pub fn load_on(path: &Path, host: &str) -> Result<Config, ConfigError> {
    let origin = path.display().to_string();
    let bytes =
        std::fs::read(path).map_err(|cause| ConfigError::Unreadable { origin: origin.clone(), cause })?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => with_lists(parse_on(text, &origin, host)?, text, &origin),
        Err(cause) => Err(syntax::not_utf8(&bytes, &cause, &origin)),
    }
}

/// The configuration of `text` with the lists of clients that stand in files of their own.
pub(crate) fn with_lists(mut config: Config, text: &str, origin: &str) -> Result<Config, ConfigError> {
    if lists::are_there(&config) {
        let (text, source_map) = mapped(text);
        let read = lists::read(&mut config, source_map.root());
        read.map_err(|found| ConfigError::of(found, text, origin))?;
    }
    Ok(config)
}

/// The text without an editor's byte order mark, which columns of the first line do not count.
fn mapped(text: &str) -> (&str, source_map::SourceMap) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    (text, source_map::SourceMap::of(text))
}

/// Like [`parse`], for the host name `host`.
pub fn parse_on(text: &str, origin: &str, host: &str) -> Result<Config, ConfigError> {
    let (text, source_map) = mapped(text);
    if source_map.is_blank() && source_map.second_document.is_none() {
        let message = "the file is empty, expected `interface` and `services`";
        return Err(ConfigError::of(vec![(source_map::Position::START, message.into())], text, origin));
    }
    let checked = match serde_yaml::from_str::<yaml::File>(text) {
        Ok(file) => validate::validate(&file, source_map.root(), host),
        Err(_) => Err(surplus::mistakes(text, host)),
    };
    checked.map_err(|found| ConfigError::of(found, text, origin))
}

/// The host's name; empty, and so no node's name, if it cannot be read or is not UTF-8.
fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

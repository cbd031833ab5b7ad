//! The configuration: from YAML to a checked model.
//!
//! A file passes three stages. `yaml` reads its shape with serde_yaml and keeps every value as it was written;
//! `check` reads the values and builds the `model`; `places` knows the line and column of each value, so that
//! a mistake found by either of them is reported where it stands. `surplus` reads on past mistakes of shape, so that all
//! mistakes of a file are told in one go.

mod check;
mod error;
#[cfg(test)]
mod fuzz;
mod places;
mod surplus;
mod syntax;
mod values;
mod yaml;

use std::path::Path;

use lb_model::Config;

pub use error::{ConfigError, Mistake};

/// Reads and checks the configuration file at `path`.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    load_on(path, &host_name())
}

/// Checks the configuration in `text`; `origin` is what its mistakes are reported under, usually a file name.
pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
    parse_on(text, origin, &host_name())
}

/// Like [`load`], on a host called `host`: that tells which node of a cluster it is, unless the file does.
pub fn load_on(path: &Path, host: &str) -> Result<Config, ConfigError> {
    let origin = path.display().to_string();
    let bytes =
        std::fs::read(path).map_err(|cause| ConfigError::Unreadable { origin: origin.clone(), cause })?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse_on(text, &origin, host),
        Err(cause) => Err(syntax::not_utf8(&bytes, &cause, &origin)),
    }
}

/// Like [`parse`], on a host called `host`.
pub fn parse_on(text: &str, origin: &str, host: &str) -> Result<Config, ConfigError> {
    // An editor's byte order mark is no character of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let places = places::Places::of(text);
    if places.is_blank() && places.second_document.is_none() {
        let message = "the file is empty, expected `interface` and `services`";
        return Err(ConfigError::of(vec![(places::Position::START, message.into())], text, origin));
    }
    let checked = match serde_yaml::from_str::<yaml::File>(text) {
        Ok(file) => check::check(&file, places.root(), host),
        Err(_) => Err(surplus::mistakes(text, host)),
    };
    checked.map_err(|found| ConfigError::of(found, text, origin))
}

/// The host's name; empty if it cannot be had or is no text: then it is no node's name.
fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

//! What editors ask about YAML files: a language server, which completes keys and marks mistakes.

use std::path::PathBuf;

use crate::workspace;

/// Version of the npm package yaml-language-server, which is no part of the project: it is fetched
/// for tests.
pub const VERSION: &str = "1.19.2";

/// The folder into which `cargo xtask setup` puts it, with what it needs.
pub fn folder() -> PathBuf {
    workspace::target().join("lab").join(format!("yaml-language-server-{VERSION}"))
}

/// Its program, for Node.js.
pub fn language_server() -> PathBuf {
    folder().join("node_modules/yaml-language-server/bin/yaml-language-server")
}

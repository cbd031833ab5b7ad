//! Where the configuration comes from: the file with what it includes, and what was changed at run
//! time.

use std::path::Path;

use lb_config::ConfigError;

use super::config_file::ConfigFile;
use super::files::Watched;
use super::overlay::{self, Loaded, Overlay};

pub(super) struct Origin {
    pub file: ConfigFile,
    pub overlay: Overlay,
}

impl Origin {
    /// The version of `file` is in force, with the changes of `overlay`.
    pub(super) fn new(file: Watched, overlay: Overlay) -> Self {
        Self { file: ConfigFile::new(file), overlay }
    }

    /// The configuration's file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads both anew. `None`: somebody still writes to a file, and a later poll tells when it is
    /// whole.
    pub(super) fn read(&mut self) -> Option<Result<Loaded, ConfigError>> {
        self.file.read(overlay::load)
    }

    /// The same for whoever may still refuse what is found.
    pub(super) fn glance(&self) -> Option<Result<Loaded, ConfigError>> {
        self.file.glance(overlay::load)
    }

    /// For the next life.
    pub(super) fn into_parts(self) -> (Watched, Overlay) {
        (self.file.into_watched(), self.overlay)
    }
}

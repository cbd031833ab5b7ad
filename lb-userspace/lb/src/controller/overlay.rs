//! What is changed in the configuration at run time: a layer above the file, by source. It outlives
//! restarts in a file of its own, beside the folder of maintenance.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use lb_api::difference::Difference;
use lb_api::events::{Level, Record};
use lb_api::status::OverlayStatus;
use lb_api::wire::Saving;
use lb_config::{Changed, ConfigError, Files, Mistake, Sources};
use lb_model::overlay::{Change, ChangedFile, Overlays};
use lb_model::{Config, Server, Service};
use lb_system::whole_file;

use super::Controller;

/// The changes, and which of them change nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    path: PathBuf,
    sources: Overlays,
    /// By number, counted over all sources.
    unused: Vec<(usize, String)>,
    /// The files that the others would change.
    files: Vec<ChangedFile>,
}

/// A configuration with what was changed in it.
pub(super) struct Loaded {
    pub config: Config,
    pub overlay: Overlay,
    /// What is no mistake, but may not be meant.
    pub warnings: Vec<Mistake>,
}

/// Reads the configuration file, and what was changed at run time; also says what else the
/// configuration depends on. An overlay that cannot be read is told in the log and left out: the
/// file is what operators go by.
pub(super) fn load(path: &Path) -> (Result<Loaded, ConfigError>, Sources) {
    match Files::open(path) {
        Ok(mut files) => (load_files(&mut files), files.sources()),
        Err(error) => (Err(error), Sources::default()),
    }
}

fn load_files(files: &mut Files) -> Result<Loaded, ConfigError> {
    let config = files.config()?;
    let overlay = config.maintenance.with_file_name("overlay.json");
    let sources = read(&overlay).unwrap_or_else(|error| {
        tracing::error!("{}: {error}; what was changed at run time is left out", overlay.display());
        Overlays::new()
    });
    if sources.is_empty() {
        let overlay = Overlay { path: overlay, ..Overlay::default() };
        return Ok(Loaded { config, overlay, warnings: files.warnings() });
    }
    load_with(files, overlay, sources)
}

fn load_with(files: &mut Files, overlay: PathBuf, sources: Overlays) -> Result<Loaded, ConfigError> {
    let Changed { config, unused, files: changed } = files.changed(sources.values().flatten())?;
    let overlay = Overlay { path: overlay, sources, unused, files: changed };
    Ok(Loaded { config, overlay, warnings: files.warnings() })
}

fn read(path: &Path) -> io::Result<Overlays> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Overlays::new()),
        Err(error) => Err(error),
    }
}

impl Overlay {
    pub(super) const fn sources(&self) -> &Overlays {
        &self.sources
    }

    /// What `lb save` writes: in files as they were read, with what references stood for then.
    pub(super) fn saving(&self) -> Saving {
        Saving { files: self.files.clone(), unused: self.unused.clone() }
    }

    fn write(&self) -> io::Result<()> {
        if self.sources.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                result => result,
            };
        }
        whole_file::replace(&self.path, &serde_json::to_vec_pretty(&self.sources)?)
    }

    pub(super) fn status(&self) -> Vec<OverlayStatus> {
        let all = self
            .sources
            .iter()
            .flat_map(|(source, changes)| changes.iter().map(move |change| (source, change)));
        let status = |(number, (source, change)): (usize, (&String, &Change))| OverlayStatus {
            source: source.clone(),
            change: change.to_string(),
            unused: self.unused(number).map(str::to_owned),
        };
        all.enumerate().map(status).collect()
    }

    fn unused(&self, number: usize) -> Option<&str> {
        self.unused.iter().find(|(unused, _)| *unused == number).map(|(_, why)| why.as_str())
    }

    /// Who added the service, if it is not the file's.
    pub(super) fn source_of_service(&self, service: &Service) -> Option<String> {
        self.source(|change| match change {
            Change::AddService { service: new } => {
                let protocol = new.protocol.as_deref().unwrap_or("tcp");
                let same = service.key.protocol.name() == protocol && service.is_called(&new.vip);
                same || new.name.as_ref() == Some(&service.name)
            }
            _ => false,
        })
    }

    pub(super) fn source_of_server(&self, service: &Service, server: &Server) -> Option<String> {
        let added = self.source(|change| match change {
            Change::AddServer { service: of, server: new } => {
                service.is_called(of) && server.is_called(&new.address)
            }
            _ => false,
        });
        added.or_else(|| self.source_of_service(service))
    }

    fn source(&self, is_it: impl Fn(&Change) -> bool) -> Option<String> {
        let all = self
            .sources
            .iter()
            .flat_map(|(source, changes)| changes.iter().map(move |change| (source, change)));
        let mut used = all.enumerate().filter(|(number, _)| self.unused(*number).is_none());
        used.find(|(_, (_, change))| is_it(change)).map(|(_, (source, _))| source.clone())
    }
}

impl Controller {
    /// Makes one more change; a change that undoes an earlier one of its source takes that back
    /// instead. Returns what it has changed, or why it is refused.
    pub(super) fn change_overlay(
        &mut self,
        source: String,
        change: Change,
    ) -> Result<Vec<Difference>, String> {
        let mut sources = self.overlay.sources.clone();
        let text = format!("{source}: {change}");
        let changes = sources.entry(source.clone()).or_default();
        match changes.iter().position(|earlier| undoes(&change, earlier)) {
            Some(earlier) => drop(changes.remove(earlier)),
            None => changes.push(change),
        }
        let number: usize = sources.range(..=source).map(|(_, changes)| changes.len()).sum();
        sources.retain(|_, changes| !changes.is_empty());
        self.set_overlay(sources, number.checked_sub(1), &text)
    }

    /// Takes back what this source has changed, or all have.
    pub(super) fn clear_overlay(&mut self, source: Option<&str>) -> Result<Vec<Difference>, String> {
        let mut sources = self.overlay.sources.clone();
        match source {
            Some(source) => drop(sources.remove(source)),
            None => sources.clear(),
        }
        self.set_overlay(sources, None, "what was changed at run time is undone")
    }

    /// `wanted`: the change that must have an effect.
    fn set_overlay(
        &mut self,
        sources: Overlays,
        wanted: Option<usize>,
        text: &str,
    ) -> Result<Vec<Difference>, String> {
        if self.leaving.is_some() {
            return Err("this director is stopping".to_owned());
        }
        let count: usize = sources.values().map(Vec::len).sum();
        let before: usize = self.overlay.sources.values().map(Vec::len).sum();
        let read = |path: &Path| match Files::open(path) {
            Ok(mut files) => {
                let loaded = load_with(&mut files, self.overlay.path.clone(), sources.clone());
                (loaded, files.sources())
            }
            Err(error) => (Err(error), Sources::default()),
        };
        let Some(loaded) = self.config_file.glance(read) else {
            return Err(format!("nothing was changed, try again later: {}", self.config_file.being_written()));
        };
        let Loaded { config, overlay, warnings: _ } = loaded
            .map_err(|error| format!("the configuration file has a mistake, mend it first:\n{error}"))?;
        if count > before
            && let Some(why) = wanted.and_then(|wanted| overlay.unused(wanted))
        {
            return Err(why.to_owned());
        }
        let config = self.accepted(config).map_err(|error| format!("{error:#}"))?;
        let kept = overlay.write();
        kept.map_err(|error| format!("cannot write {}: {error}", overlay.path.display()))?;
        self.notifier.record(Record::new(Level::Info, "overlay_changed", text.to_owned()));
        Ok(self.take(config, overlay))
    }
}

/// Whether nothing is left of both.
fn undoes(change: &Change, earlier: &Change) -> bool {
    match (change, earlier) {
        (Change::RemoveServer { service, server }, Change::AddServer { service: of, server: new }) => {
            service == of && (*server == new.address || Some(server) == new.name.as_ref())
        }
        (Change::RemoveService { service }, Change::AddService { service: new }) => {
            *service == new.vip || Some(service) == new.name.as_ref()
        }
        _ => false,
    }
}

//! What is changed in the configuration at run time: a layer above the file, by source. It outlives
//! restarts in a file of its own, beside the folder of maintenance.
//!
//! - `list`: a change joins those of its source; `added`: who added what

mod added;
mod list;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use lb_api::difference::Difference;
use lb_api::events::{Level, Record};
use lb_api::status::OverlayStatus;
use lb_api::wire::{LeftOut, Replaced, Saving};
use lb_config::{Changed, ConfigError, Files, Mistake, Sources};
use lb_model::overlay::{CLI, Change, NewService, Overlays, is_kept_elsewhere};
use lb_model::{Config, Server, Service};
use lb_system::whole_file;

use self::added::Added;
use super::Controller;

/// The changes, and which of them change nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    path: PathBuf,
    sources: Overlays,
    /// By number, counted over all sources.
    unused: Vec<(usize, String)>,
    saving: Saving,
    added: Added,
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
    let changed = files.changed(sources.values().flatten())?;
    // What others keep is never written.
    let saved = match sources.keys().any(|source| is_kept_elsewhere(source)) {
        true => saving(&files.changed(own(&sources).flat_map(|(_, changes)| changes))?),
        false => saving(&changed),
    };
    let Changed { mut config, unused, files: _ } = changed;
    let added = Added::of(&config, &sources, &unused);
    let kept = added.services.iter().filter(|(_, source)| is_kept_elsewhere(source));
    config.kept_elsewhere = kept.map(|(key, _)| *key).collect();
    let overlay = Overlay { path: overlay, sources, unused, saving: saved, added };
    Ok(Loaded { config, overlay, warnings: files.warnings() })
}

/// What is to be written into files that would be changed so.
fn saving(changed: &Changed) -> Saving {
    let Changed { config: _, files, unused } = changed;
    Saving { files: files.clone(), unused: unused.clone(), lacks: changed.lacks() }
}

/// The sources whose changes are nowhere but here.
fn own(sources: &Overlays) -> impl Iterator<Item = (&String, &Vec<Change>)> {
    sources.iter().filter(|(source, _)| !is_kept_elsewhere(source))
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
        self.saving.clone()
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

    /// How many changes stand before those of this source, and which of its own have an effect. One
    /// that has none any more undoes nothing, and is undone by nothing.
    fn used(&self, source: &str) -> (usize, Vec<Change>) {
        let unused: HashSet<usize> = self.unused.iter().map(|(number, _)| *number).collect();
        let before = self.before(source);
        let own = self.sources.get(source).into_iter().flatten().enumerate();
        let used = own.filter(|(index, _)| !unused.contains(&(before + index)));
        (before, used.map(|(_, change)| change.clone()).collect())
    }

    /// How many changes stand before those of this source.
    fn before(&self, source: &str) -> usize {
        let others = self.sources.iter().take_while(|(other, _)| other.as_str() < source);
        others.map(|(_, changes)| changes.len()).sum()
    }

    /// Services of this source that are not served.
    fn left_out(&self, source: &str) -> Vec<LeftOut> {
        let all = (self.before(source)..).zip(self.sources.get(source).into_iter().flatten());
        let left_out = all.filter_map(|(number, change)| match change {
            Change::AddService { service } => {
                Some(LeftOut { service: service.called(), why: self.unused(number)?.to_owned() })
            }
            _ => None,
        });
        left_out.collect()
    }

    /// What came while somebody saved the rest must not be lost.
    fn is_still(&self, saved: Option<&Overlays>) -> Result<(), String> {
        match saved.is_none_or(|saved| own(saved).eq(own(&self.sources))) {
            true => Ok(()),
            false => Err("it was changed meanwhile: save again".to_owned()),
        }
    }

    fn unused(&self, number: usize) -> Option<&str> {
        self.unused.iter().find(|(unused, _)| *unused == number).map(|(_, why)| why.as_str())
    }

    /// Who added the service, if it is not the file's.
    pub(super) fn source_of_service(&self, service: &Service) -> Option<String> {
        self.added.services.get(&service.key).cloned()
    }

    pub(super) fn source_of_server(&self, service: &Service, server: &Server) -> Option<String> {
        let added = self.added.servers.get(&(service.key, server.address));
        added.cloned().or_else(|| self.source_of_service(service))
    }
}

impl Controller {
    /// Makes more changes, all or none; one that undoes an earlier one of its source takes that
    /// back instead. Returns what they have changed, or why they are refused.
    pub(super) fn change_overlay(
        &mut self,
        source: String,
        changes: Vec<Change>,
    ) -> Result<Vec<Difference>, String> {
        let text = format!("{source}: {}", words(&changes));
        let mut sources = self.overlay.sources.clone();
        sources.remove(&source);
        let (before, used) = self.overlay.used(&source);
        let mut all: Vec<(Change, bool)> = used.into_iter().map(|change| (change, false)).collect();
        for change in changes {
            list::add(&mut all, change, &self.config.services);
        }
        let wanted = all.iter().enumerate().filter(|(_, (_, is_new))| *is_new);
        let wanted: Vec<usize> = wanted.map(|(index, _)| before + index).collect();
        let all: Vec<Change> = all.into_iter().map(|(change, _)| change).collect();
        if !all.is_empty() {
            sources.insert(source, all);
        }
        self.set_overlay(&sources, &wanted, &text)
    }

    /// Makes these the services of a source, in place of all that it has changed before. What cannot
    /// be made is told and left out, so that one service does not stand in the way of the others.
    pub(super) fn replace_source(
        &mut self,
        source: String,
        services: Vec<NewService>,
    ) -> Result<Replaced, String> {
        if source.is_empty() || source == CLI {
            return Err(format!("{source:?} cannot be replaced: expected another name of a source"));
        }
        let wanted: Vec<Change> =
            services.into_iter().map(|service| Change::AddService { service }).collect();
        let known = self.overlay.sources.get(&source).map(Vec::as_slice).unwrap_or_default();
        let differences = if *known == wanted[..] {
            Vec::new()
        } else {
            let text = replacement_words(&source, known, &wanted);
            let mut sources = self.overlay.sources.clone();
            sources.remove(&source);
            if !wanted.is_empty() {
                sources.insert(source.clone(), wanted);
            }
            self.set_overlay(&sources, &[], &text)?
        };
        Ok(Replaced { differences, left_out: self.overlay.left_out(&source) })
    }

    /// Takes back what this source has changed, or all have. `saved`: what is in the file now, and
    /// only if nothing else was changed.
    pub(super) fn clear_overlay(
        &mut self,
        source: Option<&str>,
        saved: Option<&Overlays>,
    ) -> Result<Vec<Difference>, String> {
        self.overlay.is_still(saved)?;
        let mut sources = self.overlay.sources.clone();
        match source {
            Some(source) => drop(sources.remove(source)),
            None if saved.is_some() => sources.retain(|source, _| is_kept_elsewhere(source)),
            None => sources.clear(),
        }
        self.set_overlay(&sources, &[], "what was changed at run time is undone")
    }

    /// `wanted`: the changes that must have an effect.
    fn set_overlay(
        &mut self,
        sources: &Overlays,
        wanted: &[usize],
        text: &str,
    ) -> Result<Vec<Difference>, String> {
        if self.leaving.is_some() {
            return Err("this director is stopping".to_owned());
        }
        let read = |path: &Path| match Files::open(path) {
            Ok(mut files) => {
                let loaded = load_with(&mut files, self.overlay.path.clone(), sources.clone());
                (loaded, files.sources())
            }
            Err(error) => (Err(error), Sources::default()),
        };
        let Some(loaded) = self.config_file.glance(read) else {
            return Err(format!(
                "nothing was changed, try again later: {}",
                self.config_file.being_written()
            ));
        };
        let Loaded { config, overlay, warnings: _ } = loaded
            .map_err(|error| format!("the configuration file has a mistake, mend it first:\n{error}"))?;
        if let Some((number, why)) = overlay.unused.iter().find(|(number, _)| wanted.contains(number)) {
            let of_several = overlay.sources.values().flatten().nth(*number).filter(|_| wanted.len() > 1);
            return Err(match of_several {
                Some(change) => format!("{change}: {why}"),
                None => why.clone(),
            });
        }
        let config = self.accepted(config).map_err(|error| format!("{error:#}"))?;
        let kept = overlay.write();
        kept.map_err(|error| format!("cannot write {}: {error}", overlay.path.display()))?;
        self.notifier.record(Record::new(Level::Info, "overlay_changed", text.to_owned()));
        Ok(self.take(config, overlay))
    }
}

/// The services that have come, changed and gone.
fn replacement_words(source: &str, before: &[Change], after: &[Change]) -> String {
    let names = |changes: &[Change]| -> BTreeMap<String, Change> {
        let services = changes.iter().filter_map(|change| match change {
            Change::AddService { service } => Some((service.called(), change.clone())),
            _ => None,
        });
        services.collect()
    };
    let (before, after) = (names(before), names(after));
    let changed = after.iter().filter_map(|(name, change)| match before.get(name) {
        None => Some(format!("+ service {name}")),
        Some(known) if known != change => Some(format!("~ service {name}")),
        Some(_) => None,
    });
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let all: Vec<String> = changed.chain(gone.map(|name| format!("- service {name}"))).collect();
    format!("{source}: {}", first_of(&all))
}

/// The first ones, and how many there are.
fn words(changes: &[Change]) -> String {
    first_of(&changes.iter().map(Change::to_string).collect::<Vec<_>>())
}

fn first_of(all: &[String]) -> String {
    const TOLD: usize = 3;
    let told = all[..all.len().min(TOLD)].join(", ");
    match all.len().checked_sub(TOLD) {
        Some(more @ 1..) => format!("{told} and {more} more"),
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(name: &str) -> Change {
        Change::RemoveService { service: name.to_owned() }
    }

    #[test]
    fn changes_without_effect_are_forgotten() {
        let sources = Overlays::from([
            ("api".to_owned(), vec![remove("a"), remove("b")]),
            ("cli".to_owned(), vec![remove("c"), remove("d"), remove("e")]),
        ]);
        let unused = vec![(1, "it is gone".to_owned()), (3, "it is gone".to_owned())];
        let overlay = Overlay { sources, unused, ..Overlay::default() };
        assert_eq!(overlay.used("api"), (0, vec![remove("a")]));
        assert_eq!(overlay.used("cli"), (2, vec![remove("c"), remove("e")]));
        assert_eq!(overlay.used("web"), (5, vec![]));
    }

    #[test]
    fn only_what_was_saved_is_cleared() {
        let saved = Overlays::from([("cli".to_owned(), vec![remove("a")])]);
        let mut overlay = Overlay { sources: saved.clone(), ..Overlay::default() };
        assert_eq!(overlay.is_still(Some(&saved)), Ok(()));
        overlay.sources.insert("api".to_owned(), vec![remove("b")]);
        assert!(overlay.is_still(Some(&saved)).is_err_and(|why| why.contains("save again")));
        assert_eq!(overlay.is_still(None), Ok(()));
    }

    fn service(name: &str, port: u16) -> Change {
        let vip = format!("192.0.2.10:{port}");
        Change::AddService {
            service: NewService { vip, name: Some(name.to_owned()), ..NewService::default() },
        }
    }

    #[test]
    fn what_others_keep_is_not_saved() {
        let cli = ("cli".to_owned(), vec![remove("a")]);
        let both = Overlays::from([cli.clone(), ("kubernetes".to_owned(), vec![service("b", 80)])]);
        let mut overlay = Overlay { sources: both.clone(), ..Overlay::default() };
        overlay.sources.insert("kubernetes".to_owned(), Vec::new());
        assert_eq!(overlay.is_still(Some(&both)), Ok(()));
        assert_eq!(own(&both).collect::<Vec<_>>(), [(&cli.0, &cli.1)]);
    }

    #[test]
    fn services_of_a_source_that_are_not_served_are_told_by_name() {
        let sources = Overlays::from([
            ("cli".to_owned(), vec![remove("a")]),
            ("kubernetes".to_owned(), vec![service("b", 80), service("c", 81)]),
        ]);
        let unused = vec![(2, "the file has it".to_owned())];
        let overlay = Overlay { sources, unused, ..Overlay::default() };
        let wanted = LeftOut { service: "c".to_owned(), why: "the file has it".to_owned() };
        assert_eq!(overlay.left_out("kubernetes"), [wanted]);
        assert!(overlay.left_out("cli").is_empty());
        assert!(overlay.left_out("other").is_empty());
    }

    #[test]
    fn a_replacement_is_told_by_what_differs() {
        let before = [service("a", 80), service("b", 81), service("c", 82)];
        let after = [service("b", 81), service("c", 83), service("d", 84)];
        assert_eq!(
            replacement_words("kubernetes", &before, &after),
            "kubernetes: ~ service c, + service d, - service a"
        );
    }

    #[test]
    fn many_changes_are_told_in_a_line() {
        let all = ["a", "b", "c", "d", "e"].map(remove);
        assert_eq!(words(&all[..1]), "- service a");
        assert_eq!(words(&all[..3]), "- service a, - service b, - service c");
        assert_eq!(words(&all), "- service a, - service b, - service c and 2 more");
    }
}

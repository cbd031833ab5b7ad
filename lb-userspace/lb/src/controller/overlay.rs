//! What is changed in the configuration at run time: a layer above the file, by source. It outlives
//! restarts in a file of its own, beside the folder of maintenance.
//!
//! - `list`: changes join those of their source; `added`: who added what; `file`: what outlives
//!   restarts, with `journal`: changes since it was written, and `unreadable`: what of both cannot
//!   be read; `single`: a change that comes alone

mod added;
mod file;
mod journal;
mod list;
mod single;
mod unreadable;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_api::difference::Difference;
use lb_api::events::{Level, Record};
use lb_api::status::OverlayStatus;
use lb_api::wire::{LeftOut, Replaced, Saving};
use lb_config::{Base, Changed, ConfigError, Files, Mistake, Sources};
use lb_model::overlay::{CLI, Change, NewService, Overlays, is_kept_elsewhere, is_name_of_program};
use lb_model::{Config, Server, Service, ServiceNames};

use self::added::Added;
use self::file::{Found, Kept};
use self::list::Joined;
use super::Controller;

/// The changes, and which of them change nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    path: PathBuf,
    sources: Overlays,
    /// By number, counted over all sources.
    unused: BTreeMap<usize, String>,
    /// The files that it stands above, as they were read.
    base: Option<Arc<Base>>,
    added: Added,
    /// How the file was left, with its journal.
    kept: Kept,
    /// Why the file cannot be read, until it is put aside.
    unreadable: Option<String>,
}

/// A configuration with what was changed in it.
pub(super) struct Loaded {
    pub config: Config,
    pub overlay: Overlay,
    /// What is no mistake, but may not be meant.
    pub warnings: Vec<Mistake>,
}

/// Reads the configuration file, and what was changed at run time; also says what else the
/// configuration depends on. An overlay that cannot be read is left out, and whoever takes the
/// configuration puts it aside.
pub(super) fn load(path: &Path) -> (Result<Loaded, ConfigError>, Sources) {
    match Files::open(path) {
        Ok(mut files) => (load_files(&mut files), files.sources()),
        Err(error) => (Err(error), Sources::default()),
    }
}

fn load_files(files: &mut Files) -> Result<Loaded, ConfigError> {
    let config = files.config()?;
    let overlay = config.overlay_file();
    let (found, unreadable) = match file::read(&overlay) {
        Ok(found) => (found, None),
        Err(error) => (Found::default(), Some(error.to_string())),
    };
    let Found { sources, kept } = found;
    if sources.is_empty() {
        let base = Some(Arc::new(Base::new(files.clone())));
        let overlay = Overlay { path: overlay, base, kept, unreadable, ..Overlay::default() };
        return Ok(Loaded { config, overlay, warnings: files.warnings() });
    }
    let mut loaded = load_with(files, overlay, sources)?;
    loaded.overlay.kept = kept;
    Ok(loaded)
}

fn load_with(files: &mut Files, overlay: PathBuf, sources: Overlays) -> Result<Loaded, ConfigError> {
    let changed = files.changed(sources.values().flatten())?;
    let Changed { mut config, unused, .. } = changed;
    let added = Added::of(&config, &sources, &unused);
    config.kept_elsewhere = added.kept_elsewhere();
    let base = Some(Arc::new(Base::new(files.clone())));
    let overlay = Overlay { path: overlay, sources, unused, base, added, ..Overlay::default() };
    Ok(Loaded { config, overlay, warnings: files.warnings() })
}

/// All changes with their sources, as they are numbered.
fn all(sources: &Overlays) -> impl Iterator<Item = (&String, &Change)> {
    sources.iter().flat_map(|(source, changes)| changes.iter().map(move |change| (source, change)))
}

/// Changes that are nowhere but here, with their numbers.
fn own(sources: &Overlays) -> impl Iterator<Item = (usize, &Change)> {
    let own = all(sources).enumerate().filter(|(_, (source, _))| !is_kept_elsewhere(source));
    own.map(|(number, (_, change))| (number, change))
}

impl Overlay {
    pub(super) const fn sources(&self) -> &Overlays {
        &self.sources
    }

    /// What `lb save` writes: in files as they were read, with what references stood for then.
    pub(super) fn saving(&self) -> Saving {
        // What others keep is never written.
        let own: Vec<(usize, &Change)> = own(&self.sources).collect();
        let unused = own
            .iter()
            .enumerate()
            .filter_map(|(index, (number, _))| Some((index, self.unused.get(number)?.clone())))
            .collect();
        let changed = self.base.as_ref().map(|base| {
            let mut files = base.files().clone();
            files.changed(own.iter().map(|(_, change)| *change))
        });
        let (files, lacks) = match changed {
            Some(Ok(changed)) => {
                let lacks = self.unwritten(&own, &changed).or_else(|| changed.lacks());
                (changed.files, lacks)
            }
            Some(Err(error)) => (Vec::new(), Some(error.to_string())),
            None => (Vec::new(), None),
        };
        Saving { files, unused, lacks }
    }

    /// What is in force and would not be in the files: it must not be forgotten. `changed` is what
    /// has come of `own`.
    fn unwritten(&self, own: &[(usize, &Change)], changed: &Changed) -> Option<String> {
        let in_vain = changed.unused.iter().filter_map(|(index, why)| Some((own.get(*index)?, why)));
        let mut in_vain = in_vain.filter(|((number, _), _)| !self.unused.contains_key(number));
        let ((_, change), why) = in_vain.next()?;
        Some(format!("{change} cannot be written ({why})"))
    }

    pub(super) fn status(&self) -> Vec<OverlayStatus> {
        let status = |(number, (source, change)): (usize, (&String, &Change))| OverlayStatus {
            source: source.clone(),
            change: change.to_string(),
            unused: self.unused.get(&number).cloned(),
        };
        all(&self.sources).enumerate().map(status).collect()
    }

    /// The number of this source's first change, and which of its own have an effect. One that has
    /// none any more undoes nothing, and is undone by nothing.
    fn used(&self, source: &str) -> (usize, Vec<Change>) {
        let before = self.first_number(source);
        let own = self.sources.get(source).into_iter().flatten().enumerate();
        let used = own.filter(|(index, _)| !self.unused.contains_key(&(before + index)));
        (before, used.map(|(_, change)| change.clone()).collect())
    }

    /// How many changes stand before those of this source.
    fn first_number(&self, source: &str) -> usize {
        let others = self.sources.iter().take_while(|(other, _)| other.as_str() < source);
        others.map(|(_, changes)| changes.len()).sum()
    }

    /// Services of this source that are not served.
    fn left_out(&self, source: &str) -> Vec<LeftOut> {
        let all = (self.first_number(source)..).zip(self.sources.get(source).into_iter().flatten());
        let left_out = all.filter_map(|(number, change)| match change {
            Change::AddService { service } => {
                Some(LeftOut { service: service.called(), why: self.unused.get(&number)?.clone() })
            }
            _ => None,
        });
        left_out.collect()
    }

    /// What came while somebody saved the rest must not be lost.
    fn is_still(&self, saved: Option<&Overlays>) -> Result<(), String> {
        let changes = |sources| own(sources).map(|(_, change)| change);
        match saved.is_none_or(|saved| changes(saved).eq(changes(&self.sources))) {
            true => Ok(()),
            false => Err("it was changed meanwhile: save again".to_owned()),
        }
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
    /// Makes more changes, all or none, joined with those of their source. Returns what they have
    /// changed, or why they are refused.
    pub(super) fn change_overlay(
        &mut self,
        source: String,
        changes: Vec<Change>,
    ) -> Result<Vec<Difference>, String> {
        self.may_change()?;
        let text = format!("{source}: {}", words(&changes));
        let (before, used) = self.origin.overlay.used(&source);
        let joined = self.joined(&source, used, &changes)?;
        if let [change] = changes.as_slice()
            && self.origin.file.is_in_force()
            && let Some((config, overlay)) =
                self.origin.overlay.with_one_more(&self.config, &source, change, &joined)
        {
            return self.put_in_force(config, overlay, &text);
        }
        let mut sources = self.origin.overlay.sources.clone();
        let Joined { changes, new } = joined;
        let wanted: Vec<usize> = new.into_iter().map(|index| before + index).collect();
        match changes.is_empty() {
            true => drop(sources.remove(&source)),
            false => drop(sources.insert(source, changes)),
        }
        self.set_overlay(&sources, &wanted, &text)
    }

    /// A source's changes with more, or why one of these cannot be made.
    fn joined(&self, source: &str, used: Vec<Change>, more: &[Change]) -> Result<Joined, String> {
        let names = ServiceNames::of(&self.config.services);
        let joined = list::joined(used, more.to_vec(), &names);
        let mut new = joined.new.iter().filter_map(|index| joined.changes.get(*index));
        match new.find_map(|change| self.origin.overlay.added.of_later_source(&names, source, change)) {
            Some(why) => Err(why),
            None => Ok(joined),
        }
    }

    /// Makes these the services of a source, in place of all that it has changed before. What
    /// cannot be made is told and left out, so that one service does not stand in the way of the
    /// others.
    pub(super) fn replace_source(
        &mut self,
        source: String,
        services: Vec<NewService>,
    ) -> Result<Replaced, String> {
        if !is_name_of_program(&source) {
            return Err(format!(
                "source {source:?}: expected 1 to 64 ASCII characters without blanks, and not {CLI}"
            ));
        }
        let wanted: Vec<Change> =
            services.into_iter().map(|service| Change::AddService { service }).collect();
        let known = self.origin.overlay.sources.get(&source).map(Vec::as_slice).unwrap_or_default();
        let differences = if *known == wanted[..] {
            Vec::new()
        } else {
            let text = replacement_words(&source, known, &wanted);
            let mut sources = self.origin.overlay.sources.clone();
            sources.remove(&source);
            if !wanted.is_empty() {
                sources.insert(source.clone(), wanted);
            }
            self.set_overlay(&sources, &[], &text)?
        };
        Ok(Replaced { differences, left_out: self.origin.overlay.left_out(&source) })
    }

    /// Takes back what this source has changed, or all have. `saved`: what is in the file now, and
    /// only if nothing else was changed.
    pub(super) fn clear_overlay(
        &mut self,
        source: Option<&str>,
        saved: Option<&Overlays>,
    ) -> Result<Vec<Difference>, String> {
        self.origin.overlay.is_still(saved)?;
        let mut sources = self.origin.overlay.sources.clone();
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
        self.may_change()?;
        let read = |path: &Path| match Files::open(path) {
            Ok(mut files) => {
                let loaded = load_with(&mut files, self.origin.overlay.path.clone(), sources.clone());
                (loaded, files.sources())
            }
            Err(error) => (Err(error), Sources::default()),
        };
        let Some(loaded) = self.origin.file.glance(read) else {
            return Err(format!(
                "nothing was changed, try again later: {}",
                self.origin.file.being_written()
            ));
        };
        let Loaded { config, overlay, warnings: _ } = loaded
            .map_err(|error| format!("the configuration file has a mistake, mend it first:\n{error}"))?;
        let in_vain = wanted.iter().find_map(|number| Some((*number, overlay.unused.get(number)?)));
        if let Some((number, why)) = in_vain {
            let of_several = overlay.sources.values().flatten().nth(number).filter(|_| wanted.len() > 1);
            return Err(match of_several {
                Some(change) => format!("{change}: {why}"),
                None => why.clone(),
            });
        }
        self.put_in_force(config, overlay, text)
    }

    fn may_change(&self) -> Result<(), String> {
        if self.lifecycle.is_leaving() {
            return Err("this director is stopping".to_owned());
        }
        if let Some(why) = &self.origin.overlay.unreadable {
            let shown = self.origin.overlay.path.display();
            return Err(format!("{shown} cannot be read ({why}): move it away and `lb reload`"));
        }
        Ok(())
    }

    /// What outlives restarts is written first.
    fn put_in_force(
        &mut self,
        config: Config,
        mut overlay: Overlay,
        text: &str,
    ) -> Result<Vec<Difference>, String> {
        let config = self.accepted(config).map_err(|error| format!("{error:#}"))?;
        let told = self.origin.overlay.make_room()?;
        told.into_iter().for_each(|record| self.announcer.record(record));
        let Overlay { sources: before, kept, .. } = &self.origin.overlay;
        let kept = file::keep(&overlay.path, kept, before, &overlay.sources);
        overlay.kept = kept.map_err(|error| format!("cannot write {}: {error}", overlay.path.display()))?;
        self.announcer.record(Record::new(Level::Info, "overlay_changed", text.to_owned()));
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
        let unused = BTreeMap::from([1, 3].map(|number| (number, "it is gone".to_owned())));
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
        overlay.sources.insert("cli".to_owned(), vec![remove("a"), remove("b")]);
        assert!(overlay.is_still(Some(&saved)).is_err_and(|why| why.contains("save again")));
        assert_eq!(overlay.is_still(None), Ok(()));
    }

    fn service(name: &str, port: u16) -> Change {
        let vip = format!("192.0.2.10:{port}");
        let service = NewService { vip, name: Some(name.to_owned()), ..NewService::default() };
        Change::AddService { service }
    }

    #[test]
    fn what_programs_keep_is_not_saved() {
        let given = Overlays::from([
            ("acme".to_owned(), vec![service("a", 80)]),
            ("cli".to_owned(), vec![remove("b"), remove("c")]),
            ("kubernetes".to_owned(), vec![service("d", 81)]),
        ]);
        let unused = BTreeMap::from([(2, "it is gone".to_owned())]);
        let mut overlay = Overlay { sources: given.clone(), unused, ..Overlay::default() };
        assert_eq!(own(&given).map(|(number, _)| number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(overlay.saving().unused, [(1, "it is gone".to_owned())]);
        overlay.sources.retain(|source, _| source == "cli");
        assert_eq!(overlay.is_still(Some(&given)), Ok(()));
        overlay.sources.clear();
        assert!(overlay.is_still(Some(&given)).is_err());
    }

    #[test]
    fn services_of_a_source_that_are_not_served_are_told_by_name() {
        let sources = Overlays::from([
            ("cli".to_owned(), vec![remove("a")]),
            ("kubernetes".to_owned(), vec![service("b", 80), service("c", 81)]),
        ]);
        let unused = BTreeMap::from([(2, "the file has it".to_owned())]);
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

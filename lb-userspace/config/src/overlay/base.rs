//! One change more, where thousands may come one by one: it is made in files that have no other
//! service than the one that it is about.

use std::collections::HashMap;
use std::sync::OnceLock;

use lb_model::overlay::{Change, NewService};
use lb_model::{Config, Service, ServiceKey};

use super::cuts_of;
use crate::edit::{Cut, List, emptied};
use crate::files::Files;
use crate::validate;

/// The files of a configuration as they were read.
#[derive(Debug)]
pub struct Base {
    files: Files,
    /// `None` in it: the files' layout does not let services be left out.
    single: OnceLock<Option<Single>>,
}

/// What is needed for a look at a single service.
#[derive(Debug)]
struct Single {
    /// Without services.
    bare: Files,
    cuts: Vec<Cut>,
    /// The number of the file that has the service, and its place there.
    places: HashMap<ServiceKey, (usize, usize)>,
}

/// What one change more does to a service of a configuration that has others already.
#[derive(Debug)]
pub enum ServiceChange<'a> {
    /// A service comes that is not the files'; or is another one now, at this index.
    Put(&'a NewService, Option<usize>),
    /// The one at this index goes.
    Remove(usize),
    /// The one at this index is the files', with all these changes, which are about it alone.
    Change(usize, Vec<&'a Change>),
}

impl Base {
    /// The configuration has been made of the files.
    pub const fn new(files: Files) -> Self {
        Self { files, single: OnceLock::new() }
    }

    pub const fn files(&self) -> &Files {
        &self.files
    }

    /// `config`, which is the files' with changes, with one change more; `is_new` says which
    /// services have come by changes. `None`: that is not certain, so all changes have to be made
    /// anew ([`Files::changed`]), which also says what is wrong with one.
    pub fn with(
        &self,
        config: &Config,
        change: &ServiceChange<'_>,
        is_new: impl Fn(&ServiceKey) -> bool,
    ) -> Option<Config> {
        let single = self.single.get_or_init(|| Single::of(&self.files)).as_ref()?;
        let mut with_one_more = config.clone();
        let services = &mut with_one_more.services;
        match *change {
            ServiceChange::Put(new, index) => {
                // It would stand there.
                single.cuts.first().is_some_and(Cut::is_possible).then_some(())?;
                let change = Change::AddService { service: new.clone() };
                let service = single.service(None, &[&change])?;
                match index {
                    Some(index) => *services.get_mut(index)? = service,
                    None => {
                        let behind = |one: &Service| {
                            let place = single.places.get(&one.key);
                            place.is_some_and(|(file, _)| *file > 0) && !is_new(&one.key)
                        };
                        // At the end of the first file.
                        let index = services.iter().position(behind).unwrap_or(services.len());
                        services.insert(index, service);
                    }
                }
            }
            ServiceChange::Remove(index) => {
                let gone = (index < services.len()).then(|| services.remove(index))?;
                let can_be_cut =
                    |(file, _): &(usize, usize)| single.cuts.get(*file).is_some_and(Cut::is_possible);
                let can_go = is_new(&gone.key) || single.places.get(&gone.key).is_some_and(can_be_cut);
                (can_go && stands_alone(&gone)).then_some(())?;
            }
            ServiceChange::Change(index, ref changes) => {
                let known = services.get_mut(index)?;
                let place = single.places.get(&known.key).filter(|_| !is_new(&known.key))?;
                let mut changed = single.service(Some(*place), changes)?;
                (changed.key == known.key && stands_alone(known)).then_some(())?;
                // With what files of their own have.
                changed.clients.clone_from(&known.clients);
                *known = changed;
            }
        }
        let can_tell = services.iter().all(|service| service.source_nat.is_empty());
        (can_tell && validate::go_together(services)).then_some(with_one_more)
    }
}

/// Whether no other service depends on what it has.
fn stands_alone(service: &Service) -> bool {
    service.persistence.as_ref().is_none_or(|persistence| persistence.group.is_none())
}

impl Single {
    fn of(files: &Files) -> Option<Self> {
        let mut files = files.clone();
        let config = files.config_without_lists().ok()?;
        let cuts = cuts_of(&files);
        let each = cuts.iter().enumerate();
        let places = each.flat_map(|(file, cut)| (0..cut.count()).map(move |index| (file, index)));
        let places = config.services.iter().map(|service| service.key).zip(places).collect();
        let texts = files.documents.iter().zip(&cuts).map(|(document, cut)| match cut.count() {
            0 => Ok(document.text.clone()),
            _ => emptied(&document.text, List::Services),
        });
        let texts: Vec<String> = texts.collect::<Result<_, _>>().ok()?;
        Some(Self { bare: files.with_texts(texts), cuts, places })
    }

    /// The service that changes make, of one of the files or of none.
    fn service(&self, of_file: Option<(usize, usize)>, changes: &[&Change]) -> Option<Service> {
        let mut files = self.bare.clone();
        if let Some((file, index)) = of_file {
            files.documents.get_mut(file)?.text = self.cuts.get(file)?.with_only(index)?;
        }
        let changed = files.changed(changes.iter().copied()).ok()?;
        let mut services = changed.config.services;
        let service = services.pop().filter(|_| services.is_empty())?;
        changed.unused.is_empty().then_some(service)
    }
}

#[cfg(test)]
mod tests;

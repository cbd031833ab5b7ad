//! Changes that are made one by one, each by a look at the files: whatever their layout is.

use std::collections::{BTreeMap, BTreeSet};

use lb_model::overlay::Change;
use lb_model::{Config, ServiceNames};

use super::Numbered;
use super::text::{edited, server_text, service_text};
use crate::edit::{List, added, removed, removed_all};
use crate::files::Files;
use crate::source_map::SourceMap;

impl Files {
    /// Makes the changes in `config`, which is what the files say; of those that cannot be made it
    /// notes why. Whole services come and go together.
    pub(super) fn make_stepwise(
        &mut self,
        changes: &[Numbered<'_>],
        config: &mut Config,
        unused: &mut BTreeMap<usize, String>,
    ) {
        for run in changes.chunk_by(|(_, one), (_, next)| go_together(one, next)) {
            let run = without_known(run, config, unused);
            if !run.is_empty() {
                self.make_run(&run, config, unused);
            }
        }
    }

    /// What cannot be made at once is tried by halves.
    fn make_run(
        &mut self,
        changes: &[Numbered<'_>],
        config: &mut Config,
        unused: &mut BTreeMap<usize, String>,
    ) {
        let texts = self.texts_with(changes, config);
        let made = texts.and_then(|texts| self.put(texts, |new| changes_so_many(changes, config, new)));
        match (made, changes) {
            (Ok(with_changes), _) => *config = with_changes,
            (Err(why), [(index, _)]) => drop(unused.insert(*index, why)),
            (Err(_), _) => {
                let (some, others) = changes.split_at(changes.len() / 2);
                self.make_run(some, config, unused);
                self.make_run(others, config, unused);
            }
        }
    }

    /// The numbers of files, and their texts with the changes, which go together.
    fn texts_with(&self, changes: &[Numbered<'_>], config: &Config) -> Result<Vec<(usize, String)>, String> {
        let added_services = changes.iter().map_while(|(_, change)| match change {
            Change::AddService { service } => Some(service_text(service)),
            _ => None,
        });
        let added_services: Vec<String> = added_services.collect();
        if !added_services.is_empty() {
            let entries: Vec<&str> = added_services.iter().map(String::as_str).collect();
            return Ok(vec![(0, added(&self.documents[0].text, List::Services, &entries)?)]);
        }
        let removed_services = changes.iter().map_while(|(_, change)| match change {
            Change::RemoveService { service } => Some(service.as_str()),
            _ => None,
        });
        let removed_services: Vec<&str> = removed_services.collect();
        if !removed_services.is_empty() {
            return self.without_services(config, &removed_services);
        }
        let one = changes.first().map(|(_, change)| self.text_with(config, change));
        one.transpose().map(Vec::from_iter)
    }

    /// The number of a file, and its text with the change.
    fn text_with(&self, config: &Config, change: &Change) -> Result<(usize, String), String> {
        let text_of = |number: usize| &*self.documents[number].text;
        let names = ServiceNames::of(&config.services);
        match change {
            Change::AddServer { service, server } => {
                let index = service_index(&names, service)?;
                let known = &config.services[index].servers;
                let names = [Some(&server.address), server.name.as_ref()];
                let is_there = |name: &&String| known.iter().any(|known| known.is_called(name));
                if let Some(name) = names.into_iter().flatten().find(is_there) {
                    return Err(format!("{service} has a server {name:?} already"));
                }
                let (number, index) = self.place_of(index);
                let text = added(text_of(number), List::Servers(index), &[&server_text(server)])?;
                Ok((number, text))
            }
            Change::RemoveServer { service, server } => {
                let index = service_index(&names, service)?;
                let known = config.services[index].servers.iter().position(|known| known.is_called(server));
                let known = known.ok_or_else(|| format!("{service} has no server {server:?}"))?;
                let (number, index) = self.place_of(index);
                Ok((number, removed(text_of(number), List::Servers(index), known)?))
            }
            Change::EditService { service, settings } => {
                let known = service_index(&names, service)?;
                let (number, index) = self.place_of(known);
                Ok((number, edited(text_of(number), index, settings, &config.services[known])?))
            }
            Change::AddService { .. } | Change::RemoveService { .. } => {
                Err("services come and go together".to_owned())
            }
        }
    }

    fn without_services(&self, config: &Config, names: &[&str]) -> Result<Vec<(usize, String)>, String> {
        let places = self.places();
        let known = ServiceNames::of(&config.services);
        let mut gone: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for name in names {
            let service = service_index(&known, name)?;
            let (number, index) = places.get(service).copied().ok_or("it stands in no file")?;
            if !gone.entry(number).or_default().insert(index) {
                return Err(format!("there is no second service {name:?}"));
            }
        }
        let text_without = |(number, indices): (usize, BTreeSet<usize>)| {
            let text = removed_all(&self.documents[number].text, List::Services, &indices)?;
            Ok((number, text))
        };
        gone.into_iter().map(text_without).collect()
    }

    /// The number of the file that has the service with this index, and its index there.
    fn place_of(&self, index: usize) -> (usize, usize) {
        self.places().get(index).copied().unwrap_or_default()
    }

    /// The same of all services.
    fn places(&self) -> Vec<(usize, usize)> {
        let services = |text: &str| SourceMap::of(text).root().key("services").items();
        let documents = self.documents.iter().enumerate();
        documents
            .flat_map(|(number, document)| (0..services(&document.text)).map(move |index| (number, index)))
            .collect()
    }
}

/// Whether both can be made in one look at the files: whole services of which none needs another
/// one.
const fn go_together(one: &Change, next: &Change) -> bool {
    matches!(
        (one, next),
        (Change::AddService { .. }, Change::AddService { .. })
            | (Change::RemoveService { .. }, Change::RemoveService { .. })
    )
}

/// Without new services that stand there already, which are noted: a look at the files finds one at
/// a time.
fn without_known<'a>(
    run: &[Numbered<'a>],
    config: &Config,
    unused: &mut BTreeMap<usize, String>,
) -> Vec<Numbered<'a>> {
    if !matches!(run, [(_, Change::AddService { .. }), ..]) {
        return run.to_vec();
    }
    let known = ServiceNames::of(&config.services);
    let mut others = Vec::with_capacity(run.len());
    for (index, change) in run {
        match change {
            Change::AddService { service } if known.index_of_new(service).is_some() => {
                unused.insert(*index, format!("there is a service {} already", service.called()));
            }
            _ => others.push((*index, *change)),
        }
    }
    others
}

/// Whether so many services or servers have come or gone as these changes say, which go together:
/// a file may have a list that several services share.
fn changes_so_many(changes: &[Numbered<'_>], before: &Config, after: &Config) -> bool {
    let servers = |config: &Config| -> usize { config.services.iter().map(|one| one.servers.len()).sum() };
    let services = |config: &Config| config.services.len();
    match changes.first() {
        Some((_, Change::AddService { .. })) => services(after) == services(before) + changes.len(),
        Some((_, Change::RemoveService { .. })) => services(after) + changes.len() == services(before),
        Some((_, Change::AddServer { .. })) => servers(after) == servers(before) + 1,
        Some((_, Change::RemoveServer { .. })) => servers(after) + 1 == servers(before),
        Some((_, Change::EditService { .. })) | None => true,
    }
}

fn service_index(names: &ServiceNames<'_>, name: &str) -> Result<usize, String> {
    names.index(name).ok_or_else(|| format!("there is no service {name:?}"))
}

//! A change that is made alone, by a look at the files: whatever their layout is.

use std::collections::BTreeSet;

use lb_model::overlay::Change;
use lb_model::{Config, ServiceNames};

use super::text::{edited, server_edited, server_text, service_text};
use crate::edit::{List, Owner, added, removed};
use crate::files::Files;
use crate::source_map::SourceMap;

impl Files {
    /// Makes the change in `config`, which is what the files say, or says why it cannot be made.
    pub(super) fn make_alone(&mut self, change: &Change, config: &mut Config) -> Result<(), String> {
        let text = self.text_with(config, change)?;
        *config = self.put(vec![text], |new| is_made_alone(change, config, new))?;
        Ok(())
    }

    /// The number of a file, and its text with the change.
    fn text_with(&self, config: &Config, change: &Change) -> Result<(usize, String), String> {
        let text_of = |number: usize| &*self.documents[number].text;
        let names = ServiceNames::of(&config.services);
        match change {
            Change::AddService { service } => {
                if names.index_of_new(service).is_some() {
                    return Err(format!("there is a service {} already", service.called()));
                }
                Ok((0, added(text_of(0), List::Services, &[&service_text(service)])?))
            }
            Change::RemoveService { service } => {
                let (number, index) = self.place_of(service_index(&names, service)?)?;
                Ok((number, removed(text_of(number), List::Services, &BTreeSet::from([index]))?))
            }
            Change::AddServer { service, server } => {
                let index = service_index(&names, service)?;
                let known = &config.services[index].servers;
                let names = [Some(&server.address), server.name.as_ref()];
                let is_there = |name: &&String| known.iter().any(|known| known.is_called(name));
                if let Some(name) = names.into_iter().flatten().find(is_there) {
                    return Err(format!("{service} has a server {name:?} already"));
                }
                let (number, index) = self.place_of(index)?;
                let text = added(text_of(number), List::Servers(index), &[&server_text(server)])?;
                Ok((number, text))
            }
            Change::RemoveServer { service, server } => {
                let index = service_index(&names, service)?;
                let known = config.services[index].servers.iter().position(|known| known.is_called(server));
                let known = known.ok_or_else(|| format!("{service} has no server {server:?}"))?;
                let (number, index) = self.place_of(index)?;
                Ok((number, removed(text_of(number), List::Servers(index), &BTreeSet::from([known]))?))
            }
            Change::EditServer { service, server, settings } => {
                let index = service_index(&names, service)?;
                let servers = &config.services[index].servers;
                let known = servers.iter().position(|known| known.is_called(server));
                let known = known.ok_or_else(|| format!("{service} has no server {server:?}"))?;
                let (number, index) = self.place_of(index)?;
                let owner = Owner::Server(index, known);
                Ok((number, server_edited(text_of(number), owner, settings, &servers[known])?))
            }
            Change::EditService { service, settings } => {
                let known = service_index(&names, service)?;
                let (number, index) = self.place_of(known)?;
                Ok((number, edited(text_of(number), index, settings, &config.services[known])?))
            }
        }
    }

    /// The number of the file that has the service with this index, and its index there.
    fn place_of(&self, index: usize) -> Result<(usize, usize), String> {
        let services = |text: &str| SourceMap::of(text).root().key("services").items();
        let documents = self.documents.iter().enumerate();
        let mut places = documents
            .flat_map(|(number, document)| (0..services(&document.text)).map(move |index| (number, index)));
        places.nth(index).ok_or_else(|| "it stands in no file".to_owned())
    }
}

/// Whether so many services or servers have come or gone as the change says: a file may have a list
/// that several services share.
fn is_made_alone(change: &Change, before: &Config, after: &Config) -> bool {
    let servers = |config: &Config| -> usize { config.services.iter().map(|one| one.servers.len()).sum() };
    let services = |config: &Config| config.services.len();
    match change {
        Change::AddService { .. } => services(after) == services(before) + 1,
        Change::RemoveService { .. } => services(after) + 1 == services(before),
        Change::AddServer { .. } => servers(after) == servers(before) + 1,
        Change::RemoveServer { .. } => servers(after) + 1 == servers(before),
        Change::EditServer { .. } => {
            let servers = |config: &Config| -> Vec<_> {
                config.services.iter().flat_map(|one| one.servers.clone()).collect()
            };
            let (before, after) = (servers(before), servers(after));
            let differ = before.iter().zip(&after).filter(|(before, after)| before != after);
            before.len() == after.len() && differ.count() <= 1
        }
        Change::EditService { .. } => true,
    }
}

fn service_index(names: &ServiceNames<'_>, name: &str) -> Result<usize, String> {
    names.index(name).ok_or_else(|| format!("there is no service {name:?}"))
}

//! What becomes of each service when changes are made one after the other: found out without a look
//! at the files, so that each of them is written and read once.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lb_model::overlay::{Change, NewServer, NewService, ServerSettings, Settings};
use lb_model::{Config, Server, ServiceNames, canonical};

use super::text::{edited, server_edited, server_text, service_text};
use crate::edit::{Cut, List, Owner, added, emptied, removed, servers_changed};
use crate::files::Document;

pub(super) struct Plan<'c> {
    /// Services of the files.
    names: &'c ServiceNames<'c>,
    /// What becomes of them, by index.
    fates: BTreeMap<usize, Fate<'c>>,
    /// New services, those too that are gone again.
    new: Vec<(&'c NewService, Fate<'c>)>,
    /// Indices of new services, by what they are called.
    called: HashMap<String, BTreeSet<usize>>,
    /// Protocols and addresses of new services.
    places: HashSet<String>,
}

#[derive(Default)]
struct Fate<'c> {
    gone: bool,
    settings: Option<&'c Settings>,
    /// `None`: they stay as they are.
    servers: Option<Servers<'c>>,
}

/// The servers of a service: first those that it has, then those that it gets.
struct Servers<'c> {
    known: &'c [Server],
    /// The service's.
    port: u16,
    /// Indices by what the servers are called.
    called: HashMap<String, BTreeSet<usize>>,
    /// Of those that it has.
    removed: BTreeSet<usize>,
    /// What changes in those that it has, by index.
    edited: BTreeMap<usize, &'c ServerSettings>,
    /// `None`: it is gone again.
    added: Vec<Option<Cow<'c, NewServer>>>,
}

/// The service that a name means.
enum Meant {
    OfFile(usize),
    New(usize),
}

/// Whether a change has come into the plan.
pub(super) enum Taken {
    Yes,
    /// It needs to know what has come of those before it.
    Later,
}

impl<'c> Plan<'c> {
    pub(super) fn new(names: &'c ServiceNames<'c>) -> Self {
        let (fates, new) = (BTreeMap::new(), Vec::new());
        Self { names, fates, new, called: HashMap::new(), places: HashSet::new() }
    }

    /// Plans a change, or says why it cannot be made.
    pub(super) fn take(&mut self, change: &'c Change) -> Result<Taken, String> {
        match change {
            Change::AddService { service } => self.add_service(service)?,
            Change::RemoveService { service } => match self.meant(service)? {
                Meant::OfFile(index) => self.fates.entry(index).or_default().gone = true,
                Meant::New(index) => self.take_back(index),
            },
            Change::AddServer { service, server } => {
                let servers = self.servers(service)?;
                let mut names = [Some(&server.address), server.name.as_ref()].into_iter().flatten();
                if let Some(name) = names.find(|name| servers.index(name).is_some()) {
                    return Err(format!("{service} has a server {name:?} already"));
                }
                servers.add(server);
            }
            Change::RemoveServer { service, server } => {
                let servers = self.servers(service)?;
                let index = servers.index(server);
                servers.remove(index.ok_or_else(|| format!("{service} has no server {server:?}"))?);
            }
            Change::EditServer { service, server, settings } => {
                let servers = self.servers(service)?;
                let index = servers.index(server);
                let index = index.ok_or_else(|| format!("{service} has no server {server:?}"))?;
                return Ok(servers.edit(index, settings));
            }
            Change::EditService { service, settings } => {
                let meant = self.meant(service)?;
                let is_of_file = matches!(meant, Meant::OfFile(_));
                let fate = self.fate(&meant);
                // What an edit leaves as it is depends on what is there.
                if is_of_file && fate.settings.is_some() {
                    return Ok(Taken::Later);
                }
                fate.settings = Some(settings);
            }
        }
        Ok(Taken::Yes)
    }

    fn add_service(&mut self, new: &'c NewService) -> Result<(), String> {
        let known = self.names.index_of_new(new).filter(|index| self.is_there(*index));
        if known.is_some() || !self.places.insert(new.place()) {
            return Err(format!("there is a service {} already", new.called()));
        }
        for name in new.names() {
            self.called.entry(name).or_default().insert(self.new.len());
        }
        let mut servers = Servers::of(&[], new.first_port());
        new.servers.iter().for_each(|server| servers.add(server));
        self.new.push((new, Fate { servers: Some(servers), ..Fate::default() }));
        Ok(())
    }

    /// A new service goes.
    fn take_back(&mut self, index: usize) {
        let new = self.new[index].0;
        self.new[index].1.gone = true;
        self.places.remove(&new.place());
        for name in new.names() {
            if let Some(called) = self.called.get_mut(&name) {
                called.remove(&index);
            }
        }
    }

    /// Of the services of the files.
    fn is_there(&self, index: usize) -> bool {
        self.fates.get(&index).is_none_or(|fate| !fate.gone)
    }

    /// The service that is called so after the changes so far.
    fn meant(&self, name: &str) -> Result<Meant, String> {
        let services = self.names.services();
        let first = self.names.index(name);
        let is_its_own = first.is_some_and(|index| services[index].name == name);
        let of_file = match first {
            Some(index) if self.is_there(index) => Some(index),
            // Another one may have the same address.
            Some(_) if !is_its_own => {
                let called = |index: &usize| self.is_there(*index) && services[*index].is_called(name);
                (0..services.len()).find(called)
            }
            Some(_) | None => None,
        };
        let new = self.called.get(name).or_else(|| self.called.get(&*canonical(name)));
        let new = new.and_then(|called| called.first().copied());
        match (of_file, new) {
            (Some(index), None) => Ok(Meant::OfFile(index)),
            (Some(index), Some(new)) => Ok(match !is_its_own && self.new[new].0.called() == name {
                true => Meant::New(new),
                false => Meant::OfFile(index),
            }),
            (None, Some(new)) => Ok(Meant::New(new)),
            (None, None) => Err(format!("there is no service {name:?}")),
        }
    }

    fn fate(&mut self, meant: &Meant) -> &mut Fate<'c> {
        match meant {
            Meant::OfFile(index) => self.fates.entry(*index).or_default(),
            Meant::New(index) => &mut self.new[*index].1,
        }
    }

    fn servers(&mut self, name: &str) -> Result<&mut Servers<'c>, String> {
        let meant = self.meant(name)?;
        let services = self.names.services();
        let begin = || match meant {
            Meant::OfFile(index) => Servers::of(&services[index].servers, services[index].key.port),
            // It has some from the beginning.
            Meant::New(_) => Servers::of(&[], 0),
        };
        Ok(self.fate(&meant).servers.get_or_insert_with(begin))
    }

    /// The numbers of files that change, and their texts. `config` has the services of the files,
    /// `cuts` their texts.
    pub(super) fn texts(
        &self,
        documents: &[Document],
        cuts: &[Cut],
        config: &Config,
    ) -> Result<Vec<(usize, String)>, String> {
        let new = self.new.iter().filter(|(_, fate)| !fate.gone).map(|(new, fate)| fate.new_text(new));
        let mut new: Vec<String> = new.collect();
        let (mut texts, mut begin) = (Vec::new(), 0);
        for (number, (document, cut)) in documents.iter().zip(cuts).enumerate() {
            let end = begin + cut.count();
            let mut others = BTreeMap::new();
            for (index, fate) in self.fates.range(begin..end) {
                let place = index - begin;
                let other = match fate.gone {
                    true => None,
                    false => {
                        let text = cut.alone(place).ok_or("it stands in no file")?;
                        Some(fate.text(text, &config.services[*index])?)
                    }
                };
                others.insert(place, other);
            }
            begin = end;
            // New ones come into the first file.
            let entries = if number == 0 { std::mem::take(&mut new) } else { Vec::new() };
            if others.is_empty() && entries.is_empty() {
                continue;
            }
            let gone = others.values().filter(|other| other.is_none()).count();
            let mut text = match others.is_empty() {
                // New ones come, however the file's own stand there.
                true => document.text.clone(),
                false if gone > 0 && gone == cut.count() => emptied(&document.text, List::Services)?,
                false => cut.with(&others)?,
            };
            if !entries.is_empty() {
                let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
                text = added(&text, List::Services, &entries)?;
            }
            texts.push((number, text));
        }
        Ok(texts)
    }

    /// How many services and servers there are then.
    pub(super) fn counts(&self, before: &Config) -> (usize, usize) {
        let mut services = before.services.len();
        let mut servers: usize = before.services.iter().map(|service| service.servers.len()).sum();
        for (index, fate) in &self.fates {
            let known = before.services[*index].servers.len();
            match &fate.servers {
                _ if fate.gone => (services, servers) = (services - 1, servers - known),
                Some(own) => servers = servers - own.removed.len() + own.added.iter().flatten().count(),
                None => {}
            }
        }
        for (_, fate) in self.new.iter().filter(|(_, fate)| !fate.gone) {
            services += 1;
            servers += fate.servers.iter().flat_map(|own| &own.added).flatten().count();
        }
        (services, servers)
    }
}

impl Fate<'_> {
    /// The text of a service that stands alone in `text`, as it is to be.
    fn text(&self, mut text: String, known: &lb_model::Service) -> Result<String, String> {
        if let Some(Servers { removed: gone, edited, added: more, .. }) = &self.servers {
            if !edited.is_empty() {
                text = servers_changed(&text, edited, |alone, index, settings| {
                    server_edited(alone, Owner::Server(0, 0), settings, &known.servers[index])
                })?;
            }
            let entries: Vec<String> = more.iter().flatten().map(|new| server_text(new)).collect();
            if !entries.is_empty() {
                let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
                text = added(&text, List::Servers(0), &entries)?;
            }
            // Those that came stand behind.
            if !gone.is_empty() {
                text = removed(&text, List::Servers(0), gone)?;
            }
        }
        match self.settings {
            Some(settings) => edited(&text, 0, settings, known),
            None => Ok(text),
        }
    }

    /// The entry of a new service.
    fn new_text(&self, new: &NewService) -> String {
        let servers = self.servers.iter().flat_map(|own| &own.added).flatten();
        let servers = servers.map(|server| NewServer::clone(server)).collect();
        let settings = self.settings.unwrap_or(&new.settings).clone();
        service_text(&NewService { settings, servers, ..new.clone() })
    }
}

impl<'c> Servers<'c> {
    fn of(known: &'c [Server], port: u16) -> Self {
        let mut called: HashMap<String, BTreeSet<usize>> = HashMap::new();
        for (index, server) in known.iter().enumerate() {
            for name in server.names() {
                called.entry(name).or_default().insert(index);
            }
        }
        let (removed, edited) = (BTreeSet::new(), BTreeMap::new());
        Self { known, port, called, removed, edited, added: Vec::new() }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.called.get(&*canonical(name))?.first().copied()
    }

    fn add(&mut self, server: &'c NewServer) {
        let index = self.known.len() + self.added.len();
        for name in server.names(self.port) {
            self.called.entry(name).or_default().insert(index);
        }
        self.added.push(Some(Cow::Borrowed(server)));
    }

    fn edit(&mut self, index: usize, settings: &'c ServerSettings) -> Taken {
        if let Some(added) = index.checked_sub(self.known.len()) {
            if let Some(Some(server)) = self.added.get_mut(added) {
                server.to_mut().edit(settings);
            }
            return Taken::Yes;
        }
        match self.edited.entry(index) {
            Entry::Vacant(none) => {
                none.insert(settings);
                Taken::Yes
            }
            // What an edit leaves as it is depends on what is there.
            Entry::Occupied(_) => Taken::Later,
        }
    }

    fn remove(&mut self, index: usize) {
        let names = match index.checked_sub(self.known.len()) {
            Some(added) => match self.added.get_mut(added).and_then(Option::take) {
                Some(server) => server.names(self.port),
                None => return,
            },
            None => {
                self.removed.insert(index);
                self.edited.remove(&index);
                self.known[index].names().to_vec()
            }
        };
        for name in names {
            if let Some(called) = self.called.get_mut(&name) {
                called.remove(&index);
            }
        }
    }
}

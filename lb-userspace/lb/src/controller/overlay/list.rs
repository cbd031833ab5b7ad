//! The list of a source's changes says what is wanted, not how that came about: a change that
//! undoes another takes it back, and what is changed in a service that the source has added is
//! changed there. So a script that adds and removes the same things again and again leaves nothing
//! behind.

use std::collections::HashMap;

use lb_model::overlay::{Change, NewService, ServerSettings};
use lb_model::{Server, ServiceNames, canonical};

/// The changes of a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub changes: Vec<Change>,
    /// Indices of those that came or that say something else than before: they must have an effect.
    pub new: Vec<usize>,
}

/// Joins a source's `earlier` changes with `more`. `services` are those of the running
/// configuration.
pub(super) fn joined(earlier: Vec<Change>, more: Vec<Change>, services: &ServiceNames<'_>) -> Joined {
    let mut list = List { services, entries: Vec::new(), about: HashMap::new(), added: HashMap::new() };
    earlier.into_iter().for_each(|change| list.keep(change));
    more.into_iter().for_each(|change| list.add(change));
    let (mut changes, mut new) = (Vec::new(), Vec::new());
    for Entry { change, is_new } in list.entries.into_iter().flatten() {
        if is_new {
            new.push(changes.len());
        }
        changes.push(change);
    }
    Joined { changes, new }
}

/// The service that a change is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    /// The running configuration has it, at this index.
    Running(usize),
    /// It may come by a change of the list.
    Called(String),
}

#[derive(Debug)]
struct Entry {
    change: Change,
    is_new: bool,
}

struct List<'a> {
    services: &'a ServiceNames<'a>,
    /// `None`: it was taken back.
    entries: Vec<Option<Entry>>,
    /// Where there is something about each service, in order.
    about: HashMap<Subject, Vec<usize>>,
    /// Services that the list adds and the running configuration does not have, by all their names.
    added: HashMap<String, Subject>,
}

impl List<'_> {
    /// A change of before: at most it becomes a part of a service that is added.
    fn keep(&mut self, mut change: Change) {
        let subject = self.subject(&mut change, false);
        if let Some(change) = self.fold(&subject, change, false) {
            self.push(subject, change, false);
        }
    }

    fn add(&mut self, mut change: Change) {
        let subject = self.subject(&mut change, true);
        let Some(mut change) = self.fold(&subject, change, true) else { return };
        let undoes = match &mut change {
            Change::RemoveService { .. } => self.take_back_service(&subject),
            Change::RemoveServer { server, .. } => {
                let was_added = self.take_back_server(&subject, server);
                if !was_added {
                    while self.take_back_server_edit(&subject, server).is_some() {}
                }
                was_added
            }
            Change::EditServer { server, settings, .. } => self.edit_server(&subject, server, settings),
            Change::EditService { .. } => {
                self.take_back_edit(&subject);
                false
            }
            Change::AddServer { .. } | Change::AddService { .. } => false,
        };
        if !undoes {
            self.push(subject, change, true);
        }
    }

    /// What the change is about. `rename`: it gets the service's own name, because a VIP and port
    /// may mean two, of TCP and of UDP.
    fn subject(&mut self, change: &mut Change, rename: bool) -> Subject {
        match change {
            Change::AddServer { service, .. }
            | Change::RemoveServer { service, .. }
            | Change::EditServer { service, .. }
            | Change::EditService { service, .. }
            | Change::RemoveService { service } => {
                let Some(index) = self.services.index(service) else {
                    let added = self.added.get(service.as_str());
                    let added = added.or_else(|| self.added.get(&*canonical(service)));
                    return added.cloned().unwrap_or_else(|| Subject::Called(service.clone()));
                };
                if rename && let Some(known) = self.services.services().get(index) {
                    service.clone_from(&known.name);
                }
                Subject::Running(index)
            }
            Change::AddService { service: new } => {
                if let Some(index) = self.services.index_of_new(new) {
                    return Subject::Running(index);
                }
                let subject = Subject::Called(new.called());
                for name in new.names() {
                    self.added.entry(name).or_insert_with(|| subject.clone());
                }
                subject
            }
        }
    }

    /// Makes the change in the service that the list has added, if that is what it is about; else
    /// the change is returned.
    fn fold(&mut self, subject: &Subject, change: Change, is_new: bool) -> Option<Change> {
        let Some((added, says_new)) = self.added_service(subject) else { return Some(change) };
        match change {
            // One that is there is refused by whoever makes the changes.
            Change::AddServer { server, .. }
                if added.server_index(&server.address).is_none()
                    && server.name.as_ref().is_none_or(|name| added.server_index(name).is_none()) =>
            {
                added.servers.push(server);
            }
            Change::RemoveServer { ref server, .. } => match added.server_index(server) {
                Some(index) => drop(added.servers.remove(index)),
                None => return Some(change),
            },
            Change::EditServer { ref server, ref settings, .. } => match added.server_index(server) {
                Some(index) => added.servers[index].edit(settings),
                None => return Some(change),
            },
            Change::EditService { settings, .. } => added.settings = settings,
            Change::AddServer { .. } | Change::AddService { .. } | Change::RemoveService { .. } => {
                return Some(change);
            }
        }
        *says_new |= is_new;
        None
    }

    /// The last service that was added as this one, and whether that says something new.
    fn added_service(&mut self, subject: &Subject) -> Option<(&mut NewService, &mut bool)> {
        let is_added = |index: &&usize| {
            let entry = self.entries.get(**index).and_then(Option::as_ref);
            matches!(entry, Some(Entry { change: Change::AddService { .. }, .. }))
        };
        let index = *self.about.get(subject)?.iter().rev().find(is_added)?;
        match self.entries.get_mut(index)? {
            Some(Entry { change: Change::AddService { service }, is_new }) => Some((service, is_new)),
            _ => None,
        }
    }

    fn push(&mut self, subject: Subject, change: Change, is_new: bool) {
        self.about.entry(subject).or_default().push(self.entries.len());
        self.entries.push(Some(Entry { change, is_new }));
    }

    /// A service that goes takes along what was changed in it. Whether it was added, so that
    /// nothing is left to be removed.
    fn take_back_service(&mut self, subject: &Subject) -> bool {
        let Self { entries, about, .. } = self;
        let Some(about) = about.get_mut(subject) else { return false };
        let mut was_added = false;
        let mut left = Vec::new();
        while let Some(index) = about.pop() {
            let Some(entry) = entries.get_mut(index) else { continue };
            let goes = match entry.as_ref().map(|entry| &entry.change) {
                Some(Change::AddService { .. }) => !std::mem::replace(&mut was_added, true),
                Some(Change::RemoveService { .. }) => false,
                Some(
                    Change::AddServer { .. }
                    | Change::RemoveServer { .. }
                    | Change::EditServer { .. }
                    | Change::EditService { .. },
                )
                | None => true,
            };
            if goes {
                *entry = None;
            } else {
                left.push(index);
            }
        }
        about.extend(left.into_iter().rev());
        was_added
    }

    /// Whether the server was added.
    fn take_back_server(&mut self, subject: &Subject, server: &str) -> bool {
        let port = self.port_of(subject);
        let was_added = self.take_back_first(subject, |earlier| match earlier {
            Change::AddServer { server: new, .. } => new.is_called(server, port),
            _ => false,
        });
        was_added.is_some()
    }

    /// Of the running service; 0 of one that comes by the list.
    fn port_of(&self, subject: &Subject) -> u16 {
        let port = match subject {
            Subject::Running(index) => self.services.services().get(*index).map(|known| known.key.port),
            Subject::Called(_) => None,
        };
        port.unwrap_or_default()
    }

    /// Makes the edit in the server that the list has added; whether there is one. If not, the edit
    /// takes the place of the last one of that server, with what that one says, and names the
    /// server by its own name.
    fn edit_server(&mut self, subject: &Subject, server: &mut String, settings: &mut ServerSettings) -> bool {
        let port = self.port_of(subject);
        let Self { entries, about, .. } = self;
        for index in about.get(subject).into_iter().flatten().rev() {
            if let Some(Some(Entry { change: Change::AddServer { server: new, .. }, is_new })) =
                entries.get_mut(*index)
                && new.is_called(server, port)
            {
                new.edit(settings);
                *is_new = true;
                return true;
            }
        }
        let own_name = self.running_server(subject, server).map(|known| known.name.clone());
        while let Some(earlier) = self.take_back_server_edit(subject, server) {
            *settings = std::mem::take(settings).after(earlier);
        }
        if let Some(name) = own_name {
            *server = name;
        }
        false
    }

    fn running_server(&self, subject: &Subject, server: &str) -> Option<&Server> {
        let Subject::Running(index) = subject else { return None };
        let known = self.services.services().get(*index)?;
        known.servers.iter().find(|known| known.is_called(server))
    }

    /// What an edit of this server has said.
    fn take_back_server_edit(&mut self, subject: &Subject, server: &str) -> Option<ServerSettings> {
        let names = match self.running_server(subject, server) {
            Some(known) => known.names().to_vec(),
            None => vec![canonical(server).into_owned()],
        };
        let taken = self.take_back_first(subject, |earlier| match earlier {
            Change::EditServer { server: other, .. } => names.iter().any(|name| *name == canonical(other)),
            _ => false,
        });
        match taken {
            Some(Change::EditServer { settings, .. }) => Some(settings),
            _ => None,
        }
    }

    /// Only what is wanted last counts.
    fn take_back_edit(&mut self, subject: &Subject) {
        self.take_back_first(subject, |earlier| matches!(earlier, Change::EditService { .. }));
    }

    fn take_back_first(&mut self, subject: &Subject, is_it: impl Fn(&Change) -> bool) -> Option<Change> {
        let Self { entries, about, .. } = self;
        let about = about.get_mut(subject)?;
        about.retain(|index| entries.get(*index).is_some_and(Option::is_some));
        let is_it = |index: &&usize| match entries.get(**index) {
            Some(Some(Entry { change, .. })) => is_it(change),
            Some(None) | None => false,
        };
        let index = about.iter().find(is_it).copied()?;
        Some(entries.get_mut(index)?.take()?.change)
    }
}

#[cfg(test)]
mod tests;

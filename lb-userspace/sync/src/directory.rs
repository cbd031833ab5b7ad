//! Which number each real server has in this director's maps, and whose lease it is under.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use lb_common::server::ServerId;
use lb_model::ids::{GroupId, GroupNumber};

use crate::backend::Backend;

/// A server that connections may be told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub backend: Backend,
    /// The group of its VIP.
    pub group: KnownGroup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownGroup {
    /// Its number here.
    pub number: GroupNumber,
    /// Its name everywhere.
    pub id: GroupId,
    /// Several directors balance it at once.
    pub anycast: bool,
}

/// The servers of all groups, by number and by name. Servers of services without a group, and the
/// director's own host, are not there: their connections are of use to no other director.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    by_number: Vec<Option<Entry>>,
    by_name: HashMap<Backend, ServerId>,
    /// By their numbers here.
    groups: BTreeMap<GroupNumber, KnownGroup>,
    /// The groups of services that bind clients, by the number that their bindings bear.
    bindings: BTreeMap<u64, GroupNumber>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub known: Known,
    /// Of the backend's name.
    pub hash: u64,
}

impl Directory {
    pub fn new(servers: impl IntoIterator<Item = (ServerId, Known)>) -> Self {
        let mut directory = Self::default();
        for (id, known) in servers {
            let index = usize::from(id.0);
            if directory.by_number.len() <= index {
                directory.by_number.resize(index + 1, None);
            }
            directory.by_number[index] = Some(Entry { known, hash: known.backend.hash() });
            directory.by_name.insert(known.backend, id);
            directory.groups.insert(known.group.number, known.group);
        }
        directory
    }

    pub(crate) fn known(&self, server: ServerId) -> Option<&Entry> {
        self.by_number.get(usize::from(server.0))?.as_ref()
    }

    /// The same with services that bind clients: the number of their bindings, and the group of
    /// their VIP.
    pub fn with_bindings(self, bindings: impl IntoIterator<Item = (u64, GroupNumber)>) -> Self {
        Self { bindings: bindings.into_iter().collect(), ..self }
    }

    /// Whether any service binds clients.
    pub(crate) fn binds(&self) -> bool {
        !self.bindings.is_empty()
    }

    pub(crate) fn group_of_bindings(&self, number: u64) -> Option<GroupNumber> {
        self.bindings.get(&number).copied()
    }

    /// The groups that have servers.
    pub(crate) fn groups(&self) -> impl Iterator<Item = KnownGroup> + '_ {
        self.groups.values().copied()
    }

    /// Whether several directors balance the group of this number at once.
    pub(crate) fn is_anycast(&self, number: GroupNumber) -> bool {
        self.groups.get(&number).is_some_and(|group| group.anycast)
    }

    pub(crate) fn group(&self, wanted: GroupId) -> Option<KnownGroup> {
        self.groups().find(|group| group.id == wanted)
    }

    pub(crate) fn number(&self, backend: &Backend) -> Option<ServerId> {
        self.by_name.get(backend).copied()
    }
}

/// The directory in force; the controller puts another one in its place.
#[derive(Debug, Clone, Default)]
pub struct SharedDirectory(Arc<RwLock<Arc<Directory>>>);

impl SharedDirectory {
    /// With other servers than before all of the table is looked at once; the same ones change
    /// nothing.
    pub fn set(&self, directory: Directory) {
        if *self.get() == directory {
            return;
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
    }

    pub(crate) fn get(&self) -> Arc<Directory> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

//! Which number each real server has in this director's maps, and whose lease it is under.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use lb_common::server::ServerId;
use lb_model::ids::{GroupId, GroupNumber};

use crate::backend::{Backend, mixed};

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
    /// Own addresses and ports stand in the place of its clients (`source_nat`).
    pub sourced: bool,
}

impl KnownGroup {
    pub const fn new(number: GroupNumber, id: GroupId, anycast: bool) -> Self {
        Self { number, id, anycast, sourced: false }
    }

    /// Those connections of the group in whose clients' place own addresses and ports stand. They
    /// are under the same lease, and a group of their own for what directors tell each other: what
    /// a director does not tell that knows nothing of such ports is not taken for gone.
    #[must_use]
    pub const fn sourced(self) -> Self {
        let id = GroupId(mixed(self.id.0 as u64 | 1 << 32) as u32);
        Self { id, sourced: true, ..self }
    }
}

/// The servers of all groups, by number and by name. Servers of services without a group, and the
/// director's own host, are not there: their connections are of use to no other director.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    by_number: Vec<Option<Entry>>,
    by_name: HashMap<Backend, ServerId>,
    /// By their numbers here, and whether their connections are sourced.
    groups: BTreeMap<(GroupNumber, bool), KnownGroup>,
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
            directory.groups.insert((known.group.number, known.group.sourced), known.group);
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
        self.groups().any(|group| group.number == number && group.anycast)
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

    /// From now on own addresses stand in the place of the clients of these servers.
    #[cfg(test)]
    pub(crate) fn make_sourced(&self, is_sourced: impl Fn(&Backend) -> bool) {
        let directory = Directory::clone(&self.get());
        let known = directory.by_number.iter().flatten().map(|entry| entry.known);
        let numbered = known.filter_map(|known| {
            let Known { backend, group } = known;
            let group = if is_sourced(&backend) { group.sourced() } else { group };
            Some((directory.number(&backend)?, Known { backend, group }))
        });
        self.set(Directory::new(numbered));
    }

    pub(crate) fn get(&self) -> Arc<Directory> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

//! How many connections each client has, where services limit that: counted by each walk over the
//! connection table, and told to the program. The rules are `lb_common::service::admission`.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::MapData;
use lb_common::addr::V6;
use lb_common::server::ServerEntry;
use lb_common::service::admission::{self, Admission, ClientKey};
use lb_common::table::connection::Entry;

use super::bpf;
use super::mapped::Mapped;

type Counts = HashMap<ClientKey, u64>;

/// Whoever has the program know what walks have counted.
pub struct Tally {
    admissions: Arc<Mapped<Admission>>,
    servers: Arc<Mapped<ServerEntry>>,
    /// The map `CLIENT_CONNECTIONS`.
    connections: Arc<MapData>,
    /// What the map holds; `None`: a change of it has failed, or none was made yet.
    told: Option<Counts>,
    /// The map `WALKS`.
    walks: Arc<Mapped<u64>>,
}

impl Tally {
    pub(crate) fn new(
        admissions: Arc<Mapped<Admission>>,
        servers: Arc<Mapped<ServerEntry>>,
        connections: Arc<MapData>,
        walks: Arc<Mapped<u64>>,
    ) -> Self {
        Self { admissions, servers, connections, told: None, walks }
    }

    /// For one walk. Without any service that limits connections nothing is counted.
    pub fn begin(&self) -> Counting<'_> {
        let services = 0..self.admissions.elements();
        let limits = services.into_iter().any(|id| self.admissions.read(id).connections != 0);
        Counting { tally: self, counts: limits.then(Mutex::default) }
    }

    /// Tells the program what a walk has counted.
    ///
    /// # Errors
    /// Some clients count as they did before, or as without connections, until the next walk.
    pub fn tell(&mut self, counts: HashMap<ClientKey, u64>) -> io::Result<()> {
        let done = self.replace(&counts);
        // What clients have opened since the walk began, it has met or the next one will.
        self.walks.atomic(0).fetch_add(1, Ordering::Release);
        self.told = done.is_ok().then_some(counts);
        done
    }

    /// Brings the map to these counts.
    fn replace(&mut self, counts: &Counts) -> io::Result<()> {
        let told = match self.told.take() {
            Some(told) => told,
            None => bpf::entries(&self.connections)?.into_iter().collect(),
        };
        let changed = counts.iter().filter(|(key, count)| told.get(*key) != Some(*count));
        let (keys, values): (Vec<ClientKey>, Vec<u64>) = changed.map(|(key, count)| (*key, *count)).unzip();
        let gone: Vec<ClientKey> = told.keys().filter(|key| !counts.contains_key(*key)).copied().collect();
        let removed = bpf::remove(&self.connections, &gone);
        let set = bpf::set(&self.connections, &keys, &values);
        removed.and(set)
    }
}

/// What one walk counts.
pub struct Counting<'a> {
    tally: &'a Tally,
    /// `None`: nobody asks.
    counts: Option<Mutex<Counts>>,
}

impl Counting<'_> {
    pub fn is_asked(&self) -> bool {
        self.counts.is_some()
    }

    /// The walk has met this entry of the client. Connections that their client has ended do not
    /// count.
    pub fn meet(&self, client: V6, entry: Entry) {
        let Some(counts) = &self.counts else { return };
        if entry.state().is_none_or(|state| state.is_over()) {
            return;
        }
        let Tally { admissions, servers, .. } = self.tally;
        let service = servers.read(usize::from(entry.server().0)).service.id.0;
        if usize::from(service) >= admissions.elements() {
            return;
        }
        let admission = admissions.read(usize::from(service));
        if admission.connections == 0 {
            return;
        }
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = counts.len() < admission::CLIENT_CONNECTIONS as usize;
        let key = admission.client(service.into(), client);
        if let Some(count) = counts.get_mut(&key) {
            *count += 1;
        } else if has_room {
            counts.insert(key, 1);
        }
    }

    /// What was counted, for [`Tally::tell`].
    pub fn counts(self) -> HashMap<ClientKey, u64> {
        let counts = self.counts.unwrap_or_default();
        counts.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

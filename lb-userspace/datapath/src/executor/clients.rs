//! Which clients a service takes: lists and rates in the maps.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, MapData};
use lb_common::addr::V6;
use lb_common::admission::{Listed, SAMPLED};
use lb_model::ServiceKey;
use zerocopy::IntoBytes as _;

use super::Executor;
use crate::plan::clients::Clients;

/// Map `LISTED`, whose keys are [`Listed`].
pub(crate) type Lists = LpmTrie<MapData, [u8; size_of::<Listed>()], u32>;

fn key(service: u16, (length, address): (u32, [u64; 2])) -> Key<[u8; size_of::<Listed>()]> {
    let mut data = [0; size_of::<Listed>()];
    data.copy_from_slice(Listed::new(service, V6(address)).as_bytes());
    Key::new(length, data)
}

/// Map `NOTED`: by address and service what was seen of it.
pub(crate) type Notes = HashMap<MapData, [u64; 3], [u64; 2]>;

/// A client that was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopClient {
    pub client: IpAddr,
    pub service: ServiceKey,
    /// Connections that it has opened and packets that were refused, about: one of some was seen.
    pub opened: u64,
    pub refused: u64,
}

impl Executor {
    /// Who was seen to open connections or was refused since it was seen first, whoever did so most
    /// first.
    pub fn top_clients(&self) -> Result<Vec<TopClient>> {
        let services: BTreeMap<u64, ServiceKey> =
            self.services.iter().map(|(key, record)| (u64::from(record.id.0), *key)).collect();
        let mut found = Vec::new();
        for noted in self.maps.noted.iter() {
            let ([high, low, service], [opened, refused]) = noted.context("cannot read map NOTED")?;
            // One that is gone left them behind.
            let Some(service) = services.get(&service) else { continue };
            let times = u64::from(SAMPLED);
            found.push(TopClient {
                client: IpAddr::from(V6([high, low])).to_canonical(),
                service: *service,
                opened: opened * times,
                refused: refused * times,
            });
        }
        found.sort_unstable_by_key(|one| (Reverse(one.opened + one.refused), one.client, one.service));
        Ok(found)
    }

    /// Only what differs is written. What is denied is so before the rules are in force, and what
    /// is not in a list any more leaves it last.
    pub(super) fn set_clients(&mut self, service: &ServiceKey, clients: &Clients) -> Result<()> {
        let record = self.services.get_mut(service).with_context(|| format!("no such service: {service}"))?;
        let id = record.id.0;
        let before = std::mem::replace(&mut record.clients, clients.clone());
        for (prefix, verdict) in clients.listed.iter() {
            if before.listed.get(prefix) != Some(verdict) {
                let room = || format!("{service}: no room for all prefixes of its lists of clients");
                self.maps.listed.insert(&key(id, *prefix), verdict, 0).with_context(room)?;
            }
        }
        self.maps.admissions.write(usize::from(id), clients.admission);
        for prefix in before.listed.keys().filter(|prefix| !clients.listed.contains_key(*prefix)) {
            let gone = || format!("{service}: cannot remove a prefix from its lists of clients");
            self.maps.listed.remove(&key(id, *prefix)).with_context(gone)?;
        }
        self.service_changed(service)
    }
}

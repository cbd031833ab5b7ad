//! Which clients services take: lists and limits in the maps, and what clients have done.

use std::cmp::Ordering as Compared;
use std::collections::BTreeMap;
use std::io;
use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use lb_common::addr::V6;
use lb_common::admission::{self, Account, Admission, Buckets, ClientKey, EVERY_SERVICE, LIST_BITS, Listed};
use lb_common::control::Control;
use lb_common::service::ServiceId;
use lb_model::{ClientLists, ClientPrefix, ServiceKey};
use zerocopy::IntoBytes as _;

use super::Executor;
use crate::bpf;
use crate::mapped::Mapped;
use crate::plan::clients::Clients;

/// Map `LISTED`, whose keys are [`Listed`].
pub(crate) type Lists = LpmTrie<MapData, ListedBytes, u32>;
type ListedBytes = [u8; size_of::<Listed>()];

/// The lists in the map, and the maps of what clients have done.
pub struct ClientMaps {
    pub(crate) listed: Lists,
    pub(crate) accounts: ClientAccounts,
    /// What the sweep counts, and the number of its last walk.
    pub(crate) connections: Arc<MapData>,
    pub(crate) walks: Arc<Mapped<u64>>,
    /// Prefixes that were added, changed or removed since the start.
    pub(crate) written: u64,
}

impl ClientMaps {
    /// Brings list number `list` from `before` to `wanted`: only what differs is written, and what
    /// comes is there before anything goes.
    fn change(&mut self, list: u32, before: &ClientLists, wanted: &ClientLists) -> Result<()> {
        let (old, new) = (verdicts(before), verdicts(wanted));
        let mut gone = Vec::new();
        let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
        loop {
            let which = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => Compared::Less,
                (None, Some(_)) => Compared::Greater,
                (Some((left, _)), Some((right, _))) => left.cmp(right),
            };
            match which {
                Compared::Less => gone.extend(old.next().map(|(prefix, _)| prefix)),
                Compared::Greater => {
                    let Some((prefix, verdict)) = new.next() else { break };
                    self.set(list, prefix, verdict)?;
                }
                Compared::Equal => {
                    let (before, wanted) = (old.next(), new.next());
                    if let Some((prefix, verdict)) = wanted.filter(|_| before != wanted) {
                        self.set(list, prefix, verdict)?;
                    }
                }
            }
        }
        gone.into_iter().try_for_each(|prefix| self.remove(list, prefix))
    }

    fn set(&mut self, list: u32, prefix: &ClientPrefix, verdict: u32) -> Result<()> {
        self.written += 1;
        let room = || format!("no room for {prefix} in the lists of clients");
        self.listed.insert(&key(list, prefix), verdict, 0).with_context(room)
    }

    fn remove(&mut self, list: u32, prefix: &ClientPrefix) -> Result<()> {
        self.written += 1;
        match self.listed.remove(&key(list, prefix)) {
            // A change that failed half way is made once more.
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.with_context(|| format!("cannot remove {prefix} from the lists of clients")),
        }
    }
}

/// All prefixes in the order of their addresses, and what they say.
fn verdicts(lists: &ClientLists) -> Vec<(&ClientPrefix, u32)> {
    let allowed = lists.allow.iter().map(|prefix| (prefix, admission::ALLOWED));
    let denied = lists.deny.iter().map(|prefix| (prefix, admission::DENIED));
    let mut all: Vec<_> = allowed.chain(denied).collect();
    all.sort_unstable();
    all
}

fn key(list: u32, prefix: &ClientPrefix) -> Key<ListedBytes> {
    let mut data = ListedBytes::default();
    data.copy_from_slice(Listed::new(list, prefix.address.into()).as_bytes());
    let before = if prefix.address.is_ipv4() { 96 } else { 0 };
    Key::new(LIST_BITS + before + u32::from(prefix.length), data)
}

/// What clients have used up and done, by [`ClientKey`]. Copies share the maps.
#[derive(Debug, Clone)]
pub struct ClientAccounts {
    /// An [`Account`] each.
    pub(crate) clients: Arc<MapData>,
    /// The same of clients whom lists refuse.
    pub(crate) refused: Arc<MapData>,
}

/// What a client has done since the program knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Connections that it has opened, and packets that were looked at.
    pub opened: u64,
    pub packets: u64,
    /// Packets that limits have refused, and those that lists have.
    pub limited: u64,
    pub denied: u64,
}

impl ClientAccounts {
    /// As if the program had never seen a client of such a service.
    pub fn forget(&self, of_service: impl Fn(ServiceId) -> bool) -> Result<()> {
        for map in [&self.clients, &self.refused] {
            let accounts: Vec<(ClientKey, Account)> = bpf::entries(map).context("cannot list clients")?;
            let forgotten = accounts.iter().filter(|(key, _)| of_service(ServiceId(key.service as u16)));
            for (key, _) in forgotten {
                // It may have gone meanwhile.
                let _ = bpf::remove(map, &[*key]);
            }
        }
        Ok(())
    }

    pub fn read(&self) -> Result<BTreeMap<ClientKey, Done>> {
        let mut found: BTreeMap<ClientKey, Done> = BTreeMap::new();
        let accounts = |map: &MapData| -> Result<Vec<(ClientKey, Account)>> {
            bpf::entries(map).context("cannot read what clients have done")
        };
        for (key, Account { opened, packets, refused, .. }) in accounts(&self.clients)? {
            found.insert(key, Done { opened, packets, limited: refused, denied: 0 });
        }
        for (key, account) in accounts(&self.refused)? {
            found.entry(key).or_default().denied = account.refused;
        }
        Ok(found)
    }
}

impl Executor {
    /// What clients of services with rules about them have done.
    pub fn client_accounts(&self) -> ClientAccounts {
        self.maps.clients.accounts.clone()
    }

    /// The rules of each service, with its number.
    pub fn admissions(&self) -> impl Iterator<Item = (&ServiceKey, ServiceId, Admission)> {
        self.services.iter().map(|(key, record)| {
            let mut admission = record.clients.admission;
            if admission.mask == [0; 2] {
                admission.mask = usual_mask(key.vip.is_ipv4());
            }
            (key, record.id, admission)
        })
    }

    /// Prefixes of all lists of clients that were added, changed or removed since the start.
    pub fn prefixes_written(&self) -> u64 {
        self.maps.clients.written
    }

    /// What is denied is so before the rules are in force.
    pub(super) fn set_clients(&mut self, service: &ServiceKey, clients: &Clients) -> Result<()> {
        let record = self.services.get_mut(service).with_context(|| format!("no such service: {service}"))?;
        let (id, before) = (record.id.0, Arc::clone(&record.clients.lists));
        let changed = self.maps.clients.change(id.into(), &before, &clients.lists);
        changed.with_context(|| service.to_string())?;
        let admission = clients.admission;
        if record.clients.admission != admission {
            self.maps.buckets.write(usize::from(id), Buckets::default());
            self.maps.admissions.write(usize::from(id), admission);
            if admission.is_none() {
                self.maps.clients.accounts.forget(|service| service.0 == id)?;
            }
        }
        record.clients = clients.clone();
        self.service_changed(service)
    }

    /// From now on these are the clients whom every service denies.
    pub(super) fn set_denied(&mut self, denied: &Arc<ClientLists>) -> Result<()> {
        self.maps.clients.change(EVERY_SERVICE, &self.denied, denied)?;
        self.denied = Arc::clone(denied);
        Ok(())
    }

    /// Tells the program whether some service has rules about its clients.
    pub(super) fn write_guarded(&self) {
        let guarded = self.services.values().any(|record| !record.clients.is_empty());
        let word = self.maps.control.word(0, offset_of!(Control, guarded));
        word.store(guarded.into(), Ordering::Release);
    }
}

/// Of services without rules each address is a client, and each /64 of IPv6.
fn usual_mask(is_ipv4: bool) -> [u64; 2] {
    lb_common::binding::mask(is_ipv4, if is_ipv4 { 32 } else { 64 }).0
}

/// The addresses that are one client, by the key of its account.
pub fn client_prefix(address: V6, admission: &Admission) -> ClientPrefix {
    let bits: u32 = V6(admission.mask).octets().iter().map(|octet| octet.count_ones()).sum();
    let address = IpAddr::from(address);
    let before = if address.is_ipv4() { 96 } else { 0 };
    ClientPrefix { address, length: u8::try_from(bits.saturating_sub(before)).unwrap_or(u8::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_as_many_bits_as_tell_clients_apart() {
        let shown = |address: &str, is_ipv4, bits| {
            let mask = lb_common::binding::mask(is_ipv4, bits).0;
            let admission = Admission { mask, ..Admission::default() };
            let address: IpAddr = address.parse().unwrap();
            client_prefix(admission.client(1, address.into()).address, &admission).to_string()
        };
        assert_eq!(shown("192.0.2.77", true, 32), "192.0.2.77/32");
        assert_eq!(shown("192.0.2.77", true, 24), "192.0.2.0/24");
        assert_eq!(shown("2001:db8:1:2:3::4", false, 64), "2001:db8:1:2::/64");
        assert_eq!(shown("2001:db8:1:2:3::4", false, 128), "2001:db8:1:2:3::4/128");
    }
}

//! Which clients services take: lists and limits in the maps, and what clients have done.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use lb_common::addr::V6;
use lb_common::control::Control;
use lb_common::program::stage::Stage;
use lb_common::service::ServiceId;
use lb_common::service::admission::{
    self, Account, Admission, Buckets, ClientKey, EVERY_SERVICE, LIST_BITS, Listed,
};
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
    /// Services whose clients need no accounts any more, until these are forgotten.
    pub(crate) ended: BTreeSet<ServiceId>,
    /// Prefixes that were added, changed or removed since the start.
    pub(crate) written: u64,
}

impl ClientMaps {
    /// Brings list number `list` from `before` to `wanted`: only what differs is written, and what
    /// comes is there before anything goes.
    ///
    /// # Errors
    /// The list is as it was before.
    fn change(&mut self, list: u32, before: &ClientLists, wanted: &ClientLists) -> Result<()> {
        let differences = differences(before, wanted);
        for (place, Difference { prefix, wanted, .. }) in differences.iter().enumerate() {
            let Err(error) = self.write(list, prefix, *wanted) else { continue };
            let mut done = differences[..place].iter().rev();
            if let Err(left) = done.try_for_each(|done| self.write(list, done.prefix, done.before)) {
                tracing::warn!("lists of clients stay half changed: {left:#}");
            }
            return Err(error);
        }
        Ok(())
    }

    /// `None`: the list does not have the prefix.
    fn write(&mut self, list: u32, prefix: &ClientPrefix, verdict: Option<u32>) -> Result<()> {
        self.written += 1;
        let key = key(list, prefix);
        let Some(verdict) = verdict else {
            let done = self.listed.remove(&key);
            if let Err(MapError::SyscallError(error)) = &done
                && error.io_error.kind() == io::ErrorKind::NotFound
            {
                return Ok(());
            }
            return done.with_context(|| format!("cannot remove {prefix} from the lists of clients"));
        };
        let room = || format!("no room for {prefix} in the lists of clients");
        self.listed.insert(&key, verdict, 0).with_context(room)
    }

    /// Forgets the accounts that nobody needs any more.
    pub(super) fn forget_ended(&mut self) -> Result<()> {
        if !self.ended.is_empty() {
            self.accounts.forget(|service| self.ended.contains(&service))?;
            self.ended.clear();
        }
        Ok(())
    }
}

/// What a list says of a prefix, and what it is to say; `None`: nothing.
#[derive(Debug, PartialEq, Eq)]
struct Difference<'a> {
    prefix: &'a ClientPrefix,
    before: Option<u32>,
    wanted: Option<u32>,
}

/// What differs between the lists: first what comes or changes, then what goes.
fn differences<'a>(before: &'a ClientLists, wanted: &'a ClientLists) -> Vec<Difference<'a>> {
    let (old, new) = (verdicts(before), verdicts(wanted));
    let comes = new.iter().map(|(&prefix, &verdict)| {
        let before = old.get(prefix).copied();
        Difference { prefix, before, wanted: Some(verdict) }
    });
    let goes = old.iter().filter(|(prefix, _)| !new.contains_key(*prefix));
    let goes = goes.map(|(&prefix, &verdict)| Difference { prefix, before: Some(verdict), wanted: None });
    comes.chain(goes).filter(|difference| difference.before != difference.wanted).collect()
}

/// All prefixes, and what they say.
fn verdicts(lists: &ClientLists) -> BTreeMap<&ClientPrefix, u32> {
    let allowed = lists.allow.iter().map(|prefix| (prefix, admission::ALLOWED));
    let denied = lists.deny.iter().map(|prefix| (prefix, admission::DENIED));
    allowed.chain(denied).collect()
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
        self.services.iter().map(|(key, record)| (key, record.id, record.clients.admission))
    }

    /// The rules that the maps hold of a service; `None`: there is no such service.
    pub fn clients(&self, service: &ServiceKey) -> Option<&Clients> {
        self.services.get(service).map(|record| &record.clients)
    }

    /// The clients whom every service denies, as the maps hold them.
    pub fn denied(&self) -> &Arc<ClientLists> {
        &self.denied
    }

    /// Prefixes of all lists of clients that were added, changed or removed since the start.
    pub fn prefixes_written(&self) -> u64 {
        self.maps.clients.written
    }

    /// What is denied is so before the rules are in force.
    pub(super) fn set_clients(&mut self, service: &ServiceKey, clients: &Clients) -> Result<()> {
        let record = self.record(service)?;
        let (id, before) = (record.id, record.clients.clone());
        let changed = self.maps.clients.change(id.0.into(), &before.lists, &clients.lists);
        changed.with_context(|| service.to_string())?;
        let (old, new) = (before.admission, clients.admission);
        if old != new {
            self.maps.buckets.write(usize::from(id.0), Buckets::default());
            self.maps.admissions.write(usize::from(id.0), new);
            if !old.is_none() && new.is_none() || old.limits_clients() && !new.limits_clients() {
                self.maps.clients.ended.insert(id);
            }
        }
        self.record(service)?.clients = clients.clone();
        self.service_changed(service)
    }

    /// From now on these are the clients whom every service denies.
    pub(super) fn set_denied(&mut self, denied: &Arc<ClientLists>) -> Result<()> {
        self.maps.clients.change(EVERY_SERVICE, &self.denied, denied)?;
        self.denied = Arc::clone(denied);
        Ok(())
    }

    /// Tells the program whether packets go by [`Stage::Admit`]: some service has rules about its
    /// clients, and the programs that ask for them could be loaded.
    pub(super) fn write_guarded(&self) {
        let has_ipv6 = self.is_callable(Stage::SlowIpv6);
        let can_ask = self.is_callable(Stage::Admit) && (!has_ipv6 || self.is_callable(Stage::AdmitIpv6));
        let guarded = can_ask && self.services.values().any(|record| !record.clients.is_empty());
        let word = self.maps.control.word(0, offset_of!(Control, guarded));
        word.store(guarded.into(), Ordering::Release);
    }
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
    fn what_comes_is_written_before_what_goes_and_what_stays_is_not() {
        let prefix = |last| ClientPrefix { address: IpAddr::from([192, 0, 2, last]), length: 32 };
        let [one, two, three, four] = [1, 2, 3, 4].map(prefix);
        let before = ClientLists { allow: vec![one, three], deny: vec![two] };
        let wanted = ClientLists { allow: vec![two, three], deny: vec![four] };
        let (allowed, denied) = (Some(admission::ALLOWED), Some(admission::DENIED));
        let expected = [
            Difference { prefix: &two, before: denied, wanted: allowed },
            Difference { prefix: &four, before: None, wanted: denied },
            Difference { prefix: &one, before: allowed, wanted: None },
        ];
        assert_eq!(differences(&before, &wanted), expected);
        assert_eq!(differences(&wanted, &wanted), []);
    }

    #[test]
    fn a_client_has_as_many_bits_as_tell_clients_apart() {
        let shown = |address: &str, is_ipv4, bits| {
            let mask = lb_common::service::binding::mask(is_ipv4, bits).0;
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

//! Whether a service takes a packet of this client: lists, and limits. The rules are
//! `lb_common::service::admission`.
//!
//! Only packets of services with such rules come here, from [`crate::path::admit`]: those that open
//! a connection and, where a rule is for every packet, all others. What is asked stands in global
//! functions of numbers alone, called one after the other: each has the stack for itself.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use lb_common::addr::{Address, V6};
use lb_common::reason::Reason;
use lb_common::service::admission::{
    self, Account, Admission, Buckets, ClientKey, LIST_BITS, Listed, Rate, Since, number_of,
};

use crate::maps::{
    ADMISSIONS, BUCKETS, CLIENT_CONNECTIONS, CLIENTS, LISTED, NEW_ACCOUNT, REFUSED_CLIENTS, WALKS,
};
use crate::sys::atomic;

/// `opens`: the packet opens a connection.
#[inline(always)]
pub fn ask<A: Address>(service: u16, client: A, opens: bool) -> Result<(), Reason> {
    let [high, low] = client.mapped().0;
    let (service, opens) = (u32::from(service), u32::from(opens));
    let by_list = lb_listed(service, high, low, opens);
    let refused = if by_list == TAKEN { lb_limited(service, high, low, opens) } else { by_list };
    match admission::refusal(refused) {
        Some(reason) => Err(reason),
        None => Ok(()),
    }
}

/// [`number_of`] a packet that nothing refuses.
const TAKEN: u32 = 0;

#[inline(always)]
fn admission_of(service: u32) -> Option<&'static Admission> {
    ADMISSIONS.get(service & 0xffff)
}

/// Why the lists refuse the client, see [`number_of`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_listed(service: u32, high: u64, low: u64, opens: u32) -> u32 {
    let Some(admission) = admission_of(service) else { return TAKEN };
    let address = V6([high, low]);
    let look = |list| {
        let found = LISTED.get(&Key::new(LIST_BITS + 128, Listed::new(list, address)));
        found.copied().unwrap_or(0)
    };
    let refused = admission.listed(service & 0xffff, opens != 0, look);
    if refused.is_some() {
        lb_note_refused(service, high, low);
    }
    number_of(refused)
}

/// Counts a packet of a client whom a list refuses, for `lb top-clients`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_note_refused(service: u32, high: u64, low: u64) -> u32 {
    let Some(admission) = admission_of(service) else { return 0 };
    let key = admission.client(service & 0xffff, V6([high, low]));
    let account = match REFUSED_CLIENTS.get_ptr_mut(&key) {
        Some(account) => account,
        None => {
            let Some(new) = NEW_ACCOUNT.get(0) else { return 0 };
            // Another CPU may be faster.
            let _ = REFUSED_CLIENTS.insert(&key, new, NO_EXIST);
            let Some(account) = REFUSED_CLIENTS.get_ptr_mut(&key) else { return 0 };
            account
        }
    };
    // SAFETY: a word of a map's value, aligned to 8 bytes.
    unsafe { atomic::fetch_add(&raw mut (*account).refused, 1) };
    0
}

/// BPF_NOEXIST.
const NO_EXIST: u64 = 1;

/// Why the limits refuse the packet, see [`number_of`].
///
/// The client's own limits come first, so that what they refuse does not use up what the service
/// takes from all.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_limited(service: u32, high: u64, low: u64, opens: u32) -> u32 {
    let Some(admission) = admission_of(service) else { return TAKEN };
    let opens = opens != 0;
    if !admission.limits_packets() && !(opens && admission.limits_connections()) {
        return TAKEN;
    }
    let key = admission.client(service & 0xffff, V6([high, low]));
    // SAFETY: the helper takes no arguments and reads a clock.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // Where all clients together are limited alone, made-up sources get no accounts.
    let account = if admission.limits_clients() { account_of(&key) } else { None };
    let refused = match account {
        Some(account) => of_client(admission, &key, account, opens, now_ns),
        // Also where many CPUs need room for an account at once: the client is not limited then.
        None => None,
    };
    let refused = match refused {
        None => of_service(admission, service, opens, now_ns),
        refused => refused,
    };
    if let Some(account) = account {
        count(account, opens, refused.is_some());
    }
    number_of(refused)
}

#[inline(always)]
fn of_client(
    admission: &Admission,
    key: &ClientKey,
    account: *mut Account,
    opens: bool,
    now_ns: u64,
) -> Option<Reason> {
    // SAFETY: both words of a map's value.
    let (new, packets) = unsafe { (&raw mut (*account).buckets.new, &raw mut (*account).buckets.packets) };
    if !takes(packets, &admission.client_packets, now_ns) {
        return Some(Reason::ClientPacketLimit);
    }
    if opens && admission.connections != 0 && connections(key, account) >= admission.connections {
        return Some(Reason::ClientConnectionLimit);
    }
    if opens && !takes(new, &admission.client_new, now_ns) {
        return Some(Reason::ClientNewLimit);
    }
    None
}

#[inline(always)]
fn of_service(admission: &Admission, service: u32, opens: bool, now_ns: u64) -> Option<Reason> {
    let buckets: *mut Buckets = BUCKETS.get_ptr_mut(service & 0xffff)?;
    // SAFETY: both words of a map's value.
    let (new, packets) = unsafe { (&raw mut (*buckets).new, &raw mut (*buckets).packets) };
    if !takes(packets, &admission.service_packets, now_ns) {
        return Some(Reason::ServicePacketLimit);
    }
    if opens && !takes(new, &admission.service_new, now_ns) {
        return Some(Reason::ServiceNewLimit);
    }
    None
}

/// The client's account, which is new when it comes for the first time.
#[inline(always)]
fn account_of(key: &ClientKey) -> Option<*mut Account> {
    if let Some(account) = CLIENTS.get_ptr_mut(key) {
        return Some(account);
    }
    // Another CPU may be faster.
    let _ = CLIENTS.insert(key, NEW_ACCOUNT.get(0)?, NO_EXIST);
    CLIENTS.get_ptr_mut(key)
}

/// Connections that the client has: what the last walk has found, and what it has opened since.
#[inline(always)]
fn connections(key: &ClientKey, account: *mut Account) -> u64 {
    // SAFETY: the value is a word that the controller writes as one.
    let found = unsafe { CLIENT_CONNECTIONS.get(key) }.copied().unwrap_or(0);
    // SAFETY: a word of a map's value; volatile, because others write there.
    let since = Since(unsafe { since_of(account).read_volatile() });
    found + since.count(last_walk())
}

#[inline(always)]
fn since_of(account: *mut Account) -> *mut u64 {
    // SAFETY: a word of a map's value; [`Since`] is nothing but its word.
    unsafe { (&raw mut (*account).since).cast() }
}

#[inline(always)]
fn last_walk() -> u64 {
    WALKS.get(0).map_or(0, |walks| walks.get())
}

/// Notes in the account what has become of a packet.
#[inline(always)]
fn count(account: *mut Account, opens: bool, refused: bool) {
    // SAFETY: words of a map's value, aligned to 8 bytes; volatile, because others write there.
    unsafe {
        atomic::fetch_add(&raw mut (*account).packets, 1);
        if refused {
            atomic::fetch_add(&raw mut (*account).refused, 1);
        } else if opens {
            atomic::fetch_add(&raw mut (*account).opened, 1);
            let word = since_of(account);
            let before = word.read_volatile();
            let after = Since(before).and_one(last_walk());
            if !atomic::compare_and_swap(word, before, after.0) {
                atomic::fetch_add(word, 1);
            }
        }
    }
}

/// Takes one out of the bucket at `place`. CPUs that come at the same time take one each, so a
/// bucket may give as many too many as there are CPUs.
#[inline(always)]
fn takes(place: *mut u64, rate: &Rate, now_ns: u64) -> bool {
    if rate.is_none() {
        return true;
    }
    // SAFETY: the caller's word of a map's value; volatile, because others write there.
    let bucket = unsafe { place.read_volatile() };
    let after = rate.after(bucket, now_ns);
    if after == 0 {
        return false;
    }
    // SAFETY: as above, aligned to 8 bytes.
    if !unsafe { atomic::compare_and_swap(place, bucket, after) } {
        // SAFETY: as above.
        unsafe { atomic::fetch_add(place, rate.interval) };
    }
    true
}

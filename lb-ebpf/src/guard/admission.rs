//! Whether a service takes a packet of this client: lists, and rates. The rules are
//! `lb_common::admission`.
//!
//! Only services with such rules come here, all their new connections and, where a rule is for
//! every packet, all their packets: these go the slow way then.

use lb_common::addr::{Address, V6};
use lb_common::admission::{
    ALLOWED, Admission, Buckets, ClientKey, DENIED, Listed, Noted, Rate, SAMPLED, SERVICE_BITS,
};
use lb_common::reason::Reason;

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::bpf_get_prandom_u32;

use crate::maps::{ADMISSIONS, BUCKETS, CLIENTS, LISTED, NOTED};
use crate::sys::atomic;
use crate::sys::clock::lb_now;

/// `opens`: the packet opens a connection.
#[inline(always)]
pub fn ask<A: Address>(service: u16, client: A, opens: bool) -> Result<(), Reason> {
    let [high, low] = client.mapped().0;
    let answer = lb_admit(u32::from(service), high, low, u32::from(opens));
    // SAFETY: the helper takes nothing and returns a number.
    if answer != TAKEN && unsafe { bpf_get_prandom_u32() } % SAMPLED == 0 {
        lb_note(u32::from(service), high, low, 1);
    }
    match answer {
        TAKEN => Ok(()),
        UNLISTED => Err(Reason::ClientUnlisted),
        REFUSED_BY_LIST => Err(Reason::ClientDenied),
        CLIENT_PACKETS => Err(Reason::ClientPackets),
        CLIENT_NEW => Err(Reason::ClientNew),
        SERVICE_PACKETS => Err(Reason::ServicePackets),
        _ => Err(Reason::ServiceNew),
    }
}

/// Notes what a client does, so that operators see who does most: one of so many, chosen by the
/// caller. A function of numbers, as [`lb_admit`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_note(service: u32, high: u64, low: u64, refused: u32) -> u32 {
    let key = ClientKey { address: V6([high, low]), service: u64::from(service) };
    let noted = match NOTED.get_ptr_mut(&key) {
        Some(noted) => noted,
        None => {
            // Another CPU may be faster.
            let _ = NOTED.insert(&key, Noted { opened: 0, refused: 0 }, 1);
            let Some(noted) = NOTED.get_ptr_mut(&key) else { return 0 };
            noted
        }
    };
    // SAFETY: words of a map's value, aligned to 8 bytes.
    unsafe {
        let word = if refused == 0 { &raw mut (*noted).opened } else { &raw mut (*noted).refused };
        atomic::fetch_add(word, 1);
    }
    0
}

const TAKEN: u32 = 0;
const UNLISTED: u32 = 1;
const REFUSED_BY_LIST: u32 = 2;
const CLIENT_PACKETS: u32 = 3;
const CLIENT_NEW: u32 = 4;
const SERVICE_PACKETS: u32 = 5;
const SERVICE_NEW: u32 = 6;

/// [`ask`] in numbers, as [`crate::schedule::lb_choose`].
///
/// The client's own limits come first, so that what they refuse does not use up what the service
/// takes from all.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_admit(service: u32, high: u64, low: u64, opens: u32) -> u32 {
    let Some(admission) = ADMISSIONS.get(service & 0xffff) else { return TAKEN };
    if admission.has(Admission::LISTS) {
        let listed = Listed::new(service as u16, V6([high, low]));
        let found = LISTED.get(&Key::new(SERVICE_BITS + 128, listed)).copied();
        match found.unwrap_or(0) {
            DENIED => return REFUSED_BY_LIST,
            ALLOWED => {}
            _ if admission.has(Admission::LISTED_ONLY) => return UNLISTED,
            _ => {}
        }
    }
    let now = lb_now();
    if !admission.client_new.is_none() || !admission.client_packets.is_none() {
        let [first, second] = admission.mask;
        let key = ClientKey { address: V6([high & first, low & second]), service: u64::from(service) };
        if let Some(buckets) = buckets_of(&key) {
            // SAFETY: both words of a map's value, aligned to 8 bytes.
            let (new, packets) = unsafe { (&raw mut (*buckets).new, &raw mut (*buckets).packets) };
            if !takes(packets, &admission.client_packets, now) {
                return CLIENT_PACKETS;
            }
            if opens != 0 && !takes(new, &admission.client_new, now) {
                return CLIENT_NEW;
            }
        }
    }
    let Some(all) = BUCKETS.get_ptr_mut(service & 0xffff) else { return TAKEN };
    // SAFETY: as above.
    let (new, packets) = unsafe { (&raw mut (*all).new, &raw mut (*all).packets) };
    if !takes(packets, &admission.service_packets, now) {
        return SERVICE_PACKETS;
    }
    if opens != 0 && !takes(new, &admission.service_new, now) {
        return SERVICE_NEW;
    }
    TAKEN
}

/// The client's buckets, which are full when it comes for the first time. `None`: the map has no
/// room, as with many CPUs at once; the client is not limited then.
#[inline(always)]
fn buckets_of(key: &ClientKey) -> Option<*mut Buckets> {
    if let Some(buckets) = CLIENTS.get_ptr_mut(key) {
        return Some(buckets);
    }
    // Another CPU may be faster.
    let _ = CLIENTS.insert(key, Buckets { new: 0, packets: 0 }, 1);
    CLIENTS.get_ptr_mut(key)
}

/// Takes one out of the bucket at `place`. CPUs that come at the same time take one each, so a
/// bucket may give as many too many as there are CPUs.
#[inline(always)]
fn takes(place: *mut u64, rate: &Rate, now: u64) -> bool {
    if rate.is_none() {
        return true;
    }
    // SAFETY: the caller's word of a map's value; volatile, because others write there.
    let bucket = unsafe { place.read_volatile() };
    let after = rate.after(bucket, now);
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

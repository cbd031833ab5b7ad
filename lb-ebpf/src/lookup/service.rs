//! Which service the packet is for.

use lb_common::addr::V6;
use lb_common::control::Control;
use lb_common::service::{ServiceAddress, ServiceInfo};

use crate::maps::{SERVICES, control};

/// The service at the packet's destination, if there is one.
#[inline(always)]
pub fn find(control: &Control, wanted: &ServiceAddress) -> Option<&'static ServiceInfo> {
    let half = control.half.get();
    let [first, second] = wanted.candidates(half.seed(), control.service_mask);
    match SERVICES.get(half.base() + first) {
        Some(slot) if slot.service.serves(wanted) => return Some(&slot.service),
        _ => {}
    }
    match SERVICES.get(half.base() + second) {
        Some(slot) if slot.service.serves(wanted) => return Some(&slot.service),
        _ => {}
    }
    if control.has_ranges.get() == 0 {
        return None;
    }
    let [high, low] = wanted.address.0;
    SERVICES.get(lb_find_range(high, low, wanted.port_and_protocol)).map(|slot| &slot.service)
}

/// Whether the service with this number is at this address, in numbers; global for the verifier's
/// sake, see [`crate::schedule::lb_choose`]. 0: it is not.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_serves(high: u64, low: u64, port_and_protocol: u32, id: u32) -> u32 {
    let wanted = ServiceAddress { address: V6([high, low]), port_and_protocol };
    find(control(), &wanted).is_some_and(|service| u32::from(service.id.0) == id).into()
}

/// No slot has this number.
const NO_SLOT: u32 = u32::MAX;

/// The slot of the service that has the port in a range, or else all ports, in numbers; global for
/// the verifier's sake, see [`crate::schedule::lb_choose`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_find_range(high: u64, low: u64, port_and_protocol: u32) -> u32 {
    let control = control();
    let half = control.half.get();
    let wanted = ServiceAddress { address: V6([high, low]), port_and_protocol };
    let mut key = wanted.of_block();
    let mut round = 0;
    while round < 2 {
        for candidate in key.candidates(half.seed(), control.service_mask) {
            let slot = half.base() + candidate;
            if SERVICES.get(slot).is_some_and(|slot| slot.service.serves(&key)) {
                return slot;
            }
        }
        key = wanted.of_all();
        round += 1;
    }
    NO_SLOT
}

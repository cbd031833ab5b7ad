//! Which service the packet is for.

use lb_common::control::Control;
use lb_common::service::{ServiceAddress, ServiceInfo};

use crate::maps::SERVICES;

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
        Some(slot) if slot.service.serves(wanted) => Some(&slot.service),
        _ => None,
    }
}

//! Which service the packet is for.

use lb_common::control::{Control, Half};
use lb_common::frame::Flow;
use lb_common::service::{ServiceAddress, ServiceSlot};

use crate::maps::SERVICES;

/// The service at the packet's destination, if there is one.
#[inline(always)]
pub fn find(control: &Control, flow: &Flow) -> Option<&'static ServiceSlot> {
    let wanted = ServiceAddress::v4(flow.destination, flow.destination_port, flow.protocol);
    // SAFETY: a map's value, aligned; volatile, because the controller switches halves at any time.
    let half = Half(unsafe { (&raw const control.half).read_volatile() });
    let [first, second] = wanted.candidates(half.seed(), control.service_mask);
    match SERVICES.get(half.base() + first) {
        Some(slot) if slot.matches(&wanted) => return Some(slot),
        _ => {}
    }
    match SERVICES.get(half.base() + second) {
        Some(slot) if slot.matches(&wanted) => Some(slot),
        _ => None,
    }
}

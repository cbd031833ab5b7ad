//! Which service the packet is for.

use lb_common::control::Control;
use lb_common::frame::Flow;
use lb_common::service::{ServiceAddress, ServiceSlot};

use crate::maps::SERVICES;

/// The service at the packet's destination, if there is one.
#[inline(always)]
pub fn find(control: &Control, flow: &Flow) -> Option<&'static ServiceSlot> {
    let wanted = ServiceAddress::v4(flow.destination, flow.destination_port, flow.protocol);
    let [first, second] = wanted.candidates(control.service_seed, control.service_mask);
    match SERVICES.get(control.service_base + first) {
        Some(slot) if slot.matches(&wanted) => return Some(slot),
        _ => {}
    }
    match SERVICES.get(control.service_base + second) {
        Some(slot) if slot.matches(&wanted) => Some(slot),
        _ => None,
    }
}

//! Packets that come in by another interface than the main one. `lb_common::forward::ingress` has
//! the idea: in between nobody knows of it.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{V4, V6};
use lb_common::forward::ingress::Ingress;
use lb_common::mac::Mac;
use lb_common::packet::frame;
use lb_common::reason::Reason;

use crate::forward::direct;
use crate::maps::{CAME_FROM, DEVICES, INGRESSES, control};
use crate::path::{fast, slow_way};
use crate::sys::packet::{self, Packet};
use crate::{capture, stats, trace};

/// Length of an Ethernet header without tags.
const ETHERNET: usize = 14;

/// The entry of such an interface. Returns the XDP action.
#[inline(always)]
pub fn enter(context: &XdpContext) -> u32 {
    let traced = trace::is_on();
    if traced {
        capture::come(context);
    }
    if !arrive(context) {
        return xdp_action::XDP_PASS;
    }
    if !traced && let Some(action) = fast::take::<V4>(context, control()) {
        return leave(context, action);
    }
    match frame::is_ipv6(&Packet::new(context)) {
        true => slow_way::<V6>(context),
        false => slow_way::<V4>(context),
    }
}

/// Has the packet be for the main interface's MAC if it is for this one's. `false`: it is no
/// packet of ours.
#[inline(always)]
fn arrive(context: &XdpContext) -> bool {
    let packet = Packet::new(context);
    let Some(ingress) = ingress(context) else { return false };
    let (Some(to), Ok(from)) = (direct::destination_mac(&packet), direct::source_mac(&packet)) else {
        return false;
    };
    if let Some(left) = CAME_FROM.get_ptr_mut(0) {
        // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
        unsafe { *left = from };
    }
    match to == ingress.mac {
        true => direct::set_destination(&packet, control().mac.get()).is_ok(),
        // The main interface gets it by itself.
        false => to != control().mac.get(),
    }
}

/// The interface that the packet came in by; `None`: the main one, as nearly always.
#[inline(always)]
fn ingress(context: &XdpContext) -> Option<&'static Ingress> {
    // SAFETY: the context is the one that the kernel handed to this program.
    let index = unsafe { (*context.ctx).ingress_ifindex };
    // SAFETY: the entry of an interface that packets come in by is not removed meanwhile.
    unsafe { INGRESSES.get(index) }
}

#[inline(always)]
fn is_other(context: &XdpContext) -> bool {
    let main = control().main.get();
    // SAFETY: the context is the one that the kernel handed to this program.
    main != 0 && main != u64::from(unsafe { (*context.ctx).ingress_ifindex })
}

/// A packet with VLAN tags that came in by another interface than the main one: VLANs of two
/// interfaces have nothing in common. `network` is where its IP header begins.
#[inline(always)]
pub fn is_foreign(context: &XdpContext, network: usize) -> bool {
    lb_is_foreign(context.ctx, network as u64) != 0
}

/// [`is_foreign`] in numbers; global, so that the verifier goes on with one answer.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_is_foreign(context: *mut xdp_md, network: u64) -> u32 {
    (network > ETHERNET as u64 && is_other(&packet::context(context))).into()
}

/// Index of the interface that the packet came in by; 0: the main one.
#[inline(always)]
pub fn came_by(context: &XdpContext) -> u32 {
    lb_came_by(context.ctx)
}

/// [`came_by`], as [`lb_is_foreign`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_came_by(context: *mut xdp_md) -> u32 {
    // SAFETY: the context is the one that the kernel handed to this program.
    if is_other(&packet::context(context)) { unsafe { (*context).ingress_ifindex } } else { 0 }
}

/// Number of the first AF_XDP socket of the interface that the packet came in by.
#[inline(always)]
pub fn first_socket(context: &XdpContext) -> u32 {
    match is_other(context) {
        true => ingress(context).map_or(0, |ingress| ingress.sockets as u32),
        false => 0,
    }
}

/// What XDP does with a packet at the end of its way.
#[inline(always)]
pub fn leave(context: &XdpContext, action: u32) -> u32 {
    if is_other(context) { lb_ingress_leave(context.ctx, action) } else { action }
}

/// [`leave`] of a packet that may have come in by another interface, which the verifier looks at
/// once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_ingress_leave(context: *mut xdp_md, action: u32) -> u32 {
    let context = &packet::context(context);
    let packet = &Packet::new(context);
    let Some(ingress) = ingress(context) else { return action };
    let main = control().mac.get();
    let to = direct::destination_mac(packet);
    let done = match action {
        // To the host, or to a check of the controller's.
        xdp_action::XDP_PASS | xdp_action::XDP_REDIRECT if to == Some(main) => {
            direct::set_destination(packet, ingress.mac)
        }
        // Back to where it came from: an answer.
        xdp_action::XDP_TX if to.is_some() && to == came_from() => direct::set_source(packet, ingress.mac),
        xdp_action::XDP_TX => {
            return DEVICES
                .redirect(control().main.get() as u32, xdp_action::XDP_DROP.into())
                .unwrap_or_else(|_| stats::refuse(Reason::NoInterface));
        }
        _ => return action,
    };
    if done.is_ok() { action } else { stats::refuse(Reason::BadLength) }
}

#[inline(always)]
fn came_from() -> Option<Mac> {
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    CAME_FROM.get_ptr_mut(0).map(|left| unsafe { *left })
}

//! The ways of a packet, each a program of its own, and the tail calls between them.
//!
//! The verifier looks at each program by itself, so its steps do not add up, and a program that is
//! called that way begins with an empty stack.

pub mod admit;
pub mod back;
pub mod fast;
pub mod hold;
pub mod host;
pub mod known;
pub mod open;
pub mod related;
pub mod slow;

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{V4, V6};
use lb_common::packet::frame;
use lb_common::program::stage::Stage;
use lb_common::reason::Reason;

use crate::family::Family;
use crate::forward::Action;
use crate::maps::{REFUSED, STAGES, control};
use crate::sys::packet::Packet;
use crate::{capture, stats, trace};

/// The entry: the fast way of both families, or the program that goes on. Returns the XDP action.
#[inline(always)]
pub fn enter(context: &XdpContext) -> u32 {
    let control = control();
    match fast::take::<V4>(context, control) {
        Some(action) => action,
        None if frame::is_ipv6(&Packet::new(context)) => match fast::take::<V6>(context, control) {
            Some(action) => action,
            None => slow_way::<V6>(context),
        },
        None => slow_way::<V4>(context),
    }
}

/// Goes on in the slow way, or before it in [`admit`] where some service has rules about its
/// clients.
#[inline(always)]
pub fn slow_way<A: Family>(context: &XdpContext) -> u32 {
    let guarded = control().guarded.get() != 0;
    // Two calls, each of one number: of a number that it does not know the kernel makes no jump.
    if guarded { call(context, A::ADMIT) } else { call(context, A::SLOW) }
}

/// [`enter`], but while somebody traces all packets take the slow way, which tells of them.
#[inline(always)]
pub fn enter_traced(context: &XdpContext) -> u32 {
    if !trace::is_on() {
        return enter(context);
    }
    capture::come(context);
    match frame::is_ipv6(&Packet::new(context)) {
        true => slow_way::<V6>(context),
        false => slow_way::<V4>(context),
    }
}

/// What XDP does with the packet, which may go on in another program.
#[inline(always)]
pub fn finish<A: Family>(context: &XdpContext, result: Result<Action, Reason>) -> u32 {
    match result {
        Ok(Action::Encapsulate) => call(context, Stage::Encapsulate),
        Ok(Action::Translate) => call(context, A::TRANSLATE),
        Ok(Action::TranslateBack) => call(context, A::TRANSLATE_BACK),
        Ok(Action::RelatedBack) => call(context, A::RELATED_BACK),
        result => trace::finish(result),
    }
}

/// Goes on in another program, which returns the XDP action in this one's place.
#[inline(always)]
pub fn call(context: &XdpContext, stage: Stage) -> u32 {
    // SAFETY: nothing here has anything to drop.
    unsafe { STAGES.tail_call(context, stage as u32) };
    // The controller fills the map before it attaches the entry.
    stats::refuse(Reason::MapInconsistency)
}

/// Goes on in a program that asks by [`was_refused_for`] why the packet is refused.
#[inline(always)]
pub fn call_for(context: &XdpContext, stage: Stage, reason: Reason) -> u32 {
    if let Some(left) = REFUSED.get_ptr_mut(0) {
        // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
        unsafe { *left = reason as u32 };
    }
    call(context, stage)
}

#[inline(always)]
pub fn was_refused_for(reason: Reason) -> bool {
    // SAFETY: as above.
    REFUSED.get_ptr_mut(0).is_some_and(|left| unsafe { *left } == reason as u32)
}

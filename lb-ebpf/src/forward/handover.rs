//! Packets of connections that the director that had the group before may know.

use lb_common::lease::{Decides, returned};
use lb_common::reason::{Reason, TableEvent};

use super::direct;
use crate::context::Context;
use crate::family::Family;
use crate::guard::lease;
use crate::lookup::connection::Found;
use crate::stats;

/// Makes a packet in mid-connection one for the other director of a take-over, if there is one and
/// it decides where the packet goes. With a lease that is `over` that is whoever has relayed it.
/// With `shared` directors are real servers, and the packet bears a mark then, see
/// `lb_common::forward::peer`. What goes back to its sender has at most `hops` left.
#[inline(always)]
pub fn relay<A: Family>(
    context: &Context<A>,
    found: &Found<A>,
    over: bool,
    shared: bool,
    hops: u8,
) -> Result<Decides, Reason> {
    let Context { packet, control, now_ns, .. } = context;
    let lease = lease::read(control, found.group());
    let sender = direct::source_mac(packet)?;
    let director = match over {
        true => sender,
        false => match lease.relay(*now_ns) {
            Some(director) => director,
            None => return Ok(Decides::This),
        },
    };
    let decides = lease.decides(found.entry(), sender == director, *now_ns);
    match decides {
        Decides::This => return Ok(decides),
        Decides::Other => {}
        Decides::Sender => take_hops(context, hops)?,
    }
    direct::write(packet, control, director)?;
    if shared {
        A::set_mark(packet, context.flow.network, context.flow.transport, true);
    }
    stats::table(TableEvent::Relayed);
    Ok(decides)
}

/// Takes from the time to live what `lb_common::lease::returned` wants.
#[inline(always)]
fn take_hops<A: Family>(Context { packet, flow, .. }: &Context<A>, most: u8) -> Result<(), Reason> {
    A::set_hops(packet, flow.network, returned(flow.ttl, most).ok_or(Reason::TtlExpired)?);
    Ok(())
}

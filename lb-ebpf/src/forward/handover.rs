//! Packets of connections that the other director of a planned hand-over may know.

use lb_common::lease::Decides;
use lb_common::reason::{Reason, TableEvent};

use super::direct;
use crate::context::Context;
use crate::family::Family;
use crate::guard::lease;
use crate::lookup::connection::Found;
use crate::stats;

/// Makes a packet in mid-connection one for the other director of a hand-over, if there is one and it
/// decides where the packet goes. Where directors are real servers the packet bears a mark then, see
/// `lb_common::peer`.
#[inline(always)]
pub fn relay<A: Family>(context: &Context<A>, found: &Found<A>) -> Result<Decides, Reason> {
    let Context { packet, control, now_ns, .. } = context;
    let lease = lease::read(control, found.group());
    let Some(director) = lease.relay(*now_ns) else { return Ok(Decides::This) };
    let decides = lease.decides(found.entry(), direct::source_mac(packet)? == director, *now_ns);
    match decides {
        Decides::This => return Ok(decides),
        Decides::Other => {}
        Decides::Sender => take_hop(context)?,
    }
    direct::write(packet, control, director)?;
    if found.is_served_by_a_director() {
        A::set_mark(packet, context.flow.network, context.flow.transport, true);
    }
    stats::table(TableEvent::Relayed);
    Ok(decides)
}

/// Takes one from the time to live.
#[inline(always)]
fn take_hop<A: Family>(Context { packet, flow, .. }: &Context<A>) -> Result<(), Reason> {
    if flow.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    A::set_hops(packet, flow.network, flow.ttl - 1);
    Ok(())
}

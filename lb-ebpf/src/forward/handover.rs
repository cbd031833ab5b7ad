//! Packets of connections that the other director of a planned hand-over may know.

use lb_common::addr::V4;
use lb_common::lease::Decides;
use lb_common::reason::{Reason, TableEvent};

use super::{direct, ipv4};
use crate::context::Context;
use crate::guard::{lease, peer};
use crate::lookup::connection::Found;
use crate::stats;

/// Makes a packet in mid-connection one for the other director of a hand-over, if there is one and it
/// decides where the packet goes. Where directors are real servers the packet bears a mark then, see
/// `lb_common::peer`.
#[inline(always)]
pub fn relay(context: &Context<V4>, found: &Found<V4>) -> Result<Decides, Reason> {
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
        peer::mark(packet, context.flow.network, true);
    }
    stats::table(TableEvent::Relayed);
    Ok(decides)
}

/// Takes one from the time to live.
#[inline(always)]
fn take_hop(Context { packet, flow, .. }: &Context<V4>) -> Result<(), Reason> {
    if flow.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let word = ipv4::word(packet, flow.network, ipv4::TTL).ok_or(Reason::BadLength)?;
    ipv4::set_word(packet, flow.network, ipv4::TTL, word.wrapping_sub(0x100));
    Ok(())
}

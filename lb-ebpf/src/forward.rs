//! Out of the interface, to the server.
//!
//! - [`direct`]: both MACs are written, nothing else
//! - [`tunnel`]: inside another packet
//! - [`nat`]: with another destination, and what comes back with another source
//! - [`egress`]: by another interface, or with other VLAN tags
//! - [`parcel`]: what these three, programs of their own, are told of the packet
//! - [`handover`]: to the other director of a take-over

pub mod direct;
pub mod egress;
pub mod handover;
pub mod nat;
pub mod parcel;
pub mod tunnel;

use aya_ebpf::bindings::xdp_action;
use lb_common::reason::Reason;
use lb_common::server::Forwarding;

use crate::context::Context;
use crate::family::Family;
use crate::lookup::connection::Decision;
use crate::stats;

/// What becomes of a packet that is not refused. A packet that is refused has a [`Reason`] alone,
/// which says whether it is dropped or passed.
#[derive(Clone, Copy)]
pub enum Action {
    /// The packet leaves by the interface it came in by.
    Transmit,
    /// It goes on in `Stage::Encapsulate`, which sends and counts it, or hands it on.
    Encapsulate,
    /// It goes on in its family's `Stage::Translate`, which sends and counts it.
    Translate,
    /// It goes on in its family's `Stage::TranslateBack`: perhaps a server has sent it that is
    /// reached by address translation.
    TranslateBack,
    /// It goes on in its family's `Stage::RelatedBack`: perhaps it belongs to such a packet.
    RelatedBack,
    /// It goes on in `Stage::Egress`, which sends and counts it.
    Egress,
    /// It goes on in `Stage::Related`, which sends it: it may be a fragment that others follow.
    Remember,
    /// It leaves by another interface, which a helper has named.
    Leave,
    /// A helper has named where it goes.
    Redirect,
    /// The host's stack has it, as if no director were here.
    Pass,
    /// The host's stack has it because the host is the server; counted by that reason.
    Deliver(Reason),
}

impl Action {
    #[inline(always)]
    pub const fn xdp(self) -> u32 {
        match self {
            Self::Leave | Self::Redirect => xdp_action::XDP_REDIRECT,
            Self::Pass | Self::Deliver(_) => xdp_action::XDP_PASS,
            _ => xdp_action::XDP_TX,
        }
    }
}

/// Sends the packet to its server, or says why not.
#[inline(always)]
pub fn send<A: Family>(context: &Context<A>, decision: &Decision) -> Result<Action, Reason> {
    let next_hop = decision.next_hop;
    if !next_hop.is_reachable() {
        return Err(if next_hop.is_present() { Reason::NoMac } else { Reason::MapInconsistency });
    }
    let flow = &context.flow;
    if next_hop.is_handed_on() {
        parcel::leave(flow, decision.server, next_hop, decision.opens, true);
        let is_masq = matches!(next_hop.forwarding(), Forwarding::Masq);
        return Ok(if is_masq { Action::Translate } else { Action::Encapsulate });
    }
    stats::forwarded(decision.server, flow.network + flow.total_length, decision.opens);
    match next_hop.forwarding() {
        Forwarding::Direct | Forwarding::Tunnel | Forwarding::Masq => direct::send(context, next_hop.mac()),
        Forwarding::Local if next_hop.mac().is_none() => Ok(Action::Deliver(Reason::LocalFallback)),
        Forwarding::Local => Ok(Action::Deliver(Reason::LocalServer)),
    }
}

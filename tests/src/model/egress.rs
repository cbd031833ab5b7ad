//! Packets that leave with other tags than they have come with.

use lb_common::forward::egress::{Egress, TPID};
use lb_common::mac::Mac;
use lb_common::packet::frame::{self, Tags};
use lb_common::reason::Reason;

use super::bytes;
use super::walk::{self, Seen};

/// Has the frame leave to `next_hop`, or says why not. The model has one interface.
pub(super) fn leave(
    frame: &mut Vec<u8>,
    seen: &Seen,
    egress: &Egress,
    next_hop: Mac,
    own: Mac,
) -> Result<(), Reason> {
    assert_eq!((egress.device, egress.mtu), (0, 0), "by the same interface, whatever the length");
    let Some(Tags { vlan, priority, network }) = frame::tags(&frame[..]) else {
        return Err(Reason::BadLength);
    };
    if !egress.admits(vlan) {
        return Err(Reason::ForeignVlan);
    }
    if walk::mac(frame, 6) == next_hop {
        // A packet goes back once.
        if bytes::hops(frame, seen) < 8 {
            return Err(Reason::Loop);
        }
        bytes::set_hops(frame, seen, 8);
    }
    if !egress.to.is_as_it_came() {
        let tag = |tpid: u16, number: u16| [tpid.to_be_bytes(), (priority | number).to_be_bytes()].concat();
        let (outer, inner) = (egress.to.outer(), egress.to.inner());
        let tags = match (outer, inner) {
            (0, 0) => vec![],
            (0, number) => tag(egress.tpid as u16, number),
            _ => [tag(egress.tpid as u16, outer), tag(TPID, inner)].concat(),
        };
        *frame = [&frame[..12], &tags, &frame[network - 2..]].concat();
    }
    bytes::set_macs(frame, next_hop, own);
    Ok(())
}

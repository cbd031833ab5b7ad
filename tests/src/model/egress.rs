//! Packets that leave with other tags than they have come with.

use lb_common::forward::egress::{Egress, TPID, tpid};
use lb_common::mac::Mac;
use lb_common::packet::frame::{self, Tags};
use lb_common::packet::vlan::Vlan;
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
        exchange(frame, (priority, network), egress.to, egress.tpid as u16);
    }
    bytes::set_macs(frame, next_hop, own);
    Ok(())
}

/// What a server behind address translation has sent leaves in the VLAN that its clients are in.
pub(super) fn come_back(frame: &mut Vec<u8>, egress: &Egress) {
    let Some(Tags { vlan, priority, network }) = frame::tags(&frame[..]) else { return };
    if vlan != egress.from && !egress.from.is_as_it_came() {
        exchange(frame, (priority, network), egress.from, tpid(egress.from));
    }
}

fn exchange(frame: &mut Vec<u8>, (priority, network): (u16, usize), to: Vlan, tpid: u16) {
    let tag = |tpid: u16, number: u16| [tpid.to_be_bytes(), (priority | number).to_be_bytes()].concat();
    let tags = match (to.outer(), to.inner()) {
        (0, 0) => vec![],
        (0, number) => tag(tpid, number),
        (outer, inner) => [tag(tpid, outer), tag(TPID, inner)].concat(),
    };
    *frame = [&frame[..12], &tags, &frame[network - 2..]].concat();
}

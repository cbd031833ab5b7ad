//! The short way of nearly every packet: a plain frame of a connection that is established, stands in its first line and
//! needs no write, to a server without exceptions. Whatever else comes is left to the whole way, untouched.
//!
//! It exists for speed alone: few values are alive at a time, so fewer are spilled. It took a known connection from 60 to
//! 49 ns here (MAC swap: 23).

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::connection::{self, Key, Tick};
use lb_common::frame;
use lb_common::service::ServiceAddress;
use lb_common::table::{self, Place};

use crate::clock::now_ns;
use crate::connection::{forward, server};
use crate::maps::CONTROL;
use crate::packet::Packet;
use crate::table::MapPage;
use crate::{count, lease, probe};

/// The packet's XDP action; `None`: nothing was done, take the whole way.
#[inline(always)]
pub fn take(context: &XdpContext) -> Option<u32> {
    let packet = Packet::new(context);
    let flow = frame::plain(&packet)?;
    let control = CONTROL.get(0)?;
    if !control.vips.may_contain(flow.destination) {
        let pass = !probe::ports(control).contain(flow.destination_port);
        return pass.then_some(xdp_action::XDP_PASS);
    }
    let place = Place::of(&flow, control.hash_keys, control.page_mask);
    let key = Key::new(flow.source, flow.source_port, flow.destination_port);
    let entry = table::find_in_first_line(&MapPage::get(place.page)?, &place, key)?;

    let server = server(entry.server())?;
    let address = ServiceAddress::v4(flow.destination, flow.destination_port, flow.protocol);
    let forward = forward(server);
    let ours = crate::forward::destination(&packet) == Some(control.mac);
    if !ours || !forward.is_plain() || !server.service.serves(&address) {
        return None;
    }
    let now = now_ns();
    let state = connection::settled(flow.protocol);
    let timeout = server.service.timeouts[state as usize & 7];
    if !lease::balances(control, server.service.lease, now)
        || !entry.is_settled(
            state,
            lease::generation(control, server.service.lease),
            Tick::from_ns(now),
            timeout,
        )
    {
        return None;
    }
    match crate::forward::rewrite(&packet, control, forward.mac()) {
        Ok(true) => {
            count::forwarded(entry.server(), flow.network + flow.total_length, false);
            Some(xdp_action::XDP_TX)
        }
        _ => None,
    }
}

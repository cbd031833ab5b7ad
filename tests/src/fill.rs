//! A connection table with as many entries as a test wants, in the maps that an `lb` has pinned:
//! what a million clients would have left there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_common::addr::V4;
use lb_common::connection::{Entry, Generation, State, Tick, ticks_from_ms};
use lb_common::frame::Flow;
use lb_common::service::Protocol;
use lb_common::table::{self, Place};
use lb_datapath::attach::{self, pins::Pins};
use lb_datapath::inherited::{self, Known};
use lb_datapath::object::Sizes;
use lb_lab::lab::Node;
use lb_system::clock::now_ns;
use nix::net::if_::if_nametoindex;

/// Entries of clients of 11.0.0.0/8 who have been silent since and stay so.
const FIRST_CLIENT: u32 = 11 << 24;
const LIVES: Duration = Duration::from_secs(900);

/// Adds `count` established connections to the table for `connections` that the `lb` on `interface`
/// of `node` has pinned, shared out among the real servers of TCP services.
pub fn fill(node: &Node, interface: &str, connections: u32, count: u32) -> Result<()> {
    node.run(|| fill_here(interface, connections, count))?
}

fn fill_here(interface: &str, connections: u32, count: u32) -> Result<()> {
    let pins = Pins::of(interface)?;
    let program = attach::left_behind(&pins, if_nametoindex(interface)?).context("no program is there")?;
    let folder = pins.left_maps().context("no maps are pinned")?;
    let found = inherited::find(program, folder, &Sizes::for_connections(connections, connections))?;
    let servers: Vec<&Known> =
        found.servers.iter().filter(|known| known.service.protocol == Protocol::Tcp).collect();
    ensure!(!servers.is_empty(), "it has no server of a TCP service");
    let table = found.table()?;
    let now = Tick::from_ns(now_ns());
    let expires = now.plus(ticks_from_ms(LIVES.as_millis() as u64));
    let mut filled = 0;
    for (number, known) in (0_u32..).zip(servers.iter().cycle()) {
        if filled == count {
            break;
        }
        ensure!(number < count.saturating_mul(2), "{filled} connections fill the table");
        let std::net::IpAddr::V4(vip) = known.service.vip else { continue };
        let flow = Flow {
            source: V4((FIRST_CLIENT + number).to_be()),
            destination: vip.into(),
            source_port: 40_000_u16.to_be(),
            destination_port: known.service.port.to_be(),
            protocol: Protocol::Tcp,
            ttl: 0,
            network: 0,
            transport: 0,
            total_length: 0,
        };
        let place = Place::of(&flow, found.control.hash_keys, found.control.page_mask_v4);
        let page = table.v4.page(place.page as usize);
        // As in life, a few of a million find no slot where they belong; other clients come in
        // their place.
        let Some(slot) = table::victim(&page, &place, now) else { continue };
        let entry = Entry::new(known.id, State::Established, expires, Generation::default());
        ensure!(
            table::take(&page, &place, slot, flow.key(), entry, now),
            "somebody else writes to the table"
        );
        table.count(entry, Some(slot.entry));
        filled += 1;
    }
    Ok(())
}

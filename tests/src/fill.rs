//! A connection table with as many entries as a test wants, in the maps that an `lb` has pinned:
//! what a million clients would have left there.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_common::addr::V4;
use lb_common::table;
use lb_common::table::connection::{Entry, Generation, State, Tick, ticks_from_ms};
use lb_lab::lab::Node;
use lb_system::clock::now_ns;

use crate::pinned::Pinned;

/// Entries of clients of 11.0.0.0/8 who have been silent since and stay so.
const FIRST_CLIENT: u32 = 11 << 24;
const LIVES: Duration = Duration::from_secs(900);

/// Adds `count` established connections to the table for `connections` that the `lb` on `interface`
/// of `node` has pinned, shared out among the real servers of TCP services.
pub fn fill(node: &Node, interface: &str, connections: u32, count: u32) -> Result<()> {
    let pinned = Pinned::of(node, interface, connections)?;
    let now = Tick::from_ns(now_ns());
    let expires = now.plus(ticks_from_ms(LIVES.as_millis() as u64));
    let mut filled = 0;
    for (number, known) in (0_u32..).zip(pinned.tcp_servers().cycle()) {
        if filled == count {
            break;
        }
        ensure!(number < count.saturating_mul(2), "{filled} connections fill the table");
        let Some(flow) = Pinned::flow(known, V4((FIRST_CLIENT + number).to_be())) else { continue };
        let (page, place) = pinned.page(&flow);
        // As in life, a few of a million find no slot where they belong; other clients come in
        // their place.
        let Some(slot) = table::victim(&page, &place, now) else { continue };
        let entry = Entry::new(known.id, State::Established, expires, Generation::default());
        ensure!(
            table::take(&page, &place, slot, flow.key(), entry, now),
            "somebody else writes to the table"
        );
        pinned.table.count(entry, Some(slot.entry));
        filled += 1;
    }
    Ok(())
}

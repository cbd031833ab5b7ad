//! A walk over the connection table for what operators ask, by a thread of its own. The table may
//! have hundreds of megabytes.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use lb_common::table::connection::{Entry, Key};
use lb_common::table::{Layout as _, Page as _};
use lb_datapath::table::Pages;

/// Pages of 4 KiB after which the walk makes a pause, as long as they took: at most half a core.
const STRETCH: usize = 256;
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Hands each entry to `meet`, with the number of its slot, from slot number `from` on and until
/// `meet` breaks off.
pub(super) fn walk<K: Key, B>(
    pages: &Pages<K>,
    from: u64,
    mut meet: impl FnMut(u64, K, Entry) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let slots = u64::from(K::SLOTS_PER_PAGE);
    let first = usize::try_from(from / slots).unwrap_or(usize::MAX);
    let mut begun = Instant::now();
    for index in first..pages.count() {
        let page = pages.page(index);
        let begin = if index == first { (from % slots) as u32 } else { 0 };
        for slot in begin..K::SLOTS_PER_PAGE {
            let (key, entry) = (page.key(slot), page.entry(slot));
            // The program writes meanwhile: of a slot with another key the entry may be of either.
            if entry != Entry::EMPTY && page.key(slot) == key {
                meet(index as u64 * slots + u64::from(slot), key, entry)?;
            }
        }
        if index % STRETCH == STRETCH - 1 {
            thread::sleep(begun.elapsed().min(LONGEST_PAUSE));
            begun = Instant::now();
        }
    }
    ControlFlow::Continue(())
}

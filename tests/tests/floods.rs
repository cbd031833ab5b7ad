//! Floods from made-up sources against a director whose clients check every byte: nobody who is
//! served loses a connection, others get theirs, and the director does all else in time.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::busy::measured;
use lb_lab::cluster::pair::Settings;
use lb_lab::scenario::floods::{self, Findings, Kind};
use lb_lab::scenario::newcomers::Served;
use lb_lab::scenario::several::Several;

const CONNECTIONS: usize = 200;
const PACE: Duration = Duration::from_millis(200);
const FLOOD: Duration = Duration::from_secs(3);
/// As long as a director that stands still on a busy machine shall not be taken for dead.
const SETTINGS: Settings = Settings { dead: Duration::from_secs(2), ..Settings::DEFAULT };
/// The table is full of the flood in its first second.
const TABLE: u32 = 20_000;

#[test]
fn i12_floods_cost_those_who_are_served_nothing() {
    let several = Several::start("floods", TABLE, SETTINGS, "").unwrap_or_else(|error| panic!("{error:#}"));
    let ha1 = &several.pair.ha1;
    for kind in Kind::ALL {
        let clients = several.clients(CONNECTIONS, PACE).expect("the clients connect");
        let flood = || -> Result<Findings> {
            let found = floods::flood(&several, kind, FLOOD)?;
            ensure!(found.frames > 1000, "no flood: {found:?}");
            let Served { requests, failed, .. } = found.served;
            ensure!(
                requests > 0 && failed * 100 <= requests,
                "{failed} honest clients were not served: {found:?}"
            );
            for (promise, is_kept) in found.promises() {
                ensure!(is_kept, "{promise}: {found:?}");
            }
            Ok(found)
        };
        let found =
            measured(&format!("{kind:?}"), flood).unwrap_or_else(|error| panic!("{kind:?}: {error:#}"));
        println!("{kind:?}: {found:?}");
        clients.finish_intact();
        let status = ha1.status().expect("a status");
        assert!(status.held_by("ha1"), "{kind:?}: heartbeats are heard: {}", several.pair.shown());
        assert!(status.serves("www1") && status.serves("www2"), "{kind:?}: checks are in time");
    }
    let table = ha1.status().expect("a status").table;
    assert!(table.evicted > 0, "the floods have filled the table: {table:?}");
    assert_eq!(table.full, 0, "there was always somebody to give way: {table:?}");
}

//! Reload under load: what did not change in the configuration is not touched.

use std::time::Duration;

use lb_lab::scenario::alone::{Alone, SERVICE};
use lb_lab::scenario::newcomers::Newcomers;

const TABLE: u32 = 10_000;
const CONNECTIONS: usize = 200;
const PACE: Duration = Duration::from_millis(200);
/// `cargo xtask bench resilience --only reload-1000` makes a thousand.
const ROUNDS: u32 = 40;

#[test]
fn no_request_fails_on_what_does_not_change_over_forty_reloads() {
    let alone = Alone::start("reload", TABLE).unwrap_or_else(|error| panic!("{error:#}"));
    let clients = alone.clients(CONNECTIONS, PACE).expect("the clients connect");
    let newcomers = Newcomers::start(&alone.talk.client, SERVICE, 1);
    let reloads = alone.reload_again_and_again(TABLE, ROUNDS);
    let served = newcomers.finish().expect("they asked");
    reloads.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(served.failed, 0, "{served:?}");
    assert!(served.requests >= u64::from(ROUNDS), "{served:?}");
    let outcome = clients.finish_intact();
    assert_eq!(outcome.datagrams_lost, 0, "{outcome:?}");
    let kept = alone.director.status().expect("a status");
    assert!(kept.config_error.is_none() && kept.serves("www1"), "{:?}", kept.config_error);
}

//! A take-over while many connections begin: what the other director knows of those of every age,
//! also of the last milliseconds.

use std::thread::sleep;

use anyhow::{Context as _, Result};
use lb_lab::cluster::pair::PATIENCE;
use lb_lab::lab::Link;
use lb_tests::pinned::Pinned;

use crate::PACE;
use crate::cases::{MILLION, PATIENT, Run, StartMs, peer};
use crate::opener::Opener;
use crate::report::{Case, Goal};

/// New connections in a second, and seconds. A little more is asked for than the goal, because the
/// last ones come late.
const RATE: u32 = 20_200;
const LASTS: u32 = 30;
/// The goals.
const NEW_PER_S: u32 = 20_000;
const KEPT_SHARE: f64 = 0.999;

pub(crate) fn measure(run: &Run<'_>) -> Result<Case> {
    let several = run.start_several(MILLION, PATIENT)?;
    let pair = &several.pair;
    pair.ha1
        .wait_until("ha2 is in step", PATIENCE, |status| peer(status).is_some_and(|peer| peer.knows_ours))?;
    let clients = several.clients(run.connections(), PACE)?;
    several.ha2_knows(run.connections() as u64)?;
    let [here, there] = [&several.talk.ha1, &several.talk.ha2].map(|node| Pinned::of(node, "eth0", MILLION));
    let (here, there) = (here?, there?);
    let (flows, took) = several.talk.ha1.run(|| -> Result<_> {
        let opened = Opener::new(&several, &here)?.open_many(RATE, RATE * LASTS, u32::MAX, |_| Ok(()))?;
        // Right after the packets of the last one.
        pair.ha1.kill()?;
        Ok(opened)
    })??;
    // Nobody relays what the other director does not know.
    several.talk.ha1.set_carrier("eth0", Link::Down)?;
    pair.wait_for_take_over().with_context(|| pair.shown())?;
    sleep(PACE);
    let begun = flows.len() as u64;
    let known = flows.iter().filter(|flow| {
        let server = here.server(flow);
        server.is_some() && server == there.server(flow)
    });
    let known = known.count() as u64;
    let new_per_s = (begun as f64 / took.as_secs_f64()) as u32;
    let case = run.ends(clients, begun, &StartMs(0.0))?;
    let all = case.connections + begun;
    let kept = case.connections.saturating_sub(case.lost) + known;
    let kept_share = kept as f64 / all as f64;
    eprintln!("  {} of {begun} connections of the last {LASTS} s are not known", begun - known);
    Ok(Case {
        new_per_s: Some(new_per_s),
        kept_share: Some(kept_share),
        more_goals: goals(new_per_s, kept_share),
        ..case
    })
}

fn goals(new_per_s: u32, kept_share: f64) -> Vec<Goal> {
    vec![
        (format!("{new_per_s} new a second, goal {NEW_PER_S} at least"), new_per_s >= NEW_PER_S),
        (format!("kept {kept_share:.5} of all, goal {KEPT_SHARE} at least"), kept_share >= KEPT_SHARE),
    ]
}

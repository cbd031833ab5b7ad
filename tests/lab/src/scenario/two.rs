//! Scenario 2 of the talk: the active director stops and the standby serves; it returns and takes
//! over again. Then more than the talk showed: the director is killed, loses its link, freezes, and
//! finally the heartbeats are cut.
//!
//! A client sends a request every millisecond, and each step reports the gap that it measured.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Tell;
use super::download::Download;
use super::open_loop::Outage;
use super::traffic::Answer;
use crate::cluster::pair::{PATIENCE, Pair};
use crate::cluster::{Talk, VIP};
use crate::lab::{Link, Node};

/// Time limit of an unplanned take-over: the dead time of 200 ms, and a large margin for a busy
/// machine. `cargo xtask bench failover` measures it on an idle one.
const TAKE_OVER: Duration = Duration::from_secs(1);

/// Runs the whole scenario on directors of which ha1 is active. A download is open from the
/// beginning to the end.
pub fn play(talk: &Talk, pair: &mut Pair, tell: Tell) -> Result<()> {
    let download = Download::start(talk)?;
    let steps: [Step; 6] = [
        ha1_stops_and_returns,
        ha1_is_killed,
        ha1_loses_its_link,
        ha1_loses_its_carrier,
        ha1_freezes,
        heartbeats_are_cut,
    ];
    for step in steps {
        step(talk, pair, tell)?;
        download.wait_for_more()?;
    }
    let bytes = download.finish()?;
    tell(&format!(
        "a download that was open all the time has ended: {} MiB, each byte is right",
        bytes >> 20
    ));
    Ok(())
}

type Step = fn(&Talk, &mut Pair, Tell) -> Result<()>;

fn ha1_stops_and_returns(talk: &Talk, pair: &mut Pair, tell: Tell) -> Result<()> {
    let outage = under_traffic(talk, || {
        pair.ha1.stop()?;
        pair.wait_for_take_over()
    })?;
    tell(&format!("lb on ha1 is stopped (SIGTERM), ha2 serves: {outage}"));
    nothing_failed(&outage)?;
    answers_alone(talk, &talk.ha2)?;
    ha1_starts_and_takes_back(talk, pair, tell)
}

fn ha1_starts_and_takes_back(talk: &Talk, pair: &mut Pair, tell: Tell) -> Result<()> {
    let outage = under_traffic(talk, || {
        pair.ha1.restart()?;
        pair.wait_until_held_by("ha1")
    })?;
    tell(&format!("lb on ha1 is started again and has taken back: {outage}"));
    nothing_failed(&outage)?;
    answers_alone(talk, &talk.ha1)
}

fn ha1_is_killed(talk: &Talk, pair: &mut Pair, tell: Tell) -> Result<()> {
    let outage = under_traffic(talk, || {
        pair.ha1.kill()?;
        pair.wait_for_take_over()
    })?;
    let left_behind = talk.ha1.ip("-oneline address show dev eth0")?.contains(&format!(" {VIP}/"));
    let left_behind = if left_behind { "; the address is still on ha1's interface" } else { "" };
    tell(&format!("lb on ha1 is killed (SIGKILL), ha2 serves: {outage}{left_behind}"));
    short(&outage)?;
    answers_alone(talk, &talk.ha2)?;
    tell("only ha2 answers ARP requests for the VIP");
    ha1_starts_and_takes_back(talk, pair, tell)
}

fn ha1_loses_its_link(talk: &Talk, pair: &mut Pair, tell: Tell) -> Result<()> {
    let set = |link| talk.ha1.set_link("eth0", link);
    ha1_is_cut_off(talk, pair, set, "ha1's eth0 is set down", tell)
}

fn ha1_loses_its_carrier(talk: &Talk, pair: &mut Pair, tell: Tell) -> Result<()> {
    let set = |link| talk.ha1.set_carrier("eth0", link);
    ha1_is_cut_off(talk, pair, set, "ha1's cable is pulled", tell)
}

fn ha1_is_cut_off(
    talk: &Talk,
    pair: &Pair,
    set: impl Fn(Link) -> Result<()>,
    what: &str,
    tell: Tell,
) -> Result<()> {
    let outage = under_traffic(talk, || {
        set(Link::Down)?;
        pair.wait_for_take_over()?;
        // The heartbeat of the other path reports it.
        pair.ha1.wait_until("ha1 to know", PATIENCE, |status| status.held_by("ha2")).map(drop)
    })?;
    tell(&format!("{what}, ha2 serves: {outage}"));
    short(&outage)?;
    answers_alone(talk, &talk.ha2)?;

    let outage = under_traffic(talk, || {
        set(Link::Up)?;
        pair.wait_until_held_by("ha1")
    })?;
    tell(&format!("ha1 has its link again and has taken back: {outage}"));
    nothing_failed(&outage)?;
    answers_alone(talk, &talk.ha1)
}

fn ha1_freezes(talk: &Talk, pair: &mut Pair, tell: Tell) -> Result<()> {
    let outage = under_traffic(talk, || {
        pair.ha1.freeze();
        pair.wait_for_take_over()
    })?;
    tell(&format!("lb on ha1 is frozen (SIGSTOP), ha2 serves: {outage}"));
    short(&outage)?;
    answers_alone(talk, &talk.ha2)?;

    // Requests would have failed if the director had acted on its state before the freeze.
    let outage = under_traffic(talk, || {
        pair.ha1.thaw();
        pair.wait_until_held_by("ha1")
    })?;
    tell(&format!("lb on ha1 is thawed (SIGCONT), stays silent, and then takes back in order: {outage}"));
    nothing_failed(&outage)?;
    answers_alone(talk, &talk.ha1)
}

fn heartbeats_are_cut(talk: &Talk, pair: &mut Pair, tell: Tell) -> Result<()> {
    let outage = under_traffic(talk, || {
        talk.cut_heartbeats("eth0")?;
        talk.cut_heartbeats("eth1")?;
        thread::sleep(TAKE_OVER);
        Ok(())
    })?;
    let holders = names(talk, &talk.client.who_has(VIP)?);
    tell(&format!(
        "the heartbeats of both paths are cut; {holders} answers ARP requests for the VIP: {outage}"
    ));
    // Both are active; what ha2 does not know it relays to ha1.
    nothing_failed(&outage)?;

    let outage = under_traffic(talk, || {
        talk.heal_heartbeats("eth0")?;
        talk.heal_heartbeats("eth1")?;
        pair.wait_until_held_by("ha1")
    })?;
    tell(&format!("both paths are healed, one has given way, and ha1 is the active one: {outage}"));
    nothing_failed(&outage)?;
    answers_alone(talk, &talk.ha1)
}

fn under_traffic(talk: &Talk, act: impl FnOnce() -> Result<()>) -> Result<Outage> {
    Outage::during(&talk.client, Answer::SERVERS, act)
}

fn nothing_failed(outage: &Outage) -> Result<()> {
    ensure!(outage.failed() == 0, "no request may fail here, but: {outage}");
    Ok(())
}

fn short(outage: &Outage) -> Result<()> {
    ensure!(outage.gap <= TAKE_OVER, "a take-over may take {TAKE_OVER:?} here, but: {outage}");
    Ok(())
}

fn answers_alone(talk: &Talk, node: &Node) -> Result<()> {
    let macs = talk.client.who_has(VIP)?;
    ensure!(
        macs == BTreeSet::from([node.mac()]),
        "asked by ARP who has the VIP, {} alone should have answered, but it was: {}",
        node.name(),
        names(talk, &macs)
    );
    Ok(())
}

/// The nodes with these MACs, `ha1 and ha2`.
fn names(talk: &Talk, macs: &BTreeSet<String>) -> String {
    let nodes = [&talk.client, &talk.ha1, &talk.ha2, talk.www1.node(), talk.www2.node()];
    let name = |mac: &String| {
        nodes
            .iter()
            .find(|node| node.mac() == *mac)
            .map_or_else(|| mac.clone(), |node| node.name().to_owned())
    };
    let names: Vec<_> = macs.iter().map(name).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") }
}

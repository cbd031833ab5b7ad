//! Scenario 1 of the talk: a node's web server stops and the node leaves the table; it starts and
//! the node returns.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Tell;
use super::traffic::{Answer, Spread, Stream};
use crate::cluster::{Talk, VIP};
use crate::lab::Director;

/// Number of requests to count by server; even, so that round robin gives each server half of them.
const REQUESTS: u32 = 20;

/// Time for the talk's check to notice: an interval of one second and a time-out of three, and half
/// as much again for a busy machine.
const DETECTION: Duration = Duration::from_secs(6);

/// How long requests continue after a change that must not affect them.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Runs the whole scenario on a cluster whose director has just been started.
pub fn play(talk: &Talk, director: &Director, tell: Tell) -> Result<()> {
    both_serve(talk, director, tell)?;
    www1_stops(talk, director, tell)?;
    www1_starts(talk, director, tell)?;
    www1_loses_its_vip(talk, director, tell)?;
    www1_has_its_vip_again(talk, director, tell)?;
    both_stop(talk, director, tell)?;
    both_start(talk, director, tell)
}

fn both_serve(talk: &Talk, director: &Director, tell: Tell) -> Result<()> {
    let status = director.wait_until("www1 and www2 in the table", DETECTION, |status| {
        status.serves("www1") && status.serves("www2")
    })?;
    let before = connections(&status);
    tell(&format!("www1 and www2 are in the table:\n\n{}", director.listing()?));
    let probe = director.order(&["probe", "web", "www1"])?;
    tell(&format!("lb probe web www1 makes the check at once:\n\n{probe}"));
    ensure!(
        probe.contains("connected") && probe.trim_end().ends_with("passed"),
        "lb probe should have shown its steps and passed: {probe}"
    );
    spreads_evenly(talk, tell)?;

    // The pages could also arrive without the director; its counters prove that it forwarded them.
    let status = director.wait_until("20 connections counted", DETECTION, |status| {
        connections(status) >= before + u64::from(REQUESTS)
    })?;
    tell(&format!("the director has counted {} connections", connections(&status) - before));
    Ok(())
}

fn connections(status: &lb_api::status::Status) -> u64 {
    status.services.iter().flat_map(|service| &service.servers).map(|server| server.connections).sum()
}

fn www1_stops(talk: &Talk, director: &Director, tell: Tell) -> Result<()> {
    let stream = Stream::start(&talk.client);
    thread::sleep(AFTERWARDS);
    let stopping = Instant::now();
    talk.www1.stop()?;
    tell("www1's web server is stopped, while the client sends a request every 20 ms");

    director.wait_until("www1 out of the table", DETECTION, |status| !status.serves("www1"))?;
    let left = Instant::now();
    tell(&format!("www1 has left the table, {:.1} s after", (left - stopping).as_secs_f64()));
    thread::sleep(AFTERWARDS);

    let requests = stream.finish()?;
    let before: Spread = requests.iter().filter(|request| request.done < stopping).collect();
    let until: Spread =
        requests.iter().filter(|request| request.done >= stopping && request.sent < left).collect();
    let after: Spread = requests.iter().filter(|request| request.sent >= left).collect();
    // The connections that www1 refused have left half-open entries, to which a SYN from the same
    // port belongs. So the client uses other ports now.
    talk.client.sysctl("net/ipv4/ip_local_port_range", "10000 32000")?;
    let refused = if until.by(Answer::None) > 0 { " (those that www1 got, and refused)" } else { "" };
    tell(&format!(
        "the client's requests\n  before:                   {before}\n  until the check noticed:  {until}{refused}\n  \
         since:                    {after}"
    ));
    ensure!(before.by(Answer::None) == 0, "requests failed while both servers were well: {before}");
    ensure!(after.total() > 0, "the client sent nothing after www1 had left the table");
    ensure!(
        after.by(Answer::Www2) == after.total(),
        "after www1 had left the table, www2 should have answered every request, but: {after}"
    );
    Ok(())
}

fn www1_starts(talk: &Talk, director: &Director, tell: Tell) -> Result<()> {
    let stream = Stream::start(&talk.client);
    talk.www1.start()?;
    let started = Instant::now();
    tell("www1's web server is started again");
    director.wait_until("www1 back in the table", DETECTION, |status| status.serves("www1"))?;
    tell(&format!("www1 has returned, {:.1} s after", started.elapsed().as_secs_f64()));
    let answers: Spread = stream.finish()?.iter().collect();
    ensure!(answers.by(Answer::None) == 0, "requests failed while www1 came back: {answers}");
    spreads_evenly(talk, tell)
}

/// A fault that ldirectord and keepalived cannot detect: they check the server's own address, which
/// still answers.
fn www1_loses_its_vip(talk: &Talk, director: &Director, tell: Tell) -> Result<()> {
    let node = talk.www1.node();
    node.lose_vip(VIP)?;
    let lost = Instant::now();
    let page = talk.ha1.get(&format!("http://{}/index.html", node.address()))?;
    tell(&format!(
        "www1 has lost the VIP on its loopback; its web server runs on, and answers on its own address: {}",
        page.trim()
    ));
    let status = director.wait_until("www1 out of the table for want of the VIP", DETECTION, |status| {
        !status.serves("www1")
    })?;
    let reason = status.server("www1").and_then(|server| server.reason.clone()).unwrap_or_default();
    tell(&format!(
        "www1 has left the table, {:.1} s after; lb status says why:\n{reason}",
        lost.elapsed().as_secs_f64()
    ));
    ensure!(
        reason.contains(&VIP.to_string()) && reason.contains("loopback"),
        "the reason should be the missing VIP on www1's loopback, but it is: {reason}"
    );
    let spread = Spread::of_requests(&talk.client, REQUESTS);
    tell(&format!("{REQUESTS} requests to the VIP were answered by: {spread}"));
    ensure!(spread.by(Answer::Www2) == REQUESTS, "www2 should have answered all: {spread}");
    Ok(())
}

fn www1_has_its_vip_again(talk: &Talk, director: &Director, tell: Tell) -> Result<()> {
    talk.www1.node().hold_vip(VIP)?;
    let held = Instant::now();
    director.wait_until("www1 back in the table", DETECTION, |status| status.serves("www1"))?;
    tell(&format!("www1 has the VIP again, and has returned {:.1} s after", held.elapsed().as_secs_f64()));
    spreads_evenly(talk, tell)
}

fn both_stop(talk: &Talk, director: &Director, tell: Tell) -> Result<()> {
    talk.www1.stop()?;
    talk.www2.stop()?;
    tell("both web servers are stopped");
    director.wait_until("no server left, the fallback on", DETECTION, |status| {
        !status.serves("www1") && !status.serves("www2") && status.on_fallback()
    })?;
    let spread = Spread::of_requests(&talk.client, REQUESTS);
    tell(&format!("no real server is left; {REQUESTS} requests were answered by: {spread}"));
    ensure!(
        spread.by(Answer::Fallback) == REQUESTS,
        "the fallback page of ha1 should have answered every request, but: {spread}"
    );
    Ok(())
}

fn both_start(talk: &Talk, director: &Director, tell: Tell) -> Result<()> {
    talk.www1.start()?;
    talk.www2.start()?;
    tell("both web servers are started again");
    director.wait_until("www1 and www2 back in the table", DETECTION, |status| {
        status.serves("www1") && status.serves("www2") && !status.on_fallback()
    })?;
    spreads_evenly(talk, tell)
}

fn spreads_evenly(talk: &Talk, tell: Tell) -> Result<()> {
    let spread = Spread::of_requests(&talk.client, REQUESTS);
    tell(&format!("{REQUESTS} requests to the VIP were answered by: {spread}"));
    ensure!(
        spread.by(Answer::Www1) == REQUESTS / 2 && spread.by(Answer::Www2) == REQUESTS / 2,
        "round robin should have given www1 and www2 {} requests each, but: {spread}",
        REQUESTS / 2
    );
    Ok(())
}

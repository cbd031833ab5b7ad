//! A configuration that changes again and again, while clients speak to what stays the same in it.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::alone::{Alone, BOTH, configuration};

const PATIENCE: Duration = Duration::from_secs(60);

/// The configuration of a round: the service that stays, and others that come, go and change, some
/// with the same servers, at the same VIP and at one that comes and goes.
fn changing(connections: u32, round: u32) -> Result<String> {
    const SCHEDULERS: [&str; 5] = ["rr", "wlc", "mh", "sed", "lc"];
    let mut text = configuration(connections, BOTH);
    let vip = if round.is_multiple_of(2) { "211.58.250.6" } else { "211.58.250.8" };
    if vip != "211.58.250.6" {
        text = text.replace("vips: [211.58.250.6/25]", "vips: [211.58.250.6/25, 211.58.250.8/25]");
    }
    for place in 0..=round % 4 {
        let (number, weight) = (round + place, round % 7 + 1);
        let name = if place == 0 { name(round) } else { format!("other-{place}") };
        let port = if place == 0 { 9000 } else { 9001 + number % 5 * 4 + place };
        let second = if number.is_multiple_of(3) { "" } else { ", { address: 211.58.250.27 }" };
        let protocol = if number.is_multiple_of(5) { "udp" } else { "tcp" };
        let scheduler = SCHEDULERS[number as usize % SCHEDULERS.len()];
        writeln!(
            text,
            "  - {{ name: {name}, vip: '{vip}:{port}', protocol: {protocol}, scheduler: {scheduler}, drain: {}s, \
             servers: [{{ address: 211.58.250.25, weight: {weight} }}{second}] }}",
            number % 3
        )?;
    }
    Ok(text)
}

/// What the first of the changing services is called in a round.
fn name(round: u32) -> String {
    format!("round-{round}")
}

impl Alone {
    /// So many reloads, each of which has taken effect before the next.
    pub fn reload_again_and_again(&self, connections: u32, rounds: u32) -> Result<()> {
        for round in 1..=rounds {
            self.director.reconfigure(&changing(connections, round)?)?;
            self.director.process().signal(Signal::SIGHUP);
            let is_there = |name: &str| {
                self.director.wait_until(name, PATIENCE, |status| {
                    status.config_error.is_none()
                        && status.services.iter().any(|service| service.name == name)
                })
            };
            is_there(&name(round)).with_context(|| self.director.log_tail())?;
        }
        Ok(())
    }
}

//! Scenario 2 of the talk and what goes beyond it, with the real `lb` on both directors and real
//! clients.

use std::thread;

use anyhow::{Result, ensure};
use lb_lab::busy::measured;
use lb_lab::cluster::pair::{Pair, Settings};
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::unique_name;
use lb_lab::scenario::open_loop::Outage;
use lb_lab::scenario::traffic::Answer;
use lb_lab::scenario::two;

#[test]
fn the_standby_serves_whatever_happens_to_the_active_one() -> Result<()> {
    measured("scenario 2", || {
        let talk = Talk::new(&unique_name("two"))?;
        let mut pair = Pair::start(&talk, Settings::DEFAULT)?;
        two::play(&talk, &mut pair, &mut |told| println!("{told}"))
    })
}

/// The line is a process of the lab and passes through the kernel's worker threads: a busy machine
/// holds it up, as it does no cable.
#[test]
fn a_serial_line_alone_holds_the_cluster_together() -> Result<()> {
    measured("a serial line alone", || {
        let talk = Talk::new(&unique_name("serial"))?;
        let settings = Settings { serial: true, ..Settings::DEFAULT };
        let pair = Pair::start(&talk, settings)?;
        let outage = Outage::during(&talk.client, Answer::SERVERS, || {
            talk.cut_heartbeats("eth0")?;
            talk.cut_heartbeats("eth1")?;
            thread::sleep(10 * settings.dead);
            Ok(())
        })?;
        ensure!(outage.failed() == 0, "{outage}");
        // Both directors still agree.
        pair.wait_until_held_by("ha1")?;
        ensure!(pair.ha2.takes(VIP)? == 0, "ha2 has taken the VIP in between:\n{}", pair.shown());
        Ok(())
    })
}

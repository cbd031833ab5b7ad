//! Scenario 2 of the talk and what goes beyond it, with the real `lb` on both directors and real clients.

use std::thread;
use std::time::Duration;

use lb_tests::cluster::pair::{Pair, Settings};
use lb_tests::cluster::{Talk, VIP};
use lb_tests::lab::unique_name;
use lb_tests::scenario::open_loop::Outage;
use lb_tests::scenario::traffic::Answer;
use lb_tests::scenario::two;

#[test]
fn the_standby_serves_whatever_happens_to_the_active_one() {
    let talk = Talk::new(&unique_name("two")).expect("the cluster comes up");
    let mut pair = Pair::start(&talk, Settings::DEFAULT).expect("lb starts on both directors");
    two::play(&talk, &mut pair, &mut |told| println!("{told}")).expect("everything goes as told");
}

#[test]
fn a_serial_line_alone_holds_the_cluster_together() {
    let talk = Talk::new(&unique_name("serial")).expect("the cluster comes up");
    let settings = Settings { serial: true, ..Settings::DEFAULT };
    let pair = Pair::start(&talk, settings).expect("lb starts on both directors");
    let outage = Outage::during(&talk.client, Answer::SERVERS, || {
        talk.cut_heartbeats("eth0")?;
        talk.cut_heartbeats("eth1")?;
        thread::sleep(Duration::from_secs(2)); // ten times the dead time
        Ok(())
    });
    assert_eq!(outage.expect("the client can ask").failed(), 0);
    pair.wait_until_held_by("ha1").expect("both directors still agree");
    assert_eq!(pair.ha2.takes(VIP).expect("ha2 has a log"), 0, "ha2 has taken the VIP in between");
}

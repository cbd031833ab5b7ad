//! Real hosts: the loopback's, the other end of a cable, and addresses that nobody has.

use anyhow::{Result, ensure};
use lb_lab::busy::measured;
use lb_lab::veth::{VethPair as Cable, block_on, ip};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn watch(hosts: &[&str], interface: u32) -> (References, UnboundedReceiver<u8>) {
    let (sender, reports) = unbounded_channel();
    let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    let report = move |count| {
        let _ = sender.send(count);
    };
    let references = References::start(hosts, interface, report);
    (references.expect("raw sockets need root: run the tests as root"), reports)
}

async fn next(reports: &mut UnboundedReceiver<u8>) -> u8 {
    timeout(PATIENCE, reports.recv()).await.expect("a report").expect("the task lives")
}

#[test]
fn hosts_on_the_loopback_are_reached_at_once() -> Result<()> {
    let at_once = || {
        block_on(async {
            let begin = Instant::now();
            let (_references, mut reports) = watch(&["127.0.0.1", "::1", "127.0.0.9"], 1);
            ensure!(next(&mut reports).await == 3, "the first report is not whole");
            ensure!(begin.elapsed() < INTERVAL, "{:?}", begin.elapsed());
            let other = timeout(FRESH + INTERVAL, reports.recv()).await;
            ensure!(other.is_err(), "nothing has changed: {other:?}");
            Ok(())
        })
    };
    measured("hosts on the loopback", at_once)
}

#[test]
fn hosts_come_and_go_with_the_cable() -> Result<()> {
    measured("a cable that is cut", || {
        let cable = Cable::new("refs");
        cable.run(0, |interface| {
            block_on(async {
                // There is no route to the last one.
                let (_references, mut reports) = watch(&["10.9.9.2", "fe80::2", "192.0.2.1"], interface);
                // The link may not be up yet at the first request.
                while next(&mut reports).await < 2 {}
                let cut = Instant::now();
                ip(&format!("-n {} link set eth0 down", cable.names[1]));
                while next(&mut reports).await > 0 {}
                ensure!(cut.elapsed() < FRESH + Duration::from_secs(1), "{:?}", cut.elapsed());
                ip(&format!("-n {} link set eth0 up", cable.names[1]));
                ip(&format!("-n {} address replace fe80::2/64 dev eth0 nodad", cable.names[1]));
                while next(&mut reports).await < 2 {}
                Ok(())
            })
        })
    })
}

#[test]
fn nobody_reached_is_told_after_the_first_round() -> Result<()> {
    measured("the first round", || {
        let cable = Cable::new("norefs");
        cable.run(0, |interface| {
            block_on(async {
                let begin = Instant::now();
                // Nobody has the one, and there is no route to the other.
                let (_references, mut reports) = watch(&["10.9.9.9", "192.0.2.1"], interface);
                ensure!(next(&mut reports).await == 0, "somebody is reached");
                ensure!(begin.elapsed() < INTERVAL * 2, "{:?}", begin.elapsed());
                Ok(())
            })
        })
    })
}

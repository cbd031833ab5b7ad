//! Groups of a thousand VIPs and more: how long a take-over takes until the last one is announced.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use lb_api::status::Status;
use lb_lab::busy::measured;
use lb_lab::lab::capture::{Arp, Frame};
use lb_lab::lab::{Capture, Director, Lab, Node, unique_name};

use crate::harness::*;

/// The configuration's default, in frames a second.
const RATE: usize = 10_000;

struct Pair {
    _lab: Lab,
    client: Node,
    ha1: Director,
    ha2: Director,
}

/// The VIPs of the group.
fn vips(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..count).map(|number| Ipv4Addr::from(0x0a4d_0a00 + number / 250 * 256 + number % 250 + 1))
}

fn configuration(node: &Node, count: u32) -> String {
    let vips: Vec<String> = vips(count).map(|vip| format!("{vip}/16")).collect();
    format!(
        "\
interface: eth0
metrics: off
maintenance_dir: {}
groups: [{{ name: web, vips: [{}], failback: manual }}]
cluster:
  node: {}
  key_file: {}
  state: {}
  nodes: [{{ name: ha1, address: 10.77.0.5 }}, {{ name: ha2, address: 10.77.0.7 }}]
  paths: [{{ type: unicast, interface: eth0 }}]
services:
  - vip: 10.77.10.1:80
    check: {{ type: none }}
    servers: [{{ address: 10.77.0.100 }}]
",
        node.folder().expect("a folder").join("disabled").display(),
        vips.join(", "),
        node.name(),
        key_file(node).display(),
        state_folder(node).display(),
    )
}

impl Pair {
    fn start(count: u32) -> Self {
        let lab = Lab::new(&unique_name("manyvips")).expect("a lab");
        let node = |name: &str, last: u8| {
            lab.node(name, format!("10.77.0.{last}/16").parse().expect("an address")).expect("a node")
        };
        let client = node("client", 100);
        let [ha1, ha2] = [("ha1", 5), ("ha2", 7)].map(|(name, last)| {
            let node = node(name, last);
            write_keys(&node, OLD_KEY);
            Director::start(&node, &configuration(&node, count)).expect("lb starts")
        });
        Self { _lab: lab, client, ha1, ha2 }
    }

    /// Until `holder` has the group and the other one could take it.
    fn settle(&self, holder: &Director) {
        let name = holder.node().name().to_owned();
        let settled = |status: &Status| status.held_by(&name) && status.can_leave();
        holder.wait_until("the group held, and another node ready", PATIENCE, settled).expect("it settles");
    }
}

/// When `director` has gone into `role`, last: since midnight; and how long the role before had
/// lasted.
fn went(director: &Director, role: &str) -> (Duration, Duration) {
    let events = director.events().expect("lb events");
    let event = events.iter().rev().find(|event| event.to.as_deref() == Some(role));
    let event = event.expect("a change of role");
    let time = event.time.split_once('T').expect("a time").1;
    let mut parts = time.trim_end_matches('Z').split(':').map(|part| part.parse::<f64>().expect("a number"));
    let mut next = || parts.next().expect("three parts");
    let at = Duration::from_secs_f64(next() * 3600.0 + next() * 60.0 + next());
    (at, Duration::from_secs_f64(event.took_ms.expect("a time") / 1e3))
}

fn since_midnight(at: Duration) -> Duration {
    const DAY: u64 = 24 * 60 * 60;
    Duration::new(at.as_secs() % DAY, at.subsec_nanos())
}

/// The announcements by `node`, in order.
fn announcements(frames: &[Frame], node: &Node) -> Vec<(Duration, Ipv4Addr)> {
    let mac = node.mac();
    let of_node = frames.iter().filter(|frame| frame.is_from(&mac));
    let claim = |frame: &Frame| match frame.arp() {
        Some(Arp { sender, target }) if sender == target => Some((frame.at, sender)),
        _ => None,
    };
    of_node.filter_map(claim).collect()
}

/// When each VIP was announced first. Every one was, before any was again, at the configured pace.
fn first_announcements(said: &[(Duration, Ipv4Addr)], count: u32) -> HashMap<Ipv4Addr, Duration> {
    let mut first = HashMap::new();
    for (at, vip) in said {
        if first.contains_key(vip) && first.len() < count as usize {
            panic!("{vip} is announced again while {} wait", count as usize - first.len());
        }
        first.entry(*vip).or_insert(*at);
    }
    let (begin, end) = (said[0].0, said[said.len() - 1].0);
    let seconds = (end - begin).as_secs_f64();
    let most = RATE as f64 * (seconds + 0.05);
    assert!(said.len() as f64 <= most, "{} frames within {seconds} s", said.len());
    first
}

/// From the decision of `by` to the last VIP's first announcement, heard by the client.
fn announced_after(pair: &Pair, capture: &Capture, by: &Director, count: u32) -> Duration {
    let all_heard = |frames: &[Frame]| {
        let said = announcements(frames, by.node());
        vips(count)
            .collect::<std::collections::HashSet<_>>()
            .is_subset(&said.iter().map(|said| said.1).collect())
    };
    wait_for("an announcement of every VIP", || capture.look(all_heard));
    pair.settle_taken(by);
    let said = announcements(&capture.take(), by.node());
    let first = first_announcements(&said, count);
    let last = first.values().max().copied().expect("an announcement");
    since_midnight(last).saturating_sub(went(by, "acquiring").0)
}

impl Pair {
    fn settle_taken(&self, holder: &Director) {
        let name = holder.node().name().to_owned();
        holder.wait_until("the group held", PATIENCE, |status| status.held_by(&name)).expect("it is taken");
    }
}

/// A director dies, and the other one takes its group: the last VIP is announced within `most`.
#[track_caller]
fn assert_taken_within(count: u32, most: Duration) {
    let mut pair = Pair::start(count);
    let capture = Capture::start(&pair.client).expect("a capture");
    let what = format!("{count} VIPs within {most:?}");
    let result = measured(&what, || {
        pair.settle(&pair.ha1);
        capture.take();
        pair.ha1.kill()?;
        let taken = announced_after(&pair, &capture, &pair.ha2, count);

        pair.ha1.restart()?;
        pair.settle(&pair.ha2);
        capture.take();
        pair.ha2.failover()?;
        announced_after(&pair, &capture, &pair.ha1, count);
        let released = went(&pair.ha2, "standby").1;
        let told = format!("taken and announced in {taken:?}, released in {released:?}");
        println!("{count} VIPs: {told}");
        ensure!(taken <= most && released <= most, told);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error:#}");
    }
}

#[test]
fn b11_a_thousand_vips_are_taken_and_announced_within_250_ms() {
    assert_taken_within(1000, Duration::from_millis(250));
}

#[test]
fn b11_three_thousand_vips_are_taken_and_announced_within_700_ms() {
    assert_taken_within(3000, Duration::from_millis(700));
}

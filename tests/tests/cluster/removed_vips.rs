//! VIPs that others take off the interface, and where this host's own packets come from then. A
//! director alone, so that its own address may go too.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lb_api::events::Level;
use lb_api::status::Status;
use lb_lab::busy::measured;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::capture::{Arp, Frame};
use lb_lab::lab::{Capture, Director, Link, Node, unique_name};

use crate::harness::*;

/// How soon a VIP is back.
const SOON: Duration = Duration::from_millis(100);

const OWN: &str = "211.58.250.5/25";
const VIP6: &str = "fd00::6";

/// Nothing is ever announced or looked at again by itself.
fn configuration(node: &Node) -> String {
    format!(
        "\
interface: eth0
metrics: off
maintenance_dir: {}
groups: [{{ name: web, vips: [211.58.250.6/25, 'fd00::6/64'], refresh: 0s }}]
services:
  - vip: 211.58.250.6:80
    scheduler: rr
    check: {{ type: http, request: /index.html, receive: Test Page, interval: 500ms, timeout: 400ms }}
    servers: [{{ address: 211.58.250.25, name: www1 }}, {{ address: 211.58.250.27, name: www2 }}]
",
        node.folder().expect("a folder").join("disabled").display()
    )
}

struct Bench {
    talk: Talk,
    director: Director,
}

impl Bench {
    fn start(purpose: &str) -> Self {
        Self::start_with(purpose, |_| {})
    }

    /// `before`: what is done to the director's machine first.
    fn start_with(purpose: &str, before: impl FnOnce(&Node)) -> Self {
        let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
        talk.ha1.add_ipv6("fd00::5/64").expect("an address");
        before(&talk.ha1);
        let director = Director::start(&talk.ha1, &configuration(&talk.ha1)).expect("lb starts");
        let bench = Self { talk, director };
        wait_for("both VIPs", || bench.has(&VIP.to_string()) && bench.has(VIP6));
        bench
    }

    fn has(&self, vip: &str) -> bool {
        let shown = self.talk.ha1.ip("-oneline address show dev eth0").expect("ip works");
        shown.contains(&format!(" {vip}/"))
    }

    fn ip(&self, arguments: &str) {
        self.talk.ha1.ip(arguments).expect("ip works");
    }

    /// Both VIPs are back soon after `remove`.
    #[track_caller]
    fn assert_back_soon(&self, what: &str, remove: impl Fn()) {
        let back = || {
            remove();
            let begin = Instant::now();
            wait_for(what, || self.has(&VIP.to_string()) && self.has(VIP6));
            let took = begin.elapsed();
            if took >= SOON {
                // Until nobody fights for it any more.
                sleep(Duration::from_secs(6));
            }
            ensure!(took < SOON, "back within {took:?}, {SOON:?} is wanted");
            Ok(())
        };
        if let Err(error) = measured(what, back) {
            panic!("{error:#}");
        }
    }

    #[track_caller]
    fn wait_until_served(&self) {
        let served = |status: &Status| status.serves("www1") && status.serves("www2");
        self.director.wait_until("both servers up", PATIENCE, served).expect("they are");
    }
}

#[test]
fn b5_a_vip_that_others_remove_is_back_at_once() {
    let bench = Bench::start("removed");
    bench.wait_until_served();
    bench.assert_back_soon("after ip address del", || {
        bench.ip("address del 211.58.250.6/32 dev eth0");
        bench.ip("address del fd00::6/64 dev eth0");
    });
    // With its own address, as a DHCP client does it that starts anew.
    bench.assert_back_soon("after ip address flush", || {
        bench.ip("address flush dev eth0");
        bench.ip(&format!("address add {OWN} dev eth0"));
    });
    bench.assert_back_soon("after link down and up", || {
        bench.talk.ha1.set_link("eth0", Link::Down).expect("ip works");
        bench.talk.ha1.set_link("eth0", Link::Up).expect("ip works");
    });
    bench.assert_back_soon("after the loss of the first address of its network", || {
        bench.ip(&format!("address del {OWN} dev eth0"));
        bench.ip(&format!("address add {OWN} dev eth0"));
    });
    bench.wait_until_served();
    let answers = bench.talk.client.who_has(VIP).expect("arping works");
    assert_eq!(Vec::from_iter(answers), [bench.talk.ha1.mac()]);

    let status = bench.director.status().expect("a status");
    let finding = status.finding("vip_removed").expect("a finding");
    assert!(finding.text.contains("removed from eth0"), "{}", finding.text);
    assert_eq!((finding.level, &*finding.subject), (Level::Warning, "eth0"));
}

/// A program that removes the VIP whenever it sees it gets neither the CPU nor the log, and in the
/// end not the VIP.
#[test]
fn b5_a_remover_that_goes_on_is_answered_at_a_pace() {
    let bench = Bench::start("fought");
    let script = "while :; do ip address del 211.58.250.6/32 dev eth0 2>/dev/null; done";
    let remover = bench.talk.ha1.start("remover", "sh", &["-c", script]).expect("it starts");
    let before = bench.director.process().cpu_time().expect("it runs");
    sleep(Duration::from_secs(5));
    let spent = bench.director.process().cpu_time().expect("it runs") - before;
    assert!(spent < Duration::from_secs(1), "{spent:?} of CPU time in 5 s");
    remover.stop(PATIENCE).expect("it ends");
    wait_for("the VIP to be back", || bench.has(&VIP.to_string()));
    let removed =
        count_events(&bench.director, "finding", |event| event.finding.as_deref() == Some("vip_removed"));
    assert_eq!(removed, 1, "{}", bench.director.log_tail());
}

/// What the node sends with the VIP as its source, announcements apart.
fn from_vip(frames: &[Frame], node: &Node) -> usize {
    let mac = node.mac();
    let of_vip = |frame: &&Frame| match frame.arp() {
        Some(Arp { sender, target }) => sender == VIP && target != VIP,
        None => frame.ipv4_source() == Some(VIP),
    };
    frames.iter().filter(|frame| frame.is_from(&mac)).filter(of_vip).count()
}

/// Nothing that the node sends in the time of some checks comes from the VIP.
#[track_caller]
fn assert_vip_is_no_source(bench: &Bench) {
    let capture = Capture::start(bench.talk.www1.node()).expect("a capture");
    sleep(Duration::from_secs(4));
    let frames = capture.take();
    assert_eq!(from_vip(&frames, &bench.talk.ha1), 0);
}

#[test]
fn b6_a_vip_that_is_the_only_address_is_no_source_and_this_is_said() {
    let bench = Bench::start_with("onlyvip", |ha1| {
        ha1.ip(&format!("address del {OWN} dev eth0")).expect("ip works");
    });
    let director = &bench.director;
    let told = |status: &Status| status.finding("vip_is_source").is_some();
    let status = director.wait_until("a finding", PATIENCE, told).expect("it comes");
    let words = "eth0 has no address of its own in the network of server www1 (211.58.250.25) and 1 more";
    let finding = status.finding("vip_is_source").expect("a finding");
    assert!(finding.text.contains(words), "{}", finding.text);
    assert_vip_is_no_source(&bench);

    let binary = std::env::var_os("LB_BINARY").expect("the tests are run with lb");
    let file = director.configuration().expect("a path");
    let output = bench.talk.ha1.command(binary.to_str().expect("UTF-8")).arg("check").arg(file).output();
    let output = output.expect("lb check runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("warning: ") && said.contains(words), "{said}");

    bench.ip(&format!("address add {OWN} dev eth0"));
    bench.wait_until_served();
    let over = |status: &Status| status.finding("vip_is_source").is_none();
    director.wait_until("no finding", PATIENCE, over).expect("it ends");
}

/// The VIP is put back before the DHCP client brings the director's own address back.
#[test]
fn b6_a_vip_that_is_back_before_the_own_address_does_not_become_the_source() {
    let bench = Bench::start("renewal");
    bench.wait_until_served();
    bench.ip("-4 address flush dev eth0");
    wait_for("the VIP to be back", || bench.has(&VIP.to_string()));
    bench.ip(&format!("address add {OWN} dev eth0"));
    assert_vip_is_no_source(&bench);
    bench.wait_until_served();
    for node in [bench.talk.www1.node(), &bench.talk.client] {
        let route = bench.talk.ha1.ip(&format!("route get {}", node.address())).expect("ip works");
        assert!(route.contains("src 211.58.250.5 "), "{route}");
    }
    // Of IPv6 the VIP came last, and both are as near to the destination.
    let route = bench.talk.ha1.ip("-6 route get fd00::19").expect("ip works");
    assert!(route.contains("src fd00::5 "), "{route}");
}

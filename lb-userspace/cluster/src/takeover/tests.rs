//! The holder on a real interface, with somebody at the other end of the cable who hears its
//! announcements.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lb_api::findings::Findings;
use lb_common::mac::Mac;
use lb_lab::veth::{VethPair as Cable, block_on, ip};
use lb_model::ids::{GroupNumber, NodeId};
use lb_model::{Failback, Group, GroupKind, GroupVip};
use lb_net::segment::claims::{Claim, Listener};

use super::holder::{Holder, Outcome, orders};

mod vip_device;

const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 0x5a]);
/// The first group.
const GROUP: GroupNumber = GroupNumber(0);
const PATIENCE: Duration = Duration::from_secs(60);

fn group(name: &str, vips: &[(&str, u8)], label: Option<&str>) -> Group {
    let vip =
        |&(address, prefix): &(&str, u8)| GroupVip { address: address.parse().expect("an address"), prefix };
    Group {
        number: GROUP,
        name: name.to_owned(),
        vips: vips.iter().map(vip).collect(),
        interface: None,
        label: label.map(str::to_owned),
        refresh: Duration::from_millis(200),
        nodes: vec![NodeId(0)],
        failback: Failback::Manual,
        kind: GroupKind::Failover,
    }
}

fn start(cable: &Cable, groups: &[Group]) -> (Holder, Receiver<Outcome>) {
    start_with(cable, groups, |_| true)
}

fn start_with(
    cable: &Cable,
    groups: &[Group],
    has_lease: impl Fn(GroupNumber) -> bool + Send + 'static,
) -> (Holder, Receiver<Outcome>) {
    let (sender, outcomes) = channel();
    let tell = move |outcome| drop(sender.send(outcome));
    let holder = cable
        .run(0, |interface| Holder::start(interface, MAC, orders(), Findings::default(), has_lease, tell))
        .expect("a holder");
    let numbered =
        (0..).zip(groups).map(|(number, group)| Group { number: GroupNumber(number), ..group.clone() });
    holder.orders().set_groups(&Vec::from_iter(numbered));
    (holder, outcomes)
}

fn shown(cable: &Cable) -> String {
    let output = Command::new("ip")
        .args(["-n", &cable.names[0], "-oneline", "address", "show", "dev", "eth0"])
        .output();
    String::from_utf8(output.expect("ip").stdout).expect("UTF-8")
}

fn routes(cable: &Cable) -> String {
    let output = Command::new("ip").args(["-n", &cable.names[0], "route", "show", "dev", "eth0"]).output();
    String::from_utf8(output.expect("ip").stdout).expect("UTF-8")
}

fn wait_for_shown(cable: &Cable, address: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !shown(cable).contains(address) {
        assert!(std::time::Instant::now() < deadline, "{address} does not come back: {}", shown(cable));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_group_of_both_families_is_taken_announced_and_given_up() {
    let cable = Cable::new("holder");
    let (holder, outcomes) =
        start(&cable, &[group("web", &[("10.9.9.100", 24), ("2001:db8::100", 64)], Some("eth0:0"))]);
    let mut wanted: Vec<IpAddr> =
        ["10.9.9.100", "2001:db8::100"].map(|vip| vip.parse().expect("an address")).into();
    cable.run(1, |interface| {
        block_on(async {
            let mut listener = Listener::open(interface).expect("a listener");
            holder.orders().take(GROUP, None);
            while !wanted.is_empty() {
                let heard = tokio::time::timeout(PATIENCE, listener.next()).await.expect("an announcement");
                let Claim { address, mac } = heard.expect("the listener works").claim;
                if mac == MAC {
                    wanted.retain(|vip| *vip != address);
                }
            }
        });
    });
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Taken(GROUP)));
    let addresses = shown(&cable);
    assert!(addresses.contains("10.9.9.100/32") && addresses.contains("eth0:0"), "{addresses}");
    let v6 = addresses.lines().find(|line| line.contains("2001:db8::100/64")).expect("the IPv6 VIP");
    assert!(v6.contains("nodad") && !v6.contains("tentative"), "usable at once: {v6}");
    assert!(
        v6.contains("deprecated") && v6.contains("valid_lft forever"),
        "no source of the host's own: {v6}"
    );

    holder.orders().release(GROUP);
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Released(GROUP)));
    assert!(!shown(&cable).contains("::100") && !shown(&cable).contains("9.100"), "{}", shown(&cable));
    holder.end();
}

/// The lease of a take-over comes a moment after its order; and a process that was frozen does not
/// know that another node has the group.
#[test]
fn a_group_is_announced_once_it_has_its_lease() {
    let cable = Cable::new("nolease");
    let renewed = Arc::new(AtomicBool::new(false));
    let has_lease = {
        let renewed = Arc::clone(&renewed);
        move |_| renewed.load(Ordering::Relaxed)
    };
    let (holder, outcomes) = start_with(&cable, &[group("web", &[("10.9.9.100", 24)], None)], has_lease);
    holder.orders().take(GROUP, None);
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Taken(GROUP)));
    cable.run(1, |interface| {
        block_on(async {
            let mut listener = Listener::open(interface).expect("a listener");
            let silent = tokio::time::timeout(Duration::from_millis(500), listener.next()).await;
            assert!(silent.is_err(), "{silent:?}");
            renewed.store(true, Ordering::Relaxed);
            tokio::time::timeout(PATIENCE, listener.next()).await.expect("an announcement").expect("heard");
        });
    });
    holder.end();
}

#[test]
fn a_take_over_that_fails_half_way_is_undone_and_says_why() {
    let cable = Cable::new("halfway");
    // The kernel has room for 15 characters.
    let vips = [("2001:db8::100", 64), ("10.9.9.100", 24)];
    let (holder, outcomes) = start(&cable, &[group("web", &vips, Some("eth0:much-too-long"))]);
    holder.orders().take(GROUP, None);
    let outcome = outcomes.recv_timeout(PATIENCE).expect("an outcome");
    let Outcome::Failed(GROUP, why) = &outcome else { panic!("{outcome:?}") };
    assert!(why.contains("cannot add 10.9.9.100/32"), "{why}");
    assert!(!shown(&cable).contains("::100"), "{}", shown(&cable));
    holder.end();
}

#[test]
fn where_ipv6_is_off_a_group_with_an_ipv6_vip_is_not_taken_and_says_so() {
    let cable = Cable::new("noipv6");
    cable.run(0, |_| std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1")).expect("a sysctl");
    let (holder, outcomes) =
        start(&cable, &[group("web", &[("10.9.9.100", 24), ("2001:db8::100", 64)], None)]);
    holder.orders().take(GROUP, None);
    let outcome = outcomes.recv_timeout(PATIENCE).expect("an outcome");
    let Outcome::Failed(GROUP, why) = &outcome else { panic!("{outcome:?}") };
    assert!(why.contains("cannot add 2001:db8::100/64: IPv6 is off on the interface"), "{why}");
    assert!(!shown(&cable).contains("9.100"), "{}", shown(&cable));
    holder.end();
}

/// The kernel removes the other addresses of a subnet with its first one: no VIP is ever that.
#[test]
fn giving_up_one_group_does_not_cost_another_its_address() {
    let cable = Cable::new("subnet");
    let groups = [group("first", &[("10.8.8.1", 24)], None), group("second", &[("10.8.8.2", 24)], None)];
    let (holder, outcomes) = start(&cable, &groups);
    for number in [0, 1] {
        holder.orders().take(GroupNumber(number), None);
        assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Taken(GroupNumber(number))));
    }
    assert!(routes(&cable).contains("10.8.8.0/24 "), "clients of that network: {}", routes(&cable));
    holder.orders().release(GROUP);
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Released(GROUP)));
    assert!(
        shown(&cable).contains("10.8.8.2/32") && !shown(&cable).contains("10.8.8.1/"),
        "{}",
        shown(&cable)
    );
    assert!(routes(&cable).contains("10.8.8.0/24 "), "{}", routes(&cable));
    holder.orders().release(GroupNumber(1));
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Released(GroupNumber(1))));
    assert!(!routes(&cable).contains("10.8.8.0/24 "), "{}", routes(&cable));
    holder.end();
}

/// With its link the kernel takes an interface's IPv6 addresses away, unlike IPv4 ones.
#[test]
fn an_ipv6_vip_is_back_after_the_interface_was_down() {
    let cable = Cable::new("flap");
    let (holder, outcomes) = start(&cable, &[group("web", &[("2001:db8::100", 64)], None)]);
    holder.orders().take(GROUP, None);
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Taken(GROUP)));
    for state in ["down", "up"] {
        ip(&format!("-n {} link set eth0 {state}", cable.names[0]));
    }
    wait_for_shown(&cable, "2001:db8::100/64");
    assert!(outcomes.try_recv().is_err(), "it never was without the group");
    holder.end();
}

#[test]
fn a_release_calls_off_what_the_take_over_waits_for() {
    let cable = Cable::new("calloff");
    let (holder, outcomes) = start(&cable, &[group("web", &[("10.9.9.100", 24)], None)]);
    let (alive, called_off) = channel::<()>();
    let condition = Box::pin(async move {
        let _alive = alive;
        std::future::pending().await
    });
    holder.orders().take(GROUP, Some(condition));
    holder.orders().release(GROUP);
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Released(GROUP)));
    let gone = called_off.recv_timeout(PATIENCE);
    assert_eq!(gone, Err(std::sync::mpsc::RecvTimeoutError::Disconnected), "the condition lives on");
    holder.end();
    assert!(outcomes.try_recv().is_err(), "nothing was taken");
}

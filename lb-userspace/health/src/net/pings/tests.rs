//! Pings of real hosts: loopback, the peer of a veth pair, and addresses that no host has.

mod odd;

use std::net::SocketAddr;

use futures::future::join_all;
use lb_lab::veth::{VethPair, block_on, ip};
use lb_model::Probe;
use tokio::time::Instant;

use super::*;
use crate::net::Net;
use crate::probe::test_servers::Asked;

const LIMIT: Duration = Duration::from_secs(60);

fn ping(limit: Duration) -> Asked {
    Asked::of(Probe::Ping, limit)
}

fn host(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), 80)
}

/// Raw sockets of this thread's network namespace.
fn raw_sockets() -> usize {
    let lines = |family: &str| {
        let table = std::fs::read_to_string(format!("/proc/thread-self/net/{family}")).expect("a table");
        table.lines().count() - 1
    };
    lines("raw") + lines("raw6")
}

async fn all_closed() {
    let begin = Instant::now();
    while raw_sockets() > 0 {
        assert!(begin.elapsed() < LIMIT, "a socket is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn hosts_on_the_loopback_answer() {
    for address in ["127.0.0.1", "127.0.0.9", "::1"] {
        assert!(ping(LIMIT).at(host(address)).await.is_ok(), "{address}");
    }
}

#[tokio::test]
async fn it_leaves_as_the_check_says() {
    let from = |source: &str, interface: &str| {
        let (source, interface) = (source.parse().expect("an address"), interface.to_owned());
        ping(LIMIT).with(|check| (check.source, check.interface) = (Some(source), Some(interface)))
    };
    assert!(from("127.0.0.5", "lo").at(host("127.0.0.1")).await.is_ok());
    let foreign = from("192.0.2.1", "lo").at(host("127.0.0.1")).await;
    assert_eq!(foreign, Err("Cannot assign requested address (os error 99) on this host".into()));
    let absent = from("127.0.0.5", "nowhere").at(host("127.0.0.1")).await;
    assert_eq!(absent, Err("No such device (os error 19) on this host".into()));
}

#[test]
fn silence_and_a_missing_route_are_told_apart() {
    let veth = VethPair::new("ping");
    veth.run(0, |_| {
        block_on(async {
            let short = Duration::from_millis(300);
            ip(&format!("-n {} link set lo up", veth.names[0]));
            // The link may not be up yet.
            while ping(short).at(host("10.9.9.2")).await.is_err() {}
            // No host has the first address, and there is no route to the second one.
            assert_eq!(ping(short).at(host("10.9.9.9")).await, Err("no echo reply within 300ms".into()));
            let words = "host unreachable: its MAC address is not known, or there is no route to it";
            assert_eq!(ping(short).at(host("192.0.2.1")).await, Err(words.into()));
        });
    });
}

#[test]
fn many_share_a_socket_and_an_idle_one_is_closed() {
    let veth = VethPair::new("pings");
    veth.run(0, |_| {
        ip(&format!("-n {} link set lo up", veth.names[0]));
        block_on(async {
            let net = Net::default();
            let asked = ping(LIMIT);
            let hosts: Vec<_> =
                (0..2000).map(|n: u16| [127, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]]).collect();
            let each = hosts.iter().map(|host| asked.by(&net, SocketAddr::from((*host, 80))));
            let reports = join_all(each).await;
            assert!(reports.iter().all(|report| report.result.is_ok()));
            assert_eq!(raw_sockets(), 1);
            all_closed().await;
            // The next probe opens a new socket.
            assert!(asked.by(&net, host("127.0.0.1")).await.result.is_ok());
        });
    });
}

#[test]
fn nothing_is_left_when_all_checks_have_ended() {
    let veth = VethPair::new("pingsend");
    veth.run(0, |_| {
        block_on(async {
            let net = Net::default();
            let asked = ping(Duration::from_millis(100));
            let report = asked.by(&net, host("10.9.9.9")).await;
            assert!(report.result.is_err());
            drop(net);
            all_closed().await;
        });
    });
}

//! Real sockets: unicast on the loopback, multicast and broadcast between two network namespaces.

use std::time::Instant;

use lb_lab::veth::{VethPair as Cable, ip};

use super::*;

const NOW: Duration = Duration::ZERO;

fn open(udp: &Udp) -> UdpPath {
    udp.socket().unwrap_or_else(|error| panic!("{udp:?}: {error}"))
}

fn unicast(local: SocketAddr, peers: &[SocketAddr]) -> Udp {
    Udp { to: To::Unicast { local, peers: peers.to_vec() }, interface: None }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must come.
fn receive(path: &mut UdpPath) -> Option<(Vec<u8>, Arrival)> {
    receive_within(path, PATIENCE)
}

fn receive_within(path: &mut UdpPath, patience: Duration) -> Option<(Vec<u8>, Arrival)> {
    let (start, mut buffer) = (Instant::now(), Vec::new());
    while start.elapsed() < patience {
        match path.receive(&mut buffer).expect("the socket works") {
            Some(arrival) => return Some((buffer, arrival)),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

/// A link that has just come up loses the first messages, and a broadcast comes back to its sender.
fn reaches(from: &mut UdpPath, to: &mut UdpPath, message: &[u8]) -> bool {
    let (start, mut buffer) = (Instant::now(), Vec::new());
    while start.elapsed() < PATIENCE {
        let _ = from.send(message, NOW);
        std::thread::sleep(Duration::from_millis(20));
        while to.receive(&mut buffer).expect("the socket works").is_some() {
            if buffer == message {
                return true;
            }
        }
    }
    false
}

fn both_ways(a: &mut UdpPath, b: &mut UdpPath) {
    for (message, back) in [(b"there", b"back1"), (b"again", b"back2")] {
        assert!(reaches(a, b, message), "there");
        assert!(reaches(b, a, back), "back");
    }
}

/// The path's sockets at both ends of a cable. A socket stays in the namespace that it was made in.
fn ends(cable: &Cable, [a, b]: [&Udp; 2]) -> [UdpPath; 2] {
    [cable.run(0, |_| open(a)), cable.run(1, |_| open(b))]
}

/// Two sockets that send to each other; their ports are the kernel's choice.
fn pair(loopback: &str) -> (UdpPath, UdpPath) {
    let any = SocketAddr::new(loopback.parse().unwrap(), 0);
    let nobody = SocketAddr::new(any.ip(), 9);
    let (mut a, mut b) = (open(&unicast(any, &[nobody])), open(&unicast(any, &[nobody])));
    a.peers = vec![b.socket.local_addr().unwrap()];
    b.peers = vec![a.socket.local_addr().unwrap()];
    (a, b)
}

#[test]
fn unicast_over_ipv4_and_ipv6() {
    for loopback in ["127.0.0.1", "::1"] {
        let (mut a, mut b) = pair(loopback);
        both_ways(&mut a, &mut b);
    }
}

#[test]
fn the_kernel_knows_how_long_a_message_lay_there() {
    let (mut a, mut b) = pair("127.0.0.1");
    // The kernel starts stamping a moment after the first socket asks it to; until then it stamps
    // at the read.
    let begin = Instant::now();
    loop {
        a.send(b"old", NOW).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let (_, arrival) = receive(&mut b).unwrap();
        if arrival.age >= Duration::from_millis(50) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{:?}", arrival.age);
    }
}

#[test]
fn a_peer_that_is_not_there_keeps_nobody_from_hearing() {
    let (mut a, mut b) = pair("127.0.0.1");
    let closed: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let impossible: SocketAddr = "255.255.255.255:9".parse().unwrap();
    a.peers = vec![closed, impossible, a.peers[0]];
    for message in [b"one", b"two"] {
        assert!(a.send(message, NOW).unwrap_err().to_string().contains("255.255.255.255:9"));
        assert_eq!(receive(&mut b).unwrap().0, message);
    }
}

#[test]
fn a_message_that_is_too_long_is_seen_as_such() {
    let (mut a, mut b) = pair("127.0.0.1");
    a.send(&vec![0; MAX_LENGTH + 500], NOW).unwrap();
    assert_eq!(receive(&mut b).unwrap().1.fault, Some(DropReason::TooLong));
    a.send(&vec![0; MAX_LENGTH], NOW).unwrap();
    let (message, arrival) = receive(&mut b).unwrap();
    assert_eq!((message.len(), arrival.fault), (MAX_LENGTH, None));
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    let v4: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let v6: SocketAddr = "[ff02::1]:1".parse().unwrap();
    let on = |to: To, interface: &str| Udp { to, interface: Some(interface.into()) };
    let cases = [
        (unicast(v4, &[]), "no peer"),
        (unicast(v4, &[v6]), "not of the same family"),
        (on(To::Multicast { group: v4 }, "lo"), "not a multicast address"),
        (Udp { to: To::Multicast { group: v6 }, interface: None }, "needs an interface"),
        (on(To::Broadcast { address: v6 }, "lo"), "IPv6 has no broadcast"),
        (on(To::Multicast { group: v6 }, "none-such"), "interface none-such"),
        (unicast("192.0.2.1:1".parse().unwrap(), &[v4]), "binding to UDP 192.0.2.1:1"),
    ];
    for (udp, expected) in cases {
        let error = udp.open().err().expect(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn multicast_and_broadcast_reach_the_other_machine_and_not_this_one() {
    let cable = Cable::new("group");
    let on_eth0 = |to| Udp { to, interface: Some("eth0".into()) };
    for udp in [
        on_eth0(To::Multicast { group: "239.76.66.1:6940".parse().unwrap() }),
        on_eth0(To::Multicast { group: "[ff02::4c42]:6940".parse().unwrap() }),
        on_eth0(To::Broadcast { address: "10.9.9.255:6940".parse().unwrap() }),
        on_eth0(To::Broadcast { address: "255.255.255.255:6940".parse().unwrap() }),
    ] {
        let [mut a, mut b] = ends(&cable, [&udp, &udp]);
        both_ways(&mut a, &mut b);
        if matches!(udp.to, To::Multicast { .. }) {
            while a.receive(&mut Vec::new()).unwrap().is_some() {}
            assert!(reaches(&mut a, &mut b, b"for others"));
            assert_eq!(receive_within(&mut a, Duration::from_secs(1)), None, "{udp:?}");
        }
    }
}

#[test]
fn link_local_addresses_work_on_an_interface() {
    let cable = Cable::new("local");
    let udp = |local: &str, peer: &str| Udp {
        to: To::Unicast { local: local.parse().unwrap(), peers: vec![peer.parse().unwrap()] },
        interface: Some("eth0".into()),
    };
    let [mut a, mut b] =
        ends(&cable, [&udp("[fe80::1]:6940", "[fe80::2]:6940"), &udp("[fe80::2]:6940", "[fe80::1]:6940")]);
    both_ways(&mut a, &mut b);
}

/// A link that goes down makes sends fail, and nothing else.
#[test]
fn a_link_that_was_down_works_again() {
    let cable = Cable::new("down");
    let udp = Udp {
        to: To::Broadcast { address: "10.9.9.255:6940".parse().unwrap() },
        interface: Some("eth0".into()),
    };
    let [mut a, mut b] = ends(&cable, [&udp, &udp]);
    both_ways(&mut a, &mut b);
    ip(&format!("-n {} link set eth0 down", cable.names[0]));
    assert!(a.send(b"lost", NOW).is_err());
    assert!(a.receive(&mut Vec::new()).unwrap().is_none());
    ip(&format!("-n {} link set eth0 up", cable.names[0]));
    both_ways(&mut a, &mut b);
}

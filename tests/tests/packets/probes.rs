//! The controller's own probes through a VIP: answers go to its sockets, a probe that comes back is
//! not balanced.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};

use lb_common::addr::V4;
use lb_common::control::Vips;
use lb_common::program::probe::Answer;
use lb_common::reason::Reason;
use lb_common::shared::Shared;
use lb_model::Protocol;
use lb_tests::harness::*;
use nix::libc;

/// The director's own address.
const OWN: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 5);
/// The first and the last port of probes.
const FIRST: u16 = 61_000;
const LAST: u16 = 65_535;

fn answer(vip: Ipv4Addr, own: Ipv4Addr, port: u16, protocol: Protocol) -> Answer {
    let [vip, own] = [vip, own].map(|address| IpAddr::from(address).into());
    Answer { vip, own, port: port.to_be(), protocol: u16::from(protocol.number()), reserved: 0 }
}

/// One whose TCP and UDP service on the VIP are checked through it.
pub(crate) fn director() -> Director {
    let mut director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    let protocols = [Protocol::Tcp, Protocol::Udp];
    let answers = protocols.map(|protocol| answer(VIP, OWN, PORT, protocol));
    director.data_path.executor.set_answers(&BTreeSet::from(answers)).unwrap();
    director
}

/// Linux 7.3 puts no socket into the map that could not receive.
fn receive_ring(socket: &OwnedFd) {
    let frames: u32 = 64;
    let size = size_of_val(&frames) as libc::socklen_t;
    // SAFETY: the option is a number of this size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_RX_RING,
            (&raw const frames).cast(),
            size,
        )
    };
    assert_eq!(result, 0, "a ring to receive: {}", std::io::Error::last_os_error());
}

/// A socket that answers of queue 0 go to; the kernel asks only later whether it is bound.
fn listen(director: &mut Director) -> OwnedFd {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "an AF_XDP socket: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    receive_ring(&socket);
    director.data_path.executor.set_xsk(0, 0, socket.as_fd()).unwrap();
    socket
}

/// From the VIP to a port of the director.
fn to_port(port: u16, packet: Packet) -> Packet {
    Packet { from: SocketAddrV4::new(VIP, PORT), ..packet }.to(OWN, port)
}

fn tcp(flags: u8) -> Packet {
    Packet::tcp(client(1), flags)
}

pub(crate) fn answers() -> [(&'static str, Packet); 8] {
    let udp = || to_port(FIRST, Packet::udp(client(1)));
    [
        ("SYN-ACK", to_port(FIRST, tcp(SYN | ACK))),
        ("SYN-ACK to the last port", to_port(LAST, tcp(SYN | ACK))),
        ("ACK", to_port(FIRST, tcp(ACK))),
        ("FIN", to_port(FIRST, tcp(FIN | ACK))),
        ("RST", to_port(FIRST, tcp(RST))),
        ("UDP", udp()),
        ("UDP with IP options", Packet { ip_options: 2, ..udp() }),
        ("UDP behind a tag", Packet { tags: vec![DOT1Q], ..udp() }),
    ]
}

#[test]
fn answers_go_to_the_socket_of_their_queue() {
    let mut director = director();
    let _socket = listen(&mut director);
    for (description, packet) in answers() {
        let frame = packet.bytes();
        let (outcome, reasons) = director.explain(&frame);
        assert_eq!(
            (outcome, reasons),
            (Outcome { verdict: Verdict::Redirect, frame }, vec![]),
            "{description}"
        );
    }
}

/// The host would take them for forgeries, or reset the connection.
#[test]
fn answers_that_nobody_waits_for_are_dropped() {
    let mut director = director();
    drop(listen(&mut director));
    for (description, packet) in answers() {
        let (outcome, reasons) = director.explain(&packet.bytes());
        assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::ProbeUnheard]), "{description}");
    }
}

#[test]
fn what_is_no_answer_passes() {
    let mut director = director();
    let _socket = listen(&mut director);
    let reply = || to_port(FIRST, tcp(ACK));
    let from = |vip, port| Packet { from: SocketAddrV4::new(vip, port), ..reply() };
    for (description, packet) in [
        ("to a port below", to_port(FIRST - 1, tcp(ACK))),
        ("to port 0", to_port(0, tcp(ACK))),
        ("from another VIP", from(OTHER_VIP, PORT)),
        ("from another port of the VIP", from(VIP, PORT + 1)),
        ("to another address", reply().to(Ipv4Addr::new(211, 58, 250, 100), FIRST)),
        ("by another protocol", to_port(FIRST, Packet::udp(client(1))).to(OTHER_VIP, FIRST)),
    ] {
        let (outcome, reasons) = director.explain(&packet.bytes());
        assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "{description}");
    }
}

#[test]
fn without_checks_through_the_vip_nothing_is_kept_from_the_host() {
    let mut director = director();
    let _socket = listen(&mut director);
    director.data_path.executor.set_answers(&BTreeSet::new()).unwrap();
    for (description, packet) in answers() {
        let (outcome, reasons) = director.explain(&packet.bytes());
        assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "{description}");
    }
}

/// The filter of VIPs takes some addresses for VIPs that are none, and one may be the director's
/// own.
#[test]
fn answers_to_an_address_that_the_filter_takes_for_a_vip_are_found_too() {
    let mut vips = Vips::default();
    vips.insert(V4::from(VIP));
    let vips = Shared::new(vips);
    let mistaken = (1..=u16::MAX).map(|host| Ipv4Addr::from(0x0a00_0000 + u32::from(host)));
    let own = mistaken.into_iter().find(|address| vips.may_contain(V4::from(*address)));
    let own = own.expect("65535 addresses, 512 bits");
    let mut director = director();
    let answers = BTreeSet::from([answer(VIP, own, PORT, Protocol::Tcp)]);
    director.data_path.executor.set_answers(&answers).unwrap();
    let _socket = listen(&mut director);
    let packet = to_port(FIRST, tcp(ACK)).to(own, FIRST);
    assert_eq!(director.send(&packet).verdict, Verdict::Redirect);
}

/// A probe as a server without the VIP, that forwards packets, sends it to whoever has the VIP.
pub(crate) fn sent_on(packet: Packet) -> Packet {
    Packet { from: SocketAddrV4::new(OWN, FIRST), ttl: 1, ..packet }
}

#[test]
fn a_probe_that_its_server_has_sent_on_is_not_balanced() {
    let director = director();
    let astray = Some(Reason::ProbeAstray);
    let (syn, udp) = (sent_on(Packet::syn(client(1))), sent_on(Packet::udp(client(1))));
    let client_port = SocketAddrV4::new(OWN, FIRST - 1);
    assert_rows(
        &director,
        [
            ("SYN", syn.bytes(), astray),
            ("UDP", udp.bytes(), astray),
            ("a client's with hops left", Packet { ttl: 2, ..syn.clone() }.bytes(), None),
            ("from a client's port", Packet { from: client_port, ..syn }.bytes(), None),
        ],
    );
    let director = Director::new([(WEB_UDP, rr([1]))]);
    assert_rows(&director, [("without checks through the VIP", udp.bytes(), None)]);
}

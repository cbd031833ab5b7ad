use std::collections::BTreeSet;

use smoltcp::socket::tcp::Socket;
use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

use super::super::test_server::{OWN, OWN_V4, ROUTE, ROUTE6, Server, VIP, VIP_V4, VIP6, answer};
use super::*;

/// A stack and its clock. The test delivers the frames.
pub(crate) struct Bed {
    pub stack: Stack,
    pub now: Instant,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self { stack: Stack::default(), now: Instant::now() }
    }

    pub(crate) fn open(&mut self) -> Key {
        self.stack.open(VIP, Protocol::Tcp, ROUTE, 7, self.now).expect("a port")
    }

    fn state(&mut self, key: Key) -> State {
        self.tcp(key, |socket| socket.state())
    }

    pub(crate) fn tcp<T>(&mut self, key: Key, act: impl FnOnce(&mut Socket<'static>) -> T) -> T {
        let done = self.stack.with(key, self.now, |host| act(host.tcp().expect("a TCP flow")));
        done.expect("a flow that is there")
    }

    /// Exchanges frames until both sides are idle.
    fn talk(&mut self, server: &mut Server) {
        loop {
            let frames = self.stack.take_outgoing();
            let answers = server.poll(&frames, self.now);
            if frames.is_empty() && answers.is_empty() {
                return;
            }
            answers.iter().for_each(|frame| self.stack.receive(frame, self.now));
        }
    }

    /// Advances the clock to each deadline of the stack. Returns how often it sent frames, and
    /// when.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<(Duration, Vec<Frame>)> {
        let (begin, end) = (self.now, self.now + time);
        let mut sent = Vec::new();
        while let Some(next) = self.stack.next_timeout().filter(|next| *next <= end) {
            assert!(next > self.now, "it asks for a turn that it has just had");
            self.now = next;
            self.stack.expire(self.now);
            sent.push((self.now - begin, self.stack.take_outgoing()));
        }
        self.now = end;
        sent.retain(|(_, frames)| !frames.is_empty());
        sent
    }

    pub(crate) fn assert_idle(&self) {
        assert_eq!((self.stack.flows(), self.stack.next_timeout()), (0, None));
    }
}

fn tcp_of(frame: &Frame) -> TcpPacket<&[u8]> {
    TcpPacket::new_checked(&frame[34..]).expect("a TCP segment")
}

#[test]
fn a_connection_from_syn_to_fin_leaves_nothing_behind() {
    let mut bed = Bed::new();
    let mut server = Server::listening(bed.now);
    let key = bed.open();
    bed.talk(&mut server);
    assert_eq!(bed.state(key), State::Established);
    bed.tcp(key, |socket| socket.send_slice(b"question").expect("room"));
    bed.talk(&mut server);
    let received = server.0.tcp().expect("its socket").recv(|bytes| (bytes.len(), bytes.to_vec()));
    assert_eq!(received.expect("a connection"), b"question");
    server.0.tcp().expect("its socket").send_slice(b"answer").expect("room");
    bed.talk(&mut server);
    let mut buffer = [0; 16];
    assert_eq!(bed.tcp(key, |socket| socket.recv_slice(&mut buffer)), Ok(6));

    bed.stack.close(key, bed.now);
    bed.talk(&mut server);
    assert_eq!(server.0.tcp().expect("its socket").state(), State::CloseWait, "an orderly end, no reset");
    server.0.tcp().expect("its socket").close();
    bed.talk(&mut server);
    assert_eq!(server.0.tcp().expect("its socket").state(), State::Closed);
    bed.assert_idle();
}

#[test]
fn probes_are_addressed_and_limited_as_the_program_expects() {
    let mut bed = Bed::new();
    let tcp = bed.open();
    let udp = bed.stack.open(VIP, Protocol::Udp, ROUTE, 7, bed.now).expect("a port");
    let sent = bed.stack.with(udp, bed.now, |host| host.udp().expect("UDP").send_slice(b"ask", VIP));
    sent.expect("a flow").expect("room");
    let frames = bed.stack.take_outgoing();
    assert_eq!(frames.len(), 2);
    for (frame, key) in frames.iter().zip([tcp, udp]) {
        let ip = Ipv4Packet::new_checked(&frame[14..]).expect("an IPv4 packet");
        assert!(ip.verify_checksum());
        assert_eq!((ip.src_addr(), ip.dst_addr()), (OWN_V4, VIP_V4));
        assert_eq!(ip.hop_limit(), lb_common::program::probe::TTL);
        assert!(Ports::OWN.contain(key.port.to_be()), "{key:?}");
    }
    let (from, to) = (OWN.into(), VIP.ip().into());
    assert!(tcp_of(&frames[0]).verify_checksum(&from, &to));
    assert!(UdpPacket::new_checked(&frames[1][34..]).expect("UDP").verify_checksum(&from, &to));
}

#[test]
fn probes_of_ipv6_are_addressed_and_limited_as_the_program_expects() {
    let mut bed = Bed::new();
    let key = bed.stack.open(VIP6, Protocol::Tcp, ROUTE6, 7, bed.now).expect("a port");
    let frames = bed.stack.take_outgoing();
    let [frame] = &frames[..] else { panic!("one SYN, not {}", frames.len()) };
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    let ip = Ipv6Packet::new_checked(&frame[14..]).expect("an IPv6 packet");
    assert_eq!((IpAddr::V6(ip.src_addr()), IpAddr::V6(ip.dst_addr())), (ROUTE6.own, VIP6.ip()));
    assert_eq!(ip.hop_limit(), lb_common::program::probe::TTL);
    let segment = TcpPacket::new_checked(ip.payload()).expect("TCP");
    assert!(segment.syn() && segment.verify_checksum(&ROUTE6.own.into(), &VIP6.ip().into()));
    assert_eq!(segment.src_port(), key.port);
}

#[test]
fn connections_of_ipv6_open_carry_bytes_and_close() {
    let mut bed = Bed::new();
    let key = bed.stack.open(VIP6, Protocol::Tcp, ROUTE6, 7, bed.now).expect("a port");
    let mut server = Server(Host::listening(VIP6, bed.now));
    bed.talk(&mut server);
    assert_eq!(bed.state(key), State::Established);
    server.0.tcp().expect("its socket").send_slice(b"answer").expect("room");
    server.0.tcp().expect("its socket").close();
    bed.talk(&mut server);
    let mut buffer = [0; 16];
    assert_eq!(bed.tcp(key, |socket| socket.recv_slice(&mut buffer)), Ok(6));
    assert_eq!(buffer[..6], *b"answer");
    bed.stack.close(key, bed.now);
    bed.talk(&mut server);
    bed.pass(LINGER);
    bed.assert_idle();
}

#[test]
fn a_server_that_does_not_listen_refuses() {
    let mut bed = Bed::new();
    let key = bed.open();
    bed.talk(&mut Server::deaf(bed.now));
    assert_eq!(bed.state(key), State::Closed);
    bed.stack.close(key, bed.now);
    bed.talk(&mut Server::deaf(bed.now));
    bed.assert_idle();
}

#[test]
fn a_syn_without_an_answer_is_repeated_about_every_second() {
    let mut bed = Bed::new();
    let key = bed.open();
    bed.stack.take_outgoing();
    let repeated = bed.pass(Duration::from_secs(10));
    let times: Vec<Duration> = repeated.iter().map(|(at, _)| *at).collect();
    assert!((5..=15).contains(&times.len()), "{times:?}");
    assert!(repeated.iter().all(|(_, frames)| frames.len() == 1 && tcp_of(&frames[0]).syn()));
    bed.stack.close(key, bed.now);
    bed.assert_idle();
}

/// The server may have received the SYN and be slow; it must not keep a half-open connection.
#[test]
fn a_syn_that_is_given_up_is_reset() {
    let mut bed = Bed::new();
    let key = bed.open();
    let syn = tcp_of(&bed.stack.take_outgoing()[0]).seq_number();
    bed.stack.close(key, bed.now);
    let frames = bed.stack.take_outgoing();
    assert!(tcp_of(&frames[0]).rst());
    assert_eq!(tcp_of(&frames[0]).seq_number(), syn + 1);
}

#[test]
fn a_connection_whose_end_is_not_answered_is_reset() {
    let mut bed = Bed::new();
    let mut server = Server::listening(bed.now);
    let key = bed.open();
    bed.talk(&mut server);
    bed.stack.close(key, bed.now);
    let sent = bed.pass(LINGER * 2);
    let (at, last) = sent.last().expect("at least a reset");
    assert!(tcp_of(&last[0]).rst() && *at == LINGER, "{at:?}");
    bed.assert_idle();
}

/// Otherwise the flow would last for ever, with the server's window probes.
#[test]
fn a_server_that_goes_on_talking_to_nobody_is_reset_at_once() {
    let mut bed = Bed::new();
    let mut server = Server::listening(bed.now);
    let key = bed.open();
    bed.talk(&mut server);
    bed.stack.close(key, bed.now);
    bed.talk(&mut server);
    server.0.tcp().expect("its socket").send_slice(&[0; 9000]).expect("room");
    bed.talk(&mut server);
    assert_eq!(server.0.tcp().expect("its socket").state(), State::Closed);
    bed.assert_idle();
}

#[test]
fn ports_are_used_in_turn_and_never_twice_at_a_time() {
    let mut bed = Bed::new();
    let count = Ports::OWN.count as usize;
    let all: Vec<Key> = (0..count).map(|_| bed.open()).collect();
    let ports: BTreeSet<u16> = all.iter().map(|key| key.port).collect();
    assert_eq!(ports.len(), count);
    assert_eq!(bed.stack.open(VIP, Protocol::Tcp, ROUTE, 7, bed.now), None, "all are in use");
    let elsewhere = SocketAddr::new(VIP.ip(), 81);
    assert!(bed.stack.open(elsewhere, Protocol::Tcp, ROUTE, 7, bed.now).is_some(), "towards this end");
    bed.stack.close(all[17], bed.now);
    assert_eq!(bed.open().port, all[17].port);
    for key in &all {
        bed.stack.close(*key, bed.now);
    }
    assert_eq!(bed.open().port, all[18].port, "the one after the last");
}

#[test]
fn a_frame_of_no_flow_is_reset_if_it_is_tcp() {
    let mut bed = Bed::new();
    let mut server = Server::listening(bed.now);
    let key = bed.open();
    bed.talk(&mut server);
    server.0.tcp().expect("its socket").send_slice(b"late").expect("room");
    let late = server.poll(&[], bed.now);
    let mut restarted = Bed::new();
    restarted.stack.receive(&late[0], bed.now);
    restarted.talk(&mut server);
    assert_eq!(server.0.tcp().expect("its socket").state(), State::Closed);
    restarted.assert_idle();

    bed.stack.close(key, bed.now);
    let fin = bed.stack.take_outgoing();
    let to_itself = answer(&fin[0][14..]);
    restarted.stack.receive(&to_itself[..40], bed.now);
    assert_eq!(restarted.stack.take_outgoing(), Vec::<Frame>::new(), "a frame that is cut short");
}

/// smoltcp asserts that a host's address is unicast; a frame may say anything.
#[test]
fn a2_frames_that_no_host_sends_or_gets_are_dropped() {
    let mut bed = Bed::new();
    let mut server = Server::listening(bed.now);
    bed.open();
    bed.talk(&mut server);
    server.0.tcp().expect("its socket").send_slice(b"late").expect("room");
    let late = server.poll(&[], bed.now).remove(0);
    // A connection of another host, which would be reset.
    let answers_to = |from: [u8; 4], to: [u8; 4], ports: [u16; 2]| {
        let mut frame = late.clone();
        frame[26..30].copy_from_slice(&from);
        frame[30..34].copy_from_slice(&to);
        frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
        frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
        Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        let mut stack = Stack::default();
        stack.receive(&frame, bed.now);
        stack.take_outgoing().len()
    };
    let (vip, own) = (VIP_V4.octets(), OWN_V4.octets());
    assert_eq!(answers_to(vip, own, [80, 61_000]), 1, "a reset");
    for no_host in [[235, 58, 250, 5], [224, 0, 0, 1], [255; 4], [0; 4]] {
        assert_eq!(answers_to(vip, no_host, [80, 61_000]), 0, "to {no_host:?}");
        assert_eq!(answers_to(no_host, own, [80, 61_000]), 0, "from {no_host:?}");
    }
    assert_eq!(answers_to(vip, own, [0, 61_000]), 0, "from port 0");
    assert_eq!(answers_to(vip, own, [80, 0]), 0, "to port 0");
    assert_eq!(answers_to(own, own, [80, 61_000]), 0, "from and to the same host");
}

#[test]
fn datagrams_go_both_ways() {
    let mut bed = Bed::new();
    let key = bed.stack.open(VIP, Protocol::Udp, ROUTE, 7, bed.now).expect("a port");
    let own = SocketAddr::new(OWN, key.port);
    let mut server = Server(Host::datagrams(Ends { own: VIP, remote: own }, 1, bed.now));
    let sent = bed.stack.with(key, bed.now, |host| host.udp().expect("UDP").send_slice(b"ask", VIP));
    sent.expect("a flow").expect("room");
    bed.talk(&mut server);
    let socket = server.0.udp().expect("its socket");
    assert_eq!(socket.recv().expect("a datagram").0, b"ask");
    socket.send_slice(b"answer", own).expect("room");
    bed.talk(&mut server);
    let received =
        bed.stack.with(key, bed.now, |host| host.udp().expect("UDP").recv().map(|(bytes, _)| bytes.to_vec()));
    assert_eq!(received, Some(Ok(b"answer".to_vec())));
    bed.stack.close(key, bed.now);
    bed.assert_idle();
}

/// Each flow has its own deadline; polling it does not affect other flows.
#[test]
fn a_thousand_silent_servers_cost_a_turn_each() {
    let mut bed = Bed::new();
    let keys: Vec<Key> = (0..1000).map(|_| bed.open()).collect();
    bed.stack.take_outgoing();
    let repeated = bed.pass(Duration::from_secs(1));
    assert_eq!(repeated.iter().map(|(_, frames)| frames.len()).sum::<usize>(), 1000, "each SYN once more");
    keys.iter().for_each(|key| bed.stack.close(*key, bed.now));
    bed.assert_idle();
}

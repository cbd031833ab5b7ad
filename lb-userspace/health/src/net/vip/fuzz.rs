//! Fuzz target for answers through a VIP: good frames, damaged ones, and segments forged with or
//! without knowledge of the connection.

use std::time::Duration;

use lb_fuzz::bytes::{self, Edit};
use lb_model::Protocol;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use smoltcp::wire::{Ipv4Packet, TcpPacket};

use super::stack::tests::Bed;
use super::stack::{Frame, Key, LINGER};
use super::test_server::{OWN_V4, Server, VIP, VIP_V4, answer};

/// An event for a TCP connection and a UDP socket.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Frames are exchanged until both sides are idle.
    Talk,
    /// The server's frames arrive damaged, and too late to be answered.
    Damaged(Vec<Edit>),
    Forged(Segment),
    Datagram(Vec<u8>),
    Frame(Vec<u8>),
    ServerSays(usize),
    ServerCloses,
    WeSay(usize),
    WeRead(usize),
    WeClose,
    Pass(u64),
}

/// A segment with numbers relative to the connection's state.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    length: usize,
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = || prop_oneof![4 => 0..40_usize, 2 => 1000..3000_usize, 1 => 3000..20_000_usize];
    let step = prop_oneof![
        6 => Just(Step::Talk),
        3 => bytes::edits(4).prop_map(Step::Damaged),
        6 => segments().prop_map(Step::Forged),
        2 => vec(any::<u8>(), 0..60).prop_map(Step::Datagram),
        1 => vec(any::<u8>(), 0..100).prop_map(Step::Frame),
        3 => size().prop_map(Step::ServerSays),
        1 => Just(Step::ServerCloses),
        3 => size().prop_map(Step::WeSay),
        3 => size().prop_map(Step::WeRead),
        1 => Just(Step::WeClose),
        2 => (0..5000_u64).prop_map(Step::Pass),
    ];
    vec(step, 0..30)
}

fn segments() -> impl Strategy<Value = Segment> {
    let number = || {
        let near = select(&[0, 1, 2, 20, 1447, 1448, 2895, 2896, 2897, 0x7fff_ffff, 0x8000_0000_u32][..]);
        prop_oneof![
            6 => Just(0),
            4 => near.clone(),
            4 => near.prop_map(u32::wrapping_neg),
            1 => any::<u32>(),
        ]
    };
    let option = prop_oneof![
        Just(vec![0]),
        Just(vec![1]),
        any::<u16>().prop_map(|size| [&[2, 4], &size.to_be_bytes()[..]].concat()),
        any::<u8>().prop_map(|scale| vec![3, 3, scale]),
        Just(vec![4, 2]),
        vec(any::<u8>(), 8).prop_map(|blocks| [&[5, 10], &blocks[..]].concat()),
        vec(any::<u8>(), 8).prop_map(|times| [&[8, 10], &times[..]].concat()),
        vec(any::<u8>(), 0..6),
    ];
    let flags = prop_oneof![6 => Just(0x10), 2 => select(&[0x12, 0x18, 0x11, 0x14, 0x04, 0x02][..]), 1 => any::<u8>()];
    let window = prop_oneof![Just(0), Just(1), Just(u16::MAX), any::<u16>()];
    let length = prop_oneof![4 => Just(0), 2 => 1..20_usize, 1 => 1000..3000_usize];
    (number(), number(), flags, window, vec(option, 0..4), length).prop_map(
        |(sequence, acknowledged, flags, window, options, length)| {
            let mut options = options.concat();
            options.truncate(40);
            options.resize(options.len().next_multiple_of(4), 0);
            Segment { sequence, acknowledged, flags, window, options, length }
        },
    )
}

/// The last segment that we sent, with the connection's sequence numbers.
#[derive(Default, Clone, Copy)]
struct Stand {
    next: u32,
    expected: u32,
}

impl Stand {
    fn see(&mut self, frames: &[Frame], port: u16) {
        for frame in frames {
            let Ok(segment) = TcpPacket::new_checked(&frame[34..]) else { continue };
            if frame[23] == 6 && segment.src_port() == port {
                self.next = (segment.seq_number().0 as u32).wrapping_add(segment.segment_len() as u32);
                self.expected = segment.ack_number().0 as u32;
            }
        }
    }
}

impl Segment {
    fn to(&self, port: u16, stand: Stand) -> Frame {
        let header = 20 + self.options.len();
        let mut packet = ip(6, header + self.length);
        packet.extend(VIP.port().to_be_bytes());
        packet.extend(port.to_be_bytes());
        packet.extend(stand.expected.wrapping_add(self.sequence).to_be_bytes());
        packet.extend(stand.next.wrapping_add(self.acknowledged).to_be_bytes());
        packet.extend([(header as u8 / 4) << 4, self.flags]);
        packet.extend(self.window.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(&self.options);
        packet.resize(20 + header + self.length, b'x');
        answer(&packet)
    }
}

/// An IPv4 header with its checksum, for a payload of this length.
fn ip(protocol: u8, length: usize) -> Vec<u8> {
    let length = u16::try_from(20 + length).expect("a short packet").to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 1, 0x40, 0, 64, protocol, 0, 0];
    header.extend(VIP_V4.octets());
    header.extend(OWN_V4.octets());
    Ipv4Packet::new_unchecked(&mut header[..]).fill_checksum();
    header
}

fn datagram(port: u16, content: &[u8]) -> Frame {
    let length = u16::try_from(8 + content.len()).expect("a short datagram").to_be_bytes();
    let mut packet = ip(17, 8 + content.len());
    packet.extend(VIP.port().to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(length);
    packet.extend([0, 0]);
    packet.extend(content);
    answer(&packet)
}

struct Play {
    bed: Bed,
    server: Server,
    tcp: Key,
    udp: Key,
    stand: Stand,
    closed: bool,
}

impl Play {
    fn begin() -> Self {
        let mut bed = Bed::new();
        let server = Server::listening(bed.now);
        let tcp = bed.open();
        let udp = bed.stack.open(VIP, Protocol::Udp, super::test_server::ROUTE, 7, bed.now).expect("a port");
        Self { bed, server, tcp, udp, stand: Stand::default(), closed: false }
    }

    fn sent(&mut self) -> Vec<Frame> {
        let frames = self.bed.stack.take_outgoing();
        self.stand.see(&frames, self.tcp.port);
        frames
    }

    fn receive(&mut self, frame: &[u8]) {
        self.bed.stack.receive(frame, self.bed.now);
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Talk => self.talk(),
            Step::Damaged(edits) => {
                let frames = self.sent();
                for mut frame in self.server.poll(&frames, self.bed.now) {
                    bytes::apply(edits, &mut frame);
                    self.receive(&frame);
                }
            }
            Step::Forged(segment) => {
                self.sent();
                self.receive(&segment.to(self.tcp.port, self.stand));
            }
            Step::Datagram(content) => self.receive(&datagram(self.udp.port, content)),
            Step::Frame(frame) => self.receive(frame),
            Step::ServerSays(size) => {
                let _ = self.server.0.tcp().expect("its socket").send_slice(&vec![b's'; *size]);
            }
            Step::ServerCloses => self.server.0.tcp().expect("its socket").close(),
            Step::WeSay(size) if !self.closed => {
                let _ = self.bed.tcp(self.tcp, |socket| socket.send_slice(&vec![b'w'; *size]));
            }
            Step::WeRead(size) if !self.closed => {
                let _ = self.bed.tcp(self.tcp, |socket| socket.recv_slice(&mut vec![0; *size]));
                let read = self.bed.stack.with(self.udp, self.bed.now, |host| {
                    host.udp().expect("UDP").recv().map(|(bytes, _)| bytes.len())
                });
                let _ = read.expect("a flow that is there");
            }
            Step::WeClose => {
                self.closed = true;
                self.bed.stack.close(self.tcp, self.bed.now);
            }
            Step::Pass(millis) => {
                let sent = self.bed.pass(Duration::from_millis(*millis));
                sent.iter().for_each(|(_, frames)| self.stand.see(frames, self.tcp.port));
            }
            Step::WeSay(_) | Step::WeRead(_) => {}
        }
    }

    /// Exchanges frames for a limited time: after forged segments the two sides may disagree for
    /// ever.
    fn talk(&mut self) {
        for _ in 0..50 {
            let frames = self.sent();
            let answers = self.server.poll(&frames, self.bed.now);
            if frames.is_empty() && answers.is_empty() {
                return;
            }
            answers.iter().for_each(|frame| self.receive(frame));
        }
    }
}

/// Nothing panics, deadlines lie in the future, and in the end no flow is left.
pub(crate) fn property(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut play = Play::begin();
    for step in steps {
        play.take(step);
        prop_assert!(play.sent().len() < 1000, "a flood");
    }
    let Play { mut bed, tcp, udp, .. } = play;
    bed.stack.close(tcp, bed.now);
    bed.stack.close(udp, bed.now);
    bed.pass(LINGER);
    bed.assert_idle();
    Ok(())
}

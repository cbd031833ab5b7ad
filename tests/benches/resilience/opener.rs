//! Connections that begin at a rate: their packets go through the active director's own program and
//! maps (BPF_PROG_TEST_RUN). Each sends a SYN, an ACK and data.

use std::net::{IpAddr, SocketAddrV4};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::addr::V4;
use lb_common::packet::frame::Flow;
use lb_lab::scenario::several::Several;
use lb_tests::harness::{Client, Packet};
use lb_tests::pinned::Pinned;

/// Clients of 12.0.0.0/8.
const FIRST_CLIENT: u32 = 12 << 24;
/// Where Ethernet's header ends and the IP header has the source address.
const SOURCE: usize = 14 + 12;
const XDP_TX: u32 = 3;

pub(crate) struct Opener<'a> {
    program: Xdp,
    here: &'a Pinned,
    /// The frames of one connection, whose source address is filled in.
    frames: [Vec<u8>; 3],
}

impl<'a> Opener<'a> {
    /// `here`: what is pinned on ha1.
    pub(crate) fn new(several: &Several, here: &'a Pinned) -> Result<Self> {
        let known = here.tcp_servers().next().context("no server")?;
        let IpAddr::V4(vip) = known.service.vip else { bail!("the service is one of IPv6") };
        let destination = several.talk.ha1.mac().parse().context("the director's MAC")?;
        let client = Client::new([0, 0, 0, 0].into(), 40_000);
        let to = SocketAddrV4::new(vip, known.service.port);
        let data = Packet { payload: 32, ..Packet::ack(client) };
        let frame = |packet: Packet| Packet { destination, to, ..packet }.bytes();
        let frames = [Packet::syn(client), Packet::ack(client), data].map(frame);
        Ok(Self { program: here.program()?, here, frames })
    }

    /// Opens `count` connections, so many a second; `sample` gets one of every so many at once.
    /// Returns all of them, and how long that took.
    pub(crate) fn open_many(
        mut self,
        rate: u32,
        count: u32,
        every: u32,
        mut sample: impl FnMut(Flow<V4>) -> Result<()>,
    ) -> Result<(Vec<Flow<V4>>, Duration)> {
        let begun = Instant::now();
        let mut flows = Vec::with_capacity(count as usize);
        while (flows.len() as u32) < count {
            let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u32;
            while (flows.len() as u32) < due.min(count) {
                let flow = self.open(flows.len() as u32)?;
                if (flows.len() as u32).is_multiple_of(every) {
                    sample(flow)?;
                }
                flows.push(flow);
            }
            sleep(Duration::from_micros(500));
        }
        Ok((flows, begun.elapsed()))
    }

    fn open(&mut self, number: u32) -> Result<Flow<V4>> {
        let client = V4((FIRST_CLIENT + number).to_be());
        for frame in &mut self.frames {
            frame[SOURCE..SOURCE + 4].copy_from_slice(&client.octets());
            let options = TestRunOptions { data_in: Some(frame), repeat: 1, ..TestRunOptions::default() };
            let verdict = self.program.test_run(options)?.return_value;
            ensure!(verdict == XDP_TX, "connection {number} got the verdict {verdict}");
        }
        let known = self.here.tcp_servers().next().context("no server")?;
        Pinned::flow(known, client).context("an IPv4 service")
    }
}

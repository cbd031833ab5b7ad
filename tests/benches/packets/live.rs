//! Packets per second through a whole director: live frames over a veth pair with native XDP on
//! both ends.
//!
//! Sender, director and the counting of what comes back share one core, so a packet pays for all of
//! them.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::programs::xdp::XdpLink;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode, links::FdLink};
use lb_datapath::mapped::Mapped;
use lb_lab::lab::shell;
use lb_lab::statistics::median;
use lb_model::Scheduler;
use nix::net::if_::if_nametoindex;

use crate::bed::{Bed, Order, port};
use crate::cases;
use crate::frames::Packet;
use crate::report::Live;

const SENDER: &str = "sender";
const DIRECTOR: &str = "director";
/// Established connections whose packets are sent.
const FLOWS: u64 = 1 << 10;
/// Frames handed over at a time; the ring of a veth end holds 256.
const BATCH: u32 = 64;
/// Lengths of the two runs whose difference counts: one run has about 20 ms of fixed cost.
const SHORT: u64 = 1 << 16;
const LONG: u64 = 1 << 20;
const XDP_TX: u32 = 3;

/// Measures the swap floor and the director in turns.
pub(crate) fn measure(bed: &mut Bed, rounds: u32) -> Result<Vec<Live>> {
    eprintln!("live");
    connect()?;
    let returned = bed.data_path.ebpf.take_map("RETURNED").context("the object holds no map RETURNED")?;
    let returned: Mapped<[u64; 2]> = Mapped::new("RETURNED", returned)?;
    program(bed, "live_count")?.attach(SENDER, XdpMode::Driver).context("native XDP on the sender's end")?;
    let swap = program(bed, "floor_swap")?;
    let id = swap.attach(DIRECTOR, XdpMode::Driver).context("native XDP on the director's end")?;
    let mut link: XdpLink = swap.take_link(id)?;
    establish(bed)?;

    let names = [("live-swap", "floor_swap"), ("live-director", "director_live")];
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for ((name, entry), rates) in names.iter().zip(&mut rates) {
            let next = program(bed, entry)?;
            // The link is updated in place: neither end of the pair stops.
            let id = next.attach_to_link(link)?;
            rates.push(rate(bed, &returned).with_context(|| (*name).to_owned())?);
            link = program(bed, entry)?.take_link(id)?;
        }
    }
    // Until here the attached program stays; the pair goes with the namespace.
    let _attached: FdLink = link.try_into()?;
    Ok(names
        .iter()
        .zip(rates)
        .map(|((name, _), rates)| Live { name: (*name).to_owned(), pps: median(rates) })
        .collect())
}

fn program<'a>(bed: &'a mut Bed, name: &str) -> Result<&'a mut Xdp> {
    let program = bed.data_path.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

/// The veth pair, in this process's own namespace.
fn connect() -> Result<()> {
    for arguments in [
        format!("link add {SENDER} type veth peer name {DIRECTOR}"),
        format!("link set {SENDER} up"),
        format!("link set {DIRECTOR} up"),
    ] {
        shell::run(Command::new("ip").args(arguments.split(' ')))?;
    }
    Ok(())
}

fn establish(bed: &mut Bed) -> Result<()> {
    bed.clear();
    bed.fresh_clients(FLOWS);
    cases::connect(bed, FLOWS, &Packet::ack(port(Scheduler::Rr, 16))).map(drop)
}

/// Packets per second that came back from the director's end.
fn rate(bed: &mut Bed, returned: &Mapped<[u64; 2]>) -> Result<f64> {
    let short = send(bed, returned, SHORT)?;
    let long = send(bed, returned, LONG)?;
    Ok((long.back - short.back) as f64 / (long.seconds - short.seconds))
}

/// One run of the sender.
struct Run {
    seconds: f64,
    /// Packets that came back from the director.
    back: u64,
}

/// Sends so many packets to the director. Those that are lost, because another process had the core
/// and a ring ran full, do not count; most must come back, and what the director did not make must
/// be next to nothing.
fn send(bed: &mut Bed, returned: &Mapped<[u64; 2]>, packets: u64) -> Result<Run> {
    let packet = Packet::ack(port(Scheduler::Rr, 16));
    bed.start_walk(&packet, FLOWS, Order::Shuffled, XDP_TX);
    returned.write(0, [0; 2]);
    let context = context(packet.bytes().len(), if_nametoindex(SENDER)?);
    let begun = Instant::now();
    program(bed, "live_send")?.test_run(TestRunOptions {
        data_in: Some(packet.bytes()),
        ctx_in: Some(&context),
        repeat: packets as u32,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::default()
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let [right, wrong] = returned.read(0);
    // The kernel says a few words of its own on a new link (IPv6 neighbour discovery).
    ensure!(
        wrong <= packets / 10_000 && right >= packets / 2,
        "{right} of {packets} came back, and {wrong} that the director did not make"
    );
    Ok(Run { seconds, back: right })
}

/// `struct xdp_md` of linux/bpf.h: data, data_end, data_meta, ingress_ifindex, rx_queue_index,
/// egress_ifindex.
fn context(length: usize, interface: u32) -> Vec<u8> {
    [0, length as u32, 0, interface, 0, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
}

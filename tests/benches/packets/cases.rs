//! What is timed: every case once per round, floors among them, so that a drift of the machine
//! meets them all alike.

use anyhow::{Context as _, Result, ensure};
use lb_model::Scheduler;

use crate::Options;
use crate::bed::{Bed, MILLION, Order, PICK_SERVERS, Run, SERVERS, is_timed, port};
use crate::frames::Packet;
use crate::methods::{self, Given};
use crate::report::Times;

const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;

/// Numbers of connections that known ones are timed at.
pub(crate) const FLOWS: [u64; 5] = [1, 1 << 10, 1 << 14, 1 << 17, MILLION];
/// Packets of one timed run at the least: 20 ms at the cheapest.
pub(crate) const PACKETS: u64 = 1 << 20;
/// `new-…` cases that no goal looks at are timed in so many rounds.
const ROUNDS_WITHOUT_GOAL: u32 = 3;
const WITH_GOAL: [&str; 6] =
    ["new-rr-16", "new-rr-256", "new-lc-256", "new-wlc-256", "new-rr-4096", "new-wlc-4096"];
/// Connections of each CPU where two share the work.
const FLOWS_OF_EACH: u64 = 1 << 14;
/// Connections offered to fill the table: four for every two slots, each with sixteen candidates,
/// leave hardly one empty.
const FLOOD: u64 = 4 * MILLION;

/// Times every wanted case once.
pub(crate) fn round(bed: &mut Bed, options: &Options, round: u32, times: &mut Times) -> Result<()> {
    plain(bed, options, times)?;
    for flows in FLOWS {
        let wanted = |name: &&str| options.wants(name);
        if flows != 1 && flows != MILLION && !["known-tcp", "known-udp"].iter().any(wanted) {
            continue;
        }
        // What is shown beside each other is timed one right after the other.
        floor_lru(bed, flows, times)?;
        for (name, packet) in
            [("known-tcp", Packet::ack(known_port())), ("known-udp", Packet::udp(known_port()))]
        {
            if options.wants(name) {
                let ns =
                    known(bed, flows, &packet, known_port()).with_context(|| format!("{name} at {flows}"))?;
                times.add(name, flows, ns);
            }
        }
        if flows == 1 || flows == MILLION {
            methods::round(bed, options, flows, times)?;
        }
        plain(bed, options, times)?;
    }
    methods::picks(bed, options, times)?;
    if options.wants("known-tcp-2cpu") {
        known_on_two(bed, times)?;
    }
    new(bed, options, round, times)
}

/// Packets of established connections on two CPUs.
fn known_on_two(bed: &mut Bed, times: &mut Times) -> Result<()> {
    let packet = Packet::ack(known_port());
    bed.clear();
    bed.fresh_clients(2 * FLOWS_OF_EACH);
    connect(bed, 2 * FLOWS_OF_EACH, &packet)?;
    let of_each = Run {
        program: "director_walk",
        packet: &packet,
        flows: FLOWS_OF_EACH,
        order: Order::Shuffled,
        packets: 4 * PACKETS,
        expected: XDP_TX,
        given: Given::NONE,
    };
    let alone = bed.time(&of_each)?;
    two(bed, "known-tcp-2cpu", &of_each, alone, times)?;
    bed.fresh_clients(2 * FLOWS_OF_EACH);
    Ok(())
}

fn known_port() -> u16 {
    port(Scheduler::Rr, 16)
}

/// Programs without a table, and packets that are not ours.
fn plain(bed: &mut Bed, options: &Options, times: &mut Times) -> Result<()> {
    let (ack, not_ours) = (Packet::ack(known_port()), Packet::not_ours());
    let one = |program, packet, expected| Run {
        program,
        packet,
        flows: 1,
        order: Order::Rising,
        packets: PACKETS,
        expected,
        given: Given::NONE,
    };
    times.add("floor-pass", 1, bed.time(&one("floor_pass", &ack, XDP_PASS))?);
    times.add("floor-swap", 1, bed.time(&one("floor_swap", &ack, XDP_TX))?);
    if options.wants("not-ours") {
        // The production entry keeps no account of verdicts, but the frame never changes; one entry
        // that does keeps it company, untimed.
        bed.time(&one("director_one", &not_ours, XDP_PASS))?;
        times.add("not-ours", 1, bed.time(&one("director_live", &not_ours, XDP_PASS))?);
    }
    Ok(())
}

fn floor_lru(bed: &mut Bed, flows: u64, times: &mut Times) -> Result<()> {
    bed.fresh_clients(flows);
    let packet = Packet::ack(known_port());
    let rising = |program| Run {
        program,
        packet: &packet,
        flows,
        order: Order::Rising,
        packets: flows,
        expected: XDP_TX,
        given: Given::NONE,
    };
    let inserted = bed.time(&rising("floor_lru_insert"))?;
    if flows == MILLION {
        times.add("floor-lru-insert", flows, inserted);
    }
    let met_again = Run { order: Order::Shuffled, packets: PACKETS.max(flows * 2), ..rising("floor_lru") };
    times.add("floor-lru", flows, bed.time(&met_again)?);
    bed.time(&rising("floor_lru_delete"))?;
    if flows == MILLION {
        for (name, program) in [("floor-line", "floor_line"), ("floor-line-insert", "floor_line_insert")] {
            times.add(name, flows, bed.time(&rising(program))?);
        }
    }
    Ok(())
}

/// Packets of established connections, in another order than that in which these were made.
fn known(bed: &mut Bed, flows: u64, packet: &Packet, port: u16) -> Result<f64> {
    bed.clear();
    bed.fresh_clients(flows);
    let program = if flows == 1 { "director_one" } else { "director_walk" };
    let met_again = Run {
        program,
        packet,
        flows,
        order: Order::Shuffled,
        packets: PACKETS.max(flows * 2),
        expected: XDP_TX,
        given: Given::NONE,
    };
    if flows == 1 {
        // This entry has a client of its own: the frame's.
        bed.time(&Run { packet: &Packet::syn(port), packets: 1, ..met_again })?;
    } else {
        connect(bed, flows, packet)?;
    }
    bed.time(&met_again)
}

/// Makes connections and establishes each.
pub(crate) fn connect(bed: &mut Bed, flows: u64, packet: &Packet) -> Result<f64> {
    let (program, order) = ("director_connect", Order::Rising);
    bed.time(&Run { program, packet, flows, order, packets: flows * 4, expected: XDP_TX, given: Given::NONE })
}

/// New connections, on an empty table and on one full of half-open ones.
fn new(bed: &mut Bed, options: &Options, round: u32, times: &mut Times) -> Result<()> {
    let cases: Vec<(String, u16)> = SERVERS
        .iter()
        .filter(|servers| **servers != PICK_SERVERS)
        .flat_map(|servers| Scheduler::ALL.map(|scheduler| (scheduler, *servers)))
        .filter(|(scheduler, servers)| is_timed(*scheduler, *servers))
        .map(|(scheduler, servers)| (format!("new-{}-{servers}", scheduler.name()), port(scheduler, servers)))
        .collect();
    let with_goal =
        |name: &str| WITH_GOAL.contains(&name.trim_end_matches("-2cpu").trim_end_matches("-full"));
    let due = |name: &str| options.wants(name) && (round < ROUNDS_WITHOUT_GOAL || with_goal(name));
    for (name, port) in &cases {
        if due(name) {
            bed.clear();
            times.add(name, MILLION, open(bed, *port)?);
        }
    }
    if due("new-rr-16-2cpu") {
        bed.clear();
        on_two(bed, "new-rr-16-2cpu", times)?;
    }
    // As many servers as a service may have, on a full table too, are no case.
    let full = cases.iter().filter(|(name, _)| !name.ends_with("4096"));
    let full: Vec<_> = full.map(|(name, port)| (format!("{name}-full"), *port)).collect();
    if full.iter().any(|(name, _)| due(name)) || due("new-rr-16-full-2cpu") {
        flood(bed)?;
    }
    for (name, port) in &full {
        if due(name) {
            times.add(name, MILLION, open(bed, *port)?);
        }
    }
    if due("new-rr-16-full-2cpu") {
        on_two(bed, "new-rr-16-full-2cpu", times)?;
    }
    if due("new-rr-16-full-established") {
        establish(bed)?;
        times.add("new-rr-16-full-established", MILLION, open(bed, known_port())?);
    }
    Ok(())
}

/// The same on two CPUs, half a million clients each, and their rate beside that of one CPU, timed
/// right before.
fn on_two(bed: &mut Bed, name: &'static str, times: &mut Times) -> Result<()> {
    let packet = Packet::syn(known_port());
    let half = Run {
        program: "director_walk",
        packet: &packet,
        flows: MILLION / 2,
        order: Order::Rising,
        packets: MILLION / 2,
        expected: XDP_TX,
        given: Given::NONE,
    };
    bed.fresh_clients(MILLION);
    let alone = bed.time(&half)?;
    if !name.contains("full") {
        bed.clear();
    }
    bed.fresh_clients(MILLION);
    two(bed, name, &half, alone, times)?;
    bed.fresh_clients(MILLION);
    Ok(())
}

/// Times a run on two CPUs, of which one alone took `alone`.
fn two(bed: &Bed, name: &'static str, run: &Run, alone: f64, times: &mut Times) -> Result<()> {
    if let Some(both) = bed.time_on_two(run)? {
        times.add(name, run.flows, both);
        times.add_speed_up(name, alone / both);
    }
    Ok(())
}

/// A million clients that were never there before connect.
fn open(bed: &mut Bed, port: u16) -> Result<f64> {
    offer(bed, MILLION, &Packet::syn(port))
}

/// Fills every slot with a half-open connection.
fn flood(bed: &mut Bed) -> Result<()> {
    bed.clear();
    offer(bed, FLOOD, &Packet::syn(known_port()))?;
    let table = &bed.data_path.table.v4;
    let used = table.entries().count() as u64;
    // A page that is nearly full looks for victims in first lines, and leaves one slot in a hundred
    // empty.
    ensure!(used >= table.slots() - table.slots() / 50, "the flood filled {used} of {} slots", table.slots());
    Ok(())
}

/// Fills the table with established connections. What finds no slot goes by the hash of its client.
fn establish(bed: &mut Bed) -> Result<()> {
    bed.clear();
    bed.fresh_clients(FLOOD);
    connect(bed, FLOOD, &Packet::ack(known_port())).map(drop)
}

pub(crate) fn offer(bed: &mut Bed, flows: u64, packet: &Packet) -> Result<f64> {
    bed.fresh_clients(flows);
    let order = Order::Rising;
    let (program, given) = ("director_walk", Given::NONE);
    bed.time(&Run { program, packet, flows, order, packets: flows, expected: XDP_TX, given })
}

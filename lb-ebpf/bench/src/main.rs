//! Programs that the benchmark times: the real one behind an entry that walks many clients, and
//! floors beside it.
//!
//! BPF_PROG_TEST_RUN hands the same buffer to each repeat, so the entries put a frame's MACs back
//! and write the next client's address and port into it before the code under test runs. All floors
//! but `floor_pass` and `floor_swap` pay for this too.
//!
//! Why those with the real program are inlined: see lb-ebpf/src/main.rs.
#![no_std]
#![no_main]

mod methods;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::btf_maps::{Array, LruHashMap, PerCpuArray};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{V4, V6};
use lb_common::packet::frame::Frame as _;
use lb_common::table::connection::tcp_flags;
use lb_ebpf::sys::packet::Packet;
use lb_ebpf::{capture, path};

/// What the benchmark tells the entries, and what they tell it.
#[repr(C, align(64))]
pub struct Walk {
    /// Number of the next client.
    pub next: u64,
    /// Number of clients minus one; a power of two minus one.
    pub mask: u64,
    /// Added to the client's number: other clients than those of an earlier run.
    pub base: u64,
    /// The action that every packet must get.
    pub expected: u64,
    /// Packets that got another one.
    pub wrong: u64,
    /// The MACs that each frame begins with: destination and first two bytes of the source, the
    /// rest of the source.
    pub macs: [u64; 2],
    /// From one client to the next; odd. Connections are made with 1 and met again with a large
    /// one, because traffic does not come in the order in which connections were made.
    pub stride: u64,
    /// What [`methods`] puts back besides.
    pub given: methods::Given,
}

/// BPF_F_MMAPABLE.
const SHARED: usize = 1 << 10;

/// One for each CPU that is timed at the same time.
#[btf_map]
pub static WALK: Array<Walk, 2, SHARED> = Array::new();

/// Lines as cold as those of the real table, and as many: 32 MiB.
#[btf_map]
pub static FLOOR_LINES: Array<Line, 524_288, SHARED> = Array::new();

#[repr(C, align(64))]
pub struct Line(pub [u64; 8]);

/// What the floors remember of a connection: as much as the real program's entry holds.
#[btf_map]
pub static FLOOR_CONNECTIONS: LruHashMap<[u64; 2], u64, 2_097_152> = LruHashMap::new();

/// MACs by server, for the floors.
#[btf_map]
pub static FLOOR_SERVERS: Array<[u64; 2], 256, 0> = Array::new();

/// Number of the walk that this CPU is on, for the programs that the entries call.
#[btf_map]
static ON_WALK: PerCpuArray<u32, 1> = PerCpuArray::new();

/// Offsets of a plain Ethernet and IPv4 frame without options.
const PROTOCOL: usize = 23;
const SOURCE_ADDRESS: usize = 26;
const SOURCE_PORT: usize = 34;
const TCP_FLAGS: usize = 47;

/// Multiplied with a client's number it spreads clients over the address space; odd, so that none
/// coincide.
const SPREAD: u32 = 0x9e37_79b1;

/// Puts the next client into the frame. `None`: the frame is too short, which is the benchmark's
/// mistake.
#[inline(always)]
fn next_client(packet: &Packet) -> Option<&'static mut Walk> {
    next_client_of(packet, 0)
}

/// The same in the walk of this number.
#[inline(always)]
fn next_client_of(packet: &Packet, number: u32) -> Option<&'static mut Walk> {
    let walk = walk(number)?;
    let client = (walk.next & walk.mask) + walk.base;
    walk.next = walk.next.wrapping_add(walk.stride);
    write_client(packet, walk, client)?;
    Some(walk)
}

/// The walk of this number, which this CPU is on from now on. The CPU of a second walk is never
/// that of the first one, which need not say so for each packet.
#[inline(always)]
fn walk(number: u32) -> Option<&'static mut Walk> {
    if number != 0 {
        // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
        unsafe { *ON_WALK.get_ptr_mut(0)? = number };
    }
    // SAFETY: each walk is run by one program on one CPU.
    WALK.get_ptr_mut(number).map(|walk| unsafe { &mut *walk })
}

#[inline(always)]
fn write_client(packet: &Packet, walk: &Walk, client: u64) -> Option<()> {
    write_macs(packet, &walk.macs)?;
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    unsafe {
        *packet.at::<u32>(SOURCE_ADDRESS)? = (client as u32).wrapping_mul(SPREAD);
        *packet.at::<u16>(SOURCE_PORT)? = (1024 + (client >> 32) as u16).to_be();
    }
    Some(())
}

#[inline(always)]
fn write_macs(packet: &Packet, words: &[u64; 2]) -> Option<()> {
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    unsafe {
        *packet.at::<u64>(0)? = words[0];
        *packet.at::<u32>(8)? = words[1] as u32;
    }
    Some(())
}

#[inline(always)]
fn verdict(walk: &mut Walk, action: u32) -> u32 {
    if u64::from(action) != walk.expected {
        walk.wrong += 1;
    }
    action
}

/// The product's program of this name, whose verdict is checked as the entries check theirs: they
/// do not come back from a tail call.
#[xdp(frags)]
fn lb_slow(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::slow::take(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_refuse(context: XdpContext) -> u32 {
    checked(capture::leave(&context, lb_ebpf::refuse::take::<V4>(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_refuse_ipv6(context: XdpContext) -> u32 {
    checked(capture::leave(&context, lb_ebpf::refuse::take::<V6>(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_slow_ipv6(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::slow::take_ipv6(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_host_ipv6(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::host::take_ipv6(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_egress(context: XdpContext) -> u32 {
    checked(capture::leave(&context, lb_ebpf::forward::egress::take(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_encapsulate(context: XdpContext) -> u32 {
    checked(capture::leave(&context, lb_ebpf::forward::tunnel::take(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_related(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::related::take::<V4>(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_related_ipv6(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::related::take::<V6>(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_hold(context: XdpContext) -> u32 {
    checked(path::hold::take(&context))
}

/// The same.
#[xdp(frags)]
fn lb_translate(context: XdpContext) -> u32 {
    checked(capture::leave(&context, lb_ebpf::forward::nat::take::<V4>(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_translate_ipv6(context: XdpContext) -> u32 {
    checked(capture::leave(&context, lb_ebpf::forward::nat::take::<V6>(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_translate_back(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::back::take::<V4>(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_translate_back_ipv6(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::back::take::<V6>(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_related_back(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::back::take_related::<V4>(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_related_back_ipv6(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::back::take_related::<V6>(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_known(context: XdpContext) -> u32 {
    checked(path::known::take::<V4>(&context))
}

/// The same.
#[xdp(frags)]
fn lb_known_ipv6(context: XdpContext) -> u32 {
    checked(path::known::take::<V6>(&context))
}

/// The same.
#[xdp(frags)]
fn lb_admit(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::admit::take(&context)))
}

/// The same.
#[xdp(frags)]
fn lb_admit_ipv6(context: XdpContext) -> u32 {
    checked(capture::leave(&context, path::admit::take_ipv6(&context)))
}

#[inline(always)]
fn checked(action: u32) -> u32 {
    let number = ON_WALK.get(0).copied().unwrap_or(0);
    // SAFETY: each walk is run by one program on one CPU.
    match WALK.get_ptr_mut(number).map(|walk| unsafe { &mut *walk }) {
        Some(walk) => verdict(walk, action),
        None => action,
    }
}

/// The real program behind the walk.
#[xdp(frags)]
#[inline(always)]
fn director_walk(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let Some(walk) = next_client(&packet) else { return XDP_DROP };
    verdict(walk, path::enter(&context))
}

/// The same on a second CPU.
#[xdp(frags)]
#[inline(always)]
fn director_walk_second(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let Some(walk) = next_client_of(&packet, 1) else { return XDP_DROP };
    verdict(walk, path::enter(&context))
}

/// The real program, four packets of each client in turn: a SYN, then ACKs, with data if the frame
/// has some. Thus no half-open or unproven connection waits long enough to be evicted by others,
/// and all of them can be met again.
#[xdp(frags)]
#[inline(always)]
fn director_connect(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let Some(walk) = walk(0) else { return XDP_DROP };
    let client = (walk.next >> 2 & walk.mask) + walk.base;
    let flags = if walk.next & 3 == 0 { tcp_flags::SYN } else { tcp_flags::ACK };
    walk.next += 1;
    let (Some(()), Some(byte)) = (write_client(&packet, walk, client), packet.at::<u8>(TCP_FLAGS)) else {
        return XDP_DROP;
    };
    // SAFETY: bounds checked by `at`. In a UDP datagram this is payload.
    unsafe { *byte = flags };
    verdict(walk, path::enter(&context))
}

/// The real program with one client: the frame gets its MACs back and no more, because the walk
/// costs 3 ns.
#[xdp(frags)]
#[inline(always)]
fn director_one(context: XdpContext) -> u32 {
    let Some(walk) = walk(0) else { return XDP_DROP };
    if write_macs(&Packet::new(&context), &walk.macs).is_none() {
        return XDP_DROP;
    }
    verdict(walk, path::enter(&context))
}

/// The real program and nothing else: the very entry that production has.
#[xdp(frags)]
#[inline(always)]
fn director_live(context: XdpContext) -> u32 {
    path::enter(&context)
}

/// The least there is.
#[xdp(frags)]
fn floor_pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

#[inline(always)]
fn swap(packet: &Packet) -> u32 {
    let (Some(low), Some(middle), Some(high)) =
        (packet.at::<u32>(0), packet.at::<[u16; 4]>(4), packet.at::<u32>(8))
    else {
        return XDP_DROP;
    };
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    unsafe {
        let destination = (*low, (*middle)[0]);
        let source = ((*middle)[1], *high);
        *low = u32::from(source.0) | source.1 << 16;
        (*middle)[0] = (source.1 >> 16) as u16;
        (*middle)[1] = destination.0 as u16;
        *high = destination.0 >> 16 | u32::from(destination.1) << 16;
    }
    XDP_TX
}

/// The least that a balancer in direct routing must do.
#[xdp(frags)]
fn floor_swap(context: XdpContext) -> u32 {
    swap(&Packet::new(&context))
}

/// Client, ports and protocol of the frame.
#[inline(always)]
fn floor_key(packet: &Packet) -> Option<[u64; 2]> {
    let [source, destination] = packet.read::<[u32; 2]>(SOURCE_ADDRESS)?;
    let (ports, protocol) = (packet.read::<u32>(SOURCE_PORT)?, packet.read::<u8>(PROTOCOL)?);
    Some([u64::from(source) << 32 | u64::from(destination), u64::from(ports) << 8 | u64::from(protocol)])
}

#[inline(always)]
fn rewrite(packet: &Packet, server: u64) -> Option<u32> {
    write_macs(packet, FLOOR_SERVERS.get(server as u32 & 255)?)?;
    Some(XDP_TX)
}

/// A kernel LRU hash as the connection table: one lookup and the MAC rewrite.
#[xdp(frags)]
fn floor_lru(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let Some(walk) = next_client(&packet) else { return XDP_DROP };
    let action = match floor_key(&packet) {
        // SAFETY: the value is a plain word that nobody else writes during the benchmark.
        Some(key) => match unsafe { FLOOR_CONNECTIONS.get(&key) } {
            Some(server) => rewrite(&packet, *server).unwrap_or(XDP_DROP),
            None => XDP_DROP,
        },
        None => XDP_DROP,
    };
    verdict(walk, action)
}

/// A kernel LRU hash as the connection table: insertion and the MAC rewrite.
#[xdp(frags)]
fn floor_lru_insert(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let Some(walk) = next_client(&packet) else { return XDP_DROP };
    let action = match floor_key(&packet) {
        Some(key) => match FLOOR_CONNECTIONS.insert(&key, walk.next & 15, 0) {
            Ok(()) => rewrite(&packet, walk.next & 15).unwrap_or(XDP_DROP),
            Err(_) => XDP_DROP,
        },
        None => XDP_DROP,
    };
    verdict(walk, action)
}

/// Takes the walk's clients out of the floor's table again, so that its insertions always begin
/// with room.
#[xdp(frags)]
fn floor_lru_delete(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let Some(walk) = next_client(&packet) else { return XDP_DROP };
    let removed = floor_key(&packet).is_some_and(|key| FLOOR_CONNECTIONS.remove(&key).is_ok());
    verdict(walk, if removed { XDP_TX } else { XDP_DROP })
}

/// The client's line, as far from the one before as a hash puts it.
#[inline(always)]
fn floor_lines(packet: &Packet) -> Option<(*mut Line, u64)> {
    let [low, high] = floor_key(packet)?;
    let mixed = (low ^ high.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Some((FLOOR_LINES.get_ptr_mut((mixed >> 45) as u32)?, mixed))
}

/// One cold line and the MAC rewrite: the least that a table costs.
#[xdp(frags)]
fn floor_line(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let Some(walk) = next_client(&packet) else { return XDP_DROP };
    let action = match floor_lines(&packet) {
        // SAFETY: a map's value, aligned; nobody else writes there.
        Some((line, _)) => rewrite(&packet, unsafe { (*line).0[1] }).unwrap_or(XDP_DROP),
        None => XDP_DROP,
    };
    verdict(walk, action)
}

/// One cold line with a compare-and-swap and a store, and the MAC rewrite: the least that a new
/// connection costs.
#[xdp(frags)]
fn floor_line_insert(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let Some(walk) = next_client(&packet) else { return XDP_DROP };
    let action = match floor_lines(&packet) {
        Some((line, key)) => {
            // SAFETY: a map's value, aligned to 64 bytes; nobody else writes there.
            unsafe {
                let words = (&raw mut (*line).0).cast::<u64>();
                let before = words.add(1).read_volatile();
                if lb_ebpf::sys::atomic::compare_and_swap(words.add(1), before, key & 15) {
                    words.write_volatile(key);
                }
            }
            rewrite(&packet, key & 15).unwrap_or(XDP_DROP)
        }
        None => XDP_DROP,
    };
    verdict(walk, action)
}

/// What came back to the sender of live frames: from the director's MAC, anything else.
#[btf_map]
pub static RETURNED: Array<[u64; 2], 1, SHARED> = Array::new();

/// Sends live frames: the next client, MACs as the walk says, out of the interface it is said to
/// have come in by. Nobody on the way looks at the IP checksum.
#[xdp(frags)]
fn live_send(context: XdpContext) -> u32 {
    if next_client(&Packet::new(&context)).is_some() { XDP_TX } else { XDP_DROP }
}

/// Counts what comes back: the last six bytes of the MACs are the director's.
#[xdp(frags)]
fn live_count(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let (Some(walk), Some(returned)) = (WALK.get(0), RETURNED.get_ptr_mut(0)) else { return XDP_DROP };
    let director = walk.macs[0] & 0xffff_ffff_ffff;
    let source = packet.read::<u64>(6).map(|word| word & 0xffff_ffff_ffff);
    // SAFETY: a map's value; the benchmark's frames come back on one CPU.
    unsafe { (*returned)[usize::from(source != Some(director))] += 1 };
    XDP_DROP
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

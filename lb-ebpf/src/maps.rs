//! Every map of the program. Sizes are set by the controller at load; what stands here is the least
//! that loads.

use aya_ebpf::btf_maps::{
    Array, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf, XskMap,
};
use aya_ebpf::macros::btf_map;
use lb_common::addr::V6;
use lb_common::control::{Control, Reading};
use lb_common::forward::egress::Egress;
use lb_common::forward::ingress::{self, Ingress};
use lb_common::forward::nat::source::{self, Client, Endpoint, Pool, Reply};
use lb_common::forward::nat::{self, Backend, Route, Translation};
use lb_common::forward::tunnel::Tunnel;
use lb_common::mac::Mac;
use lb_common::packet::fragment::{self, Held, ORDINARY, Trail};
use lb_common::packet::partial_checksum::Seen;
use lb_common::packet::quic::{Encoding, EncodingKey, ServerKey};
use lb_common::program::capture::Frame;
use lb_common::program::probe::Answer;
use lb_common::program::stage::Stage;
use lb_common::program::trace::{Event, Settings, Traced};
use lb_common::reason::{Reason, TableEvent};
use lb_common::schedule::Schedule;
use lb_common::schedule::tournament::Leaf;
use lb_common::server::{ServerEntry, ServerId, ServerStats};
use lb_common::service::ServiceSlot;
use lb_common::service::admission::{self, Account, Admission, Buckets, ClientKey, Listed, Walks};
use lb_common::service::binding::{self, Binding, BoundServer, Persistence};
use lb_common::service::limits::Limits;
use lb_common::shared::Shared;
use lb_common::table::RawPage;
use lb_common::table::spills::RawSpills;

use crate::forward::parcel::Parcel;
use crate::lookup::connection::Decision;
use crate::sys::opaque;

// The two maps that nearly every packet asks. Each is an array of one value, and the controller
// writes where that stands into the instructions of the programs (`lb_datapath::direct`): to read
// it takes no lookup, hence no register and no branch.
unsafe extern "C" {
    /// The settings that hold for the whole program.
    static mut CONTROL: Control;

    /// By server: how it is reached.
    static mut SERVERS: [ServerEntry; ServerId::NUMBERS];
}

#[inline(always)]
pub fn control() -> &'static Control {
    let control = &raw const CONTROL;
    // SAFETY: a map's value, aligned, which stays as long as the program; what others write of it
    // is `Shared`.
    unsafe { &*control }
}

/// The time that the program has read last, to be written.
#[inline(always)]
pub fn clock() -> *mut Reading {
    // SAFETY: nothing is read or written; `Shared` is what it holds.
    unsafe { (&raw mut CONTROL.clock).cast() }
}

#[inline(always)]
pub fn server(id: ServerId) -> &'static ServerEntry {
    let first = (&raw const SERVERS).cast::<ServerEntry>();
    // The verifier wants the mask, which the compiler would drop.
    let number = opaque(usize::from(id.0)) & (ServerId::NUMBERS - 1);
    // SAFETY: a map's value, aligned, with an element for each number that there is; as above.
    unsafe { &*first.add(number) }
}

/// BPF_F_MMAPABLE: the controller maps these into its own memory and reads and writes them without
/// system calls.
const SHARED: usize = 1 << 10;

/// BPF_F_NO_PREALLOC: memory is taken for what is in the map, not for what could be.
const GROWS: usize = 1;

/// By `Stage`: the programs that others call. Filled before the entry is attached; pinned, because
/// the kernel empties it when nobody but programs holds it any more.
#[btf_map]
pub static STAGES: ProgramArray<{ Stage::COUNT }> = ProgramArray::new();

/// Why the last packet of this CPU was refused that nobody serves, or that came too early; for
/// `Stage::Refuse` and `Stage::Hold`.
#[btf_map]
pub static REFUSED: PerCpuArray<u32, 1> = PerCpuArray::new();

/// By VIP: its group, `lb_common::lease::GroupIndex`. VIPs of no group are not in it.
#[btf_map]
pub static VIPS: HashMap<V6, u32, 1> = HashMap::new();

/// Which packets are answers to the controller's own probes; there is nothing to know of them but
/// that.
#[btf_map]
pub static ANSWERS: HashMap<Answer, u32, 1> = HashMap::new();

/// By the queue that an answer came in by, and behind them those of other interfaces: the
/// controller's socket on that queue.
#[btf_map]
pub static XSKS: XskMap<1> = XskMap::new();

/// By index of an interface: what there is to know of it, where packets come in by others than the
/// main one.
#[btf_map]
pub static INGRESSES: HashMap<u32, Ingress, { ingress::MOST as usize }> = HashMap::new();

/// Where the packet of a CPU came from that came in by such an interface.
#[btf_map]
pub static CAME_FROM: PerCpuArray<Mac, 1> = PerCpuArray::new();

/// By MAC: the other directors of the cluster; there is nothing to know of them but that.
#[btf_map]
pub static DIRECTORS: HashMap<Mac, u32, 16> = HashMap::new();

/// Two halves of the table of services; see `lb_common::service`.
#[btf_map]
pub static SERVICES: Array<ServiceSlot, 2, SHARED> = Array::new();

/// By service: which of its two schedules is in force (0 or 1).
#[btf_map]
pub static ACTIVE_SCHEDULES: Array<Shared<u32>, 2, SHARED> = Array::new();

/// Two schedules for each service.
#[btf_map]
pub static SCHEDULES: Array<Schedule, 4, SHARED> = Array::new();

/// The lists that schedules refer to.
#[btf_map]
pub static SCHEDULE_WORDS: Array<u32, 1, SHARED> = Array::new();

/// By service: the round-robin cursor, which is the number of picks that rr or wrr has made.
/// Written by the program only; a line of its own per service, so that two services on two CPUs do
/// not share one.
#[btf_map]
pub static CURSORS: Array<Cursor, 2, SHARED> = Array::new();

#[repr(C, align(64))]
pub struct Cursor(pub [u64; 8]);

/// By server: the tunnel to it, where there is one. Packets of other servers do not come here.
#[btf_map]
pub static TUNNELS: Array<Tunnel, 2, SHARED> = Array::new();

/// By server: how packets leave to it, where that is not as they have come. Those of other servers
/// do not come here.
#[btf_map]
pub static EGRESSES: Array<Egress, 2, SHARED> = Array::new();

/// By index of an interface: that interface, where servers are behind others.
#[btf_map]
pub static DEVICES: DevMapHash<64> = DevMapHash::new();

/// By server: its address and port, where it is reached by address translation. Packets of other
/// servers do not come here.
#[btf_map]
pub static TRANSLATIONS: Array<Translation, 2, SHARED> = Array::new();

/// By where a server's packets come from: its number, or that of one in its ring.
#[btf_map]
pub static BACKENDS: HashMap<Backend, u32, 1, GROWS> = HashMap::new();

/// Routes to clients whose servers' packets are translated back; two halves.
#[btf_map]
pub static ROUTES: Array<Route, { nat::MOST_ROUTES as usize * 2 }, SHARED> = Array::new();

/// By client on the segment: the MAC that its packets come from.
#[btf_map]
pub static STATIONS: LruHashMap<V6, Mac, 16_384> = LruHashMap::new();

/// The entry of the connection that the packet of this CPU may belong to; for `Stage::Known`.
#[btf_map]
pub static KNOWN: PerCpuArray<u64, 1> = PerCpuArray::new();

/// By a hash of where a server's packet comes from: the number of the server that the last such
/// packet was of, which `TRANSLATIONS` must bear out.
#[btf_map]
pub static GUESSES: Array<u32, { nat::GUESSES as usize }, SHARED> = Array::new();

/// Addresses of ours that stand in the place of clients, by `Translation::pool`.
#[btf_map]
pub static POOLS: Array<Pool, { source::MOST_POOLS as usize }, SHARED> = Array::new();

/// By client and server: what stands in the place of the client.
#[btf_map]
pub static SOURCES: HashMap<Client, Endpoint, { source::MOST_CONNECTIONS as usize }, GROWS> = HashMap::new();

/// By what a server's packet says: whose connection it is. An address and port of ours is taken for
/// a connection by an insertion here.
#[btf_map]
pub static REPLIES: HashMap<Reply, Client, { source::MOST_CONNECTIONS as usize }, GROWS> = HashMap::new();

/// The packet of this CPU that a server has sent; for `path::back`, which knows what it is.
#[btf_map]
pub static ANSWER: PerCpuArray<[u64; ANSWER_SIZE], 1> = PerCpuArray::new();

/// Words in `ANSWER`.
pub const ANSWER_SIZE: usize = 18;

/// What `lookup::source` has found for the packet of this CPU.
#[btf_map]
pub static ENDPOINT: PerCpuArray<Endpoint, 1> = PerCpuArray::new();

/// The packet of this CPU that another program sends; for `Stage::Encapsulate`, `Stage::Egress` and
/// `Stage::Translate`.
#[btf_map]
pub static PARCELS: PerCpuArray<Parcel, 1> = PerCpuArray::new();

/// How a service's QUIC connection IDs are read.
#[btf_map]
pub static QUIC_ENCODINGS: HashMap<EncodingKey, Encoding, 16384, GROWS> = HashMap::new();

/// Which server a QUIC connection ID names.
#[btf_map]
pub static QUIC_SERVERS: HashMap<ServerKey, u32, 65536, GROWS> = HashMap::new();

/// By server: its address, or `::` for the director's own host as a fallback. Not for the program,
/// but for the `lb` that takes over from this one.
#[btf_map]
pub static TARGETS: Array<V6, 2, SHARED> = Array::new();

/// By server: connections now, `lb_common::server::Counts`.
#[btf_map]
pub static COUNTS: Array<u64, 2, SHARED> = Array::new();

/// By server: how many connections it may have, and whether it is full.
#[btf_map]
pub static LIMITS: Array<Limits, 2, SHARED> = Array::new();

/// By server: its leaf in the tournament of its service.
#[btf_map]
pub static LEAVES: Array<Shared<Leaf>, 2, SHARED> = Array::new();

/// By service: how it binds clients.
#[btf_map]
pub static PERSISTENCE: Array<Persistence, 2, SHARED> = Array::new();

/// The server that a client is bound to.
#[btf_map]
pub static BINDINGS: LruHashMap<binding::Key, Binding, 1> = LruHashMap::new();

/// The same of clients that have not established a connection yet.
#[btf_map]
pub static TENTATIVE: LruHashMap<binding::Key, Binding, { binding::TENTATIVE as usize }> = LruHashMap::new();

/// By address and service: the number of a server that bound clients may go to.
#[btf_map]
pub static BOUND_SERVERS: HashMap<BoundServer, u32, 1> = HashMap::new();

/// By service: the rules about its clients.
#[btf_map]
pub static ADMISSIONS: Array<Admission, 2, SHARED> = Array::new();

/// By list and prefix: who is allowed or denied.
#[btf_map]
pub static LISTED: LpmTrie<Listed, u32, { admission::PREFIXES as usize }> = LpmTrie::new();

/// By client: what it may still send, and what it has done.
#[btf_map]
pub static CLIENTS: LruHashMap<ClientKey, Account, { admission::CLIENTS as usize }> = LruHashMap::new();

/// The same of clients whom lists refuse.
#[btf_map]
pub static REFUSED_CLIENTS: LruHashMap<ClientKey, Account, { admission::REFUSED_CLIENTS as usize }> =
    LruHashMap::new();

/// What an account begins with: nobody writes here. The stack has little room for one.
#[btf_map]
pub static NEW_ACCOUNT: Array<Account, 1> = Array::new();

/// By service: what all clients together may still send.
#[btf_map]
pub static BUCKETS: Array<Buckets, 2, SHARED> = Array::new();

/// By client: how many connections the controller's last walk over the table has found that have
/// not been ended.
#[btf_map]
pub static CLIENT_CONNECTIONS: HashMap<ClientKey, u64, { admission::CLIENT_CONNECTIONS as usize }, GROWS> =
    HashMap::new();

/// The number of that walk.
#[btf_map]
pub static WALKS: Array<Walks, 1, SHARED> = Array::new();

/// The nodes of all tournaments, two in an element.
#[btf_map]
pub static PAIRS: Array<[u64; 2], 1, SHARED> = Array::new();

/// The connection table of IPv4.
#[btf_map]
pub static CONNECTIONS_V4: Array<RawPage, 1, SHARED> = Array::new();

/// By page of that table: which of its lines have connections that stand elsewhere.
#[btf_map]
pub static SPILLS_V4: Array<RawSpills, 1, SHARED> = Array::new();

/// The connection table of IPv6.
#[btf_map]
pub static CONNECTIONS_V6: Array<RawPage, 1, SHARED> = Array::new();

/// In which pages of `CONNECTIONS_V4` a connection was established or has ended since the
/// controller looked last: a byte for each, eight to an element.
#[btf_map]
pub static CHANGED_V4: Array<Shared<u64>, 1, SHARED> = Array::new();

/// As `CHANGED_V4`, of the table of IPv6.
#[btf_map]
pub static CHANGED_V6: Array<Shared<u64>, 1, SHARED> = Array::new();

/// As `SPILLS_V4`, of the table of IPv6.
#[btf_map]
pub static SPILLS_V6: Array<RawSpills, 1, SHARED> = Array::new();

/// Where the packet of this CPU goes that is perhaps a first fragment; for `Stage::Related`.
#[btf_map]
pub static DECIDED: PerCpuArray<Decision, 1> = PerCpuArray::new();

/// Where the first fragments of datagrams went.
#[btf_map]
pub static FRAGMENTS: LruHashMap<fragment::Key, Trail, { fragment::TRAILS as usize }> = LruHashMap::new();

/// A trail on its way into `FRAGMENTS`: the stack has no room for it.
#[btf_map]
pub static NEW_TRAIL: PerCpuArray<(fragment::Key, Trail), 1> = PerCpuArray::new();

/// Bytes of `HELD`, a power of two and whole pages.
const HELD_BYTES: usize = 1024 * 1024;

/// Fragments that came too early, for the controller.
#[btf_map]
pub static HELD: RingBuf<Held<ORDINARY>, HELD_BYTES> = RingBuf::new();

/// Until when the controller takes such fragments (CLOCK_MONOTONIC, ns). It renews the time, so
/// that nothing is handed to one that is gone.
#[btf_map]
pub static HOLDER: Array<Shared<u64>, 1, SHARED> = Array::new();

/// When this CPU may hand over such a fragment again, see `fragment::may_hold`.
#[btf_map]
pub static HOLDS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Groups of pages that share a time in `OVERFLOWS`.
pub const OVERFLOW_GROUPS: u32 = 4096;

/// By group of pages: when a connection last found no slot there (CLOCK_MONOTONIC, ns); 0 is never.
#[btf_map]
pub static OVERFLOWS: Array<Shared<u64>, { OVERFLOW_GROUPS as usize }, SHARED> = Array::new();

/// By server: totals.
#[btf_map]
pub static STATS: PerCpuArray<ServerStats, 2> = PerCpuArray::new();

/// Where this CPU adds a segment up, see [`crate::forward::nat`].
#[btf_map]
pub static SCRATCH: PerCpuArray<[u64; 65], 1> = PerCpuArray::new();

/// When this CPU may answer with an ICMP error again, see `lb_common::service::refusal`.
#[btf_map]
pub static REFUSALS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// By `Reason`: packets not forwarded.
#[btf_map]
pub static REASONS: PerCpuArray<u64, { Reason::COUNT }> = PerCpuArray::new();

/// By `TableEvent`.
#[btf_map]
pub static TABLE_EVENTS: PerCpuArray<u64, { TableEvent::COUNT }> = PerCpuArray::new();

/// The last packet that had a checksum that was left to hardware.
#[btf_map]
pub static PARTIAL_CHECKSUM: Array<Seen, 1, SHARED> = Array::new();

/// MAC of the last server that sent a packet on which it should have served; see
/// `lb_common::forward::hairpin`.
#[btf_map]
pub static CAME_BACK: Array<Mac, 1, SHARED> = Array::new();

/// When the program last reported something in the log (CLOCK_MONOTONIC, ns).
#[btf_map]
pub static LAST_REPORT: Array<u64, 1> = Array::new();

/// Until when packets are traced, and which.
#[btf_map]
pub static TRACE: Array<Settings, 1, SHARED> = Array::new();

/// The packet that this CPU traces, and how many there were.
#[btf_map]
pub static TRACED: PerCpuArray<Traced, 1> = PerCpuArray::new();

/// Bytes of `TRACE_EVENTS`, a power of two and whole pages: 8192 packets.
const TRACE_BYTES: usize = 512 * 1024;

/// Packets that were traced, for the controller.
#[btf_map]
pub static TRACE_EVENTS: RingBuf<Event, TRACE_BYTES> = RingBuf::new();

/// The frame of this CPU that is captured.
#[btf_map]
pub static CAPTURE: PerCpuArray<Frame, 1> = PerCpuArray::new();

/// Bytes of `CAPTURED`, a power of two and whole pages.
const CAPTURED_BYTES: usize = 1024 * 1024;

/// Frames that were captured, for the controller: a `lb_common::program::capture::Head` each, and
/// bytes.
#[btf_map]
pub static CAPTURED: RingBuf<u8, CAPTURED_BYTES> = RingBuf::new();

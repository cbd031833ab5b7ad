//! The loaded programs with services to balance, and one timed run of one of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Barrier;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::mac::Mac;
use lb_common::program::stage::{HOST_IPV6, Stage};
use lb_common::table::connection::Tick;
use lb_datapath::DataPath;
use lb_datapath::lease::Start;
use lb_datapath::mapped::Mapped;
use lb_datapath::object::{self, Sizes};
use lb_datapath::plan::clients::Clients;
use lb_datapath::plan::quic::Quic;
use lb_datapath::plan::{Server, Service, Settings, State, Target};
use lb_model::ids::GroupNumber;
use lb_model::{Hashing, Protocol, Scheduler, ServiceKey, Stray, Timeouts};
use lb_system::clock::now_ns;
use lb_tests::BENCHMARK;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::frames::{DIRECTOR_MAC, Packet, VIP};
use crate::methods::{self, Given};

/// Connections that the table is made for, and of the largest cases.
pub(crate) const MILLION: u64 = 1 << 20;
pub(crate) const SERVERS: [u16; 5] = [2, 16, 256, PICK_SERVERS, 4096];
/// Servers that every scheduler picks among.
pub(crate) const PICK_SERVERS: u16 = 1000;
/// Each scheduler with each number of servers is a service of its own, on a port of its own.
const FIRST_PORT: u16 = 8001;
const HASH_KEYS: [u64; 2] = [0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321];

/// `Walk` of lb-ebpf/bench/src/main.rs as words: next, mask, base, expected, wrong, two words of
/// MACs, stride, and what is put back.
pub(crate) type Walk = [u64; 24];
const WRONG: usize = 4;

/// In which order the walk visits clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One after the other, as connections are made.
    Rising,
    /// By a large odd stride, because packets do not come in the order in which connections were
    /// made.
    Shuffled,
}

impl Order {
    const fn stride(self) -> u64 {
        match self {
            Self::Rising => 1,
            Self::Shuffled => 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Number of the last client of so many packets.
    pub(crate) const fn last(self, packets: u64, flows: u64) -> u64 {
        (packets - 1).wrapping_mul(self.stride()) & (flows - 1)
    }
}

/// One run: which program, which packets, and what each must become.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub program: &'static str,
    pub packet: &'a Packet,
    /// Number of clients, a power of two.
    pub flows: u64,
    pub order: Order,
    pub packets: u64,
    /// The XDP action.
    pub expected: u32,
    /// What the walk changes and puts back of the frame, for `director_prepared` and floors of
    /// IPv6.
    pub given: Given,
}

pub(crate) struct Bed {
    pub data_path: DataPath,
    pub walk: Mapped<Walk>,
    /// Besides the one that this thread is bound to.
    other_core: Option<CpuSet>,
    /// Number of the first client of the next fresh set: nobody was there before.
    pub base: u64,
}

impl Bed {
    pub(crate) fn new(other_core: Option<CpuSet>) -> Result<Self> {
        let sizes = Sizes::for_connections(MILLION as u32, MILLION as u32);
        let object = object::load_object(BENCHMARK, &sizes)?;
        let mut data_path = DataPath::new(object, sizes, DIRECTOR_MAC, HASH_KEYS, Start::Active, None)?;
        let walk = data_path.ebpf.take_map("WALK").context("the object holds no map WALK")?;
        let walk = Mapped::new("WALK", walk)?;
        let applied = data_path.apply(services());
        data_path.executor.set_routes(&methods::routes())?;
        ensure!(applied.errors.is_empty(), "the maps could not be filled: {:?}", applied.errors);
        data_path.load_all_programs()?;
        let called = |name: &str| name == HOST_IPV6 || Stage::ALL.map(Stage::program).contains(&name);
        let entries = data_path.ebpf.programs().filter(|(name, _)| !called(name));
        let names: Vec<String> = entries.map(|(name, _)| name.to_owned()).collect();
        for name in names {
            object::load_program(&mut data_path.ebpf, &name)?;
        }
        Ok(Self { data_path, walk, other_core, base: 0 })
    }

    /// From now on clients are others than ever before.
    pub(crate) fn fresh_clients(&mut self, flows: u64) {
        self.base += flows;
    }

    /// An empty table of connections, counts at zero.
    pub(crate) fn clear(&self) {
        let table = &self.data_path.table;
        // Twice: marks of lines that have had spills are gone after the second walk.
        for _ in 0..2 {
            table.sweep(0..table.pages(), Tick::from_ns(now_ns()), |_| true);
        }
    }

    /// Puts the walk at its beginning.
    pub(crate) fn start_walk(&self, packet: &Packet, flows: u64, order: Order, expected: u32) {
        self.start_walk_of(
            0,
            &Run { program: "", packet, flows, order, packets: 0, expected, given: Given::NONE },
        );
    }

    /// The same with the walk of this number, whose clients come after those of the walks before
    /// it.
    fn start_walk_of(&self, number: u64, run: &Run) {
        let Run { packet, flows, expected, .. } = *run;
        let ([low, high], base) = (packet.macs(), self.base + number * flows);
        let begin = [0, flows - 1, base, expected.into(), 0, low, high, run.order.stride()];
        let mut walk = [0; 24];
        walk[..begin.len()].copy_from_slice(&begin);
        walk[begin.len()..begin.len() + 10].copy_from_slice(&run.given.words(packet.bytes()));
        self.walk.write(number as usize, walk);
    }

    /// Nanoseconds per packet; an error if a single packet became something else than it must.
    pub(crate) fn time(&mut self, run: &Run) -> Result<f64> {
        self.time_walk(0, run).map(|(ns, _)| ns)
    }

    /// The same, and the last frame as it left.
    pub(crate) fn time_and_see(&mut self, run: &Run) -> Result<(f64, Vec<u8>)> {
        self.time_walk(0, run)
    }

    fn time_walk(&self, number: u64, run: &Run) -> Result<(f64, Vec<u8>)> {
        self.start_walk_of(number, run);
        let mut left = vec![0; 256];
        let program: &Xdp = self.data_path.ebpf.program(run.program).context(run.program)?.try_into()?;
        let begun = thread_time()?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(run.packet.bytes()),
            data_out: Some(&mut left),
            repeat: run.packets as u32,
            ..TestRunOptions::default()
        })?;
        let ns = (thread_time()? - begun) as f64 / run.packets as f64;
        let (last, wrong) = (result.return_value, self.walk.read(number as usize)[WRONG]);
        ensure!(last == run.expected, "{}: XDP action {last}, must be {}", run.program, run.expected);
        ensure!(
            wrong <= run.given.astray(run.packets),
            "{}: {wrong} of {} packets got a wrong verdict",
            run.program,
            run.packets
        );
        left.truncate(result.data_size_out as usize);
        Ok((ns, left))
    }

    /// The program behind the walk, on two CPUs at the same time, each with flows of its own.
    /// Returns the time from one packet to the next of both together, nanoseconds. `None`: there
    /// are no two CPUs.
    pub(crate) fn time_on_two(&self, run: &Run) -> Result<Option<f64>> {
        let own = sched_getaffinity(Pid::from_raw(0)).context("cannot ask for this thread's core")?;
        let Some(other) = self.other_core else { return Ok(None) };
        let cpus = [own, other];
        let start = Barrier::new(2);
        let on = |number: usize, program| {
            let start = &start;
            move || -> Result<f64> {
                let bound = sched_setaffinity(Pid::from_raw(0), &cpus[number]);
                start.wait();
                bound.context("cannot bind to a core")?;
                self.time_walk(number as u64, &Run { program, ..*run }).map(|(ns, _)| ns)
            }
        };
        let times = thread::scope(|scope| {
            let second = scope.spawn(on(1, "director_walk_second"));
            let first = scope.spawn(on(0, "director_walk"));
            [first, second].map(|thread| thread.join().expect("no thread of the benchmark panics"))
        });
        let [first, second] = times;
        Ok(Some(1.0 / (1.0 / first? + 1.0 / second?)))
    }
}

/// CPU time of this thread, nanoseconds. Steadier than the wall clock, which counts the kernel's
/// waiting (about 16 ms of RCU grace periods around a run) and other processes on this core, and
/// finer than the `duration` that the kernel reports, which is whole nanoseconds per packet.
fn thread_time() -> Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// The port of the service with this scheduler and number of servers.
pub(crate) fn port(scheduler: Scheduler, servers: u16) -> u16 {
    let row = SERVERS.iter().position(|number| *number == servers).expect("one of SERVERS") as u16;
    FIRST_PORT + row * Scheduler::ALL.len() as u16 + scheduler as u16 - 1
}

/// Whether it has a case with so many servers: those of the first hour with any number, the others
/// with 256 each, and all of them with [`PICK_SERVERS`].
pub(crate) fn is_timed(scheduler: Scheduler, servers: u16) -> bool {
    match scheduler {
        _ if servers == PICK_SERVERS => true,
        Scheduler::Rr | Scheduler::Wlc => true,
        Scheduler::Wrr | Scheduler::Lc => servers <= 256,
        // It sends a million connections to few servers, which is the cost of `fo`.
        Scheduler::Dh => false,
        _ => servers == 256,
    }
}

fn services() -> State {
    let mut state = State::default();
    state.services.extend(methods::services());
    for servers in SERVERS {
        for scheduler in Scheduler::ALL.into_iter().filter(|scheduler| is_timed(*scheduler, servers)) {
            // Datagrams to thousands of servers are no case, and not all of them would find room.
            let protocols: &[Protocol] =
                if servers > 256 { &[Protocol::Tcp] } else { &[Protocol::Tcp, Protocol::Udp] };
            for protocol in protocols.iter().copied() {
                let key = ServiceKey {
                    vip: IpAddr::V4(Ipv4Addr::from(VIP)),
                    port: port(scheduler, servers),
                    protocol,
                };
                state.services.insert(key, service(scheduler, servers));
            }
        }
    }
    state
}

pub(crate) fn service(scheduler: Scheduler, servers: u16) -> Service {
    let server = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let weight = match scheduler {
            // The servers have room for all connections of a case.
            Scheduler::Ovf => 60_000 + number % 3,
            // Three different weights, so that wrr has levels to search.
            _ => 1 + number % 3,
        };
        Server {
            target: Target::Real(IpAddr::V4(Ipv4Addr::new(10, 0, high, low))),
            weight,
            share: weight,
            mac: Some(Mac::new([2, 0, 0, 1, high, low])),
            tunnel: None,
            translation: None,
            egress: None,
            usable: true,
            gives_up: None,
            binds: true,
            thresholds: lb_common::service::limits::Thresholds::NONE,
        }
    };
    Service {
        settings: Settings {
            ports: None,
            stray: Stray::Pass,
            refuses: false,
            each_datagram: false,
            quic: false,
            timeouts: Timeouts::default(),
            persistence: None,
            source_nat: None,
            group: Some(GroupNumber(0)),
            departed: false,
        },
        scheduler,
        hashing: Hashing::default(),
        quic: Quic::default(),
        clients: Clients::default(),
        servers: (1..=servers).map(server).collect(),
    }
}

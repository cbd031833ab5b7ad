//! A director in a test: the real program in the kernel, packets in and packets out.

mod cluster;
mod cpus;
mod fragments;
mod icmp;
mod ipv6;
mod packet;
mod pool;
mod stages;
mod trace;

use std::collections::BTreeSet;
use std::ops::{AddAssign as _, Deref, DerefMut};
use std::time::Duration;

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::mac::Mac;
use lb_common::reason::{Fate, Reason, TableEvent};
use lb_common::server::{Counts, ServerId, ServerStats};
use lb_common::table::Layout as _;
use lb_common::table::connection::{KeyV4, KeyV6, Tick};
use lb_datapath::object::{self, INGRESS_PROGRAM, PROGRAM, Sizes};
use lb_datapath::plan::{Service, State, Target};
use lb_datapath::table::Census;
use lb_model::ServiceKey;
use lb_system::clock::now_ns;

pub use cluster::*;
pub use cpus::*;
pub use fragments::*;
pub use icmp::*;
pub use ipv6::*;
pub use packet::*;
use pool::Loaded;

/// The director's own MAC.
pub const MAC: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x05]);

/// Enough for most tests, and quick to make.
pub const SMALL: Sizes = Sizes {
    connections: 4096,
    connections_v6: 2048,
    services: 64,
    servers: 1024,
    // Two schedules of mh, and two more in their place. A test gets a director from the test
    // before, whose schedules may still take up a few words in the middle.
    schedule_words: 1 << 15,
    bindings: 1 << 12,
};

/// A table of one page for each family, which is soon full.
pub const ONE_PAGE: Sizes =
    Sizes { connections: KeyV4::SLOTS_PER_PAGE / 2, connections_v6: KeyV6::SLOTS_PER_PAGE / 2, ..SMALL };

/// Little to walk over.
pub const FEW: Sizes = Sizes { connections: 512, connections_v6: 256, ..SMALL };

/// A loaded program with its maps, all this test's own. It goes back to the pool when the test is
/// done.
pub struct Director(Option<Loaded>);

impl Deref for Director {
    type Target = Loaded;
    fn deref(&self) -> &Loaded {
        self.0.as_ref().expect("taken by drop alone")
    }
}

impl DerefMut for Director {
    fn deref_mut(&mut self) -> &mut Loaded {
        self.0.as_mut().expect("taken by drop alone")
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        // What a failed test leaves behind is nobody's standard.
        let is_fit = |loaded: &Loaded| loaded.whole && !std::thread::panicking();
        if let Some(loaded) = self.0.take().filter(is_fit) {
            pool::give_back(loaded);
        }
    }
}

/// What XDP does with a frame; the numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Aborted = 0,
    Drop = 1,
    Pass = 2,
    Tx = 3,
    Redirect = 4,
}

impl Verdict {
    /// On a frame that is refused for this reason.
    pub const fn of(reason: Reason) -> Self {
        match reason.fate() {
            Fate::Drop | Fate::Hold => Self::Drop,
            Fate::Pass => Self::Pass,
            Fate::Answer => Self::Tx,
        }
    }
}

/// What came of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub frame: Vec<u8>,
}

impl Outcome {
    /// Number of the server that the frame was sent to (see [`server`]).
    #[track_caller]
    pub fn server(&self) -> u16 {
        self.sent_to().unwrap_or_else(|| panic!("sent to no server, but {:?}", self.verdict))
    }

    /// `None`: it was not sent.
    pub fn sent_to(&self) -> Option<u16> {
        (self.verdict == Verdict::Tx).then(|| server_of_mac(&self.frame[..6]))
    }
}

/// A description, a frame, and why it is not forwarded; `None`: it is.
pub type Row = (&'static str, Vec<u8>, Option<Reason>);

#[track_caller]
pub fn assert_rows(director: &Director, rows: impl IntoIterator<Item = Row>) {
    for (description, frame, reason) in rows {
        let (outcome, reasons) = director.explain(&frame);
        assert_eq!(reasons, Vec::from_iter(reason), "{description}");
        assert_eq!(outcome.verdict, reason.map_or(Verdict::Tx, Verdict::of), "{description}");
    }
}

/// The frame goes to this server, and nothing but its MACs changes.
#[track_caller]
pub fn assert_goes_to(director: &Director, description: &str, frame: &[u8], server: u16) {
    let (outcome, reasons) = director.explain(frame);
    assert_eq!((outcome.sent_to(), reasons), (Some(server), vec![]), "{description}");
    let macs = (&outcome.frame[6..12], &outcome.frame[12..]);
    assert_eq!(macs, (&MAC.octets()[..], &frame[12..]), "{description}: only the MACs change");
}

/// CLOCK_MONOTONIC some seconds ago.
pub fn ago(seconds: u64) -> Duration {
    Duration::from_nanos(now_ns()) - Duration::from_secs(seconds)
}

/// CLOCK_MONOTONIC in some seconds.
pub fn within(seconds: u64) -> Duration {
    Duration::from_nanos(now_ns()) + Duration::from_secs(seconds)
}

impl Director {
    pub fn new(services: impl IntoIterator<Item = (ServiceKey, Service)>) -> Self {
        Self::with_sizes(SMALL, services)
    }

    pub fn with_sizes(sizes: Sizes, services: impl IntoIterator<Item = (ServiceKey, Service)>) -> Self {
        let mut director = Self(Some(pool::take(sizes)));
        director.apply(State { services: services.into_iter().collect(), ..State::default() });
        director
    }

    /// As the product begins with these services: what they do not need is not loaded. No other
    /// test gets it.
    pub fn started(services: impl IntoIterator<Item = (ServiceKey, Service)>) -> Self {
        let state = State { services: services.into_iter().collect(), ..State::default() };
        let mut director = Self(Some(pool::start(SMALL, &state)));
        director.apply(state);
        director
    }

    fn program(&self) -> &Xdp {
        self.data_path.ebpf.program(PROGRAM).unwrap().try_into().unwrap()
    }

    pub fn send(&self, packet: &Packet) -> Outcome {
        self.send_bytes(&packet.bytes())
    }

    /// The kernel takes frames from 14 bytes on.
    pub fn send_bytes(&self, frame: &[u8]) -> Outcome {
        run(self.program(), frame)
    }

    /// The outcome, and the reasons that were counted on the way.
    pub fn explain(&self, frame: &[u8]) -> (Outcome, Vec<Reason>) {
        self.explain_by(self.program(), frame)
    }

    /// The same of a frame that comes in by another interface than the main one.
    pub fn explain_ingress(&mut self, frame: &[u8]) -> (Outcome, Vec<Reason>) {
        object::loaded_program(&mut self.data_path.ebpf, INGRESS_PROGRAM).unwrap();
        let program = self.data_path.ebpf.program(INGRESS_PROGRAM).unwrap().try_into().unwrap();
        self.explain_by(program, frame)
    }

    fn explain_by(&self, program: &Xdp, frame: &[u8]) -> (Outcome, Vec<Reason>) {
        let before = self.reasons_ever();
        let outcome = run(program, frame);
        let now = self.reasons_ever().into_iter().zip(before);
        let counted = Reason::ALL
            .iter()
            .zip(now)
            .flat_map(|(reason, (now, before))| std::iter::repeat_n(*reason, (now - before) as usize));
        (outcome, counted.collect())
    }

    /// SYN and ACK. Returns the server, which must be the same for both.
    #[track_caller]
    pub fn open(&self, from: Client) -> u16 {
        let server = self.send(&Packet::syn(from)).server();
        assert_eq!(self.send(&Packet::ack(from)).server(), server, "SYN and ACK of {from}");
        server
    }

    /// Opens a connection and sends data. Returns its server.
    pub fn establish(&self, from: Client) -> u16 {
        let server = self.open(from);
        assert_eq!(self.send(&Packet::data(from)).server(), server, "data of {from}");
        server
    }

    /// Brings the data path to `state`. Returns the servers to purge.
    pub fn apply(&mut self, state: State) -> Vec<ServerId> {
        let applied = self.data_path.apply(state);
        assert!(applied.errors.is_empty(), "apply: {:#?}", applied.errors);
        self.fit_stages();
        let purge: Vec<ServerId> = applied.purge.iter().map(|(_, server)| *server).collect();
        self.leaving.extend(&purge);
        purge
    }

    /// Applies the state as edited. Returns the servers to purge.
    pub fn change(&mut self, edit: impl FnOnce(&mut State)) -> Vec<ServerId> {
        let mut state = self.data_path.applied().clone();
        edit(&mut state);
        self.apply(state)
    }

    pub fn change_service(&mut self, key: ServiceKey, edit: impl FnOnce(&mut Service)) -> Vec<ServerId> {
        self.change(|state| edit(state.services.get_mut(&key).expect("a service that is there")))
    }

    /// One walk over the whole table, as if `later` had passed.
    pub fn sweep_after(&self, later: Duration) -> Census {
        self.walk(later, |_| false)
    }

    /// Removes every entry of these servers and gives their numbers back.
    pub fn purge(&mut self, servers: &[ServerId]) -> Census {
        let going = BTreeSet::from_iter(servers);
        let census = self.walk(Duration::ZERO, |server| going.contains(&server));
        for server in servers {
            self.data_path.executor.purged(*server);
        }
        self.leaving.retain(|leaving| !going.contains(leaving));
        census
    }

    fn walk(&self, later: Duration, purge: impl Fn(ServerId) -> bool) -> Census {
        let table = &self.data_path.table;
        let now = Tick::from_ns(now_ns() + later.as_nanos() as u64);
        table.sweep(0..table.pages(), now, purge)
    }

    /// Packets not forwarded for this reason.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.reasons()[reason as usize]
    }

    pub fn event(&self, event: TableEvent) -> u64 {
        self.events()[event as usize]
    }

    /// The same of each [`Reason`].
    pub fn reasons(&self) -> Vec<u64> {
        minus(self.reasons_ever(), &self.reasons_before)
    }

    /// The same of each [`TableEvent`].
    pub fn events(&self) -> Vec<u64> {
        minus(self.events_ever(), &self.events_before)
    }

    /// Number of server `number` in the maps.
    #[track_caller]
    pub fn id(&self, key: ServiceKey, number: u16) -> ServerId {
        self.id_of(key, target(number))
    }

    #[track_caller]
    pub fn id_of(&self, key: ServiceKey, target: Target) -> ServerId {
        let id = self.data_path.executor.server_id(&key, target);
        id.unwrap_or_else(|| panic!("{key} has no server {target}"))
    }

    /// Active and inactive connections of server `number`.
    #[track_caller]
    pub fn counts(&self, key: ServiceKey, number: u16) -> (u32, u32) {
        let counts = self.data_path.table.counts(self.id(key, number));
        (counts.active(), counts.inactive())
    }

    #[track_caller]
    pub fn stats(&self, key: ServiceKey, number: u16) -> ServerStats {
        self.data_path.executor.maps().stats.read(self.id(key, number)).unwrap()
    }

    /// Entries in the table.
    pub fn entries(&self) -> usize {
        self.data_path.table.entries().count()
    }

    /// The running counts of all servers are what a recount of the table finds.
    #[track_caller]
    pub fn assert_counts_are_true(&self) {
        let recount = self.data_path.table.recount();
        let mut total = Counts::default();
        for (key, service) in &self.data_path.applied().services {
            for server in &service.servers {
                let id = self.id_of(*key, server.target);
                let counts = self.data_path.table.counts(id);
                let truth = recount.get(&id).copied().unwrap_or_default();
                assert_eq!(counts, truth, "{key}: counts of {} against a recount", server.target);
                total.0.add_assign(counts.0);
            }
        }
        let connections = (total.active() + total.inactive()) as usize;
        assert_eq!(connections, self.entries(), "entries that belong to no server");
    }
}

fn minus(now: Vec<u64>, before: &[u64]) -> Vec<u64> {
    now.iter().zip(before).map(|(now, before)| now - before).collect()
}

/// Hands a frame to a program.
fn run(program: &Xdp, frame: &[u8]) -> Outcome {
    let mut out = vec![0; frame.len() + 256];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        repeat: 1,
        ..TestRunOptions::default()
    };
    let result = program
        .test_run(options)
        .unwrap_or_else(|error| panic!("BPF_PROG_TEST_RUN of a frame of {} bytes: {error:?}", frame.len()));
    out.truncate(result.data_size_out as usize);
    let verdict = match result.return_value {
        0 => Verdict::Aborted,
        1 => Verdict::Drop,
        2 => Verdict::Pass,
        3 => Verdict::Tx,
        4 => Verdict::Redirect,
        other => panic!("no XDP action: {other}"),
    };
    Outcome { verdict, frame: out }
}

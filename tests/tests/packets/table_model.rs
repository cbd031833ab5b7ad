//! Random histories of connections against a simple model of what the table must hold.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_common::reason::TableEvent;
use lb_common::server::ServerId;
use lb_common::table::connection::tcp_flags::DATA;
use lb_common::table::connection::{Key as _, KeyV4, State};
use lb_model::{Protocol, Timeouts};
use lb_tests::harness::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// More clients than slots, so that there are evictions and a full table.
const CLIENTS: u32 = 400;
const SERVERS: u16 = 3;

/// Far enough apart that a time between two of them is past the one with its slack, and not near
/// the other.
const TIMEOUTS: Timeouts = Timeouts {
    closed: Duration::from_secs(100),
    syn_recv: Duration::from_secs(300),
    unproven: Duration::from_secs(300),
    udp: Duration::from_secs(900),
    fin_wait: Duration::from_secs(2700),
    established: Duration::from_secs(8100),
};

#[derive(Debug, Clone, Copy)]
enum Operation {
    Tcp(u32, u8),
    Udp(u32),
    /// A walk over the table as if so many seconds had passed.
    Sweep(u64),
    /// Server `number` of both services becomes usable or not.
    Usable(u16, bool),
}

fn operation() -> impl Strategy<Value = Operation> {
    let client = 0..CLIENTS;
    prop_oneof![
        50 => client.clone().prop_map(|client| Operation::Tcp(client, SYN)),
        50 => client.clone().prop_map(|client| Operation::Tcp(client, ACK)),
        50 => client.clone().prop_map(|client| Operation::Tcp(client, ACK | DATA)),
        8 => client.clone().prop_map(|client| Operation::Tcp(client, FIN | ACK)),
        8 => client.clone().prop_map(|client| Operation::Tcp(client, RST)),
        4 => (client.clone(), any::<u8>()).prop_map(|(client, flags)| Operation::Tcp(client, flags)),
        60 => client.prop_map(Operation::Udp),
        1 => prop_oneof![Just(0), Just(200), Just(600), Just(1800)].prop_map(Operation::Sweep),
        1 => (2..=SERVERS, any::<bool>()).prop_map(|(number, usable)| Operation::Usable(number, usable)),
    ]
}

/// A connection as the model knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Connection {
    server: u16,
    state: State,
}

/// What the table must hold, except for what was evicted.
#[derive(Default)]
struct Model {
    connections: BTreeMap<(Protocol, u32), Connection>,
    unusable: Vec<u16>,
    evicted: u64,
}

impl Model {
    /// After a packet, whose outcome is known: its server, or `None` if it was not sent.
    fn packet(&mut self, key: (Protocol, u32), flags: u8, sent_to: Option<u16>, has_entry: bool) {
        let Some(known) = self.connections.get_mut(&key) else {
            // A connection that found no slot has no entry; nor has a stray.
            if let (Some(server), Some(state), true) = (sent_to, first(key.0, flags), has_entry) {
                self.connections.insert(key, Connection { server, state });
            }
            return;
        };
        let is_syn = flags & (SYN | ACK) == SYN;
        let ended = matches!(known.state, State::FinWait | State::FinUnproven | State::Closed);
        let moves = self.unusable.contains(&known.server) && (is_syn || key.0 == Protocol::Udp);
        let is_reset = key.0 == Protocol::Tcp && flags & RST != 0;
        if moves || is_syn && ended && !is_reset && key.0 == Protocol::Tcp {
            let server = sent_to.expect("server 1 is always usable");
            let state = first(key.0, flags).expect("a packet that opens");
            *known = Connection { server, state };
        } else {
            assert_eq!(sent_to, Some(known.server), "{key:?} left its server");
            known.state = next(known.state, flags);
        }
    }

    fn sweep(&mut self, seconds: u64) {
        self.connections.retain(|_, connection| timeout(connection.state).as_secs() > seconds);
    }
}

fn first(protocol: Protocol, flags: u8) -> Option<State> {
    match protocol {
        Protocol::Udp => Some(State::UdpNew),
        Protocol::Tcp => (flags & (SYN | ACK) == SYN).then_some(State::SynRecv),
    }
}

/// State of a connection that stays where it is.
fn next(state: State, flags: u8) -> State {
    match state {
        State::UdpNew => State::UdpUnproven,
        State::UdpUnproven | State::Udp => State::Udp,
        _ if flags & RST != 0 => State::Closed,
        State::FinWait | State::FinUnproven | State::Closed => state,
        _ if flags & (SYN | ACK) == SYN => state,
        State::Established if flags & FIN != 0 => State::FinWait,
        State::Unproven if flags & FIN != 0 && flags & DATA != 0 => State::FinWait,
        _ if flags & FIN != 0 => State::FinUnproven,
        State::SynRecv if flags & ACK != 0 => State::Unproven,
        State::Unproven if flags & ACK != 0 && flags & DATA != 0 => State::Established,
        _ => state,
    }
}

const fn timeout(state: State) -> Duration {
    match state {
        State::SynRecv => TIMEOUTS.syn_recv,
        State::Unproven => TIMEOUTS.unproven,
        State::Established => TIMEOUTS.established,
        // What only the server's half leads to is here for completeness.
        State::FinWait | State::FinUnproven | State::CloseWait | State::TimeWait => TIMEOUTS.fin_wait,
        State::Closed => TIMEOUTS.closed,
        State::UdpNew | State::UdpUnproven | State::Udp => TIMEOUTS.udp,
    }
}

fn director() -> Director {
    let mut service = rr(1..=SERVERS);
    service.settings.timeouts = TIMEOUTS;
    Director::with_sizes(ONE_PAGE, [(WEB, service.clone()), (WEB_UDP, service)])
}

/// The connections in the table. A connection that is there twice is a mistake.
fn table(
    director: &Director,
    ids: &BTreeMap<ServerId, (Protocol, u16)>,
) -> BTreeMap<(Protocol, u32), Connection> {
    let mut found = BTreeMap::new();
    for (key, entry) in director.data_path.table.v4.entries() {
        let (protocol, server) = ids[&entry.server()];
        let state = entry.state().expect("entries have one");
        let other = found.insert((protocol, number_of(key)), Connection { server, state });
        assert_eq!(other, None, "{key:?} is there twice");
    }
    found
}

/// The reverse of [`client`].
fn number_of(key: KeyV4) -> u32 {
    let address = u32::from_be_bytes(key.client().octets());
    let number = address - u32::from(*client(0).ip());
    assert_eq!(key.ports().map(u16::from_be), [client(0).port(), PORT]);
    number
}

fn ids(director: &Director) -> BTreeMap<ServerId, (Protocol, u16)> {
    let services = [WEB, WEB_UDP].into_iter();
    let servers = services.flat_map(|key| (1..=SERVERS).map(move |number| (key, number)));
    servers.map(|(key, number)| (director.id(key, number), (key.protocol, number))).collect()
}

/// Returns how often the table evicted and was full.
fn play(history: &[Operation]) -> (u64, u64) {
    let mut director = director();
    let ids = ids(&director);
    let mut model = Model::default();
    for operation in history {
        match *operation {
            // Flags that contradict each other are dropped before the table sees them.
            Operation::Tcp(_, flags) if flags & SYN != 0 && flags & (FIN | RST) != 0 => continue,
            Operation::Tcp(number, flags) => {
                // PSH says that there is data.
                let payload = usize::from(flags & DATA);
                let outcome = director.send(&Packet { payload, ..Packet::tcp(client(number), flags) });
                let now = table(&director, &ids);
                let key = (Protocol::Tcp, number);
                model.packet(key, flags, outcome.sent_to(), now.contains_key(&key));
            }
            Operation::Udp(number) => {
                let outcome = director.send(&Packet::udp(client(number)));
                let now = table(&director, &ids);
                let key = (Protocol::Udp, number);
                model.packet(key, 0, outcome.sent_to(), now.contains_key(&key));
            }
            Operation::Sweep(seconds) => {
                director.sweep_after(Duration::from_secs(seconds));
                model.sweep(seconds);
            }
            Operation::Usable(number, usable) => {
                for key in [WEB, WEB_UDP] {
                    let change = |service: &mut lb_datapath::plan::Service| {
                        service.servers[usize::from(number) - 1].usable = usable;
                    };
                    director.change_service(key, change);
                }
                model.unusable.retain(|unusable| *unusable != number);
                model.unusable.extend((!usable).then_some(number));
            }
        }
        compare(&director, &mut model, table(&director, &ids));
        director.assert_counts_are_true();
    }
    (director.event(TableEvent::Evicted), director.event(TableEvent::Full))
}

/// The table holds what the model holds. Only what may be given up for another connection can be
/// missing, and each of those was counted.
fn compare(director: &Director, model: &mut Model, found: BTreeMap<(Protocol, u32), Connection>) {
    let evicted = director.event(TableEvent::Evicted);
    let missing = model.connections.iter().filter(|(key, _)| !found.contains_key(key));
    let missing: Vec<Connection> = missing.map(|(_, connection)| *connection).collect();
    assert_eq!(missing.len() as u64, evicted - model.evicted, "missing: {missing:?}");
    assert!(missing.iter().all(|connection| connection.state.is_evictable()), "missing: {missing:?}");
    model.connections.retain(|key, _| found.contains_key(key));
    model.evicted = evicted;
    assert_eq!(model.connections, found);
}

#[test]
fn the_table_holds_what_the_model_holds() {
    let config = Config { cases: 12, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let histories = proptest::collection::vec(operation(), 1..2500);
    let result = TestRunner::new(config).run(&histories, |history| {
        play(&history);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// What the random histories are meant to reach, reached for certain.
#[test]
fn a_long_history_meets_a_full_table() {
    let tcp = |flags| (0..CLIENTS).map(move |number| Operation::Tcp(number, flags));
    let udp = (0..CLIENTS).map(Operation::Udp);
    let usable = |usable| [2, 3].map(|number| Operation::Usable(number, usable));
    let mut history: Vec<Operation> = tcp(SYN).chain(tcp(ACK)).chain(udp).collect();
    let proven = |((syn, ack), data)| [syn, ack, data];
    history.extend(tcp(SYN).zip(tcp(ACK)).zip(tcp(ACK | DATA)).flat_map(proven));
    history.extend(usable(false));
    history.extend(tcp(FIN | ACK).chain(tcp(SYN)).chain(tcp(ACK)));
    history.extend(usable(true));
    history.push(Operation::Sweep(1800));
    history.extend((0..CLIENTS).map(Operation::Udp).chain(tcp(RST)));
    let (evicted, full) = play(&history);
    assert!(evicted > 100 && full > 100, "{evicted} evicted, {full} times full");
}

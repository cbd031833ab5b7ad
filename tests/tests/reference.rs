//! Scenarios recorded from the IPVS module, replayed through the real program. Needs root.
//!
//! | scheduler | compared |
//! |---|---|
//! | lc, wlc, nq | pick by pick, and the active and inactive connections of every server after each event |
//! | rr, as long as the servers stay | the same |
//! | rr with persistence (`-p`) | the same; and clients that are bound, throughout |
//! | rr afterwards, wrr | how often each server is picked in each full cycle: where IPVS's pointer stands after a change is its private matter, and its wrr serves the passes of a cycle from the top, ours from the bottom |
//! | sh, dh, mh | what is true of both, whatever the hash functions: a client (with `sh-port` and `mh-port` a client and its port) always comes to the same server, servers are used by weight, one of weight 0 is not, and its clients get no server, or with the fallback another one |

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use lb_common::reason::Reason;
use lb_common::schedule::Member;
use lb_common::schedule::least::Least;
use lb_common::server::{Counts, ServerId};
use lb_datapath::plan::{Persistence, Service};
use lb_model::{Hashing, Scheduler, ServiceKey, Timeouts};
use lb_tests::harness::*;
use serde::Deserialize;

/// Files that are not replayed, and why.
const NOT_REPLAYED: [(&str, &str); 0] = [];

/// Files whose picks are checked against the rule of `lb_common::schedule` with the recorded
/// counters, and why they are not replayed.
const BY_RULE: [(&str, &str); 1] = [(
    "lc_halfopen",
    "IPVS counts a connection that its server refused as active until it expires, because its SYN_RECV is an active \
     state; for us, active is ESTABLISHED and nothing else",
)];

#[derive(Deserialize)]
struct Scenario {
    /// The scheduler's name, and ipvsadm's options after it.
    scheduler: String,
    events: Vec<Event>,
}

/// Name, weight, active, inactive.
type Row = (String, u16, u32, u32);

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Event {
    Service {
        proto: String,
    },
    Add {
        state: Vec<Row>,
    },
    Del {
        state: Vec<Row>,
    },
    Edit {
        state: Vec<Row>,
    },
    SetScheduler {
        scheduler: String,
        state: Vec<Row>,
    },
    Open {
        id: u32,
        src: Ipv4Addr,
        sport: u16,
        pick: Option<String>,
        state: Vec<Row>,
    },
    /// A datagram of one-packet scheduling, which IPVS does not remember. Each comes from a port of
    /// its own.
    Packet {
        src: Ipv4Addr,
        sport: u16,
        pick: String,
    },
    Close {
        id: u32,
        state: Vec<Row>,
    },
    Reset {
        id: u32,
        state: Vec<Row>,
    },
    Sleep {
        seconds: u64,
        state: Vec<Row>,
    },
    /// Seconds: TCP, TCP after a FIN, UDP.
    Timeouts {
        set: String,
    },
    /// What the servers' applications do: the director does not see it.
    PortClosed {},
    PortOpen {},
}

/// Servers are named by letters.
fn number(name: &str) -> u16 {
    u16::from(name.as_bytes()[0] - b'A') + 1
}

fn name(number: u16) -> String {
    char::from(b'@' + number as u8).to_string()
}

/// From the words of ipvsadm: a name, and `-b` with flags after it.
fn scheduler(words: &str) -> Option<(Scheduler, Hashing)> {
    let name = words.split_whitespace().next()?;
    let hashing = Hashing { port: words.contains("-port"), fallback: words.contains("-fallback") };
    let found = Scheduler::ALL.into_iter().find(|scheduler| scheduler.name() == name)?;
    Some((found, hashing))
}

/// `-p SECONDS`.
fn persistence(words: &str) -> Option<Persistence> {
    let (_, seconds) = words.split_once("-p ")?;
    let timeout = Duration::from_secs(seconds.parse().expect("a number"));
    Some(Persistence { group: 1, prefix: 32, timeout })
}

/// What a hash is made of: a client's address and port, or 0; `None`: the destination alone.
type Hashed = Option<(Ipv4Addr, u16)>;

struct Replay {
    director: Director,
    key: ServiceKey,
    scheduler: Scheduler,
    hashing: Hashing,
    /// Of ipvsadm's `-p`.
    persistence: Option<Persistence>,
    /// With persistence: where a client is bound, with IPVS and with us.
    bound: BTreeMap<Ipv4Addr, [String; 2]>,
    timeouts: Timeouts,
    /// Client and server of each connection, by its number in the recording.
    connections: BTreeMap<u32, (Client, u16)>,
    /// Servers and weights since the last change.
    members: Vec<(String, u16)>,
    /// Since the last change: what IPVS picked, what we picked.
    picks: Vec<[String; 2]>,
    /// Of a scheduler that hashes, since the last change: where what it hashes came to, with IPVS
    /// (0) and with us (1).
    homes: BTreeMap<(usize, Hashed), Option<String>>,
    /// Whether our picks can be held against IPVS's one by one.
    exact: bool,
    /// The scheduler or the servers were changed after connections had been made.
    changed: bool,
}

impl Replay {
    fn new(scenario: &Scenario) -> Self {
        let (scheduler, hashing) = scheduler(&scenario.scheduler).expect("one of ours");
        Self {
            director: Director::new([]),
            key: WEB,
            scheduler,
            hashing,
            persistence: persistence(&scenario.scheduler),
            bound: BTreeMap::new(),
            timeouts: Timeouts::default(),
            connections: BTreeMap::new(),
            members: Vec::new(),
            picks: Vec::new(),
            homes: BTreeMap::new(),
            exact: true,
            changed: false,
        }
    }

    fn play(&mut self, event: &Event) {
        match event {
            Event::Service { proto } => {
                self.key = if proto == "udp" { WEB_UDP } else { WEB };
                self.change(&[]);
            }
            Event::Add { state } | Event::Edit { state } | Event::Del { state } => self.change(state),
            Event::SetScheduler { scheduler: name, state } => {
                self.end_of_cycles();
                (self.scheduler, self.hashing) = scheduler(name).expect("one of ours");
                self.change(state);
            }
            Event::Open { id, src, sport, pick, state } => {
                self.open(*id, SocketAddrV4::new(*src, *sport), pick.as_deref());
                self.compare(state);
            }
            Event::Packet { src, sport, pick } => {
                let server = self.director.send(&Packet::udp(SocketAddrV4::new(*src, *sport))).server();
                self.picked(pick, server);
            }
            Event::Close { id, state } => self.end(*id, Packet::fin, state),
            Event::Reset { id, state } => self.end(*id, Packet::rst, state),
            Event::Sleep { seconds, state } => {
                self.director.sweep_after(Duration::from_secs(*seconds));
                self.compare(state);
            }
            Event::Timeouts { set } => self.set_timeouts(set),
            Event::PortClosed {} | Event::PortOpen {} => {}
        }
    }

    fn set_timeouts(&mut self, set: &str) {
        let seconds: Vec<u64> = set.split(' ').map(|number| number.parse().unwrap()).collect();
        let [established, fin_wait, udp] = seconds[..] else { panic!("time-outs {set}") };
        self.timeouts.established = Duration::from_secs(established);
        // IPVS makes no difference.
        self.timeouts.unproven = self.timeouts.established;
        self.timeouts.fin_wait = Duration::from_secs(fin_wait);
        self.timeouts.udp = Duration::from_secs(udp);
    }

    /// Brings servers, in IPVS's order, and scheduler to the director.
    fn change(&mut self, state: &[Row]) {
        self.end_of_cycles();
        self.changed |= !self.connections.is_empty();
        self.exact = match self.scheduler {
            Scheduler::Rr => !self.changed,
            Scheduler::Lc | Scheduler::Wlc | Scheduler::Nq => true,
            _ => false,
        };
        self.members = state.iter().map(|(name, weight, ..)| (name.clone(), *weight)).collect();
        let mut service: Service = service(self.scheduler, &[]);
        service.settings.timeouts = self.timeouts;
        service.settings.persistence = self.persistence;
        service.hashing = self.hashing;
        service.servers = state.iter().map(|(name, weight, ..)| server(number(name), *weight)).collect();
        let key = self.key;
        let leaving = self.director.change(|state| _ = state.services.insert(key, service));
        self.director.purge(&leaving);
        self.compare(state);
    }

    fn open(&mut self, id: u32, from: Client, pick: Option<&str>) {
        if self.scheduler.hashes() {
            return self.open_by_hash(id, from, pick);
        }
        let Some(pick) = pick else {
            let (outcome, reasons) = self.director.explain(&Packet::syn(from).bytes());
            assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::NoServer]), "open {id}");
            return;
        };
        let server = self.director.open(from);
        self.connections.insert(id, (from, server));
        if self.persistence.is_some() {
            let homes = [pick.to_owned(), name(server)];
            if let Some(bound) = self.bound.get(from.ip()) {
                assert_eq!(*bound, homes, "open {id}: a bound client, with IPVS and with us");
                return;
            }
            self.bound.insert(*from.ip(), homes);
        }
        self.picked(pick, server);
    }

    /// A client comes to the same server as before, or to none if it came to none before; with IPVS
    /// and with us.
    fn open_by_hash(&mut self, id: u32, from: Client, theirs: Option<&str>) {
        let (outcome, reasons) = self.director.explain(&Packet::syn(from).bytes());
        let ours = outcome.sent_to();
        if ours.is_some() {
            assert_eq!(self.director.send(&Packet::ack(from)).sent_to(), ours, "SYN and ACK of {from}");
        } else {
            assert_eq!(reasons, [Reason::NoServer], "open {id}");
        }
        for (who, server) in [(0, theirs.map(str::to_owned)), (1, ours.map(name))] {
            let weight = |server: &String| self.members.iter().find(|(name, _)| name == server).unwrap().1;
            assert!(server.as_ref().is_none_or(|server| weight(server) > 0), "weight 0 takes nothing");
            let port = if self.hashing.port { from.port() } else { 0 };
            let hashed = if self.scheduler == Scheduler::Dh { None } else { Some((*from.ip(), port)) };
            let known = self.homes.entry((who, hashed)).or_insert_with(|| server.clone());
            assert_eq!(*known, server, "open {id}, of {}", ["IPVS", "ours"][who]);
        }
    }

    /// Since the last change, both have used every server that takes connections and no other one,
    /// the heavier the more often, and have left clients without a server for the same cause.
    fn end_of_hashing(&mut self) {
        let homes = std::mem::take(&mut self.homes);
        let clients = homes.len() / 2;
        let some_keep = self.members.iter().any(|(_, weight)| *weight == 0) && !self.hashing.fallback;
        for who in [0, 1] {
            let of = |server: Option<&str>| {
                let at = |((whose, _), home): (&(usize, Hashed), &Option<String>)| {
                    *whose == who && home.as_deref() == server
                };
                homes.iter().filter(|home| at(*home)).count()
            };
            assert_eq!(of(None) > 0, some_keep && clients > 0, "clients without a server");
            if clients < 30 || self.scheduler == Scheduler::Dh {
                continue; // too few to have come to each
            }
            let total: usize = self.members.iter().map(|(_, weight)| usize::from((*weight).max(1))).sum();
            for (name, weight) in self.members.iter().filter(|(_, weight)| *weight > 0) {
                let fair = clients * usize::from(*weight) / total;
                let used = of(Some(name));
                assert!(used > fair / 4 && used < fair * 2 + 4, "{name}: {used} clients, fair were {fair}");
            }
        }
    }

    fn picked(&mut self, theirs: &str, ours: u16) {
        self.picks.push([theirs.to_owned(), name(ours)]);
        if self.exact {
            let [theirs, ours] = &self.picks[self.picks.len() - 1];
            assert_eq!(ours, theirs, "pick {} since the last change", self.picks.len());
        }
    }

    fn end(&mut self, id: u32, packet: fn(Client) -> Packet, state: &[Row]) {
        let (client, server) = self.connections[&id];
        assert_eq!(self.director.send(&packet(client)).server(), server, "the end of connection {id}");
        self.compare(state);
    }

    /// Our counters against the recorded ones, where our picks are IPVS's.
    fn compare(&self, state: &[Row]) {
        self.director.assert_counts_are_true();
        if !self.exact {
            return;
        }
        for (name, _, active, inactive) in state {
            let counts = self.director.counts(self.key, number(name));
            assert_eq!(counts, (*active, *inactive), "active and inactive connections of {name}");
        }
    }

    /// Over each full cycle since the last change, both gave each server its share.
    fn end_of_cycles(&mut self) {
        self.end_of_hashing();
        let shares = self.shares();
        let length = shares.values().sum::<usize>();
        let cycles = if length == 0 { [].chunks_exact(1) } else { self.picks.chunks_exact(length) };
        for cycle in cycles {
            for (who, index) in [("IPVS", 0), ("we", 1)] {
                let mut picked: BTreeMap<&str, usize> = BTreeMap::new();
                cycle.iter().for_each(|pick| *picked.entry(pick[index].as_str()).or_default() += 1);
                assert_eq!(picked, shares, "what {who} picked in a cycle");
            }
        }
        self.picks.clear();
    }

    /// Picks of each server in a cycle of rr or wrr; empty for the others, which have none.
    fn shares(&self) -> BTreeMap<&str, usize> {
        let weight = |weight: u16| match self.scheduler {
            Scheduler::Rr => weight.min(1),
            Scheduler::Wrr => weight,
            _ => 0,
        };
        let weights = self.members.iter().map(|(name, number)| (name.as_str(), usize::from(weight(*number))));
        let shares: BTreeMap<&str, usize> = weights.filter(|(_, weight)| *weight > 0).collect();
        let divisor = shares.values().copied().fold(0, gcd);
        shares.into_iter().map(|(name, weight)| (name, weight / divisor)).collect()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn replay(scenario: &Scenario) {
    let mut replay = Replay::new(scenario);
    for event in &scenario.events {
        replay.play(event);
    }
    replay.end_of_cycles();
}

/// Each pick is what our rule makes of the counters recorded before it.
fn check_by_rule(scenario: &Scenario) {
    let (scheduler, _) = scheduler(&scenario.scheduler).expect("one of ours");
    let mut before: &[Row] = &[];
    let mut opened = 0;
    for event in &scenario.events {
        match event {
            Event::Open { pick, state, .. } => {
                let picked = least(before, scheduler).map(|server| name(server.0));
                assert_eq!(picked, *pick, "from {before:?}");
                before = state;
                opened += 1;
            }
            Event::Add { state } => before = state,
            Event::Service { .. } | Event::PortClosed {} | Event::PortOpen {} => {}
            _ => panic!("an event that this check knows nothing of"),
        }
    }
    assert!(opened > 0);
}

fn least(rows: &[Row], scheduler: Scheduler) -> Option<ServerId> {
    let mut least = Least::of(scheduler)?;
    for (name, weight, active, inactive) in rows.iter().filter(|(_, weight, ..)| *weight > 0) {
        let member = Member::new(ServerId(number(name)), *weight);
        least.consider(member, Counts::new(*active, *inactive));
    }
    least.server()
}

/// Recordings by name.
fn recordings() -> BTreeMap<String, Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/reference");
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let scenario = serde_json::from_str(&text);
            let scenario = scenario.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), scenario)
        })
        .collect()
}

#[test]
fn every_recorded_scenario() {
    let recordings = recordings();
    for (listed, _) in NOT_REPLAYED.iter().chain(&BY_RULE) {
        assert!(recordings.contains_key(*listed), "{listed} is listed, but there is no such file");
    }
    let mut replayed = 0;
    for (name, scenario) in &recordings {
        println!("{name}"); // shown if it fails
        if NOT_REPLAYED.iter().any(|(listed, _)| listed == name) {
            continue;
        }
        if BY_RULE.iter().any(|(listed, _)| listed == name) {
            check_by_rule(scenario);
            continue;
        }
        let known = scheduler(&scenario.scheduler).is_some();
        assert!(known, "{name}: neither replayed nor listed ({})", scenario.scheduler);
        replay(scenario);
        replayed += 1;
    }
    assert!(replayed >= 40, "only {replayed} scenarios");
}

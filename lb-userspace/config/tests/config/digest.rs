//! What counts changes the digest, what does not leaves it alone.

use std::net::Ipv4Addr;
use std::sync::Arc;

use lb_common::schedule::Scheduler;
use lb_common::service::Protocol;
use proptest::prelude::*;
use proptest::sample::Index;
use regex::bytes::Regex;

use super::*;

fn full() -> Config {
    let text = include_str!("../../../../deploy/examples/full.yaml");
    parse_on(text, "full.yaml", "").unwrap_or_else(|error| panic!("{error}"))
}

/// What a change can be made of.
#[derive(Debug, Clone)]
struct Matter {
    number: u16,
    text: String,
    address: IpAddr,
    time: Duration,
    /// In a list, counted on from its end at its beginning.
    place: usize,
}

fn matter() -> impl Strategy<Value = Matter> {
    let address =
        prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from),];
    (any::<u16>(), "\\PC{0,8}", address, 0..100_000_u64, any::<usize>()).prop_map(
        |(number, text, address, time, place)| {
            let time = Duration::from_millis(time);
            Matter { number, text, address, time, place }
        },
    )
}

type Change = fn(&mut Config, &Matter);

fn cluster(config: &mut Config) -> &mut Cluster {
    config.cluster.as_mut().expect("a cluster")
}

fn service(config: &mut Config) -> &mut Service {
    &mut config.services[0]
}

fn check(config: &mut Config) -> &mut Check {
    let checks = &mut service(config).servers[0].checks;
    Arc::make_mut(checks).first_mut().expect("a check")
}

fn every_check(config: &mut Config, change: impl Fn(&mut Check)) {
    let servers = config.services.iter_mut().flat_map(|service| &mut service.servers);
    servers.for_each(|server| Arc::make_mut(&mut server.checks).iter_mut().for_each(&change));
}

fn http(config: &mut Config) -> &mut HttpProbe {
    match &mut check(config).probe {
        Probe::Http(http) => http,
        other => panic!("not http: {}", other.name()),
    }
}

fn of<T>(items: &mut [T], place: usize) -> &mut T {
    let place = place % items.len();
    &mut items[place]
}

/// Each part that must be equal on all nodes.
const COVERED: &[Change] = &[
    |config, matter| cluster(config).name = matter.text.clone(),
    |config, matter| of(&mut cluster(config).nodes, matter.place).name = matter.text.clone(),
    |config, matter| of(&mut cluster(config).nodes, matter.place).address = matter.address,
    |config, matter| {
        cluster(config).nodes.push(Node { name: matter.text.clone(), address: matter.address });
    },
    |config, _| cluster(config).nodes.swap(0, 1),
    |config, matter| cluster(config).interval = matter.time,
    |config, matter| cluster(config).dead = matter.time,
    |config, matter| match of(&mut cluster(config).paths, matter.place) {
        HeartbeatPath::Unicast { port, addresses, .. } => {
            *port = matter.number;
            *of(addresses, matter.place) = matter.address;
        }
        HeartbeatPath::Multicast { group: address, .. } | HeartbeatPath::Broadcast { address, .. } => {
            *address = (matter.address, matter.number).into();
        }
        HeartbeatPath::Serial { baud, .. } => *baud = matter.number.into(),
    },
    |config, matter| {
        let paths = &mut cluster(config).paths;
        *of(paths, matter.place) = HeartbeatPath::Serial { device: "/dev/ttyS9".into(), baud: 1 };
    },
    |config, _| cluster(config).paths.rotate_left(1),
    |config, matter| config.groups[0].name = matter.text.clone(),
    |config, matter| config.groups[0].vips[0].address = matter.address,
    |config, matter| config.groups[0].vips[0].prefix = matter.number.to_be_bytes()[0],
    |config, matter| config.groups[0].nodes = (0..matter.number.to_be_bytes()[0] % 4).collect(),
    |config, _| config.groups[0].nodes.reverse(),
    |config, _| config.groups[0].failback = Failback::Manual,
    |config, matter| config.groups[0].failback = Failback::Auto { delay: matter.time },
    |config, matter| service(config).key.vip = matter.address,
    |config, matter| service(config).key.port = matter.number,
    |config, _| service(config).key.protocol = Protocol::Udp,
    |config, matter| service(config).scheduler = Scheduler::ALL[matter.place % 4],
    |config, _| service(config).fallback = Fallback::None,
    |config, _| service(config).stray = Stray::Hash,
    |config, matter| service(config).timeouts.syn_recv = matter.time,
    |config, matter| service(config).timeouts.established = matter.time,
    |config, matter| service(config).timeouts.fin_wait = matter.time,
    |config, matter| service(config).timeouts.closed = matter.time,
    |config, matter| service(config).timeouts.udp = matter.time,
    |config, matter| service(config).drain = matter.time,
    |config, matter| http(config).request = matter.text.clone(),
    |config, matter| http(config).host = Some(matter.text.clone()),
    |config, matter| http(config).wanted.text = Some(matter.text.clone()),
    |config, _| http(config).wanted.text = None,
    |config, matter| http(config).status = Statuses(vec![matter.number..=matter.number]),
    |config, matter| check(config).interval = matter.time,
    |config, matter| check(config).timeout = matter.time,
    |config, matter| check(config).rise = matter.number.into(),
    |config, matter| check(config).fall = matter.number.into(),
    |config, matter| check(config).fast_interval = matter.time,
    |config, _| check(config).via = Via::Vip,
    |config, _| check(config).tls = Some(Tls { name: None, verify: false, expiry_warning: Duration::ZERO }),
    |config, _| http(config).method = Method::Head,
    |config, _| http(config).digest = Some([7; 32]),
    |config, _| http(config).wanted.pattern = Some(Pattern(Regex::new("a.b").expect("a pattern"))),
    |config, _| service(config).quiescent = false,
    |config, matter| service(config).slow_start = matter.time,
    |config, matter| service(config).quorum.weight = matter.number.into(),
    |config, matter| service(config).fallback = Fallback::Server(matter.address),
    |config, matter| check(config).port = Some(matter.number),
    |config, matter| of(&mut service(config).servers, matter.place).address = matter.address,
    |config, matter| of(&mut service(config).servers, matter.place).port = matter.number,
    |config, matter| of(&mut service(config).servers, matter.place).weight = matter.number,
    |config, matter| {
        let servers = &mut service(config).servers;
        let again = of(servers, matter.place).clone();
        servers.push(again);
    },
];

/// The same, of which nothing is left to change afterwards.
const REMOVALS: &[Change] = &[
    |config, _| config.cluster = None,
    |config, _| config.groups.clear(),
    |config, _| config.services.truncate(1),
    |config, _| service(config).servers[0].checks = Arc::default(),
    |config, _| check(config).probe = Probe::Off,
    |config, _| service(config).servers.clear(),
    |config, _| service(config).servers.swap(0, 1),
];

/// What may differ from node to node.
const FREE: &[Change] = &[
    |config, matter| config.interface = matter.text.clone(),
    |config, _| config.xdp_mode = XdpMode::Generic,
    |config, matter| config.connections = matter.number.into(),
    |config, matter| config.control = Control { socket: matter.text.clone().into() },
    |config, matter| {
        config.metrics = Some(Metrics { listen: (matter.address, matter.number).into() });
    },
    |config, _| config.metrics = None,
    |config, matter| config.maintenance = matter.text.clone().into(),
    |config, _| config.zero_copy = true,
    |config, _| config.announce_rate = 100,
    |config, matter| every_check(config, |check| check.source = Some(matter.address)),
    |config, matter| every_check(config, |check| check.interface = Some(matter.text.clone())),
    // Each service has its own copy of the file's.
    |config, matter| config.timeouts.udp = matter.time,
    |config, matter| cluster(config).me = matter.number.to_be_bytes()[0],
    |config, matter| cluster(config).key_file = matter.text.clone().into(),
    |config, matter| cluster(config).late = matter.time / 7,
    |config, matter| cluster(config).initial_dead = matter.time,
    |config, matter| cluster(config).linger = matter.time,
    |config, matter| cluster(config).references.push(matter.address),
    |config, matter| cluster(config).state = matter.text.clone().into(),
    |config, _| cluster(config).hooks = Hooks::default(),
    |config, matter| {
        cluster(config).fence = Some(Command { words: vec![matter.text.clone()], timeout: matter.time });
    },
    |config, matter| match of(&mut cluster(config).paths, matter.place) {
        HeartbeatPath::Unicast { interface, .. } | HeartbeatPath::Broadcast { interface, .. } => {
            *interface = Some(matter.text.clone());
        }
        HeartbeatPath::Multicast { interface, .. } => *interface = matter.text.clone(),
        HeartbeatPath::Serial { device, .. } => *device = matter.text.clone().into(),
    },
    |config, matter| config.groups[0].label = Some(matter.text.clone()),
    |config, matter| config.groups[0].refresh = matter.time,
    |config, matter| of(&mut config.services, matter.place).name = matter.text.clone(),
    |config, matter| of(&mut service(config).servers, matter.place).name = matter.text.clone(),
    |config, _| config.services.reverse(),
];

proptest! {
    #[test]
    fn any_change_that_counts(change in any::<Index>(), matter in matter()) {
        let before = full();
        let mut after = before.clone();
        change.get(COVERED)(&mut after, &matter);
        prop_assert_eq!(before == after, before.digest() == after.digest());
    }

    /// Several changes do not make up for each other.
    #[test]
    fn any_changes_that_count(
        left in prop::collection::vec((any::<Index>(), matter()), 0..4),
        right in prop::collection::vec((any::<Index>(), matter()), 0..4),
    ) {
        let changed = |changes: &[(Index, Matter)]| {
            let mut config = full();
            for (change, matter) in changes {
                change.get(COVERED)(&mut config, matter);
            }
            config
        };
        let (left, right) = (changed(&left), changed(&right));
        prop_assert_eq!(left == right, left.digest() == right.digest());
    }

    #[test]
    fn any_change_that_does_not_count(changes in prop::collection::vec((any::<Index>(), matter()), 1..8)) {
        let before = full();
        let mut after = before.clone();
        for (change, matter) in changes {
            // The order of services decides which of them the others change.
            change.get(FREE)(&mut after, &matter);
        }
        prop_assert_eq!(before.digest(), after.digest());
    }

    /// Where one text ends and the next begins is part of the encoding.
    #[test]
    fn any_cut_between_neighbours(text in "[a-z]{2,12}", cuts in [any::<Index>(), any::<Index>()]) {
        let [one, other] = cuts.map(|cut| {
            let (request, receive) = text.split_at(cut.index(text.len()));
            let mut config = full();
            let wanted = Wanted { text: Some(receive.into()), pattern: None };
            *http(&mut config) = HttpProbe { request: request.into(), wanted, ..HttpProbe::default() };
            config
        });
        prop_assert_eq!(one == other, one.digest() == other.digest());
    }
}

/// Each by hand: a change that random matter makes too seldom, or makes nothing of.
#[test]
fn every_change_that_counts() {
    let matter = Matter {
        number: 0x0101,
        text: "other".into(),
        address: Ipv4Addr::new(198, 51, 100, 1).into(),
        time: Duration::from_millis(12_345),
        place: 1,
    };
    let before = full();
    for (index, change) in COVERED.iter().chain(REMOVALS).enumerate() {
        let mut after = before.clone();
        change(&mut after, &matter);
        assert_eq!(before == after, before.digest() == after.digest(), "change {index}");
    }
    for (index, change) in REMOVALS.iter().enumerate() {
        let mut after = before.clone();
        change(&mut after, &matter);
        assert_ne!(before.digest(), after.digest(), "removal {index}");
    }
}

const PINNED: &str = "
interface: eth0
cluster:
  name: wowlinux
  node: ha1
  nodes: [{ name: ha1, address: 192.0.2.2 }, { name: ha2, address: 192.0.2.3 }]
  interval: 50ms
  dead: 200ms
  paths:
    - { type: unicast, port: 694, addresses: { ha1: 'fd00::1', ha2: 'fd00::2' } }
    - { type: multicast, interface: eth1, group: 239.192.76.66:694 }
    - { type: broadcast, interface: eth1, address: 10.0.0.255:694 }
    - { type: serial, device: /dev/ttyS0, baud: 19200 }
groups:
  - { name: web, vips: [192.0.2.10/24], nodes: [ha1, ha2], failback: auto, failback_delay: 1m }
  - { name: dns, vips: [192.0.2.11/24], nodes: [ha2], failback: manual }
services:
  - vip: 192.0.2.10:80
    scheduler: rr
    fallback: local
    stray: pass
    timeouts: { established: 900s, fin_wait: 120s, syn_recv: 60s, closed: 10s, udp: 300s }
    drain: 30s
    quiescent: on
    slow_start: 0s
    quorum: 1
    hysteresis: 0
    check: { type: http, via: server, method: GET, status: 200-299, request: /, receive: ok, interval: 2s, fast_interval: 2s, timeout: 3s, rise: 1, fall: 2, port: 8080 }
    servers: [{ address: 192.0.2.21, weight: 1 }, { address: 192.0.2.22, weight: 3 }]
  - vip: 192.0.2.11:53
    protocol: udp
    scheduler: wlc
    fallback: none
    stray: hash
    timeouts: { established: 900s, fin_wait: 120s, syn_recv: 60s, closed: 10s, udp: 300s }
    drain: 30s
    quiescent: on
    slow_start: 0s
    quorum: 1
    hysteresis: 0
    check: { type: tcp, via: server, interval: 2s, fast_interval: 2s, timeout: 3s, rise: 1, fall: 1 }
    servers: [{ address: 192.0.2.31, weight: 1 }]
";

/// Directors of different versions compare digests: another value here needs another [`FORMAT`] and a line in the
/// changelog. The configuration states whatever counts, so that a new default changes nothing here.
#[test]
fn the_digest_is_the_same_in_every_build() {
    let config = parse_on(PINNED, "pinned.yaml", "").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.digest(), 0x37ab_679f_ca43_9c65, "{:#x}", config.digest());
}

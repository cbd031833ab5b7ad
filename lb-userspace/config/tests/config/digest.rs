//! The digest changes with every value that nodes must agree on, and with no other.

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use lb_common::schedule::Scheduler;
use lb_common::service::Protocol;
use proptest::prelude::*;
use proptest::sample::Index;
use regex::bytes::Regex;

use super::*;

fn full() -> Config {
    static FULL: LazyLock<Config> = LazyLock::new(|| {
        let text = include_str!("../../../../deploy/examples/full.yaml");
        parse_on(text, "full.yaml", "").unwrap_or_else(|error| panic!("{error}"))
    });
    FULL.clone()
}

/// Random material for a change.
#[derive(Debug, Clone)]
struct Material {
    number: u16,
    text: String,
    address: IpAddr,
    time: Duration,
    /// An index into a list, modulo its length.
    index: usize,
}

fn material() -> impl Strategy<Value = Material> {
    let address =
        prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from),];
    (any::<u16>(), "\\PC{0,8}", address, 0..100_000_u64, any::<usize>()).prop_map(
        |(number, text, address, time, index)| {
            let time = Duration::from_millis(time);
            Material { number, text, address, time, index }
        },
    )
}

type Change = fn(&mut Config, &Material);

fn cluster(config: &mut Config) -> &mut Cluster {
    config.cluster.as_mut().expect("a cluster")
}

fn clients(config: &mut Config) -> &mut Clients {
    service(config).clients.get_or_insert_default()
}

/// What stands in the configuration itself.
fn given(listed: &mut Listed) -> &mut ClientLists {
    Arc::make_mut(&mut listed.given)
}

fn client(material: &Material) -> ClientPrefix {
    ClientPrefix { address: material.address, length: 32 }
}

fn persistence(timeout: Duration) -> Persistence {
    Persistence { timeout, prefix: 24, group: None, keeps: true }
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

fn of<T>(items: &mut [T], index: usize) -> &mut T {
    let index = index % items.len();
    &mut items[index]
}

/// Every value that must be equal on all nodes.
const COVERED: &[Change] = &[
    |config, material| cluster(config).name = material.text.clone(),
    |config, material| of(&mut cluster(config).nodes, material.index).name = material.text.clone(),
    |config, material| of(&mut cluster(config).nodes, material.index).address = material.address,
    |config, material| {
        cluster(config).nodes.push(Node { name: material.text.clone(), address: material.address });
    },
    |config, _| cluster(config).nodes.swap(0, 1),
    |config, material| cluster(config).interval = material.time,
    |config, material| cluster(config).dead = material.time,
    |config, _| cluster(config).sync = None,
    |config, material| cluster(config).sync.iter_mut().for_each(|sync| sync.port = material.number),
    |config, material| match of(&mut cluster(config).paths, material.index) {
        HeartbeatPath::Unicast { port, addresses, .. } => {
            *port = material.number;
            *of(addresses, material.index) = material.address;
        }
        HeartbeatPath::Multicast { group: address, .. } | HeartbeatPath::Broadcast { address, .. } => {
            *address = (material.address, material.number).into();
        }
        HeartbeatPath::Serial { baud, .. } => *baud = material.number.into(),
    },
    |config, material| {
        let paths = &mut cluster(config).paths;
        *of(paths, material.index) = HeartbeatPath::Serial { device: "/dev/ttyS9".into(), baud: 1 };
    },
    |config, _| cluster(config).paths.rotate_left(1),
    |config, material| config.groups[0].name = material.text.clone(),
    |config, material| config.groups[0].vips[0].address = material.address,
    |config, material| config.groups[0].vips[0].prefix = material.number.to_be_bytes()[0],
    |config, material| {
        config.groups[0].nodes = (0..material.number.to_be_bytes()[0] % 4).map(NodeId).collect();
    },
    |config, _| config.groups[0].nodes.reverse(),
    |config, _| config.groups[0].failback = Failback::Manual,
    |config, material| config.groups[0].failback = Failback::Auto { delay: material.time },
    |config, _| {
        let device = "lb-anycast".to_owned();
        config.groups[0].kind = GroupKind::Anycast(Anycast { device, withdraw_wait: Duration::ZERO });
    },
    |config, material| service(config).key.vip = material.address,
    |config, material| service(config).key.port = material.number,
    |config, _| service(config).key.protocol = Protocol::Udp,
    |config, material| service(config).scheduler = Scheduler::ALL[material.index % Scheduler::ALL.len()],
    |config, _| service(config).hashing.port ^= true,
    |config, _| service(config).hashing.fallback ^= true,
    |config, material| {
        let key = Some(QuicKey([material.number.to_be_bytes()[0]; 16]));
        let encoding = QuicEncoding { rotation: 1, server_id_length: 2, nonce_length: 14, key };
        service(config).quic.push(encoding);
    },
    |config, material| {
        let id = material.number.to_be_bytes().to_vec();
        of(&mut service(config).servers, material.index).quic_ids.insert(1, id);
    },
    |config, _| service(config).fallback = Fallback::None,
    |config, _| service(config).stray = Stray::Hash,
    |config, material| service(config).timeouts.syn_recv = material.time,
    |config, material| service(config).timeouts.unproven = material.time,
    |config, material| service(config).timeouts.established = material.time,
    |config, material| service(config).timeouts.fin_wait = material.time,
    |config, material| service(config).timeouts.closed = material.time,
    |config, material| service(config).timeouts.udp = material.time,
    |config, material| service(config).drain = material.time,
    |config, material| service(config).ports = Ports::of_key(material.number),
    |config, _| service(config).ports = Ports::ALL,
    |config, material| service(config).persistence = Some(persistence(material.time)),
    |config, material| given(&mut clients(config).listed).deny.push(client(material)),
    |config, material| given(&mut clients(config).listed).allow.push(client(material)),
    |config, material| given(&mut config.denied).deny.push(client(material)),
    |config, _| clients(config).listed.deny_file = None,
    |config, _| clients(config).listed.allow_file = None,
    |config, _| config.denied.deny_file = None,
    |config, material| clients(config).prefix = material.number.to_be_bytes()[0],
    |config, material| clients(config).connections = Some(material.number.into()),
    |config, material| {
        let rate = Rate { per_second: material.number.into(), burst: 1 };
        clients(config).of_each.packets = Some(rate);
    },
    |config, material| {
        let rate = Rate { per_second: 1, burst: material.number.into() };
        clients(config).of_all.new = Some(rate);
    },
    |config, material| {
        let group = Some(material.text.clone());
        service(config).persistence = Some(Persistence { group, keeps: false, ..persistence(material.time) });
    },
    |config, material| {
        let thresholds = Thresholds::new(material.number.into(), 1);
        service(config).servers.iter_mut().for_each(|server| server.thresholds = thresholds);
    },
    |config, material| http(config).request = material.text.clone(),
    |config, material| http(config).host = Some(material.text.clone()),
    |config, material| http(config).expected.text = Some(material.text.clone()),
    |config, _| http(config).expected.text = None,
    |config, material| http(config).status = Some(Statuses(vec![material.number..=material.number])),
    |config, material| check(config).interval = material.time,
    |config, material| check(config).timeout = material.time,
    |config, material| check(config).rise = material.number.into(),
    |config, material| check(config).fall = material.number.into(),
    |config, material| check(config).fast_interval = material.time,
    |config, _| check(config).via = Via::Vip,
    |config, _| check(config).tls = Some(Tls { name: None, verify: false, expiry_warning: Duration::ZERO }),
    |config, _| http(config).method = Method::Head,
    |config, _| http(config).digest = Some([7; 32]),
    |config, _| http(config).expected.pattern = Some(Pattern(Regex::new("a.b").expect("a pattern"))),
    |config, _| service(config).dead_server = DeadServer::Expire,
    |config, material| service(config).slow_start = material.time,
    |config, material| service(config).quorum.weight = material.number.into(),
    |config, material| service(config).fallback = Fallback::Server(material.address),
    |config, material| check(config).port = Some(material.number),
    |config, material| of(&mut service(config).servers, material.index).address = material.address,
    |config, material| of(&mut service(config).servers, material.index).port = material.number,
    |config, material| of(&mut service(config).servers, material.index).weight = material.number,
    |config, material| {
        let tunnel = Tunnel::new(TunnelKind::ALL[material.index % 3]);
        service(config).servers[0].tunnel = Some(tunnel);
    },
    |config, material| {
        let tunnel = Tunnel { port: material.number, ..Tunnel::new(TunnelKind::Gue) };
        service(config).servers[0].tunnel = Some(tunnel);
    },
    |config, material| service(config).vlan = Some(Vlan(material.number.into())),
    |config, material| service(config).source_nat = vec![[10, 0, 0, material.number as u8].into()],
    |config, material| service(config).servers[0].vlan = Some(Vlan(material.number.into())),
    |config, material| {
        let servers = &mut service(config).servers;
        let again = of(servers, material.index).clone();
        servers.push(again);
    },
];

/// Changes after which nothing else is left to change.
const REMOVALS: &[Change] = &[
    |config, _| config.cluster = None,
    |config, _| config.groups.clear(),
    |config, _| config.services.truncate(1),
    |config, _| service(config).servers[0].checks = Arc::default(),
    |config, _| check(config).probe = Probe::Off,
    |config, _| service(config).servers.clear(),
    |config, _| service(config).servers.swap(0, 1),
];

/// Every value that may differ from node to node.
const FREE: &[Change] = &[
    |config, material| config.interface = material.text.clone(),
    |config, _| config.xdp_mode = XdpMode::Generic,
    |config, material| config.connections = material.number.into(),
    |config, material| config.control = Control::at(material.text.clone().into()),
    |config, material| {
        let listen = (material.address, material.number).into();
        config.metrics = Some(Metrics { listen, ipvs_names: true });
    },
    |config, _| config.metrics = None,
    |config, material| {
        config.web = Some(Web {
            listen: (material.address, material.number).into(),
            tls: None,
            tokens: Some(material.text.clone().into()),
            hosts: vec![material.text.clone()],
        });
    },
    |config, material| config.maintenance = material.text.clone().into(),
    |config, _| config.zero_copy = true,
    // Each node reads its own files.
    |config, material| {
        if let Some(file) = &mut config.denied.deny_file {
            *file = material.text.clone().into();
        }
    },
    |config, material| {
        let lists = ClientLists { allow: Vec::new(), deny: vec![client(material)] };
        config.denied.lists = Arc::new(lists);
    },
    |config, _| config.announce_rate = 100,
    |config, material| every_check(config, |check| check.source = Some(material.address)),
    |config, material| every_check(config, |check| check.interface = Some(material.text.clone())),
    // Each service has its own copy of the file's time-outs.
    |config, material| config.timeouts.udp = material.time,
    |config, material| cluster(config).me = NodeId(material.number.to_be_bytes()[0]),
    |config, material| cluster(config).key_file = material.text.clone().into(),
    |config, material| cluster(config).late = material.time / 7,
    |config, material| cluster(config).initial_dead = material.time,
    |config, material| cluster(config).linger = material.time,
    |config, material| cluster(config).references.push(material.address),
    |config, _| cluster(config).sync.iter_mut().for_each(|sync| sync.rate += 1),
    |config, material| cluster(config).state = material.text.clone().into(),
    |config, _| cluster(config).hooks = Hooks::default(),
    |config, material| {
        cluster(config).fence = Some(Command { words: vec![material.text.clone()], timeout: material.time });
    },
    |config, material| match of(&mut cluster(config).paths, material.index) {
        HeartbeatPath::Unicast { interface, .. } | HeartbeatPath::Broadcast { interface, .. } => {
            *interface = Some(material.text.clone());
        }
        HeartbeatPath::Multicast { interface, .. } => *interface = material.text.clone(),
        HeartbeatPath::Serial { device, .. } => *device = material.text.clone().into(),
    },
    |config, material| config.groups[0].label = Some(material.text.clone()),
    |config, material| config.groups[0].refresh = material.time,
    |config, material| of(&mut config.services, material.index).name = material.text.clone(),
    |config, material| of(&mut service(config).servers, material.index).name = material.text.clone(),
    |config, material| service(config).servers[0].interface = Some(material.text.clone()),
    |config, _| config.services.reverse(),
];

/// The nodes get them one after the other.
#[test]
fn services_that_are_kept_elsewhere_do_not_count() {
    let before = full();
    let mut after = before.clone();
    let key = ServiceKey { vip: [192, 0, 2, 99].into(), port: 99, protocol: Protocol::Tcp };
    after.services.push(Service::new("kept".to_owned(), key));
    assert_ne!(before.digest(), after.digest());
    after.kept_elsewhere.insert(key);
    assert_eq!(before.digest(), after.digest());
    after.services.pop();
    assert_eq!(before.digest(), after.digest());
}

proptest! {
    #[test]
    fn any_change_that_counts(change in any::<Index>(), material in material()) {
        let before = full();
        let mut after = before.clone();
        change.get(COVERED)(&mut after, &material);
        prop_assert_eq!(before == after, before.digest() == after.digest());
    }

    /// Several changes do not cancel each other out.
    #[test]
    fn any_changes_that_count(
        left in prop::collection::vec((any::<Index>(), material()), 0..4),
        right in prop::collection::vec((any::<Index>(), material()), 0..4),
    ) {
        let changed = |changes: &[(Index, Material)]| {
            let mut config = full();
            for (change, material) in changes {
                change.get(COVERED)(&mut config, material);
            }
            config
        };
        let (left, right) = (changed(&left), changed(&right));
        prop_assert_eq!(left == right, left.digest() == right.digest());
    }

    #[test]
    fn any_change_that_does_not_count(changes in prop::collection::vec((any::<Index>(), material()), 1..8)) {
        let before = full();
        let mut after = before.clone();
        for (change, material) in changes {
            // The order of services decides which of them the other changes affect.
            change.get(FREE)(&mut after, &material);
        }
        prop_assert_eq!(before.digest(), after.digest());
    }

    /// The encoding separates adjacent texts.
    #[test]
    fn any_cut_between_neighbours(text in "[a-z]{2,12}", cuts in [any::<Index>(), any::<Index>()]) {
        let [one, other] = cuts.map(|cut| {
            let (request, receive) = text.split_at(cut.index(text.len()));
            let mut config = full();
            let expected = Expectation { text: Some(receive.into()), pattern: None };
            *http(&mut config) = HttpProbe { request: request.into(), expected, ..HttpProbe::default() };
            config
        });
        prop_assert_eq!(one == other, one.digest() == other.digest());
    }
}

/// Changes by hand, for values that random material changes too seldom or not at all.
#[test]
fn every_change_that_counts() {
    let material = Material {
        number: 0x0101,
        text: "other".into(),
        address: Ipv4Addr::new(198, 51, 100, 1).into(),
        time: Duration::from_millis(12_345),
        index: 1,
    };
    let before = full();
    for (index, change) in COVERED.iter().chain(REMOVALS).enumerate() {
        let mut after = before.clone();
        change(&mut after, &material);
        assert_eq!(before == after, before.digest() == after.digest(), "change {index}");
    }
    for (index, change) in REMOVALS.iter().enumerate() {
        let mut after = before.clone();
        change(&mut after, &material);
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
  sync: on
  sync_port: 8848
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
    timeouts: { established: 900s, unproven: 120s, fin_wait: 120s, syn_recv: 60s, closed: 10s, udp: 300s }
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
    timeouts: { established: 900s, unproven: 120s, fin_wait: 120s, syn_recv: 60s, closed: 10s, udp: 300s }
    drain: 30s
    quiescent: on
    slow_start: 0s
    quorum: 1
    hysteresis: 0
    check: { type: tcp, via: server, interval: 2s, fast_interval: 2s, timeout: 3s, rise: 1, fall: 1 }
    servers: [{ address: 192.0.2.31, weight: 1 }]
";

/// Directors of different versions compare digests, so another value here needs another [`FORMAT`]
/// and a line in the changelog. The configuration states every value that counts, so that a new
/// default changes nothing here.
#[test]
fn the_digest_is_the_same_in_every_build() {
    let config = parse_on(PINNED, "pinned.yaml", "").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.digest(), 0x00f6_de76_f0e7_24b3, "{:#x}", config.digest());
}

//! The configuration through the public interface: valid files, invalid files, and text that is
//! neither.

mod checks;
mod clients;
mod cluster;
mod digest;
mod includes;
mod keys;
mod sessions;
mod times;
mod web;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_config::*;
use lb_model::ids::{GroupNumber, NodeId};
use lb_model::*;

fn yaml_files(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = entries.map(|entry| entry.expect("a directory entry").path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty(), "no YAML files in {}", dir.display());
    files
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn accepted(text: &str) -> Config {
    parse(text, "test.yaml").unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn accepted_on(host: &str, text: &str) -> Config {
    parse_on(text, "test.yaml", host).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn refused(text: &str) -> ConfigError {
    parse(text, "test.yaml").expect_err("accepted")
}

fn v4(address: [u8; 4]) -> IpAddr {
    Ipv4Addr::from(address).into()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// `tests/config/bad/NAME.yaml` is refused with exactly the messages of `NAME.expected`.
/// `LB_BLESS=1` rewrites these after a change of wording; read the difference before committing it.
#[test]
fn every_mistake_is_told_where_it_stands() {
    let bless = std::env::var_os("LB_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in yaml_files("tests/config/bad") {
        let name = path.file_name().expect("a file name").to_string_lossy().into_owned();
        let told = match load_on(&path, "director.example.org") {
            Ok(_) => format!("{name}: accepted\n"),
            // The directory differs from machine to machine.
            Err(error) => format!("{error}\n").replace(&*path.with_file_name("").display().to_string(), ""),
        };
        let expected_path = path.with_extension("expected");
        if bless {
            fs::write(&expected_path, &told).expect("a writable source tree");
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if told != expected || told.ends_with(": accepted\n") {
            wrong.push(format!("--- expected\n{expected}--- told\n{told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mistakes_are_data_too() {
    let error = refused(
        "interface: eth/0\nservices:\n  - vip: 192.0.2.10:80\n    scheduler: rrr\n    fallback: local\n",
    );
    let positions: Vec<_> = error.mistakes().iter().map(|mistake| (mistake.line, mistake.column)).collect();
    assert_eq!(positions, [(1, 12), (4, 16)]);
    assert_eq!(
        error.mistakes()[1].message,
        r#"scheduler "rrr": expected one of rr, wrr, lc, wlc, sed, nq, sh, dh, mh, fo, ovf, twos"#
    );
    assert_eq!(error.mistakes()[1].source_line, "    scheduler: rrr");
}

#[test]
fn what_cannot_be_read_is_said_with_its_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let missing = dir.path().join("lb.yaml");
    for (path, cause) in [(missing.as_path(), "No such file"), (dir.path(), "Is a directory")] {
        let error = load(path).expect_err("nothing to read");
        assert!(error.to_string().starts_with(&format!("{}: {cause}", path.display())), "{error}");
        assert!(error.mistakes().is_empty());
    }
}

#[test]
fn every_example_is_accepted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for path in yaml_files("../../deploy/examples") {
        if let Err(error) = load(&clients::with_lists(&path, dir.path())) {
            panic!("{error}");
        }
    }
}

#[test]
fn the_cluster_of_the_talk() {
    let expected = Expectation { text: Some("Test Page".into()), pattern: None };
    let page = HttpProbe { request: "/index.html".into(), expected, ..HttpProbe::default() };
    let (interval, timeout) = (seconds(1), seconds(3));
    let check =
        Check { via: Via::Vip, interval, fast_interval: interval, timeout, ..Check::new(Probe::Http(page)) };
    let server = |name: &str, last| Server {
        name: name.into(),
        checks: [check.clone()].into(),
        ..Server::new(v4([211, 58, 250, last]), 80)
    };
    let key = ServiceKey { vip: v4([211, 58, 250, 6]), port: 80, protocol: Protocol::Tcp };
    let web = Service {
        scheduler: Scheduler::Rr,
        fallback: Fallback::Local,
        servers: vec![server("www1", 25), server("www2", 27)],
        ..Service::new("web".into(), key)
    };
    let config = Config {
        interface: "eth0".into(),
        other_interfaces: vec![],
        xdp_mode: XdpMode::Auto,
        connections: 1_000_000,
        bindings: 1 << 18,
        control: Control::at("/run/lb/lb.sock".into()),
        metrics: Some(Metrics { listen: ([127, 0, 0, 1], 9105).into(), ipvs_names: false }),
        web: None,
        alerts: Alerts::default(),
        timeouts: Timeouts::default(),
        maintenance: "/var/lib/lb/disabled".into(),
        zero_copy: false,
        announce_rate: 10_000,
        denied: Listed::default(),
        cluster: None,
        groups: vec![Group {
            number: GroupNumber(0),
            name: "211.58.250.6".into(),
            vips: vec![GroupVip { address: v4([211, 58, 250, 6]), prefix: 25 }],
            interface: None,
            label: Some("eth0:0".into()),
            refresh: seconds(5),
            nodes: vec![],
            failback: Failback::Auto { delay: Duration::ZERO },
            kind: GroupKind::Failover,
        }],
        services: vec![web],
        kept_elsewhere: Default::default(),
    };
    assert_eq!(accepted(&example("talk.yaml")), config);
}

#[test]
fn the_two_directors_of_the_talk() {
    let node = |name: &str, last| Node { name: name.into(), address: v4([211, 58, 250, last]) };
    let nodes = vec![node("ha1", 5), node("ha2", 7)];
    let addresses = nodes.iter().map(|node| node.address).collect();
    let cluster = Cluster {
        name: "wowlinux".into(),
        me: NodeId(0),
        nodes,
        key_file: "/etc/lb/keys".into(),
        interval: millis(50),
        dead: millis(200),
        late: millis(100),
        initial_dead: seconds(1),
        linger: seconds(5),
        paths: vec![
            HeartbeatPath::Serial { device: "/dev/ttyS0".into(), baud: 19_200 },
            HeartbeatPath::Unicast { interface: Some("eth0".into()), port: 694, addresses },
        ],
        references: vec![],
        state: "/var/lib/lb".into(),
        hooks: Hooks::default(),
        fence: None,
        sync: Some(ConnectionSync { port: 8848, rate: 12_500_000 }),
    };
    let alone = accepted(&example("talk.yaml"));
    let groups = alone
        .groups
        .iter()
        .map(|group| Group { nodes: [0, 1].map(NodeId).into(), ..group.clone() })
        .collect();
    let config = Config { cluster: Some(cluster), groups, ..alone };
    assert_eq!(accepted(&example("talk-cluster.yaml")), config);
}

const LEAST: &str = "
interface: eth0
services:
  - vip: 192.0.2.10:80
    check: { type: http }
    servers: [{ address: 192.0.2.21 }]
";

#[test]
fn defaults() {
    let config = accepted(LEAST);
    let check = Check {
        probe: Probe::Http(HttpProbe {
            method: Method::Get,
            request: "/".into(),
            host: None,
            status: None,
            expected: Expectation { text: None, pattern: None },
            digest: None,
        }),
        via: Via::Server,
        tls: None,
        interval: seconds(2),
        fast_interval: seconds(2),
        timeout: seconds(3),
        rise: 1,
        fall: 1,
        port: None,
        source: None,
        interface: None,
    };
    let service = Service {
        name: "tcp/192.0.2.10:80".into(),
        ports: Ports::of_key(80),
        key: ServiceKey { vip: v4([192, 0, 2, 10]), port: 80, protocol: Protocol::Tcp },
        scheduler: Scheduler::Wlc,
        hashing: Hashing::default(),
        quic: Vec::new(),
        fallback: Fallback::None,
        dead_server: DeadServer::Keep,
        slow_start: Duration::ZERO,
        damping: None,
        quorum: Quorum { weight: 1, hysteresis: 0 },
        hooks: ServiceHooks::default(),
        stray: Stray::Pass,
        ops: false,
        source_nat: vec![],
        persistence: None,
        clients: None,
        timeouts: Timeouts {
            syn_recv: seconds(60),
            unproven: seconds(120),
            established: seconds(900),
            fin_wait: seconds(120),
            closed: seconds(10),
            udp: seconds(300),
        },
        vlan: None,
        drain: seconds(30),
        servers: vec![Server {
            name: "192.0.2.21".into(),
            address: v4([192, 0, 2, 21]),
            port: 80,
            tunnel: None,
            masq: false,
            quic_ids: QuicServerIds::new(),
            interface: None,
            vlan: None,
            weight: 1,
            thresholds: Thresholds::NONE,
            checks: [check].into(),
        }],
    };
    assert_eq!(config.services, [service]);
    assert_eq!(config.connections, 1_000_000);
    assert_eq!(config.control, Control::at("/run/lb/lb.sock".into()));
    let metrics = Metrics { listen: ([127, 0, 0, 1], 9105).into(), ipvs_names: false };
    assert_eq!(config.metrics, Some(metrics));
    assert_eq!(config.timeouts, Timeouts::default());
}

/// `full.yaml` gives each default in a comment; where the value equals the default, the key can be
/// omitted.
#[test]
fn full_example_states_the_defaults() {
    let full = accepted(&example("full.yaml"));
    let least = accepted(LEAST);
    assert_eq!((full.xdp_mode, full.connections), (least.xdp_mode, least.connections));
    let control = |config: &Config| (config.control.socket.clone(), config.control.mode);
    assert_eq!(control(&full), control(&least));
    assert_eq!(full.metrics, least.metrics);
    assert_eq!(full.timeouts, least.timeouts);
    assert_eq!((&full.maintenance, full.zero_copy), (&least.maintenance, least.zero_copy));
    assert_eq!(full.announce_rate, least.announce_rate);
    cluster::full_cluster_states_the_defaults(&full);
    let (full, least) = (&full.services[0], &least.services[0]);
    assert_eq!((full.scheduler, full.stray, full.drain), (least.scheduler, least.stray, least.drain));
    assert_eq!(full.hashing, least.hashing);
    assert_eq!(
        (full.dead_server, full.slow_start, full.quorum),
        (least.dead_server, least.slow_start, least.quorum)
    );
    let (full, least) = (&full.servers[0].checks[0], &least.servers[0].checks[0]);
    assert_eq!((full.interval, full.timeout), (least.interval, least.timeout));
    assert_eq!((full.rise, full.fall), (least.rise, least.fall));
    assert_eq!((full.via, full.fast_interval), (least.via, least.fast_interval));
}

#[test]
fn vips_of_both_families() {
    let vips =
        "groups: [{ vips: [192.0.2.10, 2001:db8::6/64, '2001:DB8:0::7', fd00::8/127], label: 'eth0:0' }]";
    let config = accepted(&format!("{vips}{LEAST}"));
    let vip = |text: &str, prefix| GroupVip { address: text.parse().expect("an address"), prefix };
    let expected =
        [vip("192.0.2.10", 32), vip("2001:db8::6", 64), vip("2001:db8::7", 128), vip("fd00::8", 127)];
    assert_eq!(config.groups[0].vips, expected);
}

#[test]
fn metrics_can_be_switched() {
    for (value, on) in [
        ("off", false),
        ("\"off\"", false),
        ("false", false),
        ("no", false),
        ("on", true),
        ("true", true),
        ("", true),
        ("{}", true),
        ("{ listen: \"[::1]:9200\" }", true),
    ] {
        let config = accepted(&format!("metrics: {value}{LEAST}"));
        assert_eq!(config.metrics.is_some(), on, "metrics: {value}");
    }
    for (value, on) in [("on", true), ("no", false), ("\"true\"", true)] {
        let config = accepted(&format!("metrics: {{ ipvs_names: {value} }}{LEAST}"));
        assert_eq!(config.metrics.map(|metrics| metrics.ipvs_names), Some(on), "ipvs_names: {value}");
    }
}

#[test]
fn schedulers_have_their_names_and_flags() {
    let with =
        |keys: &str| accepted(&LEAST.replace("services:\n  -", &format!("services:\n  - {keys}\n   ")));
    for scheduler in Scheduler::ALL {
        let config = with(&format!("scheduler: {}", scheduler.name()));
        let service = &config.services[0];
        assert_eq!((service.scheduler, service.hashing), (scheduler, Hashing::default()));
        let hashes = [Scheduler::Sh, Scheduler::Dh, Scheduler::Mh].contains(&scheduler);
        assert_eq!(service.stray, if hashes { Stray::Hash } else { Stray::Pass }, "{scheduler:?}");
    }
    for name in ["sh", "mh"] {
        let config = with(&format!("scheduler: {name}\n    hash: {{ port: on }}"));
        assert_eq!(config.services[0].hashing, Hashing { port: true, fallback: false });
        let config = with(&format!("scheduler: {name}\n    stray: pass\n    hash: {{ fallback: on }}"));
        assert_eq!(config.services[0].hashing, Hashing { port: false, fallback: true });
        assert_eq!(config.services[0].stray, Stray::Pass);
    }
    for name in ["rr", "wrr", "sh", "dh", "mh", "fo", "twos"] {
        let config = with(&format!("scheduler: {name}\n    protocol: udp\n    ops: on"));
        assert!(config.services[0].ops, "{name}");
    }
}

#[test]
fn connection_ids_of_quic_name_servers() {
    let config = accepted(&example("full.yaml"));
    let service = &config.services[3];
    let key = QuicKey(0x8f95_f092_4576_5f80_2569_34e5_0c66_207f_u128.to_be_bytes());
    let encoding = QuicEncoding { rotation: 0, server_id_length: 2, nonce_length: 14, key: Some(key) };
    assert_eq!(service.quic, [encoding]);
    let ids: Vec<_> = service.servers.iter().map(|server| server.quic_ids.clone()).collect();
    assert_eq!(ids, [QuicServerIds::from([(0, vec![10, 1])]), QuicServerIds::from([(0, vec![10, 2])])]);
    assert!(!format!("{service:?}").contains("8f95"), "a secret is not shown");
}

#[test]
fn what_yaml_allows() {
    let aliased = "
interface: \"eth0\"
connections: 1_000_000
services:
  - { vip: 192.0.2.10:80, name: yes, servers: &web [{ address: 192.0.2.21, name: 1.10, weight: 0 }] }
  - { vip: 192.0.2.11:80, name: 웹, servers: *web }
  - { vip: 192.0.2.10:80, protocol: udp, fallback: local }
  - { vip: 192.0.2.12:80, fallback: local, servers: , timeouts: }
";
    let config = accepted(aliased);
    let names: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["yes", "웹", "udp/192.0.2.10:80", "tcp/192.0.2.12:80"]);
    assert_eq!(config.services[0].servers, config.services[1].servers);
    assert_eq!(config.services[0].servers[0].name, "1.10");
    let json = r#"{"interface": "eth0", "services": [{"vip": "192.0.2.10:80", "fallback": "local"}]}"#;
    assert_eq!(accepted(json).services.len(), 1);
    assert_eq!(accepted(&format!("\u{feff}---{LEAST}...\n")), accepted(&LEAST.replace('\n', "\r\n")));
}

#[test]
fn limits() {
    let service = |index: usize| format!("  - vip: 192.0.2.10:{}\n    fallback: local\n", index + 1);
    let services =
        |count| format!("interface: eth0\nservices:\n{}", (0..count).map(service).collect::<String>());
    assert_eq!(accepted(&services(65_000)).services.len(), 65_000);
    let message = "found 65001 services, expected at most 65000";
    assert_eq!(only_message(&services(65_001)), (130_003, message.into()));

    let server = |index: usize| format!("      - address: 10.0.{}.{}\n", index / 256, index % 256);
    let servers = |count| {
        LEAST.replace(
            " [{ address: 192.0.2.21 }]",
            &format!("\n{}", (0..count).map(server).collect::<String>()),
        )
    };
    assert_eq!(accepted(&servers(4096)).services[0].servers.len(), 4096);
    assert_eq!(only_message(&servers(4097)).1, "found 4097 servers of one service, expected at most 4096");

    let aliased = |index: usize| format!("  - vip: 192.0.2.10:{}\n    servers: *all\n", index + 100);
    let anchored = servers(4000).replace("servers:", "servers: &all");
    let many = |count| format!("{anchored}{}", (0..count).map(aliased).collect::<String>());
    assert_eq!(accepted(&many(15)).services.len(), 16);
    let (_, message) = only_message(&many(17));
    assert_eq!(message, "found 72000 servers in all services, expected at most 65000");
}

#[track_caller]
fn only_message(text: &str) -> (usize, String) {
    match refused(text).mistakes() {
        [mistake] => (mistake.line, mistake.message.clone()),
        mistakes => panic!("{} mistakes, the first: {:?}", mistakes.len(), mistakes.first()),
    }
}

#[test]
fn a_flood_of_mistakes_is_cut() {
    let told = refused(&LEAST.replace("[{", &format!("[{}{{", "{},".repeat(80)))).to_string();
    assert_eq!(told.lines().count(), 3 * 50 + 1);
    assert!(told.ends_with("\ntest.yaml: 30 more mistakes"), "{told}");
}

#[test]
fn a_long_value_is_not_repeated_in_full() {
    let long = "x".repeat(100_000);
    for text in [long.clone(), format!("{long}: 1"), LEAST.replace("eth0", &long)] {
        let told = refused(&text).to_string();
        assert!(told.len() < 600, "{} bytes: {told:.600}", told.len());
    }
}

#[test]
fn a_server_is_forwarded_to_as_it_says_or_as_its_service_says() {
    let text = "
interface: eth0
services:
  - vip: 192.0.2.10:80
    forward: gue
    gue_port: 6081
    tunnel_mtu: 1400
    servers:
      - { address: 192.0.2.21 }
      - { address: 192.0.2.22, forward: direct }
      - { address: 192.0.2.23, forward: gate }
      - { address: '2001:db8::24', forward: ipip, tunnel_source: 'fd00:6c62::/64', tunnel_mtu: 1500 }
      - { address: 192.0.2.25, gue_port: 6082 }
  - { vip: '192.0.2.11:80', servers: [{ address: 192.0.2.21, forward: gre }, { address: 192.0.2.22 }] }
";
    let config = accepted(text);
    let found =
        |service: usize| Vec::from_iter(config.services[service].servers.iter().map(|server| server.tunnel));
    let gue = Tunnel { port: 6081, mtu: Some(1400), ..Tunnel::new(TunnelKind::Gue) };
    let source = Some(SourcePrefix { address: "fd00:6c62::".parse().expect("an address"), length: 64 });
    let ipip = Tunnel { port: 6081, mtu: Some(1500), source, ..Tunnel::new(TunnelKind::Ipip) };
    let expected = [Some(gue), None, None, Some(ipip), Some(Tunnel { port: 6082, ..gue })];
    assert_eq!(found(0), expected);
    let gre = Some(Tunnel::new(TunnelKind::Gre));
    assert_eq!(found(1), [gre, None]);
}

//! The configuration from the outside: files that are right, files that are wrong, and text that is neither.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_userspace::cluster::machine::Settings;
use lb_userspace::cluster::message::NodeId;
use lb_userspace::config::*;
use proptest::prelude::*;
use serde_yaml::Value;

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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples").join(name);
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

/// `tests/config/bad/NAME.yaml` is refused with exactly the words of `NAME.expected`.
/// `LB_BLESS=1` rewrites those after a change of wording; read the difference before committing it.
#[test]
fn every_mistake_is_told_where_it_stands() {
    let bless = std::env::var_os("LB_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in yaml_files("tests/config/bad") {
        let name = path.file_name().expect("a file name").to_string_lossy().into_owned();
        let told = match load_on(&path, "director.example.org") {
            Ok(_) => format!("{name}: accepted\n"),
            // The directory differs from machine to machine.
            Err(error) => format!("{error}\n").replace(&*path.display().to_string(), &name),
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
    assert_eq!(error.mistakes()[1].message, r#"scheduler "rrr": expected one of rr, wrr, lc, wlc"#);
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
    for path in yaml_files("../deploy/examples") {
        if let Err(error) = load(&path) {
            panic!("{error}");
        }
    }
}

#[test]
fn the_cluster_of_the_talk() {
    let wanted = Wanted { text: Some("Test Page".into()), pattern: None };
    let page = HttpProbe { request: "/index.html".into(), wanted, ..HttpProbe::default() };
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
        connections: 1_000_000,
        control: Control { socket: "/run/lb/lb.sock".into() },
        metrics: Some(Metrics { listen: ([127, 0, 0, 1], 9105).into() }),
        timeouts: Timeouts::default(),
        maintenance: "/var/lib/lb/disabled".into(),
        zero_copy: false,
        cluster: None,
        groups: vec![Group {
            name: "211.58.250.6".into(),
            vips: vec![GroupVip { address: v4([211, 58, 250, 6]), prefix: 25 }],
            label: Some("eth0:0".into()),
            refresh: seconds(5),
            nodes: vec![],
            failback: Failback::Auto { delay: Duration::ZERO },
        }],
        services: vec![web],
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
        me: 0,
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
    };
    let alone = accepted(&example("talk.yaml"));
    let groups = alone.groups.iter().map(|group| Group { nodes: vec![0, 1], ..group.clone() }).collect();
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
            status: Statuses(vec![200..=299]),
            wanted: Wanted { text: None, pattern: None },
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
        key: ServiceKey { vip: v4([192, 0, 2, 10]), port: 80, protocol: Protocol::Tcp },
        scheduler: Scheduler::Wlc,
        fallback: Fallback::None,
        quiescent: true,
        slow_start: Duration::ZERO,
        damping: None,
        quorum: Quorum { weight: 1, hysteresis: 0 },
        hooks: ServiceHooks::default(),
        stray: Stray::Pass,
        timeouts: Timeouts {
            syn_recv: seconds(60),
            established: seconds(900),
            fin_wait: seconds(120),
            closed: seconds(10),
            udp: seconds(300),
        },
        drain: seconds(30),
        servers: vec![Server {
            name: "192.0.2.21".into(),
            address: v4([192, 0, 2, 21]),
            port: 80,
            weight: 1,
            checks: [check].into(),
        }],
    };
    assert_eq!(config.services, [service]);
    assert_eq!(config.connections, 1_000_000);
    assert_eq!(config.control, Control { socket: "/run/lb/lb.sock".into() });
    assert_eq!(config.metrics, Some(Metrics { listen: ([127, 0, 0, 1], 9105).into() }));
    assert_eq!(config.timeouts, Timeouts::default());
}

const LEAST_CLUSTER: &str = "
interface: eth0
cluster:
  nodes: [{ name: ha1, address: 192.0.2.2 }, { name: ha2, address: 192.0.2.3 }]
  paths: [{ type: unicast }]
groups: [{ vips: [192.0.2.10/24] }]
services:
  - vip: 192.0.2.10:80
    servers: [{ address: 192.0.2.21 }]
";

/// `LEAST_CLUSTER` with more keys in its cluster, read on ha1.
#[track_caller]
fn cluster_with(keys: &str) -> Cluster {
    let text = LEAST_CLUSTER.replace("cluster:\n", &format!("cluster:\n{keys}"));
    accepted_on("ha1", &text).cluster.expect("a cluster")
}

#[test]
fn defaults_of_a_cluster() {
    let config = accepted_on("ha2", LEAST_CLUSTER);
    let addresses = vec![v4([192, 0, 2, 2]), v4([192, 0, 2, 3])];
    let nodes = ["ha1", "ha2"].into_iter().zip(&addresses);
    let cluster = Cluster {
        name: "lb".into(),
        me: 1,
        nodes: nodes.map(|(name, address)| Node { name: name.into(), address: *address }).collect(),
        key_file: "/etc/lb/keys".into(),
        interval: millis(50),
        dead: millis(200),
        late: millis(100),
        initial_dead: seconds(1),
        linger: seconds(5),
        paths: vec![HeartbeatPath::Unicast { interface: None, port: 694, addresses }],
        references: vec![],
        state: "/var/lib/lb".into(),
        hooks: Hooks::default(),
        fence: None,
    };
    assert_eq!(config.cluster, Some(cluster));
    assert_eq!(config.groups[0].nodes, [0, 1]);
    assert_eq!(config.groups[0].failback, Failback::Auto { delay: Duration::ZERO });
}

#[test]
fn a_node_knows_itself_by_its_hosts_name() {
    let me = |host: &str, text: &str| accepted_on(host, text).cluster.expect("a cluster").me;
    let whole = LEAST_CLUSTER.replace("ha2", "ha1.example.org");
    assert_eq!(me("ha2.example.org", LEAST_CLUSTER), 1);
    assert_eq!(me("ha1.example.org", &whole), 1);
    assert_eq!(me("ha1.example.net", &whole), 0);
    assert_eq!(me("ha1", &LEAST_CLUSTER.replace("cluster:\n", "cluster:\n  node: ha2\n")), 1);

    let here = fs::read_to_string("/proc/sys/kernel/hostname").expect("a kernel of Linux");
    let text = LEAST_CLUSTER.replace("ha2", &format!("{:?}", here.trim_end()));
    assert_eq!(accepted(&text).cluster.expect("a cluster").me, 1);
}

#[test]
fn a_slow_heartbeat_slows_the_other_times() {
    let times = |keys: &str| {
        let Cluster { interval, dead, late, initial_dead, .. } = cluster_with(keys);
        [interval, dead, late, initial_dead].map(|time| time.as_millis())
    };
    assert_eq!(times("  interval: 10ms\n"), [10, 200, 100, 1000]);
    assert_eq!(times("  interval: 10ms\n  dead: 40ms\n"), [10, 40, 20, 1000]);
    assert_eq!(times("  interval: 100ms\n"), [100, 400, 200, 1000]);
    assert_eq!(times("  interval: 10s\n"), [10_000, 40_000, 20_000, 40_000]);
    assert_eq!(times("  dead: 3s\n  late: 50ms\n  initial_dead: 9s\n"), [50, 3000, 50, 9000]);
}

#[test]
fn commands_with_and_without_a_time() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let cluster = cluster_with(
        "  hooks: { active: [/bin/a, \"\", 1], fault: { command: [/bin/b], timeout: 5m } }\n  fence: [/bin/c]\n",
    );
    let active = Command { words: words(&["/bin/a", "", "1"]), timeout: seconds(10) };
    let fault = Command { words: words(&["/bin/b"]), timeout: seconds(300) };
    assert_eq!(cluster.hooks, Hooks { active: Some(active), standby: None, fault: Some(fault) });
    assert_eq!(cluster.fence, Some(Command { words: words(&["/bin/c"]), timeout: seconds(10) }));
}

#[test]
fn paths_of_every_kind() {
    let text = LEAST_CLUSTER.replace(
        "[{ type: unicast }]",
        r#"
    - { type: unicast, interface: eth0, addresses: { ha2: "fe80::2", ha1: "fe80::1" } }
    - { type: unicast, interface: eth1, addresses: { ha1: "fe80::1", ha2: "fe80::2" } }
    - { type: unicast, port: 695 }
    - { type: multicast, interface: eth1, group: "[ff02::4c42]:694" }
    - { type: multicast, interface: eth2, group: "[ff02::4c42]:694" }
    - { type: broadcast, interface: eth2, address: 255.255.255.255:694 }
    - { type: serial, device: /dev/ttyUSB0, baud: 1_000_000 }"#,
    );
    let cluster = accepted_on("ha1", &text).cluster.expect("a cluster");
    let link_local: Vec<IpAddr> = ["fe80::1", "fe80::2"].map(|text| text.parse().expect("an address")).into();
    let unicast = |interface: Option<&str>, port, addresses: &[IpAddr]| HeartbeatPath::Unicast {
        interface: interface.map(str::to_owned),
        port,
        addresses: addresses.to_vec(),
    };
    let multicast = |interface: &str| HeartbeatPath::Multicast {
        interface: interface.into(),
        group: "[ff02::4c42]:694".parse().expect("a group"),
    };
    let expected = [
        unicast(Some("eth0"), 694, &link_local),
        unicast(Some("eth1"), 694, &link_local),
        unicast(None, 695, &[v4([192, 0, 2, 2]), v4([192, 0, 2, 3])]),
        multicast("eth1"),
        multicast("eth2"),
        HeartbeatPath::Broadcast {
            interface: Some("eth2".into()),
            address: ([255, 255, 255, 255], 694).into(),
        },
        HeartbeatPath::Serial { device: "/dev/ttyUSB0".into(), baud: 1_000_000 },
    ];
    assert_eq!(cluster.paths, expected);
}

#[test]
fn one_node_needs_no_paths() {
    let text = LEAST_CLUSTER.replace(", { name: ha2, address: 192.0.2.3 }", "");
    let text = text.replace("  paths: [{ type: unicast }]\n", "");
    assert_eq!(accepted_on("ha1", &text).cluster.expect("a cluster").paths, []);
}

/// `full.yaml` says in a comment what each default is; where its value is that default, leaving it out changes nothing.
#[test]
fn full_example_states_the_defaults() {
    let full = accepted(&example("full.yaml"));
    let least = accepted(LEAST);
    assert_eq!(full.connections, least.connections);
    assert_eq!(full.control, least.control);
    assert_eq!(full.metrics, least.metrics);
    assert_eq!(full.timeouts, least.timeouts);
    full_cluster_states_the_defaults(&full);
    let (full, least) = (&full.services[0], &least.services[0]);
    assert_eq!((full.scheduler, full.stray, full.drain), (least.scheduler, least.stray, least.drain));
    let (full, least) = (&full.servers[0].checks[0], &least.servers[0].checks[0]);
    assert_eq!((full.interval, full.timeout), (least.interval, least.timeout));
    assert_eq!((full.rise, full.fall), (least.rise, least.fall));
}

fn full_cluster_states_the_defaults(full: &Config) {
    let least = accepted_on("ha1", LEAST_CLUSTER);
    let group = |config: &Config| (config.groups[0].nodes.clone(), config.groups[0].failback);
    assert_eq!(group(full), group(&least));
    let (full, least) = (full.cluster.as_ref().expect("a cluster"), least.cluster.expect("a cluster"));
    assert_eq!((&full.name, &full.key_file, &full.state), (&least.name, &least.key_file, &least.state));
    assert_eq!((full.interval, full.dead, full.late), (least.interval, least.dead, least.late));
    assert_eq!((full.initial_dead, full.linger), (least.initial_dead, least.linger));
    let port_and_addresses = |cluster: &Cluster| match &cluster.paths[0] {
        HeartbeatPath::Unicast { port, addresses, .. } => (*port, addresses.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(port_and_addresses(full), port_and_addresses(&least));
    let without_times =
        example("full.yaml").replace("      timeout: 10s", "").replace("    timeout: 10s", "");
    let without_times = accepted(&without_times).cluster.expect("a cluster");
    assert_eq!((&full.hooks, &full.fence), (&without_times.hooks, &without_times.fence));
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
}

#[test]
fn times() {
    for (text, time) in [
        ("3s", seconds(3)),
        ("1500ms", Duration::from_millis(1500)),
        ("15m", seconds(900)),
        ("1h", seconds(3600)),
        ("7days", seconds(7 * 86400)),
        ("1m 30s", seconds(90)),
        ("1m30s", seconds(90)),
        ("90", seconds(90)),
        ("\"90\"", seconds(90)),
    ] {
        let config = accepted(&format!("timeouts: {{ udp: {text} }}{LEAST}"));
        assert_eq!(config.timeouts, Timeouts { udp: time, ..Timeouts::default() }, "{text}");
    }
}

#[test]
fn a_service_overrides_single_times() {
    let own = "timeouts: { udp: 5s, closed: 5s }\nservices:\n  - timeouts: { udp: 7s }\n   ";
    let config = accepted(&LEAST.replace("services:\n  -", own));
    let file = Timeouts { udp: seconds(5), closed: seconds(5), ..Timeouts::default() };
    assert_eq!(config.timeouts, file);
    assert_eq!(config.services[0].timeouts, Timeouts { udp: seconds(7), ..file });
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
    assert_eq!(accepted(&services(4096)).services.len(), 4096);
    assert_eq!(only_message(&services(4097)), (8195, "found 4097 services, expected at most 4096".into()));

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

/// Nesting is the file's choice; the parser's stack must not depend on it.
#[test]
fn deep_nesting_is_a_mistake_like_others() {
    for deep in ["[".repeat(50_000), "{a: ".repeat(20_000), format!("services: {}", "- ".repeat(20_000))] {
        check_any_text(&deep);
    }
}

/// Asks the parser itself which keys it knows: an unknown one is answered with all that are expected in its place.
#[test]
fn full_example_names_every_key() {
    let full: Value = serde_yaml::from_str(&example("full.yaml")).expect("checked by another test");
    let mut given = BTreeMap::new();
    collect_keys(&full, &mut Vec::new(), "", &mut given);
    for (place, (path, keys)) in given {
        assert_eq!(known_keys(&full, &path), keys, "keys at `{place}`");
    }
}

/// One step into a YAML document.
#[derive(Clone)]
enum Step {
    Key(String),
    Item(usize),
}

/// Its keys are names of nodes.
const FREE_KEYS: &str = ".cluster.paths[].addresses";

/// The keys of each mapping, all items of a list taken together, and the path of one such mapping.
fn collect_keys(
    value: &Value,
    path: &mut Vec<Step>,
    place: &str,
    found: &mut BTreeMap<String, (Vec<Step>, BTreeSet<String>)>,
) {
    match value {
        Value::Mapping(map) if place != FREE_KEYS => {
            let (_, keys) = found.entry(place.to_owned()).or_insert((path.clone(), BTreeSet::new()));
            keys.extend(map.keys().map(|key| key.as_str().expect("a text").to_owned()));
            for (key, value) in map {
                let key = key.as_str().expect("a text");
                path.push(Step::Key(key.to_owned()));
                collect_keys(value, path, &format!("{place}.{key}"), found);
                path.pop();
            }
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Step::Item(index));
                collect_keys(item, path, &format!("{place}[]"), found);
                path.pop();
            }
        }
        _ => {}
    }
}

/// The keys that the parser expects in the mapping at `path`.
fn known_keys(full: &Value, path: &[Step]) -> BTreeSet<String> {
    let mut file = full.clone();
    let map = path.iter().fold(&mut file, |value, step| match step {
        Step::Key(key) => &mut value[key.as_str()],
        Step::Item(index) => &mut value[*index],
    });
    const UNLIKE_ANY: &str = "0123456789012345678901234567890123456789";
    map[UNLIKE_ANY] = Value::Null;
    let (_, message) = only_message(&serde_yaml::to_string(&file).expect("a value"));
    let (_, expected) =
        message.split_once(&format!("unknown field `{UNLIKE_ANY}`, expected ")).expect(&message);
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// No text makes the parser panic, and every mistake stands within the text.
fn check_any_text(text: &str) {
    let Err(error) = parse(text, "any.yaml") else { return };
    assert!(!error.mistakes().is_empty());
    assert!(error.to_string().starts_with("any.yaml:"));
    let lines = text.split(['\n', '\r']).count();
    for mistake in error.mistakes() {
        assert!((1..=lines).contains(&mistake.line), "{mistake:?}");
        assert!((1..=mistake.source_line.chars().count() + 1).contains(&mistake.column), "{mistake:?}");
        assert!(!mistake.message.is_empty());
    }
}

/// One edit: where, how many characters go, what comes.
fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, String)>> {
    let bits = "[-:{}\\[\\],&*!#|>'\"%@`?~ \t\n0-9a-z]{0,4}|- |: |\\*a|&a |vip|- vip: |\\.\\.\\.|---\n|ha1|nodes|\\PC";
    prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, bits), 1..6)
}

proptest! {
    #[test]
    fn any_text(text in any::<String>()) {
        check_any_text(&text);
    }

    #[test]
    fn any_text_of_yaml_signs(text in "([-:{}\\[\\],&*!#|>'\"%@`?~ \t\r\n]|a|vip|services|: |- |\n  ){0,60}") {
        check_any_text(&text);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), &bytes).expect("a writable file");
        if let Err(error) = load(file.path()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    /// What is accepted, the cluster's machine accepts too.
    #[test]
    fn any_times_of_a_cluster(
        interval in 5..11_000_u64,
        dead in prop::option::of((300..600_u64, 0..700_u64)),
        late in prop::option::of(0..1000_u64),
        initial_dead in prop::option::of(0..5000_u64),
    ) {
        // Near the limits, which the interval moves.
        let dead = dead.map(|(percent, more)| interval * percent / 100 + more);
        let mut keys = format!("  interval: {interval}ms\n");
        for (key, time) in [("dead", dead), ("late", late), ("initial_dead", initial_dead)] {
            if let Some(time) = time {
                keys += &format!("  {key}: {time}ms\n");
            }
        }
        let text = LEAST_CLUSTER.replace("cluster:\n", &format!("cluster:\n{keys}"));
        let accepted = parse_on(&text, "test.yaml", "ha1");
        let dead = dead.unwrap_or_else(|| 200.max(4 * interval));
        let right = (10..=10_000).contains(&interval)
            && dead >= 4 * interval
            && late.is_none_or(|late| late >= interval)
            && initial_dead.is_none_or(|initial_dead| initial_dead >= dead);
        prop_assert_eq!(accepted.is_ok(), right, "{}\n{:?}", keys, accepted);
        if let Ok(Config { cluster: Some(Cluster { interval, dead, late, initial_dead, .. }), .. }) = accepted {
            let lease = Settings::longest_lease(interval, dead);
            let settings =
                Settings { interval, dead, late, initial_dead, lease, ..Settings::new(NodeId(0), 2, 1) };
            prop_assert_eq!(settings.check(), Ok(()));
        }
    }

    #[test]
    fn any_edit_of_a_whole_file(edits in edits()) {
        let mut chars: Vec<char> = example("full.yaml").chars().collect();
        for (at, gone, comes) in edits {
            let start = at.index(chars.len());
            let end = (start + gone).min(chars.len());
            chars.splice(start..end, comes.chars());
        }
        check_any_text(&chars.into_iter().collect::<String>());
    }
}

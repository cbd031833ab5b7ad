//! The configuration from the outside: files that are right, files that are wrong, and text that is neither.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_userspace::config::{
    Check, Config, ConfigError, Control, Failback, Fallback, Group, GroupVip, HttpProbe, Metrics, Probe,
    Protocol, Scheduler, Server, Service, ServiceKey, Stray, Timeouts, load, parse,
};
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
fn refused(text: &str) -> ConfigError {
    parse(text, "test.yaml").expect_err("accepted")
}

fn v4(address: [u8; 4]) -> IpAddr {
    Ipv4Addr::from(address).into()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `tests/config/bad/NAME.yaml` is refused with exactly the words of `NAME.expected`.
/// `LB_BLESS=1` rewrites those after a change of wording; read the difference before committing it.
#[test]
fn every_mistake_is_told_where_it_stands() {
    let bless = std::env::var_os("LB_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in yaml_files("tests/config/bad") {
        let name = path.file_name().expect("a file name").to_string_lossy().into_owned();
        let told = match load(&path) {
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
    let server = |name: &str, last| Server {
        name: name.into(),
        address: v4([211, 58, 250, last]),
        port: 80,
        weight: 1,
    };
    let web = Service {
        name: "web".into(),
        key: ServiceKey { vip: v4([211, 58, 250, 6]), port: 80, protocol: Protocol::Tcp },
        scheduler: Scheduler::Rr,
        fallback: Fallback::Local,
        stray: Stray::Pass,
        timeouts: Timeouts::default(),
        drain: seconds(30),
        check: Some(Check {
            probe: Probe::Http(HttpProbe {
                request: "/index.html".into(),
                host: None,
                receive: Some("Test Page".into()),
                status: None,
            }),
            interval: seconds(1),
            timeout: seconds(3),
            rise: 1,
            fall: 1,
            port: None,
        }),
        servers: vec![server("www1", 25), server("www2", 27)],
    };
    let config = Config {
        interface: "eth0".into(),
        connections: 1_000_000,
        control: Control { socket: "/run/lb/lb.sock".into() },
        metrics: Some(Metrics { listen: ([127, 0, 0, 1], 9105).into() }),
        timeouts: Timeouts::default(),
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
        probe: Probe::Http(HttpProbe { request: "/".into(), host: None, receive: None, status: None }),
        interval: seconds(2),
        timeout: seconds(3),
        rise: 1,
        fall: 1,
        port: None,
    };
    let service = Service {
        name: "tcp/192.0.2.10:80".into(),
        key: ServiceKey { vip: v4([192, 0, 2, 10]), port: 80, protocol: Protocol::Tcp },
        scheduler: Scheduler::Wlc,
        fallback: Fallback::None,
        stray: Stray::Pass,
        timeouts: Timeouts {
            syn_recv: seconds(60),
            established: seconds(900),
            fin_wait: seconds(120),
            closed: seconds(10),
            udp: seconds(300),
        },
        drain: seconds(30),
        check: Some(check),
        servers: vec![Server {
            name: "192.0.2.21".into(),
            address: v4([192, 0, 2, 21]),
            port: 80,
            weight: 1,
        }],
    };
    assert_eq!(config.services, [service]);
    assert_eq!(config.connections, 1_000_000);
    assert_eq!(config.control, Control { socket: "/run/lb/lb.sock".into() });
    assert_eq!(config.metrics, Some(Metrics { listen: ([127, 0, 0, 1], 9105).into() }));
    assert_eq!(config.timeouts, Timeouts::default());
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
    let (full, least) = (&full.services[0], &least.services[0]);
    assert_eq!((full.scheduler, full.stray, full.drain), (least.scheduler, least.stray, least.drain));
    let (full, least) = (full.check.as_ref().expect("checked"), least.check.as_ref().expect("checked"));
    assert_eq!((full.interval, full.timeout), (least.interval, least.timeout));
    assert_eq!((full.rise, full.fall), (least.rise, least.fall));
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

/// The keys of each mapping, all items of a list taken together, and the path of one such mapping.
fn collect_keys(
    value: &Value,
    path: &mut Vec<Step>,
    place: &str,
    found: &mut BTreeMap<String, (Vec<Step>, BTreeSet<String>)>,
) {
    match value {
        Value::Mapping(map) => {
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
    let bits = "[-:{}\\[\\],&*!#|>'\"%@`?~ \t\n0-9a-z]{0,4}|- |: |\\*a|&a |vip|- vip: |\\.\\.\\.|---\n|\\PC";
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

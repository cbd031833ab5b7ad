//! Several files: what they are together, which of them a mistake names, what they depend on.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

const MAIN: &str = "
interface: eth0
include: [services.d/*.yaml]
services:
  - { vip: '192.0.2.10:80', fallback: local }
";

/// The names of the services.
fn names(config: &Config) -> Vec<&str> {
    config.services.iter().map(|service| service.name.as_str()).collect()
}

#[test]
fn files_are_taken_by_name_each_once_and_hidden_ones_not_at_all() {
    let service =
        |port: u16| format!("services: [{{ name: s{port}, vip: '192.0.2.10:{port}', fallback: local }}]");
    let folder = folder(&[
        (
            "lb.yaml",
            &MAIN.replace("[services.d/*.yaml]", "[services.d/c.yaml, services.d/*.yaml, '*.yaml', none/*]"),
        ),
        ("services.d/b.yaml", &service(2)),
        ("services.d/a.yaml", &service(1)),
        ("services.d/c.yaml", &service(3)),
        ("services.d/.hidden.yaml", "no: configuration"),
        ("services.d/b.yaml~", "no: configuration"),
        ("services.d/empty.yaml", "# nothing any more\n"),
        ("other.yaml", &service(4)),
    ]);
    std::os::unix::fs::symlink("a.yaml", folder.path().join("services.d/z.yaml")).expect("a link");
    let path = folder.path().join("lb.yaml");
    let mut files = Files::open(&path).expect("a file");
    let config = files.config().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(names(&config), ["tcp/192.0.2.10:80", "s3", "s1", "s2", "s4"]);
    let warnings: Vec<String> = files.warnings().iter().map(Mistake::to_string).collect();
    assert_eq!(warnings, [format!("{}:3:59: include \"none/*\": no file matches", path.display())]);
}

#[test]
fn a_folder_with_signs_of_patterns_in_its_name_is_no_pattern() {
    let folder = folder(&[
        ("a[b]*/lb.yaml", MAIN),
        ("a[b]*/services.d/one.yaml", "services: [{ name: one, vip: '192.0.2.11:80', fallback: local }]"),
    ]);
    let config = load(&folder.path().join("a[b]*/lb.yaml")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(names(&config), ["tcp/192.0.2.10:80", "one"]);
}

#[test]
fn c10_a_file_that_cannot_be_read_hides_no_mistake_of_another_one() {
    let included = |list: &str| MAIN.replace("[services.d/*.yaml]", list);
    let main = included("[services.d, 'services.d/*.yaml']").replace("fallback: local", "scheduler: rrr");
    let folder =
        folder(&[("lb.yaml", &main), ("services.d/b.yaml", "services: [{ vip: x, fallback: local }]")]);
    fs::write(folder.path().join("services.d/a.yaml"), b"services: [{ name: \xff }]\n").expect("a file");
    let error = load(&folder.path().join("lb.yaml")).expect_err("it is wrong");
    let found: Vec<String> = error
        .mistakes()
        .iter()
        .map(|mistake| mistake.to_string().replace(&format!("{}/", folder.path().display()), ""))
        .collect();
    let expected = [
        "lb.yaml:3:11: include \"services.d\": services.d is no regular file",
        "lb.yaml:5:40: scheduler \"rrr\"",
        "services.d/a.yaml:1:20: found byte 0xff, expected UTF-8 text",
        "services.d/b.yaml:1:19: vip \"x\"",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
    }
}

#[test]
fn what_a_configuration_depends_on_is_known_even_if_it_is_refused() {
    let folder = folder(&[
        ("lb.yaml", &MAIN.replace("fallback: local", "fallback: local, name: '${file:name}'")),
        (
            "services.d/one.yaml",
            "services: [{ vip: '192.0.2.11:80', fallback: local, drain: '${file:drain}' }]",
        ),
    ]);
    let mut files = Files::open(&folder.path().join("lb.yaml")).expect("a file");
    files.config().expect_err("values are missing");
    let known = ["name", "services.d/drain", "services.d/one.yaml"].map(|name| folder.path().join(name));
    assert_eq!(files.sources().paths(), known);
    fs::write(folder.path().join("services.d/two.yaml"), "").expect("a file");
    assert_eq!(files.sources().paths().len(), 4, "one that is added counts at once");
    fs::write(&known[0], "first\n").expect("a file");
    fs::write(&known[1], "90").expect("a file");
    files.config().expect_err("they are what they were when they were read");
    let config = load(&folder.path().join("lb.yaml")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((names(&config)[0], config.services[1].drain), ("first", seconds(90)));
}

/// All kinds of values can come from elsewhere.
#[test]
fn references_stand_for_values_of_every_kind() {
    let folder = folder(&[
        ("key", "8f95f09245765f80256934e50c66207f\n"),
        ("number", "3\n"),
        ("switch", "on"),
        ("time", "1m 30s"),
        ("address", "192.0.2.21"),
        ("words", "Welcome: \"all\" # really\n"),
        (
            "lb.yaml",
            "
interface: eth0
metrics: ${file:switch}
connections: ${file:number}000
timeouts: { udp: '${file:time}' }
services:
  - vip: 192.0.2.10:443
    protocol: udp
    ops: off
    quic_lb: [{ server_id_length: '${file:number}', nonce_length: 13, key: '${file:key}' }]
    hooks: { server_up: [/bin/echo, '${file:words}', '$${file:words}', '${LB_VIP}'] }
    check: { type: udp, send: '<${file:words}>', fall: '${file:number}' }
    servers: [{ address: '${file:address}', quic_server_ids: { 0: '0a0${file:number}03' } }]
",
        ),
    ]);
    let config = load(&folder.path().join("lb.yaml")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (config.connections, config.metrics.is_some(), config.timeouts.udp),
        (3000, true, seconds(90))
    );
    let service = &config.services[0];
    assert_eq!((service.quic[0].server_id_length, service.quic[0].key.is_some()), (3, true));
    let hook = service.hooks.server_up.as_ref().expect("a hook");
    assert_eq!(hook.words[1..], ["Welcome: \"all\" # really", "${file:words}", "${LB_VIP}"]);
    let server = &service.servers[0];
    assert_eq!(server.address, v4([192, 0, 2, 21]));
    assert_eq!(server.quic_ids, QuicServerIds::from([(0, vec![10, 3, 3])]));
    let Probe::Udp(exchange) = &server.checks[0].probe else { panic!("{:?}", server.checks) };
    assert_eq!((&exchange.send[..], server.checks[0].fall), (&b"<Welcome: \"all\" # really>"[..], 3));
    let shown = format!("{config:?}");
    assert!(!shown.contains("8f95f092"), "a secret is not shown: {shown}");
}

/// What a reference stands for is not in messages.
#[test]
fn messages_show_the_reference_and_not_what_it_stands_for() {
    let folder = folder(&[
        ("secret", "hunter2\n"),
        (
            "lb.yaml",
            "
interface: eth0
web: { tokens: '${file:secret}', hosts: ['${file:secret}/'] }
services:
  - vip: ${file:secret}
    scheduler: ${file:secret}
    drain: ${file:secret}
    source_nat: ['${file:secret}']
    hooks: { server_up: ['${file:secret}'] }
    check: { type: http, matches: '(${file:secret}', digest: '${file:secret}', expiry_warning: '${file:secret}' }
    servers: [{ address: '${file:secret}', weight: '${file:secret}' }]
",
        ),
    ]);
    let error = load(&folder.path().join("lb.yaml")).expect_err("all is wrong");
    assert!(error.mistakes().len() >= 10, "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn changes_at_run_time_are_made_where_the_service_stands() {
    use lb_model::overlay::{Change, ChangedFile, NewServer, NewService};

    const ONE: &str = "services:\n  # mine\n  - name: one\n    vip: 192.0.2.11:80\n    servers:\n      - address: 192.0.2.21\n";
    let folder = folder(&[("lb.yaml", MAIN), ("services.d/one.yaml", ONE)]);
    let [main, one] = ["lb.yaml", "services.d/one.yaml"].map(|name| folder.path().join(name));
    let server = NewServer { address: "192.0.2.22".into(), ..NewServer::default() };
    let add = Change::AddServer { service: "one".into(), server };
    let new = Change::AddService {
        service: NewService {
            vip: "192.0.2.12:80".into(),
            fallback: Some("local".into()),
            ..NewService::default()
        },
    };
    let remove = Change::RemoveService { service: "one".into() };
    let changed = |changes: &[Change]| {
        let mut files = Files::open(&main).expect("a file");
        let changed = files.changed(changes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(changed.unused, BTreeMap::new(), "{changes:?}");
        changed
    };
    let with_server = ONE.to_owned() + "      - { address: 192.0.2.22 }\n";
    let with_service = MAIN.to_owned() + "  - { vip: '192.0.2.12:80', fallback: local }\n";
    let file = |path: &Path, before: &str, after: &str| ChangedFile {
        path: path.to_owned(),
        before: before.to_owned(),
        after: after.to_owned(),
    };
    assert_eq!(changed(std::slice::from_ref(&add)).files, [file(&one, ONE, &with_server)]);
    let both = changed(&[new, add]);
    assert_eq!(both.files, [file(&main, MAIN, &with_service), file(&one, ONE, &with_server)]);
    assert_eq!(names(&both.config), ["tcp/192.0.2.10:80", "tcp/192.0.2.12:80", "one"]);
    let gone = changed(&[remove]);
    let [ChangedFile { path, after, .. }] = &gone.files[..] else { panic!("{:?}", gone.files) };
    assert!(*path == one && after.starts_with("services: []"), "{after}");
    fs::write(path, after).expect("writing");
    assert_eq!(names(&load(&main).unwrap_or_else(|error| panic!("{error}"))), ["tcp/192.0.2.10:80"]);
}

/// Each file is read once, so whatever is written in the meantime belongs to the next reading.
#[test]
fn changes_at_run_time_are_made_in_files_of_one_moment() {
    use lb_model::overlay::{Change, NewServer};

    let folder = folder(&[
        ("weight", "3\n"),
        ("deny", "198.51.100.0/24\n"),
        ("services.d/two.yaml", "services: [{ name: two, vip: '192.0.2.11:80', fallback: local }]"),
    ]);
    let main = folder.path().join("lb.yaml");
    let text = format!(
        "interface: eth0\ninclude: [services.d/*.yaml]\nclients: {{ deny_file: {} }}\nservices:\n  - name: one\n    \
         vip: 192.0.2.10:80\n    servers: [{{ address: 192.0.2.21, weight: '${{file:weight}}' }}]\n",
        folder.path().join("deny").display()
    );
    fs::write(&main, text).expect("a file");
    let mut files = Files::open(&main).expect("a file");
    let before = files.config().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((before.services[0].servers[0].weight, before.denied.lists.deny.len()), (3, 1));
    fs::write(folder.path().join("weight"), "7\n").expect("a file");
    fs::write(folder.path().join("deny"), "half a li").expect("a file");
    fs::remove_file(folder.path().join("services.d/two.yaml")).expect("it is there");
    let add = |service: &str, address: &str| Change::AddServer {
        service: service.to_owned(),
        server: NewServer { address: address.to_owned(), ..NewServer::default() },
    };
    let changes = [add("one", "192.0.2.22"), add("none", "192.0.2.22"), add("one", "192.0.2.23")];
    let changed = files.changed(&changes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(changed.unused.keys().copied().collect::<Vec<_>>(), [1]);
    let weights: Vec<u16> = changed.config.services[0].servers.iter().map(|server| server.weight).collect();
    assert_eq!((&weights[..], names(&changed.config)), (&[3, 1, 1][..], vec!["one", "two"]));
    assert_eq!(changed.config.denied, before.denied, "the list is in the changed configuration, too");
    assert!(load(&main).is_err(), "the next reading finds what is there now");
}

/// A list as the file has it, without its key if it is empty.
fn list(key: &str, items: &[&String]) -> String {
    match items {
        [] => String::new(),
        items => format!("{key}:\n{}", items.iter().map(|item| format!("  - {item}\n")).collect::<String>()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever groups and services stand, the configuration is the same, and so is its digest.
    #[test]
    fn files_together_are_the_whole(
        services in vec((0..4_usize, 1..4_u8), 1..9),
        groups in vec(0..4_usize, 0..5),
        apart in any::<bool>(),
    ) {
        let services: Vec<(usize, String)> = services.iter().enumerate().map(|(index, (place, servers))| {
            let servers: Vec<String> = (0..*servers).map(|last| format!("{{ address: 192.0.2.{} }}", 100 + last)).collect();
            let servers = servers.join(", ");
            (*place, format!("{{ name: s{index}, vip: '192.0.2.10:{}', servers: [{servers}] }}", 80 + index))
        }).collect();
        let groups: Vec<(usize, String)> = groups.iter().enumerate().map(|(index, place)| {
            (*place, format!("{{ name: g{index}, vips: [192.0.2.{}/24] }}", 10 + index))
        }).collect();
        fn of(all: &[(usize, String)], wanted: usize) -> Vec<&String> {
            all.iter().filter(|(place, _)| *place == wanted).map(|(_, text)| text).collect()
        }
        let part = |place: usize| {
            list("groups", &of(&groups, place)) + &list("services", &of(&services, place)) + "# the end\n"
        };
        let in_order = |all: &[(usize, String)]| -> Vec<String> {
            (0..4).flat_map(|place| of(all, place).into_iter().cloned()).collect()
        };
        let (all_groups, all_services) = (in_order(&groups), in_order(&services));
        let whole = format!(
            "interface: eth0\n{}{}",
            list("groups", &all_groups.iter().collect::<Vec<_>>()),
            list("services", &all_services.iter().collect::<Vec<_>>()),
        );
        let patterns = if apart { "[d/f1.yaml, d/f2.yaml, d/f3.yaml]" } else { "[d/f*.yaml]" };
        let main = format!("interface: eth0\ninclude: {patterns}\n{}", part(0));
        let folder = folder(&[("lb.yaml", &main), ("d/f1.yaml", &part(1)), ("d/f2.yaml", &part(2)), ("d/f3.yaml", &part(3))]);
        let split = load(&folder.path().join("lb.yaml"));
        let split = split.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let whole = accepted(&whole);
        prop_assert_eq!(split.digest(), whole.digest());
        prop_assert_eq!(&split, &whole);

        // What is in an included file counts for the digest that directors compare.
        if !part(3).contains("services:") {
            let more = "{ name: more, vip: '192.0.2.10:9', fallback: local }".to_owned();
            let other = part(3) + &list("services", &[&more]);
            fs::write(folder.path().join("d/f3.yaml"), other).expect("writing");
            let other = load(&folder.path().join("lb.yaml")).expect("it is valid");
            prop_assert_ne!(other.digest(), split.digest());
        }
    }
}

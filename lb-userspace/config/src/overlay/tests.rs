use lb_model::overlay::{NewPersistence, NewServer, NewService, ServerSettings, Settings};
use proptest::prelude::*;

use super::*;

const FILE: &str = "\
interface: eth0
services:
  # The web.
  - name: web
    vip: 192.0.2.10:80
    check: { type: http }       # and that
    servers:
      - address: 192.0.2.21     # the old one
";

fn server(address: &str) -> NewServer {
    NewServer { address: address.to_owned(), ..NewServer::default() }
}

fn add(service: &str, server: NewServer) -> Change {
    Change::AddServer { service: service.to_owned(), server }
}

fn files(text: &str) -> Files {
    Files::of(Document::new("lb.yaml".into(), text))
}

/// The new text, and what is unused.
fn made(changes: &[Change]) -> (String, Vec<(usize, String)>) {
    let changed = files(FILE).changed(changes).unwrap_or_else(|error| panic!("{error}"));
    let text = changed.files.into_iter().next().map_or_else(|| FILE.to_owned(), |file| file.after);
    (text, changed.unused.into_iter().collect())
}

#[test]
fn servers_and_services_come_and_go() {
    let www2 = NewServer { name: Some("www2".into()), weight: Some(3), ..server("192.0.2.22") };
    let dns = NewService {
        vip: "[2001:db8::10]:53".into(),
        protocol: Some("udp".into()),
        servers: vec![server("2001:db8::21")],
        ..NewService::default()
    };
    let (text, unused) = made(&[
        add("web", www2),
        Change::RemoveServer { service: "web".into(), server: "192.0.2.21".into() },
        Change::AddService { service: dns },
    ]);
    assert!(unused.is_empty(), "{unused:?}");
    let wanted = FILE.replace(
        "- address: 192.0.2.21     # the old one",
        "- { name: www2, address: 192.0.2.22, weight: 3 }",
    ) + "  - { vip: '[2001:db8::10]:53', protocol: udp, servers: [{ address: '2001:db8::21' }] }\n";
    assert_eq!(text, wanted);
    let config = crate::parse(&text, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.services[0].servers[0].checks.len(), 1, "the service's check is its own, too");
}

#[test]
fn a_check_may_have_a_port_and_a_request() {
    let service = NewService {
        vip: "192.0.2.11:80".into(),
        check: Some("http".into()),
        check_port: Some(10256),
        check_request: Some("/healthz".into()),
        servers: vec![server("192.0.2.21")],
        ..NewService::default()
    };
    let (text, unused) = made(&[Change::AddService { service }]);
    assert!(unused.is_empty(), "{unused:?}");
    let line = "  - { vip: '192.0.2.11:80', check: { type: http, port: 10256, request: '/healthz' }, \
                servers: [{ address: 192.0.2.21 }] }\n";
    assert_eq!(text, FILE.to_owned() + line);

    let service = NewService {
        vip: "192.0.2.11:80".into(),
        check_port: Some(80),
        servers: vec![server("192.0.2.21")],
        ..NewService::default()
    };
    let (text, unused) = made(&[Change::AddService { service }]);
    assert!(text == FILE && unused[0].1.contains("`type`"), "{unused:?}");
}

#[test]
fn a_vip_with_several_ports_is_known_by_any_spelling() {
    let new = |vip: &str| {
        let (vip, fallback) = (vip.to_owned(), Some("refuse".to_owned()));
        Change::AddService { service: NewService { vip, fallback, ..NewService::default() } }
    };
    let (text, unused) = made(&[
        new("192.0.2.10:90, 8000-8010"),
        add("tcp/192.0.2.10:90,8000-8010", server("192.0.2.22")),
        add("192.0.2.10:90, 8000-8010", server("192.0.2.23")),
        new("192.0.2.10:90,8000-8010"),
        new("[2001:DB8::10]:*"),
        add("tcp/[2001:db8::10]:*", server("2001:db8::22")),
    ]);
    assert_eq!(unused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3], "{unused:?}");
    let config = crate::parse(&text, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
    let servers: Vec<usize> = config.services.iter().map(|service| service.servers.len()).collect();
    assert_eq!(servers, [1, 2, 1], "{text}");
}

#[test]
fn what_makes_no_sense_any_more_is_left_out_and_told() {
    let changes = [
        add("web", server("192.0.2.21")),
        add("mail", server("192.0.2.22")),
        Change::RemoveServer { service: "web".into(), server: "www9".into() },
        add("web", NewServer { forward: Some("teleport".into()), ..server("192.0.2.23") }),
        add("web", server("192.0.2.24")),
    ];
    let (text, unused) = made(&changes);
    let indices: Vec<usize> = unused.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [0, 1, 2, 3], "{unused:?}");
    assert!(unused[0].1.contains("already"), "{unused:?}");
    assert!(unused[3].1.contains("expected one of direct"), "{unused:?}");
    assert_eq!(text, FILE.to_owned() + "      - { address: 192.0.2.24 }\n");
    assert!(files("interface: [").changed(&changes).is_err());
}

fn edit(service: &str, settings: Settings) -> Change {
    Change::EditService { service: service.to_owned(), settings }
}

fn new(port: u16, servers: &[&str]) -> Change {
    let service = NewService {
        vip: format!("192.0.2.10:{port}"),
        fallback: Some("refuse".into()),
        servers: servers.iter().map(|address| server(address)).collect(),
        ..NewService::default()
    };
    Change::AddService { service }
}

fn remove(service: &str) -> Change {
    Change::RemoveService { service: service.to_owned() }
}

#[test]
fn settings_of_a_service_change_and_the_rest_stays() {
    let persistence = Some(NewPersistence { timeout_s: 600, prefix: Some(24) });
    let hashed =
        Settings { scheduler: Some("sh".into()), hash_port: true, persistence, ..Settings::default() };
    let (text, unused) = made(&[edit("web", hashed)]);
    assert!(unused.is_empty(), "{unused:?}");
    let hash = "    scheduler: sh\n    hash: { port: on, fallback: off }\n";
    assert_eq!(text, FILE.to_owned() + hash + "    persistence: { timeout: 600s, prefix: 24 }\n");
    // What is not said goes back to ipvsadm's default.
    let changed = files(&text).changed(&[edit("web", Settings::default())]);
    let changed = changed.unwrap_or_else(|error| panic!("{error}"));
    let more = "    scheduler: wlc\n    hash: { port: off, fallback: off }\n";
    assert_eq!(changed.files[0].after, FILE.to_owned() + more);
    let (text, unused) = made(&[edit("web", Settings::default())]);
    assert!(text == FILE && unused.is_empty(), "it is all default: {text}");
    let (text, unused) = made(&[edit("web", Settings { ops: true, ..Settings::default() })]);
    assert!(text == FILE && unused[0].1.contains("would break TCP"), "{unused:?}");
}

#[test]
fn settings_of_a_server_change_and_the_rest_stays() {
    let edit = |server: &str, settings: ServerSettings| Change::EditServer {
        service: "web".into(),
        server: server.into(),
        settings,
    };
    let full = ServerSettings {
        weight: Some(5),
        forward: Some("gue".into()),
        gue_port: Some(6081),
        upper_threshold: Some(9),
        lower_threshold: Some(2),
    };
    let (text, unused) = made(&[edit("192.0.2.21", full)]);
    assert!(unused.is_empty(), "{unused:?}");
    let more = "# the old one\n        weight: 5\n        forward: gue\n        gue_port: 6081\n        \
                upper_threshold: 9\n        lower_threshold: 2\n";
    assert_eq!(text, FILE.replace("# the old one\n", more));
    // What is so already stays as it stands; a port that no method has any more goes.
    let none = ServerSettings {
        weight: Some(5),
        forward: Some("gate".into()),
        upper_threshold: Some(0),
        lower_threshold: Some(0),
        gue_port: None,
    };
    let changed = files(&text).changed(&[edit("192.0.2.21:80", none)]);
    let changed = changed.unwrap_or_else(|error| panic!("{error}"));
    let left = "# the old one\n        weight: 5\n        forward: direct\n";
    assert_eq!(changed.files[0].after, FILE.replace("# the old one\n", left));
    let same =
        ServerSettings { weight: Some(1), forward: Some("direct".into()), ..ServerSettings::default() };
    let wrong = ServerSettings { lower_threshold: Some(2), ..ServerSettings::default() };
    let (text, unused) =
        made(&[edit("192.0.2.21", same), edit("www9", wrong.clone()), edit("192.0.2.21", wrong)]);
    assert!(text == FILE && unused[0].1.contains("has no server"), "{unused:?}");
    assert!(unused.len() == 2 && unused[1].1.contains("upper_threshold"), "{unused:?}");
}

#[test]
fn what_is_made_bit_by_bit_is_no_file_before_it_is_whole() {
    let of = |changes: &[Change]| {
        let changed = files(FILE).changed(changes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(changed.unused, BTreeMap::new(), "{changes:?}");
        changed
    };
    let changed = of(&[new(81, &[])]);
    assert_eq!(changed.config.services.len(), 2);
    assert!(changed.lacks().is_some_and(|why| why.contains("tcp/192.0.2.10:81 has no server")));
    let whole = of(&[new(81, &[]), add("tcp/192.0.2.10:81", server("192.0.2.22"))]);
    assert_eq!(whole.lacks(), None);
    let none = of(&[remove("web"), new(81, &["192.0.2.22"]), remove("tcp/192.0.2.10:81")]);
    assert!(none.config.services.is_empty() && none.lacks().is_some());
    let again = of(&[remove("web"), new(80, &["192.0.2.22"])]);
    assert_eq!(again.lacks(), None);
    crate::parse(&again.files[0].after, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
    // Who is left alone by the last server of a file's service has asked for no such thing.
    let last = Change::RemoveServer { service: "web".into(), server: "192.0.2.21".into() };
    let (_, unused) = made(&[last]);
    assert!(unused[0].1.contains("serves nobody"), "{unused:?}");
}

#[test]
fn of_thousands_each_bad_one_is_found() {
    let mut changes: Vec<Change> = (1000..1100).map(|port| new(port, &["192.0.2.22"])).collect();
    changes.insert(70, new(80, &["192.0.2.22"]));
    changes.extend((1000..1100).map(|port| remove(&format!("tcp/192.0.2.10:{port}"))));
    changes.insert(150, remove("mail"));
    let (text, unused) = made(&changes);
    let indices: Vec<usize> = unused.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [70, 150], "{unused:?}");
    assert_eq!(text, FILE);
}

#[test]
fn services_that_are_there_are_found_before_a_look_at_the_files() {
    let named = NewService { name: Some("web".into()), vip: "192.0.2.10:83".into(), ..NewService::default() };
    let mut changes = vec![new(80, &[]), new(82, &[]), Change::AddService { service: named }, new(80, &[])];
    changes.extend([remove("web"), new(80, &["192.0.2.22"]), new(80, &[])]);
    changes.extend(std::iter::repeat_n(new(82, &[]), 1000));
    let changed = files(FILE).changed(&changes).unwrap_or_else(|error| panic!("{error}"));
    let indices: Vec<usize> = changed.unused.keys().copied().collect();
    let wanted: Vec<usize> = [0, 2, 3, 6].into_iter().chain(7..1007).collect();
    assert_eq!(indices, wanted, "{:?}", changed.unused.first_key_value());
    assert_eq!(changed.unused[&0], "there is a service tcp/192.0.2.10:80 already");
    assert_eq!(changed.config.services.len(), 2);
}

#[test]
fn what_would_change_others_too_is_refused() {
    const SHARED: &str = "\
interface: eth0
services:
  - { name: web, vip: '192.0.2.10:80', servers: &all [{ address: 192.0.2.21 }, { address: 192.0.2.22 }] }
  - { name: mail, vip: '192.0.2.10:25', servers: *all }
";
    let gone = Change::RemoveServer { service: "web".into(), server: "192.0.2.21".into() };
    let settings = ServerSettings { weight: Some(2), ..ServerSettings::default() };
    let edit = Change::EditServer { service: "web".into(), server: "192.0.2.22".into(), settings };
    let changes = [add("web", server("192.0.2.23")), gone, edit, new(81, &["192.0.2.21"])];
    let changed = files(SHARED).changed(&changes).unwrap_or_else(|error| panic!("{error}"));
    let why = "the file's layout does not let that be changed alone".to_owned();
    assert_eq!(changed.unused, BTreeMap::from([0, 1, 2].map(|number| (number, why.clone()))));
    assert!(changed.files[0].after.starts_with(SHARED), "{}", changed.files[0].after);
}

#[test]
fn what_stood_in_the_way_of_another_is_not_there_if_it_cannot_be() {
    let wrong = NewServer { forward: Some("teleport".into()), ..server("192.0.2.22") };
    let (text, unused) = made(&[add("web", wrong), add("web", server("192.0.2.22"))]);
    assert_eq!(unused.len(), 1, "{unused:?}");
    assert!(unused[0].0 == 0 && unused[0].1.contains("expected one of direct"), "{unused:?}");
    assert_eq!(text, FILE.to_owned() + "      - { address: 192.0.2.22 }\n");
}

#[test]
fn services_in_a_line_are_changed_all_the_same() {
    const LINE: &str = "\
interface: eth0
services: [ { name: web, vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }] },
  { name: mail, vip: '192.0.2.10:25', fallback: local } ]
";
    let changes = [
        add("web", server("192.0.2.22")),
        new(81, &["192.0.2.21"]),
        add("web", server("192.0.2.22")),
        remove("mail"),
        Change::RemoveServer { service: "web".into(), server: "192.0.2.21".into() },
    ];
    let changed = files(LINE).changed(&changes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(changed.unused.keys().copied().collect::<Vec<_>>(), [2]);
    let names: Vec<&str> = changed.config.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["web", "tcp/192.0.2.10:81"]);
    assert_eq!(changed.config.services[0].servers[0].name, "192.0.2.22");
    let saved = crate::parse(&changed.files[0].after, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(saved, changed.config);
}

proptest! {
    /// Whatever is asked for, the file stays a valid one.
    #[test]
    fn names_break_nothing(name in "(.|\\$\\{file:/etc/passwd\\}){0,20}", address in "[0-9a-f:.\\]\\['{}, #$]{0,20}") {
        let named = NewServer { name: Some(name.clone()), ..server("192.0.2.22") };
        let (text, _) = made(&[add("web", named), add("web", server(&address))]);
        let config = crate::parse(&text, "lb.yaml");
        prop_assert!(config.is_ok(), "{}", text);
        for server in &config.expect("it is valid").services[0].servers[1..] {
            prop_assert!(server.name == name.replace(char::is_control, " ") || server.name == server.address.to_string(), "{}", text);
        }
    }
}

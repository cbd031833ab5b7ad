//! Orders as operators give them, and what outlives a restart.

use super::*;

const CONFIG: &str = "
interface: eth0
maintenance_dir: FOLDER
services:
  - { name: web, vip: '192.0.2.10:80', servers: [{ name: www1, address: 192.0.2.21 }, { address: 192.0.2.22 }] }
  - { name: tls, vip: '192.0.2.10:443', servers: [{ name: www1, address: 192.0.2.21 }, { name: www2, address: 192.0.2.23 }] }
  - { name: dns, vip: '192.0.2.10:53', protocol: udp, servers: [{ name: www2, address: 192.0.2.22 }] }
";

struct Desk {
    folder: tempfile::TempDir,
    config: Config,
    standing: Standing,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = CONFIG.replace("FOLDER", &folder.path().join("disabled").display().to_string());
        let config = lb_config::parse(&text, "test.yaml").expect("a configuration");
        let standing = Standing::open(&config, &Findings::default());
        Self { folder, config, standing }
    }

    fn restart(&mut self) -> usize {
        let findings = Findings::default();
        self.standing = Standing::open(&self.config, &findings);
        findings.take_noted().len()
    }

    /// `drain www1`, `weight www1 5 web`, …
    fn give(&mut self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        let (wish, service) = match words[..] {
            ["drain", _, ref rest @ ..] => (Wish::Drain, rest.first()),
            ["enable", _, ref rest @ ..] => (Wish::Serve, rest.first()),
            ["weight", _, "configured", ref rest @ ..] => (Wish::ConfiguredWeight, rest.first()),
            ["weight", _, weight, ref rest @ ..] => {
                (Wish::Weight(weight.parse().expect("a weight")), rest.first())
            }
            _ => panic!("{words:?}"),
        };
        let about = ServerRequest {
            server: words[1].to_owned(),
            service: service.map(|service| (*service).to_owned()),
            reason: Some("new\ndisk".to_owned()),
            by: Some("kim".to_owned()),
        };
        let outcome = self.standing.give(&ServerOrder { about, wish }, false, &self.config);
        outcome.map_or_else(|refused| format!("refused: {refused}"), |(told, _)| told)
    }

    /// The servers for which there are orders.
    fn ordered(&self) -> Vec<String> {
        let orders = servers(&self.config).flat_map(|(service, server)| {
            let drain = self.standing.drain(service, server).map(|_| "drained".to_owned());
            let weight = self.standing.weight(service, server).map(|weight| weight.to_string());
            drain.into_iter().chain(weight).map(move |order| format!("{} {order}", shown((service, server))))
        });
        orders.collect()
    }
}

#[test]
fn orders_hold_until_they_are_undone_and_over_restarts() {
    let mut desk = Desk::new();
    for (words, told, ordered) in [
        ("enable www1", "not in maintenance: www1 of tls, www1 of web", &[][..]),
        (
            "drain www1",
            "drained until `lb enable www1`: www1 of tls, www1 of web",
            &["www1 of web drained", "www1 of tls drained"],
        ),
        (
            "weight www1:443 5",
            "weight 5 until `lb weight www1:443 configured`: www1 of tls",
            &["www1 of web drained", "www1 of tls drained", "www1 of tls 5"],
        ),
        ("enable www1:80", "in maintenance no more: www1 of web", &["www1 of tls drained", "www1 of tls 5"]),
        ("enable 192.0.2.21", "in maintenance no more: www1 of tls, www1 of web", &["www1 of tls 5"]),
        ("weight www1 configured tls", "of the configured weight again: www1 of tls", &[]),
        ("weight www1 configured", "of the configured weight: www1 of tls, www1 of web", &[]),
        (
            "drain www2 dns",
            "drained until `lb enable www2 --service dns`: www2 of dns",
            &["www2 of dns drained"],
        ),
    ] {
        assert_eq!(desk.give(words), told, "{words}");
        assert_eq!(desk.ordered(), ordered, "{words}");
        assert_eq!(desk.restart(), 0);
        assert_eq!(desk.ordered(), ordered, "{words}, after a restart");
    }
}

#[test]
fn a_name_of_several_machines_means_each_where_it_has_it() {
    let mut desk = Desk::new();
    desk.give("drain www2");
    assert_eq!(
        desk.ordered(),
        ["www2 of tls drained", "www2 of dns drained"],
        "192.0.2.22 of web has no name"
    );
    desk.give("enable www2");
    assert_eq!(desk.ordered(), [""; 0]);
    desk.give("drain 192.0.2.22");
    assert_eq!(desk.ordered(), ["192.0.2.22 of web drained", "www2 of dns drained"]);
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let mut desk = Desk::new();
    for (words, refused) in [
        ("drain www9", "refused: there is no server \"www9\", there are 192.0.2.22, www1, www2"),
        ("drain www2 web", "refused: there is no server \"www2\" in web, there are 192.0.2.22, www1, www2"),
        ("drain www1 ftp", "refused: there is no service \"ftp\", there are web, tls, dns"),
        ("enable 192.0.2.99", "refused: there is no server \"192.0.2.99\", there are 192.0.2.22, www1, www2"),
    ] {
        assert_eq!(desk.give(words), refused);
    }
}

#[test]
fn an_order_for_a_server_that_has_left_can_be_undone() {
    let mut desk = Desk::new();
    desk.give("drain 192.0.2.22");
    let services = desk.config.services.clone();
    desk.config.services.iter_mut().for_each(|service| service.servers.truncate(1));
    desk.config.services.pop();
    assert_eq!(desk.give("enable 192.0.2.22"), "in maintenance no more: 192.0.2.22");
    desk.config.services = services;
    assert_eq!(desk.ordered(), [""; 0]);
}

#[test]
fn an_order_that_cannot_be_written_is_refused_and_one_of_others_holds() {
    let mut desk = Desk::new();
    desk.give("drain www1:443");
    let given = desk.standing.orders();
    let file = desk.config.orders_file();
    fs::remove_dir_all(file.parent().expect("a folder")).expect("it is there");
    fs::write(file.parent().expect("a folder"), "in the way").expect("a file");
    let refused = desk.give("drain www1");
    assert!(
        refused.starts_with("refused: not done, it would not outlive a restart: cannot write"),
        "{refused}"
    );
    assert_eq!(desk.ordered(), ["www1 of tls drained"]);

    let mut other = Desk::new();
    other.standing.file = file.clone();
    let findings = Findings::default();
    assert!(other.standing.learn(given.clone(), &findings));
    assert_eq!(other.ordered(), ["www1 of tls drained"]);
    other.standing.write_later(&findings);
    let noted: Vec<String> = findings.take_noted().into_iter().map(|record| record.event).collect();
    assert_eq!(noted, ["orders_unwritten"], "once");
    assert!(!other.standing.learn(given, &findings), "nothing new");
    fs::remove_file(file.parent().expect("a folder")).expect("it is there");
    other.standing.write_later(&findings);
    assert_eq!(desk.restart(), 0);
    assert_eq!(desk.ordered(), ["www1 of tls drained"], "it is written by now");
}

#[test]
fn a_broken_file_is_told_and_holds_nothing() {
    let mut desk = Desk::new();
    desk.give("drain www1");
    for text in ["", "{", "[{\"version\": 1}]"] {
        fs::write(desk.config.orders_file(), text).expect("a file");
        assert_eq!((desk.restart(), desk.ordered().len()), (1, 0), "{text}");
    }
    desk.give("drain www1");
    assert_eq!((desk.restart(), desk.ordered().len()), (0, 2));
    drop(desk.folder);
}

#[test]
fn the_listing_has_who_and_why() {
    let mut desk = Desk::new();
    desk.give("drain www1");
    desk.give("weight www1 7");
    let (service, server) = servers(&desk.config).next().expect("there is one");
    let [drain, weight] = &desk.standing.status(service, server)[..] else { panic!("two orders") };
    assert_eq!((&*drain.order, drain.weight, drain.reason.as_deref()), ("drain", None, Some("new disk")));
    assert!(drain.by.starts_with("kim on ") && drain.since > 1_700_000_000, "{drain:?}");
    assert_eq!((&*weight.order, weight.weight), ("weight", Some(7)));
}

#[test]
fn texts_are_cut_at_whole_characters() {
    assert_eq!(shortened("disk", 9), "disk");
    assert_eq!(shortened("a disk", 2), "a");
    assert_eq!(shortened("äöü", 3), "ä");
}

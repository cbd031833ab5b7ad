use lb_api::samples;
use lb_model::overlay::{NewPersistence, NewServer, NewService, Settings};

use super::*;

fn restored(rules: &str) -> Result<Vec<Change>, Refusal> {
    changes("ipvsadm", rules, &samples::cluster())
}

/// What ipvsadm printed, see `recorded/README.md`.
#[test]
fn what_ipvsadm_has_saved_comes_back() {
    let changes = restored(include_str!("../recorded/save.txt")).unwrap_or_else(|why| panic!("{why:?}"));
    let services: Vec<&NewService> = changes
        .iter()
        .map(|change| match change {
            Change::AddService { service } => service,
            other => panic!("{other}"),
        })
        .collect();
    let told: Vec<(String, usize)> =
        services.iter().map(|service| (service.called(), service.servers.len())).collect();
    let six = "tcp/[2001:db8:1234:5678:9abc:def0:1234:10]:80";
    let wanted = [
        ("tcp/192.0.2.9:*", 0),
        ("tcp/192.0.2.10:80", 2),
        ("tcp/192.0.2.10:443", 2),
        ("udp/192.0.2.10:53", 3),
        ("udp/192.0.2.11:123", 1),
        (six, 2),
    ];
    assert_eq!(told, wanted.map(|(name, servers)| (name.to_owned(), servers)));
    let persistence = |timeout_s, prefix| Some(NewPersistence { timeout_s, prefix });
    let settings = [
        Settings {
            scheduler: Some("wrr".into()),
            persistence: persistence(360, None),
            ..Settings::default()
        },
        Settings {
            scheduler: Some("wlc".into()),
            persistence: persistence(300, None),
            ..Settings::default()
        },
        Settings {
            scheduler: Some("sh".into()),
            hash_port: true,
            hash_fallback: true,
            ..Settings::default()
        },
        Settings { scheduler: Some("rr".into()), ops: true, ..Settings::default() },
        Settings {
            scheduler: Some("mh".into()),
            hash_port: true,
            persistence: persistence(600, Some(24)),
            ..Settings::default()
        },
        Settings {
            scheduler: Some("wrr".into()),
            persistence: persistence(60, Some(64)),
            ..Settings::default()
        },
    ];
    for (service, settings) in services.iter().zip(settings) {
        assert_eq!(service.settings, settings, "{}", service.vip);
        assert_eq!(service.fallback.as_deref(), Some("refuse"));
    }
    let server = |address: &str, forward: &str, weight, gue_port| NewServer {
        address: address.into(),
        forward: Some(forward.into()),
        weight: Some(weight),
        gue_port,
        ..NewServer::default()
    };
    assert_eq!(services[2].servers[0], server("10.0.0.5:8443", "masq", 1, None));
    assert_eq!(
        services[3].servers,
        [
            server("198.51.100.6", "ipip", 3, None),
            server("198.51.100.7", "gue", 1, Some(6080)),
            server("198.51.100.8", "gre", 2, None),
        ]
    );
}

#[test]
fn rules_may_be_written_by_hand() {
    let rules = "\
# The web.

ipvsadm -A -t 192.0.2.10:80 -s rr   # one after the other
-a -t 192.0.2.10:80 -r 192.0.2.21
\t-a -t 211.58.250.6:80 -r 211.58.250.29 -w 3
";
    let changes = restored(rules).unwrap_or_else(|why| panic!("{why:?}"));
    let told: Vec<String> = changes.iter().map(Change::to_string).collect();
    let service = &samples::cluster().services[0].name;
    assert_eq!(
        told,
        ["+ service 192.0.2.10:80".to_owned(), format!("+ server {service}/211.58.250.29")],
        "a new service has its servers"
    );
    assert_eq!(restored(" \n# nothing\n"), Ok(Vec::new()));
}

#[test]
fn a_line_that_cannot_be_restored_is_named() {
    for (rules, code, text) in [
        ("-A -t 192.0.2.10:80\n-A -t 192.0.2.10:80", 255, "line 2: Service already exists"),
        ("\n-A -t 211.58.250.6:80", 255, "line 2: Service already exists"),
        ("-a -t 192.0.2.10:80 -r 192.0.2.21", 255, "line 1: Service not defined"),
        ("-a -t 211.58.250.6:80 -r 211.58.250.25", 255, "line 1: Destination already exists"),
        (
            "-A -t 192.0.2.10:80\n-a -t 192.0.2.10:80 -r 192.0.2.21\n-a -t 192.0.2.10:80 -r 192.0.2.21:80",
            255,
            "line 3: Destination already exists",
        ),
        ("-A -t 192.0.2.10:80 -s none", 255, "line 1: Scheduler or persistence engine not found"),
        ("-A -t 192.0.2.10:80 -Q", 255, "line 1: -Q: unknown option"),
        ("-C", 2, "line 1: -R takes lines with -A and -a, which -S prints, and nothing is changed"),
    ] {
        assert_eq!(restored(rules), Err(Refusal { code, text: text.to_owned() }), "{rules}");
    }
    let refusal = restored("-A -t 192.0.2.10:80 -s lblc").expect_err("there is none");
    assert!(refusal.code == 2 && refusal.text.contains("use wlc, or mh"), "{refusal:?}");
}

use std::collections::{BTreeMap, HashSet};

use lb_model::ServiceNames;
use lb_model::overlay::{NewPersistence, NewServer, ServerSettings, Settings};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::files::{Document, work};

const FILE: &str = "\
interface: eth0
services:
  # The web.
  - name: web
    vip: 192.0.2.10:80
    fallback: refuse
    check: { type: http }
    servers:                    # of the second floor
      - address: 192.0.2.21     # the old one
      - { address: 192.0.2.22, name: www2 }

  - { vip: '192.0.2.10:81', protocol: udp, fallback: refuse, servers: [{ address: 192.0.2.21 }] } # dns
  - vip: 192.0.2.10:81
    fallback: local
    persistence: { timeout: 60s }
timeouts: { udp: 5m }
";

fn files(text: &str) -> Files {
    Files::of(Document::new("lb.yaml".into(), text))
}

fn server(host: u8) -> NewServer {
    NewServer { address: format!("192.0.2.{host}"), ..NewServer::default() }
}

fn service(port: u16, protocol: &str, servers: Vec<NewServer>) -> NewService {
    NewService {
        vip: format!("192.0.2.10:{port}"),
        protocol: Some(protocol.to_owned()),
        fallback: Some("refuse".to_owned()),
        servers,
        ..NewService::default()
    }
}

/// Changes each of which can be made unless what it names is not there, or is there already.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    let protocol = || select(vec!["tcp", "udp"]);
    let name = || {
        let address = (80..84_u16).prop_map(|port| format!("192.0.2.10:{port}"));
        let whole = (protocol(), 80..84_u16).prop_map(|(own, port)| format!("{own}/192.0.2.10:{port}"));
        prop_oneof![Just("web".to_owned()), address, whole]
    };
    let new = (80..84_u16, protocol(), select(vec![0, 1, 2_u8]));
    let new = new.prop_map(|(port, own, count)| service(port, own, (21..21 + count).map(server).collect()));
    let persistence = prop_oneof![
        Just(None),
        (60..63_u64).prop_map(|timeout_s| Some(NewPersistence { timeout_s, prefix: None })),
    ];
    let settings = (select(vec![None, Some("rr"), Some("wlc")]), persistence);
    let settings = settings.prop_map(|(scheduler, persistence)| {
        let scheduler = scheduler.map(str::to_owned);
        Settings { scheduler, persistence, ..Settings::default() }
    });
    let known = || {
        prop_oneof![
            (21..25_u8).prop_map(|host| format!("192.0.2.{host}")),
            (21..25_u8).prop_map(|host| format!("192.0.2.{host}:80")),
            Just("www2".to_owned()),
        ]
    };
    let change = prop_oneof![
        2 => new.prop_map(|service| Change::AddService { service }),
        2 => name().prop_map(|service| Change::RemoveService { service }),
        4 => (name(), (21..25_u8).prop_map(server))
            .prop_map(|(service, server)| Change::AddServer { service, server }),
        3 => (name(), known()).prop_map(|(service, server)| Change::RemoveServer { service, server }),
        3 => (name(), known(), server_settings())
            .prop_map(|(service, server, settings)| Change::EditServer { service, server, settings }),
        1 => (name(), settings).prop_map(|(service, settings)| Change::EditService { service, settings }),
    ];
    vec(change, 0..12)
}

/// Settings that any server can have.
fn server_settings() -> impl Strategy<Value = ServerSettings> {
    let weight = prop_oneof![Just(None), (0..3_u16).prop_map(Some)];
    let way = select(vec![
        (None, None),
        (Some("direct"), None),
        (Some("gate"), None),
        (Some("ipip"), None),
        (Some("gue"), None),
        (Some("gue"), Some(6080)),
        (Some("gue"), Some(6081)),
    ]);
    let thresholds = select(vec![None, Some((0, 0)), Some((9, 0)), Some((12, 0)), Some((12, 3))]);
    (weight, way, thresholds).prop_map(|(weight, (forward, gue_port), thresholds)| ServerSettings {
        weight,
        forward: forward.map(str::to_owned),
        upper_threshold: thresholds.map(|(upper, _)| upper),
        lower_threshold: thresholds.map(|(_, lower)| lower),
        gue_port,
    })
}

/// Each change by itself, with a look at the files.
fn stepwise(changes: &[Change]) -> (Config, BTreeMap<usize, String>) {
    let mut files = files(FILE);
    files.at_run_time = true;
    let (mut config, mut unused) = (files.config().expect("it is valid"), BTreeMap::new());
    for (index, change) in changes.iter().enumerate() {
        if let Err(why) = files.make_alone(change, &mut config) {
            unused.insert(index, why);
        }
    }
    (config, unused)
}

fn made(changes: &[Change]) -> crate::Changed {
    files(FILE).changed(changes).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether the change is about a server or a setting of the service with this index.
fn is_within(change: &Change, names: &ServiceNames<'_>, index: usize) -> bool {
    match change {
        Change::AddServer { service, .. }
        | Change::RemoveServer { service, .. }
        | Change::EditServer { service, .. }
        | Change::EditService { service, .. } => names.index(service) == Some(index),
        Change::AddService { .. } | Change::RemoveService { .. } => false,
    }
}

/// Gives the change the service's own name: an address may mean another one later.
fn name(change: &mut Change, config: &Config) {
    let (Change::AddServer { service, .. }
    | Change::RemoveServer { service, .. }
    | Change::EditServer { service, .. }
    | Change::EditService { service, .. }
    | Change::RemoveService { service }) = change
    else {
        return;
    };
    if let Some(known) = ServiceNames::of(&config.services).find(service) {
        service.clone_from(&known.name);
    }
}

/// What one change more does to a service, unless it is about a service that has come by a change.
fn service_change<'a>(
    made: &'a [Change],
    config: &Config,
    new: &HashSet<ServiceKey>,
) -> Option<ServiceChange<'a>> {
    let names = ServiceNames::of(&config.services);
    match made.last()? {
        Change::AddService { service } => Some(ServiceChange::Put(service, None)),
        Change::RemoveService { service } => names.index(service).map(ServiceChange::Remove),
        Change::AddServer { service, .. }
        | Change::RemoveServer { service, .. }
        | Change::EditServer { service, .. }
        | Change::EditService { service, .. } => {
            let index = names.index(service)?;
            let about = made.iter().filter(|change| is_within(change, &names, index));
            (!new.contains(&config.services[index].key))
                .then(|| ServiceChange::Change(index, about.collect()))
        }
    }
}

proptest! {
    #[test]
    fn together_they_make_what_they_make_one_by_one(changes in changes()) {
        let (config, unused) = stepwise(&changes);
        let changed = made(&changes);
        prop_assert_eq!(&changed.config, &config);
        prop_assert_eq!(&changed.unused, &unused);
        if let (None, [file]) = (changed.lacks(), &changed.files[..]) {
            let saved = crate::parse(&file.after, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
            prop_assert_eq!(saved, config, "{}", file.after);
        }
    }

    #[test]
    fn one_more_makes_what_all_make_anew(changes in changes()) {
        let base = Base::new(files(FILE));
        let mut config = made(&[]).config;
        let mut new = HashSet::new();
        let mut there: Vec<Change> = Vec::new();
        for mut change in changes {
            name(&mut change, &config);
            there.push(change);
            let all = made(&there);
            if !all.unused.is_empty() {
                there.pop();
                continue;
            }
            if let Some(one) = service_change(&there, &config, &new) {
                let with = base.with(&config, &one, |key| new.contains(key));
                prop_assert_eq!(with.as_ref(), Some(&all.config), "{:?}", there);
            }
            let keys = |config: &Config| -> HashSet<ServiceKey> {
                config.services.iter().map(|service| service.key).collect()
            };
            new.extend(keys(&all.config).difference(&keys(&config)).copied());
            config = all.config;
        }
    }
}

/// Bytes of text that are read tell what changes cost, on a busy machine too.
#[test]
fn a_change_costs_what_it_changes_and_many_cost_a_look_at_the_files() {
    let entry = |port| format!("  - vip: 192.0.2.10:{port}\n    servers: [{{ address: 192.0.2.21 }}]\n");
    let text = "interface: eth0\nservices:\n".to_owned() + &(1000..1400).map(entry).collect::<String>();
    let base = Base::new(files(&text));
    let mut config = base.files().clone().config().expect("it is valid");
    let mut changes: Vec<Change> = Vec::new();
    let none = |_: &ServiceKey| false;
    for port in 1000..1100_u16 {
        let own = service(port + 1000, "tcp", vec![server(22), server(23)]);
        let name = format!("tcp/192.0.2.10:{port}");
        changes.push(Change::AddServer { service: name.clone(), server: server(24) });
        changes.push(Change::RemoveServer { service: name, server: "192.0.2.21".to_owned() });
        let index = usize::from(port - 1000);
        let about = changes[2 * index..].iter().collect();
        for one in [
            ServiceChange::Change(index, about),
            ServiceChange::Put(&own, None),
            ServiceChange::Remove(config.services.len()),
        ] {
            let (cost, with) = work::of(|| base.with(&config, &one, none));
            if !matches!(one, ServiceChange::Remove(_)) {
                config = with.expect("it can be made");
            }
            assert!(port == 1000 || cost < 2000, "{cost} of {}", text.len());
        }
    }
    assert_eq!(config.services.len(), 500);

    changes.extend((0..300).map(|port| Change::AddService { service: service(2000 + port, "tcp", vec![]) }));
    changes.extend((1100..1300).map(|port| Change::RemoveService { service: format!("192.0.2.10:{port}") }));
    changes.extend((1100..1300).map(|port| Change::RemoveService { service: format!("192.0.2.10:{port}") }));
    let (cost, changed) = work::of(|| files(&text).changed(&changes));
    let changed = changed.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((changed.config.services.len(), changed.unused.len()), (500, 200));
    assert!(cost <= text.len() + changed.files[0].after.len(), "{cost} of {}", text.len());
}

/// A file in which services have something in common: it is not cut at them.
fn shared() -> String {
    FILE.replace("servers:  ", "servers: &all ").replace("[{ address: 192.0.2.21 }]", "*all")
}

#[test]
fn new_services_come_together_into_a_file_that_cannot_be_cut() {
    let new = (2000..2300).map(|port| Change::AddService { service: service(port, "tcp", vec![server(22)]) });
    let changes: Vec<Change> = new.collect();
    let (cost, changed) = work::of(|| files(&shared()).changed(&changes));
    let changed = changed.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((changed.config.services.len(), changed.unused.len()), (303, 0));
    let most = shared().len() + changed.files[0].after.len();
    assert!(cost <= most, "{cost} of {most}");
}

#[test]
fn what_is_not_certain_is_left_to_all_changes() {
    let base = Base::new(files(&shared()));
    let config = base.files().clone().config().expect("it is valid");
    assert_eq!(base.with(&config, &ServiceChange::Remove(2), |_| false), None, "its files share a list");
    let base = Base::new(files(FILE));
    let config = base.files().clone().config().expect("it is valid");
    let taken = service(80, "tcp", vec![]);
    assert_eq!(base.with(&config, &ServiceChange::Put(&taken, None), |_| false), None, "it is there");
    let circle = service(83, "tcp", vec![server(10)]);
    assert_eq!(
        base.with(&config, &ServiceChange::Put(&circle, None), |_| false),
        None,
        "its server is a VIP"
    );
    let wrong = NewService { check: Some("no".to_owned()), ..service(83, "tcp", vec![]) };
    assert_eq!(base.with(&config, &ServiceChange::Put(&wrong, None), |_| false), None);
    assert_eq!(base.with(&config, &ServiceChange::Remove(3), |_| false), None);
    let mut strange = config.clone();
    let key = ServiceKey { port: 99, ..config.services[0].key };
    strange.services.push(Service::new("strange".to_owned(), key));
    assert_eq!(
        base.with(&strange, &ServiceChange::Remove(3), |_| false),
        None,
        "nobody knows where it came from"
    );
    assert_eq!(base.with(&strange, &ServiceChange::Remove(3), |_| true).as_ref(), Some(&config));
    let right = service(83, "tcp", vec![server(23)]);
    assert!(base.with(&config, &ServiceChange::Put(&right, None), |_| false).is_some());
}

use super::*;
use crate::cluster::Port;
use crate::cluster::samples::{addresses, name, service};

fn config() -> Config {
    Config::parse("pools: [{ name: public, addresses: [192.0.2.10-192.0.2.12] }]").expect("valid")
}

fn now() -> Timestamp {
    Timestamp::from_second(1000).expect("a time")
}

fn decided(service: Service, answer: Option<&Answer>) -> Option<What> {
    let services = BTreeMap::from([(name("web"), service)]);
    let mut writes = writes(&services, &config(), &mut Unseen::default(), answer, now());
    assert!(writes.len() <= 1);
    writes.pop().map(|write| write.what)
}

/// What the director says when it was given the service.
fn serving() -> Answer {
    Answer { given: BTreeSet::from([name("web")]), left_out: BTreeMap::new() }
}

/// The service once what was decided has been written.
fn after(service: Service, what: Option<What>) -> Service {
    match what {
        Some(What::Finalizers(finalizers)) => Service { finalizers, ..service },
        Some(What::Status { addresses, conditions, news: _ }) => Service { addresses, conditions, ..service },
        None => service,
    }
}

fn new() -> Service {
    Service { finalizers: vec!["example.org/other".into()], ..service(&[]) }
}

#[test]
fn a_service_gets_one_thing_after_the_other() {
    let web = new();
    let what = decided(web.clone(), Some(&Answer::default()));
    assert_eq!(what, Some(What::Finalizers(vec!["example.org/other".into(), FINALIZER.into()])));
    let web = after(web, what);
    let what = decided(web.clone(), Some(&Answer::default()));
    let wanted = What::Status { addresses: addresses(&["192.0.2.10"]), conditions: vec![], news: None };
    assert_eq!(what, Some(wanted), "it is not served yet");
    let web = after(web, what);
    assert_eq!(decided(web.clone(), Some(&Answer::default())), None, "the director was not given it yet");
    assert_eq!(decided(web.clone(), None), None);
    let what = decided(web.clone(), Some(&serving()));
    let Some(What::Status { conditions, news: Some(news), .. }) = &what else { panic!("{what:?}") };
    assert!(news.is_well && news.message.ends_with("192.0.2.10"), "{news:?}");
    assert_eq!((conditions[0].status.as_str(), conditions[0].last_transition_time.0), ("True", now()));
    assert_eq!(decided(after(web, what), Some(&serving())), None, "nothing is left to do");
}

/// The watch may lag behind what was written, and tell of others first.
#[test]
fn nobody_else_gets_an_address_that_the_watch_has_not_shown_yet() {
    let mut unseen = Unseen::default();
    let mut decide = |services: &BTreeMap<Name, Service>| -> Vec<(String, Vec<IpAddr>)> {
        let writes = writes(services, &config(), &mut unseen, None, now()).into_iter();
        let statuses = writes.map(|write| match write.what {
            What::Status { addresses, .. } => (write.name.name, addresses),
            What::Finalizers(finalizers) => panic!("{finalizers:?}"),
        });
        statuses.collect()
    };
    let gets = |called: &str, has: &[&str]| (called.to_owned(), addresses(has));
    let mut services = BTreeMap::from([(name("b"), service(&[]))]);
    assert_eq!(decide(&services), [gets("b", &["192.0.2.10"])]);
    // One that comes first, and one that asks for that address.
    services.insert(name("a"), service(&[]));
    services.insert(name("c"), Service { asks_for: vec!["192.0.2.10".into()], ..service(&[]) });
    let wanted = [gets("a", &["192.0.2.11"]), gets("b", &["192.0.2.10"]), gets("c", &[])];
    assert_eq!(decide(&services), wanted);
    // It has changed meanwhile, so that the write was refused.
    let changed = Service { version: "2".into(), asks_for: vec!["192.0.2.12".into()], ..service(&[]) };
    services.insert(name("b"), changed);
    let wanted = [gets("a", &["192.0.2.11"]), gets("b", &["192.0.2.12"]), gets("c", &["192.0.2.10"])];
    assert_eq!(decide(&services), wanted);
}

#[test]
fn what_the_director_refuses_is_told() {
    let left_out = BTreeMap::from([(name("web"), "there is a service web already".to_owned())]);
    let refusing = Answer { left_out, ..serving() };
    let what = decided(service(&["192.0.2.10"]), Some(&refusing));
    let Some(What::Status { news: Some(news), .. }) = &what else { panic!("{what:?}") };
    assert_eq!((news.is_well, news.reason), (false, "RefusedByDirector"));
    assert!(news.message.ends_with("there is a service web already"), "{news:?}");
    let web = after(service(&["192.0.2.10"]), what);
    assert_eq!(decided(web.clone(), Some(&refusing)), None, "it is told once");
    assert!(decided(web, Some(&serving())).is_some());
}

#[test]
fn a_service_without_an_address_is_told_why() {
    let web = Service { asks_for: vec!["192.0.2.99".into()], ..service(&[]) };
    let what = decided(web, None);
    let Some(What::Status { addresses, news: Some(news), .. }) = what else { panic!("{what:?}") };
    assert!(addresses.is_empty());
    assert_eq!((news.reason, news.message.as_str()), ("AddressInNoPool", "192.0.2.99 is in no pool"));
    let sctp = Port { protocol: "SCTP".into(), port: 99, ..Port::default() };
    let what = decided(Service { ports: vec![sctp], ..service(&["192.0.2.10"]) }, Some(&serving()));
    let Some(What::Status { news: Some(news), .. }) = what else { panic!("{what:?}") };
    assert_eq!(news.reason, "ProtocolNotSupported");
}

#[test]
fn conditions_of_others_stay() {
    let other = Condition { type_: "example.org/Other".into(), ..condition("True") };
    let web = Service { conditions: vec![other.clone(), condition("False")], ..service(&["192.0.2.10"]) };
    let what = decided(web, Some(&serving()));
    let Some(What::Status { conditions, .. }) = what else { panic!("{what:?}") };
    assert_eq!((conditions.len(), &conditions[0], conditions[1].status.as_str()), (2, &other, "True"));
}

fn condition(status: &str) -> Condition {
    Condition {
        type_: SERVED.into(),
        status: status.into(),
        reason: "Served".into(),
        message: String::new(),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

#[test]
fn a_service_that_goes_keeps_its_finalizer_until_nobody_serves_it() {
    let going = Service { is_deleted: true, ..service(&["192.0.2.10"]) };
    assert_eq!(decided(going.clone(), None), None);
    assert_eq!(decided(going.clone(), Some(&serving())), None);
    let what = decided(going, Some(&Answer::default()));
    assert_eq!(what, Some(What::Finalizers(vec![])));
}

#[test]
fn a_service_that_is_no_load_balancer_any_more_loses_what_it_had() {
    let former = Service {
        is_load_balancer: false,
        class: None,
        conditions: vec![condition("True")],
        ..service(&["192.0.2.10"])
    };
    assert_eq!(decided(former.clone(), Some(&serving())), None);
    let what = decided(former.clone(), Some(&Answer::default()));
    let wanted = What::Status { addresses: vec![], conditions: vec![], news: None };
    assert_eq!(what, Some(wanted));
    let what = decided(after(former, what), Some(&Answer::default()));
    assert_eq!(what, Some(What::Finalizers(vec![])));
    let others =
        Service { class: Some("example.org/other".into()), finalizers: vec![], ..service(&["192.0.2.10"]) };
    assert_eq!(decided(others, Some(&Answer::default())), None);
}

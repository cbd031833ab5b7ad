use proptest::prelude::*;

use super::*;
use crate::cluster::FINALIZER;
use crate::cluster::samples::{address, addresses, name, service};

const POOLS: &str = "
pools:
  - { name: public, addresses: [192.0.2.10-192.0.2.12, 2001:db8::10] }
  - { name: dear, addresses: [192.0.2.50], auto_assign: false }
  - { name: blogs, addresses: [192.0.2.60], namespaces: [blog] }
";

fn config() -> Config {
    Config::parse(POOLS).expect("valid")
}

/// One that has no address yet.
fn new() -> Service {
    Service { finalizers: Vec::new(), ..service(&[]) }
}

fn asking(for_: &str) -> Service {
    Service { asks_for: vec![for_.to_owned()], ..new() }
}

fn assigned<const N: usize>(
    services: [(&str, Service); N],
) -> Vec<(String, Vec<IpAddr>, Option<&'static str>)> {
    let services = services.into_iter().map(|(called, service)| (name(called), service)).collect();
    let claims = assign(&services, &config()).into_iter();
    let told = claims.map(|(name, Claim { addresses, trouble })| {
        (name.name, addresses, trouble.as_ref().map(Trouble::reason))
    });
    told.collect()
}

fn gets(called: &str, has: &[&str]) -> (String, Vec<IpAddr>, Option<&'static str>) {
    (called.to_owned(), addresses(has), None)
}

fn nothing(called: &str, why: &'static str) -> (String, Vec<IpAddr>, Option<&'static str>) {
    (called.to_owned(), Vec::new(), Some(why))
}

#[test]
fn the_oldest_is_served_first() {
    let old = Service { created_s: 1, ..new() };
    let young = Service { created_s: 2, ..new() };
    let found = assigned([("a", young.clone()), ("b", old), ("c", young)]);
    assert_eq!(found, [gets("a", &["192.0.2.11"]), gets("b", &["192.0.2.10"]), gets("c", &["192.0.2.12"])]);
}

#[test]
fn what_stands_in_the_status_stays() {
    let old = Service { created_s: 1, ..new() };
    let found = assigned([("a", old), ("b", Service { created_s: 2, ..service(&["192.0.2.10"]) })]);
    assert_eq!(found, [gets("a", &["192.0.2.11"]), gets("b", &["192.0.2.10"])]);
    let found = assigned([("a", service(&["198.51.100.1"]))]);
    assert_eq!(found, [gets("a", &["198.51.100.1"])], "its pool is gone, and clients use it");
    let found = assigned([("a", Service { finalizers: Vec::new(), ..service(&["198.51.100.1"]) })]);
    assert_eq!(found, [gets("a", &["192.0.2.10"])], "another controller has given that");
}

#[test]
fn an_address_may_be_asked_for() {
    let found = assigned([("a", new()), ("b", asking("192.0.2.10")), ("c", asking("192.0.2.50"))]);
    assert_eq!(found, [gets("a", &["192.0.2.11"]), gets("b", &["192.0.2.10"]), gets("c", &["192.0.2.50"])]);
    let moved = Service { asks_for: vec!["192.0.2.12".into()], ..service(&["192.0.2.10"]) };
    assert_eq!(assigned([("a", moved)]), [gets("a", &["192.0.2.12"])]);
}

#[test]
fn conflicts_are_told() {
    let found = assigned([("a", service(&["192.0.2.10"])), ("b", asking("192.0.2.10"))]);
    assert_eq!(found, [gets("a", &["192.0.2.10"]), nothing("b", "AddressTaken")]);
    let found = assigned([
        ("a", asking("192.0.2.99")),
        ("b", asking("192.0.2.60")),
        ("c", asking("web")),
        ("d", asking("2001:db8::10")),
        ("e", Service { pool: Some("none".into()), ..new() }),
        ("f", Service { pool: Some("blogs".into()), ..new() }),
    ]);
    let wanted = [
        nothing("a", "AddressInNoPool"),
        nothing("b", "PoolNotForNamespace"),
        // They get the first free one until what they ask for makes sense.
        ("c".to_owned(), addresses(&["192.0.2.10"]), Some("AddressNotUnderstood")),
        ("d".to_owned(), addresses(&["192.0.2.11"]), Some("AddressNotUnderstood")),
        nothing("e", "NoSuchPool"),
        nothing("f", "NoSuchPool"),
    ];
    assert_eq!(found, wanted);
    let found = assigned([("a", new()), ("b", new()), ("c", new()), ("d", new())]);
    assert_eq!(found[3], nothing("d", "PoolsExhausted"));
}

#[test]
fn a_service_may_have_both_families() {
    let both = Service { families: vec![Family::Ipv6, Family::Ipv4], ..new() };
    let preferring = Service { prefers_both: true, ..both.clone() };
    let found = assigned([("a", both.clone()), ("b", preferring), ("c", both)]);
    let wanted = [
        gets("a", &["2001:db8::10", "192.0.2.10"]),
        gets("b", &["192.0.2.11"]),
        ("c".to_owned(), addresses(&["192.0.2.12"]), Some("PoolsExhausted")),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn an_address_of_a_service_that_goes_is_not_given_away() {
    let going = Service { is_deleted: true, ..service(&["192.0.2.10"]) };
    let found = assigned([("a", going.clone()), ("b", new()), ("c", asking("192.0.2.10"))]);
    assert_eq!(found, [gets("b", &["192.0.2.11"]), nothing("c", "AddressTaken")]);
    let gone = Service { finalizers: Vec::new(), ..going };
    assert_eq!(assigned([("a", gone), ("b", new())]), [gets("b", &["192.0.2.10"])]);
}

#[test]
fn other_classes_are_left_alone() {
    let other = Service { class: Some("example.org/other".into()), ..new() };
    let none = Service { class: None, ..new() };
    assert!(assigned([("a", other), ("b", none.clone())]).is_empty());
    let config = Config { default_class: true, ..config() };
    assert_eq!(assign(&BTreeMap::from([(name("b"), none)]), &config).len(), 1);
}

fn any_service() -> impl Strategy<Value = Service> {
    let has = prop::collection::vec(8_u8..14, 0..2);
    let asks = prop::option::of(prop_oneof![8_u8..14, Just(50), Just(60)]);
    (has, asks, 0..3_i64, any::<bool>(), any::<bool>()).prop_map(
        |(has, asks, created_s, is_deleted, is_ours)| {
            let text = |last: u8| format!("192.0.2.{last}");
            Service {
                addresses: has.into_iter().map(|last| address(&text(last))).collect(),
                asks_for: asks.map(text).into_iter().collect(),
                created_s,
                is_deleted,
                finalizers: is_ours.then(|| FINALIZER.to_owned()).into_iter().collect(),
                ..new()
            }
        },
    )
}

fn any_services() -> impl Strategy<Value = BTreeMap<Name, Service>> {
    prop::collection::btree_map("[a-f]".prop_map(|called| name(&called)), any_service(), 0..6)
}

proptest! {
    #[test]
    fn nobody_shares_an_address(services in any_services()) {
        let claims = assign(&services, &config());
        let all: Vec<IpAddr> = claims.values().flat_map(|claim| claim.addresses.clone()).collect();
        prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{:?}", claims);
        for claim in claims.values() {
            prop_assert!(!claim.addresses.is_empty() || claim.trouble.is_some(), "{:?}", claims);
        }
    }

    /// Who has got an address keeps it, whoever comes and goes.
    #[test]
    fn what_was_given_stays(mut services in any_services(), others in any_services(), gone in "[a-f]") {
        let claims = assign(&services, &config());
        for (name, claim) in &claims {
            let service = services.get_mut(name).expect("it is one of them");
            service.addresses.clone_from(&claim.addresses);
            service.finalizers = vec![FINALIZER.to_owned()];
        }
        prop_assert_eq!(&assign(&services, &config()), &claims);
        services.remove(&name(&gone));
        let kept: BTreeSet<Name> = services.keys().cloned().collect();
        for (name, other) in others {
            // A newcomer has nothing, and no finalizer of ours.
            let newcomer = Service { addresses: Vec::new(), finalizers: Vec::new(), ..other };
            services.entry(name).or_insert(newcomer);
        }
        let later = assign(&services, &config());
        for name in kept.iter().filter(|name| claims.contains_key(*name)) {
            for address in &claims[name].addresses {
                prop_assert!(later[name].addresses.contains(address), "{:?} {:?}", claims, later);
            }
        }
    }
}

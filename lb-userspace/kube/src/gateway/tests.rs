use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::attach::attach;
use super::backends::resolve;
use super::decisions::{What, Write, writes};
use super::resources::{AllowedRoutes, RouteKind, RouteNamespaces};
use super::samples::{asking, backend, gateway, gateways, grant, route, wanting};
use super::*;
use crate::cluster::samples::{name, ready, service, slice, store};
use crate::cluster::{Cluster, FINALIZER, Owner, Port, Service, Slice};
use crate::config::CLASS;
use crate::decisions::SERVED;

fn in_blog(called: &str) -> Name {
    Name { namespace: "blog".into(), name: called.into() }
}

fn now() -> Timestamp {
    Timestamp::from_second(1000).expect("a time")
}

/// The gateway, whose listeners take routes from there.
fn taking(gateway: Gateway, namespaces: &RouteNamespaces, kinds: &[RouteKind]) -> Gateway {
    let mut gateway = gateway;
    for listener in &mut gateway.spec.listeners {
        listener.allowed_routes = AllowedRoutes { namespaces: namespaces.clone(), kinds: kinds.to_vec() };
    }
    gateway
}

/// Of each route the reasons of what it is told, and its listeners.
fn attached(gateways: &Gateways) -> Vec<(String, Vec<&'static str>, Vec<String>)> {
    let config = Config::default();
    let attachments = attach(gateways, &config);
    let told = attachments.parents.iter().map(|((_, route), parents)| {
        let reasons = parents.iter().map(|parent| parent.accepted.reason).collect::<Vec<_>>();
        let held = attachments.holders.iter().filter(|(_, (_, holder, _))| holder == route);
        let held = held.map(|((_, listener), _)| (*listener).to_owned()).collect::<Vec<_>>();
        (route.name.clone(), reasons, held)
    });
    told.collect()
}

fn told(route: &str, reason: &'static str, listeners: &[&str]) -> (String, Vec<&'static str>, Vec<String>) {
    (route.to_owned(), vec![reason], listeners.iter().map(|one| (*one).to_owned()).collect())
}

#[test]
fn a_listener_has_the_oldest_route() {
    let edge = gateway(&[("web", 80), ("mail", 25)]);
    let mut of_web = route(3, vec![]);
    of_web.spec.parent_refs[0].section_name = Some("web".into());
    let mut of_mail = route(2, vec![]);
    of_mail.spec.parent_refs[0].port = Some(25);
    let each = [(name("a"), of_web.clone()), (name("b"), of_mail.clone())];
    let found = attached(&gateways(edge.clone(), each));
    assert_eq!(found, [told("a", "Accepted", &["web"]), told("b", "Accepted", &["mail"])]);
    // One that wants both, and comes before `a` alone.
    let both = gateways(edge, [(name("a"), of_web), (name("b"), of_mail), (name("c"), route(2, vec![]))]);
    let wanted = [
        told("a", "MultipleRoutesOnListener", &[]),
        told("b", "Accepted", &["mail"]),
        told("c", "Accepted", &["web"]),
    ];
    assert_eq!(attached(&both), wanted);
}

#[test]
fn what_does_not_fit_is_told() {
    let edge = gateway(&[("web", 80)]);
    let mut nowhere = route(1, vec![]);
    nowhere.spec.parent_refs[0].section_name = Some("mail".into());
    let mut double = route(1, vec![]);
    double.spec.rules.push(api::Rule::default());
    let mut of_others = route(1, vec![]);
    of_others.spec.parent_refs[0].name = "other".into();
    let routes = [(name("a"), nowhere), (name("b"), double), (name("c"), of_others)];
    let wanted = [told("a", "NoMatchingParent", &[]), told("b", "UnsupportedValue", &[])];
    assert_eq!(attached(&gateways(edge.clone(), routes)), wanted);
    let http = RouteKind { group: None, kind: "HTTPRoute".into() };
    let of_http = taking(edge.clone(), &RouteNamespaces::default(), &[http]);
    let routes = [(name("a"), route(1, vec![]))];
    assert_eq!(attached(&gateways(of_http, routes.clone())), [told("a", "NotAllowedByListeners", &[])]);
    let mut udp = edge;
    udp.spec.listeners[0].protocol = "UDP".into();
    assert_eq!(attached(&gateways(udp, routes)), [told("a", "NotAllowedByListeners", &[])]);
}

#[test]
fn routes_of_other_namespaces_need_a_listener_that_takes_them() {
    let from = |from: &str| RouteNamespaces { from: Some(from.into()), ..RouteNamespaces::default() };
    let selecting = |key: &str| {
        let labels = BTreeMap::from([(key.to_owned(), "web".to_owned())]);
        let selector = LabelSelector { match_labels: Some(labels), ..LabelSelector::default() };
        RouteNamespaces { selector: Some(selector), ..from("Selector") }
    };
    for (namespaces, takes) in [
        (RouteNamespaces::default(), false),
        (from("Same"), false),
        (from("None"), false),
        (from("All"), true),
        (selecting("team"), true),
        (selecting("colour"), false),
        (from("Selector"), false),
    ] {
        let edge = taking(gateway(&[("web", 80)]), &namespaces, &[]);
        let found = attached(&gateways(edge, [(in_blog("a"), route(1, vec![]))]));
        let wanted = match takes {
            true => told("a", "Accepted", &["web"]),
            false => told("a", "NotAllowedByListeners", &[]),
        };
        assert_eq!(found, [wanted], "{namespaces:?}");
    }
}

#[test]
fn backends_are_there_and_may_be_named() {
    let services = BTreeMap::from([(name("web"), service(&[]))]);
    let mut granted = gateways(gateway(&[("web", 80)]), []);
    granted.grants = store([(name("grant"), grant())]);
    let without = gateways(gateway(&[("web", 80)]), []);
    let reason = |from: &Name, reference: api::BackendRef, gateways: &Gateways| {
        let route = route(1, vec![reference]);
        let (backends, wanted) = resolve((Kind::TcpRoute, from, &route), &services, gateways);
        (backends.len(), wanted.reason)
    };
    let web = || backend("web", 1);
    let of_shop = || api::BackendRef { namespace: Some("shop".into()), ..web() };
    assert_eq!(reason(&name("a"), web(), &without), (1, "ResolvedRefs"));
    assert_eq!(reason(&in_blog("a"), of_shop(), &without), (0, "RefNotPermitted"));
    assert_eq!(reason(&in_blog("a"), of_shop(), &granted), (1, "ResolvedRefs"));
    assert_eq!(reason(&in_blog("a"), web(), &granted), (0, "BackendNotFound"));
    let port = api::BackendRef { port: Some(81), ..web() };
    assert_eq!(reason(&name("a"), port, &without), (0, "BackendNotFound"));
    let kind = api::BackendRef { kind: Some("Bucket".into()), ..web() };
    assert_eq!(reason(&name("a"), kind, &without), (0, "InvalidKind"));
    let udp = resolve((Kind::UdpRoute, &name("a"), &route(1, vec![web()])), &services, &without);
    assert_eq!(udp.1.reason, "UnsupportedProtocol");
}

/// A cluster with the Services `web` and `blog`, and what else is given.
fn cluster(more: Vec<(Name, Service)>, slices: Vec<(Name, Slice)>) -> Cluster {
    let plain = || Service { is_load_balancer: false, class: None, finalizers: vec![], ..service(&[]) };
    let services = [(name("web"), plain()), (name("blog"), plain())].into_iter().chain(more);
    Cluster { services: store(services), slices: store(slices), nodes: store([]) }
}

/// The carrier as the API server has it.
fn carrier(has: &[&str]) -> Service {
    Service {
        is_local: true,
        gateway: Some(Owner { name: "edge".into(), uid: "g".into() }),
        has_label: true,
        ports: vec![Port { name: "tcp-80".into(), protocol: "TCP".into(), port: 80 }],
        ..service(has)
    }
}

fn decided(gateways: &Gateways, cluster: &Cluster) -> Vec<(String, String, What)> {
    let writes = writes(gateways, cluster, &Config::default(), &now()).into_iter();
    writes.map(|Write { resource, name, what }| (resource.kind, name.name, what)).collect()
}

/// What is decided of an object.
fn of<'a>(writes: &'a [(String, String, What)], kind: &str, called: &str) -> Option<&'a What> {
    writes.iter().find(|(of, name, _)| of == kind && name == called).map(|(_, _, what)| what)
}

fn status(writes: &[(String, String, What)], kind: &str, called: &str) -> Value {
    match of(writes, kind, called) {
        Some(What::Status(body)) => body["status"].clone(),
        other => panic!("{kind} {called}: {other:?}"),
    }
}

/// Status and reason of a condition.
fn condition(conditions: &Value, type_: &str) -> (String, String) {
    let all = conditions.as_array().expect("conditions");
    let found = all.iter().find(|one| one["type"] == type_).expect(type_);
    let text = |key: &str| found[key].as_str().expect(key).to_owned();
    (text("status"), text("reason"))
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_gateway_gets_a_carrier() {
    let edge = asking(gateway(&[("web", 80)]), &["192.0.2.10"]);
    let gateways = gateways(edge, []);
    let found = decided(&gateways, &cluster(vec![], vec![]));
    let Some(What::Create(made)) = of(&found, "Service", "lb-kube-edge") else { panic!("{found:?}") };
    assert_eq!(made["spec"]["loadBalancerClass"], CLASS);
    assert_eq!(made["spec"]["externalTrafficPolicy"], "Local");
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(made["spec"]["ipFamilyPolicy"], "SingleStack");
    assert_eq!(made["spec"]["ports"][0]["name"], "tcp-80");
    assert_eq!(made["metadata"]["annotations"], json!({ "lb-kube/addresses": "192.0.2.10" }));
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "g");
    let said = status(&found, "Gateway", "edge");
    assert_eq!(condition(&said["conditions"], "Accepted"), pair("True", "Accepted"));
    assert_eq!(condition(&said["conditions"], "Programmed"), pair("False", "Pending"));
    // The class is held, and told next.
    let Some(What::Patch(class)) = of(&found, "GatewayClass", "lb") else { panic!("{found:?}") };
    assert_eq!(class["metadata"]["finalizers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_carrier_is_made_again_or_changed() {
    let asks = || Service { asks_for: vec!["192.0.2.10".into()], ..carrier(&["192.0.2.10"]) };
    let edge = asking(gateway(&[("web", 80)]), &["192.0.2.10"]);
    let what = |found: Service| {
        let cluster = cluster(vec![(name("lb-kube-edge"), found)], vec![]);
        of(&decided(&gateways(edge.clone(), []), &cluster), "Service", "lb-kube-edge").cloned()
    };
    assert_eq!(what(asks()), None);
    let delete = Some(What::Delete(Some("1".into())));
    let former = Some(Owner { name: "edge".into(), uid: "former".into() });
    assert_eq!(what(Service { gateway: former, ..asks() }), delete);
    assert_eq!(what(Service { class: Some("example.org/other".into()), ..asks() }), delete);
    assert_eq!(what(Service { families: vec![crate::address::Family::Ipv6], ..asks() }), delete);
    assert_eq!(what(Service { gateway: None, ..asks() }), None, "it is somebody else's");
    assert_eq!(what(Service { is_deleted: true, ports: vec![], ..asks() }), None);
    let Some(What::Patch(patch)) = what(Service { pool: Some("dear".into()), ..asks() }) else {
        panic!("a patch is missing")
    };
    assert_eq!(patch["metadata"]["annotations"]["lb-kube/pool"], Value::Null);
    assert_eq!(patch["metadata"]["resourceVersion"], "1");
    let Some(What::Patch(patch)) = what(Service { has_label: false, ..asks() }) else {
        panic!("the label that somebody has taken away is missing")
    };
    assert_eq!(patch["metadata"]["labels"], json!({ "app.kubernetes.io/managed-by": "lb-kube" }));
    // Its Gateway is gone.
    let orphan = cluster(vec![(name("lb-kube-other"), asks())], vec![]);
    let found = decided(&gateways(edge.clone(), []), &orphan);
    assert_eq!(of(&found, "Service", "lb-kube-other"), delete.as_ref());
    let others = Service { class: Some("example.org/other".into()), ..asks() };
    let of_others = cluster(vec![(name("lb-kube-other"), others)], vec![]);
    let found = decided(&gateways(edge, []), &of_others);
    assert_eq!(of(&found, "Service", "lb-kube-other"), None, "another `lb-kube` has made it");
}

#[test]
fn what_is_made_for_a_gateway_bears_its_labels() {
    let wants = json!({ "labels": { "team": "web" }, "annotations": { "lb-kube/pool": "dear" } });
    let routes = [(name("a"), route(1, vec![backend("web", 1)]))];
    let of_team = gateways(wanting(gateway(&[("web", 80)]), wants), routes);
    let slices = || vec![(name("web-1"), slice(vec![ready("n1", "10.0.0.1")]))];
    let found = decided(&of_team, &cluster(vec![], slices()));
    let Some(What::Create(made)) = of(&found, "Service", "lb-kube-edge") else { panic!("{found:?}") };
    let labels = json!({ "app.kubernetes.io/managed-by": "lb-kube", "team": "web" });
    assert_eq!(made["metadata"]["labels"], labels);
    assert_eq!(made["metadata"]["annotations"]["lb-kube/pool"], "dear");
    let made: k8s_openapi::api::core::v1::Service = serde_json::from_value(made.clone()).expect("a Service");
    let (_, read) = <Service as Read<_>>::read(made);
    let made = Service { version: "1".into(), ..read.expect("a Service") };
    // As it was made nothing is to be done, and its slices bear the labels, too.
    let found = decided(&of_team, &cluster(vec![(name("lb-kube-edge"), made.clone())], slices()));
    assert_eq!(of(&found, "Service", "lb-kube-edge"), None);
    let copy = found.iter().find(|(kind, ..)| kind == "EndpointSlice").map(|(.., what)| what);
    let Some(What::Create(copy)) = copy else { panic!("{found:?}") };
    assert_eq!(copy["metadata"]["labels"]["team"], "web");
    assert_eq!(copy["metadata"]["labels"]["kubernetes.io/service-name"], "lb-kube-edge");
    // Without `infrastructure` the label goes.
    let without = gateways(gateway(&[("web", 80)]), []);
    let found = decided(&without, &cluster(vec![(name("lb-kube-edge"), made)], vec![]));
    let Some(What::Patch(patch)) = of(&found, "Service", "lb-kube-edge") else { panic!("{found:?}") };
    assert_eq!(
        patch["metadata"]["labels"],
        json!({ "app.kubernetes.io/managed-by": "lb-kube", "team": null })
    );
}

#[test]
fn a_gateway_with_parameters_is_not_accepted_and_keeps_what_it_has() {
    let parameters = json!({ "parametersRef": { "group": "example.org", "kind": "Settings", "name": "a" } });
    let gateways = gateways(wanting(gateway(&[("web", 80)]), parameters), []);
    let found = decided(&gateways, &cluster(vec![], vec![]));
    assert_eq!(of(&found, "Service", "lb-kube-edge"), None, "none is made");
    let said = status(&found, "Gateway", "edge");
    assert_eq!(condition(&said["conditions"], "Accepted"), pair("False", "InvalidParameters"));
    let has = cluster(vec![(name("lb-kube-edge"), carrier(&["192.0.2.10"]))], vec![]);
    let found = decided(&gateways, &has);
    assert_eq!(of(&found, "Service", "lb-kube-edge"), None, "it stays as it is");
}

#[test]
fn a_class_that_is_given_parameters_keeps_its_gateways_and_gets_no_more() {
    let mut gateways = gateways(gateway(&[("web", 80)]), []);
    let spec = api::ClassSpec { controller_name: CLASS.into(), parameters_ref: Some(json!({})) };
    let class = Known { version: "1".into(), generation: 1, spec, ..Known::default() };
    gateways.classes = store([(Name { namespace: String::new(), name: "lb".into() }, class)]);
    let found = decided(&gateways, &cluster(vec![], vec![]));
    assert_eq!(of(&found, "Service", "lb-kube-edge"), None, "none is made");
    let has = cluster(vec![(name("lb-kube-edge"), carrier(&["192.0.2.10"]))], vec![]);
    let found = decided(&gateways, &has);
    assert_eq!(of(&found, "Service", "lb-kube-edge"), None, "it stays as it is");
}

#[test]
fn endpoints_are_copied_with_their_weights() {
    let routes = [(name("a"), route(1, vec![backend("web", 90), backend("blog", 10)]))];
    let gateways = gateways(gateway(&[("web", 80)]), routes);
    let of_blog = |endpoints| Slice { service: "blog".into(), ..slice(endpoints) };
    let slices = vec![
        (name("web-1"), slice(vec![ready("n1", "10.0.0.1")])),
        (name("blog-1"), of_blog(vec![ready("n1", "10.0.0.2"), ready("n2", "10.0.1.2")])),
    ];
    let carriers = vec![(name("lb-kube-edge"), carrier(&["192.0.2.10"]))];
    let found = decided(&gateways, &cluster(carriers.clone(), slices.clone()));
    let made = found.iter().filter(|(kind, ..)| kind == "EndpointSlice").map(|(_, _, what)| match what {
        What::Create(body) => body,
        other => panic!("{other:?}"),
    });
    let mut weights: Vec<(usize, &str)> = made
        .map(|body| {
            let weight = body["metadata"]["annotations"]["lb-kube/weight"].as_str().expect("a weight");
            assert_eq!(body["ports"][0]["name"], "tcp-80");
            assert_eq!(body["metadata"]["labels"]["kubernetes.io/service-name"], "lb-kube-edge");
            (body["endpoints"].as_array().map_or(0, Vec::len), weight)
        })
        .collect();
    weights.sort_unstable();
    // 90 for one, and 5 for each of two.
    assert_eq!(weights, [(1, "50"), (2, "3")]);
    // Copies of before go, and others' slices stay.
    let copy = Slice { service: "lb-kube-edge".into(), is_ours: true, ..slice(vec![]) };
    let before = slices.into_iter().chain([(name("lb-kube-edge-0"), copy)]).collect();
    let found = decided(&gateways, &cluster(carriers, before));
    let deleted = found.iter().filter(|(.., what)| matches!(what, What::Delete(_)));
    assert_eq!(deleted.map(|(_, name, _)| name.as_str()).collect::<Vec<_>>(), ["lb-kube-edge-0"]);
}

#[test]
fn what_is_served_is_told() {
    let routes = [(name("a"), route(1, vec![backend("nobody", 1)]))];
    let gateways = gateways(gateway(&[("web", 80)]), routes);
    let served = |status: &str, reason: &str| Condition {
        type_: SERVED.into(),
        status: status.into(),
        reason: reason.into(),
        message: "as the carrier says".into(),
        last_transition_time: Time(now()),
        observed_generation: None,
    };
    let with = |condition: Condition, has: &[&str]| {
        let carrier =
            Service { conditions: vec![condition], finalizers: vec![FINALIZER.into()], ..carrier(has) };
        decided(&gateways, &cluster(vec![(name("lb-kube-edge"), carrier)], vec![]))
    };
    let found = with(served("True", "Served"), &["192.0.2.10"]);
    let said = status(&found, "Gateway", "edge");
    assert_eq!(said["addresses"], json!([{ "type": "IPAddress", "value": "192.0.2.10" }]));
    assert_eq!(condition(&said["conditions"], "Programmed"), pair("True", "Programmed"));
    let listener = &said["listeners"][0];
    assert_eq!((&listener["attachedRoutes"], &listener["name"]), (&json!(1), &json!("web")));
    assert_eq!(listener["supportedKinds"][0]["kind"], "TCPRoute");
    assert_eq!(condition(&listener["conditions"], "Programmed"), pair("True", "Programmed"));
    assert_eq!(condition(&listener["conditions"], "Conflicted"), pair("False", "NoConflicts"));
    let said = status(&found, "TCPRoute", "a");
    assert_eq!(said["parents"][0]["controllerName"], CLASS);
    assert_eq!(condition(&said["parents"][0]["conditions"], "Accepted"), pair("True", "Accepted"));
    let resolved = condition(&said["parents"][0]["conditions"], "ResolvedRefs");
    assert_eq!(resolved, pair("False", "BackendNotFound"));
    let found = with(served("False", "PoolsExhausted"), &[]);
    let said = status(&found, "Gateway", "edge");
    assert_eq!(condition(&said["conditions"], "Programmed"), pair("False", "AddressNotAssigned"));
}

#[test]
fn what_cannot_be_served_is_told() {
    let mut edge = gateway(&[("web", 80), ("page", 8080)]);
    edge.spec.listeners[1].protocol = "HTTP".into();
    let found = decided(&gateways(edge.clone(), []), &cluster(vec![], vec![]));
    let said = status(&found, "Gateway", "edge");
    assert_eq!(condition(&said["conditions"], "Accepted"), pair("True", "ListenersNotValid"));
    let of_page = &said["listeners"][1]["conditions"];
    assert_eq!(condition(of_page, "Accepted"), pair("False", "UnsupportedProtocol"));
    assert!(of(&found, "Service", "lb-kube-edge").is_some(), "the other one is served");
    edge.spec.listeners.remove(0);
    let found = decided(&gateways(edge, []), &cluster(vec![], vec![]));
    let said = status(&found, "Gateway", "edge");
    assert_eq!(condition(&said["conditions"], "Accepted"), pair("False", "ListenersNotValid"));
    assert!(of(&found, "Service", "lb-kube-edge").is_none());
    let mut named = gateway(&[("web", 80)]);
    named.spec.addresses = vec![api::Address { type_: Some("Hostname".into()), value: Some("a".into()) }];
    let found = decided(&gateways(named, []), &cluster(vec![], vec![]));
    let said = status(&found, "Gateway", "edge");
    assert_eq!(condition(&said["conditions"], "Accepted"), pair("False", "UnsupportedAddress"));
}

#[test]
fn parents_of_other_controllers_stay_and_former_ones_of_ours_go() {
    let parent = |controller: &str| api::ParentStatus {
        parent_ref: api::ParentRef { name: "other".into(), ..api::ParentRef::default() },
        controller_name: controller.into(),
        conditions: vec![],
    };
    let mut former = route(1, vec![]);
    former.spec.parent_refs[0].name = "other".into();
    former.status.parents = vec![parent("example.org/other"), parent(CLASS)];
    let found = decided(&gateways(gateway(&[("web", 80)]), [(name("a"), former)]), &cluster(vec![], vec![]));
    let parents = status(&found, "TCPRoute", "a")["parents"].as_array().cloned().unwrap_or_default();
    assert_eq!((parents.len(), &parents[0]["controllerName"]), (1, &json!("example.org/other")));
}

/// Two controllers that each had an order of its own would write for ever.
#[test]
fn parents_stay_in_the_order_in_which_they_stand() {
    let routes = || gateways(gateway(&[("web", 80)]), [(name("a"), route(1, vec![backend("web", 1)]))]);
    let mut first = routes();
    let found = decided(&first, &cluster(vec![], vec![]));
    let told: api::RouteStatus = serde_json::from_value(status(&found, "TCPRoute", "a")).expect("a status");
    let [ours] = &told.parents[..] else { panic!("{told:?}") };
    let other = api::ParentStatus { controller_name: "example.org/other".into(), ..ours.clone() };
    for parents in [vec![ours.clone(), other.clone()], vec![other.clone(), ours.clone()]] {
        let mut known = route(1, vec![backend("web", 1)]);
        known.status.parents = parents;
        first.tcp_routes = store([(name("a"), known)]);
        let found = decided(&first, &cluster(vec![], vec![]));
        assert_eq!(of(&found, "TCPRoute", "a"), None, "it says all that there is");
    }
    // A new one comes last.
    let mut known = route(1, vec![backend("web", 1)]);
    known.status.parents = vec![other];
    first.tcp_routes = store([(name("a"), known)]);
    let found = decided(&first, &cluster(vec![], vec![]));
    let parents = status(&found, "TCPRoute", "a")["parents"].as_array().cloned().unwrap_or_default();
    assert_eq!((parents.len(), &parents[1]["controllerName"]), (2, &json!(CLASS)));
}

#[test]
fn names_of_carriers_are_labels() {
    let of = |called: &str| name_of(&name(called)).name;
    assert_eq!(of("edge"), "lb-kube-edge");
    let (dotted, dashed) = (of("edge.eu"), of("edge-eu"));
    assert!(!dotted.contains('.') && dotted.starts_with("lb-kube-edge-eu-"), "{dotted}");
    assert_ne!(dotted, dashed);
    assert_eq!(of(&"e".repeat(200)).len(), 63);
}

#[test]
fn nothing_is_decided_before_all_is_known() {
    let complete = gateways(gateway(&[("web", 80)]), []);
    assert!(complete.is_complete(), "what is not installed is not waited for");
    let mut unknown = gateways(gateway(&[("web", 80)]), []);
    unknown.versions.remove(&Kind::UdpRoute);
    assert!(!unknown.is_complete());
    assert!(!Gateways::default().is_complete());
}

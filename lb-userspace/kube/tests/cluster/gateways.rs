//! From Gateways and routes to the director, and back into their status.

use serde_json::{Value, json};

use super::process::wait_for;
use super::{Bed, service, slice};

const EDGE: &str = "shop/lb-kube-edge:80/tcp 192.0.2.10:80 192.0.2.21*2,192.0.2.22*1";

pub(crate) fn class() -> Value {
    json!({ "metadata": { "name": "lb" }, "spec": { "controllerName": "lb-kube/direct" } })
}

/// Listeners of TCP. It is the same Gateway whenever it is put.
pub(crate) fn gateway(listeners: &[(&str, u16)]) -> Value {
    let listeners = listeners.iter().map(|(name, port)| {
        json!({
            "name": name, "port": port, "protocol": "TCP",
            "allowedRoutes": { "namespaces": { "from": "All" } }
        })
    });
    json!({
        "metadata": { "name": "edge", "namespace": "shop", "uid": "edge" },
        "spec": { "gatewayClassName": "lb", "listeners": listeners.collect::<Vec<_>>() }
    })
}

/// A route of the Gateway to the Service `shop/web`.
pub(crate) fn route(namespace: &str, name: &str) -> Value {
    let parent = json!({
        "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "shop", "name": "edge"
    });
    let backend = json!({ "name": "web", "namespace": "shop", "port": 80 });
    json!({
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "parentRefs": [parent], "rules": [{ "backendRefs": [backend] }] }
    })
}

/// A Service that only pods reach.
pub(crate) fn backend() -> Value {
    let mut web = service("web");
    web["spec"]["type"] = json!("ClusterIP");
    web["spec"].as_object_mut().expect("a mapping").remove("loadBalancerClass");
    web
}

/// Status and reason of a condition.
fn condition(conditions: &Value, type_: &str) -> (String, String) {
    let all = conditions.as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|one| one["type"] == type_).unwrap_or_default();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

async fn wait_for_gateway(bed: &Bed, type_: &str, status: &str, reason: &str) {
    wait_for(reason, || {
        let gateway = bed.api.get("gateways", "shop", "edge").unwrap_or_default();
        condition(&gateway["status"]["conditions"], type_) == (status.to_owned(), reason.to_owned())
    })
    .await;
}

async fn wait_for_route(bed: &Bed, (namespace, name): (&str, &str), type_: &str, reason: &str) {
    wait_for(reason, || {
        let route = bed.api.get("tcproutes", namespace, name).unwrap_or_default();
        condition(&route["status"]["parents"][0]["conditions"], type_).1 == reason
    })
    .await;
}

/// A cluster with the Gateway API, one class, and a Service with endpoints.
async fn bed() -> Bed {
    let bed = Bed::new().await;
    bed.api.install_gateway_api();
    bed.api.put("gatewayclasses", class());
    bed.api.put("services", backend());
    bed.api.put("endpointslices", slice(&[("n1", 2), ("n2", 1)]));
    bed
}

#[tokio::test]
async fn a_gateway_gets_an_address_and_is_served_until_it_goes() {
    let bed = bed().await;
    let lb_kube = bed.start();
    bed.api.put("gateways", gateway(&[("web", 80)]));
    bed.api.put("tcproutes", route("shop", "web"));
    bed.wait_for_service(EDGE).await;
    wait_for_gateway(&bed, "Programmed", "True", "Programmed").await;
    let edge = bed.api.get("gateways", "shop", "edge").expect("it is there");
    assert_eq!(edge["status"]["addresses"], json!([{ "type": "IPAddress", "value": "192.0.2.10" }]));
    assert_eq!(edge["status"]["listeners"][0]["attachedRoutes"], 1);
    wait_for_route(&bed, ("shop", "web"), "Accepted", "Accepted").await;
    wait_for_route(&bed, ("shop", "web"), "ResolvedRefs", "ResolvedRefs").await;
    let class = bed.api.get("gatewayclasses", "", "lb").expect("it is there");
    assert_eq!(condition(&class["status"]["conditions"], "Accepted").0, "True");
    // Endpoints move on.
    bed.api.put("endpointslices", slice(&[("n2", 3)]));
    bed.wait_for_service("shop/lb-kube-edge:80/tcp 192.0.2.10:80 192.0.2.22*3").await;
    bed.api.delete("gateways", "shop", "edge");
    wait_for("the carrier is gone", || bed.service("lb-kube-edge").is_none()).await;
    assert!(bed.director.serves().is_empty(), "the director lets go first");
    wait_for("its slices are gone", || bed.api.all("endpointslices").len() == 1).await;
    assert!(bed.service("web").is_some(), "the Service of the pods stays");
    lb_kube.stop().await;
}

#[tokio::test]
async fn an_upgrade_of_the_gateway_api_is_followed() {
    let bed = bed().await;
    let lb_kube = bed.start();
    bed.api.put("gateways", gateway(&[("web", 80)]));
    wait_for_gateway(&bed, "Accepted", "True", "Accepted").await;
    wait_for("routes are watched", || bed.api.looks("tcproutes").1 > 0).await;
    bed.api.upgrade_routes();
    bed.api.end_watches(true);
    bed.api.put("tcproutes", route("shop", "web"));
    bed.wait_for_service(EDGE).await;
    // It is written in the new version, too.
    wait_for_route(&bed, ("shop", "web"), "Accepted", "Accepted").await;
    assert!(lb_kube.said("TCPRoutes are not there in version v1alpha2 any more"));
    lb_kube.stop().await;
}

#[tokio::test]
async fn a_carrier_whose_label_is_taken_away_gets_it_again() {
    let bed = bed().await;
    let lb_kube = bed.start();
    bed.api.put("gateways", gateway(&[("web", 80)]));
    bed.api.put("tcproutes", route("shop", "web"));
    bed.wait_for_service(EDGE).await;
    wait_for_gateway(&bed, "Programmed", "True", "Programmed").await;
    let mut carrier = bed.service("lb-kube-edge").expect("it is there");
    let labels = carrier["metadata"]["labels"].take();
    bed.api.put("services", carrier);
    wait_for("its label", || {
        bed.service("lb-kube-edge").is_some_and(|now| now["metadata"]["labels"] == labels)
    })
    .await;
    wait_for_gateway(&bed, "Programmed", "True", "Programmed").await;
    lb_kube.stop().await;
}

#[tokio::test]
async fn labels_of_a_gateway_come_and_go() {
    let bed = bed().await;
    let lb_kube = bed.start();
    let mut edge = gateway(&[("web", 80)]);
    edge["spec"]["infrastructure"] = json!({ "labels": { "team": "web" } });
    bed.api.put("gateways", edge.clone());
    bed.api.put("tcproutes", route("shop", "web"));
    bed.wait_for_service(EDGE).await;
    let team = |object: &Value| object["metadata"]["labels"]["team"].as_str().map(str::to_owned);
    let of_carrier = || bed.service("lb-kube-edge").and_then(|carrier| team(&carrier));
    let of_slices = || bed.api.all("endpointslices").iter().filter_map(team).collect::<Vec<String>>();
    assert_eq!((of_carrier(), of_slices()), (Some("web".to_owned()), vec!["web".to_owned()]));
    // Somebody's own label stays.
    let mut carrier = bed.service("lb-kube-edge").expect("it is there");
    carrier["metadata"]["labels"]["own"] = json!("stays");
    bed.api.put("services", carrier);
    edge["spec"]["infrastructure"]["labels"]["team"] = json!("mail");
    bed.api.put("gateways", edge.clone());
    wait_for("another label", || of_carrier().as_deref() == Some("mail") && of_slices() == ["mail"]).await;
    edge["spec"]["infrastructure"] = json!({ "parametersRef": { "group": "a", "kind": "B", "name": "c" } });
    bed.api.put("gateways", edge);
    wait_for_gateway(&bed, "Accepted", "False", "InvalidParameters").await;
    wait_for("no label", || of_carrier().is_none() && of_slices().is_empty()).await;
    let carrier = bed.service("lb-kube-edge").expect("it is there");
    assert_eq!(carrier["metadata"]["labels"]["own"], "stays");
    assert_eq!(bed.addresses("lb-kube-edge"), ["192.0.2.10"], "it is served as before");
    lb_kube.stop().await;
}

#[tokio::test]
async fn weights_are_shared_by_endpoints() {
    let bed = bed().await;
    bed.api.put("gateways", gateway(&[("web", 80)]));
    let mut blog = backend();
    blog["metadata"]["name"] = json!("blog");
    bed.api.put("services", blog);
    let mut of_blog = slice(&[("n2", 1)]);
    of_blog["metadata"]["name"] = json!("blog-1");
    of_blog["metadata"]["labels"]["kubernetes.io/service-name"] = json!("blog");
    bed.api.put("endpointslices", of_blog);
    bed.api.put("endpointslices", slice(&[("n1", 2)]));
    let mut both = route("shop", "web");
    both["spec"]["rules"][0]["backendRefs"] =
        json!([{ "name": "web", "port": 80, "weight": 20 }, { "name": "blog", "port": 80, "weight": 30 }]);
    bed.api.put("tcproutes", both.clone());
    let lb_kube = bed.start();
    // 10 for each of two, and 30 for one.
    bed.wait_for_service("shop/lb-kube-edge:80/tcp 192.0.2.10:80 192.0.2.21*66,192.0.2.22*100").await;
    both["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(0);
    bed.api.put("tcproutes", both);
    bed.wait_for_service("shop/lb-kube-edge:80/tcp 192.0.2.10:80 192.0.2.22*1").await;
    lb_kube.stop().await;
}

#[tokio::test]
async fn what_is_not_granted_is_not_served() {
    let bed = bed().await;
    bed.api.put("gateways", gateway(&[("web", 80)]));
    bed.api.put("tcproutes", route("blog", "web"));
    let lb_kube = bed.start();
    wait_for_route(&bed, ("blog", "web"), "ResolvedRefs", "RefNotPermitted").await;
    bed.wait_for_service("shop/lb-kube-edge:80/tcp 192.0.2.10:80 ").await;
    let grant = json!({
        "metadata": { "name": "blog", "namespace": "shop" },
        "spec": {
            "from": [{ "group": "gateway.networking.k8s.io", "kind": "TCPRoute", "namespace": "blog" }],
            "to": [{ "group": "", "kind": "Service", "name": "web" }]
        }
    });
    bed.api.put("referencegrants", grant);
    bed.wait_for_service(EDGE).await;
    wait_for_route(&bed, ("blog", "web"), "ResolvedRefs", "ResolvedRefs").await;
    // A second route comes too late.
    bed.api.put("tcproutes", route("shop", "late"));
    wait_for_route(&bed, ("shop", "late"), "Accepted", "MultipleRoutesOnListener").await;
    lb_kube.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_told() {
    let bed = bed().await;
    let lb_kube = bed.start();
    bed.api.put("services", service("shop"));
    bed.wait_for_condition("shop", "True", "Served").await;
    let mut edge = gateway(&[("web", 80)]);
    edge["spec"]["addresses"] = json!([{ "type": "IPAddress", "value": "192.0.2.10" }]);
    bed.api.put("gateways", edge.clone());
    wait_for_gateway(&bed, "Programmed", "False", "AddressNotUsable").await;
    edge["spec"]["addresses"][0]["value"] = json!("192.0.2.12");
    bed.api.put("gateways", edge);
    wait_for_gateway(&bed, "Programmed", "True", "Programmed").await;
    assert_eq!(bed.addresses("lb-kube-edge"), ["192.0.2.12"]);
    lb_kube.stop().await;
}

#[tokio::test]
async fn a_cluster_without_the_gateway_api_is_looked_at_again() {
    let bed = Bed::new().await;
    bed.api.put("services", backend());
    bed.api.put("services", service("blog"));
    bed.api.put("endpointslices", slice(&[("n1", 2), ("n2", 1)]));
    let lb_kube = bed.start();
    bed.wait_for_condition("blog", "True", "Served").await;
    wait_for("the words", || lb_kube.said("the Gateway API is not installed")).await;
    bed.api.install_gateway_api();
    bed.api.put("gatewayclasses", class());
    bed.api.put("gateways", gateway(&[("web", 80)]));
    bed.api.put("tcproutes", route("shop", "web"));
    bed.wait_for_service("shop/lb-kube-edge:80/tcp 192.0.2.11:80 192.0.2.21*2,192.0.2.22*1").await;
    assert_eq!(lb_kube.count("not installed"), 1);
    lb_kube.stop().await;
}

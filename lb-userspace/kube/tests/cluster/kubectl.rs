//! With `kubectl`, as operators use it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;
use tokio::process::Command;

use super::process::wait_for;
use super::{Bed, gateways, slice};

/// What it prints.
async fn kubectl(bed: &Bed, words: &[&str]) -> String {
    let mut command = Command::new("kubectl");
    // Its cache is there.
    command.env("HOME", bed.folder.path()).env_remove("KUBECONFIG").kill_on_drop(true);
    let ran = command.arg("--server").arg(&bed.api.url).args(words).output().await;
    let output = ran.expect("kubectl is there, see `cargo xtask setup`");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn deploy() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes");
    path.to_str().expect("text").to_owned()
}

#[tokio::test]
async fn the_example_is_applied_shown_and_deleted() {
    let bed = Bed::new().await;
    let lb_kube = bed.start();
    let example = deploy() + "/example/service.yaml";
    // Endpoints of the port that the example names.
    let mut endpoints = slice(&[("n1", 1), ("n2", 2)]);
    endpoints["metadata"]["namespace"] = json!("default");
    endpoints["ports"][0]["name"] = json!("http");
    bed.api.put("endpointslices", endpoints);
    kubectl(&bed, &["apply", "--validate=false", "--filename", &example]).await;
    bed.wait_for_service("default/web:80/tcp 192.0.2.10:80 192.0.2.21*1,192.0.2.22*2").await;
    wait_for("an event", || !bed.api.all("events").is_empty()).await;
    let address = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    assert_eq!(kubectl(&bed, &["get", "service", "web", "--output", address]).await, "192.0.2.10");
    let served = "jsonpath={.status.conditions[?(@.type==\"lb-kube/Served\")].status}";
    assert_eq!(kubectl(&bed, &["get", "service", "web", "--output", served]).await, "True");
    let reasons = ["get", "events.events.k8s.io", "--output", "jsonpath={.items[*].reason}"];
    assert_eq!(kubectl(&bed, &reasons).await, "Served");
    kubectl(&bed, &["label", "node", "n2", "node.kubernetes.io/exclude-from-external-load-balancers="]).await;
    bed.wait_for_service("default/web:80/tcp 192.0.2.10:80 192.0.2.21*1").await;
    kubectl(&bed, &["delete", "service", "web", "--wait=false"]).await;
    wait_for("it is gone", || bed.api.get("services", "default", "web").is_none()).await;
    assert!(bed.director.serves().is_empty());
    lb_kube.stop().await;
}

#[tokio::test]
async fn the_example_of_a_gateway_is_applied_and_shown() {
    let bed = Bed::new().await;
    bed.api.install_gateway_api();
    let lb_kube = bed.start();
    let mut endpoints = slice(&[("n1", 1), ("n2", 2)]);
    endpoints["metadata"]["namespace"] = json!("default");
    bed.api.put("endpointslices", endpoints);
    let mut web = gateways::backend();
    web["metadata"]["namespace"] = json!("default");
    bed.api.put("services", web);
    let example = deploy() + "/example/gateway.yaml";
    kubectl(&bed, &["apply", "--validate=false", "--filename", &example]).await;
    bed.wait_for_service("default/lb-kube-edge:80/tcp 192.0.2.10:80 192.0.2.21*1,192.0.2.22*2").await;
    wait_for("it is programmed", || {
        let edge = bed.api.get("gateways", "default", "edge").unwrap_or_default();
        edge["status"]["conditions"][1]["status"] == "True"
    })
    .await;
    let address = ["get", "gateway", "edge", "--output", "jsonpath={.status.addresses[0].value}"];
    assert_eq!(kubectl(&bed, &address).await, "192.0.2.10");
    lb_kube.stop().await;
}

#[tokio::test]
async fn the_kustomization_has_all_manifests() {
    let bed = Bed::new().await;
    let built = kubectl(&bed, &["kustomize", &deploy()]).await;
    let kinds = built.lines().filter_map(|line| line.strip_prefix("kind: "));
    let kinds: BTreeSet<&str> = kinds.collect();
    let wanted = [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "DaemonSet",
        "Namespace",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    ];
    assert_eq!(kinds, BTreeSet::from(wanted));
    assert!(built.contains("image: lb-kube:latest"), "{built}");
}

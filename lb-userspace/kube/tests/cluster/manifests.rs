//! deploy/kubernetes: every manifest is one that the API knows in full, its pools are accepted, and
//! its roles allow what `lb-kube` asks for, and no more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use super::Bed;
use super::process::wait_for;
use super::{gateways, service, slice};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes")
}

/// The documents of a file.
fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
    documents.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All that are applied: those that the kustomization names.
fn applied() -> Vec<Value> {
    let kustomization = documents(&folder().join("kustomization.yaml")).remove(0);
    let resources = kustomization["resources"].as_array().expect("resources").clone();
    let paths = resources.iter().map(|name| folder().join(name.as_str().expect("a name")));
    paths.flat_map(|path| documents(&path)).collect()
}

fn of_kind(kind: &str) -> Value {
    applied().into_iter().find(|manifest| manifest["kind"] == kind).expect(kind)
}

/// What the type does not know is lost, and so found.
fn known<T: DeserializeOwned + Serialize>(manifest: &Value) {
    let read: T =
        serde_json::from_value(manifest.clone()).unwrap_or_else(|error| panic!("{error}: {manifest}"));
    assert_eq!(&serde_json::to_value(&read).expect("JSON"), manifest);
}

#[test]
fn every_key_is_one_of_the_api() {
    let example = documents(&folder().join("example/service.yaml"));
    for manifest in applied().iter().chain(&example) {
        match manifest["kind"].as_str().expect("a kind") {
            "Namespace" => known::<Namespace>(manifest),
            "ServiceAccount" => known::<ServiceAccount>(manifest),
            "ClusterRole" => known::<ClusterRole>(manifest),
            "ClusterRoleBinding" => known::<ClusterRoleBinding>(manifest),
            "Role" => known::<Role>(manifest),
            "RoleBinding" => known::<RoleBinding>(manifest),
            "ConfigMap" => known::<ConfigMap>(manifest),
            "DaemonSet" => known::<DaemonSet>(manifest),
            "Service" => known::<Service>(manifest),
            other => panic!("no type is known for {other}"),
        }
    }
}

/// Verb, group and resource of everything that the roles allow.
fn allowed() -> BTreeSet<(String, String, String)> {
    let strings = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
    };
    let mut allowed = BTreeSet::new();
    for role in [of_kind("ClusterRole"), of_kind("Role")] {
        for rule in role["rules"].as_array().expect("rules") {
            for verb in strings(&rule["verbs"]) {
                for group in strings(&rule["apiGroups"]) {
                    for resource in strings(&rule["resources"]) {
                        allowed.insert((verb.clone(), group.clone(), resource));
                    }
                }
            }
        }
    }
    allowed
}

/// A Gateway that comes, changes and goes, with routes of both kinds.
async fn serve_gateway(bed: &Bed) {
    bed.api.put("gatewayclasses", gateways::class());
    bed.api.put("services", gateways::backend());
    bed.api.put("endpointslices", slice(&[("n1", 1)]));
    bed.api.put("gateways", gateways::gateway(&[("web", 80)]));
    bed.api.put("tcproutes", gateways::route("shop", "web"));
    bed.api.put("udproutes", gateways::route("shop", "web"));
    bed.wait_for_service("shop/lb-kube-edge:80/tcp 192.0.2.100:80 192.0.2.21*1").await;
    bed.api.put("endpointslices", slice(&[("n2", 1)]));
    bed.wait_for_service("shop/lb-kube-edge:80/tcp 192.0.2.100:80 192.0.2.22*1").await;
    bed.api.put("gateways", gateways::gateway(&[("web", 81)]));
    bed.wait_for_service("shop/lb-kube-edge:81/tcp 192.0.2.100:81 192.0.2.22*1").await;
    for (resource, name, namespace) in
        [("gatewayclasses", "lb", ""), ("tcproutes", "web", "shop"), ("udproutes", "web", "shop")]
    {
        wait_for("a status", || {
            bed.api.get(resource, namespace, name).is_some_and(|object| !object["status"].is_null())
        })
        .await;
    }
    bed.api.delete("gateways", "shop", "edge");
    wait_for("the carrier is gone", || bed.service("lb-kube-edge").is_none()).await;
    wait_for("its slices are gone", || bed.api.all("endpointslices").len() == 1).await;
}

#[tokio::test]
async fn the_roles_allow_what_is_asked_for_and_no_more() {
    let bed = Bed::new().await;
    bed.api.install_gateway_api();
    let config = of_kind("ConfigMap")["data"]["config.yaml"].as_str().expect("text").to_owned();
    fs::write(bed.folder.path().join("config.yaml"), config).expect("a file");
    let lb_kube = bed.start();
    // It comes twice with the same name, so that the same event does, too.
    for _ in 0..2 {
        let mut web = service("web");
        web["metadata"]["uid"] = "the-same".into();
        bed.api.put("services", web);
        bed.wait_for_condition("web", "True", "Served").await;
        assert_eq!(bed.addresses("web"), ["192.0.2.100"], "the pools of the manifest are in force");
        bed.api.delete("services", "shop", "web");
        wait_for("the Service is gone", || bed.service("web").is_none()).await;
    }
    serve_gateway(&bed).await;
    wait_for("the Lease was renewed", || bed.api.asked().iter().any(|(verb, ..)| verb == "update")).await;
    lb_kube.stop().await;
    assert_eq!(bed.api.asked(), allowed());
}

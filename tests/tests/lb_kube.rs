//! `lb-kube` itself between an API server, which is the double of its own tests, and a real
//! director in a namespace: Services of the cluster are services of the director, and what it says
//! of them comes back into the cluster.

#[expect(dead_code, reason = "lb-kube's own tests need more of it")]
#[path = "../../lb-userspace/kube/tests/cluster/api.rs"]
mod api;
#[path = "../../lb-userspace/kube/tests/cluster/discovery.rs"]
mod discovery;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lb_api::status::{ServiceStatus, Status};
use lb_lab::cluster::Talk;
use lb_lab::lab::director::{binary, wait_for};
use lb_lab::lab::{Director, unique_name};
use serde_json::{Value, json};

use self::api::Api;

/// The file has a service of its own, which cannot come from the cluster, too.
const FILE: &str = "\
interface: eth0
metrics: off
groups: [{ vips: [211.58.250.6/25] }]
services:
  - { name: own, vip: '211.58.250.6:80', fallback: refuse, servers: [{ address: 211.58.250.25 }] }
";

const WEB: &str = "shop/web:8000/tcp";
const WWW1: &str = "211.58.250.25";
const WWW2: &str = "211.58.250.27";

/// Whatever is waited for has come by then, on a busy machine, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// An API server on a thread of its own.
fn api_server() -> Api {
    let (to, started) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            to.send(Api::start().await).expect("somebody waits for it");
            std::future::pending::<()>().await;
        });
    });
    started.recv().expect("it starts")
}

/// The process, which ends with the test.
struct LbKube(Child);

impl LbKube {
    fn start(folder: &Path, api: &Api, director: &Director) -> Self {
        // It stands beside the `lb` under test.
        let program = binary().expect("lb").with_file_name("lb-kube");
        assert!(program.is_file(), "there is no {}: build lb-kube, too", program.display());
        let url = &api.url;
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{ name: test, cluster: {{ server: '{url}' }} }}]\n\
             users: [{{ name: test, user: {{}} }}]\n\
             contexts: [{{ name: test, context: {{ cluster: test, user: test, namespace: lb-system }} }}]\n"
        );
        let pools = "pools: [{ name: public, addresses: [211.58.250.6] }]\n";
        for (name, text) in [("kubeconfig", kubeconfig.as_str()), ("config.yaml", pools)] {
            fs::write(folder.join(name), text).expect("a file");
        }
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(folder.join("kubeconfig")).arg("--config");
        command.arg(folder.join("config.yaml")).arg("--socket").arg(director.socket());
        command.args(["--identity", "lb1"]).stdin(Stdio::null());
        command.env_remove("KUBECONFIG").env_remove("POD_NAMESPACE").env_remove("RUST_LOG");
        Self(command.spawn().expect("lb-kube starts"))
    }
}

impl Drop for LbKube {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn node(name: &str, address: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "addresses": [{ "type": "InternalIP", "address": address }]
        }
    })
}

fn service(name: &str, port: u16) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "lb-kube/direct", "ipFamilies": ["IPv4"],
            "externalTrafficPolicy": "Local", "ports": [{ "port": port, "protocol": "TCP" }]
        }
    })
}

/// One endpoint of the Service on each of these nodes.
fn slice(of: &str, nodes: &[&str]) -> Value {
    let endpoints = nodes.iter().zip(1..).map(|(node, host): (_, u8)| {
        json!({
            "addresses": [format!("10.0.0.{host}")], "nodeName": node,
            "conditions": { "ready": true, "serving": true, "terminating": false }
        })
    });
    json!({
        "metadata": {
            "name": format!("{of}-1"), "namespace": "shop", "labels": { "kubernetes.io/service-name": of }
        },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 7777, "protocol": "TCP" }],
        "endpoints": endpoints.collect::<Vec<_>>()
    })
}

/// The service that comes from the cluster, while it is served.
fn found<'s>(status: &'s Status, name: &str) -> Option<&'s ServiceStatus> {
    status.services.iter().find(|service| service.name == name && !service.draining)
}

/// Whether it has servers at these addresses, and no others that stay.
fn has_servers(status: &Status, name: &str, addresses: &[&str]) -> bool {
    let Some(service) = found(status, name) else { return false };
    let staying = service.servers.iter().filter(|server| server.health != lb_model::Health::Draining);
    let mut staying: Vec<String> = staying.map(|server| server.address.to_string()).collect();
    staying.sort();
    staying == addresses
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Status and reason of what the Service is told.
fn condition(api: &Api, name: &str) -> (String, String) {
    let service = api.get("services", "shop", name).unwrap_or_default();
    let all = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ours = all.into_iter().find(|one| one["type"] == "lb-kube/Served").unwrap_or_default();
    let text = |key: &str| ours[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

#[test]
fn services_of_a_cluster_are_served_by_a_real_director() {
    let talk = Talk::new(&unique_name("lbkube")).expect("the cluster comes up");
    let mut director = Director::start(&talk.ha1, FILE).expect("lb starts on ha1");
    let api = api_server();
    for (name, address) in [("n1", WWW1), ("n2", WWW2)] {
        api.put("nodes", node(name, address));
    }
    api.put("services", service("web", 8000));
    api.put("endpointslices", slice("web", &["n1", "n2"]));
    let folder = tempfile::tempdir().expect("a folder");
    let lb_kube = LbKube::start(folder.path(), &api, &director);

    let status = wait_for(&director, "both nodes", |status| has_servers(status, WEB, &[WWW1, WWW2]));
    let web = found(&status, WEB).expect("it was found");
    assert_eq!(
        (web.source.as_deref(), web.vip.to_string(), web.port),
        (Some("kubernetes"), "211.58.250.6".into(), 8000)
    );
    assert!(
        status.overlay.iter().all(|one| one.source == "kubernetes" && one.unused.is_none()),
        "{:?}",
        status.overlay
    );
    assert_eq!(found(&status, "own").and_then(|own| own.source.clone()), None, "it is the file's");
    wait("what it is told", || condition(&api, "web") == ("True".into(), "Served".into()));
    let told = api.get("services", "shop", "web").unwrap_or_default();
    assert_eq!(told["status"]["loadBalancer"]["ingress"][0]["ip"], "211.58.250.6");

    // Endpoints move, and the director follows.
    api.put("endpointslices", slice("web", &["n2"]));
    wait_for(&director, "the node that is left", |status| has_servers(status, WEB, &[WWW2]));
    // A director that starts again has what it was given.
    director.kill().expect("lb is killed");
    director.restart().expect("lb starts again");
    wait_for(&director, "the service again", |status| has_servers(status, WEB, &[WWW2]));

    api.delete("services", "shop", "web");
    wait_for(&director, "the end of the service", |status| found(status, WEB).is_none());
    wait("the Service's end, once the director has let it go", || {
        api.get("services", "shop", "web").is_none()
    });
    // Another one gets its address. What the file has is left out, and the cluster hears why.
    api.put("services", service("own", 80));
    api.put("endpointslices", slice("own", &["n1"]));
    wait("the refusal", || condition(&api, "own") == ("False".into(), "RefusedByDirector".into()));
    drop(lb_kube);
}

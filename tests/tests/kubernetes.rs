//! Services of a named source on a real director, as `lb-kube` brings them, whose servers are nodes
//! of Kubernetes: without the VIP on any interface, but with the rules of kube-proxy's nftables
//! mode (`pkg/proxy/nftables/proxier.go`). What `lb-kube` itself does is tested in its own crate.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lb_api::client::{request_overlay, request_replacement};
use lb_api::status::Status;
use lb_api::wire::Replaced;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Director, Node, unique_name};
use lb_model::overlay::{KUBERNETES, NewServer, NewService, Settings};

/// The port of the Service, that of its pods, and where nodes tell whether they have one.
const PORT: u16 = 8000;
const POD_PORT: u16 = 7777;
const HEALTH_PORT: u16 = 30100;

const CLIENT: &str = "211.58.250.100";
const WWW1: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 25);
const WWW2: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 27);

/// The file has a service of its own, which cannot come from elsewhere, too.
const FILE: &str = "\
interface: eth0
metrics: off
groups: [{ vips: [211.58.250.6/25] }]
services:
  - { name: own, vip: '211.58.250.6:80', fallback: refuse, servers: [{ address: 211.58.250.25 }] }
";

/// A pod of a node. Whoever connects is told the node's name and the address that the pod sees.
fn pod(node: &Node, address: Ipv4Addr) {
    node.ip(&format!("address add {address}/32 dev lo")).expect("an address of a pod");
    let listener = node.run(|| TcpListener::bind((address, POD_PORT)));
    let listener = listener.expect("in the node").expect("a port");
    let name = node.name().to_owned();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if let Ok(peer) = stream.peer_addr() {
                let _ = write!(stream, "{name} {}", peer.ip());
            }
        }
    });
}

/// What kube-proxy sets up on a node for a Service at the VIP, with one endpoint. With
/// `is_masked` the pod sees the node instead of the client, as with `externalTrafficPolicy:
/// Cluster`.
fn kube_proxy(node: &Node, endpoint: Ipv4Addr, is_masked: bool) {
    let external = if is_masked { "jump mark-for-masquerade; goto endpoint-1;" } else { "goto endpoint-1;" };
    let rules = format!(
        "table ip kube-proxy {{
            map service-ips {{
                type ipv4_addr . inet_proto . inet_service : verdict;
                elements = {{ {VIP} . tcp . {PORT} : goto external-1 }};
            }};
            chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips; }};
            chain nat-prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                jump services;
            }};
            chain nat-postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                meta mark & 0x4000 == 0x4000 jump masquerading;
            }};
            chain masquerading {{ meta mark set meta mark ^ 0x4000; masquerade fully-random; }};
            chain mark-for-masquerade {{ meta mark set meta mark | 0x4000; }};
            chain external-1 {{ {external} }};
            chain endpoint-1 {{ meta l4proto tcp dnat to {endpoint}:{POD_PORT}; }};
        }}"
    );
    node.nft(&rules).expect("nft works");
}

/// `/healthz` of a node: 200, or 503 once it has no endpoint.
fn healthz(node: &Node) -> Arc<AtomicBool> {
    let has_endpoint = Arc::new(AtomicBool::new(true));
    let listener = node.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, HEALTH_PORT)));
    let listener = listener.expect("in the node").expect("a port");
    let asked = Arc::clone(&has_endpoint);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let status = if asked.load(Ordering::Relaxed) { "200 OK" } else { "503 Service Unavailable" };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    has_endpoint
}

/// The director, and two nodes that lack the VIP.
fn start(purpose: &str) -> (Talk, Director) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    for node in [talk.www1.node(), talk.www2.node()] {
        node.lose_vip(VIP).expect("it had the VIP");
    }
    let director = Director::start(&talk.ha1, FILE).expect("lb starts on ha1");
    (talk, director)
}

/// The Service as `lb-kube` gives it.
fn service(servers: &[(&str, Ipv4Addr)]) -> NewService {
    let servers = servers.iter().map(|(name, address)| NewServer {
        address: address.to_string(),
        name: Some((*name).to_owned()),
        weight: Some(1),
        ..NewServer::default()
    });
    NewService {
        vip: format!("{VIP}:{PORT}"),
        name: Some("shop/web:8000/tcp".into()),
        protocol: Some("tcp".into()),
        settings: Settings { scheduler: Some("rr".into()), ..Settings::default() },
        fallback: Some("refuse".into()),
        check: Some("http".into()),
        check_port: Some(HEALTH_PORT),
        check_request: Some("/healthz".into()),
        servers: servers.collect(),
    }
}

fn give(director: &Director, services: Vec<NewService>) -> Replaced {
    let given = request_replacement(&director.socket(), KUBERNETES, services);
    given.unwrap_or_else(|error| panic!("{error:#}"))
}

/// What a pod tells the client.
fn ask(talk: &Talk) -> String {
    let service = SocketAddrV4::new(VIP, PORT);
    let stream = talk.client.run(move || TcpStream::connect(service)).expect("in the client");
    let mut stream = stream.expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    let mut told = String::new();
    stream.read_to_string(&mut told).expect("an answer");
    told
}

fn are_up(status: &Status, servers: &[&str]) -> bool {
    servers.iter().all(|server| status.serves(server))
}

fn changes(director: &Director) -> usize {
    let events = director.events().expect("events");
    events.iter().filter(|event| event.event == "overlay_changed").count()
}

#[test]
fn local_endpoints_see_their_clients() {
    let (talk, director) = start("kubelocal");
    let nodes = [talk.www1.node(), talk.www2.node()];
    let pods = [Ipv4Addr::new(10, 88, 0, 2), Ipv4Addr::new(10, 88, 1, 2)];
    for (node, address) in nodes.into_iter().zip(pods) {
        pod(node, address);
        kube_proxy(node, address, false);
    }
    let [_first, second] = nodes.map(healthz);
    let replaced = give(&director, vec![service(&[("n1", WWW1), ("n2", WWW2)])]);
    assert!(replaced.left_out.is_empty(), "{replaced:?}");
    let status = wait_for(&director, "both nodes up", |status| are_up(status, &["n1", "n2"]));
    let source = |name: &str| {
        let found = status.services.iter().find(|service| service.name == name);
        found.unwrap_or_else(|| panic!("{name}")).source.clone()
    };
    assert_eq!((source("own"), source("shop/web:8000/tcp")), (None, Some(KUBERNETES.to_owned())));
    let mut told: Vec<String> = (0..4).map(|_| ask(&talk)).collect();
    told.sort();
    told.dedup();
    let names = nodes.map(Node::name);
    assert_eq!(told, names.map(|name| format!("{name} {CLIENT}")), "from both, with the client's address");

    // The last endpoint of a node is gone.
    second.store(false, Ordering::Relaxed);
    wait_for(&director, "the second node down", |status| !are_up(status, &["n2"]));
    assert_eq!([ask(&talk), ask(&talk)], [0, 0].map(|_| format!("{} {CLIENT}", names[0])));
}

#[test]
fn a_node_without_a_pod_sends_clients_on() {
    let (talk, director) = start("kubecluster");
    let [first, second] = [talk.www1.node(), talk.www2.node()];
    let address = Ipv4Addr::new(10, 88, 1, 2);
    pod(second, address);
    kube_proxy(first, address, true);
    let _healthy = healthz(first);
    for (path, value) in [("all/send_redirects", "0"), ("eth0/send_redirects", "0")] {
        first.sysctl(&format!("net/ipv4/conf/{path}"), value).expect("a setting");
    }
    first.sysctl("net/ipv4/ip_forward", "1").expect("a setting");
    first.ip(&format!("route add {address} via {WWW2}")).expect("a route");
    give(&director, vec![service(&[("n1", WWW1)])]);
    wait_for(&director, "the node up", |status| are_up(status, &["n1"]));
    assert_eq!(ask(&talk), format!("{} {WWW1}", second.name()));
}

#[test]
fn a_source_is_replaced_as_a_whole_and_kept() {
    let (talk, mut director) = start("kubesource");
    let _healthy = healthz(talk.www1.node());
    let web = service(&[("n1", WWW1)]);
    let colliding =
        NewService { vip: format!("{VIP}:80"), name: Some("shop/own:80/tcp".into()), ..web.clone() };
    let replaced = give(&director, vec![colliding.clone(), web.clone()]);
    let left_out: Vec<&str> = replaced.left_out.iter().map(|one| one.service.as_str()).collect();
    assert_eq!(left_out, ["shop/own:80/tcp"], "{replaced:?}");
    assert!(replaced.left_out[0].why.contains("already"), "{replaced:?}");
    assert_eq!(replaced.differences.len(), 1, "{replaced:?}");
    wait_for(&director, "the node up", |status| are_up(status, &["n1"]));

    // The same once more is no change, and says the same.
    let before = changes(&director);
    let again = give(&director, vec![colliding, web.clone()]);
    assert!(again.differences.is_empty() && again.left_out == replaced.left_out, "{again:?}");
    assert_eq!(changes(&director), before);

    // A weight changes alone.
    let mut heavier = web.clone();
    heavier.servers[0].weight = Some(3);
    let replaced = give(&director, vec![heavier]);
    let told: Vec<String> = replaced.differences.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["~ server shop/web:8000/tcp/n1: weight: 1 -> 3"]);

    // It is kept over restarts, and no part of the file.
    director.kill().expect("lb is killed");
    director.restart().expect("lb starts again");
    wait_for(&director, "the node up again", |status| are_up(status, &["n1"]));
    let saved = director.order(&["save"]).expect("there is nothing to save");
    assert_eq!(saved, "nothing was changed at run time\n");
    let overlay = request_overlay(&director.socket(), false).expect("the overlay");
    assert_eq!(overlay.sources[KUBERNETES].len(), 1);
    let acme = NewService { vip: format!("{VIP}:8002"), name: Some("acme".into()), ..web.clone() };
    let given = request_replacement(&director.socket(), "acme", vec![acme]).expect("another program's");
    assert!(given.left_out.is_empty(), "{given:?}");
    let added = director.order(&["add", "service", "211.58.250.6:8001", "211.58.250.27"]);
    added.unwrap_or_else(|error| panic!("{error:#}"));
    director.order(&["save"]).unwrap_or_else(|error| panic!("{error:#}"));
    let overlay = request_overlay(&director.socket(), false).expect("the overlay");
    assert_eq!(overlay.sources.keys().collect::<Vec<_>>(), ["acme", KUBERNETES]);
    let file = std::fs::read_to_string(director.configuration().expect("a file")).expect("the file");
    assert!([":8000", ":8002"].iter().all(|port| !file.contains(port)) && file.contains(":8001"), "{file}");
    request_replacement(&director.socket(), "acme", Vec::new()).expect("it takes them away");

    // Nobody takes the command line's place.
    let refused = request_replacement(&director.socket(), "cli", Vec::new()).expect_err("a refusal");
    assert!(refused.to_string().contains("source \"cli\""), "{refused:#}");

    // Nor does the command line take that of others.
    for words in [
        &["remove", "service", "shop/web:8000/tcp"][..],
        &["remove", "server", "shop/web:8000/tcp", "n1"],
        &["add", "server", "shop/web:8000/tcp", "211.58.250.27"],
        &["ipvsadm", "-D", "-t", "211.58.250.6:8000"],
    ] {
        let refused = director.order(words).expect_err("a refusal");
        assert!(format!("{refused:#}").contains("source kubernetes"), "{words:?}: {refused:#}");
    }
    director.order(&["ipvsadm", "-C"]).unwrap_or_else(|error| panic!("{error:#}"));
    let status = director.status().expect("a status");
    let there = status.services.iter().filter(|service| !service.draining);
    assert_eq!(there.map(|service| &service.name).collect::<Vec<_>>(), ["shop/web:8000/tcp"]);
    director.order(&["overlay", "clear", "--source", "cli"]).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(give(&director, Vec::new()).differences.len(), 1);
    let overlay = request_overlay(&director.socket(), false).expect("the overlay");
    assert!(overlay.sources.is_empty(), "{overlay:?}");
}

//! What goes wrong: watches that break off, versions that are too old, what is forbidden, and a
//! director that is away.

use std::net::{SocketAddr, TcpListener, TcpStream};

use super::director::Director;
use super::process::{LbKube, wait_for};
use super::{Bed, node, service};

const WEB: &str = "shop/web:80/tcp 192.0.2.10:80 192.0.2.21,192.0.2.22";
const WITH_THIRD: &str = "shop/web:80/tcp 192.0.2.10:80 192.0.2.21,192.0.2.22,192.0.2.23";

/// A bed whose Service is served.
async fn serving() -> (Bed, LbKube) {
    let bed = Bed::new().await;
    let lb_kube = bed.start();
    bed.api.put("services", service("web"));
    bed.wait_for_service(WEB).await;
    bed.wait_for_condition("web", "True", "Served").await;
    (bed, lb_kube)
}

/// Has watches end, and waits until there is another one of nodes.
async fn end_watches(bed: &Bed, is_abrupt: bool) {
    let (_, watches) = bed.api.looks("nodes");
    bed.api.end_watches(is_abrupt);
    wait_for("another watch", || bed.api.looks("nodes").1 > watches).await;
}

#[tokio::test]
async fn a_watch_that_breaks_off_goes_on_where_it_was() {
    let (bed, lb_kube) = serving().await;
    let (lists, _) = bed.api.looks("nodes");
    end_watches(&bed, true).await;
    bed.api.put("nodes", node("n3", "192.0.2.23"));
    bed.wait_for_service(WITH_THIRD).await;
    assert_eq!(bed.api.looks("nodes").0, lists, "nothing is listed again");
    lb_kube.stop().await;
}

#[tokio::test]
async fn after_a_bookmark_what_was_before_may_be_forgotten() {
    let (bed, lb_kube) = serving().await;
    let (lists, _) = bed.api.looks("nodes");
    // Nodes have not changed for long, so without the bookmark their last version is forgotten.
    bed.api.forget(false);
    bed.api.bookmark();
    end_watches(&bed, false).await;
    bed.api.put("nodes", node("n3", "192.0.2.23"));
    bed.wait_for_service(WITH_THIRD).await;
    assert_eq!(bed.api.looks("nodes").0, lists, "nothing is listed again");
    lb_kube.stop().await;
}

#[tokio::test]
async fn what_is_too_old_is_listed_again() {
    for at_once in [false, true] {
        let (bed, lb_kube) = serving().await;
        let (lists, _) = bed.api.looks("nodes");
        bed.api.forbid("watch", "nodes", true);
        bed.api.end_watches(true);
        // Nobody watches nodes while one comes, one goes, and the server forgets both.
        bed.api.put("nodes", node("n3", "192.0.2.23"));
        bed.api.delete("nodes", "", "n1");
        bed.api.forget(at_once);
        bed.api.forbid("watch", "nodes", false);
        bed.wait_for_service("shop/web:80/tcp 192.0.2.10:80 192.0.2.22,192.0.2.23").await;
        assert!(bed.api.looks("nodes").0 > lists, "it is listed again");
        lb_kube.stop().await;
    }
}

#[tokio::test]
async fn what_is_forbidden_is_told_and_nothing_is_served_by_halves() {
    let bed = Bed::new().await;
    bed.api.forbid("list", "endpointslices", true);
    bed.api.put("services", service("web"));
    let lb_kube = bed.start();
    wait_for("the words", || lb_kube.said("cannot list resource \"endpointslices\"")).await;
    assert!(lb_kube.said("watching EndpointSlices: forbidden") && lb_kube.said("ClusterRole"));
    assert_eq!(bed.director.replaced(), 0, "half a cluster is not told to the director");
    bed.api.forbid("list", "endpointslices", false);
    bed.wait_for_service(WEB).await;
    lb_kube.stop().await;
}

#[tokio::test]
async fn a_status_that_may_not_be_written_is_told() {
    let bed = Bed::new().await;
    bed.api.forbid("patch", "services/status", true);
    bed.api.put("services", service("web"));
    let lb_kube = bed.start();
    wait_for("the words", || lb_kube.said("writing to the Service shop/web: forbidden")).await;
    bed.api.forbid("patch", "services/status", false);
    bed.wait_for_condition("web", "True", "Served").await;
    lb_kube.stop().await;
}

#[tokio::test]
async fn services_that_may_not_be_changed_hold_up_no_others_and_are_told_once() {
    let bed = Bed::new().await;
    for name in ["ads", "blog"] {
        bed.api.refuse(name, true);
        bed.api.put("services", service(name));
    }
    bed.api.put("services", service("web"));
    let lb_kube = bed.start();
    bed.wait_for_condition("web", "True", "Served").await;
    wait_for("the words", || lb_kube.said("the request for ads; writing to the Service shop/blog: ")).await;
    bed.api.refuse("ads", false);
    bed.wait_for_condition("ads", "True", "Served").await;
    assert_eq!(lb_kube.count("denied the request for ads"), 1);
    lb_kube.stop().await;
}

#[tokio::test]
async fn webhooks_that_hang_hold_up_neither_other_services_nor_the_director() {
    let bed = Bed::new().await;
    // Before the others by name; the pool has an address for each of them.
    let hanging = ["a1", "a2"];
    for name in hanging {
        bed.api.hang(name, true);
        bed.api.put("services", service(name));
    }
    bed.api.put("services", service("web"));
    let lb_kube = bed.start();
    bed.wait_for_condition("web", "True", "Served").await;
    wait_for("the words", || lb_kube.said("writing to the Service shop/a1: no answer within 3 s")).await;
    // What changes meanwhile is not waited for longer than one write takes.
    bed.api.put("nodes", node("n3", "192.0.2.23"));
    wait_for("the third node", || {
        bed.director.serves().iter().any(|one| one.starts_with("shop/web") && one.ends_with("192.0.2.23"))
    })
    .await;
    for name in hanging {
        bed.api.hang(name, false);
    }
    bed.wait_for_condition("a2", "True", "Served").await;
    lb_kube.stop().await;
}

#[tokio::test]
async fn an_api_server_that_is_away_is_told() {
    let bed = Bed::new().await;
    // Its port is free, because nobody is given it who does not ask for it.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let (folder, socket) = (bed.folder.path(), &bed.director.socket);
    let lb_kube = LbKube::start_with(folder, &format!("http://{address}"), socket, "lb1", &[]);
    wait_for("the words", || lb_kube.said("the API server is not reached")).await;
    assert_eq!(bed.director.replaced(), 0);
    lb_kube.stop().await;
}

#[tokio::test]
async fn a_director_that_refuses_or_is_away_is_told_and_given_all_later() {
    let bed = Bed::new().await;
    let socket = bed.folder.path().join("late.sock");
    let lb_kube = LbKube::start_with(bed.folder.path(), &bed.api.url, &socket, "lb1", &[]);
    bed.api.put("services", service("web"));
    wait_for("the words", || lb_kube.said("no lb is listening")).await;
    let director = Director::start(bed.folder.path(), "late.sock");
    director.fail(Some("the configuration file has a mistake, mend it first"));
    wait_for("its words", || lb_kube.said("mend it first")).await;
    assert_eq!(bed.condition("web").0, "", "nobody says that it is served");
    director.fail(None);
    wait_for("it is served", || director.serves() == [WEB]).await;
    bed.wait_for_condition("web", "True", "Served").await;
    lb_kube.stop().await;
}

#[tokio::test]
async fn it_says_how_it_does() {
    let bed = Bed::new().await;
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let listen = port.to_string();
    let more = ["--listen", listen.as_str()];
    let (folder, socket) = (bed.folder.path(), &bed.director.socket);
    let lb_kube = LbKube::start_with(folder, &bed.api.url, socket, "lb1", &more);
    bed.api.put("services", service("web"));
    bed.wait_for_condition("web", "True", "Served").await;
    let healthz = tokio::task::spawn_blocking(move || get(port, "/healthz")).await.expect("an answer");
    assert!(healthz.starts_with("HTTP/1.1 200 "), "{healthz}");
    let metrics = tokio::task::spawn_blocking(move || get(port, "/metrics")).await.expect("an answer");
    assert!(
        metrics.contains("\nlb_kube_leader 1\n") && metrics.contains("\nlb_kube_services 1\n"),
        "{metrics}"
    );
    lb_kube.stop().await;
}

fn get(address: SocketAddr, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

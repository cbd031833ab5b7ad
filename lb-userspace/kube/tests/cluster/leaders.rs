//! Several `lb-kube`s: all serve, one writes.

use super::director::Director;
use super::process::{LbKube, NAMESPACE, wait_for};
use super::{Bed, service};

const WEB: &str = "shop/web:80/tcp 192.0.2.10:80 192.0.2.21,192.0.2.22";

fn holder(bed: &Bed) -> String {
    let lease = bed.api.get("leases", NAMESPACE, "lb-kube").unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// A second one, with a director of its own.
fn second(bed: &Bed) -> (Director, LbKube) {
    let folder = bed.folder.path().join("second");
    std::fs::create_dir_all(&folder).expect("a folder");
    let director = Director::start(&folder, "lb.sock");
    let lb_kube = LbKube::start(&folder, &bed.api, &director, "lb2");
    (director, lb_kube)
}

#[tokio::test]
async fn all_serve_and_another_writes_when_the_leader_goes() {
    let bed = Bed::new().await;
    let first = bed.start();
    wait_for("the first one leads", || holder(&bed) == "lb1").await;
    let (director, other) = second(&bed);
    bed.api.put("services", service("web"));
    bed.wait_for_service(WEB).await;
    wait_for("the second director serves it, too", || director.serves() == [WEB]).await;
    assert_eq!(holder(&bed), "lb1");
    first.stop().await;
    wait_for("the second one leads", || holder(&bed) == "lb2").await;
    bed.api.put("services", service("blog"));
    bed.wait_for_condition("blog", "True", "Served").await;
    assert_eq!(director.serves().len(), 2);
    other.stop().await;
    wait_for("nobody leads", || holder(&bed).is_empty()).await;
}

#[tokio::test]
async fn a_leader_that_is_dead_is_followed() {
    let bed = Bed::new().await;
    let first = bed.start();
    wait_for("the first one leads", || holder(&bed) == "lb1").await;
    let (_director, other) = second(&bed);
    first.kill().await;
    wait_for("the second one leads", || holder(&bed) == "lb2").await;
    bed.api.put("services", service("web"));
    bed.wait_for_condition("web", "True", "Served").await;
    let lease = bed.api.get("leases", NAMESPACE, "lb-kube").expect("a Lease");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    other.stop().await;
}

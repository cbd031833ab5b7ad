//! From Services to the director, and back into their status.

use std::fs;

use serde_json::json;

use super::process::wait_for;
use super::{Bed, service, slice};

const WEB: &str = "shop/web:80/tcp 192.0.2.10:80 192.0.2.21,192.0.2.22";

#[tokio::test]
async fn a_service_gets_an_address_and_is_served_until_it_goes() {
    let bed = Bed::new().await;
    let lb_kube = bed.start();
    bed.api.put("services", service("web"));
    bed.wait_for_service(WEB).await;
    bed.wait_for_condition("web", "True", "Served").await;
    let web = bed.service("web").expect("it is there");
    let wanted = json!([{ "ip": "192.0.2.10", "ipMode": "VIP" }]);
    assert_eq!(web["status"]["loadBalancer"]["ingress"], wanted);
    assert_eq!(web["metadata"]["finalizers"], json!(["lb-kube/cleanup"]));
    wait_for("an event", || {
        let events = bed.api.all("events");
        events.iter().any(|event| event["reason"] == "Served" && event["regarding"]["name"] == "web")
    })
    .await;
    bed.api.delete("services", "shop", "web");
    wait_for("the Service is gone", || bed.service("web").is_none()).await;
    assert!(bed.director.serves().is_empty(), "the director lets go first");
    lb_kube.stop().await;
}

#[tokio::test]
async fn endpoints_move_weights() {
    let bed = Bed::new().await;
    let lb_kube = bed.start();
    let mut web = service("web");
    web["spec"]["externalTrafficPolicy"] = json!("Local");
    web["spec"]["healthCheckNodePort"] = json!(30100);
    bed.api.put("services", web);
    bed.api.put("endpointslices", slice(&[("n1", 2), ("n2", 1)]));
    bed.wait_for_service("shop/web:80/tcp 192.0.2.10:80 192.0.2.21*2,192.0.2.22*1").await;
    bed.api.put("endpointslices", slice(&[("n2", 3)]));
    bed.wait_for_service("shop/web:80/tcp 192.0.2.10:80 192.0.2.22*3").await;
    lb_kube.stop().await;
}

#[tokio::test]
async fn what_is_given_up_stays_served_when_it_ends() {
    let bed = Bed::new().await;
    let lb_kube = bed.start();
    bed.api.put("services", service("web"));
    bed.wait_for_condition("web", "True", "Served").await;
    lb_kube.stop().await;
    assert_eq!(bed.director.serves(), [WEB]);
    assert_eq!(bed.addresses("web"), ["192.0.2.10"]);
    // The next one finds everything as it is.
    let lb_kube = bed.start();
    bed.wait_for_service(WEB).await;
    bed.api.put("services", service("blog"));
    bed.wait_for_condition("blog", "True", "Served").await;
    assert_eq!(
        (bed.addresses("web"), bed.addresses("blog")),
        (vec!["192.0.2.10".into()], vec!["192.0.2.11".into()])
    );
    lb_kube.stop().await;
}

#[tokio::test]
async fn a_service_that_is_no_load_balancer_any_more_loses_its_address() {
    let bed = Bed::new().await;
    let lb_kube = bed.start();
    bed.api.put("services", service("web"));
    bed.wait_for_condition("web", "True", "Served").await;
    let mut web = bed.service("web").expect("it is there");
    web["spec"]["type"] = json!("ClusterIP");
    web["spec"].as_object_mut().expect("a mapping").remove("loadBalancerClass");
    bed.api.put("services", web);
    wait_for("the finalizer is gone", || {
        bed.service("web").is_some_and(|web| web["metadata"]["finalizers"] == json!([]))
    })
    .await;
    assert!(bed.addresses("web").is_empty() && bed.director.serves().is_empty());
    lb_kube.stop().await;
}

#[tokio::test]
async fn conflicts_and_collisions_are_told() {
    let bed = Bed::new().await;
    let lb_kube = bed.start();
    bed.api.put("services", service("web"));
    bed.wait_for_condition("web", "True", "Served").await;
    let mut blog = service("blog");
    blog["metadata"]["annotations"] = json!({ "lb-kube/addresses": "192.0.2.10" });
    bed.api.put("services", blog);
    bed.wait_for_condition("blog", "False", "AddressTaken").await;
    bed.director.refuse("shop/mail:80/tcp", Some("there is a service at 192.0.2.11:80 already"));
    bed.api.put("services", service("mail"));
    bed.wait_for_condition("mail", "False", "RefusedByDirector").await;
    wait_for("a warning", || {
        let events = bed.api.all("events");
        events.iter().any(|event| event["reason"] == "RefusedByDirector" && event["type"] == "Warning")
    })
    .await;
    assert_eq!(bed.director.serves(), [WEB], "the others are served");
    lb_kube.stop().await;
}

#[tokio::test]
async fn the_file_is_read_again() {
    let bed = Bed::new().await;
    let lb_kube = bed.start();
    let mut web = service("web");
    web["spec"]["loadBalancerIP"] = json!("198.51.100.7");
    bed.api.put("services", web);
    bed.wait_for_condition("web", "False", "AddressInNoPool").await;
    let pools = "pools: [{ name: other, addresses: [198.51.100.0/24] }]\n";
    fs::write(bed.folder.path().join("config.yaml"), pools).expect("a file");
    // It is read with the next change.
    bed.api.put("services", service("blog"));
    bed.wait_for_condition("web", "True", "Served").await;
    assert_eq!(bed.addresses("web"), ["198.51.100.7"]);
    lb_kube.stop().await;
}

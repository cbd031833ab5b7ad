//! The VIPs on the segment: somebody else announces one, somebody removes one.

use lb_lab::cluster::URL;

use crate::harness::*;

#[test]
fn b1_a_server_that_announces_the_vip_is_named_and_answered_and_no_director_is_blamed() {
    let cluster = Cluster::start("conflict", &Plan::default());
    cluster.talk.client.get(URL).expect("the VIP serves");
    let www1 = cluster.talk.www1.node();
    let mut arping = www1.command("arping");
    let output = arping.args(["-U", "-c", "1", "-I", "eth0", "211.58.250.6"]).output().expect("arping runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("ARPING"), "{output:?}");
    let named = cluster.directors[0].wait_until("www1 to be named", PATIENCE, |status| {
        status.finding("vip_claimed").is_some_and(|finding| finding.text.contains("real server www1 "))
    });
    named.expect("it is");
    let split_brains = count_events(&cluster.directors[0], "split_brain", |_| true);
    assert_eq!(split_brains, 0, "no other director is active");
    cluster.wait_until_held_by("ha1");
    let client = &cluster.talk.client;
    wait_for("the client to be told better", || {
        client.ip("neighbour show 211.58.250.6").expect("ip works").contains(&cluster.talk.ha1.mac())
    });
    client.get(URL).expect("the VIP serves");
}

#[test]
fn an_address_that_somebody_removes_is_put_back() {
    let cluster = Cluster::start("flushed", &Plan::default());
    cluster.talk.ha1.ip("address del 211.58.250.6/32 dev eth0").expect("it was there");
    wait_for("the address to be back", || {
        let shown = cluster.talk.ha1.ip("-oneline address show dev eth0").expect("ip works");
        shown.contains(" 211.58.250.6/")
    });
    cluster.wait_until_held_by("ha1");
}

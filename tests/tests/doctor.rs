//! `lb doctor` on a director and on a real server.

use std::path::PathBuf;
use std::process::Output;

use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Node, director, unique_name, xdp_pass};

/// What it prints on `node`, and its exit code.
fn examine(talk: &Talk, node: &Node, more: &[&str]) -> (String, Option<i32>) {
    let folder = talk.lab.state().folder();
    let lb = director::binary().expect("the lb under test");
    let mut command = node.command(lb.to_str().expect("UTF-8"));
    let config: PathBuf = folder.join(node.name()).join("lb.yaml");
    command.arg("doctor").arg("--config").arg(config).arg("--socket").arg(director::socket(node));
    command.arg("--record").arg(record(talk, node)).args(more);
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    (String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned(), status.code())
}

fn record(talk: &Talk, node: &Node) -> PathBuf {
    talk.lab.state().folder().join(format!("{}-realserver.json", node.name()))
}

#[track_caller]
fn assert_says(said: &str, expected: &[&str]) {
    for line in expected {
        assert!(said.contains(line), "no {line:?} in:\n{said}");
    }
}

#[test]
fn a_director_is_looked_over() {
    let talk = Talk::new(&unique_name("doctor")).expect("the cluster comes up");
    let running = talk.start_serving().expect("both servers serve");
    let (said, code) = examine(&talk, &talk.ha1, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_says(
        &said,
        &[
            "ok       kernel: Linux ",
            "ok       interface eth0: up, ",
            "ok       interface eth0: lb's XDP program, native mode",
            "ok       VIP 211.58.250.6: nobody else answers for it on eth0",
            "ok       firewall: no rule about the service",
        ],
    );

    for server in [&talk.www1, &talk.www2] {
        server.node().answer_arp_for_all().expect("sysctl");
    }
    talk.ha1.nft("table inet lab { chain in { type filter hook input priority 0; ip daddr 211.58.250.6 tcp dport 80 drop; }; }").expect("nft works");
    let (said, code) = examine(&talk, &talk.ha1, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert_says(
        &said,
        &["wrong    VIP 211.58.250.6: ", "answer for it on eth0", "warning  the host's firewall has a rule"],
    );

    running.stop().expect("it stops");
    running.release().expect("nothing is left");
    xdp_pass::attach(&talk.ha1, "eth0").expect("a program of somebody else");
    let (said, code) = examine(&talk, &talk.ha1, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert_says(&said, &["wrong    interface eth0: an XDP program of somebody else", "warning  director: "]);
}

#[test]
fn a_real_server_is_looked_over_and_mended() {
    let talk = Talk::new(&unique_name("doctorserver")).expect("the cluster comes up");
    let www1 = talk.www1.node();
    // The lab has set it up by hand.
    www1.answer_arp_for_own().expect("sysctl");
    let (said, code) = examine(&talk, www1, &[]);
    assert_eq!(code, Some(0), "{said}");
    let by_hand = "warning  this machine is a real server for 211.58.250.6 that somebody has set up by hand";
    assert_says(&said, &[by_hand, "lb realserver setup --vip 211.58.250.6", "ok       lo has 211.58.250.6"]);
    www1.answer_arp_for_all().expect("sysctl");
    let (said, code) = examine(&talk, www1, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert_says(&said, &["wrong    net.ipv4.conf.all.arp_ignore is 0"]);
    www1.lose_vip(VIP).expect("it had the VIP");
    let (said, code) = examine(&talk, www1, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_says(&said, &["warning  this machine is neither a director"]);

    let lb = director::binary().expect("the lb under test");
    let mut setup = www1.command(lb.to_str().expect("UTF-8"));
    setup.args(["realserver", "setup", "--no-unit", "--vip", &VIP.to_string(), "--record"]);
    let done = setup.arg(record(&talk, www1)).output().expect("it runs");
    assert!(done.status.success(), "{done:?}");
    www1.answer_arp_for_all().expect("sysctl");
    let (said, code) = examine(&talk, www1, &["--json"]);
    assert_eq!(code, Some(1), "{said}");
    assert_says(&said, &["\"level\": \"wrong\"", "net.ipv4.conf.all.arp_ignore is 0"]);
    let (said, code) = examine(&talk, www1, &["--fix"]);
    assert_eq!(code, Some(0), "{said}");
    assert_says(&said, &["done: sysctl -w net.ipv4.conf.all.arp_ignore=1", "ok       lo has 211.58.250.6"]);
}

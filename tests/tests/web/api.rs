//! What programs do with the API: curl against a running director.

use std::io::Write as _;

use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Node, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;
use serde_json::{Value, json};

use super::{PATIENCE, TOKEN, directors};

/// The status and the body of an answer.
fn curl(node: &Node, path: &str, arguments: &[&str]) -> (u16, Value) {
    let output = node
        .command("curl")
        .args(["-q", "--silent", "--noproxy", "*", "--max-time", "20", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .arg(format!("http://127.0.0.1:9106/api/v1/{path}"))
        .output()
        .expect("curl");
    let text = String::from_utf8(output.stdout).expect("text");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    let json = serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
    (status.parse().expect("a number"), json)
}

/// Gives an order; the token comes by a file, as a script would have it.
fn order(node: &Node, path: &str, body: &Value) -> (u16, Value) {
    let header = node.folder().expect("a folder").join("authorization");
    std::fs::write(&header, format!("Authorization: Bearer {TOKEN}\n")).expect("a file");
    let header = format!("@{}", header.display());
    curl(node, path, &["--header", &header, "--json", &body.to_string()])
}

#[test]
fn a_program_reads_and_orders() {
    let talk = Talk::new(&unique_name("api")).expect("the cluster comes up");
    let pair = directors(&talk);
    let ha1 = &talk.ha1;
    // What it tells is up to a second old.
    let is_active = |answer: &str| answer.contains("\"role\":\"active\"");
    pair.ha1
        .wait_until("the page", PATIENCE, |_| {
            let mut curl = ha1.command("curl");
            curl.args(["-q", "--silent", "--fail", "--noproxy", "*", "http://127.0.0.1:9106/api/v1/status"]);
            curl.output().is_ok_and(|output| is_active(&String::from_utf8_lossy(&output.stdout)))
        })
        .expect("the API answers");

    let (status, whole) = curl(ha1, "status", &[]);
    assert_eq!((status, &whole["interface"]), (200, &json!("eth0")));
    assert_eq!(whole["cluster"]["groups"][0]["role"], "active");
    let (_, servers) = curl(ha1, "servers?health=up&limit=1", &[]);
    assert_eq!((&servers["total"], &servers["items"][0]["service"]), (&json!(2), &json!("web")));
    let (_, next) = curl(ha1, servers["next"].as_str().expect("a link").trim_start_matches("/api/v1/"), &[]);
    assert_eq!((&next["items"][0]["name"], &next["next"]), (&json!("www2"), &Value::Null));
    assert_eq!(curl(ha1, "cluster", &[]).1["node"], "ha1");

    let open = KeptOpen::open(&talk.client);
    let (_, found) = curl(ha1, "connections?service=web&limit=10", &[]);
    let found = found["items"].as_array().expect("a list");
    let port = open.local().port();
    let mine = found.iter().find(|one| one["client_port"] == port).expect("the client's connection");
    assert_eq!((&mine["vip"], &mine["service"]), (&json!(VIP), &json!("web")), "{mine}");

    let drain = json!({ "server": "www1", "reason": "new disk" });
    assert_eq!(curl(ha1, "servers/drain", &["--json", &drain.to_string()]).0, 401);
    let (_, last) = curl(ha1, "events?limit=1", &[]);
    let last = last["items"][0]["number"].as_u64().expect("a number");
    let (status, done) = order(ha1, "servers/drain", &drain);
    assert_eq!(status, 200, "{done}");
    pair.ha1
        .wait_until("www1 kept out", PATIENCE, |status| {
            status.server("www1").is_some_and(|server| server.effective_weight == 0)
        })
        .expect("www1 is kept out");
    let told = pair
        .ha1
        .wait_for_event("http_order", PATIENCE, |record| record.by.as_deref() == Some("alice"))
        .expect("the event log has who did it");
    assert!(told.number > last && told.server.as_deref() == Some("www1"), "{told:?}");
    assert_eq!(order(ha1, "servers/drain", &json!({ "server": "nobody" })).0, 409);
    assert_eq!(order(ha1, "servers/enable", &json!({ "server": "www1" })).0, 200);
    pair.ha1.wait_until("www1 back", PATIENCE, |status| status.serves("www1")).expect("www1 is back");
    let (status, reports) = order(ha1, "servers/probe", &json!({ "service": "web", "server": "www2" }));
    assert_eq!((status, &reports[0]["failure"]), (200, &Value::Null), "{reports}");

    reload(&talk, &pair.ha1.configuration().expect("a path"));
    let (status, moves) = order(ha1, "cluster/failover", &json!({}));
    assert_eq!((status, &moves["moves"][0]["from"]), (200, &json!("ha1")), "{moves}");
    pair.wait_until_held_by("ha2").expect("the group has moved");
    assert_eq!(order(ha1, "cluster/failback", &json!({ "group": "211.58.250.6" })).0, 200);
    pair.wait_until_held_by("ha1").expect("the group is back");
    let (status, problem) = order(ha1, "cluster/failover", &json!({ "group": "nothing" }));
    assert_eq!((status, &problem["status"]), (409, &json!(409)), "{problem}");
}

/// A mistake in the file is a refusal with its place.
fn reload(talk: &Talk, file: &std::path::Path) {
    let good = std::fs::read_to_string(file).expect("the configuration");
    let mut open = std::fs::OpenOptions::new().append(true).open(file).expect("the configuration");
    writeln!(open, "servces: []").expect("a file");
    drop(open);
    let (status, problem) = order(&talk.ha1, "reload", &json!({}));
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(status == 409 && detail.contains("unknown key `servces`"), "{problem}");
    std::fs::write(file, good).expect("a file");
    assert_eq!(order(&talk.ha1, "reload", &json!({})).0, 200);
}

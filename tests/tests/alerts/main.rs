//! Alerts at real receivers: exim by STARTTLS and by TLS, with a login; nginx by TLS, with a token;
//! Alertmanager.
//!
//! - `receivers`: these programs on a node, and what they were told

mod receivers;

use std::fs;
use std::time::Duration;

use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Director, Lab, Node, WebServer, unique_name};

use receivers::{PASSWORD, Receivers};

/// Programs start, and messages that were not taken are sent again after up to 20 s.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bed {
    receivers: Receivers,
    www1: WebServer,
    director: Director,
    _lab: Lab,
}

impl Bed {
    fn new(purpose: &str) -> Self {
        let lab = Lab::new(&unique_name(purpose)).expect("a lab");
        let node = |name: &str, address: &str| -> Node {
            lab.node(name, address.parse().expect("an address")).expect("a node")
        };
        let receivers = Receivers::start(&node("ops", "10.9.0.2/24")).expect("the receivers start");
        let www1 = node("www1", "10.9.0.21/24").web_server("Test Page").expect("a web server");
        www1.start().expect("nginx starts");
        let ha1 = node("ha1", "10.9.0.1/24");
        let configuration = configuration(&receivers);
        let director = Director::start_trusting(&receivers.root(), &ha1, &configuration).expect("lb starts");
        wait_for(&director, "www1 is up", |status| status.serves("www1"));
        Self { receivers, www1, director, _lab: lab }
    }
}

fn configuration(receivers: &Receivers) -> String {
    let secret = receivers.secret_file().expect("a file");
    let secret = secret.display();
    format!(
        "\
interface: eth0
alerts:
  group_wait: 1s
  receivers:
    - name: mail
      email:
        {{ host: 10.9.0.2, user: lb, password: '${{file:{secret}}}', from: lb@lab.example, to: [starttls@lab.example] }}
    - name: secure
      email:
        {{ host: 10.9.0.2, tls: on, user: lb, password: '${{file:{secret}}}', from: lb@lab.example, to: [tls@lab.example] }}
    - {{ name: hook, webhook: {{ url: 'https://10.9.0.2/hook', token: '${{file:{secret}}}' }} }}
    - {{ name: am, alertmanager: {{ urls: ['http://10.9.0.2:9093'] }} }}
services:
  - name: web
    vip: 10.9.0.100:80
    check: {{ type: http, request: /index.html, interval: 200ms, timeout: 2s }}
    servers: [{{ name: www1, address: 10.9.0.21 }}]
"
    )
}

#[test]
fn a_dead_server_and_its_return_are_told_by_every_way() {
    let bed = Bed::new("alerting");
    let Bed { receivers, www1, director, .. } = &bed;
    let told = director.order(&["alerts", "test"]).expect("all take it");
    assert_eq!(told.lines().count(), 4, "{told}");
    assert!(told.lines().all(|line| line.contains(": taken by 10.9.0.2:")), "{told}");
    for recipient in ["starttls", "tls"] {
        receivers.wait_for_mail(recipient, "] test");
    }
    receivers.wait_for_hook("a test", |body| body["test"] == true);

    www1.stop().expect("nginx stops");
    for recipient in ["starttls", "tls"] {
        let mail = receivers.wait_for_mail(recipient, "WARNING  web: www1 is down");
        for line in ["Auto-Submitted: auto-generated", "To: ", "From: lb@lab.example"] {
            assert!(mail.lines().any(|found| found.starts_with(line)), "{mail}");
        }
    }
    let body = receivers.wait_for_hook("www1 is down", |body| {
        body["alerts"].as_array().is_some_and(|all| all.iter().any(|one| one["event"] == "server_down"))
    });
    let down = body["alerts"].as_array().expect("a list").iter().find(|one| one["event"] == "server_down");
    let down = down.expect("it is there");
    assert_eq!(
        (&down["state"], &down["service"], &down["server"]),
        (&"firing".into(), &"web".into(), &"www1".into())
    );
    let alert = receivers.wait_for_alert("LbServerDown", true).expect("an alert");
    for (label, value) in [("service", "web"), ("server", "www1"), ("severity", "warning"), ("job", "lb")] {
        assert_eq!(alert["labels"][label], value, "{alert}");
    }
    receivers.wait_for_alert("LbQuorumLost", true);

    www1.start().expect("nginx starts");
    receivers.wait_for_mail("starttls", "RESOLVED web: www1 is up");
    receivers.wait_for_hook("www1 is up", |body| {
        let resolved = |one: &serde_json::Value| one["event"] == "server_up" && one["state"] == "resolved";
        body["alerts"].as_array().is_some_and(|all| all.iter().any(resolved))
    });
    for name in ["LbServerDown", "LbQuorumLost"] {
        receivers.wait_for_alert(name, false);
    }
    let status = wait_for(director, "all is told", |status| {
        status.alerts.len() == 4 && status.alerts.iter().all(|one| one.waiting == 0 && one.delivered >= 2)
    });
    assert!(status.alerts.iter().all(|one| one.failed == 0 && one.dropped == 0), "{:?}", status.alerts);
    let refused = |finding: &&lb_api::status::FindingStatus| finding.finding == "system_call_refused";
    assert_eq!(status.findings.iter().find(refused), None);
    assert!(!director.log_tail().contains(PASSWORD), "a secret is in the log");
}

#[test]
fn a_receiver_that_is_gone_delays_nobody_and_hears_of_all_when_it_is_back() {
    let bed = Bed::new("unheard");
    let Bed { receivers, www1, director, .. } = &bed;
    receivers.mail.stop().expect("exim stops");
    let failed = director.try_order(&["alerts", "test", "mail"]).expect("lb alerts test ends");
    let said = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("mail: FAILED") && said.contains("10.9.0.2:587"), "{said}");

    www1.stop().expect("nginx stops");
    receivers.wait_for_alert("LbServerDown", true);
    wait_for(director, "a failure that waits", |status| {
        status.alerts.iter().any(|one| one.receiver == "mail" && one.failed > 0 && one.waiting > 0)
    });
    www1.start().expect("nginx starts");
    receivers.wait_for_alert("LbServerDown", false);
    receivers.mail.start().expect("exim starts");
    let mail = receivers.wait_for_mail("starttls", "RESOLVED web: www1 is up");
    assert!(mail.contains("WARNING  web: www1 is down"), "one message has both: {mail}");

    // A wrong password is the receiver's word.
    fs::write(receivers.secret_file().expect("a file"), "wrong\n").expect("it changes");
    director.order(&["reload"]).expect("lb reloads");
    let failed = director.try_order(&["alerts", "test", "mail"]).expect("lb alerts test ends");
    let said = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert!(said.contains("535"), "{said}");
}

#[test]
fn what_waits_for_a_receiver_goes_to_where_it_has_moved() {
    let bed = Bed::new("moved");
    let Bed { receivers, www1, director, .. } = &bed;
    let right = configuration(receivers);
    let wrong = right.replacen("host: 10.9.0.2, user", "host: 10.9.0.2, port: 2525, user", 1);
    assert_ne!(wrong, right);
    director.reconfigure(&wrong).expect("the file is written");
    // By hand as well as by itself: what comes first does it.
    director.order(&["reload"]).expect("lb reloads");
    www1.stop().expect("nginx stops");
    wait_for(director, "a failure that waits", |status| {
        status.alerts.iter().any(|one| one.receiver == "mail" && one.failed > 0 && one.waiting > 0)
    });
    director.reconfigure(&right).expect("the file is written");
    director.order(&["reload"]).expect("lb reloads");
    receivers.wait_for_mail("starttls", "WARNING  web: www1 is down");
    let status = wait_for(director, "it is told", |status| {
        status.alerts.iter().any(|one| one.receiver == "mail" && one.delivered > 0 && one.waiting == 0)
    });
    let mail = status.alerts.iter().find(|one| one.receiver == "mail").expect("the receiver");
    assert!(mail.failed > 0 && mail.dropped == 0 && mail.trouble.is_none(), "{mail:?}");
}

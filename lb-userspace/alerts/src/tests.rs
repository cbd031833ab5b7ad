//! The thread as a whole, against HTTP servers of this process; real ones are in the scenarios.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use lb_api::events::Level;
use lb_model::HttpUrl;
use serde_json::Value;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A request's head, and its body.
type Posted = (String, Value);

/// A server that takes all, and its port.
fn server() -> (u16, Receiver<Posted>) {
    server_that_refuses(0)
}

/// The same, but for so many requests at first, which it refuses.
fn server_that_refuses(requests: usize) -> (u16, Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, posted) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut reader = BufReader::new(stream.expect("a connection"));
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                head += &line;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            // Before it is answered: whoever has been answered may look for it.
            if sender.send((head, serde_json::from_slice(&body).expect("JSON"))).is_err() {
                return;
            }
            let status = if number < requests { "503 Service Unavailable" } else { "204 No Content" };
            let answer = format!("HTTP/1.1 {status}\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).expect("an answer");
        }
    });
    (port, posted)
}

/// A port on which nobody listens.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn config(receivers: &str) -> Config {
    let text = format!(
        "interface: eth0\nalerts: {{ group_wait: 100ms, receivers: [{receivers}] }}\n\
         services: [{{ name: web, vip: '192.0.2.10:80', servers: [{{ name: www1, address: 192.0.2.21 }}] }}]\n"
    );
    lb_config::parse(&text, "test.yaml").unwrap_or_else(|error| panic!("{error}"))
}

fn webhook(port: u16) -> String {
    format!("{{ name: chat, webhook: {{ url: 'http://127.0.0.1:{port}/hook?a=b', token: s3cret }} }}")
}

fn alertmanager(port: u16) -> String {
    format!("{{ name: am, alertmanager: {{ urls: ['http://127.0.0.1:{port}/base/'] }} }}")
}

fn server_event(event: &str) -> Record {
    let level = if event == "server_down" { Level::Warning } else { Level::Info };
    Record::new(level, event, event.replace('_', " ")).service("web").server("www1")
}

fn heard(posted: &Receiver<Posted>) -> Posted {
    posted.recv_timeout(PATIENCE).expect("a message")
}

fn wait_for(alerts: &Alerts, what: &str, is: impl Fn(&[ReceiverStatus]) -> bool) -> Vec<ReceiverStatus> {
    let start = Instant::now();
    loop {
        let status = alerts.status();
        if is(&status) {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {status:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_webhook_gets_what_happens_and_its_end() {
    let (port, posted) = server();
    let alerts = Alerts::start(&config(&webhook(port))).expect("a thread");
    let mut events = Events::default();
    // One from before is told, too.
    events.record(server_event("server_down"));
    alerts.listen(&mut events);
    events.record(Record::new(Level::Info, "order_given", "not severe".into()));
    let (head, body) = heard(&posted);
    assert!(head.starts_with("POST /hook?a=b HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer s3cret"), "{head}");
    let told = |body: &Value| {
        let all = body["alerts"].as_array().expect("a list").iter();
        all.map(|one| (one["state"].clone(), one["event"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(told(&body), [("firing".into(), "server_down".into())]);
    events.record(server_event("server_up"));
    assert_eq!(told(&heard(&posted).1), [("resolved".into(), "server_up".into())]);
    let status =
        wait_for(&alerts, "two messages", |status| status.first().is_some_and(|one| one.delivered == 2));
    assert_eq!((&*status[0].receiver, &*status[0].via, status[0].waiting), ("chat", "webhook", 0));
}

#[test]
fn a_new_life_tells_anew_what_lasts() {
    let (port, posted) = server();
    let alerts = Alerts::start(&config(&webhook(port))).expect("a thread");
    let mut events = Events::default();
    alerts.listen(&mut events);
    let told = |events: &mut Events, record: Option<Record>| {
        record.into_iter().for_each(|record| events.record(record));
        let (_, body) = heard(&posted);
        let [one] = &body["alerts"].as_array().expect("a list")[..] else { panic!("{body}") };
        (one["state"].clone(), one["event"].clone(), one["server"].clone())
    };
    let firing: (Value, Value, Value) = ("firing".into(), "server_down".into(), "www1".into());
    alerts.begin_life(&Findings::default());
    assert_eq!(told(&mut events, Some(server_event("server_down"))), firing);
    alerts.begin_life(&Findings::default());
    let resolved: (Value, Value, Value) = ("resolved".into(), "interface_back".into(), "www1".into());
    assert_eq!(told(&mut events, None), resolved);
    assert_eq!(told(&mut events, Some(server_event("server_down"))), firing);
}

#[test]
fn a_new_life_ends_however_much_lasted() {
    // More than the queue of a receiver's task has room for.
    const LASTED: usize = 1500;
    let (port, posted) = server();
    let alerts = Alerts::start(&config(&alertmanager(port))).expect("a thread");
    let mut events = Events::default();
    alerts.listen(&mut events);
    for number in 0..LASTED {
        let finding = Record::new(Level::Error, "finding", "it is claimed".into()).finding("vip_claimed");
        events.record(finding.subject(&number.to_string()));
    }
    alerts.begin_life(&Findings::default());
    let mut ended = BTreeSet::new();
    while ended.len() < LASTED {
        let (_, body) = heard(&posted);
        for alert in body.as_array().expect("a list") {
            let text = alert["annotations"]["summary"].as_str().expect("text");
            if text.starts_with("the director has begun anew since") {
                ended.insert(alert["labels"]["subject"].as_str().expect("a subject").to_owned());
            }
        }
    }
}

#[test]
fn what_one_event_ends_is_one_message() {
    let (port, posted) = server();
    let config = config(&webhook(port));
    let prompt = lb_model::Alerts { group_wait: Duration::ZERO, ..config.alerts.clone() };
    let alerts = Alerts::start(&Config { alerts: prompt, ..config }).expect("a thread");
    let mut events = Events::default();
    alerts.listen(&mut events);
    let mut told = |event: &str| {
        events.record(Record::new(Level::Warning, event, event.replace('_', " ")).subject("eth0"));
        let (_, body) = heard(&posted);
        body["alerts"].as_array().expect("a list").len()
    };
    assert_eq!(told("path_sends_fail"), 1);
    assert_eq!(told("path_closed"), 1);
    assert_eq!(told("path_open"), 2);
}

#[test]
fn what_lasts_is_told_again_until_it_ends() {
    let (port, posted) = server();
    let often = webhook(port).replace("name: chat,", "name: chat, repeat: 1s,");
    let alerts = Alerts::start(&config(&often)).expect("a thread");
    let mut events = Events::default();
    alerts.listen(&mut events);
    events.record(server_event("server_down"));
    for times in 0..3 {
        let (_, body) = heard(&posted);
        let told = &body["alerts"][0];
        assert_eq!((&told["state"], &told["repeated"]), (&"firing".into(), &times.into()), "{body}");
    }
    events.record(server_event("server_up"));
    // It may have been told again before that.
    while heard(&posted).1["alerts"][0]["state"] != "resolved" {}
    assert_eq!(posted.recv_timeout(Duration::from_secs(2)), Err(RecvTimeoutError::Timeout));
}

#[test]
fn a_dead_receiver_delays_no_other_one_and_gets_all_when_it_is_back() {
    let ((port, posted), dead) = (server(), closed_port());
    let both = format!("{}, {}", webhook(dead), alertmanager(port));
    let alerts = Alerts::start(&config(&both)).expect("a thread");
    let mut events = Events::default();
    alerts.listen(&mut events);
    events.record(server_event("server_down"));
    let (head, body) = heard(&posted);
    assert!(head.starts_with("POST /base/api/v2/alerts HTTP/1.1"), "{head}");
    assert_eq!(body[0]["labels"]["alertname"], "LbServerDown", "{body}");
    let status = wait_for(&alerts, "a failure", |status| status.first().is_some_and(|one| one.failed > 0));
    assert_eq!((status[0].waiting, status[0].delivered), (1, 0));
    let trouble = status[0].trouble.as_deref().expect("trouble");
    assert!(trouble.contains(&dead.to_string()) && !trouble.contains("hook"), "{trouble}");

    // The receiver moves: what waits goes to the new place at once, and the counts go on.
    let (port, moved) = server();
    alerts.follow(&config(&webhook(port)));
    let (_, body) = heard(&moved);
    assert_eq!(body["alerts"][0]["event"], "server_down", "{body}");
    let status = wait_for(&alerts, "one message", |status| {
        status.first().is_some_and(|one| one.delivered == 1 && one.waiting == 0)
    });
    let [chat] = &status[..] else { panic!("{status:?}") };
    assert!(chat.failed > 0 && chat.trouble.is_none(), "{chat:?}");
}

#[test]
fn what_waits_for_a_receiver_that_is_taken_out_is_still_sent() {
    let (port, posted) = server_that_refuses(2);
    let alerts = Alerts::start(&config(&webhook(port))).expect("a thread");
    let mut events = Events::default();
    alerts.listen(&mut events);
    events.record(server_event("server_down"));
    heard(&posted);
    wait_for(&alerts, "a failure", |status| status.first().is_some_and(|one| one.failed == 1));
    alerts.follow(&Config { alerts: lb_model::Alerts::default(), ..config(&webhook(port)) });
    wait_for(&alerts, "no receiver", <[_]>::is_empty);
    // It is tried at once, and refused once more; the director's end hurries it, too.
    heard(&posted);
    events.record(server_event("server_up"));
    alerts.finish(PATIENCE);
    let (_, body) = heard(&posted);
    let told = body["alerts"].as_array().expect("a list");
    assert!(told.len() == 1 && told[0]["event"] == "server_down", "no news are told there: {body}");
}

#[test]
fn an_alertmanager_that_moves_is_told_what_lasts() {
    let ((port, posted), (stays, stayed)) = (server(), server());
    let two = |first: u16, second: u16| {
        let urls = format!("'http://127.0.0.1:{first}/', 'http://127.0.0.1:{second}/'");
        config(&format!("{{ name: am, alertmanager: {{ urls: [{urls}] }} }}"))
    };
    let alerts = Alerts::start(&two(port, stays)).expect("a thread");
    let mut events = Events::default();
    alerts.listen(&mut events);
    events.record(server_event("server_down"));
    for posted in [&posted, &stayed] {
        assert_eq!(heard(posted).1[0]["labels"]["server"], "www1");
    }
    wait_for(&alerts, "two messages", |status| status.first().is_some_and(|one| one.delivered == 2));
    let (port, moved) = server();
    alerts.follow(&two(stays, port));
    assert_eq!(heard(&moved).1[0]["labels"]["server"], "www1");
    let status =
        wait_for(&alerts, "three messages", |status| status.first().is_some_and(|one| one.delivered == 3));
    assert_eq!((status.len(), status[0].failed), (1, 0));
    // The one that stays is told nothing twice.
    assert!(stayed.try_recv().is_err() && posted.try_recv().is_err());
}

#[test]
fn an_alertmanager_that_comes_later_is_told_what_lasts() {
    let alerts = Alerts::start(&config(&webhook(closed_port()))).expect("a thread");
    let mut events = Events::default();
    alerts.listen(&mut events);
    events.record(server_event("server_down"));
    wait_for(&alerts, "it has come", |status| status.first().is_some_and(|one| one.waiting == 1));
    let (port, posted) = server();
    alerts.follow(&config(&alertmanager(port)));
    let (_, body) = heard(&posted);
    assert_eq!(body[0]["labels"]["server"], "www1", "{body}");
    // Without www1 in the configuration it ends.
    let mut config = config(&alertmanager(port));
    config.services.clear();
    alerts.follow(&config);
    let (_, body) = heard(&posted);
    let text = body[0]["annotations"]["summary"].as_str().expect("text");
    assert!(text.starts_with("no longer in the configuration"), "{body}");
}

#[test]
fn what_waits_goes_before_the_end_unless_that_takes_too_long() {
    let (port, posted) = server();
    let slow = config(&webhook(port));
    let slow = Config {
        alerts: lb_model::Alerts { group_wait: Duration::from_secs(3600), ..slow.alerts.clone() },
        ..slow
    };
    let alerts = Alerts::start(&slow).expect("a thread");
    let mut events = Events::default();
    alerts.listen(&mut events);
    events.record(server_event("server_down"));
    assert_eq!(posted.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout));
    alerts.finish(PATIENCE);
    assert_eq!(posted.try_recv().expect("the message").1["alerts"][0]["event"], "server_down");

    // One that takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let alerts = Alerts::start(&config(&webhook(port))).expect("a thread");
    let mut events = Events::default();
    alerts.listen(&mut events);
    events.record(server_event("server_down"));
    let start = Instant::now();
    alerts.finish(Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_test_says_what_came_of_it() {
    let (port, posted) = server();
    let dead = closed_port();
    let alerts =
        Alerts::start(&config(&format!("{}, {}", webhook(port), alertmanager(dead)))).expect("a thread");
    let test =
        |receiver: Option<&str>| alerts.test(receiver.map(str::to_owned)).blocking_recv().expect("an answer");
    let tests = test(None).expect("tests");
    let [chat, am] = &tests[..] else { panic!("{tests:?}") };
    assert_eq!((&*chat.receiver, &chat.failure), ("chat", &None));
    assert_eq!(heard(&posted).1["test"], true);
    let refused = am.failure.as_deref().expect("nobody is there");
    assert!(refused.starts_with(&format!("cannot connect to 127.0.0.1:{dead}")), "{refused}");
    assert_eq!(test(Some("mail")), Err("there is no receiver \"mail\", there are chat, am".to_owned()));

    alerts.follow(&config(&webhook(port)));
    wait_for(&alerts, "one receiver", |status| status.len() == 1);
    alerts.follow(&Config { alerts: lb_model::Alerts::default(), ..config(&webhook(port)) });
    wait_for(&alerts, "no receiver", <[_]>::is_empty);
    assert!(test(None).is_err_and(|why| why.contains("alerts")));
}

#[test]
fn one_that_fails_for_long_is_a_finding_that_ends() {
    let (findings, shared) = (Findings::default(), Shared::default());
    *shared.findings.lock().expect("no panic") = Some(findings.clone());
    let status = Arc::new(Mutex::new(ReceiverStatus::default()));
    let config = config(&webhook(closed_port()));
    let receiver = &config.alerts.receivers[0];
    let target = target::Target::of(receiver, "lb1").next().expect("a target");
    let settings = receiver::Settings { receiver: receiver.clone(), target, group_wait: Duration::ZERO };
    let mut task = receiver::Task::new(settings.clone(), status, Arc::new(shared));
    let start = Instant::now();
    task.done(Err("refused".to_owned()), start);
    task.done(Err("refused".to_owned()), start + Duration::from_secs(59));
    assert_eq!(findings.status(), []);
    task.done(Err("refused".to_owned()), start + Duration::from_secs(60));
    let [finding] = &findings.status()[..] else { panic!("one") };
    assert_eq!(
        (&*finding.finding, finding.subject.starts_with("chat (127.0.0.1:")),
        ("alerts_undelivered", true)
    );
    assert!(finding.text.ends_with("chat: refused"), "{finding:?}");
    task.done(Err("busy".to_owned()), start + Duration::from_secs(61));
    assert!(findings.status()[0].text.ends_with("chat: refused"), "another answer is no news");
    task.done(Ok(()), start + Duration::from_secs(61));
    assert_eq!(findings.status(), []);

    // It ends for a receiver that is another one, too, and not for one that is told otherwise.
    let fail = |task: &mut receiver::Task, start: Instant| {
        task.done(Err("refused".to_owned()), start);
        task.done(Err("refused".to_owned()), start + Duration::from_secs(60));
        findings.status().len()
    };
    assert_eq!(fail(&mut task, start), 1);
    let often = receiver::Settings { group_wait: Duration::from_secs(1), ..settings.clone() };
    assert!(!task.follow(often));
    assert_eq!(findings.status().len(), 1);
    let mut moved = settings;
    let HttpUrl { tls, host, port, .. } = match &moved.target.to {
        target::To::Webhook(webhook) => webhook.url.clone(),
        to => panic!("{to:?}"),
    };
    let url = HttpUrl { tls, host, port, path: "/elsewhere".into() };
    moved.target.to = target::To::Webhook(lb_model::Webhook { url, token: None });
    assert!(task.follow(moved));
    assert_eq!(findings.status(), []);
    assert_eq!(fail(&mut task, start + Duration::from_secs(120)), 1, "it is another outage");
}

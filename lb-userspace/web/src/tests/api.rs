//! `/api/v1`.

use super::*;

#[tokio::test]
async fn answers_are_as_the_document_says() {
    let served = Served::with_tokens(status()).await;
    let document = served.get("/api/v1/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), crate::api::ENDPOINTS.len());
    for (path, operations) in paths {
        let (method, operation) =
            operations.as_object().and_then(|map| map.iter().next()).expect("one method");
        let heard = match &**method {
            "get" => served.get(path).await,
            _ => served.order(path, Some(TOKEN), body_of(path)).await,
        };
        assert_eq!(heard.status, 200, "{path}: {heard:?}");
        assert!(heard.header.contains("content-type: application/json"), "{path}: {}", heard.header);
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        valid(&document, schema, &heard.json(), path);
        if method == "post" {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            valid(&document, schema, &serde_json::from_str(body_of(path)).expect("JSON"), path);
            assert_eq!(operation["security"][0]["token"], serde_json::json!([]), "{path}");
        }
    }
    let problem = &document["components"]["responses"]["Problem"]["content"]["application/problem+json"];
    let heard = served.get("/api/v1/nothing").await;
    valid(&document, &problem["schema"], &heard.json(), "a problem");
}

fn body_of(path: &str) -> &'static str {
    match path {
        "/api/v1/servers/drain" => r#"{"server":"www1","reason":"new disk"}"#,
        "/api/v1/servers/enable" => r#"{"server":"www1","service":"web"}"#,
        "/api/v1/servers/weight" => r#"{"server":"www1","weight":3}"#,
        "/api/v1/cluster/maintenance" => r#"{"on":true}"#,
        "/api/v1/overlay/change" => {
            r#"{"changes":[{"change":"edit_server","service":"web","server":"www1","settings":{"weight":3}},{"change":"edit_service","service":"web","settings":{"scheduler":"rr"}}]}"#
        }
        "/api/v1/sources" => {
            r#"{"source":"kubernetes","services":[{"vip":"192.0.2.10:80","check":"http","check_port":10256,"servers":[{"address":"192.0.2.21","weight":2}]},{"vip":"192.0.2.10:81","servers":[]}]}"#
        }
        "/api/v1/servers/probe" => r#"{"service":"web","server":"www1"}"#,
        _ => "{}",
    }
}

#[track_caller]
fn valid(document: &Value, schema: &Value, found: &Value, what: &str) {
    // The references of a schema lead into the whole document.
    let mut root = schema.clone();
    if let Some(map) = root.as_object_mut() {
        map.insert("components".to_owned(), document["components"].clone());
    }
    let validator = jsonschema::draft202012::new(&root).unwrap_or_else(|error| panic!("{what}: {error}"));
    let errors: Vec<String> =
        validator.iter_errors(found).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:?}");
}

/// An answer that lacks a field, or has another type, does not pass.
#[tokio::test]
#[should_panic(expected = "is not of type")]
async fn the_document_is_strict() {
    let document = crate::openapi::document();
    let mut status = serde_json::to_value(status()).expect("JSON");
    status["uptime_s"] = "long".into();
    let operation = &document["paths"]["/api/v1/status"]["get"];
    valid(
        &document,
        &operation["responses"]["200"]["content"]["application/json"]["schema"],
        &status,
        "status",
    );
}

#[tokio::test]
async fn lists_come_in_parts() {
    let mut many = status();
    let one = many.services[0].clone();
    many.services = (0..250)
        .map(|number| lb_api::status::ServiceStatus {
            name: format!("tcp/192.0.2.1:{number}"),
            ..one.clone()
        })
        .collect();
    let served = Served::new(many).await;
    let (mut next, mut names) = (Some("/api/v1/services?limit=100".to_owned()), Vec::new());
    while let Some(path) = next {
        let page = served.get(&path).await.json();
        assert_eq!(page["total"], 250);
        names.extend(page["items"].as_array().expect("items").iter().map(|item| item["name"].clone()));
        next = page["next"].as_str().map(str::to_owned);
    }
    let wanted: Vec<Value> = (0..250).map(|number| format!("tcp/192.0.2.1:{number}").into()).collect();
    assert_eq!(names, wanted);
    let one = served.get("/api/v1/services?service=tcp%2F192.0.2.1%3A7").await.json();
    assert_eq!((&one["total"], &one["items"][0]["name"]), (&1.into(), &"tcp/192.0.2.1:7".into()));
    let servers = served.get("/api/v1/servers?health=up&search=WWW1&limit=2000").await.json();
    assert_eq!(
        (&servers["total"], &servers["items"][249]["service"]),
        (&250.into(), &"tcp/192.0.2.1:249".into())
    );
    assert_eq!(served.get("/api/v1/servers?server=211.58.250.27&health=down").await.json()["total"], 0);
}

#[tokio::test]
async fn events_are_followed_and_gone_back_in() {
    let served = Served::new(status()).await;
    let numbers = |page: &Value| -> Vec<u64> {
        page["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["number"].as_u64().expect("a number"))
            .collect()
    };
    let last = served.get("/api/v1/events?limit=2").await.json();
    assert_eq!(numbers(&last), [1, 2]);
    let earlier = served.get(last["next"].as_str().expect("a link")).await.json();
    assert_eq!((numbers(&earlier), &earlier["next"]), (vec![0], &Value::Null));
    let newer = served.get("/api/v1/events?after=1&server=www1").await.json();
    assert_eq!(numbers(&newer), [2]);
    let to_come = newer["next"].as_str().expect("a link");
    assert!(to_come.contains("after=2") && to_come.contains("server=www1"), "{to_come}");
    assert_eq!(numbers(&served.get(to_come).await.json()), [0_u64; 0]);
    assert_eq!(numbers(&served.get("/api/v1/events?level=error").await.json()), [0_u64; 0]);
    for (since, wanted) in [
        ("2000-01-01T00:00:00Z", [0, 1, 2].as_slice()),
        ("2026-07-12T08:30:01.000Z", &[1, 2]),
        ("2026-07-12T08:30:01Z", &[1, 2]),
        ("2026-07-12T08:30:01.001Z", &[2]),
        ("2100-01-01T00:00:00.5Z", &[]),
    ] {
        let page = served.get(&format!("/api/v1/events?since={since}")).await.json();
        assert_eq!(numbers(&page), wanted, "{since}");
    }
    for wrong in ["1h", "2026-07-12", "2026-07-12T08:30:00", "2026-07-12T08:30:00,5Z", "2026-07-12T08:30:0aZ"]
    {
        served.get(&format!("/api/v1/events?since={wrong}")).await.problem(400);
    }
}

#[tokio::test]
async fn what_is_wrong_is_a_problem() {
    let served = Served::new(samples::cluster()).await;
    assert!(served.get("/api/v1/nothing").await.problem(404).contains("openapi.json"));
    assert!(served.get("/api/v1/cluster").await.problem(404).contains("alone"));
    for query in ["limit=0", "limit=many", "offset=-1", "colour=red", "health=well"] {
        served.get(&format!("/api/v1/servers?{query}")).await.problem(400);
    }
    served.get("/api/v1/events?after=1&before=2").await.problem(400);
    served.ask("DELETE", "/api/v1/status", &[], "").await.problem(405);
    let detail = served.ask("GET", "/", &[("Host", "evil.example")], "").await.problem(421);
    assert!(detail.contains("evil.example") && detail.contains("`hosts`"), "{detail}");
    let detail = served.order("/api/v1/reload", Some(TOKEN), "{}").await.problem(403);
    assert!(detail.contains("`tokens`"), "{detail}");
    *served.director.status.lock().expect("no panic") = None;
    for _ in 0..100 {
        let heard = served.ask("GET", "/api/v1/status", &[], "").await;
        if heard.status == 503 {
            assert_eq!(heard.problem(503), "the controller has ended");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the last snapshot is taken for a new one");
}

#[tokio::test]
async fn an_order_needs_a_token_and_is_told_with_its_owner() {
    let served = Served::with_tokens(status()).await;
    let drain = r#"{"server":"www1","reason":"new disk"}"#;
    let path = "/api/v1/servers/drain";
    let heard = served.order(path, None, drain).await;
    assert!(heard.header.contains("www-authenticate: bearer"), "{}", heard.header);
    heard.problem(401);
    for _ in 0..3 {
        served.order(path, Some("wrong"), drain).await.problem(401);
    }
    assert_eq!(served.asked(), []);
    let noted: Vec<String> = served.noted().iter().map(|record| record.event.clone()).collect();
    assert_eq!(noted, ["http_token_refused"], "once a minute");

    assert_eq!(served.order(path, Some(TOKEN), drain).await.json()["message"], "www1 is drained");
    let detail = served.order(path, Some(TOKEN), r#"{"server":"nobody"}"#).await.problem(409);
    assert_eq!(detail, "no service has a server nobody");
    served.order(path, Some(TOKEN), r#"{"sever":"www1"}"#).await.problem(422);
    served.order(path, Some(TOKEN), "{").await.problem(400);
    let bearer = format!("Bearer {TOKEN}");
    served.ask("POST", path, &[("Authorization", &bearer)], drain).await.problem(415);
    let other = [
        ("Authorization", &*bearer),
        ("Content-Type", "application/json"),
        ("Origin", "http://evil.example"),
    ];
    served.ask("POST", path, &other, drain).await.problem(403);

    let [reason, by] = ["new disk", "alice"].map(|text| Some(text.to_owned()));
    assert_eq!(
        served.asked(),
        [
            Request::Drain(ServerRequest {
                by: by.clone(),
                ..ServerRequest::about("www1".into()).because(reason)
            }),
            Request::Drain(ServerRequest { by, ..ServerRequest::about("nobody".into()) })
        ]
    );
    let noted = served.noted();
    let [_, done, refused] = noted.as_slice() else { panic!("{noted:?}") };
    assert_eq!(
        (&*done.event, done.by.as_deref(), done.server.as_deref()),
        ("http_order", Some("alice"), Some("www1"))
    );
    assert_eq!(done.text, "alice (127.0.0.1) by HTTP: drain www1 (new disk): www1 is drained");
    assert_eq!((refused.level, refused.server.as_deref()), (Level::Warning, Some("nobody")));

    // A token that was taken out does not work any more.
    let tokens = served.folder.path().join("tokens");
    std::fs::write(&tokens, "bob fedcba9876543210fedcba9876543210").expect("a file");
    served.order(path, Some(TOKEN), drain).await.problem(401);
}

/// Each with its token's owner, in the words of the command line.
#[tokio::test]
async fn every_order_reaches_the_director_and_the_event_log() {
    let served = Served::with_tokens(status()).await;
    for (path, body, told) in [
        (
            "servers/weight",
            r#"{"server":"www1","service":"web","weight":3,"reason":"new disk"}"#,
            "weight 3 www1 in web (new disk)",
        ),
        ("servers/weight", r#"{"server":"www1","weight":null}"#, "weight configured www1"),
        ("servers/drain", r#"{"server":"www1","service":"web"}"#, "drain www1 in web"),
        ("cluster/standby", r#"{"force":true}"#, "standby --force"),
        ("cluster/resume", "{}", "resume"),
        ("cluster/maintenance", r#"{"on":false}"#, "maintenance off"),
        (
            "overlay/change",
            r#"{"changes":[{"change":"remove_server","service":"web","server":"www1"}]}"#,
            "change - server web/www1",
        ),
        ("overlay/clear", r#"{"source":"cli"}"#, "overlay clear cli"),
        ("counters/zero", "{}", "zero all services"),
        ("alerts/test", r#"{"receiver":"mail"}"#, "alerts test mail"),
        ("diff", "{}", "diff"),
    ] {
        let path = format!("/api/v1/{path}");
        served.order(&path, None, body).await.problem(401);
        let heard = served.order(&path, Some(TOKEN), body).await;
        assert_eq!(heard.status, 200, "{path}: {heard:?}");
        let noted = served.noted();
        let last = noted.iter().rev().find(|record| record.event == "http_order").expect("it is told");
        assert!(last.text.starts_with(&format!("alice (127.0.0.1) by HTTP: {told}: ")), "{}", last.text);
        assert_eq!(last.by.as_deref(), Some("alice"));
        served.order(&path, Some(TOKEN), r#"{"colour":"red"}"#).await.problem(422);
    }
    served.order("/api/v1/servers/weight", Some(TOKEN), r#"{"server":"www1"}"#).await.problem(422);
    let by = Some("alice".to_owned());
    let about = ServerRequest { by, ..ServerRequest::about("www1".to_owned()) };
    let asked = served.asked();
    assert_eq!(asked.len(), 11, "{asked:?}");
    assert_eq!(asked[1], Request::Weight { about, weight: None });
    let change = Change::RemoveServer { service: "web".to_owned(), server: "www1".to_owned() };
    assert_eq!(asked[6], Request::Changes { source: CLI.to_owned(), changes: vec![change] });
}

/// A slip must not be taken for the default.
#[tokio::test]
async fn changes_with_a_key_that_there_is_not_are_refused() {
    let served = Served::with_tokens(status()).await;
    for (change, field) in [
        (r#"{"change":"edit_service","service":"web","settings":{"sheduler":"rr"}}"#, "sheduler"),
        (r#"{"change":"edit_server","service":"web","server":"www1","settings":{"wieght":1}}"#, "wieght"),
        (r#"{"change":"remove_server","service":"web","server":"www1","now":true}"#, "now"),
        (r#"{"change":"add_server","service":"web","server":{"adress":"192.0.2.21"}}"#, "adress"),
        (
            r#"{"change":"add_service","service":{"vip":"192.0.2.10:80","sheduler":"rr","servers":[]}}"#,
            "sheduler",
        ),
    ] {
        let body = format!(r#"{{"changes":[{change}]}}"#);
        let detail = served.order("/api/v1/overlay/change", Some(TOKEN), &body).await.problem(422);
        assert!(detail.contains(&format!("unknown field `{field}`")), "{detail}");
    }
    assert_eq!(served.asked(), []);
}

#[tokio::test]
async fn health_is_as_monitoring_plugins_tell_it() {
    let served = Served::new(samples::cluster()).await;
    let well = served.get("/api/v1/health").await.json();
    assert_eq!((&well["state"], &well["code"]), (&"OK".into(), &0.into()));
    assert!(well["text"].as_str().is_some_and(|text| text.starts_with("LB OK: ")), "{well}");
    assert!(served.get("/api/v1/health?service=mail").await.problem(404).contains("no service"));
    assert!(served.get("/api/v1/health?warning=101").await.problem(400).contains("percent"));
    let found = Served::new(status()).await.get("/api/v1/health?service=web").await.json();
    assert_eq!((&found["state"], &found["code"]), (&"CRITICAL".into(), &2.into()));
}

#[tokio::test]
async fn what_was_changed_at_run_time_and_who_does_most_is_told() {
    let served = Served::new(status()).await;
    let overlay = served.get("/api/v1/overlay").await.json();
    assert_eq!(overlay["sources"]["cli"][0]["change"], "remove_service");
    assert_eq!(overlay.get("saving"), None, "the files' texts are nobody's who only reads");
    let clients = served.get("/api/v1/clients?limit=2").await.json();
    assert_eq!((clients["items"].as_array().map(Vec::len), &clients["total"]), (Some(2), &3.into()));
    let last = served.get(clients["next"].as_str().expect("a link")).await.json();
    assert_eq!((last["items"].as_array().map(Vec::len), &last["next"]), (Some(1), &Value::Null));
}

#[tokio::test]
async fn services_of_a_source_may_be_many() {
    let served = Served::with_tokens(status()).await;
    let path = "/api/v1/sources";
    let service = |port: u16| format!(r#"{{"vip":"192.0.2.10:{port}","servers":[]}}"#);
    let services: Vec<String> = (1..2000).map(service).collect();
    let body = format!(r#"{{"source":"kubernetes","services":[{}]}}"#, services.join(","));
    assert!(body.len() > 64 * 1024);
    let replaced = served.order(path, Some(TOKEN), &body).await.json();
    assert_eq!(replaced["left_out"][0]["service"], "tcp/192.0.2.10:1");
    assert_eq!(replaced["differences"].as_array().map(Vec::len), Some(1998));
    let noted = served.noted();
    let told = noted.last().map(|record| record.text.as_str());
    let wanted = "alice (127.0.0.1) by HTTP: all services of the source kubernetes, 1999: done, 1 left out";
    assert_eq!(told, Some(wanted));
}

#[tokio::test]
async fn a_key_that_no_service_has_is_refused() {
    let served = Served::with_tokens(status()).await;
    for (more, why) in [
        (r#""quiescent":true,"servers":[]"#, "unknown field `quiescent`"),
        (r#""check":{"type":"http"},"servers":[]"#, "invalid type"),
        (r#""persistence":{"timeout":"5m"},"servers":[]"#, "unknown field `timeout`"),
        (r#""servers":[{"adress":"192.0.2.21"}]"#, "unknown field `adress`"),
    ] {
        let body = format!(r#"{{"source":"acme","services":[{{"vip":"192.0.2.10:80",{more}}}]}}"#);
        let detail = served.order("/api/v1/sources", Some(TOKEN), &body).await.problem(422);
        assert!(detail.contains(why), "{more}: {detail}");
    }
    assert_eq!(served.asked(), []);
}

#[tokio::test]
async fn connections_come_in_parts() {
    let served = Served::new(status()).await;
    let mut path = "/api/v1/connections?limit=2".to_owned();
    let mut ports = Vec::new();
    loop {
        let page = served.get(&path).await.json();
        let items = page["items"].as_array().expect("a list");
        ports.extend(items.iter().map(|item| item["client_port"].as_u64().expect("a port")));
        match page["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(ports, [40_001, 40_002, 40_003]);
    for (query, wanted) in
        [("limit=0", "limit 0"), ("service=nothing", "no service"), ("colour=red", "colour")]
    {
        let refused = served.get(&format!("/api/v1/connections?{query}")).await;
        assert!(refused.status == 400 && refused.body.contains(wanted), "{query}: {}", refused.body);
    }
}

/// A program that asks too often is told to try again, not that it asks in a wrong way.
#[tokio::test]
async fn a_director_with_too_many_listings_is_unavailable() {
    let served = Served::new(status()).await;
    let heard = served.ask("GET", "/api/v1/connections?service=much", &[], "").await;
    assert!(heard.problem(503).contains("4 listings are under way"));
    let page = served.ask("GET", "/connections?service=much", &[], "").await;
    assert!(page.status == 503 && page.body.contains("4 listings are under way"), "{page:?}");
}

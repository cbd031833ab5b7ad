//! What people see.

use lb_model::Health;

use super::*;

#[tokio::test]
async fn the_overview_has_all_that_somebody_on_call_looks_for() {
    let mut status = status();
    status.config_error = Some("/etc/lb/lb.yaml:7:3: unknown key `servces`\n  7 | servces:\n".into());
    let sick = &mut status.services[0].servers[1];
    (sick.health, sick.effective_weight) = (Health::Down, 0);
    sick.reason = Some("connection refused".into());
    let served = Served::new(status).await;
    let page = served.get("/").await;
    assert_eq!(page.status, 200);
    for wanted in [
        "The configuration was refused",
        "/etc/lb/lb.yaml:7:3: unknown key `servces`\n  7 | servces:",
        "data-finding=\"vip_claimed\"",
        "sysctl net.ipv4.conf.all.arp_ignore=1",
        "Cluster wowlinux, node ha1",
        "serial /dev/ttyS0 19200 baud",
        "ha2 9120 ms ago",
        "connection refused",
        "211.58.250.6:80",
        "event 2",
    ] {
        assert!(page.body.contains(wanted), "{wanted} is missing in {}", page.body);
    }
    assert!(!page.body.contains("/order?"), "nobody may give orders");
    let found = served.get("/?search=nothing").await.body;
    assert!(found.contains("0 services fit"), "{found}");
}

/// A browser has nothing to run or to load that is not in files of the page's own.
#[tokio::test]
async fn nothing_is_inline_and_nothing_is_loaded_from_elsewhere() {
    let served = Served::with_tokens(status()).await;
    for path in [
        "/",
        "/events",
        "/connections?client=192.0.2.7",
        "/service?name=web",
        "/order?do=drain&server=www1",
        "/nothing",
    ] {
        let heard = served.get(path).await;
        let policy = "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';";
        assert!(heard.header.contains(policy), "{path}: {}", heard.header);
        assert!(heard.header.contains("cache-control: no-store"), "{path}: {}", heard.header);
        for wrong in ["style=\"", "<style", "onclick", "javascript:", "https://", "http://"] {
            assert!(!heard.body.contains(wrong), "{path}: {wrong} in {}", heard.body);
        }
        for piece in heard.body.split("<script").skip(1) {
            assert!(piece.starts_with(" defer src=\"/assets/"), "{path}: {piece}");
        }
        for reference in heard.body.split(" src=\"").chain(heard.body.split("stylesheet\" href=\"")).skip(1) {
            let Some(file) = reference.split('"').next().filter(|file| file.starts_with("/assets")) else {
                continue;
            };
            let asset = served.get(file).await;
            assert_eq!(asset.status, 200, "{file}");
            assert!(asset.header.contains("immutable"), "{file}: {}", asset.header);
        }
    }
}

/// Names and answers of servers are text, whatever is in them.
#[tokio::test]
async fn what_others_say_is_escaped() {
    let mut status = status();
    let evil = "<script>alert(1)</script>\"'&\u{1b}[2J";
    status.services[0].name = evil.into();
    status.services[0].servers[0].reason = Some(evil.into());
    status.findings[0].text = evil.into();
    let served = Served::new(status).await;
    let page = served.get("/").await.body;
    assert!(!page.contains("<script>"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    let search = served.get("/?search=%3Cscript%3Ealert(1)").await.body;
    assert!(!search.contains("<script>"), "{search}");
    assert!(served.get("/service?name=%3Cscript%3E").await.body.contains("&lt;script&gt;"));
}

#[tokio::test]
async fn many_servers_come_in_pages() {
    let mut status = status();
    let one = status.services[0].clone();
    let servers: Vec<_> = (0..300)
        .map(|number| lb_api::status::ServerStatus { name: format!("s{number}"), ..one.servers[0].clone() })
        .collect();
    status.services = (0..60)
        .map(|number| lb_api::status::ServiceStatus {
            name: format!("service {number}"),
            servers: servers.clone(),
            ..one.clone()
        })
        .collect();
    let served = Served::new(status).await;
    let rows = |page: &str| page.matches("data-server=").count();
    let page = served.get("/").await.body;
    assert_eq!(rows(&page), 200);
    assert!(page.contains("href=\"/?search=&amp;from=4\""), "{page}");
    let last = served.get("/?from=56").await.body;
    assert!(last.contains("service 59") && !last.contains("more services"), "{last}");
    let own = served.get("/service?name=service+7").await.body;
    assert_eq!(rows(&own), 200);
    assert!(own.contains("href=\"/service?name=service+7&amp;from=200\""), "{own}");
    assert_eq!(rows(&served.get("/service?name=service+7&from=200").await.body), 100);
}

/// They may stand on another page.
#[tokio::test]
async fn services_that_nobody_serves_are_told_first() {
    let mut status = status();
    let one = status.services[0].clone();
    let service = |number| lb_api::status::ServiceStatus { name: format!("service {number}"), ..one.clone() };
    status.services = (0..80).map(service).collect();
    (status.services[78].on_fallback, status.services[79].on_fallback) = (true, true);
    status.services[79].fallback_ready = false;
    let page = Served::new(status).await.get("/").await.body;
    let (before, _) = page.split_once("data-finding=").expect("a finding");
    for wanted in [
        "data-services=\"Nobody serves\"",
        "href=\"/service?name=service+79\"",
        "data-services=\"Their fallback serves\"",
        "href=\"/service?name=service+78\"",
    ] {
        assert!(before.contains(wanted), "{wanted} is missing in {before}");
    }
}

#[tokio::test]
async fn an_order_takes_two_steps_and_a_token() {
    let served = Served::with_tokens(status()).await;
    let page = served.get("/").await.body;
    let link = "/order?do=drain&amp;server=211.58.250.25%3A80";
    assert!(page.contains(link), "{page}");
    let form = served.get(&link.replace("&amp;", "&")).await.body;
    assert!(form.contains("Drain 211.58.250.25:80?") && form.contains("type=\"password\""), "{form}");
    assert_eq!(served.asked(), [], "to look is no order");

    let send = async |body: &str, origin: &str| {
        let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Origin", origin)];
        served.ask("POST", "/order", &headers, body).await
    };
    let own = "http://localhost";
    let order = "do=drain&server=www1&reason=new+disk&token=";
    assert_eq!(send(order, own).await.status, 401);
    assert_eq!(send(&format!("{order}{TOKEN}"), "http://evil.example").await.status, 403);
    assert_eq!(send(&format!("do=dance&token={TOKEN}"), own).await.status, 400);
    assert_eq!(served.asked(), []);
    let done = send(&format!("{order}{TOKEN}"), own).await;
    assert!(done.status == 200 && done.body.contains("www1 is drained"), "{done:?}");
    assert!(!done.body.contains(TOKEN));
    assert_eq!(served.noted().last().expect("an event").by.as_deref(), Some("alice"));
    let probe = send(&format!("do=probe&service=web&server=www1&token={TOKEN}"), own).await;
    assert!(probe.body.contains("failed: status 500"), "{}", probe.body);
    let refused = send(&format!("do=drain&server=nobody&token={TOKEN}"), own).await;
    assert!(refused.status == 409 && refused.body.contains("no service has a server nobody"), "{refused:?}");
}

#[tokio::test]
async fn a_clients_connections_are_found() {
    let served = Served::new(status()).await;
    let form = served.get("/connections").await;
    assert_eq!(form.status, 200);
    assert!(!form.body.contains("192.0.2.8"), "nothing was asked for: {}", form.body);
    let found = served.get("/connections?client=192.0.2.7&service=&server=").await.body;
    for wanted in ["192.0.2.7:40001", "192.0.2.7:40003", "www1", "ESTABLISHED", "211.58.250.6:80"] {
        assert!(found.contains(wanted), "{wanted} is missing in {found}");
    }
    assert!(!found.contains("192.0.2.8"), "{found}");
    let none = served.get("/connections?client=192.0.2.9").await.body;
    assert!(none.contains("no such connection"), "{none}");
    let wrong = served.get("/connections?service=nothing").await;
    assert!(wrong.status == 400 && wrong.body.contains("there is no service"), "{}", wrong.body);
}

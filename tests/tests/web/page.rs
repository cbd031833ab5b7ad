//! What people do with the page, in a real browser, while servers and directors come and go.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use fantoccini::Locator;
use fantoccini::key::Key;
use lb_lab::cluster::Talk;
use lb_lab::cluster::pair::Pair;
use lb_lab::lab::browser::{self, Kind};
use lb_lab::lab::{Node, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;
use lb_lab::scenario::traffic::{Answer, Spread};
use lb_lab::workspace;

use super::browser::{Browser, Done};
use super::{TOKEN, directors};

#[test]
fn the_page_in_a_browser() {
    let talk = Talk::new(&unique_name("page")).expect("the cluster comes up");
    let pair = directors(&talk);
    from_outside_the_lab(&talk);
    browser::start_driver(&talk.ha1).expect("ChromeDriver starts (`cargo xtask setup` installs it)");
    let folder = talk.ha1.folder().expect("a folder");
    let browse = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            people_look(&talk, &pair, &folder).await;
            people_order(&talk, &pair, &folder).await.expect("the browser does what it is told");
            on_a_phone(&folder).await;
            without_scripts(&talk, &folder).await;
        });
    };
    talk.ha1.run(browse).expect("the namespace");
}

/// As by whoever sits at the machine with the demo. An address that another program has is refused.
fn from_outside_the_lab(talk: &Talk) {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("its number").port();
    let refused = browser::relay_page(&talk.ha1, port).expect_err("the port is taken");
    assert!(format!("{refused:#}").contains("in use"), "{refused:#}");
    drop(taken);
    let address = browser::relay_page(&talk.ha1, port).expect("the page is reached");
    assert_eq!(address, format!("http://127.0.0.1:{port}/"));
}

/// Everything is there, and changes by itself.
async fn people_look(talk: &Talk, pair: &Pair, folder: &Path) {
    let page = Browser::start(Kind::Desktop, folder).await;
    page.goto("/").await;
    page.wait_for_text("h1", "Director ha1").await;
    page.wait_for_text("#live", "live").await;
    page.wait_for_text(".roles", "active").await;
    for server in ["www1", "www2"] {
        page.wait_for_text(&format!("[data-server={server}]"), "up").await;
    }
    page.value("window.mark = 'not loaded anew'").await;
    assert_eq!(Spread::of_requests(&talk.client, 40).total(), 40);
    page.wait_for_text("[data-server=www1]", "50 % / 50 %").await;
    page.wait("document.querySelectorAll('.chart .line').length >= 3").await;
    page.assert_accessible("the overview").await;
    page.assert_silent_console("the overview").await;
    pictures(&talk.ha1);

    talk.www2.stop().expect("a web server stops");
    page.wait_for_text("[data-server=www2] .state", "down").await;
    page.wait_for_text("[data-server=www2] .reason", "refused").await;
    page.wait_for_text(".events", "www2").await;
    page.assert_accessible("a server is down").await;
    talk.www2.start().expect("a web server starts");
    page.wait_for_text("[data-server=www2] .state", "up").await;

    let file = pair.ha1.configuration().expect("a path");
    let good = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, good.replace("\nservices:", "\nservces:")).expect("a file");
    let line = good.lines().position(|line| line == "services:").expect("the key") + 1;
    page.wait_for_text("#refused", &format!(":{line}:1: unknown key `servces`")).await;
    page.assert_accessible("a refused configuration").await;
    std::fs::write(&file, good).expect("a file");
    page.wait("document.querySelector('#refused') === null").await;
    assert_eq!(page.value("window.mark").await, "not loaded anew");
    let open = KeptOpen::open(&talk.client);
    page.goto("/connections").await;
    page.assert_accessible("the form for connections").await;
    page.0.find(Locator::Css("#of-service")).await.expect("a field").send_keys("web").await.expect("keys");
    page.0.find(Locator::Css("form.ask button")).await.expect("a button").click().await.expect("a click");
    page.wait_for_text("table", &open.local().to_string()).await;
    page.assert_accessible("connections").await;
    page.assert_silent_console("all that was looked at").await;
    page.close().await;
}

/// The demo takes the same ones. `LB_BLESS=1` keeps the first for the README.
fn pictures(node: &Node) {
    let paths = browser::take_pictures(node, &workspace::target()).expect("pictures");
    let [desktop, phone] = paths.map(|path| std::fs::read(path).expect("a file"));
    assert_eq!((width(&desktop), width(&phone)), (1280, 2 * 390));
    if std::env::var_os("LB_BLESS").is_some() {
        std::fs::write(workspace::root().join("docs/page.png"), &desktop).expect("a file");
    }
}

/// The width of a PNG in pixels: its first chunk begins with it.
fn width(picture: &[u8]) -> u32 {
    let header = picture.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR").expect("it is a PNG");
    u32::from_be_bytes(*header.first_chunk().expect("a header"))
}

/// By keyboard alone: a server is searched for, drained with a token, and enabled again.
async fn people_order(talk: &Talk, pair: &Pair, folder: &Path) -> Done {
    let page = Browser::start(Kind::Desktop, folder).await;
    page.goto("/").await;
    page.wait_for_text("[data-server=www1]", "Drain").await;
    let press = async |text: &str| page.0.active_element().await?.send_keys(text).await;
    let tab = char::from(Key::Tab).to_string();
    let enter = char::from(Key::Enter).to_string();
    page.0.find(Locator::Css("body")).await?.send_keys(&tab).await?;
    assert_eq!(page.value("document.activeElement.className").await, "skip", "the first stop");
    for _ in 0..20 {
        if page.value("document.activeElement.id").await == "search" {
            break;
        }
        press(&tab).await?;
    }
    press("www1").await?;
    press(&enter).await?;
    page.wait_for_text("[role=status]:not(#live)", "1 services fit").await;
    // The focus stays where it is while the page refreshes itself.
    let focus = "document.querySelector('[data-server=www1] a').focus()";
    page.0.execute(focus, Vec::new()).await?;
    let refreshed =
        "(performance.getEntriesByType('resource').filter(one => one.initiatorType === 'fetch').length)";
    let before = page.value(refreshed).await.as_u64().expect("a number");
    page.wait(&format!("{refreshed} > {}", before + 1)).await;
    assert_eq!(page.value("document.activeElement.textContent").await, "Drain");

    press(&enter).await?;
    page.wait_for_text("h1", "Drain 211.58.250.25:80?").await;
    page.assert_accessible("the question").await;
    page.0.find(Locator::Css("[name=reason]")).await?.send_keys("new disk").await?;
    page.0.find(Locator::Css("[name=token]")).await?.send_keys("wrong").await?;
    press(&enter).await?;
    page.wait_for_text("h1", "Unauthorized").await;
    page.0.back().await?;
    page.0.find(Locator::Css("[name=token]")).await?.clear().await?;
    page.0.find(Locator::Css("[name=token]")).await?.send_keys(TOKEN).await?;
    press(&enter).await?;
    page.wait_for_text("section", "drained").await;
    page.assert_accessible("what came of it").await;
    page.goto("/").await;
    page.wait_for_text("[data-server=www1]", "maintenance").await;
    page.wait_for_text("[data-server=www1] .reason", "new disk").await;
    page.wait_for_text(
        "[data-event=http_order]",
        "alice (127.0.0.1) by HTTP: drain 211.58.250.25:80 (new disk)",
    )
    .await;
    assert_eq!(Spread::of_requests(&talk.client, 10).by(Answer::Www2), 10, "it gets no new connections");

    page.goto("/order?do=enable&server=211.58.250.25%3A80").await;
    page.0.find(Locator::Css("[name=token]")).await?.send_keys(&format!("{TOKEN}{enter}")).await?;
    page.wait_for_text("h1", "Enable 211.58.250.25:80").await;
    page.goto("/service?name=web").await;
    page.wait_for_text("[data-server=www1] .state", "up").await;
    page.goto("/order?do=probe&service=web&server=www1").await;
    page.0.find(Locator::Css("[name=token]")).await?.send_keys(&format!("{TOKEN}{enter}")).await?;
    page.wait_for_text("section", "succeeded in").await;
    page.goto("/order?do=failover&group=211.58.250.6").await;
    page.0.find(Locator::Css("[name=token]")).await?.send_keys(&format!("{TOKEN}{enter}")).await?;
    page.wait_for_text("section", "leaves ha1").await;
    page.goto("/").await;
    page.wait_for_text(".roles", "standby").await;
    pair.wait_until_held_by("ha2").expect("the group has moved");
    page.close().await;
    Ok(())
}

async fn on_a_phone(folder: &Path) {
    let page = Browser::start(Kind::DarkPhone, folder).await;
    for path in ["/", "/service?name=web", "/events", "/order?do=drain&server=www1"] {
        page.goto(path).await;
        page.wait_for_text("h1", "").await;
        assert_eq!(page.value("matchMedia('(prefers-color-scheme: dark)').matches").await, true);
        let fits = "document.documentElement.scrollWidth <= window.innerWidth && window.innerWidth === 390";
        page.wait(fits).await;
        page.assert_accessible(&format!("{path} on a dark phone")).await;
    }
    page.close().await;
}

/// The page is whole, and loads itself anew.
async fn without_scripts(talk: &Talk, folder: &Path) {
    let page = Browser::start(Kind::WithoutScripts, folder).await;
    page.goto("/").await;
    // Scripts of the page do not run; those of the driver do.
    assert_eq!(page.value("typeof Idiomorph").await, "undefined");
    page.wait_for_text("[data-server=www2] .state", "up").await;
    talk.www2.stop().expect("a web server stops");
    page.wait_for_text("[data-server=www2] .state", "down").await;
    talk.www2.start().expect("a web server starts");
    page.close().await;
}

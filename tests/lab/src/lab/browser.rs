//! Chromium on a node, driven by ChromeDriver over W3C WebDriver, and axe-core, which finds what
//! keeps people from using a page.

mod pictures;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::{Node, Process, shell};
use crate::workspace;

pub use pictures::take_pictures;

/// Port of ChromeDriver on loopback.
pub const PORT: u16 = 9515;

/// Version of the npm package axe-core, which is no part of the project: it is fetched for tests.
pub const AXE_VERSION: &str = "4.14.1";

/// Where `cargo xtask setup` puts its script.
pub fn axe() -> PathBuf {
    workspace::target().join("lab").join(format!("axe-{AXE_VERSION}.min.js"))
}

/// Starts ChromeDriver on `node`: a client inside its namespace has it start browsers there.
pub fn start_driver(node: &Node) -> Result<Process> {
    node.start_server("browser", "chromedriver", &[&format!("--port={PORT}")], PORT)
}

/// Port of the page on a node's loopback, by default.
pub const PAGE: u16 = 9106;

/// Makes the page of `node`, a director of a cluster, reachable by `port` of the loopback outside
/// the lab, for as long as the lab is there: for whoever sits at this machine. Returns its address,
/// which has been tried.
pub fn relay_page(node: &Node, port: u16) -> Result<String> {
    let namespace = node.state().namespace(node.name());
    // In quotes colons do not end a part of socat's address.
    let inside = format!("EXEC:\"nsenter --net=/run/netns/{namespace} socat STDIO TCP:127.0.0.1:{PAGE}\"");
    let mut socat = Command::new("socat");
    socat.arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork")).arg(inside);
    let record = node.record("page");
    let relay = node.state().start(&record, &mut socat)?;
    let address = format!("http://127.0.0.1:{port}/");
    let heading = format!("Director {}", node.name());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut curl = Command::new("curl");
        curl.args(["-q", "--silent", "--fail", "--noproxy", "*", "--max-time", "2"]).arg(&address);
        // Another program may have the port, and answer.
        if shell::run(&mut curl).is_ok_and(|page| page.contains(&heading)) {
            return Ok(address);
        }
        if !relay.is_alive() || Instant::now() > deadline {
            let said = node.state().log_tail(&record);
            bail!("{address} does not lead to the page of {}:\n{said}", node.name());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Options of Chromium. Root has no sandbox, and the lab no network outside.
const OPTIONS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1100",
];

/// What a browser is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Desktop,
    /// As narrow as a phone, and dark.
    DarkPhone,
    WithoutScripts,
}

/// The capabilities by which WebDriver gets such a browser. No other one has the folder `profile`.
pub fn capabilities(kind: Kind, profile: &Path) -> Map<String, Value> {
    let mut arguments: Vec<String> = OPTIONS.map(str::to_owned).to_vec();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    let mut options = json!({});
    match kind {
        Kind::Desktop => {}
        Kind::DarkPhone => {
            arguments.push("--force-dark-mode".to_owned());
            let metrics = json!({ "width": 390, "height": 844, "pixelRatio": 2.0, "touch": true });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        Kind::WithoutScripts => {
            options["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
        }
    }
    options["args"] = json!(arguments);
    Map::from_iter([("goog:chromeOptions".to_owned(), options)])
}

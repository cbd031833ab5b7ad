//! Chromium on a node, driven by ChromeDriver over W3C WebDriver, and axe-core, which finds what
//! keeps people from using a page.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::{Node, Process};
use crate::workspace;

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

/// Makes the page of `node` reachable by `port` of the loopback outside the lab, for as long as the
/// lab is there: for whoever sits at this machine. Returns its address.
pub fn relay_page(node: &Node, port: u16) -> Result<String> {
    let namespace = node.state().namespace(node.name());
    // In quotes colons do not end a part of socat's address.
    let inside = format!("EXEC:\"nsenter --net=/run/netns/{namespace} socat STDIO TCP:127.0.0.1:{PAGE}\"");
    let mut socat = Command::new("socat");
    socat.arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork")).arg(inside);
    node.state().start(&format!("{}-page", node.name()), &mut socat)?;
    Ok(format!("http://127.0.0.1:{port}/"))
}

/// Options of Chromium, for the capability `goog:chromeOptions`. Root has no sandbox, and the lab
/// no network outside.
pub const OPTIONS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

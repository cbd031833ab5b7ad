//! Pictures of a director's page, for the demo and the README.
//!
//! They take five commands of WebDriver, which curl sends. Tests do more with a browser, and have a
//! library for it; `cargo xtask`, which begins with building this crate, does without.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::{Kind, PAGE, PORT, capabilities};
use crate::lab::{Node, shell};

/// How long the page may take to refresh itself and to have charts.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes pictures of the page of the director on `node`, where ChromeDriver runs: as a desktop
/// browser shows it, `page.png` in `folder`, and as a phone does, `page-phone.png`. Returns their
/// paths.
pub fn take_pictures(node: &Node, folder: &Path) -> Result<[PathBuf; 2]> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let paths = ["page.png", "page-phone.png"].map(|name| folder.join(name));
    for (kind, path) in [Kind::Desktop, Kind::DarkPhone].into_iter().zip(&paths) {
        let session = Session::start(node, kind)?;
        session.go_to_page()?;
        let picture = session.picture()?;
        fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(paths)
}

/// A browser, which ends when this is dropped.
struct Session<'a> {
    node: &'a Node,
    /// Where its commands are sent.
    path: String,
}

impl<'a> Session<'a> {
    fn start(node: &'a Node, kind: Kind) -> Result<Self> {
        let profile = node.folder()?.join(format!("pictures-{kind:?}"));
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities(kind, &profile) } });
        let session = ask(node, "POST", "session", Some(&wanted)).context("no browser starts")?;
        let id = session["sessionId"].as_str().context("ChromeDriver names no session")?;
        Ok(Self { node, path: format!("session/{id}") })
    }

    /// Opens the page, and waits until it is as people see it after a while.
    fn go_to_page(&self) -> Result<()> {
        self.post("url", &json!({ "url": format!("http://127.0.0.1:{PAGE}/") }))?;
        let heading = format!("Director {}", self.node.name());
        let is_shown = format!(
            "document.querySelector('h1')?.textContent === {heading:?}
             && document.querySelector('#live')?.textContent === 'live'
             && document.querySelector('.chart .line') !== null"
        );
        let deadline = Instant::now() + PATIENCE;
        while self.value(&is_shown)? != Value::Bool(true) {
            if Instant::now() > deadline {
                let text = self.value("document.body.innerText")?;
                let text = text.as_str().unwrap_or_default();
                bail!("the page is not live, or has no charts, after {PATIENCE:?}:\n{text}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What the browser shows, as PNG.
    fn picture(&self) -> Result<Vec<u8>> {
        let answer = ask(self.node, "GET", &format!("{}/screenshot", self.path), None)?;
        let text = answer.as_str().context("ChromeDriver sends no picture")?;
        BASE64_STANDARD.decode(text).context("ChromeDriver sends no picture")
    }

    /// The value of an expression in the page.
    fn value(&self, expression: &str) -> Result<Value> {
        self.post("execute/sync", &json!({ "script": format!("return {expression};"), "args": [] }))
    }

    fn post(&self, command: &str, body: &Value) -> Result<Value> {
        ask(self.node, "POST", &format!("{}/{command}", self.path), Some(body))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // If it fails, the browser ends with its driver.
        let _ = ask(self.node, "DELETE", &self.path, None);
    }
}

/// Sends a command to the driver on `node`, and returns the value that it answers with.
fn ask(node: &Node, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let mut curl = node.command("curl");
    curl.args(["-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60"]);
    curl.args(["--request", method]);
    if let Some(body) = body {
        curl.args(["--json", &body.to_string()]);
    }
    let text = shell::run(curl.arg(format!("http://127.0.0.1:{PORT}/{path}")))?;
    let answer: Value =
        serde_json::from_str(&text).with_context(|| format!("ChromeDriver answers {path} with: {text}"))?;
    let value = &answer["value"];
    let why = value["message"].as_str().unwrap_or_default();
    ensure!(value["error"].is_null(), "ChromeDriver refuses {path}: {why}");
    Ok(value.clone())
}

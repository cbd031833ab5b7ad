//! Sessions of Chromium.

use std::path::Path;
use std::time::{Duration, Instant};

use fantoccini::error::CmdError;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use lb_lab::lab::browser::{self, Kind};
use serde_json::{Value, json};

use super::PATIENCE;

pub(crate) struct Browser(pub Client);

impl Browser {
    /// `folder` is for what it leaves behind.
    pub(crate) async fn start(kind: Kind, folder: &Path) -> Self {
        let profile = folder.join(format!("{kind:?}"));
        let mut capabilities = browser::capabilities(kind, &profile);
        capabilities.insert("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" }));
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let driver = format!("http://127.0.0.1:{}", browser::PORT);
        Self(builder.connect(&driver).await.expect("a browser starts"))
    }

    pub(crate) async fn goto(&self, path: &str) {
        self.0.goto(&format!("http://127.0.0.1:9106{path}")).await.expect("the page");
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = format!("return {expression};");
        self.0.execute(&script, Vec::new()).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until an expression in the page is true.
    pub(crate) async fn wait(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(expression).await != Value::Bool(true) {
            if Instant::now() > deadline {
                let text = self.value("document.body.innerText").await;
                panic!("waited for {expression}; the page has:\n{}", text.as_str().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the text of what `selector` finds has `part`.
    pub(crate) async fn wait_for_text(&self, selector: &str, part: &str) {
        let found = format!("(document.querySelector({selector:?})?.innerText ?? '').includes({part:?})");
        self.wait(&found).await;
    }

    /// axe finds nothing that keeps people from using the page.
    pub(crate) async fn assert_accessible(&self, what: &str) {
        let axe = std::fs::read_to_string(browser::axe()).expect("axe-core (`cargo xtask setup` fetches it)");
        self.0.execute(&axe, Vec::new()).await.expect("axe");
        const RUN: &str = "const done = arguments[arguments.length - 1];
            axe.run().then(found => done(found.violations.map(one =>
                `${one.id}: ${one.help}: ${one.nodes.map(node => node.html).join(' ')}`)), error => done([`${error}`]));";
        let violations = self.0.execute_async(RUN, Vec::new()).await.expect("axe's verdict");
        assert_eq!(violations, json!([]), "{what}");
        assert_eq!(self.value("typeof axe").await, "object", "it has run");
    }

    /// Nothing was refused by the policy, and no script has failed.
    pub(crate) async fn assert_silent_console(&self, what: &str) {
        let log = self.0.issue_cmd(ConsoleLog).await.expect("the browser's log");
        assert_eq!(log, json!([]), "{what}");
    }

    pub(crate) async fn close(self) {
        self.0.close().await.expect("the browser ends");
    }
}

/// ChromeDriver's own command for what the console has.
#[derive(Debug)]
struct ConsoleLog;

impl WebDriverCompatibleCommand for ConsoleLog {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}

/// What WebDriver's commands end with.
pub(crate) type Done = Result<(), CmdError>;

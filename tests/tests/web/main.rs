//! The page and the HTTP API of running directors: in a real browser, and by curl.
//!
//! - `browser`: sessions of Chromium; `page`: what people do; `api`: what programs do; `top`: `lb
//!   top` on a real terminal; `viewers`: what many of them cost

mod api;
mod browser;
mod page;
mod top;
mod viewers;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use lb_lab::cluster::pair::{Pair, Settings};
use lb_lab::cluster::{self, Talk};

const PATIENCE: Duration = Duration::from_secs(60);

const TOKEN: &str = "6c6162206c6162206c6162206c6162206c616220";

/// Nobody dies on a busy machine.
const SETTINGS: Settings =
    Settings { interval: Duration::from_millis(100), dead: Duration::from_secs(10), serial: false };

/// The talk's two directors with a page each, on port 9106 of loopback.
fn directors(talk: &Talk) -> Pair {
    let tokens = talk.lab.state().folder().join("tokens");
    fs::write(&tokens, format!("alice {TOKEN}\n")).expect("a file");
    fs::set_permissions(&tokens, PermissionsExt::from_mode(0o600)).expect("chmod");
    let web = format!("web:\n  tokens: {}\n", tokens.display());
    Pair::start_with(talk, SETTINGS, &configuration(talk, &web)).expect("both directors start")
}

/// The talk's, with servers kept out in this lab only.
fn configuration(talk: &Talk, more: &str) -> String {
    let example = cluster::configuration().expect("the example");
    let disabled = talk.lab.state().folder().join("disabled");
    format!("{example}\nmaintenance_dir: {}\n{more}", disabled.display())
}

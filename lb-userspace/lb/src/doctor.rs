//! `lb doctor`: looks at a machine as an experienced colleague would, and says of each thing
//! whether it is right.
//!
//! - `machine`: the kernel, its rights, its clock
//! - `interfaces`: network cards, drivers, queues, XDP programs of others
//! - `segment`: who else answers for the VIPs
//! - `director`: the configuration, and what a running director has found

mod director;
mod interfaces;
mod machine;
mod segment;

use std::path::PathBuf;

use anyhow::Result;
use lb_api::findings::Finding;
use schemars::JsonSchema;
use serde::Serialize;

use crate::realserver::{self, Condition, Tunnel, Wanted};

/// How it is with a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Ok,
    Warning,
    Wrong,
}

/// What is safe to do about it.
type Fix = Box<dyn FnOnce() -> Result<()>>;

/// A thing that was looked at.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Line {
    pub level: Level,
    /// What was looked at and found, a sentence without a full stop.
    pub text: String,
    /// What the operator can do about it; empty where there is nothing to do.
    pub mend: String,
    #[serde(skip)]
    pub fix: Option<Fix>,
}

impl Line {
    fn ok(text: impl Into<String>) -> Self {
        Self { level: Level::Ok, text: text.into(), mend: String::new(), fix: None }
    }

    fn warning(text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warning, text: text.into(), mend: mend.into(), fix: None }
    }

    fn wrong(text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Wrong, ..Self::warning(text, mend) }
    }

    fn fixed_by(self, fix: impl FnOnce() -> Result<()> + 'static) -> Self {
        Self { fix: Some(Box::new(fix)), ..self }
    }

    fn of_finding(finding: Finding) -> Self {
        Self::warning(finding.text, finding.mend)
    }
}

/// Where a machine says what it is.
pub(crate) struct Places {
    /// A director's configuration.
    pub config: PathBuf,
    /// The record of `lb realserver setup`.
    pub record: PathBuf,
    /// The director's control socket.
    pub socket: PathBuf,
}

/// Looks at everything. What cannot be looked at is told as a warning.
pub(crate) async fn look(places: &Places) -> Vec<Line> {
    let is_director = places.config.exists();
    let mut lines = vec![machine::kernel()];
    if is_director {
        lines.extend([machine::compiler(), machine::bpf_file_system()]);
        lines.push(machine::rights());
    }
    lines.push(machine::clock());
    if is_director {
        lines.extend(director::look(places).await);
    }
    lines.extend(real_server(places, is_director));
    lines
}

/// What a real server needs, where `lb realserver setup` has run, or somebody has set it up by
/// hand.
fn real_server(places: &Places, is_director: bool) -> Vec<Line> {
    match realserver::recorded(&places.record) {
        Ok(Some(wanted)) => wanted.conditions().into_iter().map(condition).collect(),
        Ok(None) if is_director => vec![],
        Ok(None) => match realserver::by_hand() {
            Ok(Some(wanted)) => set_up_by_hand(&wanted),
            Ok(None) => vec![Line::warning(
                format!(
                    "this machine is neither a director (there is no {}) nor a real server: lo has no VIP",
                    places.config.display()
                ),
                "name the director's configuration by --config, or run `lb realserver setup --vip ADDRESS` here",
            )],
            Err(error) => vec![Line::warning(format!("{error:#}"), "")],
        },
        Err(error) => vec![Line::wrong(format!("{error:#}"), "")],
    }
}

/// What the machine needs for what is there, and that nothing of ours brings it back.
fn set_up_by_hand(wanted: &Wanted) -> Vec<Line> {
    let vips: Vec<String> = wanted.vips.iter().map(ToString::to_string).collect();
    let mut words: Vec<String> = vips.iter().map(|vip| format!("--vip {vip}")).collect();
    words.extend(wanted.tunnels.iter().map(|tunnel| format!("--tunnel {}", tunnel.name())));
    if wanted.tunnels.contains(&Tunnel::Gue) {
        words.push(format!("--gue-port {}", wanted.gue_port));
    }
    let mend = format!("`lb realserver setup {}` writes a unit that sees to it", words.join(" "));
    let text = format!(
        "this machine is a real server for {} that somebody has set up by hand: nobody knows whether it will be one \
         after the next boot",
        vips.join(", ")
    );
    let known = Line::warning(text, mend);
    [known].into_iter().chain(wanted.conditions().into_iter().map(condition)).collect()
}

fn condition(condition: Condition) -> Line {
    match condition.state() {
        Ok(realserver::State::Met(text)) => Line::ok(text),
        Ok(realserver::State::Unmet(text)) => {
            let mend = condition.mend();
            Line::wrong(text, mend).fixed_by(move || condition.make())
        }
        Err(error) => Line::warning(format!("{error:#}"), ""),
    }
}

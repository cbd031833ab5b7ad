//! Two directors on the talk's cluster: ha1, the preferred one, and ha2.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::{Talk, configuration, heartbeat_address};
use crate::lab::{Director, Node, SerialLine};

/// Time limit for the directors' actions: start-up, the first checks of the servers, a failback.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polling interval of both directors, long enough not to disturb measurements.
const POLL: Duration = Duration::from_millis(50);

/// A line of the key file; a lab has no secrets.
const KEY: &str = "1 6c6162206c6162206c6162206c6162206c6162206c6162206c6162206c616220\n";

/// The directors' heartbeat settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Heartbeat interval.
    pub interval: Duration,
    /// Dead time.
    pub dead: Duration,
    /// A serial line in addition to the two networks.
    pub serial: bool,
}

impl Settings {
    /// `lb`'s defaults.
    pub const DEFAULT: Self =
        Self { interval: Duration::from_millis(50), dead: Duration::from_millis(200), serial: false };

    /// The shortest interval that `lb` accepts.
    pub const FAST: Self =
        Self { interval: Duration::from_millis(10), dead: Duration::from_millis(40), serial: false };
}

/// `lb` on both directors.
#[derive(Debug)]
pub struct Pair {
    pub ha1: Director,
    pub ha2: Director,
}

impl Pair {
    /// Starts both and waits until ha1 is active, ha2 is on standby, and both have the servers'
    /// health.
    pub fn start(talk: &Talk, settings: Settings) -> Result<Self> {
        Self::start_with(talk, settings, &configuration()?)
    }

    /// Like [`Self::start`], with another configuration, given without its `cluster:` section.
    pub fn start_with(talk: &Talk, settings: Settings, configuration: &str) -> Result<Self> {
        Self::start_in(talk, settings, configuration, "")
    }

    /// The same with more lines of that section, indented as it is.
    pub fn start_in(talk: &Talk, settings: Settings, configuration: &str, more: &str) -> Result<Self> {
        Self::start_behind(&[], talk, settings, configuration, more)
    }

    /// The same behind `launcher`, a command that executes its arguments as a command.
    pub fn start_behind(
        launcher: &[&str],
        talk: &Talk,
        settings: Settings,
        configuration: &str,
        more: &str,
    ) -> Result<Self> {
        let launcher: Vec<String> = launcher.iter().map(|word| (*word).to_owned()).collect();
        Self::start_behind_each(&[launcher.clone(), launcher], talk, settings, configuration, more)
    }

    /// The same with another launcher for each.
    pub fn start_behind_each(
        launchers: &[Vec<String>; 2],
        talk: &Talk,
        settings: Settings,
        configuration: &str,
        more: &str,
    ) -> Result<Self> {
        let serial = settings.serial.then(|| talk.lab.serial_line("serial")).transpose()?;
        let key_file = write_key(talk.lab.state().folder())?;
        let [ha1, ha2] = [(0, &talk.ha1), (1, &talk.ha2)].map(|(place, node)| {
            let serial = serial.as_ref().map(|SerialLine { ends }| ends[place].as_path());
            let cluster = cluster(talk, node, settings, &key_file, serial)?;
            Director::start_behind(&launchers[place], node, &(configuration.to_owned() + &cluster + more))
        });
        let pair = Self { ha1: ha1?, ha2: ha2? };
        pair.wait_until_held_by("ha1")?;
        Ok(pair)
    }

    /// Waits until both directors are running, receive each other's heartbeats, know the servers'
    /// health and agree that `holder` is active.
    pub fn wait_until_held_by(&self, holder: &str) -> Result<()> {
        self.wait_until_held_by_one_of(&[holder]).map(drop)
    }

    /// Like [`Self::wait_until_held_by`] for any of `holders`; returns the one on which both agree.
    pub fn wait_until_held_by_one_of<'a>(&self, holders: &[&'a str]) -> Result<&'a str> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for holder in holders {
                if self.agree_on(holder)? {
                    return Ok(holder);
                }
            }
            if Instant::now() > deadline {
                let holders = holders.join(" or ");
                bail!("waited {PATIENCE:?} for both directors to agree on {holders}.\n{}", self.shown());
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until ha2 is active according to ha2: ha1 may be unable to answer.
    pub fn wait_for_take_over(&self) -> Result<()> {
        self.ha2.wait_until("ha2 active", PATIENCE, |status| status.held_by("ha2")).map(drop)
    }

    fn agree_on(&self, holder: &str) -> Result<bool> {
        let (ha1, ha2) = (self.ha1.status()?, self.ha2.status()?);
        let ready = [&ha1, &ha2].iter().all(|status| status.serves("www1") && status.serves("www2"));
        Ok(ready && ha1.hears("ha2") && ha2.hears("ha1") && ha1.held_by(holder) && ha2.held_by(holder))
    }

    /// Status and logs of both, for error messages.
    pub fn shown(&self) -> String {
        let shown = [&self.ha1, &self.ha2].map(|director| {
            format!(
                "{} shows:\n{}\nThe end of its log:\n{}",
                director.node().name(),
                director.listing().unwrap_or_else(|error| format!("{error:#}")),
                director.log_tail()
            )
        });
        shown.join("\n\n")
    }
}

/// The `cluster:` section of `node`.
fn cluster(
    talk: &Talk,
    node: &Node,
    settings: Settings,
    key_file: &Path,
    serial: Option<&Path>,
) -> Result<String> {
    let Settings { interval, dead, serial: _ } = settings;
    let state = node.folder()?.join("state");
    let (ha1, ha2) = (talk.ha1.address(), talk.ha2.address());
    let (eth1_of_ha1, eth1_of_ha2) =
        (heartbeat_address(&talk.ha1).address, heartbeat_address(&talk.ha2).address);
    let serial = serial.map_or_else(String::new, |device| {
        format!("    - {{ type: serial, device: {}, baud: 115200 }}\n", device.display())
    });
    Ok(format!(
        "\
cluster:
  name: wowlinux
  node: {}
  key_file: {}
  interval: {}ms
  dead: {}ms
  state: {}
  nodes: [{{ name: ha1, address: {ha1} }}, {{ name: ha2, address: {ha2} }}]
  paths:
    - {{ type: unicast, interface: eth0 }}
    - {{ type: unicast, interface: eth1, addresses: {{ ha1: {eth1_of_ha1}, ha2: {eth1_of_ha2} }} }}
{serial}",
        node.name(),
        key_file.display(),
        interval.as_millis(),
        dead.as_millis(),
        state.display()
    ))
}

/// Writes the key file, readable only for its owner.
pub(crate) fn write_key(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("keys");
    let write = || {
        OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?
            .write_all(KEY.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

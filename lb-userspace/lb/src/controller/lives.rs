//! From one life of the director to the next: an interface that is not there yet, or that goes and
//! comes back, and a key file that comes late, are waited for.
//!
//! A bond that is made anew, a VLAN, a driver that is loaded again: the new interface has another
//! index and may have another MAC. So all of the director ends in order, and begins again when the
//! interface is there.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_alerts::Alerts;
use lb_api::events::{Events, Level, Record};
use lb_cluster::auth::file::{self, KeyFileError};
use lb_model::Config;
use lb_system::private_file::PrivateFileError;
use nix::net::if_::if_nametoindex;

use super::files::{FileChange, Watched};
use super::overlay::{self, Loaded, Overlay};
use super::stop::{self, Signal, Signals};
use super::{Controller, HOUSEKEEPING, reload, service_manager};
use crate::confinement::{self, Confinement};

/// What a life begins with, and the next one after it.
pub(super) struct Estate {
    pub config: Config,
    /// What was changed in it at run time.
    pub overlay: Overlay,
    pub file: Watched,
    /// What happened in earlier lives.
    pub events: Events,
    pub alerts: Alerts,
    /// What an lb before left on the interface is not taken over.
    pub fresh: bool,
    pub confinement: Confinement,
}

/// How a life ended, where nothing went wrong.
pub(super) enum End {
    /// It was told to.
    Stopped,
    /// Its interface is gone, or another one is back.
    InterfaceGone(Box<Estate>),
}

/// How long a director that ends waits for alerts about that: nothing of a client's waits for it.
const LAST_ALERTS: Duration = Duration::from_secs(2);

/// Runs the director of `path` until it is told to stop (SIGTERM, SIGINT) or cannot go on.
///
/// It gives up what it does not need, unless it is `unconfined`.
pub(crate) fn run(path: PathBuf, fresh: bool, unconfined: bool) -> Result<()> {
    // Before it is read, so that no change is missed.
    let mut file = Watched::new(path);
    let Loaded { config, mut overlay, warnings } = file.read_patiently(overlay::load)?;
    let mut events = Events::default();
    reload::warn(&warnings, |record| events.record(record));
    // Before the first thread.
    let confinement = if unconfined { Confinement::default() } else { confinement::enter(&config.control) };
    let signals = Signals::start()?;
    let alerts = Alerts::start(&config).context("cannot start the thread of the alerts")?;
    alerts.listen(&mut events);
    overlay.put_aside().into_iter().for_each(|record| events.record(record));
    let estate = Estate { config, overlay, file, events, alerts: alerts.clone(), fresh, confinement };
    let end = live_on(estate, signals);
    alerts.finish(LAST_ALERTS);
    end
}

/// One life after the other.
fn live_on(mut estate: Estate, mut signals: Signals) -> Result<()> {
    for life in 1.. {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let end = runtime.block_on(live(estate, &mut signals, life > 1));
        // With the runtime end the tasks of this life that nobody owns, such as those that serve
        // metrics.
        runtime.shutdown_background();
        estate = match end? {
            End::Stopped => break,
            End::InterfaceGone(estate) => *estate,
        };
    }
    Ok(())
}

/// One life, from the wait for what it needs to the end. In a later one than the first the
/// configuration is read again.
async fn live(mut estate: Estate, signals: &mut Signals, again: bool) -> Result<End> {
    if again {
        read_again(&mut estate);
    }
    if wait(&mut estate, signals, again).await.is_stop() {
        return Ok(End::Stopped);
    }
    let (config, overlay) = (estate.config.clone(), estate.overlay.clone());
    let path = estate.file.path().to_owned();
    let (confinement, alerts) = (estate.confinement.clone(), estate.alerts.clone());
    match Controller::start(estate).await {
        Ok((controller, inputs)) => controller.run(inputs, signals).await,
        // It has gone while all was made; what was made is gone too.
        Err(error) if config.interfaces().any(|name| if_nametoindex(name).is_err()) => {
            tracing::warn!("the start came to nothing: {error:#}");
            let (file, mut events) = (Watched::new(path), Events::default());
            alerts.listen(&mut events);
            let estate = Estate { config, overlay, file, events, alerts, fresh: false, confinement };
            Ok(End::InterfaceGone(Box::new(estate)))
        }
        Err(error) => Err(error),
    }
}

enum Waited {
    AllIsThere,
    ToldToStop,
}

impl Waited {
    const fn is_stop(&self) -> bool {
        matches!(self, Self::ToldToStop)
    }
}

/// Waits until nothing is missing. The service manager is told that the start is done all the same:
/// it would give up after a minute and a half, and a boot would wait for it.
async fn wait(estate: &mut Estate, signals: &mut Signals, mut patient: bool) -> Waited {
    let mut look = tokio::time::interval(HOUSEKEEPING);
    let mut told = None;
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => match signal {
                Signal::Stop(signal) => {
                    estate.events.record(stop::stopping(signal));
                    return Waited::ToldToStop;
                }
                Signal::Reload => read_again(estate),
            },
            _ = look.tick() => {
                service_manager::alive();
                if estate.file.poll(Instant::now()) == FileChange::Whole {
                    read_again(estate);
                }
            }
        }
        let Some(missing) = missing(&estate.config, patient) else { return Waited::AllIsThere };
        if told.as_ref() != Some(&missing) {
            let text = format!("waiting for {}", missing.what);
            service_manager::ready(&text);
            estate.events.record(Record::new(Level::Warning, missing.event, text));
            told = Some(missing);
            patient = true;
        }
    }
}

/// A configuration with a mistake leaves the one before in force, as while running.
fn read_again(estate: &mut Estate) {
    // One that is being written is looked at again.
    let Some(found) = estate.file.read_all(overlay::load) else { return };
    match found {
        Ok(Loaded { config, mut overlay, warnings }) => {
            reload::warn(&warnings, |record| estate.events.record(record));
            overlay.put_aside().into_iter().for_each(|record| estate.events.record(record));
            (estate.config, estate.overlay) = (config, overlay);
            // It ends what a refused one began.
            let text = format!("configuration {} reloaded", estate.file.path().display());
            estate.events.record(Record::new(Level::Info, "config_reloaded", text));
        }
        Err(error) => estate.events.record(reload::refused("", &error.into())),
    }
}

/// What a life cannot begin without.
#[derive(PartialEq, Eq)]
struct Missing {
    /// The event's id.
    event: &'static str,
    what: String,
}

/// `patient`: a key file with a mistake is waited for as well, because it may be on its way.
fn missing(config: &Config, patient: bool) -> Option<Missing> {
    if let Some(interface) = config.interfaces().find(|name| if_nametoindex(*name).is_err()) {
        let what = format!("interface {interface}; `ip link` lists those there are");
        return Some(Missing { event: "waiting_for_interface", what });
    }
    match file::read(&config.cluster.as_ref()?.key_file) {
        Ok(_) => None,
        Err(KeyFileError::File(PrivateFileError::Io { path, source }))
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            let path = path.display();
            let what = format!("the heartbeat keys: {path} is not there; copy it from another node");
            Some(Missing { event: "waiting_for_keys", what })
        }
        Err(error) => patient.then(|| Missing {
            event: "waiting_for_right_keys",
            what: format!("the heartbeat keys: {error}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let text = "
interface: nosuch0
services: [{ vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }] }]
";
        let config = lb_config::parse(text, "test.yaml").expect("a configuration");
        let missing = missing(&config, false).expect("there is none");
        assert_eq!(missing.event, "waiting_for_interface");
        assert_eq!(missing.what, "interface nosuch0; `ip link` lists those there are");
    }

    #[test]
    fn a_key_file_is_waited_for_and_one_with_a_mistake_only_by_the_patient() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        let text = format!(
            "
interface: lo
groups: [{{ name: web, vips: [192.0.2.10/24] }}]
cluster:
  node: a
  key_file: {}
  nodes: [{{ name: a, address: 192.0.2.1 }}, {{ name: b, address: 192.0.2.2 }}]
  paths: [{{ type: unicast }}]
services: [{{ vip: '192.0.2.10:80', servers: [{{ address: 192.0.2.21 }}] }}]
",
            keys.display()
        );
        let config = lb_config::parse(&text, "test.yaml").unwrap_or_else(|error| panic!("{error}"));
        let waits_for = |patient| missing(&config, patient).map(|missing| (missing.event, missing.what));
        let (event, what) = waits_for(false).expect("there are no keys");
        assert_eq!(event, "waiting_for_keys");
        assert!(what.ends_with("keys is not there; copy it from another node"), "{what}");
        std::fs::write(&keys, "").expect("a file");
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert_eq!(waits_for(false), None, "the start says what is wrong with them");
        let (event, what) = waits_for(true).expect("it may be on its way");
        assert_eq!(event, "waiting_for_right_keys");
        assert!(what.contains("chmod 600"), "{what}");
    }
}

//! Watches of the API server: lists, then what changes, over disconnects and lists that are too
//! old.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::words::{self, OngoingTrouble};

/// After a failure; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The API server ends a watch after so long, in seconds; one that is dead is noticed 5 s later.
const WATCH_S: u32 = 60;

/// Tells all events of a kind that is always there, for as long as somebody listens. `message`
/// makes of an event what goes into the channel.
pub(crate) async fn follow<K, M>(
    api: Api<K>,
    kind: &'static str,
    to: mpsc::Sender<M>,
    message: impl Fn(Event<K>) -> M,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch(api, kind, to, message, |_| false).await;
}

/// The same of a kind that may be taken away, or go on in another version. Returns whether it has
/// gone; else nobody listens any more.
pub(crate) async fn follow_while_there<K, M>(
    api: Api<K>,
    kind: &'static str,
    to: mpsc::Sender<M>,
    message: impl Fn(Event<K>) -> M,
) -> bool
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch(api, kind, to, message, |error| code(error) == Some(404)).await
}

/// Returns whether it has ended by an error.
async fn watch<K, M>(
    api: Api<K>,
    kind: &'static str,
    to: mpsc::Sender<M>,
    message: impl Fn(Event<K>) -> M,
    ends: impl Fn(&watcher::Error) -> bool,
) -> bool
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let doing = format!("watching {kind}");
    let mut told = OngoingTrouble::default();
    let mut pause = FIRST_PAUSE;
    loop {
        let config = watcher::Config::default().timeout(WATCH_S);
        let mut events = Box::pin(watcher(api.clone(), config));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    // A list that only begins is no sign that all is well.
                    if !matches!(event, Event::Init) {
                        told.end(&format!("{doing}: well again"));
                        pause = FIRST_PAUSE;
                    }
                    if to.send(message(event)).await.is_err() {
                        return false;
                    }
                }
                Err(error) if ends(&error) => return true,
                Err(error) => {
                    let is_too_old = code(&error) == Some(410);
                    if is_too_old {
                        tracing::debug!("{doing}: what was seen last is too old, all is listed again");
                    } else {
                        told.trouble(in_words(&doing, &error));
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    if is_too_old {
                        break;
                    }
                }
            }
        }
    }
}

/// The server's code, if it has given one. With 410 it has forgotten what was seen last; one that
/// says so at the start of a watch would be asked for the same again and again.
fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

fn in_words(doing: &str, error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => words::of(doing, error),
        watcher::Error::WatchError(status) => words::of(doing, &kube::Error::Api(status.clone())),
        watcher::Error::NoResourceVersion => format!("{doing}: {error}"),
    }
}

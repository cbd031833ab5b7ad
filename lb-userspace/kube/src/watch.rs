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

/// Tells all events of a kind, for as long as somebody listens. `message` makes of an event what
/// goes into the channel.
pub(crate) async fn follow<K, M>(
    api: Api<K>,
    kind: &'static str,
    to: mpsc::Sender<M>,
    message: impl Fn(Event<K>) -> M,
) where
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
                        return;
                    }
                }
                Err(error) => {
                    let is_too_old = is_too_old(&error);
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

/// Whether the server has forgotten what was seen last. One that says so at the start of a watch
/// would be asked for the same again and again.
fn is_too_old(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
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

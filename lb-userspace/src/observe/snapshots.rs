//! Snapshots on demand: the controller makes them, the endpoints ask for them.

use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};

use super::view::Status;

/// How long the controller has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Requests that may wait; more askers wait to ask.
const QUEUE: usize = 16;

/// Asks the controller for a [`Status`].
#[derive(Debug, Clone)]
pub struct Snapshots(mpsc::Sender<oneshot::Sender<Status>>);

impl Snapshots {
    /// The asking side, and the requests that the controller is to answer.
    pub fn new() -> (Self, mpsc::Receiver<oneshot::Sender<Status>>) {
        let (sender, requests) = mpsc::channel(QUEUE);
        (Self(sender), requests)
    }

    /// The controller's state of this moment.
    ///
    /// # Errors
    /// If the controller has ended, or does not answer within 2 s.
    pub async fn get(&self) -> anyhow::Result<Status> {
        let ask = async {
            let (reply, answer) = oneshot::channel();
            self.0.send(reply).await.ok().context("the controller has ended")?;
            answer.await.context("the controller dropped the request")
        };
        tokio::time::timeout(PATIENCE, ask).await.context("the controller does not answer within 2 s")?
    }
}

/// A controller that always answers the same, for tests.
#[cfg(test)]
pub fn fixed(status: Status) -> Snapshots {
    let (snapshots, mut requests) = Snapshots::new();
    tokio::spawn(async move {
        while let Some(reply) = requests.recv().await {
            let _ = reply.send(status.clone());
        }
    });
    snapshots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples;

    #[tokio::test]
    async fn gets_what_the_controller_says() {
        let snapshots = fixed(samples::cluster());
        assert_eq!(snapshots.get().await.expect("a snapshot"), samples::cluster());
    }

    #[tokio::test]
    async fn a_controller_that_is_gone_is_an_error() {
        let (snapshots, requests) = Snapshots::new();
        drop(requests);
        assert!(snapshots.get().await.is_err());
    }

    #[tokio::test]
    async fn a_controller_that_hangs_is_an_error() {
        let (snapshots, _requests) = Snapshots::new();
        let error = snapshots.get().await.expect_err("nobody answers");
        assert_eq!(error.to_string(), "the controller does not answer within 2 s");
    }
}

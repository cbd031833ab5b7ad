//! Threads with their own runtime, for work that must neither delay the controller nor be delayed
//! by it.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::vital_signs::{Pulse, RHYTHM};

/// A thread with its own runtime. Dropping it ends all its tasks.
#[derive(Debug)]
pub struct Worker {
    handle: Handle,
    pulse: Pulse,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Worker {
    /// `name` is the thread's name, which top(1) shows.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let pulse = Pulse::default();
        let beats = beat(pulse.clone());
        thread::Builder::new().name(name.into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // The error that the sender is gone is what ends the thread.
                    _ = stopped => {}
                    () = beats => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, pulse, _stop: stop })
    }

    /// Gives signs of life while its tasks let each other work.
    pub const fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

async fn beat(pulse: Pulse) {
    loop {
        pulse.beat();
        tokio::time::sleep(RHYTHM).await;
    }
}

//! Threads with their own runtime, for work that must neither delay the controller nor be delayed
//! by it.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with its own runtime. Dropping it ends all its tasks.
#[derive(Debug)]
pub struct Worker {
    handle: Handle,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Worker {
    /// `name` is the thread's name, which top(1) shows.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name(name.into()).spawn(move || {
            // The error that the sender is gone is what ends the thread.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _stop: stop })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

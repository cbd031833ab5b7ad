//! The thread that checks run on: apart from the controller, so that neither holds the other up.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with a runtime of its own. Dropping it ends all that runs there.
#[derive(Debug)]
pub struct CheckThread {
    handle: Handle,
    /// Its end tells the thread.
    _stop: oneshot::Sender<()>,
}

impl CheckThread {
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("checks".into()).spawn(move || {
            // An error says that the other end is gone, which is what is waited for.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _stop: stop })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

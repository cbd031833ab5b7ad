//! Threads with a runtime of their own, for what must neither hold up the controller nor be held up by it.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with a runtime of its own. Dropping it ends all that runs there.
#[derive(Debug)]
pub struct Worker {
    handle: Handle,
    /// Its end tells the thread.
    _stop: oneshot::Sender<()>,
}

impl Worker {
    /// `name` is the thread's in listings such as top's.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name(name.into()).spawn(move || {
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

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
            runtime.block_on(async {
                // The error that the sender is gone is what ends the thread.
                let _ = stopped.await;
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _stop: stop })
    }

    /// From now on the thread gives signs of life while its tasks let each other work. Nobody wakes
    /// a thread for signs that nobody wants.
    pub fn pulse(&self) -> Pulse {
        let pulse = Pulse::default();
        self.handle.spawn(beat(pulse.clone()));
        pulse
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::vital_signs::Watch;

    #[test]
    fn a_worker_gives_signs_of_life_to_whoever_wants_them() {
        let worker = Worker::start("worker").expect("a thread");
        let mut watch = Watch::default();
        watch.add("worker", worker.pulse());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !watch.look(1).is_empty() {
            assert!(Instant::now() < deadline, "no sign of life");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

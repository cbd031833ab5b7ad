//! The sorry page: `lb` itself answers HTTP at a VIP while no real server does.
//!
//! - `listener`: one VIP and port: bound as soon as it is free, and never more connections than it
//!   can bear
//! - `lingering`: the end of a connection whose client still sends
//! - `page`: what is said
//! - `trouble`: what an operator must put right
//!
//! A thread of its own does it, so that a flood of the sorry slows down neither checks nor the
//! controller. It listens whether or not this director has the VIP now: the data path decides what
//! comes here.

mod lingering;
mod listener;
mod page;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use lb_system::worker::Worker;
use tokio::sync::{Semaphore, oneshot, watch};

use self::listener::Listener;
use self::trouble::Trouble;

/// Connections that are served at once at all VIPs together. Each may hold a page of
/// [`page::LONGEST`] bytes.
const MOST: usize = 512;
/// Connections that have had their answer, and whose clients still send.
const MOST_LINGERING: usize = 1024;

/// The sorry pages of all services.
#[derive(Debug, Default)]
pub(crate) struct Sorry {
    /// Started when the first page is wanted.
    thread: Option<Worker>,
    room: Room,
    running: HashMap<SocketAddr, Running>,
}

/// Room for connections, shared by all listeners.
#[derive(Debug, Clone)]
struct Room {
    connections: Arc<Semaphore>,
    lingering: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let [connections, lingering] = [MOST, MOST_LINGERING].map(|most| Arc::new(Semaphore::new(most)));
        Self { connections, lingering }
    }
}

/// One VIP and port. Dropped, it takes no more connections.
#[derive(Debug)]
struct Running {
    page: watch::Sender<Option<PathBuf>>,
    trouble: Trouble,
    /// Closed when this is dropped.
    _wanted: oneshot::Sender<()>,
}

impl Sorry {
    /// From now on these are the addresses with a sorry page, each with its file if it is not the
    /// built-in one.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn set(&mut self, wanted: &HashMap<SocketAddr, Option<PathBuf>>) -> std::io::Result<()> {
        self.running.retain(|address, _| wanted.contains_key(address));
        for (address, page) in wanted {
            match self.running.get(address) {
                Some(running) => drop(running.page.send_replace(page.clone())),
                None => {
                    let running = self.begin(*address, page.clone())?;
                    self.running.insert(*address, running);
                }
            }
        }
        Ok(())
    }

    /// Whether the page is served there.
    pub(crate) fn listens(&self, address: &SocketAddr) -> bool {
        self.running.get(address).is_some_and(|running| running.trouble.listens())
    }

    /// Why no sorry page is served there, or not with the operator's own page.
    pub(crate) fn trouble(&self, address: &SocketAddr) -> Option<String> {
        self.running.get(address)?.trouble.text()
    }

    fn begin(&mut self, address: SocketAddr, page: Option<PathBuf>) -> std::io::Result<Running> {
        let thread = match &mut self.thread {
            Some(thread) => thread,
            none => none.insert(Worker::start("sorry")?),
        };
        let (page, read) = watch::channel(page);
        let trouble = Trouble::new(address);
        let listener = Listener { address, page: read, trouble: trouble.clone(), room: self.room.clone() };
        let (wanted, unwanted) = oneshot::channel();
        thread.handle().spawn(listener.run(unwanted));
        Ok(Running { page, trouble, _wanted: wanted })
    }
}

/// Serves one connection with the built-in page.
#[cfg(test)]
pub(crate) async fn serve_one(stream: tokio::net::TcpStream) {
    let room = || Arc::new(Semaphore::new(1)).try_acquire_owned().expect("room for one");
    let trouble = Trouble::new(SocketAddr::from(([127, 0, 0, 1], 80)));
    listener::serve(stream, None, trouble, [room(), room()], Arc::new(Semaphore::new(1))).await;
}

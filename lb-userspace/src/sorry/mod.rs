//! The sorry page: `lb` itself answers HTTP at a VIP while no real server does.
//!
//! - `listener`: one VIP and port: bound as soon as it is free, and never more connections than it can bear
//! - `page`: what is said
//! - `trouble`: what an operator must put right
//!
//! A thread of its own does it, so that a flood of the sorry slows down neither checks nor the controller. It listens
//! whether or not this director has the VIP now: the data path decides what comes here.

mod listener;
mod page;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use self::listener::Listener;
use self::trouble::Trouble;
use crate::worker::Worker;

/// Connections that are served at once at all VIPs together. Each may hold a page of [`page::LONGEST`] bytes.
const MOST: usize = 512;

/// The sorry pages of all services.
#[derive(Debug, Default)]
pub struct Sorry {
    /// Started when the first page is wanted.
    room: Option<Room>,
    running: HashMap<SocketAddr, Running>,
}

#[derive(Debug)]
struct Room {
    thread: Worker,
    connections: Arc<Semaphore>,
}

/// One VIP and port. Dropped, it ends with all its connections.
#[derive(Debug)]
struct Running {
    page: watch::Sender<Option<PathBuf>>,
    trouble: Trouble,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sorry {
    /// From now on these are the addresses with a sorry page, each with its file if it is not the built-in one.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn set(&mut self, wanted: &HashMap<SocketAddr, Option<PathBuf>>) -> std::io::Result<()> {
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

    /// Whether it can be told there.
    pub fn listens(&self, address: &SocketAddr) -> bool {
        self.running.get(address).is_some_and(|running| running.trouble.listens())
    }

    /// Why nobody can be told sorry there, or not with the operator's own page.
    pub fn trouble(&self, address: &SocketAddr) -> Option<String> {
        self.running.get(address)?.trouble.told()
    }

    fn begin(&mut self, address: SocketAddr, page: Option<PathBuf>) -> std::io::Result<Running> {
        let room = match &mut self.room {
            Some(room) => room,
            none => none.insert(Room {
                thread: Worker::start("sorry")?,
                connections: Arc::new(Semaphore::new(MOST)),
            }),
        };
        let (page, read) = watch::channel(page);
        let trouble = Trouble::new(address);
        let listener = Listener {
            address,
            page: read,
            trouble: trouble.clone(),
            all_connections: Arc::clone(&room.connections),
        };
        let task = room.thread.handle().spawn(listener.run());
        Ok(Running { page, trouble, task })
    }
}

/// Serves one connection with the built-in page.
#[cfg(test)]
pub async fn serve_one(stream: tokio::net::TcpStream) {
    let room = || Arc::new(Semaphore::new(1)).try_acquire_owned().expect("room for one");
    let trouble = Trouble::new(SocketAddr::from(([127, 0, 0, 1], 80)));
    listener::serve(stream, None, trouble, [room(), room()]).await;
}

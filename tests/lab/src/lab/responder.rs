//! A UDP server on a node.

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Node;

/// Answers datagrams as long as this value lives.
pub struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Binds to one address of the node, so that answers have it as their source.
    pub fn start(
        node: &Node,
        (address, port): (impl Into<IpAddr>, u16),
        answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        let address = SocketAddr::new(address.into(), port);
        let socket = node.run(|| UdpSocket::bind(address))?;
        let socket = socket.with_context(|| format!("{} cannot bind {address}", node.name()))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut question = vec![0; 1 << 16];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, client)) = socket.recv_from(&mut question) {
                    // If the client or the address is gone, the datagram stays unanswered.
                    let _ = socket.send_to(&answer(&question[..length]), client);
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive()
    }
}

//! The AF_XDP sockets, and the tasks that wait: one per socket for its frames, one for the stack's
//! deadlines.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use lb_net::xsk::Xsk;
use lb_system::clock::sleep_until;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::stack::{Frame, Stack};
use super::{Inner, Neighbours, VipNet};

/// Queue length of frames that wait for room in the first socket; others are dropped.
const WAITING: usize = 1024;

/// Delay before waiting frames are sent again: it begins with this and doubles while there is no
/// room.
const RETRY: Duration = Duration::from_millis(1);
const SLOWEST_RETRY: Duration = Duration::from_millis(256);

pub(super) struct Link {
    /// With the place of its interface; those of one by receive queue.
    sockets: Vec<(usize, Xsk)>,
    /// With the place of the interface that they leave by.
    waiting: VecDeque<(usize, Frame)>,
    retry: Duration,
    retry_at: Option<Instant>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Link {
    /// A link without sockets: frames wait in the queue.
    pub(super) fn new(net: &VipNet, runtime: &Handle) -> Self {
        let tasks = vec![runtime.spawn(keep_time(net.clone()))];
        Self { sockets: Vec::new(), waiting: VecDeque::new(), retry: RETRY, retry_at: None, tasks }
    }

    /// Adds sockets of an interface. Must run within the runtime.
    pub(super) fn add(&mut self, place: usize, sockets: Vec<Xsk>, net: &VipNet) -> io::Result<()> {
        for socket in sockets {
            let fd = socket.fd().try_clone_to_owned()?;
            // SAFETY: an OwnedFd always returns the same descriptor, and keeps it open as long as
            // it lives.
            let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
            self.tasks.push(tokio::spawn(listen(net.clone(), fd, self.sockets.len())));
            self.sockets.push((place, socket));
        }
        Ok(())
    }

    pub(super) fn queues(&self, place: usize) -> u32 {
        let of_it = self.sockets.iter().filter(|(other, _)| *other == place);
        u32::try_from(of_it.count()).unwrap_or(u32::MAX)
    }

    /// Sends the waiting frames and then `frames`, as far as there is room.
    pub(super) fn send(&mut self, frames: Vec<Frame>, neighbours: &Neighbours) {
        let room = WAITING.saturating_sub(self.waiting.len());
        let placed = frames.into_iter().map(|frame| (neighbours.place_of(&frame), frame));
        self.waiting.extend(placed.take(room));
        if self.sockets.is_empty() {
            return;
        }
        let before = self.waiting.len();
        while let Some((place, frame)) = self.waiting.front() {
            // The first queue of an interface sends. Without any there is nobody to wait for.
            let first = self.sockets.iter_mut().find(|(other, _)| other == place);
            if first.is_some_and(|(_, socket)| !socket.send(frame)) {
                break;
            }
            self.waiting.pop_front();
        }
        if before > 0 {
            let first = self.sockets.iter_mut().filter(|(_, socket)| socket.queue() == 0);
            first.for_each(|(_, socket)| socket.flush());
        }
        let progress = self.waiting.len() < before;
        self.retry = if progress { RETRY } else { (self.retry * 2).min(SLOWEST_RETRY) };
        self.retry_at = (!self.waiting.is_empty()).then(|| Instant::now() + self.retry);
    }

    /// When [`Self::send`] must run again for waiting frames.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.retry_at
    }

    fn receive(&mut self, index: usize, stack: &mut Stack) {
        let now = Instant::now();
        if let Some((_, socket)) = self.sockets.get_mut(index) {
            socket.receive(|frame| stack.receive(frame, now));
        }
    }

    /// Takes the waiting frames.
    #[cfg(test)]
    pub(super) fn take_waiting(&mut self) -> Vec<Frame> {
        self.waiting.drain(..).map(|(_, frame)| frame).collect()
    }
}

/// Passes the frames of the socket at `index` to the stack.
async fn listen(net: VipNet, socket: AsyncFd<OwnedFd>, index: usize) {
    while let Ok(mut ready) = socket.readable().await {
        net.with_stack(|Inner { stack, link, .. }| {
            if let Some(link) = link {
                link.receive(index, stack);
            }
        });
        ready.clear_ready();
    }
}

/// Expires the stack's timers.
async fn keep_time(net: VipNet) {
    loop {
        let next = net.next_timeout().map(Into::into);
        tokio::select! {
            () = sleep_until(next) => net.with_stack(|inner| inner.stack.expire(Instant::now())),
            () = net.0.sooner.notified() => {}
        }
    }
}

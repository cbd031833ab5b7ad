//! The heartbeat thread: waits for messages, commands and deadlines, and for nothing else.
//!
//! The machine behind [`Driver`] runs on this thread. What others want of it comes through a
//! [`Handle`]; what is to be logged goes out through a callback that must not wait (a channel's
//! sender). Messages come with the times at which they arrived: a process that was stopped and
//! thawed knows that what it reads then is old.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, TryRecvError};
use std::time::Duration;

use lb_system::clock::now;
use lb_system::vital_signs::{Pulse, RHYTHM};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

use super::slot::{Change, Slot};
use super::statistics::Statistics;
use super::{Open, PathId};
use crate::auth::Keys;
use crate::channel::Channel;
use crate::message::Heartbeat;
use crate::reason::DropReason;

#[cfg(test)]
mod tests;

/// Of one path in one round, and of commands; the others and the deadlines have their turn then,
/// whatever floods this one.
const BATCH: usize = 64;

/// The machine, as the loop sees it. All times are of `CLOCK_MONOTONIC` ([`now`]).
pub(crate) trait Driver {
    /// What other threads tell it.
    type Command: Send;

    /// A heartbeat that is authentic and newer than all before; its copies on other paths do not
    /// come here.
    fn heartbeat(&mut self, heartbeat: Heartbeat, path: PathId, times: Times);

    fn command(&mut self, command: Self::Command, now: Duration);

    /// The loop calls this at [`Self::next_timeout`], and at other times too.
    fn timer(&mut self, now: Duration);

    fn next_timeout(&self) -> Option<Duration>;

    /// What is to be sent now, over all paths. Asked for after each of the calls above.
    fn outgoing(&mut self) -> Vec<Heartbeat>;
}

/// Of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Not later than now, and perhaps earlier than that of the message before, which came by
    /// another path.
    pub arrived: Duration,
    pub now: Duration,
}

/// What an operator should hear of the paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    Path {
        path: PathId,
        change: Change,
    },
    /// The `count`th message dropped for a reason that is not normal; told for the 1st, 10th, 100th
    /// and so on.
    Dropped {
        path: PathId,
        reason: DropReason,
        count: u64,
    },
    /// The machine wanted to send what the wire format does not hold.
    NotSent(String),
}

enum Command<C> {
    Driver(C),
    Keys(Keys),
    Stop,
}

/// Speaks to the loop from other threads. The loop ends with the last one.
#[derive(Debug)]
pub(crate) struct Handle<C> {
    commands: mpsc::Sender<Command<C>>,
    wake: Arc<EventFd>,
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Self { commands: self.commands.clone(), wake: Arc::clone(&self.wake) }
    }
}

impl<C> Handle<C> {
    pub(crate) fn command(&self, command: C) {
        self.tell(Command::Driver(command));
    }

    /// From now on these keys.
    pub(crate) fn set_keys(&self, keys: Keys) {
        self.tell(Command::Keys(keys));
    }

    /// The loop sends what the driver has to say, and ends.
    pub(crate) fn stop(&self) {
        self.tell(Command::Stop);
    }

    /// A loop that has ended hears nothing any more, and that is no harm.
    fn tell(&self, command: Command<C>) {
        let _ = self.commands.send(command);
        self.wake();
    }

    fn wake(&self) {
        let _ = self.wake.write(1);
    }
}

/// The sender first: the loop must find it gone when it is woken.
impl<C> Drop for Handle<C> {
    fn drop(&mut self) {
        self.commands = mpsc::channel().0;
        self.wake();
    }
}

pub(crate) struct Loop<D: Driver> {
    channel: Channel,
    slots: Vec<Slot>,
    driver: D,
    report: Box<dyn FnMut(Report) + Send>,
    commands: mpsc::Receiver<Command<D::Command>>,
    wake: Arc<EventFd>,
    pulse: Pulse,
    buffer: Vec<u8>,
}

impl<D: Driver> Loop<D> {
    /// The paths are opened by [`Self::run`]. `report` is called on the loop's thread and must not
    /// wait.
    pub(crate) fn new(
        channel: Channel,
        paths: Vec<(String, Box<dyn Open>)>,
        driver: D,
        report: Box<dyn FnMut(Report) + Send>,
    ) -> io::Result<(Self, Handle<D::Command>)> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let (sender, commands) = mpsc::channel();
        let start = now();
        let slot = |(name, opener)| Slot::new(opener, Arc::new(Statistics::new(name)), start);
        let slots = paths.into_iter().map(slot).collect();
        let handle = Handle { commands: sender, wake: Arc::clone(&wake) };
        Ok((
            Self {
                channel,
                slots,
                driver,
                report,
                commands,
                wake,
                pulse: Pulse::default(),
                buffer: Vec::new(),
            },
            handle,
        ))
    }

    /// The loop gives signs of life; to be kept by whoever watches for them.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// In the order of the paths; to be kept by whoever shows them.
    pub(crate) fn statistics(&self) -> Vec<Arc<Statistics>> {
        self.slots.iter().map(Slot::shared_statistics).collect()
    }

    /// Runs until it is told to stop, and gives the driver back.
    pub(crate) fn run(mut self) -> io::Result<D> {
        loop {
            self.pulse.beat();
            self.timers();
            let go_on = self.commands();
            self.send();
            if !go_on {
                return Ok(self.driver);
            }
            let broken = self.wait()?;
            self.receive(broken);
        }
    }

    fn timers(&mut self) {
        let now = now();
        for (path, slot) in numbered(&mut self.slots) {
            if let Some(change) = slot.timer(now) {
                (self.report)(Report::Path { path, change });
            }
        }
        self.driver.timer(now);
    }

    /// `false` when it is time to stop.
    ///
    /// Many of them have several rounds: each command renews leases, and whoever renews without
    /// sending is taken for dead while it serves.
    fn commands(&mut self) -> bool {
        let _ = self.wake.read();
        for _ in 0..BATCH {
            match self.commands.try_recv() {
                Ok(Command::Driver(command)) => self.driver.command(command, now()),
                Ok(Command::Keys(keys)) => self.channel.set_keys(keys),
                Err(TryRecvError::Empty) => return true,
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
            }
        }
        // There may be more.
        let _ = self.wake.write(1);
        true
    }

    fn send(&mut self) {
        for heartbeat in self.driver.outgoing() {
            let now = now();
            match self.channel.seal(heartbeat, now) {
                Ok(bytes) => self.send_everywhere(&bytes, now),
                Err(error) => (self.report)(Report::NotSent(error.to_string())),
            }
        }
    }

    fn send_everywhere(&mut self, bytes: &[u8], now: Duration) {
        for (path, slot) in numbered(&mut self.slots) {
            if let Some(change) = slot.send(bytes, now) {
                (self.report)(Report::Path { path, change });
            }
        }
    }

    /// Until something happens or is due, or a sign of life is. Tells which paths are broken.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let deadlines = self
            .slots
            .iter()
            .map(Slot::next_timeout)
            .chain([self.driver.next_timeout(), Some(now() + RHYTHM)]);
        let timeout = deadlines.flatten().min().map(|due| TimeSpec::from(due.saturating_sub(now())));
        let mut polled = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        let open = || self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.path()?)));
        polled.extend(open().map(|(_, path)| PollFd::new(path.fd(), PollFlags::POLLIN)));
        match ppoll(&mut polled, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut broken = vec![false; self.slots.len()];
        let errors = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        for ((index, _), fd) in open().zip(&polled[1..]) {
            broken[index] = fd.revents().is_some_and(|events| events.intersects(errors));
        }
        Ok(broken)
    }

    /// From all paths, whether poll has named them or not: a message may have come since.
    fn receive(&mut self, broken: Vec<bool>) {
        for (index, broken) in broken.into_iter().enumerate() {
            let received = self.receive_from(index);
            if broken && !received {
                let change = self.slots[index].hung_up(now());
                self.tell(index, change);
            }
        }
    }

    /// `true` if anything came.
    fn receive_from(&mut self, index: usize) -> bool {
        for count in 0..BATCH {
            let now = now();
            match self.slots[index].receive(&mut self.buffer, now) {
                Ok(Some((arrival, arrived))) => self.take(index, arrival.fault, arrived, now),
                Ok(None) => return count > 0,
                Err(change) => {
                    self.tell(index, change);
                    return count > 0;
                }
            }
        }
        true
    }

    /// Judges what is in the buffer.
    fn take(&mut self, index: usize, fault: Option<DropReason>, arrived: Duration, now: Duration) {
        let opened = match fault {
            None => self.channel.open(&self.buffer, now),
            Some(reason) => Err(reason.into()),
        };
        let statistics = self.slots[index].statistics();
        match opened {
            Ok(heartbeat) => {
                statistics.received.fetch_add(1, Ordering::Relaxed);
                statistics.note_heard(heartbeat.from, arrived);
                self.driver.heartbeat(heartbeat, path_id(index), Times { arrived, now });
            }
            Err(dropped) => {
                if let Some(node) = dropped.heard_from() {
                    statistics.note_heard(node, arrived);
                }
                if let Some(node) = dropped.claims_to_be {
                    statistics.note_refused(node);
                }
                let (reason, count) = (dropped.reason, statistics.count_dropped(dropped.reason));
                if !reason.is_normal() && is_power_of_ten(count) {
                    (self.report)(Report::Dropped { path: path_id(index), reason, count });
                }
            }
        }
    }

    fn tell(&mut self, index: usize, change: Option<Change>) {
        if let Some(change) = change {
            (self.report)(Report::Path { path: path_id(index), change });
        }
    }
}

fn numbered(slots: &mut [Slot]) -> impl Iterator<Item = (PathId, &mut Slot)> {
    slots.iter_mut().enumerate().map(|(index, slot)| (path_id(index), slot))
}

/// Nobody has more than 256 paths; the configuration sees to that.
fn path_id(index: usize) -> PathId {
    PathId(u8::try_from(index).unwrap_or(u8::MAX))
}

fn is_power_of_ten(count: u64) -> bool {
    count > 0 && 10_u64.pow(count.ilog10()) == count
}

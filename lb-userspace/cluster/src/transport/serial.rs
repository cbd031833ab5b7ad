//! Heartbeats over a serial line: a null-modem cable between two nodes, independent of every
//! network.
//!
//! Three wires are enough: no modem or flow control lines are looked at, so an unplugged cable or a
//! peer that is off holds nothing up. A line carries `baud / 10` bytes a second (eight data bits, a
//! start and a stop bit): at 19,200 baud an ordinary heartbeat takes 44 ms. More is never written
//! than the line has carried by then; of the messages that come meanwhile the newest waits, the
//! others are dropped. So what arrives is fresh.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::termios::{
    ControlModes, InputModes, OptionalActions, QueueSelector, SpecialCodeIndex, ioctl_tiocexcl, isatty,
    tcflush, tcgetattr, tcsetattr,
};

use super::framing::{Collector, Found, frame};
use super::{Arrival, Open, Path, context};
use crate::reason::DropReason;
use crate::wire;

#[cfg(test)]
mod tests;

/// A line that has not taken a frame this long after it should have is stalled.
const STALLED: Duration = Duration::from_millis(200);
/// How long to wait before the next try at a line that takes nothing at the moment.
const RETRY: Duration = Duration::from_millis(5);
/// A chip's divider misses a rate by a little; by more than 3 % the bits are no longer told apart.
const RATE_TOLERANCE: f64 = 0.03;

mod ioctl {
    nix::ioctl_read_bad!(unsent, libc::TIOCOUTQ, libc::c_int);
}

/// Which line, and how fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Serial {
    pub device: PathBuf,
    /// Any rate that the hardware does, the same on both ends.
    pub baud: u32,
}

impl Open for Serial {
    fn open(&self) -> io::Result<Box<dyn Path>> {
        let file = self.file().map_err(context(self.device.display()))?;
        Ok(Box::new(SerialPath::new(file, self.baud)))
    }
}

impl Serial {
    fn file(&self) -> io::Result<File> {
        let wrong = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if self.baud == 0 {
            return wrong("a line of 0 baud carries nothing".into());
        }
        // Without O_NONBLOCK the open waits for a modem's carrier.
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        let file = File::options().read(true).write(true).custom_flags(flags).open(&self.device)?;
        if !isatty(&file) {
            return wrong("not a serial line".into());
        }
        ioctl_tiocexcl(&file)?;
        let actual = set_up(&file, self.baud)?;
        if (f64::from(actual) / f64::from(self.baud) - 1.0).abs() > RATE_TOLERANCE {
            return wrong(format!("it does not do {} baud, the nearest is {actual}", self.baud));
        }
        // What lies there is from before our time.
        tcflush(&file, QueueSelector::IOFlush)?;
        Ok(file)
    }
}

/// Raw, eight data bits, no parity, one stop bit, no flow control of any kind. Returns the rate
/// that was set.
fn set_up(file: &File, baud: u32) -> io::Result<u32> {
    let mut settings = tcgetattr(file)?;
    settings.make_raw();
    settings.control_modes -= ControlModes::CSTOPB | ControlModes::CRTSCTS | ControlModes::HUPCL;
    settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    settings.input_modes -= InputModes::IXOFF | InputModes::IXANY | InputModes::INPCK;
    // A read of nothing is EAGAIN, so that 0 bytes mean the end.
    settings.special_codes[SpecialCodeIndex::VMIN] = 1;
    settings.special_codes[SpecialCodeIndex::VTIME] = 0;
    settings.set_speed(baud)?;
    tcsetattr(file, OptionalActions::Now, &settings)?;
    Ok(tcgetattr(file)?.output_speed())
}

struct SerialPath {
    file: File,
    baud: u32,
    input: Vec<u8>,
    /// How much of `input` has been looked at.
    looked_at: usize,
    collector: Collector,
    /// The frame that is being written, and the rest of it.
    writing: Option<Writing>,
    /// The newest frame that the line was not free for.
    waiting: Option<Vec<u8>>,
    /// When the line will have carried all that was written.
    free_at: Duration,
    retry_at: Option<Duration>,
}

struct Writing {
    frame: Vec<u8>,
    written: usize,
    since: Duration,
}

impl SerialPath {
    fn new(file: File, baud: u32) -> Self {
        Self {
            file,
            baud,
            input: Vec::new(),
            looked_at: 0,
            collector: Collector::default(),
            writing: None,
            waiting: None,
            free_at: Duration::ZERO,
            retry_at: None,
        }
    }

    /// Writes what the line is free for.
    fn push(&mut self, now: Duration) -> io::Result<()> {
        self.retry_at = None;
        if self.writing.is_none() && !self.start_next(now)? {
            return Ok(());
        }
        let Some(writing) = &mut self.writing else {
            return Ok(());
        };
        match self.file.write(&writing.frame[writing.written..]) {
            Ok(length) => {
                writing.written += length;
                self.free_at = self.free_at.max(now) + line_time(length, self.baud);
            }
            Err(error) if would_block(&error) => {}
            Err(error) => {
                self.writing = None;
                return Err(error);
            }
        }
        if writing.written == writing.frame.len() {
            self.writing = None;
            return Ok(());
        }
        let patience = STALLED + line_time(writing.frame.len(), self.baud);
        let stalled = now.saturating_sub(writing.since) > patience;
        self.retry_at = Some(now + RETRY);
        self.give_up_if(stalled)
    }

    /// Makes the waiting frame the one that is written, if there is one and the line is free.
    fn start_next(&mut self, now: Duration) -> io::Result<bool> {
        if self.waiting.is_none() || now < self.free_at {
            return Ok(false);
        }
        if self.unsent() > 0 {
            self.retry_at = Some(now + RETRY);
            self.give_up_if(now > self.free_at + STALLED)?;
            return Ok(false);
        }
        self.writing = self.waiting.take().map(|frame| Writing { frame, written: 0, since: now });
        Ok(self.writing.is_some())
    }

    /// Bytes that the kernel has not passed to the line; 0 if the driver does not say.
    fn unsent(&self) -> libc::c_int {
        let mut unsent = 0;
        // SAFETY: TIOCOUTQ writes one int, to a live variable of that type, and the descriptor is
        // open.
        match unsafe { ioctl::unsent(self.file.as_raw_fd(), &raw mut unsent) } {
            Ok(_) => unsent,
            Err(_) => 0,
        }
    }

    /// Throws away what a stalled line has not carried, so that it begins with fresh messages
    /// later.
    fn give_up_if(&mut self, stalled: bool) -> io::Result<()> {
        if !stalled {
            return Ok(());
        }
        self.writing = None;
        tcflush(&self.file, QueueSelector::OFlush)?;
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the line takes nothing; is its adapter working, and flow control off?",
        ))
    }

    /// Looks on in the bytes that have been read.
    fn look(&mut self, buffer: &mut Vec<u8>) -> Option<Arrival> {
        while let Some(&byte) = self.input.get(self.looked_at) {
            self.looked_at += 1;
            if let Some(found) = self.collector.take(byte, buffer) {
                let fault = (found == Found::Noise).then_some(DropReason::BadFrame);
                return Some(Arrival { age: Duration::ZERO, fault });
            }
        }
        None
    }
}

/// Whether a heartbeat leaves the line free soon enough for the next one. One that carries many
/// standing orders may not; others carry one at a time.
fn fits(message: &[u8], baud: u32) -> bool {
    // An ordinary heartbeat of two nodes, and what the line carries in another 50 ms.
    let most = 96 + baud as usize / 200;
    !wire::has_orders(message) || message.len() <= most
}

fn line_time(bytes: usize, baud: u32) -> Duration {
    Duration::from_secs_f64(bytes as f64 * 10.0 / f64::from(baud))
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Path for SerialPath {
    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn send(&mut self, message: &[u8], now: Duration) -> io::Result<()> {
        if !fits(message, self.baud) {
            return Ok(());
        }
        self.waiting = Some(frame(message));
        self.push(now)
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Arrival>> {
        if let Some(arrival) = self.look(buffer) {
            return Ok(Some(arrival));
        }
        self.input.resize(4096, 0);
        self.looked_at = 0;
        let length = match self.file.read(&mut self.input) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the line has gone")),
            Err(error) if would_block(&error) => Ok(0),
            other => other,
        };
        self.input.truncate(*length.as_ref().unwrap_or(&0));
        length?;
        Ok(self.look(buffer))
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.retry_at.or_else(|| self.waiting.is_some().then_some(self.free_at))
    }

    fn timer(&mut self, now: Duration) -> io::Result<()> {
        match self.next_timeout() {
            Some(due) if due <= now => self.push(now),
            _ => Ok(()),
        }
    }
}

/// A close waits until the line has carried everything, up to 30 s; unless there is nothing left to
/// carry.
impl Drop for SerialPath {
    fn drop(&mut self) {
        let _ = tcflush(&self.file, QueueSelector::OFlush);
    }
}

//! `lb trace`: what the program tells of single packets, on its way to whoever asked; `lb capture`:
//! the same with their frames.
//!
//! While somebody traces, a program is attached in the entry's place that leaves no packet to the
//! fast way. The program tells packets until a time that is renewed here, so a trace ends with this
//! process however that ends, and the next `lb` attaches its own entry.
//!
//! - [`filter`]: which packets are asked for; [`names`]: numbers and addresses by their names

mod filter;
pub(super) mod names;

use std::time::{Duration, Instant, SystemTime};

use lb_api::client::Traced;
use lb_api::trace::{Bounds, Direction, End, Filter, Frame, Packet};
use lb_common::program::capture::{self, MOST};
use lb_common::program::trace::Settings;
use lb_common::shared::Shared;
use lb_datapath::object;
use lb_datapath::trace::{Captured, Counted, Trace};
use lb_system::clock::now_ns;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use self::filter::Asked;
use self::names::Names;
use super::Controller;
use crate::observe::requests;

/// How often the controller looks for packets: nobody wakes it, which would cost packets.
pub(super) const LOOK: Duration = Duration::from_millis(25);
/// At most so many packets each time: the controller has other work. What waits meanwhile has room
/// in the ring buffer, or is counted as lost.
const AT_ONCE: usize = 250;
/// Batches that may wait for a slow reader.
const WAITING: usize = 16;
/// How often the program is asked anew, and the reader hears that the trace goes on.
const RENEW: Duration = Duration::from_secs(1);
/// For how long it is asked each time.
const ASKED: Duration = Duration::from_secs(3);

/// One trace at a time.
#[derive(Default)]
pub(super) struct Tracer(Option<Session>);

struct Session {
    asked: Asked,
    bounds: Bounds,
    names: Names,
    reader: mpsc::Sender<Traced>,
    /// The reader has had enough once this is no longer empty.
    enough: oneshot::Receiver<()>,
    began: Instant,
    /// On CLOCK_MONOTONIC; what is older is of an earlier trace.
    began_ns: u64,
    clock: Clock,
    renewed: Instant,
    counted_before: Counted,
    told: u64,
    /// Packets that the reader was too slow for.
    unsent: u64,
}

/// From CLOCK_MONOTONIC to the time of day.
#[derive(Debug, Clone, Copy)]
struct Clock {
    zero: SystemTime,
}

impl Clock {
    fn now() -> Self {
        Self { zero: SystemTime::now() - Duration::from_nanos(now_ns()) }
    }

    /// Nanoseconds since 1970.
    fn since_epoch(self, ns: u64) -> u64 {
        let time = (self.zero + Duration::from_nanos(ns)).duration_since(SystemTime::UNIX_EPOCH);
        time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    fn rfc3339(self, ns: u64) -> String {
        humantime::format_rfc3339_micros(self.zero + Duration::from_nanos(ns)).to_string()
    }
}

/// Why a trace ends.
enum Over {
    /// Enough packets, time, or no reader any more.
    Agreed,
    /// The director stops.
    Stopping,
}

impl Session {
    /// Whether the trace has reached its bounds by `now`, or its reader has had enough.
    fn is_over(&mut self, now: Instant) -> bool {
        self.reader.is_closed()
            || self.enough.try_recv() != Err(oneshot::error::TryRecvError::Empty)
            || now - self.began >= Duration::from_secs(self.bounds.seconds)
            || self.left() == 0
    }

    /// Packets until the trace has told all that it was asked to.
    fn left(&self) -> usize {
        let left = self.bounds.count.map_or(u64::MAX, |count| count.saturating_sub(self.told));
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// `count`: packets in it.
    fn send(&mut self, traced: Traced, count: u64) {
        match self.reader.try_send(traced) {
            Ok(()) => self.told += count,
            Err(TrySendError::Full(_)) => self.unsent += count,
            Err(TrySendError::Closed(_)) => {}
        }
    }

    /// What has come since the last time.
    fn packets(&self, trace: &mut Trace) -> Vec<Packet> {
        let mut packets = Vec::new();
        while packets.len() < AT_ONCE.min(self.left()) {
            let Some(event) = trace.take() else { break };
            if event.time_ns >= self.began_ns {
                let time = self.clock.rfc3339(event.time_ns);
                packets.extend(self.names.packet(&event, time));
            }
        }
        packets
    }

    /// The same of a capture, and of how many packets the frames are: a packet that came in and
    /// goes out has two.
    fn frames(&self, trace: &mut Trace) -> (Vec<Frame>, u64) {
        let (mut frames, mut packets) = (Vec::new(), 0);
        // Those beyond the bounds, by their time.
        let mut beyond = Vec::new();
        while frames.len() < AT_ONCE * 2 {
            let Some(Captured { head, bytes }) = trace.take_captured() else { break };
            let event = &head.event;
            let packet = self.names.packet(event, self.clock.rfc3339(event.time_ns));
            let (Some(direction), Some(packet)) = (head.direction(), packet) else { continue };
            let direction = match direction {
                capture::Direction::In => Direction::In,
                capture::Direction::Out => Direction::Out,
            };
            match direction {
                _ if event.time_ns < self.began_ns => continue,
                Direction::In if packets == self.left() as u64 => {
                    beyond.push(event.time_ns);
                    continue;
                }
                Direction::In => packets += 1,
                Direction::Out if beyond.contains(&event.time_ns) => continue,
                Direction::Out => {}
            }
            let (time_ns, bytes) = (self.clock.since_epoch(head.time_ns), Frame::digits(&bytes));
            frames.push(Frame { direction, time_ns, length: head.length, bytes, packet });
        }
        (frames, packets)
    }
}

impl Tracer {
    pub(super) const fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

impl Controller {
    /// The answer is where packets will come, or why not.
    pub(super) fn begin_trace(&mut self, filter: &Filter, bounds: Bounds) -> Result<requests::Trace, String> {
        if self.lifecycle.is_leaving() {
            return Err("this director is stopping".to_owned());
        }
        if self.viewers.tracer.is_on() {
            return Err("somebody traces already, and there is one trace or capture at a time: end that \
                        `lb trace` or `lb capture`, or wait for its end"
                .to_owned());
        }
        let services = self.config.services.iter().chain(self.runtime.draining.services());
        let asked = Asked::new(filter, bounds.sample, &Vec::from_iter(services))?;
        self.program.exchange_entry(object::TRACE_PROGRAM).map_err(|error| format!("{error:#}"))?;
        let (reader, packets) = mpsc::channel(WAITING);
        let (stop, enough) = oneshot::channel();
        let now = Instant::now();
        self.viewers.tracer.0 = Some(Session {
            asked,
            bounds,
            names: Names::default(),
            reader,
            enough,
            began: now,
            began_ns: now_ns(),
            clock: Clock::now(),
            renewed: now,
            counted_before: self.program.forwarder.trace().counted().unwrap_or_default(),
            told: 0,
            unsent: 0,
        });
        self.renew_trace(now);
        // The first word of it is that it has begun.
        self.send_traced(true);
        Ok(requests::Trace { packets, stop })
    }

    /// Sends the reader what has come since, and ends the trace if it is over.
    pub(super) fn poll_trace(&mut self) {
        let now = Instant::now();
        if self.viewers.tracer.0.as_ref().is_some_and(|session| now - session.renewed >= RENEW) {
            self.renew_trace(now);
            self.send_traced(true);
        } else {
            self.send_traced(false);
        }
        if self.viewers.tracer.0.as_mut().is_some_and(|session| session.is_over(now)) {
            self.finish_trace(&Over::Agreed);
        }
    }

    /// The director stops: its program must not go on telling.
    pub(super) fn end_trace(&mut self) {
        self.finish_trace(&Over::Stopping);
    }

    fn renew_trace(&mut self, now: Instant) {
        let Self { viewers, program, config, runtime, .. } = self;
        let Some(session) = &mut viewers.tracer.0 else { return };
        session.names = Names::of(config, &runtime.draining, &program.forwarder);
        let numbers = |server: &str| session.names.numbers(server);
        let snaplen = session.bounds.snaplen.map_or(0, |bytes| u64::from(bytes).clamp(1, MOST as u64));
        let settings = session.asked.settings(numbers);
        program.forwarder.trace().ask(Settings { snaplen: Shared::new(snaplen), ..settings }, ASKED);
        session.renewed = now;
    }

    /// `anyway`: even if there is nothing.
    fn send_traced(&mut self, anyway: bool) {
        let Self { viewers, program, .. } = self;
        let Some(session) = &mut viewers.tracer.0 else { return };
        let trace = program.forwarder.trace();
        if session.bounds.snaplen.is_some() {
            let (frames, count) = session.frames(trace);
            if anyway || !frames.is_empty() {
                session.send(Traced::Frames(frames), count);
            }
            return;
        }
        let packets = session.packets(trace);
        if anyway || !packets.is_empty() {
            let count = packets.len() as u64;
            session.send(Traced::Packets(packets), count);
        }
    }

    fn finish_trace(&mut self, over: &Over) {
        let Some(session) = self.viewers.tracer.0.take() else { return };
        let trace = self.program.forwarder.trace();
        trace.end();
        let counted = trace.counted().unwrap_or_default();
        if let Err(error) = self.program.exchange_entry(object::PROGRAM) {
            // It takes the fast way, too, when nobody traces.
            self.program.forwarder.note_failure(&error);
        }
        let end = End {
            told: session.told,
            matched: counted.matched.saturating_sub(session.counted_before.matched),
            lost: counted.lost.saturating_sub(session.counted_before.lost) + session.unsent,
            error: match over {
                Over::Agreed => None,
                Over::Stopping => Some("the director stops".to_owned()),
            },
        };
        let reader = session.reader;
        if let Err(TrySendError::Full(end)) = reader.try_send(Traced::End(end)) {
            // One that is slow takes its time.
            tokio::spawn(async move { reader.send(end).await });
        }
    }
}

//! A probe in flight: its target, time limit and completed steps.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lb_model::{Check, ServiceKey};
use lb_model::{ProbeStep, millis};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::{Failure, agent};
use crate::net::{Datagrams, Net, Stream};

/// The deadline of a probe, and the time limit from its start for messages.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    at: Instant,
    whole: Duration,
}

impl Limit {
    pub fn new(whole: Duration) -> Self {
        Self { at: Instant::now() + whole, whole }
    }

    pub fn whole(self) -> Duration {
        self.whole
    }

    /// When half of the time has passed.
    pub fn halfway(self) -> Instant {
        self.at - self.whole / 2
    }

    /// When one third and two thirds of the time have passed.
    pub fn thirds(self) -> [Instant; 2] {
        let third = self.whole / 3;
        [self.at - third * 2, self.at - third]
    }

    /// The remaining time.
    pub fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Waits for `future` until the deadline; then returns the failure that `late` makes.
    pub async fn wait<T>(
        self,
        future: impl Future<Output = T>,
        late: impl FnOnce(Duration) -> Failure,
    ) -> Result<T, Failure> {
        tokio::time::timeout_at(self.at, future).await.map_err(|_| late(self.whole))
    }
}

/// The subject of a probe: a server of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    pub service: ServiceKey,
    pub server: IpAddr,
    /// The server's port, host byte order.
    pub port: u16,
}

/// What a successful probe returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The weight that the server or check program advises.
    pub advice: Option<Advice>,
    /// The result is that of an earlier answer: the agent did not answer now.
    pub stale: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Replaces the configured weight.
    Weight(u16),
    /// A percentage of the configured weight; it may exceed 100.
    Percent(u16),
}

/// The report of a completed probe.
#[derive(Debug)]
pub struct Report {
    pub took: Duration,
    pub steps: Vec<ProbeStep>,
    /// Something that is not a failure yet, such as a certificate that expires soon.
    pub warning: Option<String>,
    pub result: Result<Answer, Failure>,
}

impl Report {
    /// Prefixes a failure with the completed steps: `connected after 0.4 ms, then status 500,
    /// expected 200-299`.
    pub fn explain(&self, failure: &str) -> String {
        let mut text = String::new();
        for ProbeStep { after_us, what } in &self.steps {
            let _ = write!(text, "{what} after {}, ", millis(*after_us));
        }
        if text.is_empty() { failure.to_owned() } else { format!("{text}then {failure}") }
    }
}

pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A probe in flight.
#[derive(Debug)]
pub struct Attempt<'a> {
    pub check: &'a Check,
    pub subject: Subject,
    pub limit: Limit,
    /// The state of the server's agent after earlier probes.
    pub agent: agent::Memory,
    net: &'a Net,
    begin: Instant,
    progress: Mutex<Progress>,
    received: Received,
}

/// Whether the server has sent anything through the VIP. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Received(Arc<AtomicBool>);

impl Received {
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Progress {
    steps: Vec<ProbeStep>,
    warning: Option<String>,
}

impl<'a> Attempt<'a> {
    pub fn new(check: &'a Check, subject: Subject, net: &'a Net) -> Self {
        let (limit, begin) = (Limit::new(check.timeout), Instant::now());
        let (agent, progress, received) = Default::default();
        Self { check, subject, limit, agent, net, begin, progress, received }
    }

    /// Sets the state of the server's agent.
    pub fn remembering(self, agent: agent::Memory) -> Self {
        Self { agent, ..self }
    }

    /// Another attempt with the same subject, whose steps are not recorded.
    pub fn beside<'b>(&'b self, check: &'b Check) -> Attempt<'b> {
        Attempt::new(check, self.subject, self.net)
    }

    /// The target address: the server's own address or the VIP, and the port of the check.
    pub fn target(&self) -> SocketAddr {
        let Subject { service, server, port } = self.subject;
        self.check.target(service.vip, server, port)
    }

    /// Connects to the target, with TLS if configured.
    pub async fn connect(&self) -> Result<Stream, Failure> {
        let stream = self.net.connect(self).await?;
        self.step("connected");
        match &self.check.tls {
            Some(tls) => self.net.secure(self, tls, stream).await,
            None => Ok(stream),
        }
    }

    /// Opens a UDP socket connected to the target.
    pub async fn datagrams(&self) -> Result<Datagrams, Failure> {
        self.net.datagrams(self).await
    }

    pub fn received(&self) -> Received {
        self.received.clone()
    }

    pub fn has_received(&self) -> bool {
        self.received.0.load(Ordering::Relaxed)
    }

    /// Waits for the target host's ICMP echo reply.
    pub async fn echo(&self) -> Result<(), Failure> {
        self.net.echo(self).await
    }

    /// Sends all of `bytes`; `expected` names the server's answer to them in messages.
    pub async fn send(
        &self,
        stream: &mut Stream,
        bytes: &[u8],
        expected: &'static str,
    ) -> Result<(), Failure> {
        let sending = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        self.in_time(sending, expected).await
    }

    /// Receives the next bytes into `buffer`; 0 at the end of the stream.
    pub async fn receive(
        &self,
        stream: &mut Stream,
        buffer: &mut [u8],
        expected: &'static str,
    ) -> Result<usize, Failure> {
        self.in_time(stream.read(buffer), expected).await
    }

    /// Awaits `work` until the deadline; `expected` names its result in messages.
    pub async fn in_time<T>(
        &self,
        work: impl Future<Output = io::Result<T>>,
        expected: &'static str,
    ) -> Result<T, Failure> {
        let done = self.limit.wait(work, |within| Failure::Late { expected, within }).await?;
        done.map_err(|error| Failure::from_stream(&error, expected))
    }

    /// Records a completed step.
    pub fn step(&self, what: impl Into<Cow<'static, str>>) {
        let after_us = micros(self.begin.elapsed());
        self.progress().steps.push(ProbeStep { after_us, what: what.into() });
    }

    /// Records a warning.
    pub fn warn(&self, warning: String) {
        self.progress().warning = Some(warning);
    }

    pub fn report(self, result: Result<Answer, Failure>) -> Report {
        let Progress { steps, warning } = self.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        Report { took: self.begin.elapsed(), steps, warning, result }
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

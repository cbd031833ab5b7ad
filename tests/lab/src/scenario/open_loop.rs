//! An open-loop client with a request every millisecond, and the outage that it measured.
//!
//! Open loop: each request starts when it is due, even if earlier ones are still waiting. So
//! hanging requests do not hide an outage, as they do with a client that waits for its answers
//! (coordinated omission).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::setpriority_process;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::traffic::Answer;
use crate::cluster::VIP;
use crate::lab::Node;

/// Interval of the requests.
pub const SPACING: Duration = Duration::from_millis(1);

/// Time limit of a request. A lost SYN is retransmitted after 1 s, so a request may survive one.
pub const TIME_LIMIT: Duration = Duration::from_secs(3);

/// An answer later than this was delayed. The limit is well above a busy machine's delays, and well
/// below the second after which a lost SYN is retransmitted.
pub const PROMPT: Duration = Duration::from_millis(200);

/// Undisturbed requests before the action of [`Outage::during`], and requests after it, in which a
/// late gap shows.
const BEFORE: Duration = Duration::from_millis(300);
const AFTER: Duration = Duration::from_millis(700);

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// One of the expected pages, complete.
    Page(Answer),
    /// Another answer.
    WrongPage,
    Refused,
    /// The connection broke.
    Reset,
    /// No ARP answer for the VIP.
    Unreachable,
    /// No answer within [`TIME_LIMIT`].
    TimedOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Page(answer) => answer.name(),
            Self::WrongPage => "a wrong page",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed out",
        })
    }
}

/// A GET over a new connection.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub started: Instant,
    pub took: Duration,
    pub outcome: Outcome,
}

impl Request {
    fn succeeded(&self) -> bool {
        matches!(self.outcome, Outcome::Page(_))
    }

    fn prompt(&self) -> bool {
        self.succeeded() && self.took < PROMPT
    }
}

/// Requests in the background, one every [`SPACING`], until [`OpenLoop::finish`].
#[derive(Debug)]
pub struct OpenLoop {
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<Result<Vec<Request>>>>,
}

impl OpenLoop {
    /// Starts the requests on `client`; pages of servers not in `expected` are wrong.
    pub fn start(client: &Node, expected: &'static [Answer]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let worker = {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            thread::spawn(move || client.run(|| drive(expected, &stop))?)
        };
        Self { stop, worker: Some(worker) }
    }

    /// Starts no further requests, waits for those in flight and returns all, in the order of their
    /// starts.
    pub fn finish(mut self) -> Result<Vec<Request>> {
        self.stop.store(true, Ordering::Relaxed);
        let worker = self.worker.take().context("the requests have been finished before")?;
        worker.join().ok().context("the requests broke off")?
    }
}

impl Drop for OpenLoop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn drive(expected: &'static [Answer], stop: &AtomicBool) -> Result<Vec<Request>> {
    allow_open_files()?;
    // The client simulates a separate machine, which this machine's load would not delay. 0 is this
    // thread, -20 the highest nice value.
    setpriority_process(None, -20).context("cannot raise the client's priority")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut requests = runtime.block_on(async {
        let mut under_way = JoinSet::new();
        // On a busy machine missed ticks are caught up at once.
        let mut ticks = interval(SPACING);
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            under_way.spawn(request(expected));
        }
        under_way.join_all().await.into_iter().collect::<Result<Vec<_>>>()
    })?;
    requests.sort_by_key(|request| request.started);
    Ok(requests)
}

/// Raises the limit of descriptors: in an outage all requests of [`TIME_LIMIT`] are open.
fn allow_open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")?;
    let needed = TIME_LIMIT.as_millis() / SPACING.as_millis() + 1000;
    ensure!(u128::from(hard) >= needed, "the hard limit of open files is {hard}; {needed} are needed");
    Ok(())
}

async fn request(expected: &[Answer]) -> Result<Request> {
    let started = Instant::now();
    let outcome = match timeout(TIME_LIMIT, fetch()).await {
        Ok(Ok(answer)) => outcome_of_answer(&answer, expected),
        Ok(Err(error)) => outcome_of_error(error)?,
        Err(_) => Outcome::TimedOut,
    };
    Ok(Request { started, took: started.elapsed(), outcome })
}

/// Reads the answer to its end; with HTTP/1.0 the server closes first.
async fn fetch() -> io::Result<String> {
    let mut stream = TcpStream::connect((VIP, 80)).await?;
    // Close by a reset, so that no connection stays in TIME_WAIT: at this rate that would use up
    // all ports.
    stream.set_zero_linger()?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn outcome_of_answer(answer: &str, expected: &[Answer]) -> Outcome {
    let page = answer.split_once("\r\n\r\n").map_or("", |(_, page)| page);
    let answer = Answer::of_page(page);
    if expected.contains(&answer) { Outcome::Page(answer) } else { Outcome::WrongPage }
}

/// Panics for a local error of the client, such as too many open files, which is not the cluster's.
fn outcome_of_error(error: io::Error) -> Result<Outcome> {
    use io::ErrorKind;
    Ok(match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected => Outcome::Reset,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Outcome::Unreachable,
        ErrorKind::TimedOut => Outcome::TimedOut,
        _ => bail!(anyhow::Error::new(error).context("the client cannot send its requests")),
    })
}

/// An outage as seen by an open-loop client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// The longest time between the starts of two consecutive promptly answered requests (within
    /// [`PROMPT`]), less the usual [`SPACING`]. The times before the first and after the last such
    /// request count, too.
    pub gap: Duration,
    /// The longest time in which the busy machine prevented the client from starting a request,
    /// less the spacing. The measured gap may be longer than the real one by this time.
    pub stall: Duration,
    /// Number of requests by result.
    pub outcomes: BTreeMap<Outcome, usize>,
}

impl Outage {
    /// Runs `act` while `client` sends requests, which it also does some time before and after.
    pub fn during(
        client: &Node,
        expected: &'static [Answer],
        act: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let requests = OpenLoop::start(client, expected);
        thread::sleep(BEFORE);
        act()?;
        thread::sleep(AFTER);
        Ok(Self::seen_by(&requests.finish()?))
    }

    /// Evaluates all requests of an [`OpenLoop`], in order.
    pub fn seen_by(requests: &[Request]) -> Self {
        let ends = || [requests.first(), requests.last()].into_iter().flatten();
        let prompt = requests.iter().filter(|request| request.prompt());
        let mut starts: Vec<Instant> = prompt.chain(ends()).map(|request| request.started).collect();
        starts.sort_unstable();
        let gap = longest_step(starts.into_iter());
        let stall = longest_step(requests.iter().map(|request| request.started));
        let mut outcomes = BTreeMap::new();
        for request in requests {
            *outcomes.entry(request.outcome).or_default() += 1;
        }
        Self { gap, stall, outcomes }
    }

    /// Number of requests without one of the expected pages.
    pub fn failed(&self) -> usize {
        let failed = self.outcomes.iter().filter(|(outcome, _)| !matches!(outcome, Outcome::Page(_)));
        failed.map(|(_, count)| count).sum()
    }

    pub fn requests(&self) -> usize {
        self.outcomes.values().sum()
    }

    pub fn gap_ms(&self) -> f64 {
        self.gap.as_secs_f64() * 1e3
    }
}

/// `gap 183 ms, 2 of 2412 requests failed (reset 2)`.
impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gap {:.0} ms, {} of {} requests failed", self.gap_ms(), self.failed(), self.requests())?;
        let failures: Vec<_> = self
            .outcomes
            .iter()
            .filter(|(outcome, _)| !matches!(outcome, Outcome::Page(_)))
            .map(|(outcome, count)| format!("{outcome} {count}"))
            .collect();
        if failures.is_empty() { Ok(()) } else { write!(f, " ({})", failures.join(", ")) }
    }
}

/// The longest gap, less the spacing; `starts` are sorted.
fn longest_step(starts: impl Iterator<Item = Instant>) -> Duration {
    let mut longest = Duration::ZERO;
    let mut before = None;
    for start in starts {
        if let Some(before) = before {
            longest = longest.max(start - before);
        }
        before = Some(start);
    }
    longest.saturating_sub(SPACING)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Outcome = Outcome::Page(Answer::Www1);
    const AT_ONCE: u64 = 1;

    /// Requests as (start in ms, duration in ms, outcome).
    fn seen(requests: &[(u64, u64, Outcome)]) -> Outage {
        let origin = Instant::now();
        let requests: Vec<_> = requests
            .iter()
            .map(|&(start, took, outcome)| Request {
                started: origin + Duration::from_millis(start),
                took: Duration::from_millis(took),
                outcome,
            })
            .collect();
        Outage::seen_by(&requests)
    }

    fn gap_ms(outage: &Outage) -> u128 {
        outage.gap.as_millis()
    }

    #[test]
    fn without_an_outage_there_is_no_gap() {
        let outage = seen(&[(0, AT_ONCE, PAGE), (1, AT_ONCE, PAGE), (2, AT_ONCE, PAGE)]);
        assert_eq!((gap_ms(&outage), outage.failed(), outage.requests()), (0, 0, 3));
    }

    #[test]
    fn held_up_and_failed_requests_are_in_the_gap() {
        let outage = seen(&[
            (0, AT_ONCE, PAGE),
            (1, 1004, PAGE), // its SYN was retransmitted
            (2, 3000, Outcome::TimedOut),
            (3, AT_ONCE, Outcome::Refused),
            (4, AT_ONCE, PAGE),
        ]);
        assert_eq!((gap_ms(&outage), outage.failed()), (3, 2));
        assert_eq!(outage.to_string(), "gap 3 ms, 2 of 5 requests failed (refused 1, timed out 1)");
    }

    #[test]
    fn an_outage_that_does_not_end_counts_to_the_last_request() {
        let outage = seen(&[(0, AT_ONCE, PAGE), (1, 3000, Outcome::TimedOut), (9, 3000, Outcome::TimedOut)]);
        assert_eq!(gap_ms(&outage), 8);
        let never = seen(&[(0, 3000, Outcome::TimedOut), (5, 3000, Outcome::TimedOut)]);
        assert_eq!(gap_ms(&never), 4);
        assert_eq!(Outage::seen_by(&[]).gap, Duration::ZERO);
    }

    #[test]
    fn a_client_that_stood_still_is_told_from_an_outage() {
        let outage = seen(&[(0, AT_ONCE, PAGE), (50, AT_ONCE, PAGE), (51, AT_ONCE, PAGE)]);
        assert_eq!(outage.stall.as_millis(), 49);
    }
}

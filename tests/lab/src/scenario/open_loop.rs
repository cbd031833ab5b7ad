//! A client that asks every millisecond, and the outage that it saw.
//!
//! The loop is open: each request starts when it is its turn, whatever has become of those before it. So nothing is
//! missed while requests hang, as it would be by a client that waits for its answers.

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

/// From the start of one request to the start of the next.
pub const SPACING: Duration = Duration::from_millis(1);

/// A request that takes longer has failed. A SYN that is lost is sent again after 1 s, so one may be.
pub const TIME_LIMIT: Duration = Duration::from_secs(3);

/// An answer later than this was held up. It is well above what a busy machine takes, and well below the second after which
/// a lost SYN is sent again.
pub const PROMPT: Duration = Duration::from_millis(200);

/// Undisturbed requests around what [`Outage::during`] watches. Afterwards time for a gap that begins late to show itself.
const BEFORE: Duration = Duration::from_millis(300);
const AFTER: Duration = Duration::from_millis(700);

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// One of the expected pages, whole.
    Page(Answer),
    /// Something else.
    WrongPage,
    Refused,
    /// The connection was broken off.
    Reset,
    /// No host answers for the VIP.
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

/// One connection with one GET.
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
    /// Starts it on `client`; pages of any but `expected` are wrong.
    pub fn start(client: &Node, expected: &'static [Answer]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let worker = {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            thread::spawn(move || client.run(|| drive(expected, &stop))?)
        };
        Self { stop, worker: Some(worker) }
    }

    /// Starts no further request, waits for those under way and returns all, in the order of their starts.
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
    // The client stands for a machine of its own, which whatever keeps this one busy would not hold up. Zero is this
    // thread, -20 the highest of the ordinary priorities.
    setpriority_process(None, -20).context("cannot raise the client's priority")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut requests = runtime.block_on(async {
        let mut under_way = JoinSet::new();
        // Ticks that a busy machine has missed are made up for at once.
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

/// As many as the machine lets us have: in an outage every request of [`TIME_LIMIT`] is open.
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

/// The server closes first, as HTTP/1.0 has it.
async fn fetch() -> io::Result<String> {
    let mut stream = TcpStream::connect((VIP, 80)).await?;
    // Closed by a reset, neither end keeps the connection in TIME_WAIT: at this rate that would use up all ports.
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

/// An error that is the client's own trouble, such as too many open files, is none of the cluster's.
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

/// What a client of many requests saw of an interruption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// The longest time between the starts of two consecutive requests that were answered at once (within [`PROMPT`]),
    /// less the [`SPACING`] that is always between two. Time before the first such request and after the last one counts,
    /// too.
    pub gap: Duration,
    /// The longest time in which the client started no request, less the spacing: the machine was too busy for it. A gap
    /// may be longer by as much than it was.
    pub stall: Duration,
    /// How many requests ended how.
    pub outcomes: BTreeMap<Outcome, usize>,
}

impl Outage {
    /// Has `client` ask while `act` is done, and some time before and after it.
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

    /// Of all requests of an [`OpenLoop`], in order.
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

    /// Requests without one of the expected pages.
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

/// Less the spacing; `starts` are in order.
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

    /// Requests given as millisecond of the start, milliseconds taken, outcome.
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
            (1, 1004, PAGE), // its SYN was sent again
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

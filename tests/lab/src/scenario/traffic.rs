//! Requests to the VIP: a few, counted by server, or a steady stream in the background.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::cluster::{FALLBACK_PAGE, HA2_FALLBACK_PAGE, URL, WWW1_PAGE, WWW2_PAGE};
use crate::lab::Node;

/// Interval of the requests of a [`Stream`].
const PACE: Duration = Duration::from_millis(20);

/// The server that answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Www1,
    Www2,
    /// The fallback page of ha1.
    Fallback,
    /// The fallback page of ha2.
    Ha2Fallback,
    /// An answer without one of the cluster's pages.
    Stranger,
    /// No answer.
    None,
}

impl Answer {
    /// The real servers, which answer as long as one of them is healthy.
    pub const SERVERS: &'static [Self] = &[Self::Www1, Self::Www2];

    pub fn name(self) -> &'static str {
        match self {
            Self::Www1 => "www1",
            Self::Www2 => "www2",
            Self::Fallback => "ha1's fallback page",
            Self::Ha2Fallback => "ha2's fallback page",
            Self::Stranger => "an unknown page",
            Self::None => "no answer",
        }
    }

    fn to_request_of(client: &Node) -> Self {
        client.get(URL).map_or(Self::None, |page| Self::of_page(&page))
    }

    /// The server of the page.
    pub fn of_page(page: &str) -> Self {
        match page.trim() {
            WWW1_PAGE => Self::Www1,
            WWW2_PAGE => Self::Www2,
            FALLBACK_PAGE => Self::Fallback,
            HA2_FALLBACK_PAGE => Self::Ha2Fallback,
            _ => Self::Stranger,
        }
    }
}

/// Number of answers by server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread(BTreeMap<Answer, u32>);

impl Spread {
    /// Sends this many requests, one after the other.
    pub fn of_requests(client: &Node, requests: u32) -> Self {
        (0..requests).map(|_| Answer::to_request_of(client)).collect()
    }

    pub fn by(&self, answer: Answer) -> u32 {
        self.0.get(&answer).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u32 {
        self.0.values().sum()
    }
}

impl<'a> FromIterator<&'a Request> for Spread {
    fn from_iter<T: IntoIterator<Item = &'a Request>>(requests: T) -> Self {
        requests.into_iter().map(|request| request.answer).collect()
    }
}

impl FromIterator<Answer> for Spread {
    fn from_iter<T: IntoIterator<Item = Answer>>(answers: T) -> Self {
        let mut spread = Self::default();
        for answer in answers {
            *spread.0.entry(answer).or_default() += 1;
        }
        spread
    }
}

/// `www1 10, www2 10`.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> =
            self.0.iter().map(|(answer, count)| format!("{} {count}", answer.name())).collect();
        f.write_str(&parts.join(", "))
    }
}

/// One request of a [`Stream`].
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub sent: Instant,
    /// When the answer arrived, or the request failed.
    pub done: Instant,
    pub answer: Answer,
}

/// Requests in the background, one every 20 ms, until [`Stream::finish`].
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<Vec<Request>>>,
}

impl Stream {
    pub fn start(client: &Node) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let worker = {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut requests = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    let answer = Answer::to_request_of(&client);
                    requests.push(Request { sent, done: Instant::now(), answer });
                    thread::sleep(PACE.saturating_sub(sent.elapsed()));
                }
                requests
            })
        };
        Self { stop, worker: Some(worker) }
    }

    /// Ends the stream and returns its requests in order.
    pub fn finish(mut self) -> Result<Vec<Request>> {
        self.stop.store(true, Ordering::Relaxed);
        let worker = self.worker.take().context("the stream has been finished before")?;
        worker.join().ok().context("the stream of requests broke off")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

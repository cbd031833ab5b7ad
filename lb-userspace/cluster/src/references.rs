//! Reference hosts, also called ping nodes: machines that everybody can reach whose network works.
//! Of two directors that do not hear each other, the one that reaches fewer of them gives way.
//!
//! Each is asked by an ICMP echo request every half second, all at once. `reach` decides who is
//! reached; the task asks, hears the replies and reports how many there are.

mod reach;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use lb_net::icmp::Echo;
use lb_system::clock::sleep_until;
use tokio::time::{Instant, MissedTickBehavior};

use self::reach::Reach;

/// How often each host is asked.
const INTERVAL: Duration = Duration::from_millis(500);
/// A host that has answered within this time is reached: two answers may be lost.
const FRESH: Duration = Duration::from_millis(1500);

/// Watches reference hosts. Dropping it ends that.
#[derive(Debug)]
pub struct References {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for References {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl References {
    /// Reports how many of `hosts` are reached: first when all have answered, or after half a
    /// second, and then whenever the number changes. `interface` is the index of the one that
    /// link-local addresses are on.
    ///
    /// Needs CAP_NET_RAW, and a tokio runtime around it.
    pub fn start(
        hosts: Vec<IpAddr>,
        interface: u32,
        report: impl Fn(u8) + Send + 'static,
    ) -> io::Result<Self> {
        let echo = Echo::open(&hosts, interface)?;
        let reach = Reach::new(hosts, FRESH);
        Ok(Self { task: tokio::spawn(watch(echo, reach, report)) })
    }
}

async fn watch(echo: Echo, mut reach: Reach, report: impl Fn(u8)) {
    let begin = Instant::now();
    let mut round = tokio::time::interval(INTERVAL);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = None;
    loop {
        let stale = reach.next_timeout();
        // In this order: a reply that is there counts, even if this task was held up and the host
        // has gone stale.
        tokio::select! {
            biased;
            reply = echo.next() => {
                if reach.replied(reply.from, reply.sequence, begin.elapsed()) {
                    tracing::info!("reference host {} answers", reply.from);
                }
            }
            _ = round.tick() => {
                let sequence = reach.begin_round(begin.elapsed());
                for host in reach.hosts() {
                    // One that cannot be sent is one without an answer.
                    if let Err(error) = echo.request(host, sequence).await {
                        tracing::debug!(%error, "cannot ask reference host {host}");
                    }
                }
            }
            () = sleep_until(stale.map(|stale| begin + stale)) => {}
        }
        let now = begin.elapsed();
        for host in reach.expire(now) {
            tracing::warn!("reference host {host} does not answer any more");
        }
        let reached = reach.count();
        let is_news = match reported {
            None => reach.missing().next().is_none() || now >= INTERVAL,
            Some(before) => before != reached,
        };
        if is_news {
            if reported.is_none() {
                reach.missing().for_each(|host| tracing::warn!("reference host {host} does not answer"));
            }
            reported = Some(reached);
            report(reached);
        }
    }
}

//! The last 15 minutes of each service, and the last minute of each server. Time is a parameter.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_api::http::{Point, Share};
use lb_api::status::{ServerStatus, ServiceStatus, Status};

/// From one point to the next.
pub(crate) const STEP: Duration = Duration::from_secs(5);

/// Points of 15 minutes.
pub(crate) const POINTS: usize = 180;

/// Looks at a server's count of connections that a minute takes.
const LOOKS: usize = 13;

/// Services with a history; of more the first ones have one, so that memory stays below 10 MB.
const MOST_SERVICES: usize = 4096;

/// Servers with shares, of all services together.
const MOST_SERVERS: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct History {
    services: HashMap<String, Series>,
    servers: HashMap<(String, SocketAddr), VecDeque<u64>>,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Series {
    points: VecDeque<Point>,
    connections: u64,
    bytes: u64,
}

impl History {
    /// Takes what `status` has into the history, once a step.
    pub(crate) fn take(&mut self, status: &Status, now: Instant) {
        let passed = self.last.map(|last| now.saturating_duration_since(last));
        if passed.is_some_and(|passed| passed < STEP) {
            return;
        }
        self.last = Some(now);
        let seconds = passed.unwrap_or(STEP).as_secs_f64();
        let mut services = std::mem::take(&mut self.services);
        let mut servers = std::mem::take(&mut self.servers);
        for service in status.services.iter().take(MOST_SERVICES) {
            let before = services.remove(&service.name);
            self.services.insert(service.name.clone(), Series::with(before, service, seconds));
            for server in &service.servers {
                if self.servers.len() < MOST_SERVERS {
                    let key = key(service, server);
                    let mut counts = servers.remove(&key).unwrap_or_default();
                    if counts.len() == LOOKS {
                        counts.pop_front();
                    }
                    counts.push_back(server.connections);
                    self.servers.insert(key, counts);
                }
            }
        }
    }

    /// Oldest first.
    pub(crate) fn points(&self, service: &str) -> impl Iterator<Item = Point> {
        self.services.get(service).into_iter().flat_map(|series| series.points.iter().copied())
    }

    /// All services together, oldest first; the last point is of now.
    pub(crate) fn sum(&self) -> Vec<Point> {
        let longest = self.services.values().map(|series| series.points.len()).max().unwrap_or(0);
        let mut sum = vec![Point::default(); longest];
        for series in self.services.values() {
            let ends_with = &mut sum[longest - series.points.len()..];
            for (sum, point) in ends_with.iter_mut().zip(&series.points) {
                sum.connections_per_s += point.connections_per_s;
                sum.bytes_per_s += point.bytes_per_s;
                sum.active = sum.active.saturating_add(point.active);
            }
        }
        sum
    }

    /// Of each of the service's servers, in its order; `None`: there were not two looks yet.
    pub(crate) fn shares(&self, service: &ServiceStatus) -> Vec<Option<Share>> {
        let news: Vec<Option<u64>> =
            service.servers.iter().map(|server| self.news(service, server)).collect();
        let all: u64 = news.iter().flatten().sum();
        let weights: u64 = service.servers.iter().map(|server| u64::from(server.effective_weight)).sum();
        let of = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let shares = service.servers.iter().zip(news).map(|(server, news)| {
            news.map(|news| Share {
                connections: news,
                got: of(news, all),
                fair: of(server.effective_weight.into(), weights),
            })
        });
        shares.collect()
    }

    /// New connections of the last minute.
    fn news(&self, service: &ServiceStatus, server: &ServerStatus) -> Option<u64> {
        let counts = self.servers.get(&key(service, server))?;
        if counts.len() < 2 {
            return None;
        }
        Some(counts.back()?.saturating_sub(*counts.front()?))
    }
}

fn key(service: &ServiceStatus, server: &ServerStatus) -> (String, SocketAddr) {
    (service.name.clone(), SocketAddr::new(server.address, server.port))
}

impl Series {
    /// `before` and one point more. A new service has had no connections before.
    fn with(before: Option<Self>, service: &ServiceStatus, seconds: f64) -> Self {
        let (connections, bytes) = (service.connections(), service.bytes());
        let mut series = before.unwrap_or_else(|| Self { points: VecDeque::new(), connections, bytes });
        let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds) as f32;
        if series.points.len() == POINTS {
            series.points.pop_front();
        }
        series.points.push_back(Point {
            connections_per_s: rate(connections, series.connections),
            bytes_per_s: rate(bytes, series.bytes),
            active: service.active().try_into().unwrap_or(u32::MAX),
        });
        Self { connections, bytes, ..series }
    }
}

#[cfg(test)]
mod tests {
    use lb_api::samples;

    use super::*;

    #[test]
    fn rates_and_shares_come_from_differences() {
        let (mut history, start) = (History::default(), Instant::now());
        let mut status = samples::cluster();
        history.take(&status, start);
        assert_eq!(history.shares(&status.services[0]), [None, None], "one look is no difference");
        for second in 1..=10 {
            status.services[0].servers[0].connections += 3;
            status.services[0].servers[1].connections += 1;
            history.take(&status, start + Duration::from_secs(second));
        }
        let rates: Vec<f32> = history.points("web").map(|point| point.connections_per_s).collect();
        assert_eq!(rates, [0.0, 4.0, 4.0]);
        let share = |connections, got| Some(Share { connections, got: Some(got), fair: Some(0.5) });
        assert_eq!(history.shares(&status.services[0]), [share(30, 0.75), share(10, 0.25)]);
        assert_eq!(history.sum().last().expect("a point").connections_per_s, 4.0);
        assert_eq!(history.points("other").count(), 0);
    }

    #[test]
    fn it_keeps_fifteen_minutes_and_forgets_who_has_left() {
        let (mut history, start) = (History::default(), Instant::now());
        let mut status = samples::cluster();
        for step in 0..200 {
            history.take(&status, start + STEP * step);
        }
        assert_eq!((history.points("web").count(), POINTS), (180, 180));
        // A counter that falls is no negative rate.
        status.services[0].servers[0].connections = 0;
        history.take(&status, start + STEP * 200);
        assert_eq!(history.points("web").last().expect("a point").connections_per_s, 0.0);
        status.services.clear();
        history.take(&status, start + STEP * 201);
        assert!(history.services.is_empty() && history.servers.is_empty());
    }
}

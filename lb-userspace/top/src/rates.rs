//! Rates: differences of what two snapshots have.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use lb_api::status::{ServerStatus, ServiceStatus, Status};

/// Values that a sparkline can show, one a second.
const KEPT: usize = 240;

/// Whose rate it is: a service's, or a server's of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Of(String, Option<SocketAddr>);

impl Of {
    pub(crate) fn service(service: &ServiceStatus) -> Self {
        Self(service.name.clone(), None)
    }

    pub(crate) fn server(service: &ServiceStatus, server: &ServerStatus) -> Self {
        Self(service.name.clone(), Some(SocketAddr::new(server.address, server.port)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Rates {
    known: HashMap<Of, Known>,
    last: Option<Instant>,
    uptime_s: u64,
}

#[derive(Debug, Clone, Default)]
struct Known {
    connections: u64,
    bytes: u64,
    /// New connections a second, the newest last.
    rates: VecDeque<f64>,
    bytes_per_s: f64,
}

impl Rates {
    pub(crate) fn take(&mut self, status: &Status, at: Instant) {
        let passed = self.last.map(|last| at.saturating_duration_since(last).as_secs_f64());
        // A director that was started anew counts from 0.
        let before = match status.uptime_s < self.uptime_s {
            true => HashMap::new(),
            false => std::mem::take(&mut self.known),
        };
        let mut known = HashMap::new();
        let mut add = |of: Of, connections: u64, bytes: u64| {
            let now = match before.get(&of).zip(passed.filter(|passed| *passed > 0.0)) {
                None => Known { connections, bytes, ..Known::default() },
                Some((before, passed)) => before.after(connections, bytes, passed),
            };
            known.insert(of, now);
        };
        for service in &status.services {
            add(Of::service(service), service.connections(), service.bytes());
            for server in service.all_servers() {
                add(Of::server(service, server), server.connections, server.bytes);
            }
        }
        (self.known, self.last, self.uptime_s) = (known, Some(at), status.uptime_s);
    }

    /// New connections a second; `None`: there were not two snapshots yet.
    pub(crate) fn connections(&self, of: &Of) -> Option<f64> {
        self.known.get(of)?.rates.back().copied()
    }

    pub(crate) fn bytes(&self, of: &Of) -> Option<f64> {
        let known = self.known.get(of)?;
        (!known.rates.is_empty()).then_some(known.bytes_per_s)
    }

    /// The last `width` rates of new connections, the newest last.
    pub(crate) fn line(&self, of: &Of, width: usize) -> Vec<u64> {
        let rates = self.known.get(of).map(|known| &known.rates);
        let rates = rates.into_iter().flatten().rev().take(width);
        let mut line: Vec<u64> = rates.map(|rate| (rate * 10.0) as u64).collect();
        line.reverse();
        line
    }
}

impl Known {
    fn after(&self, connections: u64, bytes: u64, passed: f64) -> Self {
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / passed;
        let mut rates = self.rates.clone();
        if rates.len() == KEPT {
            rates.pop_front();
        }
        rates.push_back(rate(connections, self.connections));
        Self { connections, bytes, rates, bytes_per_s: rate(bytes, self.bytes) }
    }
}

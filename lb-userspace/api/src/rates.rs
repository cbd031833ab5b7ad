//! Rates: what two snapshots of the status tell of the time between them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::status::{ServerStatus, ServiceStatus, Status};

/// Each second, on average.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Rate {
    /// New connections.
    #[serde(rename = "connections_per_s")]
    pub connections: f64,
    /// Packets of clients, and the bytes of their frames.
    #[serde(rename = "packets_per_s")]
    pub packets: f64,
    #[serde(rename = "bytes_per_s")]
    pub bytes: f64,
}

impl Rate {
    pub fn add(&mut self, other: Self) {
        let Self { connections, packets, bytes } = other;
        self.connections += connections;
        self.packets += packets;
        self.bytes += bytes;
    }
}

type ServiceId = (IpAddr, u16, String);

/// The rates of all servers that were there at both times.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates(HashMap<(ServiceId, IpAddr, u16), Rate>);

impl Rates {
    /// `None`: the director was started between the two, or no time has passed.
    pub fn between(before: &Status, after: &Status, time: Duration) -> Option<Self> {
        if time.is_zero() || before.pid != after.pid || after.uptime_s < before.uptime_s {
            return None;
        }
        let then: HashMap<_, _> = servers(before).collect();
        let both =
            servers(after).filter_map(|(key, now)| Some((key.clone(), rate(then.get(&key)?, now, time)?)));
        Some(Self(both.collect()))
    }

    /// `None`: the server is new, or has been away.
    pub fn of(&self, service: &ServiceStatus, server: &ServerStatus) -> Option<Rate> {
        self.0.get(&key(service, server)).copied()
    }

    /// The sum of the service's servers.
    pub fn of_service(&self, service: &ServiceStatus) -> Rate {
        let mut sum = Rate::default();
        members(service).filter_map(|server| self.of(service, server)).for_each(|rate| sum.add(rate));
        sum
    }
}

fn members(service: &ServiceStatus) -> impl Iterator<Item = &ServerStatus> {
    service.servers.iter().chain(&service.fallback_server)
}

fn key(service: &ServiceStatus, server: &ServerStatus) -> (ServiceId, IpAddr, u16) {
    ((service.vip, service.port, service.protocol.clone()), server.address, server.port)
}

fn servers(status: &Status) -> impl Iterator<Item = ((ServiceId, IpAddr, u16), &ServerStatus)> {
    let services = status.services.iter();
    services.flat_map(|service| members(service).map(move |server| (key(service, server), server)))
}

/// `None`: the counters began anew.
fn rate(before: &ServerStatus, after: &ServerStatus, time: Duration) -> Option<Rate> {
    #[expect(clippy::cast_precision_loss, reason = "counters of one interval are far below 2^52")]
    let each_second = |before: u64, after: u64| Some(after.checked_sub(before)? as f64 / time.as_secs_f64());
    Some(Rate {
        connections: each_second(before.connections, after.connections)?,
        packets: each_second(before.packets, after.packets)?,
        bytes: each_second(before.bytes, after.bytes)?,
    })
}

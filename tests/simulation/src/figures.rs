//! What comes out of a simulation. Figures of a director are means over all of them.

use serde::Serialize;

/// Bytes before a datagram's own: Ethernet's header (14), IPv4's (20), UDP's (8).
const HEADERS: u64 = 42;

/// One size of cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Size {
    pub directors: usize,
    /// Calculated from a run with fewer directors, see [`Size::scaled`].
    pub calculated_from: Option<usize>,
    pub costs: Vec<Cost>,
    pub memory: Memory,
    /// A director with an empty table comes into the cluster.
    pub join: Option<Join>,
    /// Some directors were cut off from the others for seconds, and are back.
    pub heal: Option<Heal>,
}

/// What one rate of new connections costs a director.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// At each director.
    pub new_per_s: u32,
    pub sent_per_s: f64,
    pub received_per_s: f64,
    /// With the headers of UDP, IPv4 and Ethernet.
    pub sent_mbit_s: f64,
    pub received_mbit_s: f64,
    /// Processor time of the engine, of one core: measured, so it differs from run to run.
    pub busy_share: f64,
    /// From the packet that establishes a connection to its being known to all directors.
    pub known: Option<Lags>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Lags {
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Memory of a director for what all directors know.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// In the table of each director.
    pub connections: usize,
    /// A connection's share of the connection table, which has two slots for each, and of the
    /// engine's mirror of it.
    pub table_bytes_each: usize,
    pub mirror_bytes_each: usize,
    /// State of all other directors, while nothing happens and at most: what is told again waits to
    /// be confirmed.
    pub peers_bytes: usize,
    pub peers_bytes_most: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Join {
    /// Until its table has all connections.
    pub knows_all_s: Option<f64>,
    /// Until it says so, of all other directors.
    pub in_step_s: Option<f64>,
    /// Datagrams that it was sent meanwhile.
    pub received_mbyte: f64,
    /// Processor time of its engine meanwhile, as measured.
    pub busy_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Heal {
    /// Directors that were cut off, together.
    pub cut_off: usize,
    /// Until all directors know what began on the other side meanwhile.
    pub know_all_s: Option<f64>,
    /// Until both sides say so.
    pub in_step_s: Option<f64>,
    /// Datagrams that a director was sent meanwhile of those that were cut off.
    pub received_mbyte: f64,
}

/// Sums over directors.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub sent: u64,
    pub sent_bytes: u64,
    pub received: u64,
    pub received_bytes: u64,
    pub busy_s: f64,
}

impl Totals {
    /// What a director costs in the mean since `before`.
    pub(crate) fn cost(&self, before: &Self, directors: usize, seconds: f64, new_per_s: u32) -> Cost {
        let each = directors as f64 * seconds;
        let mbit = |bytes: u64, datagrams: u64| (bytes + HEADERS * datagrams) as f64 * 8.0 / 1e6 / each;
        let (sent, received) = (self.sent - before.sent, self.received - before.received);
        Cost {
            new_per_s,
            sent_per_s: sent as f64 / each,
            received_per_s: received as f64 / each,
            sent_mbit_s: mbit(self.sent_bytes - before.sent_bytes, sent),
            received_mbit_s: mbit(self.received_bytes - before.received_bytes, received),
            busy_share: (self.busy_s - before.busy_s) / each,
            known: None,
        }
    }

    /// Received since `before`, with all headers.
    pub(crate) fn received_mbyte(&self, before: &Self) -> f64 {
        let datagrams = self.received - before.received;
        (self.received_bytes - before.received_bytes + HEADERS * datagrams) as f64 / 1e6
    }
}

/// What a new connection costs a director for each other one: what it tells that one and hears of
/// that one's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Marginal {
    pub bytes: f64,
    pub processor_ns: f64,
}

impl Size {
    /// By the difference to an idle cluster.
    pub fn marginal(&self, cost: &Cost) -> Option<Marginal> {
        let idle = self.costs.iter().find(|cost| cost.new_per_s == 0)?;
        let told = f64::from(cost.new_per_s) * (self.directors - 1) as f64;
        (told > 0.0).then(|| Marginal {
            bytes: (cost.sent_mbit_s - idle.sent_mbit_s) * 1e6 / 8.0 / told,
            processor_ns: (cost.busy_share - idle.busy_share) * 1e9 / told,
        })
    }

    /// The same for more directors than can be simulated: what a director tells and hears goes by
    /// the number of others, what it knows by the number of all. Times are not calculated.
    pub fn scaled(&self, directors: usize) -> Self {
        let peers = (directors - 1) as f64 / (self.directors - 1) as f64;
        let all = directors as f64 / self.directors as f64;
        let cost = |cost: &Cost| Cost {
            new_per_s: cost.new_per_s,
            sent_per_s: cost.sent_per_s * peers,
            received_per_s: cost.received_per_s * peers,
            sent_mbit_s: cost.sent_mbit_s * peers,
            received_mbit_s: cost.received_mbit_s * peers,
            busy_share: cost.busy_share * peers,
            known: None,
        };
        let more = |number: usize, factor: f64| (number as f64 * factor).round() as usize;
        let Memory { connections, peers_bytes, peers_bytes_most, .. } = self.memory;
        Self {
            directors,
            calculated_from: Some(self.directors),
            costs: self.costs.iter().map(cost).collect(),
            memory: Memory {
                connections: more(connections, all),
                peers_bytes: more(peers_bytes, peers),
                peers_bytes_most: more(peers_bytes_most, peers * all),
                ..self.memory
            },
            join: None,
            heal: None,
        }
    }
}

//! Connections: which part of the table the director is asked for, when, and what it has answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_api::connections::{Bounds, Connection, Filter};
use lb_api::status::{ServerStatus, ServiceStatus, Status};
use lb_api::words;

use crate::rows::ConnectionSort;

/// Connections that the director is asked for at a time: the table may have millions.
pub(crate) const PART: u64 = 500;

/// For so long after an answer the director is not asked the same again, unless an operator wants
/// it.
const REST: Duration = Duration::from_secs(10);

/// For so many times as long as a listing took, too: where few connections fit, the director walks
/// over its whole table for them.
const RESTS: u32 = 9;

/// What the director is asked for: a part of its connection table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub filter: Filter,
    pub bounds: Bounds,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub ask: Ask,
    pub outcome: Result<Part, String>,
    pub took: Duration,
}

/// A part of the connection table.
#[derive(Debug)]
pub(crate) struct Part {
    /// As the table has them.
    pub connections: Vec<Connection>,
    /// Where the next part begins; `None`: the table's end was reached.
    pub next: Option<u64>,
}

/// Whose connections are looked at: a service's, or those of one of its servers.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    /// Name of the service.
    pub service: String,
    protocol: String,
    /// The server's name, and its address and port.
    pub server: Option<(String, SocketAddr)>,
    /// The service whose servers were looked at before.
    pub inside: Option<String>,
}

impl Whose {
    pub(crate) fn service(service: &ServiceStatus) -> Self {
        let ServiceStatus { name, protocol, .. } = service;
        Self { service: name.clone(), protocol: protocol.clone(), server: None, inside: None }
    }

    pub(crate) fn server(service: &ServiceStatus, server: &ServerStatus, inside: Option<String>) -> Self {
        let address = SocketAddr::new(server.address, server.port);
        Self { server: Some((server.name.clone(), address)), inside, ..Self::service(service) }
    }

    /// `web`, or `www2 of web`.
    pub(crate) fn words(&self) -> String {
        match &self.server {
            None => self.service.clone(),
            Some((name, _)) => format!("{name} of {}", self.service),
        }
    }

    /// How many the director counted at its last look; `None`: the service has left.
    fn counted(&self, status: &Status) -> Option<u64> {
        let mut services = status.services.iter();
        let service = services.find(|one| one.name == self.service && one.protocol == self.protocol)?;
        let is_meant = |server: &&ServerStatus| {
            let address = SocketAddr::new(server.address, server.port);
            self.server.as_ref().is_none_or(|(_, meant)| *meant == address)
        };
        let servers = service.all_servers().filter(is_meant);
        Some(servers.map(|server| u64::from(server.active) + u64::from(server.inactive)).sum())
    }
}

/// Where a part begins.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// See [`Bounds::from`].
    from: u64,
    /// Connections of the parts before it.
    before: u64,
}

/// A part that the director has told.
#[derive(Debug)]
struct Shown {
    ask: Ask,
    part: Part,
    at: Instant,
}

/// The director's last word.
#[derive(Debug)]
struct Last {
    ask: Ask,
    /// Until then it is not asked the same again.
    until: Instant,
    /// Why it has told nothing.
    trouble: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// `None`: everybody's.
    pub whose: Option<Whose>,
    /// The filter as it is typed: a client's address, or one with a prefix length.
    pub typed: String,
    /// The filter that is in force.
    pub client: String,
    pub sort: ConnectionSort,
    /// The parts that were gone to, the one that is looked at last; none: the first one.
    places: Vec<Place>,
    /// The director is asked, and has not answered yet.
    under_way: bool,
    shown: Option<Shown>,
    last: Option<Last>,
}

impl Listing {
    /// From the table's beginning, asked anew. A service or server that is looked into shows all of
    /// its clients.
    pub(crate) fn begin(&mut self, whose: Option<Whose>) {
        if whose.is_some() {
            self.typed.clear();
            self.client.clear();
        }
        self.whose = whose;
        self.places.clear();
        (self.shown, self.last) = (None, None);
    }

    /// The filter was typed.
    pub(crate) fn keep(&mut self) {
        self.client = self.typed.trim().to_owned();
        self.places.clear();
    }

    /// No filter.
    pub(crate) fn clear(&mut self) {
        self.typed.clear();
        self.keep();
    }

    /// The director is asked once more, whenever it was asked last.
    pub(crate) fn ask_anew(&mut self) {
        self.last = None;
    }

    /// To the next part, if there is one.
    pub(crate) fn step_on(&mut self) {
        let Some(part) = self.part() else { return };
        let Some(from) = part.next else { return };
        let before = self.before() + part.connections.len() as u64;
        self.places.push(Place { from, before });
    }

    /// To the part before.
    pub(crate) fn step_back(&mut self) {
        self.places.pop();
    }

    fn place(&self) -> Place {
        self.places.last().copied().unwrap_or_default()
    }

    /// Connections of the parts before the one that is looked at.
    pub(crate) fn before(&self) -> u64 {
        self.place().before
    }

    /// What is looked at.
    fn wanted(&self) -> Ask {
        let whose = self.whose.as_ref();
        let server = whose.and_then(|whose| whose.server.as_ref());
        let filter = Filter {
            client: (!self.client.is_empty()).then(|| self.client.clone()),
            service: whose.map(|whose| whose.service.clone()),
            server: server.map(|(_, address)| words::address(address.ip(), address.port())),
            protocol: whose.map(|whose| whose.protocol.clone()),
            ..Filter::default()
        };
        Ask { filter, bounds: Bounds { from: self.place().from, limit: Some(PART) } }
    }

    /// What the director is to be asked for now, if anything; it counts as asked.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Ask> {
        let wanted = self.wanted();
        let known = self.last.as_ref().is_some_and(|last| last.ask == wanted && now < last.until);
        if self.under_way || known {
            return None;
        }
        self.under_way = true;
        Some(wanted)
    }

    /// Takes what the director has told, unless something else is looked at by now.
    pub(crate) fn take(&mut self, listed: Listed, now: Instant) {
        self.under_way = false;
        let Listed { ask, outcome, took } = listed;
        if ask != self.wanted() {
            return;
        }
        let trouble = match outcome {
            Ok(part) => {
                self.shown = Some(Shown { ask: ask.clone(), part, at: now });
                None
            }
            Err(why) => Some(why),
        };
        let until = now + REST.max(took.saturating_mul(RESTS));
        self.last = Some(Last { ask, until, trouble });
    }

    /// What is known of what is looked at.
    pub(crate) fn part(&self) -> Option<&Part> {
        let wanted = self.wanted();
        self.shown.as_ref().filter(|shown| shown.ask == wanted).map(|shown| &shown.part)
    }

    /// Why the director has not told it, or nothing newer.
    pub(crate) fn trouble(&self) -> Option<&str> {
        let wanted = self.wanted();
        self.last.as_ref().filter(|last| last.ask == wanted)?.trouble.as_deref()
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.shown.as_ref().map_or(Duration::ZERO, |shown| now.saturating_duration_since(shown.at))
    }

    /// Only some clients', or some servers'.
    pub(crate) fn is_narrow(&self) -> bool {
        self.whose.is_some() || !self.client.is_empty()
    }

    /// About how many fit, by the director's counts; it counts no client's.
    pub(crate) fn counted(&self, status: &Status) -> Option<u64> {
        if !self.client.is_empty() {
            return None;
        }
        match &self.whose {
            None => Some(status.table.used + status.table.used_v6),
            Some(whose) => whose.counted(status),
        }
    }
}

/// Whether these are two looks at one connection.
pub(crate) fn is_same(one: &Connection, other: &Connection) -> bool {
    let key = |connection: &Connection| {
        let Connection { client, client_port, vip, port, .. } = *connection;
        (client, client_port, vip, port)
    };
    one.protocol == other.protocol && key(one) == key(other)
}

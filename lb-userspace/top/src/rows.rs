//! What is in a view: filtered, in the order that was asked for.

use std::cmp::Ordering;

use lb_api::connections::Connection;
use lb_api::events::Record;
use lb_api::status::{ServerStatus, ServiceStatus, Status};

use crate::listing::Listing;
use crate::rates::{Of, Rates};
use crate::state::State;

/// Orders of services and servers, in the sequence in which `s` goes through them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// As in the configuration.
    #[default]
    Configured,
    Name,
    /// What is wrong first.
    Health,
    Rate,
    Active,
}

impl Sort {
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::Configured => Self::Name,
            Self::Name => Self::Health,
            Self::Health => Self::Rate,
            Self::Rate => Self::Active,
            Self::Active => Self::Configured,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Configured => "as configured",
            Self::Name => "by name",
            Self::Health => "worst first",
            Self::Rate => "by new connections",
            Self::Active => "by active connections",
        }
    }
}

/// Orders of connections, in the sequence in which `s` goes through them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ConnectionSort {
    /// As in the table.
    #[default]
    Table,
    Client,
    State,
    Server,
    Vip,
    /// What goes next first.
    Expiry,
}

impl ConnectionSort {
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::Table => Self::Client,
            Self::Client => Self::State,
            Self::State => Self::Server,
            Self::Server => Self::Vip,
            Self::Vip => Self::Expiry,
            Self::Expiry => Self::Table,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Table => "unsorted",
            Self::Client => "by client",
            Self::State => "by state",
            Self::Server => "by server",
            Self::Vip => "by VIP",
            Self::Expiry => "by expiry",
        }
    }

    fn compare(self, one: &Connection, other: &Connection) -> Ordering {
        match self {
            Self::Table => Ordering::Equal,
            Self::Client => (one.client, one.client_port).cmp(&(other.client, other.client_port)),
            Self::State => one.state.cmp(&other.state),
            Self::Server => (&one.server, &one.service).cmp(&(&other.server, &other.service)),
            Self::Vip => (one.vip, one.port).cmp(&(other.vip, other.port)),
            Self::Expiry => one.expires_in_s.cmp(&other.expires_in_s),
        }
    }
}

fn has(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

pub(crate) fn services<'a>(state: &State, status: &'a Status) -> Vec<&'a ServiceStatus> {
    let fits = |service: &&ServiceStatus| {
        has(&service.name, &state.filter)
            || has(&service.address(), &state.filter)
            || service.servers.iter().any(|server| server_fits(server, &state.filter))
    };
    let mut found: Vec<&ServiceStatus> = status.services.iter().filter(fits).collect();
    match state.sort {
        Sort::Configured => {}
        Sort::Name => found.sort_by(|one, other| one.name.cmp(&other.name)),
        Sort::Health => found.sort_by_key(|service| std::cmp::Reverse(service.tone())),
        Sort::Rate => by_rate(&mut found, &state.rates, |service| Of::service(service)),
        Sort::Active => found.sort_by_key(|service| std::cmp::Reverse(service.active())),
    }
    found
}

/// Servers of all services, or of the one that is looked into.
pub(crate) fn servers<'a>(state: &State, status: &'a Status) -> Vec<(&'a ServiceStatus, &'a ServerStatus)> {
    let inside = |service: &&ServiceStatus| state.inside.as_ref().is_none_or(|name| *name == service.name);
    let all = status
        .services
        .iter()
        .filter(inside)
        .flat_map(|service| service.servers.iter().map(move |server| (service, server)));
    let fits = |(service, server): &(&ServiceStatus, &ServerStatus)| {
        server_fits(server, &state.filter) || has(&service.name, &state.filter)
    };
    let mut found: Vec<_> = all.filter(fits).collect();
    match state.sort {
        Sort::Configured => {}
        Sort::Name => found.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name)),
        Sort::Health => found.sort_by_key(|(_, server)| std::cmp::Reverse(server.health_tone())),
        Sort::Rate => by_rate(&mut found, &state.rates, |(service, server)| Of::server(service, server)),
        Sort::Active => found.sort_by_key(|(_, server)| std::cmp::Reverse(server.active)),
    }
    found
}

/// The most first.
fn by_rate<T>(found: &mut [T], rates: &Rates, of: impl Fn(&T) -> Of) {
    let rate = |item: &T| rates.connections(&of(item)).unwrap_or(0.0);
    found.sort_by(|one, other| rate(other).total_cmp(&rate(one)));
}

fn server_fits(server: &ServerStatus, filter: &str) -> bool {
    has(&server.name, filter)
        || has(&lb_api::words::address(server.address, server.port), filter)
        || has(server.health.word(), filter)
}

/// The newest first.
pub(crate) fn events<'a>(state: &State, events: &'a [Record]) -> Vec<&'a Record> {
    let fits = |record: &&Record| has(&record.text, &state.filter) || has(&record.event, &state.filter);
    events.iter().rev().filter(fits).collect()
}

/// Those of the part that is looked at.
pub(crate) fn connections(listing: &Listing) -> Vec<&Connection> {
    let mut found: Vec<&Connection> = listing.part().into_iter().flat_map(|part| &part.connections).collect();
    found.sort_by(|one, other| listing.sort.compare(one, other));
    found
}

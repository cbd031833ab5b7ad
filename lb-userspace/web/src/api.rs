//! `/api/v1`: what the page and the command line know, for programs.
//!
//! - [`ENDPOINTS`]: all endpoints; the router and the OpenAPI document are made of this table
//! - `read`: what everybody may ask; `paging`: lists in parts
//! - [`orders`]: what needs a token

pub(crate) mod orders;
mod paging;
mod read;

pub(crate) use self::paging::limit;
pub(crate) use self::read::{server_has, service_has};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use lb_api::difference::Difference;
use lb_api::events::Record;
use lb_api::http::{
    ChangeOverlay, ClearOverlay, ConnectionPage, Done, DrainServer, EnableServer, History, Maintenance,
    MoveGroup, Page, ProbeServer, Reload, ReplaceSource, ServerEntry, Standby, TestAlerts, Verdict,
    WeighServer, ZeroCounters,
};
use lb_api::status::{Accepted, AlertTest, ClusterStatus, FindingStatus, ProbeReport, ServiceStatus, Status};
use lb_api::top::TopClient;
use lb_api::wire::{Overlay, Replaced};
use schemars::{Schema, SchemaGenerator};

use crate::problem::Refusal;
use crate::server::Site;

/// The longest list of services, in bytes: as much as the control socket takes. Nobody sends one
/// without a token.
const LONGEST_LIST: usize = 16 * 1024 * 1024;

/// Makes the schema of a type.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A parameter in the query.
pub(crate) struct Parameter {
    pub name: &'static str,
    /// `string` or `integer`.
    pub kind: &'static str,
    pub about: &'static str,
}

/// A path of the API, and all that there is to say of it.
pub(crate) struct Endpoint {
    pub path: &'static str,
    pub about: &'static str,
    pub parameters: &'static [&'static [Parameter]],
    /// Of an order; what has none is read.
    pub body: Option<SchemaOf>,
    pub reply: SchemaOf,
    route: fn() -> MethodRouter<Site>,
}

macro_rules! schema {
    ($name:ty) => {
        |generator| generator.subschema_for::<$name>()
    };
}

const fn text(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, kind: "string", about }
}

const fn number(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, kind: "integer", about }
}

const PAGING: &[Parameter] = &[
    number("limit", "Number of items, 1 to 1000; default 100"),
    number("offset", "Number of items that are passed over; default 0"),
];

const EVENTS: &[Parameter] = &[
    number("limit", "Number of events, 1 to 1000; default 100"),
    number("after", "Only events after this number: to follow them"),
    number("before", "Only events before this number: to go back"),
    text("since", "Only events since this time, such as `2026-07-12T08:30:00Z`"),
    text("level", "Only `info`, `warning` or `error`"),
    text("event", "Only events of this name"),
    text("service", "Only events of this service"),
    text("server", "Only events of this server"),
];

const SERVICE: Parameter = text("service", "Only this service, by its name");
const SEARCH: Parameter = text("search", "Only where this is a part of a name or an address");

/// Every endpoint, by its path below `/api`.
pub(crate) const ENDPOINTS: [Endpoint; 29] = [
    Endpoint {
        path: "/v1/status",
        about: "The whole status, as of `lb status --json`, not older than 2 s",
        parameters: &[],
        body: None,
        reply: schema!(Status),
        route: || get(read::status),
    },
    Endpoint {
        path: "/v1/services",
        about: "Services in configured order, with their servers",
        parameters: &[&[SERVICE, SEARCH], PAGING],
        body: None,
        reply: schema!(Page<ServiceStatus>),
        route: || get(read::services),
    },
    Endpoint {
        path: "/v1/servers",
        about: "Servers of all services, with their share of new connections",
        parameters: &[
            &[
                SERVICE,
                text("server", "Only this server, by its name or address"),
                text("health", "Only `unknown`, `up`, `down`, `unchecked`, `maintenance` or `draining`"),
                SEARCH,
            ],
            PAGING,
        ],
        body: None,
        reply: schema!(Page<ServerEntry>),
        route: || get(read::servers),
    },
    Endpoint {
        path: "/v1/history",
        about: "The last 15 minutes of services",
        parameters: &[&[SERVICE], PAGING],
        body: None,
        reply: schema!(Page<History>),
        route: || get(read::history),
    },
    Endpoint {
        path: "/v1/connections",
        about: "Connections of the table, in parts: it is walked while they come and go, and one that lasts is told \
                once. One listing at a time: 503 if another is under way",
        parameters: &[&[
            text("client", "Only of this address, or of those with this prefix (`192.0.2.0/24`)"),
            text("service", "Only of this service, by its name or `VIP:PORT`, or of this VIP"),
            text("server", "Only with this server, by its name or address"),
            text("state", "Only in this state, such as `ESTABLISHED`"),
            text("protocol", "Only `tcp` or `udp`"),
            number("limit", "Number of connections, 1 to 1000; default 100"),
            number("from", "Where to go on: `next` of the part before"),
        ]],
        body: None,
        reply: schema!(ConnectionPage),
        route: || get(read::connections),
    },
    Endpoint {
        path: "/v1/events",
        about: "Events, oldest first; without `after` the last ones, and `next` leads to those before. With `after` \
                `next` leads to those that are still to come",
        parameters: &[EVENTS],
        body: None,
        reply: schema!(Page<Record>),
        route: || get(read::events),
    },
    Endpoint {
        path: "/v1/findings",
        about: "What is wrong around the director, errors first",
        parameters: &[PAGING],
        body: None,
        reply: schema!(Page<FindingStatus>),
        route: || get(read::findings),
    },
    Endpoint {
        path: "/v1/cluster",
        about: "Nodes, groups, heartbeat paths and connection synchronisation; 404 if the director is alone",
        parameters: &[],
        body: None,
        reply: schema!(ClusterStatus),
        route: || get(read::cluster),
    },
    Endpoint {
        path: "/v1/health",
        about: "Whether all is well, as of `lb health`, by servers that are up and findings; 404 if there is no such service",
        parameters: &[&[
            SERVICE,
            number(
                "warning",
                "WARNING if less than this share of a service's servers is up, in percent; default 100",
            ),
            number(
                "critical",
                "CRITICAL if less than this share of a service's servers is up, in percent; default 0",
            ),
        ]],
        body: None,
        reply: schema!(Verdict),
        route: || get(read::health),
    },
    Endpoint {
        path: "/v1/clients",
        about: "Clients that have and open most connections, or whose packets are refused most, as of `lb top-clients`; it \
                takes a second. One at a time: 503 if another is under way",
        parameters: &[PAGING],
        body: None,
        reply: schema!(Page<TopClient>),
        route: || get(read::clients),
    },
    Endpoint {
        path: "/v1/overlay",
        about: "What was changed at run time, by source",
        parameters: &[],
        body: None,
        reply: schema!(Overlay),
        route: || get(read::overlay),
    },
    Endpoint {
        path: "/v1/openapi.json",
        about: "This document",
        parameters: &[],
        body: None,
        reply: schema!(serde_json::Value),
        route: || get(read::openapi),
    },
    Endpoint {
        path: "/v1/servers/drain",
        about: "Give a server no new connections, until it is enabled, over restarts too",
        parameters: &[],
        body: Some(schema!(DrainServer)),
        reply: schema!(Done),
        route: || post(orders::drain),
    },
    Endpoint {
        path: "/v1/servers/enable",
        about: "Give a server new connections again",
        parameters: &[],
        body: Some(schema!(EnableServer)),
        reply: schema!(Done),
        route: || post(orders::enable),
    },
    Endpoint {
        path: "/v1/servers/weight",
        about: "Give a server another weight than the configured one on all directors, or that one again, over restarts too",
        parameters: &[],
        body: Some(schema!(WeighServer)),
        reply: schema!(Done),
        route: || post(orders::weight),
    },
    Endpoint {
        path: "/v1/servers/probe",
        about: "Make a server's checks now; the answer comes when they have ended",
        parameters: &[],
        body: Some(schema!(ProbeServer)),
        reply: schema!(Vec<ProbeReport>),
        route: || post(orders::probe),
    },
    Endpoint {
        path: "/v1/cluster/failover",
        about: "Move a group, or each that is active here, to the next node; the answer comes before it has arrived",
        parameters: &[],
        body: Some(schema!(MoveGroup)),
        reply: schema!(Accepted),
        route: || post(orders::failover),
    },
    Endpoint {
        path: "/v1/cluster/failback",
        about: "Move a group, or each that is not there, to its preferred node",
        parameters: &[],
        body: Some(schema!(MoveGroup)),
        reply: schema!(Accepted),
        route: || post(orders::failback),
    },
    Endpoint {
        path: "/v1/cluster/standby",
        about: "Move all groups from this director to others; it takes none until it resumes or starts again",
        parameters: &[],
        body: Some(schema!(Standby)),
        reply: schema!(Accepted),
        route: || post(orders::standby),
    },
    Endpoint {
        path: "/v1/cluster/resume",
        about: "End standby: this director may take groups again",
        parameters: &[],
        body: Some(schema!(Reload)),
        reply: schema!(Accepted),
        route: || post(orders::resume),
    },
    Endpoint {
        path: "/v1/cluster/maintenance",
        about: "Like standby, but also after a restart, until it is switched off",
        parameters: &[],
        body: Some(schema!(Maintenance)),
        reply: schema!(Accepted),
        route: || post(orders::maintenance),
    },
    Endpoint {
        path: "/v1/overlay/change",
        about: "Change services and servers at run time, as the source `cli`, over restarts too: all of it or, with 409, none. \
                The answer says what has changed",
        parameters: &[],
        body: Some(schema!(ChangeOverlay)),
        reply: schema!(Vec<Difference>),
        route: || post(orders::change_overlay).layer(DefaultBodyLimit::max(LONGEST_LIST)),
    },
    Endpoint {
        path: "/v1/overlay/clear",
        about: "Undo what was changed at run time: the file is what runs",
        parameters: &[],
        body: Some(schema!(ClearOverlay)),
        reply: schema!(Vec<Difference>),
        route: || post(orders::clear_overlay),
    },
    Endpoint {
        path: "/v1/counters/zero",
        about: "Have what `ipvsadm -L --stats` prints begin at 0 again; metrics and the status count on",
        parameters: &[],
        body: Some(schema!(ZeroCounters)),
        reply: schema!(Done),
        route: || post(orders::zero),
    },
    Endpoint {
        path: "/v1/alerts/test",
        about: "Send a test message to receivers of alerts, and tell what came of it",
        parameters: &[],
        body: Some(schema!(TestAlerts)),
        reply: schema!(Vec<AlertTest>),
        route: || post(orders::test_alerts),
    },
    Endpoint {
        path: "/v1/diff",
        about: "Tell what a reload would change; 409 if the configuration file would be refused",
        parameters: &[],
        body: Some(schema!(Reload)),
        reply: schema!(Vec<Difference>),
        route: || post(orders::diff),
    },
    Endpoint {
        path: "/v1/sources",
        about: "Make these the services of a source, in place of those that it had, over restarts too. What collides with the \
                configuration file is left out and told",
        parameters: &[],
        body: Some(schema!(ReplaceSource)),
        reply: schema!(Replaced),
        route: || post(orders::replace_source).layer(DefaultBodyLimit::max(LONGEST_LIST)),
    },
    Endpoint {
        path: "/v1/reload",
        about: "Read the configuration file again; 409 if it is refused",
        parameters: &[],
        body: Some(schema!(Reload)),
        reply: schema!(Done),
        route: || post(orders::reload),
    },
    Endpoint {
        path: "/v1/healthz",
        about: "200 while the director answers",
        parameters: &[],
        body: None,
        reply: schema!(Done),
        route: || get(read::healthz),
    },
];

/// The paths of all endpoints, as they are asked for.
pub fn paths() -> impl Iterator<Item = String> {
    ENDPOINTS.iter().map(|endpoint| format!("/api{}", endpoint.path))
}

pub(crate) fn routes() -> Router<Site> {
    let router = ENDPOINTS.iter().fold(Router::new(), |router, endpoint| {
        let wrong = || async { Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "see /api/v1/openapi.json") };
        router.route(endpoint.path, (endpoint.route)().fallback(wrong))
    });
    router.fallback(|| async { Refusal::not_found("no such path; /api/v1/openapi.json lists all") })
}

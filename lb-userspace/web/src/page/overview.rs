//! The pages that are looked at: the overview, one service, the events.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use lb_api::status::ServiceStatus;
use lb_api::words;
use maud::{Markup, html};
use serde::Deserialize;

use super::services::{Extent, Shown};
use super::{Asked, Live, Trouble, charts, cluster, events, head, html_of, layout, services};
use crate::api::{server_has, service_has};
use crate::problem::Refusal;
use crate::server::Site;
use crate::snapshot::Snapshot;

/// Services of one page, and rows of servers of all of them together.
const SERVICES: usize = 50;
const ROWS: usize = 200;
/// Rows of one service, where there are several.
const ROWS_OF_ONE: usize = 50;
/// Events on the overview, and on their own page.
const EVENTS: usize = 20;
const EVENTS_OF_PAGE: usize = 200;

type Page = Result<Response, Trouble>;

/// What the overview is asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Overview {
    search: String,
    from: usize,
}

fn latest(site: &Site) -> Result<(Arc<Snapshot>, Option<String>), Trouble> {
    site.snapshots.latest().map_err(|error| Trouble(Refusal::unavailable(error)))
}

/// The page, rendered once for all who look at the same.
fn render(
    site: &Site,
    snapshot: &Snapshot,
    key: String,
    live: Live<'_>,
    title: &str,
    body: impl FnOnce() -> Markup,
) -> Response {
    let title = format!("{title}: {}", name(snapshot));
    html_of(site.rendered.page(snapshot, key, || layout(&title, Some(live), &body())))
}

/// What the director is called: its node's name, or its interface's.
fn name(snapshot: &Snapshot) -> &str {
    let status = &snapshot.status;
    status.cluster.as_ref().map_or(&status.interface, |cluster| &cluster.node)
}

pub(super) async fn overview(State(site): State<Site>, Asked(asked): Asked<Overview>) -> Page {
    let (snapshot, trouble) = latest(&site)?;
    let key = format!("overview {} {} {trouble:?}", asked.from, asked.search);
    let live = Live { search: &asked.search };
    Ok(render(&site, &snapshot, key, live, "Overview", || {
        let may_order = site.access.takes_orders();
        html! {
            h1 { "Director " (name(&snapshot)) }
            (head::troubles(&snapshot.status, trouble.as_deref()))
            @if asked.search.is_empty() && asked.from == 0 {
                (cluster::section(&snapshot.status, may_order))
                (head::facts(&snapshot))
                (all_services(&site, &snapshot))
            }
            (list(&site, &snapshot, &asked))
            section aria-labelledby="events" {
                h2 id="events" { a href="/events" { "Events" } }
                (events::list(snapshot.events.iter().rev().take(EVENTS)))
            }
        }
    }))
}

/// Charts of all services together, where there are several.
fn all_services(site: &Site, snapshot: &Snapshot) -> Markup {
    html! {
        @if snapshot.status.services.len() > 1 {
            section aria-labelledby="all" {
                h2 id="all" { "All services" }
                (charts::charts(&site.snapshots.history(|history| history.sum())))
            }
        }
    }
}

fn shown<'a>(site: &Site, service: &'a ServiceStatus) -> Shown<'a> {
    site.snapshots.history(|history| Shown {
        service,
        points: history.points(&service.name).collect(),
        shares: history.shares(service),
    })
}

/// The services that are searched for, with their servers.
fn list(site: &Site, snapshot: &Snapshot, asked: &Overview) -> Markup {
    let Overview { search, from } = asked;
    let has = |service: &&ServiceStatus| {
        search.is_empty()
            || service_has(service, search)
            || service.servers.iter().any(|server| server_has(server, search))
    };
    let found: Vec<&ServiceStatus> = snapshot.status.services.iter().filter(has).collect();
    let mut rows = ROWS;
    let mut page = Vec::new();
    for service in found.iter().skip(*from).take(SERVICES) {
        if rows == 0 {
            break;
        }
        let most = rows.min(if found.len() == 1 { ROWS } else { ROWS_OF_ONE });
        rows -= most.min(service.servers.len());
        page.push((*service, most));
    }
    let may_order = site.access.takes_orders();
    let next = from + page.len();
    html! {
        @if !search.is_empty() {
            p role="status" {
                (words::grouped(found.len() as u64)) " services fit “" (search) "”. " a href="/" { "Show all" }
            }
        }
        @if snapshot.status.services.is_empty() { p { "The configuration has no services." } }
        @for (service, most) in &page {
            (services::section(&shown(site, service), Extent { first: 0, most: *most, may_order }, 2))
        }
        @if next < found.len() {
            p { (words::grouped((found.len() - next) as u64)) " more services: "
                a rel="next" href=(page_link(search, next)) { "next page" } }
        }
    }
}

fn page_link(search: &str, from: usize) -> String {
    let from = from.to_string();
    let query = serde_urlencoded::to_string([("search", search), ("from", &from)]);
    format!("/?{}", query.unwrap_or_default())
}

/// Which service is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct OneService {
    name: String,
    #[serde(default)]
    from: usize,
}

pub(super) async fn service(State(site): State<Site>, Asked(asked): Asked<OneService>) -> Page {
    let (snapshot, trouble) = latest(&site)?;
    let Some(service) = snapshot.status.services.iter().find(|service| service.name == asked.name) else {
        return Err(Trouble(Refusal::not_found(format!("there is no service {}", asked.name))));
    };
    let key = format!("service {} {} {trouble:?}", asked.from, asked.name);
    Ok(render(&site, &snapshot, key, Live { search: "" }, &asked.name, || {
        let may_order = site.access.takes_orders();
        let of_service = |record: &&lb_api::events::Record| record.service.as_ref() == Some(&service.name);
        html! {
            (head::troubles(&snapshot.status, trouble.as_deref()))
            (services::section(&shown(&site, service), Extent { first: asked.from, most: ROWS, may_order }, 1))
            (clients(service))
            section aria-labelledby="events" {
                h2 id="events" { "Events of " (service.name) }
                (events::list(snapshot.events.iter().rev().filter(of_service).take(EVENTS_OF_PAGE)))
            }
        }
    }))
}

/// Clients that are bound to servers.
fn clients(service: &ServiceStatus) -> Markup {
    let Some(persistence) = &service.persistence else { return html! {} };
    let table = html! {
        table {
            thead { tr { th scope="col" { "Client" } th scope="col" { "Server" }
                th scope="col" class="number" { "Expires in" } } }
            tbody {
                @for client in persistence.clients.iter().take(ROWS) {
                    tr {
                        th scope="row" { (client.client) "/" (persistence.prefix) }
                        td { (client.server) }
                        td class="number" { (words::uptime(client.expires_in_s)) }
                    }
                }
            }
        }
    };
    html! {
        section aria-labelledby="clients" {
            h2 id="clients" { "Bound clients" }
            p { (words::grouped(persistence.bound)) " clients are bound; the first ones:" }
            (cluster::scrolling("Bound clients", &table))
        }
    }
}

/// Which events are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Events {
    before: Option<u64>,
}

pub(super) async fn events(State(site): State<Site>, Asked(asked): Asked<Events>) -> Page {
    let (snapshot, trouble) = latest(&site)?;
    let key = format!("events {:?} {trouble:?}", asked.before);
    Ok(render(&site, &snapshot, key, Live { search: "" }, "Events", || {
        let earlier = snapshot.events.iter().rev();
        let mut earlier = earlier.filter(|record| asked.before.is_none_or(|before| record.number < before));
        let page: Vec<_> = earlier.by_ref().take(EVENTS_OF_PAGE).collect();
        let more = earlier.next().is_some();
        html! {
            h1 { "Events" }
            (head::troubles(&snapshot.status, trouble.as_deref()))
            section aria-label="Events, the newest first" { (events::list(page.iter().copied())) }
            @if let Some(last) = page.last().filter(|_| more) {
                p { a rel="next" href=(format!("/events?before={}", last.number)) { "Earlier events" } }
            }
        }
    }))
}

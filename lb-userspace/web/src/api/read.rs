//! What everybody may ask who reaches the server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lb_api::events::{Level, Record};
use lb_api::health::{self, State as Verdict};
use lb_api::http::{self, ConnectionPage, Done, History, Page, ServerEntry};
use lb_api::status::{ClusterStatus, FindingStatus, ServerStatus, ServiceStatus, Status};
use lb_api::top::TopClient;
use lb_api::wire::{Overlay, Reply, Request};
use lb_model::Health;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::orders::odd;
use super::paging::{Asked, limit, link, part};
use crate::connections;
use crate::history::STEP;
use crate::problem::Refusal;
use crate::server::Site;
use crate::snapshot::Snapshot;

type Answer<T> = Result<Json<T>, Refusal>;

fn current(site: &Site) -> Result<Arc<Snapshot>, Refusal> {
    site.snapshots.current().map_err(Refusal::unavailable)
}

pub(super) async fn status(State(site): State<Site>) -> Answer<Status> {
    Ok(Json(current(&site)?.status.clone()))
}

pub(super) async fn healthz(State(site): State<Site>) -> Answer<Done> {
    current(&site).map(|_| Json(Done { message: "ok".to_owned() }))
}

/// What a monitoring system asks for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedHealth {
    service: Option<String>,
    warning: Option<u64>,
    critical: Option<u64>,
}

pub(super) async fn health(
    State(site): State<Site>,
    Asked(wanted): Asked<WantedHealth>,
) -> Answer<http::Verdict> {
    let WantedHealth { service, warning, critical } = wanted;
    for (name, share) in [("warning", warning), ("critical", critical)] {
        if let Some(share) = share.filter(|share| *share > 100) {
            return Err(Refusal::bad(format!("{name} {share}: expected a share in percent, 0 to 100")));
        }
    }
    let all = health::Wanted::default();
    let wanted = health::Wanted {
        services: service.into_iter().collect(),
        warning: warning.unwrap_or(all.warning),
        critical: critical.unwrap_or(all.critical),
    };
    let found = health::assess(&current(&site)?.status, &wanted);
    let text = found.line();
    match found.state {
        // Only a service that is not there is unknown.
        Verdict::Unknown => Err(Refusal::not_found(text)),
        state => Ok(Json(http::Verdict { state, code: state as u8, text })),
    }
}

pub(super) async fn overlay(State(site): State<Site>) -> Answer<Overlay> {
    match site.director.ask(Request::Overlay { to_save: false }).await {
        Ok(Reply::Overlay(overlay)) => Ok(Json(overlay)),
        Ok(_) => Err(odd()),
        Err(error) => Err(Refusal::unavailable(format!("{error:#}"))),
    }
}

/// A part of a list of all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedClients {
    limit: Option<usize>,
    offset: Option<usize>,
}

pub(super) async fn clients(
    State(site): State<Site>,
    Asked(wanted): Asked<WantedClients>,
) -> Answer<Page<TopClient>> {
    let next = |offset| WantedClients { offset: Some(offset), ..wanted.clone() };
    match site.director.ask(Request::TopClients).await {
        Ok(Reply::TopClients(clients)) => {
            part(clients, (wanted.limit, wanted.offset), "/api/v1/clients", next).map(Json)
        }
        Ok(Reply::Error(why)) => Err(Refusal::unavailable(why)),
        Ok(_) => Err(odd()),
        Err(error) => Err(Refusal::unavailable(format!("{error:#}"))),
    }
}

pub(super) async fn openapi() -> Json<Value> {
    Json(crate::openapi::document())
}

pub(super) async fn cluster(State(site): State<Site>) -> Answer<ClusterStatus> {
    let alone = || Refusal::not_found("this director is alone: its configuration has no `cluster`");
    current(&site)?.status.cluster.clone().map(Json).ok_or_else(alone)
}

/// A part of a list of services or servers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    service: Option<String>,
    search: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
}

impl Wanted {
    fn part<T>(&self, items: Vec<T>, path: &str) -> Answer<Page<T>> {
        let next = |offset| Self { offset: Some(offset), ..self.clone() };
        part(items, (self.limit, self.offset), path, next).map(Json)
    }

    fn wants(&self, service: &ServiceStatus) -> bool {
        self.service.as_ref().is_none_or(|name| *name == service.name)
    }
}

pub(super) async fn services(
    State(site): State<Site>,
    Asked(wanted): Asked<Wanted>,
) -> Answer<Page<ServiceStatus>> {
    let snapshot = current(&site)?;
    let services = snapshot.status.services.iter().filter(|service| wanted.wants(service));
    let found = services.filter(|service| {
        wanted.search.as_ref().is_none_or(|text| {
            service_has(service, text) || service.servers.iter().any(|server| server_has(server, text))
        })
    });
    wanted.part(found.cloned().collect(), "/api/v1/services")
}

pub(super) async fn history(State(site): State<Site>, Asked(wanted): Asked<Wanted>) -> Answer<Page<History>> {
    let snapshot = current(&site)?;
    let services = snapshot.status.services.iter().filter(|service| wanted.wants(service));
    let found =
        services.filter(|service| wanted.search.as_ref().is_none_or(|text| service_has(service, text)));
    let histories = site.snapshots.history(|history| {
        found
            .map(|service| History {
                service: service.name.clone(),
                step_s: STEP.as_secs(),
                points: history.points(&service.name).collect(),
            })
            .collect()
    });
    wanted.part(histories, "/api/v1/history")
}

/// Servers that are asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedServers {
    service: Option<String>,
    server: Option<String>,
    health: Option<Health>,
    search: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
}

impl WantedServers {
    fn wants(&self, server: &ServerStatus) -> bool {
        let named = |name: &String| *name == server.name || *name == server.address.to_string();
        self.server.as_ref().is_none_or(named)
            && self.health.is_none_or(|health| health == server.health)
            && self.search.as_ref().is_none_or(|text| server_has(server, text))
    }
}

pub(super) async fn servers(
    State(site): State<Site>,
    Asked(wanted): Asked<WantedServers>,
) -> Answer<Page<ServerEntry>> {
    let snapshot = current(&site)?;
    let services = &snapshot.status.services;
    let services = services.iter().filter(|one| wanted.service.as_ref().is_none_or(|name| *name == one.name));
    let entries = site.snapshots.history(|history| {
        let entries = services.flat_map(|service| {
            let shares = history.shares(service);
            let servers = service.servers.iter().zip(shares).filter(|(server, _)| wanted.wants(server));
            servers.map(|(server, share)| ServerEntry {
                service: service.name.clone(),
                server: server.clone(),
                share,
            })
        });
        entries.collect()
    });
    let next = |offset| WantedServers { offset: Some(offset), ..wanted.clone() };
    part(entries, (wanted.limit, wanted.offset), "/api/v1/servers", next).map(Json)
}

pub(super) async fn findings(
    State(site): State<Site>,
    Asked(wanted): Asked<Wanted>,
) -> Answer<Page<FindingStatus>> {
    wanted.part(current(&site)?.status.findings.clone(), "/api/v1/findings")
}

pub(super) async fn connections(
    State(site): State<Site>,
    Asked(wanted): Asked<connections::Wanted>,
) -> Answer<ConnectionPage> {
    let connections::Found { connections, next } = wanted.find(&site).await?;
    let next = next.map(|next| link("/api/v1/connections", &next)).transpose()?;
    Ok(Json(ConnectionPage { items: connections, next }))
}

/// Events that are asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedEvents {
    limit: Option<usize>,
    after: Option<u64>,
    before: Option<u64>,
    since: Option<String>,
    level: Option<Level>,
    event: Option<String>,
    service: Option<String>,
    server: Option<String>,
}

impl WantedEvents {
    fn wants(&self, record: &Record) -> bool {
        let same = |wanted: &Option<String>, found: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| found == Some(wanted))
        };
        self.since.as_deref().is_none_or(|since| until_z(&record.time) >= until_z(since))
            && self.level.is_none_or(|level| level == record.level)
            && same(&self.event, Some(&record.event))
            && same(&self.service, record.service.as_ref())
            && same(&self.server, record.server.as_ref())
    }
}

pub(super) async fn events(
    State(site): State<Site>,
    Asked(wanted): Asked<WantedEvents>,
) -> Answer<Page<Record>> {
    if wanted.after.is_some() && wanted.before.is_some() {
        return Err(Refusal::bad("`after` and `before` exclude each other"));
    }
    if let Some(since) = wanted.since.as_deref().filter(|since| !is_time(since)) {
        return Err(Refusal::bad(format!(
            "since {since:?}: expected a time such as 2026-07-12T08:30:00Z, in UTC"
        )));
    }
    let snapshot = current(&site)?;
    let limit = limit(wanted.limit)?;
    let all: Vec<&Record> = snapshot.events.iter().filter(|record| wanted.wants(record)).collect();
    let path = "/api/v1/events";
    let (found, next) = match wanted.after {
        Some(after) => {
            let newer = all.iter().filter(|record| record.number > after);
            let found: Vec<Record> = newer.take(limit).map(|record| (*record).clone()).collect();
            let after = found.last().map_or(after, |last| last.number);
            (found, Some(WantedEvents { after: Some(after), ..wanted.clone() }))
        }
        None => {
            let older: Vec<&&Record> = all
                .iter()
                .filter(|record| wanted.before.is_none_or(|before| record.number < before))
                .collect();
            let left = older.len().saturating_sub(limit);
            let found: Vec<Record> = older[left..].iter().map(|record| (**record).clone()).collect();
            let before = found.first().map(|first| first.number).filter(|_| left > 0);
            (found, before.map(|before| WantedEvents { before: Some(before), ..wanted.clone() }))
        }
    };
    let next = next.map(|next| link(path, &next)).transpose()?;
    Ok(Json(Page { items: found, total: all.len() as u64, next }))
}

/// Times as events have them: so written, the order of the texts is theirs.
fn is_time(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let Some(time) = text.strip_suffix('Z') else { return false };
    let (whole, fraction) = time.as_bytes().split_at(FORM.len().min(time.len()));
    let fits = |(found, form): (&u8, &u8)| if *form == b'0' { found.is_ascii_digit() } else { found == form };
    whole.len() == FORM.len()
        && whole.iter().zip(FORM).all(fits)
        && match fraction.split_first() {
            None => true,
            Some((dot, digits)) => *dot == b'.' && digits.iter().all(u8::is_ascii_digit),
        }
}

/// A full second begins before all that is behind its point.
fn until_z(time: &str) -> &str {
    time.trim_end_matches('Z')
}

fn has(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

pub(crate) fn service_has(service: &ServiceStatus, part: &str) -> bool {
    has(&service.name, part) || has(&service.address(), part)
}

pub(crate) fn server_has(server: &ServerStatus, part: &str) -> bool {
    has(&server.name, part)
        || has(&format!("{}:{}", server.address, server.port), part)
        || has(server.health.word(), part)
}

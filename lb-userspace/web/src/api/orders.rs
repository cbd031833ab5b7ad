//! What needs a token. Every order is an event with who gave it.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode};
use lb_api::difference::Difference;
use lb_api::events::{Level, Record};
use lb_api::http::{
    ChangeOverlay, ClearOverlay, Done, DrainServer, EnableServer, Maintenance, MoveGroup, ProbeServer,
    Reload, ReplaceSource, Standby, TestAlerts, WeighServer, ZeroCounters,
};
use lb_api::status::{Accepted, AlertTest, ProbeReport};
use lb_api::wire::{Replaced, Reply, Request, ServerRequest};
use lb_model::overlay::{CLI, Change};
use serde::de::DeserializeOwned;

use crate::access::Peer;
use crate::problem::Refusal;
use crate::server::Site;

type Answer<T> = Result<Json<T>, Refusal>;

/// The body of an order, and who has sent it: the token is looked at first.
pub(super) struct Order<T> {
    from: Sender,
    body: T,
}

/// Who gives an order.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    /// The name of the token's owner.
    pub who: String,
    pub peer: Peer,
}

impl<T: DeserializeOwned> FromRequest<Site> for Order<T> {
    type Rejection = Refusal;

    async fn from_request(request: HttpRequest, site: &Site) -> Result<Self, Refusal> {
        let peer = request.extensions().get::<Peer>().copied();
        let peer = peer.ok_or_else(|| Refusal::bad("nobody knows where the request came from"))?;
        let from = sender(site, request.headers(), peer)?;
        let Json(body) = Json::from_request(request, site)
            .await
            .map_err(|error: JsonRejection| Refusal::new(error.status(), error.body_text()))?;
        Ok(Self { from, body })
    }
}

fn sender(site: &Site, headers: &HeaderMap, peer: Peer) -> Result<Sender, Refusal> {
    let given = headers.contains_key(axum::http::header::AUTHORIZATION);
    match site.access.caller(headers) {
        Ok(who) => Ok(Sender { who, peer }),
        Err(refusal) => {
            if given {
                tell_intruder(site, &refusal, peer);
            }
            Err(refusal)
        }
    }
}

/// Somebody tries tokens.
pub(crate) fn tell_intruder(site: &Site, refusal: &Refusal, peer: Peer) {
    if refusal.status == StatusCode::UNAUTHORIZED
        && let Some(record) = site.access.intruder(peer)
    {
        site.director.note(record);
    }
}

/// Carries an order out, and puts it into the event log.
pub(crate) async fn perform(site: &Site, from: &Sender, mut request: Request) -> Result<Reply, Refusal> {
    if let Request::Drain(about) | Request::Enable(about) | Request::Weight { about, .. } = &mut request {
        about.by = Some(from.who.clone());
    }
    let order = words(&request);
    let told = record(&request);
    let outcome = match site.director.ask(request).await {
        Ok(Reply::Error(why)) => Err(Refusal::new(StatusCode::CONFLICT, why)),
        Ok(reply) => Ok(reply),
        Err(error) => Err(Refusal::unavailable(format!("{error:#}"))),
    };
    let (level, result) = match &outcome {
        Ok(Reply::Done(message)) => (Level::Info, message.clone()),
        Ok(Reply::Replaced(Replaced { left_out, .. })) if !left_out.is_empty() => {
            (Level::Info, format!("done, {} left out", left_out.len()))
        }
        Ok(_) => (Level::Info, "done".to_owned()),
        Err(refusal) => (Level::Warning, format!("refused: {}", refusal.detail)),
    };
    let text = format!("{} ({}) by HTTP: {order}: {result}", from.who, from.peer.0.ip());
    site.director.note(told(Record::new(level, "http_order", text).by(&from.who)));
    site.snapshots.take(site.director.as_ref()).await;
    outcome
}

/// An order as the command line has it.
fn words(request: &Request) -> String {
    let force = |forced: &bool| if *forced { " --force" } else { "" };
    match request {
        Request::Drain(about) => format!("drain {}", about_words(about)),
        Request::Enable(about) => format!("enable {}", about_words(about)),
        Request::Weight { about, weight: Some(weight) } => format!("weight {weight} {}", about_words(about)),
        Request::Weight { about, weight: None } => format!("weight configured {}", about_words(about)),
        Request::Probe { service, server } => format!("probe {service} {server}"),
        Request::Failover { group } => format!("failover {}", group.as_deref().unwrap_or("of all groups")),
        Request::Failback { group } => format!("failback {}", group.as_deref().unwrap_or("of all groups")),
        Request::Standby { force: forced } => format!("standby{}", force(forced)),
        Request::Resume => "resume".to_owned(),
        Request::Maintenance { on, force: forced } => {
            format!("maintenance {}{}", if *on { "on" } else { "off" }, force(forced))
        }
        Request::Changes { changes, .. } => {
            let all: Vec<String> = changes.iter().map(Change::to_string).collect();
            format!("change {}", shortened(&all))
        }
        Request::ClearOverlay { source, .. } => {
            format!("overlay clear{}", source.as_ref().map_or_else(String::new, |one| format!(" {one}")))
        }
        Request::Zero { service } => format!("zero {}", service.as_deref().unwrap_or("all services")),
        Request::TestAlerts { receiver } => {
            format!("alerts test {}", receiver.as_deref().unwrap_or("all receivers"))
        }
        Request::Diff => "diff".to_owned(),
        Request::Reload => "reload".to_owned(),
        Request::ReplaceSource { source, services } => {
            format!("all services of the source {source}, {}", services.len())
        }
        _ => "an order that is none of the API's".to_owned(),
    }
}

/// The server, where, and why.
fn about_words(about: &ServerRequest) -> String {
    let ServerRequest { server, service, reason, by: _ } = about;
    let service = service.as_ref().map_or_else(String::new, |service| format!(" in {service}"));
    let reason = reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("{server}{service}{reason}")
}

/// The first ones, and how many more there are.
fn shortened(all: &[String]) -> String {
    const TOLD: usize = 3;
    let told = all.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(TOLD) {
        Some(more @ 1..) => format!("{told} and {more} more"),
        _ => told,
    }
}

/// What an order's event has besides.
fn record(request: &Request) -> impl FnOnce(Record) -> Record + Send + use<> {
    let (server, group) = match request {
        Request::Drain(ServerRequest { server, .. })
        | Request::Enable(ServerRequest { server, .. })
        | Request::Weight { about: ServerRequest { server, .. }, .. }
        | Request::Probe { server, .. } => (Some(server.clone()), None),
        Request::Failover { group } | Request::Failback { group } => (None, group.clone()),
        _ => (None, None),
    };
    |record| Record { server, group, ..record }
}

/// The answer of an order that has another reply than it can have.
pub(super) fn odd() -> Refusal {
    Refusal::unavailable("the director gave an answer of another type than was asked for")
}

async fn done<T>(site: &Site, order: &Order<T>, request: Request) -> Answer<Done> {
    match perform(site, &order.from, request).await? {
        Reply::Done(message) => Ok(Json(Done { message })),
        _ => Err(odd()),
    }
}

async fn accepted<T>(site: &Site, order: &Order<T>, request: Request) -> Answer<Accepted> {
    match perform(site, &order.from, request).await? {
        Reply::Accepted(accepted) => Ok(Json(accepted)),
        _ => Err(odd()),
    }
}

pub(super) async fn drain(State(site): State<Site>, order: Order<DrainServer>) -> Answer<Done> {
    let DrainServer { server, service, reason } = order.body.clone();
    let about = ServerRequest { service, ..ServerRequest::about(server).because(reason) };
    done(&site, &order, Request::Drain(about)).await
}

pub(super) async fn enable(State(site): State<Site>, order: Order<EnableServer>) -> Answer<Done> {
    let EnableServer { server, service } = order.body.clone();
    let about = ServerRequest { service, ..ServerRequest::about(server) };
    done(&site, &order, Request::Enable(about)).await
}

pub(super) async fn weight(State(site): State<Site>, order: Order<WeighServer>) -> Answer<Done> {
    let WeighServer { server, service, weight, reason } = order.body.clone();
    let about = ServerRequest { service, ..ServerRequest::about(server).because(reason) };
    done(&site, &order, Request::Weight { about, weight }).await
}

pub(super) async fn probe(State(site): State<Site>, order: Order<ProbeServer>) -> Answer<Vec<ProbeReport>> {
    let ProbeServer { service, server } = order.body.clone();
    match perform(&site, &order.from, Request::Probe { service, server }).await? {
        Reply::Probes(reports) => Ok(Json(reports)),
        _ => Err(odd()),
    }
}

pub(super) async fn failover(State(site): State<Site>, order: Order<MoveGroup>) -> Answer<Accepted> {
    let group = order.body.group.clone();
    accepted(&site, &order, Request::Failover { group }).await
}

pub(super) async fn failback(State(site): State<Site>, order: Order<MoveGroup>) -> Answer<Accepted> {
    let group = order.body.group.clone();
    accepted(&site, &order, Request::Failback { group }).await
}

pub(super) async fn standby(State(site): State<Site>, order: Order<Standby>) -> Answer<Accepted> {
    let Standby { force } = order.body;
    accepted(&site, &order, Request::Standby { force }).await
}

pub(super) async fn resume(State(site): State<Site>, order: Order<Reload>) -> Answer<Accepted> {
    accepted(&site, &order, Request::Resume).await
}

pub(super) async fn maintenance(State(site): State<Site>, order: Order<Maintenance>) -> Answer<Accepted> {
    let Maintenance { on, force } = order.body;
    accepted(&site, &order, Request::Maintenance { on, force }).await
}

/// What an order has changed, or would change.
async fn differences(site: &Site, from: &Sender, request: Request) -> Answer<Vec<Difference>> {
    match perform(site, from, request).await? {
        Reply::Differences(differences) => Ok(Json(differences)),
        _ => Err(odd()),
    }
}

pub(super) async fn change_overlay(
    State(site): State<Site>,
    order: Order<ChangeOverlay>,
) -> Answer<Vec<Difference>> {
    let Order { from, body: ChangeOverlay { changes } } = order;
    differences(&site, &from, Request::Changes { source: CLI.to_owned(), changes }).await
}

pub(super) async fn clear_overlay(
    State(site): State<Site>,
    order: Order<ClearOverlay>,
) -> Answer<Vec<Difference>> {
    let Order { from, body: ClearOverlay { source } } = order;
    differences(&site, &from, Request::ClearOverlay { source, saved: None }).await
}

pub(super) async fn diff(State(site): State<Site>, order: Order<Reload>) -> Answer<Vec<Difference>> {
    differences(&site, &order.from, Request::Diff).await
}

pub(super) async fn zero(State(site): State<Site>, order: Order<ZeroCounters>) -> Answer<Done> {
    let service = order.body.service.clone();
    done(&site, &order, Request::Zero { service }).await
}

pub(super) async fn test_alerts(
    State(site): State<Site>,
    order: Order<TestAlerts>,
) -> Answer<Vec<AlertTest>> {
    let receiver = order.body.receiver.clone();
    match perform(&site, &order.from, Request::TestAlerts { receiver }).await? {
        Reply::AlertTests(tests) => Ok(Json(tests)),
        _ => Err(odd()),
    }
}

pub(super) async fn replace_source(
    State(site): State<Site>,
    order: Order<ReplaceSource>,
) -> Answer<Replaced> {
    let Order { from, body: ReplaceSource { source, services } } = order;
    match perform(&site, &from, Request::ReplaceSource { source, services }).await? {
        Reply::Replaced(replaced) => Ok(Json(replaced)),
        _ => Err(odd()),
    }
}

pub(super) async fn reload(State(site): State<Site>, order: Order<Reload>) -> Answer<Done> {
    match perform(&site, &order.from, Request::Reload).await? {
        Reply::Differences(changes) if changes.is_empty() => {
            Ok(Json(Done { message: "reloaded: nothing has changed".to_owned() }))
        }
        Reply::Differences(changes) => {
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            Ok(Json(Done { message: changes.join("; ") }))
        }
        _ => Err(odd()),
    }
}

//! What needs a token. Every order is an event with who gave it.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode};
use lb_api::events::{Level, Record};
use lb_api::http::{Done, DrainServer, EnableServer, MoveGroup, ProbeServer, Reload, ReplaceSource};
use lb_api::status::{Accepted, ProbeReport};
use lb_api::wire::{Replaced, Reply, Request, ServerRequest};
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
    if let Request::Drain(about) | Request::Enable(about) = &mut request {
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
    match request {
        Request::Drain(ServerRequest { server, reason, .. }) => {
            let reason = reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
            format!("drain {server}{reason}")
        }
        Request::Enable(ServerRequest { server, .. }) => format!("enable {server}"),
        Request::Probe { service, server } => format!("probe {service} {server}"),
        Request::Failover { group } => format!("failover {}", group.as_deref().unwrap_or("of all groups")),
        Request::Failback { group } => format!("failback {}", group.as_deref().unwrap_or("of all groups")),
        Request::Reload => "reload".to_owned(),
        Request::ReplaceSource { source, services } => {
            format!("all services of the source {source}, {}", services.len())
        }
        _ => "an order that is none of the API's".to_owned(),
    }
}

/// What an order's event has besides.
fn record(request: &Request) -> impl FnOnce(Record) -> Record + Send + use<> {
    let (server, group) = match request {
        Request::Drain(ServerRequest { server, .. })
        | Request::Enable(ServerRequest { server, .. })
        | Request::Probe { server, .. } => (Some(server.clone()), None),
        Request::Failover { group } | Request::Failback { group } => (None, group.clone()),
        _ => (None, None),
    };
    |record| Record { server, group, ..record }
}

/// The answer of an order that has another reply than it can have.
fn odd() -> Refusal {
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
    let DrainServer { server, reason } = order.body.clone();
    done(&site, &order, Request::Drain(ServerRequest::about(server).because(reason))).await
}

pub(super) async fn enable(State(site): State<Site>, order: Order<EnableServer>) -> Answer<Done> {
    let EnableServer { server } = order.body.clone();
    done(&site, &order, Request::Enable(ServerRequest::about(server))).await
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

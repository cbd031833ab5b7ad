//! Orders by the page, in two steps: a link leads to a page that says what will happen and asks for
//! the token; the form on it gives the order. No cookie, so no other site can have one sent.

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequest, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use lb_api::status::{Accepted, ProbeReport, Tone};
use lb_api::wire::{Reply, Request};
use lb_api::words;
use lb_model::millis;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Asked, Trouble, html_of, layout, state};
use crate::access::Peer;
use crate::api::orders::{Sender, perform, tell_intruder};
use crate::problem::Refusal;
use crate::server::Site;

/// An order, as links and forms have it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Order {
    r#do: String,
    #[serde(default)]
    service: String,
    #[serde(default)]
    server: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    reason: String,
}

/// The form: an order with its token.
#[derive(Deserialize)]
struct Given {
    #[serde(flatten)]
    order: Order,
    #[serde(default)]
    token: String,
}

impl Order {
    fn request(&self) -> Result<Request, Trouble> {
        let Self { r#do, service, server, group, reason } = self.clone();
        let group = (!group.is_empty()).then_some(group);
        let reason = (!reason.is_empty()).then_some(reason);
        match &*r#do {
            "disable" => Ok(Request::Disable { server, reason }),
            "enable" => Ok(Request::Enable { server }),
            "probe" => Ok(Request::Probe { service, server }),
            "failover" => Ok(Request::Failover { group }),
            "failback" => Ok(Request::Failback { group }),
            other => Err(Trouble(Refusal::bad(format!("there is no order {other:?}")))),
        }
    }

    /// What it is, and what will happen.
    fn words(&self) -> (String, &'static str) {
        let Self { r#do, service, server, group, .. } = self;
        match &**r#do {
            "disable" => (
                format!("Disable {server}"),
                "It gets no new connections until it is enabled, over restarts too. Open connections go on.",
            ),
            "enable" => (format!("Enable {server}"), "It gets new connections again if its checks succeed."),
            "probe" => {
                (format!("Probe {server} of {service}"), "Its checks are made now; the steps are shown.")
            }
            "failover" => (format!("Fail {group} over"), "The group moves to the next node."),
            _ => (format!("Fail {group} back"), "The group moves to its preferred node."),
        }
    }

    fn fields(&self) -> [(&'static str, &str); 4] {
        [("do", &self.r#do), ("service", &self.service), ("server", &self.server), ("group", &self.group)]
    }
}

/// A link to the first step.
pub(super) fn link(order: &str, fields: &[(&str, &str)], text: &str) -> Markup {
    let all: Vec<(&str, &str)> = [("do", order)].into_iter().chain(fields.iter().copied()).collect();
    let query = serde_urlencoded::to_string(&all).unwrap_or_default();
    let of: Vec<&str> = fields.iter().rev().map(|(_, value)| *value).collect();
    html! {
        a href=(format!("/order?{query}")) aria-label=(format!("{text} {}", of.join(" of "))) { (text) }
    }
}

/// The first step: what will happen, and the form.
pub(super) async fn ask(State(site): State<Site>, Asked(order): Asked<Order>) -> Result<Response, Trouble> {
    order.request()?;
    if !site.access.takes_orders() {
        return Err(Trouble(Refusal::new(
            StatusCode::FORBIDDEN,
            "this director takes no orders by HTTP: its configuration has no `tokens` in `web`",
        )));
    }
    let (title, what) = order.words();
    let body = html! {
        h1 { (title) "?" }
        section aria-label=(title) {
            p { (what) }
            form class="order" action="/order" method="post" {
                @for (name, value) in order.fields() {
                    @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
                }
                @if order.r#do == "disable" {
                    label { "Reason, shown beside the server" input name="reason" maxlength="200" autocomplete="off"; }
                }
                label {
                    "Your token; your name will stand in the event log"
                    input name="token" type="password" required autocomplete="current-password";
                }
                button type="submit" { (title) }
            }
            p { a href="/" { "Leave it" } }
        }
    };
    Ok(html_of(layout(&title, None, &body).into_string()))
}

/// The second step.
pub(super) async fn give(State(site): State<Site>, request: HttpRequest) -> Result<Response, Trouble> {
    let peer = request.extensions().get::<Peer>().copied();
    let peer = peer.ok_or_else(|| Trouble(Refusal::bad("nobody knows where the request came from")))?;
    let Form(Given { order, token }) = Form::from_request(request, &site)
        .await
        .map_err(|error: FormRejection| Trouble(Refusal::new(error.status(), error.body_text())))?;
    let who = site.access.owner(Some(token.trim())).map_err(|refusal| {
        tell_intruder(&site, &refusal, peer);
        Trouble(refusal)
    })?;
    let request = order.request()?;
    let (title, _) = order.words();
    let reply = perform(&site, &Sender { who, peer }, request).await.map_err(Trouble)?;
    let body = html! {
        h1 { (title) }
        section aria-label="Result" { (result(&reply)) }
        p { a href="/" { "Back to the overview" } }
    };
    Ok(html_of(layout(&title, None, &body).into_string()))
}

fn result(reply: &Reply) -> Markup {
    match reply {
        Reply::Done(message) => html! { p { (state(Tone::Good, message)) } },
        Reply::Accepted(accepted) => moves(accepted),
        Reply::Probes(reports) => html! { @for report in reports { (probe(report)) } },
        _ => html! { p { "Done." } },
    }
}

fn moves(Accepted { moves, note }: &Accepted) -> Markup {
    html! {
        @if moves.is_empty() { p { "No group moves." } }
        @for one in moves { p { (state(Tone::Good, &format!("{} leaves {}", one.group, one.from))) } }
        @if let Some(note) = note { p { (note) } }
    }
}

fn probe(report: &ProbeReport) -> Markup {
    let via = if report.via_vip { " through the VIP" } else { "" };
    html! {
        h2 { (report.check) " to " (report.target) (via) }
        p {
            @match &report.failure {
                None => { (state(Tone::Good, &format!("succeeded in {}", millis(report.took_us)))) }
                Some(failure) => { (state(Tone::Bad, &format!("failed: {}", words::printable(failure)))) }
            }
        }
        ol {
            @for step in &report.steps { li { (millis(step.after_us)) ": " (words::printable(&step.what)) } }
        }
        @if let Some(warning) = &report.warning { p { (state(Tone::Warning, &words::printable(warning))) } }
        @if let Some(advice) = &report.advice { p { "Advised weight: " (words::printable(advice)) } }
    }
}

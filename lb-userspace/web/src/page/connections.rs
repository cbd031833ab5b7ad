//! Where a client's connections go: a form, and what the table has.

use axum::extract::State;
use axum::response::Response;
use lb_api::connections::Connection;
use lb_api::words;
use maud::{Markup, html};

use super::cluster::scrolling;
use super::{Asked, Trouble, html_of, layout, services};
use crate::connections::{Found, Wanted};
use crate::server::Site;

/// Nothing is kept: the table changes with each packet, and who asks wants to know now.
pub(super) async fn connections(
    State(site): State<Site>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Response, Trouble> {
    let found = match wanted.is_empty() {
        true => None,
        false => Some(wanted.find(&site).await.map_err(Trouble)?),
    };
    let body = html! {
        h1 { "Connections" }
        (form(&wanted))
        @if let Some(found) = &found { (list(found)) }
    };
    Ok(html_of(layout("Connections", None, &body).into_string()))
}

fn form(wanted: &Wanted) -> Markup {
    let field = |name: &str, label: &str, example: &str, value: &Option<String>| {
        let id = format!("of-{name}");
        html! {
            label for=(id) { (label) }
            input id=(id) name=(name) value=(value.as_deref().unwrap_or_default()) placeholder=(example)
                autocomplete="off";
        }
    };
    html! {
        form class="ask" action="/connections" method="get" {
            (field("client", "Client", "192.0.2.7 or 192.0.2.0/24", &wanted.client))
            (field("service", "Service", "name or VIP:port", &wanted.service))
            (field("server", "Server", "name or address", &wanted.server))
            button type="submit" { "Show" }
        }
    }
}

fn list(found: &Found) -> Markup {
    let table = html! {
        table {
            thead { tr {
                th scope="col" { "Client" }
                th scope="col" { "Virtual" }
                th scope="col" { "Service" }
                th scope="col" { "Server" }
                th scope="col" { "State" }
                th scope="col" class="number" { "Expires in" }
            } }
            tbody { @for connection in &found.connections { (row(connection)) } }
        }
    };
    let next = found.next.as_ref().and_then(|next| serde_urlencoded::to_string(next).ok());
    html! {
        section aria-label="Connections that were found" {
            @if found.connections.is_empty() { p { "The table has no such connection." } }
            @else { (scrolling("Table of connections", &table)) }
            @if let Some(next) = next { p { a rel="next" href=(format!("/connections?{next}")) { "More" } } }
        }
    }
}

fn row(connection: &Connection) -> Markup {
    let Connection { protocol, client, client_port, vip, port, service, server, method, .. } = connection;
    html! {
        tr {
            th scope="row" { (protocol.to_uppercase()) " " (words::address(*client, *client_port)) }
            td { (words::address(*vip, *port)) }
            td { @if let Some(name) = service { a href=(services::link(name)) { (name) } } @else { "leaving" } }
            td { (server) @if let Some(method) = method { " " span class="dim" { (method.name()) } } }
            td { (connection.state) }
            td class="number" { (words::uptime(connection.expires_in_s)) }
        }
    }
}

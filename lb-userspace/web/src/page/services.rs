//! A service, and its servers.

use lb_api::http::{Point, Share};
use lb_api::status::{ServerStatus, ServiceStatus, Tone};
use lb_api::words;
use lb_model::Health;
use maud::{Markup, html};

use super::cluster::scrolling;
use super::{charts, class, orders, state};

/// A service, and what the history says of it.
pub(super) struct Shown<'a> {
    pub service: &'a ServiceStatus,
    pub points: Vec<Point>,
    /// In the order of the servers.
    pub shares: Vec<Option<Share>>,
}

/// Which servers are shown, and how much can be done.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub first: usize,
    pub most: usize,
    pub may_order: bool,
}

pub(super) fn section(shown: &Shown<'_>, extent: Extent, level: usize) -> Markup {
    let service = shown.service;
    let (tone, fallback) = service.fallback_words();
    let id = format!("service-{}", anchor(&service.name));
    let page = link(&service.name);
    html! {
        section class="service" aria-labelledby=(id) data-service=(service.name) {
            div class="head" {
                @if level == 1 { h1 id=(id) { (service.name) } } @else { h2 id=(id) { a href=(page) { (service.name) } } }
                span { (service.protocol.to_uppercase()) " " strong { (service.address()) } }
                span { "Scheduler " (service.scheduler) }
                @if let Some(persistence) = &service.persistence {
                    span { "Persistence " (persistence.timeout_s) " s, " (words::grouped(persistence.bound)) " clients bound" }
                }
                span { "Fallback " @if tone == Tone::Plain { (fallback) } @else { (state(tone, &words::printable(&fallback))) } }
                span { (quorum(service)) }
            }
            (charts::charts(&shown.points))
            (servers(shown, extent))
        }
    }
}

fn quorum(service: &ServiceStatus) -> Markup {
    let quorum = &service.quorum;
    html! {
        "Quorum " (quorum.weight) ": "
        @if quorum.won { (state(Tone::Good, "won")) } @else { (state(Tone::Bad, "LOST")) }
        " with " (quorum.usable) ", for " (words::since(quorum.since_s))
    }
}

fn servers(shown: &Shown<'_>, Extent { first, most, may_order }: Extent) -> Markup {
    let service = shown.service;
    let all = service.servers.len();
    let rows = service.servers.iter().zip(shown.shares.iter().copied()).skip(first).take(most);
    let name = format!("Servers of {}", service.name);
    let table = html! {
        table {
            thead { tr {
                th scope="col" { "Server" }
                th scope="col" { "State" }
                th scope="col" class="number" { "Weight" }
                th scope="col" class="number" { "Active" }
                th scope="col" class="number wide" { "Inactive" }
                th scope="col" { "Share / fair" }
                th scope="col" { "Last checks" }
                th scope="col" { "Why" }
                th scope="col" class="wide" { "By" }
                @if may_order { th scope="col" { "Orders" } }
            } }
            tbody {
                @for (server, share) in rows { (row(service, server, share, may_order)) }
                @if let Some(fallback) = &service.fallback_server { (fallback_row(fallback, may_order)) }
            }
        }
    };
    html! {
        (scrolling(&name, &table))
        @if all > first + most {
            p { (words::grouped((all - first - most) as u64)) " more servers: "
                a href=(format!("{}&from={}", link(&service.name), first + most)) { "see them" } }
        }
    }
}

fn row(service: &ServiceStatus, server: &ServerStatus, share: Option<Share>, may_order: bool) -> Markup {
    let tone = server.health_tone();
    let (weight_tone, weight) = server.weight_words();
    html! {
        tr data-server=(server.name) {
            th scope="row" { (server_name(server)) }
            td { (state(tone, server.health.word())) " " span class="dim" { (words::since(server.since_s)) } }
            td class={ "number " (class(weight_tone)) } { (weight) }
            td class="number" { (words::grouped(server.active.into())) }
            td class="number wide" { (words::grouped(server.inactive.into())) }
            td class="share" { (charts::share(share)) }
            td {
                @for check in &server.checks {
                    div { (check.check) " " (charts::latencies(&check.check, &check.latencies_us)) }
                }
            }
            td class="reason" { (words::printable(&server.notes())) }
            td class="wide" { (by(server)) }
            @if may_order { td { (server_orders(service, server)) } }
        }
    }
}

fn by(server: &ServerStatus) -> Markup {
    html! {
        (server.method.name())
        @if let Some(tunnel) = &server.tunnel { " " (tunnel) }
        ", "
        @match &server.mac {
            Some(mac) => { (mac) }
            None => { (state(Tone::Warning, "MAC unresolved")) }
        }
    }
}

fn server_name(server: &ServerStatus) -> Markup {
    let address = words::address(server.address, server.port);
    html! {
        @if server.name == server.address.to_string() { (address) }
        @else { (server.name) " " span class="dim" { (address) } }
    }
}

/// A server that is not checked, and has no weight to speak of.
fn fallback_row(server: &ServerStatus, may_order: bool) -> Markup {
    html! {
        tr {
            th scope="row" { (server_name(server)) }
            td { @if server.effective_weight > 0 { (state(Tone::Bad, "SERVING")) } @else { "fallback" } }
            td {}
            td class="number" { (words::grouped(server.active.into())) }
            td class="number wide" { (words::grouped(server.inactive.into())) }
            td {}
            td {}
            td class="reason" { (words::printable(&server.notes())) }
            td class="wide" { (by(server)) }
            @if may_order { td {} }
        }
    }
}

fn server_orders(service: &ServiceStatus, server: &ServerStatus) -> Markup {
    let name = words::address(server.address, server.port);
    html! {
        span class="links" {
            @match server.health {
                Health::Maintenance => { (orders::link("enable", &[("server", &name)], "Enable")) }
                Health::Draining => {}
                _ => { (orders::link("disable", &[("server", &name)], "Disable")) }
            }
            @if !server.checks.is_empty() {
                (orders::link("probe", &[("service", &service.name), ("server", &server.address.to_string())], "Probe"))
            }
        }
    }
}

/// Where a service's own page is.
pub(super) fn link(name: &str) -> String {
    format!("/service?{}", serde_urlencoded::to_string([("name", name)]).unwrap_or_default())
}

/// A name as an id of HTML, which has no blanks.
fn anchor(name: &str) -> String {
    name.chars().map(|character| if character.is_whitespace() { '_' } else { character }).collect()
}

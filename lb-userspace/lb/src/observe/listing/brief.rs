//! A line for each service.

use lb_api::events::Level;
use lb_api::status::{ServiceStatus, Status};
use lb_model::Health;

use super::table::{Cell, Table};
use super::{Tone, View, finding_lines, rate_cells, refused, words};

/// What is wrong with the director, then the services, in the order of the configuration.
pub(crate) fn brief(status: &Status, view: &View<'_>) -> String {
    let mut text = String::new();
    if let Some(error) = &status.config_error {
        text += &refused(&status.config, error, view.colour);
    }
    let errors = status.findings.iter().filter(|finding| finding.level == Level::Error);
    text.extend(errors.map(|finding| finding_lines(finding, view.colour)));
    text += &super::summary::of(status, view.colour);
    let mut table = Table::new("", view.colour);
    let mut head = ["Service", "Prot", "VIP:Port", "State", "Up", "ActiveConn", "InActConn", "", "", ""];
    if view.rates.is_some() {
        [head[7], head[8], head[9]] = super::RATES;
    }
    table.row(head.map(Cell::plain));
    for service in &status.services {
        table.row(row(service, view));
    }
    text + &table.lines().collect::<String>()
}

fn row(service: &ServiceStatus, view: &View<'_>) -> [Cell; 10] {
    let (word, tone) = state(service);
    let servers = || service.servers.iter().filter(|server| server.health != Health::Draining);
    let up = servers().filter(|server| server.effective_weight > 0).count();
    let all = || service.servers.iter().chain(&service.fallback_server);
    let active: u64 = all().map(|server| u64::from(server.active)).sum();
    let inactive: u64 = all().map(|server| u64::from(server.inactive)).sum();
    let [connections, packets, bytes] = rate_cells(view.rates.map(|rates| rates.of_service(service)));
    [
        Cell::new(&service.name, Tone::Strong),
        Cell::plain(&service.protocol.to_uppercase()),
        Cell::plain(&words::ports(service.vip, &service.ports)),
        Cell::new(word, tone),
        Cell::plain(&format!("{up}/{}", servers().count())),
        Cell::plain(&active.to_string()),
        Cell::plain(&inactive.to_string()),
        connections,
        packets,
        bytes,
    ]
}

/// In one word.
fn state(service: &ServiceStatus) -> (&'static str, Tone) {
    let ServiceStatus { draining, on_fallback, fallback_ready, servers, .. } = service;
    match (draining, on_fallback, fallback_ready) {
        (true, _, _) => ("draining", Tone::Warning),
        (false, true, true) => ("fallback", Tone::Bad),
        (false, true, false) => ("DOWN", Tone::Bad),
        (false, false, _) if servers.iter().any(|server| server.health == Health::Down) => {
            ("degraded", Tone::Warning)
        }
        (false, false, _) => ("up", Tone::Good),
    }
}

//! What lies over the view: help, details, the question whether an order is meant, what came of it.

use lb_api::connections::Connection;
use lb_api::events::Record;
use lb_api::status::{ServerStatus, ServiceStatus, Tone};
use lb_api::wire::{Request, ServerRequest};
use lb_api::words;
use lb_model::millis;
use ratatui::Frame;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::{middle, toned};
use crate::state::{Over, State, View};

const HELP: &[&str] = &[
    "Tab, 1 to 5   services, servers, events, cluster, connections",
    "↑ ↓ j k       select; PgUp, PgDn, Home, End",
    "Enter         into a service; all of a server, event or connection",
    "c             connections of a service or server",
    "n b r         next connections, those before; ask for them anew",
    "Esc           out again; no filter",
    "/             filter by name, address, state; connections by client",
    "s             another order",
    "d e p         drain, enable, probe a server; asks first",
    "q, Ctrl-C     quit",
];

pub(super) fn draw(state: &State, frame: &mut Frame<'_>) {
    let (title, lines) = match &state.over {
        None | Some(Over::Filter) => return,
        Some(Over::Help) => ("Keys", HELP.iter().map(|line| Line::from(*line)).collect()),
        Some(Over::Details) => match state.view {
            View::Servers => match state.selected_server() {
                Some((service, server)) => ("Server", server_lines(state, service, server)),
                None => return,
            },
            View::Connections => match state.selected_connection() {
                Some(connection) => ("Connection", connection_lines(connection)),
                None => return,
            },
            _ => match state.selected_event() {
                Some(record) => ("Event", event_lines(state, record)),
                None => return,
            },
        },
        Some(Over::Confirm(order)) => ("Order", question(order)),
        Some(Over::Outcome(true, lines)) => ("Done", lines.iter().map(|line| plain(line)).collect()),
        Some(Over::Outcome(false, lines)) => {
            ("Refused", lines.iter().map(|line| Line::from(toned(state, Tone::Bad, line.clone()))).collect())
        }
    };
    let area = frame.area();
    let width = area.width.min(72);
    let inner = usize::from(width.saturating_sub(2)).max(1);
    let height: usize = lines.iter().map(|line: &Line<'_>| line.width().div_ceil(inner).max(1)).sum();
    let place = middle(area, width, u16::try_from(height + 2).unwrap_or(u16::MAX));
    frame.render_widget(Clear, place);
    let text = Paragraph::new(lines).wrap(Wrap { trim: false }).block(Block::bordered().title(title));
    frame.render_widget(text, place);
}

fn plain(text: &str) -> Line<'static> {
    Line::from(words::printable(text))
}

fn question(order: &Request) -> Vec<Line<'static>> {
    let (question, effect) = match order {
        Request::Drain(ServerRequest { server, .. }) => (
            format!("Drain {server}?"),
            "It gets no new connections until it is enabled, over restarts too. Open connections go on.",
        ),
        Request::Enable(ServerRequest { server, .. }) => {
            (format!("Enable {server}?"), "It gets new connections again if its checks succeed.")
        }
        Request::Probe { service, server } => {
            (format!("Probe {server} of {service}?"), "Its checks are made now; the steps are shown.")
        }
        _ => ("Do it?".to_owned(), ""),
    };
    vec![plain(&question), plain(effect), plain(""), plain("y yes   n no")]
}

fn server_lines(state: &State, service: &ServiceStatus, server: &ServerStatus) -> Vec<Line<'static>> {
    let (tone, weight) = server.weight_words();
    let mac = server.mac.as_deref().unwrap_or("unresolved");
    let mut lines = vec![
        plain(&format!(
            "{} {} of {} ({} {})",
            server.name,
            words::address(server.address, server.port),
            service.name,
            service.protocol,
            service.address()
        )),
        Line::from(vec![
            toned(state, server.health_tone(), server.health.word()),
            toned(state, Tone::Plain, format!(" for {}, weight ", words::uptime(server.since_s))),
            toned(state, tone, weight),
            toned(state, Tone::Plain, format!(", {} to {mac}", server.method.name())),
        ]),
        plain(&format!(
            "{} active, {} inactive, {} connections, {} packets, {} bytes",
            words::grouped(server.active.into()),
            words::grouped(server.inactive.into()),
            words::grouped(server.connections),
            words::grouped(server.packets),
            words::grouped(server.bytes)
        )),
    ];
    let notes = server.notes();
    if !notes.is_empty() {
        lines.push(Line::from(toned(state, Tone::Warning, notes)));
    }
    for check in &server.checks {
        let latencies: Vec<String> = check.latencies_us.iter().map(|micros| millis(*micros)).collect();
        lines.push(plain(&format!("check {}: {}", check.check, latencies.join(", "))));
    }
    let events = state.snapshot.iter().flat_map(|snapshot| snapshot.events.iter().rev());
    let own = events.filter(|record| {
        record.server.as_ref() == Some(&server.name)
            && record.service.as_ref().is_none_or(|name| *name == service.name)
    });
    for record in own.take(5) {
        let line = format!("{} {}", record.time.get(11..19).unwrap_or_default(), record.text);
        lines.push(Line::from(toned(state, record.level.into(), line)));
    }
    lines
}

fn connection_lines(connection: &Connection) -> Vec<Line<'static>> {
    let Connection { protocol, client, client_port, vip, port, service, server, method, .. } = connection;
    let (client, vip) = (words::address(*client, *client_port), words::address(*vip, *port));
    let service = service.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
    let address = match connection.server_address {
        Some(address) => words::address(address, connection.server_port.unwrap_or(*port)),
        None => "which has left".to_owned(),
    };
    let method = method.map_or_else(String::new, |method| format!(", {}", method.name()));
    let expiry = words::uptime(connection.expires_in_s);
    vec![
        plain(&format!("{protocol} {client} to {vip}{service}")),
        plain(&format!("by server {server}, {address}{method}")),
        plain(&format!("{}, forgotten in {expiry} if no packet comes", connection.state)),
    ]
}

fn event_lines(state: &State, record: &Record) -> Vec<Line<'static>> {
    vec![
        plain(&format!("{} {}", record.time, record.event)),
        Line::from(toned(state, record.level.into(), record.text.clone())),
    ]
}

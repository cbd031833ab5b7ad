//! Services, servers, events: tables with a selected row.

use lb_api::status::{ServerStatus, ServiceStatus, Tone};
use lb_api::words;
use lb_model::millis;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, TableState};

use super::{bits, rate, toned};
use crate::rates::Of;
use crate::rows;
use crate::state::State;

/// Columns of a sparkline in a row.
const SPARK: u16 = 12;

/// Columns from which on everything is shown, and below which only the most important is.
pub(super) const WIDE: u16 = 100;
const NARROW: u16 = 60;

/// The columns of a table: names and widths, the most important first.
pub(super) struct Columns<const N: usize>(pub(super) [(&'static str, Constraint); N]);

impl<const N: usize> Columns<N> {
    /// The columns that there is room for: the first `few`, the usual ones, or all.
    pub(super) fn shown(&self, width: u16, few: usize, usual: usize) -> &[(&'static str, Constraint)] {
        let most = if width >= WIDE {
            N
        } else if width >= NARROW {
            usual
        } else {
            few
        };
        &self.0[..most]
    }
}

pub(super) fn table<'a>(
    columns: &[(&'static str, Constraint)],
    rows: impl Iterator<Item = Vec<Cell<'a>>>,
) -> Table<'a> {
    let count = columns.len();
    let rows = rows.map(move |cells| Row::new(cells.into_iter().take(count)));
    let widths = columns.iter().map(|(_, width)| *width);
    Table::new(rows, widths).header(head(columns.iter().map(|(name, _)| *name)))
}

fn head<'a>(words: impl IntoIterator<Item = &'a str>) -> Row<'a> {
    Row::new(words.into_iter().map(Cell::from)).style(Style::new().add_modifier(Modifier::BOLD))
}

pub(super) fn right(text: String) -> Cell<'static> {
    Cell::from(Text::from(text).right_aligned())
}

pub(super) fn show(state: &State, table: Table<'_>, frame: &mut Frame<'_>, area: Rect) {
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED)).column_spacing(1);
    let mut selected = TableState::new().with_selected(Some(state.row));
    frame.render_stateful_widget(table, area, &mut selected);
}

/// Bars of eighths: a sparkline in a cell.
fn bars(values: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    values.iter().map(|value| BARS[(value * 7).div_ceil(most).min(7) as usize]).collect()
}

pub(super) fn services(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let Some(status) = state.status() else { return };
    let found = rows::services(state, status);
    if found.is_empty() {
        return frame.render_widget(Paragraph::new("No service fits."), area);
    }
    let columns = Columns([
        ("Service", Constraint::Fill(2)),
        ("Servers", Constraint::Length(7)),
        ("Conn/s", Constraint::Length(8)),
        ("Active", Constraint::Length(9)),
        ("Bit/s", Constraint::Length(7)),
        ("VIP", Constraint::Fill(4)),
        ("Last", Constraint::Length(SPARK)),
        ("Sched", Constraint::Length(6)),
        ("Fallback", Constraint::Fill(2)),
    ]);
    let rows = found.iter().map(|service| service_cells(state, service));
    show(state, table(columns.shown(area.width, 3, 6), rows), frame, area);
}

fn service_cells(state: &State, service: &ServiceStatus) -> Vec<Cell<'static>> {
    let of = Of::service(service);
    let serving = service.servers.iter().filter(|server| server.effective_weight > 0).count();
    let (tone, fallback) = service.fallback_words();
    vec![
        Cell::from(words::printable(&service.name)),
        Cell::from(toned(state, service.tone(), format!("{serving}/{}", service.servers.len()))),
        right(rate(state.rates.connections(&of))),
        right(words::grouped(service.active())),
        right(bits(state.rates.bytes(&of))),
        Cell::from(format!("{} {}", service.protocol, service.address())),
        Cell::from(bars(&state.rates.line(&of, SPARK.into()))),
        Cell::from(service.scheduler.clone()),
        Cell::from(toned(state, tone, fallback)),
    ]
}

pub(super) fn servers(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let Some(status) = state.status() else { return };
    let found = rows::servers(state, status);
    let area = match &state.inside {
        Some(name) => service_line(state, status.services.iter().find(|one| one.name == *name), frame, area),
        None => area,
    };
    if found.is_empty() {
        return frame.render_widget(Paragraph::new("No server fits."), area);
    }
    let columns = Columns([
        ("Server", Constraint::Fill(3)),
        ("State", Constraint::Length(15)),
        ("Conn/s", Constraint::Length(7)),
        ("Weight", Constraint::Length(8)),
        ("Active", Constraint::Length(8)),
        ("Check", Constraint::Length(8)),
        ("Last", Constraint::Length(SPARK)),
        ("Service", Constraint::Fill(1)),
        ("Why", Constraint::Fill(3)),
    ]);
    let rows = found.iter().map(|(service, server)| server_cells(state, service, server));
    show(state, table(columns.shown(area.width, 3, 6), rows), frame, area);
}

fn server_cells(state: &State, service: &ServiceStatus, server: &ServerStatus) -> Vec<Cell<'static>> {
    let of = Of::server(service, server);
    let address = words::address(server.address, server.port);
    let name = match server.name == server.address.to_string() {
        true => address,
        false => format!("{} {address}", words::printable(&server.name)),
    };
    let health = format!("{} {}", server.health.word(), words::since(server.since_s));
    let (tone, weight) = server.weight_words();
    vec![
        Cell::from(name),
        Cell::from(toned(state, server.health_tone(), health)),
        right(rate(state.rates.connections(&of))),
        Cell::from(toned(state, tone, weight)),
        right(words::grouped(server.active.into())),
        right(server.last_latency_us().map_or_else(String::new, millis)),
        Cell::from(bars(&state.rates.line(&of, SPARK.into()))),
        Cell::from(words::printable(&service.name)),
        Cell::from(words::printable(&server.notes())),
    ]
}

/// The service that is looked into, with its new connections drawn; returns what is left of `area`.
fn service_line(state: &State, service: Option<&ServiceStatus>, frame: &mut Frame<'_>, area: Rect) -> Rect {
    let Some(service) = service else {
        frame.render_widget(Paragraph::new("The service has left the configuration."), area);
        return Rect { height: 0, ..area };
    };
    let height = if area.height >= 12 { 3 } else { 0 };
    let [about, drawn, rest] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(height), Constraint::Min(1)]).areas(area);
    let of = Of::service(service);
    let (tone, fallback) = service.fallback_words();
    let line = Line::from(vec![
        Span::raw(format!("{} {}, {}, fallback ", service.protocol, service.address(), service.scheduler)),
        toned(state, tone, fallback),
        Span::raw(format!(", {} conn/s", rate(state.rates.connections(&of)))),
    ]);
    frame.render_widget(Paragraph::new(line), about);
    let values = state.rates.line(&of, drawn.width.into());
    frame.render_widget(Sparkline::default().data(&values).style(super::style(state, Tone::Good)), drawn);
    rest
}

pub(super) fn events(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let Some(snapshot) = &state.snapshot else { return };
    let found = rows::events(state, &snapshot.events);
    if found.is_empty() {
        return frame.render_widget(Paragraph::new("No event fits."), area);
    }
    let rows = found.iter().map(|record| {
        let time = record.time.get(11..19).unwrap_or(&record.time).to_owned();
        Row::new([Cell::from(time), Cell::from(toned(state, record.level.into(), record.text.clone()))])
    });
    let widths = [Constraint::Length(8), Constraint::Fill(1)];
    show(state, Table::new(rows, widths).header(head(["UTC", "Event"])), frame, area);
}

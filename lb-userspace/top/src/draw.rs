//! The state on the terminal.
//!
//! - here: what is around the view; `views`: services, servers, events; `cluster`; `connections`;
//!   `over`: what lies over the view

mod cluster;
mod connections;
mod over;
mod views;

use lb_api::status::{Status, Tone};
use lb_api::words;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::listing::Whose;
use crate::rates::Of;
use crate::state::{Over, State, View};

pub(crate) fn draw(state: &State, frame: &mut Frame<'_>) {
    // On a small terminal the view needs the room more.
    let most = if frame.area().height < 15 { 1 } else { 4 };
    let alerts = shortened(alerts(state), most);
    let shown = u16::try_from(alerts.len()).unwrap_or(0);
    let why = why(state, frame.area().width);
    let [head, tabs, wrong, view, below, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(shown),
        Constraint::Min(3),
        Constraint::Length(u16::from(why.is_some())),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(title(state)), head);
    frame.render_widget(Paragraph::new(tabs_line(state, tabs.width)), tabs);
    frame.render_widget(Paragraph::new(alerts), wrong);
    match state.view {
        View::Services => views::services(state, frame, view),
        View::Servers => views::servers(state, frame, view),
        View::Events => views::events(state, frame, view),
        View::Cluster => cluster::draw(state, frame, view),
        View::Connections => connections::draw(state, frame, view),
    }
    if let Some(why) = why {
        frame.render_widget(Paragraph::new(why), below);
    }
    frame.render_widget(Paragraph::new(keys_line(state)), keys);
    over::draw(state, frame);
}

/// A state's colour; without colours what is wrong is bold.
pub(super) fn style(state: &State, tone: Tone) -> Style {
    let colour = match tone {
        Tone::Plain => return Style::new(),
        Tone::Good => Color::Green,
        Tone::Warning => Color::Yellow,
        Tone::Bad => Color::Red,
    };
    let strong = if tone == Tone::Bad { Modifier::BOLD } else { Modifier::empty() };
    let style = Style::new().add_modifier(strong);
    if state.no_color { style } else { style.fg(colour) }
}

pub(super) fn toned(state: &State, tone: Tone, text: impl Into<String>) -> Span<'static> {
    Span::styled(words::printable(&text.into()), style(state, tone))
}

/// A rate with a digit where that tells something; `-` while there is none.
pub(super) fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => words::grouped(rate as u64),
    }
}

/// Bytes a second as bits a second.
pub(super) fn bits(bytes: Option<f64>) -> String {
    let Some(bits) = bytes.map(|bytes| bytes * 8.0) else { return "-".to_owned() };
    const UNITS: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match UNITS.iter().find(|(unit, _)| bits >= *unit) {
        Some((unit, name)) => format!("{:.1}{name}", bits / unit),
        None => format!("{bits:.0}"),
    }
}

fn title(state: &State) -> Line<'static> {
    let Some(status) = state.status() else { return Line::from("lb") };
    let mut spans = vec![
        Span::styled("lb ", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("{} on {}", status.version, status.interface)),
    ];
    if let Some(cluster) = &status.cluster {
        spans.push(Span::raw(format!(", {}:", cluster.node)));
        for group in &cluster.groups {
            let (tone, role) = group.role_words(status.stopping);
            spans.push(Span::raw(format!(" {} ", words::printable(&group.name))));
            spans.push(toned(state, tone, role));
        }
    }
    let servers = || status.services.iter().flat_map(|service| &service.servers);
    let serving = servers().filter(|server| server.effective_weight > 0).count();
    let all = servers().count();
    let tone = if serving == all { Tone::Good } else { Tone::Warning };
    spans.push(Span::raw(", servers "));
    spans.push(toned(state, tone, format!("{serving}/{all}")));
    let total: Option<f64> =
        status.services.iter().map(|service| state.rates.connections(&Of::service(service))).sum();
    spans.push(Span::raw(format!(", {} conn/s, up {}", rate(total), words::uptime(status.uptime_s))));
    Line::from(spans)
}

/// Where there is no room for all their names, that of the view that is looked at.
fn tabs_line(state: &State, width: u16) -> Line<'static> {
    let all = tabs(state, true);
    if all.width() > usize::from(width) { tabs(state, false) } else { all }
}

fn tabs(state: &State, named: bool) -> Line<'static> {
    let mut spans = Vec::new();
    for (number, view) in (1..).zip(View::ALL) {
        let looked_at = view == state.view;
        let style = match looked_at {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        let text = match named || looked_at {
            true => format!(" {number} {} ", view.word()),
            false => format!(" {number} "),
        };
        spans.push(Span::styled(text, style));
    }
    let inside = state.listing.whose.as_ref().map(Whose::words).or_else(|| state.inside.clone());
    if let Some(inside) = inside {
        spans.push(Span::raw(format!(" of {}", words::printable(&inside))));
    }
    Line::from(spans)
}

/// What is wrong with the director and what it serves: a line each, the worst first.
fn alerts(state: &State) -> Vec<Line<'static>> {
    let mut lines: Vec<(Tone, String)> = state.status().into_iter().flat_map(of_status).collect();
    lines.sort_by_key(|(tone, _)| std::cmp::Reverse(*tone));
    let trouble = state.trouble.iter();
    let trouble = trouble.map(|why| (Tone::Bad, format!("NO ANSWER, what is shown is old: {why}")));
    trouble.chain(lines).map(|(tone, text)| Line::from(toned(state, tone, text))).collect()
}

/// What there is to say of the selected server, where there is no room for it in its row.
fn why(state: &State, width: u16) -> Option<Line<'static>> {
    let (service, server) =
        state.selected_server().filter(|_| width < views::WIDE && state.over.is_none())?;
    let notes = server.notes();
    let text = format!("{} of {}: {notes}", server.name, service.name);
    (!notes.is_empty()).then(|| Line::from(toned(state, server.health_tone(), text)))
}

/// The first ones, of which the last shown says how many there are besides.
fn shortened(mut lines: Vec<Line<'static>>, most: usize) -> Vec<Line<'static>> {
    let more = lines.len().saturating_sub(most);
    lines.truncate(most);
    if let (Some(last), 1..) = (lines.last_mut(), more) {
        last.spans.insert(0, Span::raw(format!("(+{more} more) ")));
    }
    lines
}

fn of_status(status: &Status) -> impl Iterator<Item = (Tone, String)> {
    let refused = status
        .config_error
        .as_ref()
        .map(|error| (Tone::Bad, format!("RELOAD FAILED: {}", error.lines().next().unwrap_or_default())));
    let stopping = status.stopping.then(|| (Tone::Warning, "STOPPING".to_owned()));
    let findings = status
        .findings
        .iter()
        .map(|finding| (finding.tone(), format!("{}: {}", finding.finding, finding.text)));
    let services = status.troubles().of_services();
    refused.into_iter().chain(stopping).chain(services).chain(findings)
}

fn keys_line(state: &State) -> Line<'static> {
    let (typed, of_connections) = (state.typed(), state.view == View::Connections);
    if state.over == Some(Over::Filter) {
        return Line::from(match of_connections {
            true => format!("Client: {typed}_   as 10.0.0.7 or 10.0.0.0/8; Enter: ask, Esc: all"),
            false => format!("Filter: {typed}_   Enter: keep, Esc: none"),
        });
    }
    if state.waiting {
        return Line::from("The order is under way …");
    }
    let orders = match state.view {
        View::Services => "c connections  ",
        View::Servers => "d drain  e enable  p probe  c connections  ",
        View::Events | View::Cluster => "",
        View::Connections => "n next  b back  r anew  ",
    };
    let (filter, sort) = match of_connections {
        true => (&*state.listing.client, state.listing.sort.word()),
        false => (&*state.filter, state.sort.word()),
    };
    let filter = match filter {
        "" => String::new(),
        filter => format!("[{filter}] "),
    };
    Line::from(format!("{filter}? help  q quit  / filter  s {sort}  Enter look into  {orders}"))
}

/// `width` columns in the middle of `area`, and as many lines as `height`.
pub(super) fn middle(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    let (left, top) = ((area.width - width) / 2, (area.height - height) / 2);
    Rect::new(area.x + left, area.y + top, width, height)
}

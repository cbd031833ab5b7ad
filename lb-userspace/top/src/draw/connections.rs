//! Connections: a part of the table, and how large a part it is.

use lb_api::connections::Connection;
use lb_api::status::Tone;
use lb_api::words;
use lb_model::Forwarding;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Wrap};

use super::toned;
use super::views::{Columns, right, show, table};
use crate::listing::Part;
use crate::rows::{self, ConnectionSort};
use crate::state::State;

pub(super) fn draw(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let Some(part) = state.listing.part() else {
        let instead = match state.listing.trouble() {
            Some(why) => toned(state, Tone::Bad, format!("The director lists no connections: {why}")),
            None => Span::raw("The director is asked …"),
        };
        let instead = Paragraph::new(Line::from(instead)).wrap(Wrap { trim: false });
        return frame.render_widget(instead, area);
    };
    let [about, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    frame.render_widget(Paragraph::new(Line::from(about_words(state, part))), about);
    let found = rows::connections(&state.listing);
    if found.is_empty() {
        return;
    }
    let columns = Columns([
        ("Client", Constraint::Fill(3)),
        ("State", Constraint::Length(12)),
        ("Server", Constraint::Fill(2)),
        ("VIP", Constraint::Fill(3)),
        ("Expires", Constraint::Length(7)),
        ("Method", Constraint::Length(7)),
        ("Service", Constraint::Fill(2)),
    ]);
    show(state, table(columns.shown(area.width, 3, 5), found.into_iter().map(cells)), frame, rest);
}

fn cells(connection: &Connection) -> Vec<Cell<'static>> {
    let Connection { protocol, client, client_port, vip, port, service, server, method, .. } = connection;
    vec![
        Cell::from(words::address(*client, *client_port)),
        Cell::from(words::printable(&connection.state)),
        Cell::from(words::printable(server)),
        Cell::from(format!("{} {}", words::printable(protocol), words::address(*vip, *port))),
        right(words::uptime(connection.expires_in_s)),
        Cell::from(method.map_or("-", Forwarding::name)),
        Cell::from(words::printable(service.as_deref().unwrap_or("-"))),
    ]
}

/// How many of how many are shown, and since when that holds; or why there is nothing newer.
fn about_words(state: &State, part: &Part) -> Span<'static> {
    let listing = &state.listing;
    let age = words::since(state.now().map_or(0, |now| listing.age(now).as_secs()));
    if let Some(why) = listing.trouble() {
        return toned(state, Tone::Bad, format!("No newer listing, what is shown is {age} old: {why}"));
    }
    let (before, count) = (listing.before(), part.connections.len() as u64);
    if count == 0 {
        let none = match (before, listing.is_narrow()) {
            (0, false) => "The director knows no connection.",
            (0, true) => "The director knows no such connection.",
            _ => "The director knows no more of them; b goes back.",
        };
        return Span::raw(none);
    }
    let last = before + count;
    let counted = state.status().and_then(|status| listing.counted(status));
    let all = match (part.next, counted) {
        (None, _) => words::grouped(last),
        (Some(_), Some(counted)) if counted > last => format!("about {}", words::grouped(counted)),
        (Some(_), _) => format!("more than {}", words::grouped(last)),
    };
    let is_part = before > 0 || part.next.is_some();
    let sorted = match is_part && listing.sort != ConnectionSort::Table {
        true => ", sorted among themselves",
        false => "",
    };
    let (first, last) = (words::grouped(before + 1), words::grouped(last));
    Span::raw(format!("Connections {first} to {last} of {all}{sorted}, {age} old"))
}

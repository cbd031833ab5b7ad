//! The cluster: groups, nodes, heartbeat paths, connection synchronisation.

use lb_api::status::{ClusterStatus, Status, Tone};
use lb_api::words;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::toned;
use crate::state::State;

pub(super) fn draw(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let Some(status) = state.status() else { return };
    let lines = match &status.cluster {
        None => vec![Line::from("This director is alone: its configuration has no `cluster`.")],
        Some(cluster) => lines(state, status, cluster),
    };
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

fn heading(text: &str) -> Line<'static> {
    Line::from(Span::styled(text.to_owned(), Style::new().add_modifier(Modifier::BOLD)))
}

fn lines(state: &State, status: &Status, cluster: &ClusterStatus) -> Vec<Line<'static>> {
    let mut lines = vec![heading("Groups")];
    for group in &cluster.groups {
        let (tone, role) = group.role_words(status.stopping);
        let (holder_tone, holder) = group.holder_words();
        let (note_tone, note) = group.notes(status.stopping);
        lines.push(Line::from(vec![
            Span::raw(format!("  {} ", words::printable(&group.name))),
            toned(state, tone, format!("{role} {}", words::since(group.since_s))),
            Span::raw(format!(" ({}), on ", words::printable(&group.cause))),
            toned(state, holder_tone, holder),
            Span::raw(format!(
                ", preferred {}: {} ",
                words::printable(group.preferred_words()),
                group.vips_words()
            )),
            toned(state, note_tone, note),
        ]));
    }
    lines.push(heading("Nodes"));
    for node in &cluster.nodes {
        let (tone, text) = node.state_words();
        let me = if node.name == cluster.node { " (this node)" } else { "" };
        lines.push(Line::from(vec![
            Span::raw(format!("  {}{me} {} ", words::printable(&node.name), node.address)),
            toned(state, tone, text),
        ]));
    }
    lines.push(heading("Heartbeat paths"));
    for path in &cluster.paths {
        let (tone, word) = path.state_words();
        let (heard_tone, heard) = path.heard_words();
        lines.push(Line::from(vec![
            Span::raw(format!("  {} ", words::printable(&path.name))),
            toned(state, tone, word),
            Span::raw(", heard "),
            toned(state, heard_tone, heard),
        ]));
    }
    let peers = cluster.sync.iter().flat_map(|sync| &sync.peers);
    for (number, peer) in peers.enumerate() {
        if number == 0 {
            lines.push(heading("Connections are told to"));
        }
        let (tone, word) = peer.state_words();
        let alike =
            peer.agreement.map_or_else(String::new, |share| format!(", {:.1} % alike", share * 100.0));
        lines.push(Line::from(vec![
            Span::raw(format!("  {} ", words::printable(&peer.node))),
            toned(state, tone, word),
            toned(state, Tone::Plain, format!(", lag {:.0} ms{alike}", peer.lag_ms)),
        ]));
    }
    lines
}

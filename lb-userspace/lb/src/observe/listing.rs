//! The listing of `lb status`: laid out as ipvsadm's, with health and link-layer address beside
//! each server.

mod brief;
mod cluster;
mod summary;
mod table;

use std::fmt::Write as _;

use lb_api::rates::{Rate, Rates};
use lb_api::status::{
    self, Count, FindingStatus, FragmentsStatus, OverlayStatus, ServerStatus, ServiceStatus, Status,
};
use lb_api::words;
use lb_model::Health;
use lb_model::millis;

pub(crate) use self::brief::brief;
use self::table::{Cell, Table};

/// How a listing is shown.
#[derive(Debug, Default)]
pub(crate) struct View<'a> {
    /// With escape sequences.
    pub colour: bool,
    /// With new connections, packets and bytes each second.
    pub rates: Option<&'a Rates>,
}

/// The headings of rates.
const RATES: [&str; 3] = ["Conn/s", "Packets/s", "Bytes/s"];

/// How something stands out on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Strong,
    Good,
    Warning,
    Bad,
}

impl From<status::Tone> for Tone {
    fn from(tone: status::Tone) -> Self {
        match tone {
            status::Tone::Plain => Self::Plain,
            status::Tone::Good => Self::Good,
            status::Tone::Warning => Self::Warning,
            status::Tone::Bad => Self::Bad,
        }
    }
}

impl Tone {
    /// The SGR parameters of ECMA-48.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("1;31"),
        }
    }

    fn paint(self, text: &str, colour: bool) -> String {
        match self.code() {
            Some(code) if colour && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// Nothing, as nearly always, where none came too early.
fn fragments(fragments: &FragmentsStatus) -> String {
    let FragmentsStatus { held, sent, passed, given_up } = fragments;
    match held {
        0 => String::new(),
        _ => format!(
            "Fragments held: {held} (sent in their turn {sent}, passed to the host {passed}, given up {given_up})\n"
        ),
    }
}

/// The further interfaces that packets come in by.
fn other_interfaces(status: &Status) -> String {
    let others = status.other_interfaces.iter();
    others.map(|other| format!(", {} (XDP {})", other.name, other.mode)).collect()
}

/// The whole listing; escape sequences are in it only with `colour`.
#[cfg(test)]
fn render(status: &Status, colour: bool) -> String {
    render_with(status, &View { colour, rates: None })
}

/// The whole listing.
pub(crate) fn render_with(status: &Status, view: &View<'_>) -> String {
    let colour = view.colour;
    let mut text = String::new();
    if let Some(error) = &status.config_error {
        text += &refused(&status.config, error, colour);
    }
    let _ = writeln!(
        text,
        "lb {} on {} (XDP {}){}, up {}, {} of {} connection slots used{}",
        status.version,
        status.interface,
        status.mode,
        other_interfaces(status),
        words::uptime(status.uptime_s),
        words::grouped(status.table.used),
        words::grouped(status.table.capacity),
        ipv6_slots(status),
    );
    if status.stopping {
        text += &(Tone::Warning.paint(STOPPING, colour) + "\n");
    }
    for finding in &status.findings {
        text += &finding_lines(finding, colour);
    }
    text += &overlay_lines(&status.overlay, colour);
    if let Some(cluster) = &status.cluster {
        text += &cluster::render(cluster, status.stopping, colour);
    }
    if status.services.is_empty() {
        return text + "(no services)\n";
    }
    text += &summary::of(status, colour);
    text += &services(&status.services, view);
    text += &fragments(&status.fragments);
    text += &counted("Dropped packets:", &status.drops);
    text += &counted("Passed to the host:", &status.passes);
    text + &counted("Answered:", &status.answers)
}

/// What is said of the connection table for IPv6, where a service needs it.
fn ipv6_slots(status: &Status) -> String {
    if !status.services.iter().any(|service| service.vip.is_ipv6()) {
        return String::new();
    }
    let (used, slots) = (words::grouped(status.table.used_v6), words::grouped(status.table.capacity_v6));
    format!(", {used} of {slots} for IPv6")
}

const STOPPING: &str = "STOPPING: it hands its groups over and waits for the connections that run through it to end. A \
                        second signal ends it at once.";

/// So many changes of a source are told one by one.
const FEW: usize = 5;

/// What is no part of the file. Programs may have made thousands of changes.
fn overlay_lines(overlay: &[OverlayStatus], colour: bool) -> String {
    let mut text = String::new();
    for of_source in overlay.chunk_by(|one, other| one.source == other.source) {
        let (idle, used): (Vec<&OverlayStatus>, Vec<&OverlayStatus>) =
            of_source.iter().partition(|change| change.unused.is_some());
        match used.len() {
            0..=FEW => text.extend(used.into_iter().map(|change| overlay_line(change, colour))),
            many => {
                let source = of_source.first().map(|change| change.source.as_str()).unwrap_or_default();
                let many = words::grouped(many as u64);
                text += &format!("Changed at run time ({source}): {many} changes, see `lb overlay show`\n");
            }
        }
        text.extend(idle.iter().take(FEW).map(|change| overlay_line(change, colour)));
        if let more @ 1.. = idle.len().saturating_sub(FEW) {
            let more = format!("    and {} more without effect", words::grouped(more as u64));
            text += &(Tone::Warning.paint(&more, colour) + "\n");
        }
    }
    text
}

fn overlay_line(OverlayStatus { source, change, unused }: &OverlayStatus, colour: bool) -> String {
    let head = format!("Changed at run time ({source}): {}", words::printable(change));
    match unused {
        None => head + "\n",
        Some(why) => {
            let text = format!("{head}, without effect: {}", words::printable(why));
            Tone::Warning.paint(&text, colour) + "\n"
        }
    }
}

/// What is wrong, and below it what to do about it.
fn finding_lines(finding: &FindingStatus, colour: bool) -> String {
    let tone = Tone::from(finding.tone());
    let word = if tone == Tone::Bad { "ERROR" } else { "WARNING" };
    let FindingStatus { finding, text, mend, since_s, .. } = finding;
    let head = format!("{word} {finding}, for {}: {}", words::since(*since_s), words::printable(text));
    format!("{}\n    {}\n", tone.paint(&head, colour), words::printable(mend))
}

/// Packets that were not forwarded, by reason; nothing where there were none.
fn counted(what: &str, counts: &[Count]) -> String {
    let counts = counts.iter().filter(|count| count.count > 0);
    let words: Vec<String> =
        counts.map(|count| format!("{} {}", count.reason, words::grouped(count.count))).collect();
    if words.is_empty() { String::new() } else { format!("{what} {}\n", words.join(", ")) }
}

/// A reload that failed: it is the first thing to see, because the file is not what runs.
fn refused(path: &str, error: &str, colour: bool) -> String {
    let head = format!("RELOAD FAILED: {path} is not in force; lb still runs the previous configuration:");
    let mut text = Tone::Bad.paint(&head, colour) + "\n";
    for line in error.lines() {
        text += &format!("    {}\n", words::printable(line));
    }
    text
}

/// ipvsadm's two headings, then each service with its servers. Columns are as wide as the widest of
/// all services.
fn services(services: &[ServiceStatus], view: &View<'_>) -> String {
    let mut heads = Table::new("", view.colour);
    heads.row(["Prot", "VIP:Port", "Scheduler", "", "Fallback"].map(Cell::plain));
    let mut servers = Table::new("  -> ", view.colour);
    let [connections, packets, bytes] = if view.rates.is_some() { RATES } else { [""; 3] };
    let columns = [
        "Server:Port",
        "Forward",
        "Weight",
        "ActiveConn",
        "InActConn",
        connections,
        packets,
        bytes,
        "Health",
        "Check",
        "MAC",
        "",
    ];
    servers.row(columns.map(Cell::plain));
    let rate =
        |service, server| rate_cells(view.rates.map(|rates| rates.of(service, server).unwrap_or_default()));
    for service in services {
        heads.row(service_row(service));
        for server in &service.servers {
            servers.row(server_row(server, rate(service, server)));
        }
        if let Some(fallback) = &service.fallback_server {
            servers.row(fallback_row(fallback, rate(service, fallback)));
        }
    }
    let mut servers = servers.lines();
    let rows =
        |service: &ServiceStatus| service.servers.len() + usize::from(service.fallback_server.is_some());
    let counts = std::iter::once(1).chain(services.iter().map(rows));
    let mut text = String::new();
    for (head, count) in heads.lines().zip(counts) {
        text += &head;
        text.extend(servers.by_ref().take(count));
    }
    text
}

fn service_row(service: &ServiceStatus) -> [Cell; 5] {
    let address = service.address();
    let default_name = format!("{}/{address}", service.protocol);
    [
        Cell::plain(&service.protocol.to_uppercase()),
        Cell::new(&address, Tone::Strong),
        Cell::plain(&scheduler(service)),
        name_cell(&service.name, &default_name),
        fallback_cell(service),
    ]
}

/// With persistence also its time, as ipvsadm has it, and how many clients are bound.
fn scheduler(service: &ServiceStatus) -> String {
    let ServiceStatus { scheduler, persistence, .. } = service;
    persistence.as_ref().map_or_else(
        || scheduler.clone(),
        |own| format!("{scheduler} persistent {}s ({} bound)", own.timeout_s, words::grouped(own.bound)),
    )
}

fn fallback_cell(service: &ServiceStatus) -> Cell {
    let (tone, text) = service.fallback_words();
    Cell::of((tone, text))
}

fn server_row(server: &ServerStatus, [connections, packets, bytes]: [Cell; 3]) -> [Cell; 12] {
    let address = words::address(server.address, server.port);
    let named = match name_cell(&server.name, &server.address.to_string()) {
        Cell { text, .. } if text.is_empty() => address,
        Cell { text, .. } => format!("{address} {text}"),
    };
    [
        Cell::plain(&named),
        Cell::plain(server.method.name()),
        Cell::of(server.weight_words()),
        Cell::plain(&server.active.to_string()),
        Cell::plain(&server.inactive.to_string()),
        connections,
        packets,
        bytes,
        health_cell(server),
        Cell::plain(&server.last_latency_us().map_or_else(String::new, millis)),
        match &server.mac {
            Some(mac) => Cell::plain(mac),
            None => Cell::new("unresolved", Tone::Warning),
        },
        Cell::plain(&server.notes()),
    ]
}

/// A server that is not checked, and has no weight to speak of.
fn fallback_row(server: &ServerStatus, rates: [Cell; 3]) -> [Cell; 12] {
    let mut row = server_row(server, rates);
    row[2] = Cell::plain("");
    row[8] =
        if server.effective_weight > 0 { Cell::new("SERVING", Tone::Bad) } else { Cell::plain("fallback") };
    row
}

fn rate_cells(rate: Option<Rate>) -> [Cell; 3] {
    let Some(Rate { connections, packets, bytes }) = rate else { return [""; 3].map(Cell::plain) };
    [connections, packets, bytes].map(|number| Cell::plain(&words::scaled(number)))
}

/// The name in brackets, unless it says no more than the address.
fn name_cell(name: &str, default: &str) -> Cell {
    if name == default { Cell::plain("") } else { Cell::plain(&format!("({name})")) }
}

fn health_cell(server: &ServerStatus) -> Cell {
    let word = server.health.word();
    match server.health {
        Health::Unchecked => Cell::plain(word),
        _ => Cell::new(&format!("{word} {}", words::since(server.since_s)), server.health_tone().into()),
    }
}

#[cfg(test)]
mod tests;

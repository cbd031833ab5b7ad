//! The listing of `lb status`: laid out as ipvsadm's, with health and link-layer address beside
//! each server.

mod brief;
mod cluster;
mod table;
mod words;

use std::fmt::Write as _;

use lb_api::events::Level;
use lb_api::rates::{Rate, Rates};
use lb_api::status::{
    Count, FindingStatus, FragmentsStatus, OverlayStatus, ServerStatus, ServiceStatus, Status,
};
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
    text.extend(status.overlay.iter().map(|change| overlay_line(change, colour)));
    if let Some(cluster) = &status.cluster {
        text += &cluster::render(cluster, status.stopping, colour);
    }
    if status.services.is_empty() {
        return text + "(no services)\n";
    }
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

/// What is no part of the file.
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
    let FindingStatus { finding, text, mend, level, since_s, .. } = finding;
    let (word, tone) = match level {
        Level::Error => ("ERROR", Tone::Bad),
        Level::Warning | Level::Info => ("WARNING", Tone::Warning),
    };
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
    let head = format!("RELOAD FAILED: {path} is invalid; lb still runs the previous configuration:");
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
    let address = words::ports(service.vip, &service.ports);
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

/// The fallback, whether it serves and why, and what is wrong with it.
fn fallback_cell(service: &ServiceStatus) -> Cell {
    if service.draining {
        return Cell::new("draining: it left the configuration", Tone::Warning);
    }
    let ServiceStatus { fallback, on_fallback, fallback_ready, fallback_error, quorum, .. } = service;
    let why = match quorum.usable {
        0 => "no server is usable".to_owned(),
        usable => format!("usable servers weigh {usable}, the quorum is {}", quorum.weight),
    };
    let error = fallback_error.as_ref().map_or_else(String::new, |error| format!("; {error}"));
    let text = match (on_fallback, fallback_ready) {
        (true, true) => format!("{fallback}: SERVING, {why}{error}"),
        (true, false) => {
            format!("{fallback}: NOBODY SERVES, new connections are dropped or refused: {why}{error}")
        }
        (false, _) if fallback_error.is_some() => format!("{fallback}{error}"),
        (false, _) if quorum.weight > 1 => {
            let text =
                format!("{fallback}, quorum {}: usable servers weigh {}", quorum.weight, quorum.usable);
            return Cell::plain(&text);
        }
        (false, _) => return Cell::plain(fallback),
    };
    Cell::new(&text, Tone::Bad)
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
        weight_cell(server),
        Cell::plain(&server.active.to_string()),
        Cell::plain(&server.inactive.to_string()),
        connections,
        packets,
        bytes,
        health_cell(server),
        Cell::plain(&last_latency(server).map_or_else(String::new, millis)),
        match &server.mac {
            Some(mac) => Cell::plain(mac),
            None => Cell::new("unresolved", Tone::Warning),
        },
        Cell::plain(&notes(server)),
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

/// What a server that is down would have goes without saying.
fn weight_cell(server: &ServerStatus) -> Cell {
    let ServerStatus { weight, effective_weight: now, health, .. } = server;
    match health {
        Health::Up | Health::Unchecked | Health::Maintenance if now != weight => {
            Cell::new(&format!("{now} of {weight}"), Tone::Warning)
        }
        _ => Cell::plain(&weight.to_string()),
    }
}

/// Of the slowest check.
fn last_latency(server: &ServerStatus) -> Option<u64> {
    server.checks.iter().filter_map(|check| check.latencies_us.first()).max().copied()
}

fn notes(server: &ServerStatus) -> String {
    let warning = server.warning.as_ref().map(|warning| format!("warning: {warning}"));
    let ServerStatus { upper_threshold, lower_threshold, .. } = server;
    let full = server.full.then(|| {
        format!("full: {upper_threshold} connections and more, new ones again below {lower_threshold}")
    });
    let source = server.source.as_ref().map(|source| format!("added by {source}"));
    let orders = server.orders.iter().map(|order| Some(words::order(order)));
    let notes = [server.reason.clone(), server.weight_reason.clone(), full, warning, source];
    notes.into_iter().chain(orders).flatten().collect::<Vec<_>>().join("; ")
}

/// The name in brackets, unless it says no more than the address.
fn name_cell(name: &str, default: &str) -> Cell {
    if name == default { Cell::plain("") } else { Cell::plain(&format!("({name})")) }
}

fn health_cell(server: &ServerStatus) -> Cell {
    let tone = match server.health {
        Health::Up => Tone::Good,
        Health::Down => Tone::Bad,
        Health::Unknown | Health::Maintenance | Health::Draining => Tone::Warning,
        Health::Unchecked => return Cell::plain(server.health.word()),
    };
    Cell::new(&format!("{} {}", server.health.word(), words::since(server.since_s)), tone)
}

#[cfg(test)]
mod tests;
